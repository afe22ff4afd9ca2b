//! Repeats an attempt until it succeeds, cannot succeed, or a policy gives up.

use std::time::{Duration, Instant};

use super::{Backoff, Failure, RetryAction};

/// When to give up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// Number of attempts that are always made.
    pub attempts: u32,
    /// Attempts continue for this long after the first failure, whatever their number.
    pub min_retry_time: Duration,
    /// The pauses between attempts.
    pub backoff: Backoff,
    /// Every pause ends at most this long after the first failure, even one that the service requests.
    pub limit: Option<Duration>,
}

impl Policy {
    /// For checks and removals, for which a user waits: no attempt begins later than 8 s after the first failure, slightly
    /// less than the time limit of a check. Each attempt has its own limit.
    pub const BRIEF: Self = Self {
        limit: Some(Duration::from_secs(8)),
        ..Self::new(6, Duration::ZERO, Backoff::new(ms(100), ms(1500)))
    };

    /// A policy without an upper limit.
    #[must_use]
    pub const fn new(attempts: u32, min_retry_time: Duration, backoff: Backoff) -> Self {
        Self { attempts, min_retry_time, backoff, limit: None }
    }

    /// For the calls of a build.
    #[must_use]
    pub const fn call(min_retry_time: Duration) -> Self {
        Self::new(6, min_retry_time, Backoff::new(ms(250), ms(10_000)))
    }
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Repeats `attempt`. Before it returns a failure that asks for a correction (another clock, other credentials), an
/// attempt makes that correction; it is repeated at once, and a second failure of the same kind is final.
///
/// # Errors
/// The last failure. One that all attempts were spent on says how many there were ([`Error::exhausted`]).
///
/// [`Error::exhausted`]: crate::Error::exhausted
pub async fn retry<T>(
    policy: &Policy,
    mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let started = Instant::now();
    let mut first_failure: Option<Instant> = None;
    let mut corrected: Vec<RetryAction> = Vec::new();
    // `timed`: attempts that failed with `Backoff`; a correction does not count.
    let (mut made, mut timed) = (0, 0);
    loop {
        made += 1;
        let mut failure = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let since = first_failure.get_or_insert_with(Instant::now).elapsed();
        let hopeless = match failure.action {
            RetryAction::GiveUp => true,
            RetryAction::ResyncClock | RetryAction::RenewCredentials => {
                if !corrected.contains(&failure.action) {
                    corrected.push(failure.action);
                    continue;
                }
                true
            }
            RetryAction::Backoff => {
                timed += 1;
                timed >= policy.attempts && since >= policy.min_retry_time
            }
        };
        let pause = policy.backoff.pause(made, failure.pause);
        if hopeless || policy.limit.is_some_and(|limit| since + pause > limit) {
            if made > 1 {
                *failure.error = failure.error.with_context("attempts", made);
                // Only waiting was in vain; the other actions were one correction each.
                if failure.action == RetryAction::Backoff {
                    *failure.error = failure.error.exhausted(made, started.elapsed());
                }
            }
            return Err(failure);
        }
        tracing::warn!(error = %failure.error, attempt = made, ?pause, "trying again");
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{
        RetryAction::{GiveUp, RenewCredentials, ResyncClock},
        *,
    };
    use crate::{Error, ErrorKind};

    const QUICK: Policy =
        Policy::new(3, Duration::ZERO, Backoff::new(Duration::ZERO, Duration::ZERO));

    fn failed(action: RetryAction, pause: Option<Duration>) -> Failure {
        let mut failure = Failure::network(Error::new(ErrorKind::Network, "broken"));
        (failure.action, failure.pause) = (action, pause);
        failure
    }

    /// Makes attempts that fail like this, until they succeed; returns their number as well.
    fn run(policy: &Policy, failures: Vec<Failure>) -> (Result<(), Failure>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut made = 0;
        let mut left = failures.into_iter();
        let answer = runtime.block_on(retry(policy, async || {
            made += 1;
            left.next().map_or(Ok(()), Err)
        }));
        (answer, made)
    }

    #[test]
    fn attempts_end_when_they_are_hopeless_or_the_budget_is_spent() {
        let wait = RetryAction::Backoff;
        // Failures → whether it succeeded, attempts, and those that were reported as made in vain.
        for (actions, succeeds, made, in_vain) in [
            (&[][..], true, 1, None),
            (&[wait, wait], true, 3, None),
            (&[wait, wait, wait], false, 3, Some(3)),
            (&[GiveUp], false, 1, None),
            (&[wait, GiveUp], false, 2, None),
            (&[RenewCredentials], true, 2, None),
            (&[ResyncClock, RenewCredentials], true, 3, None),
            (&[RenewCredentials, RenewCredentials], false, 2, None),
            (&[ResyncClock, ResyncClock], false, 2, None),
            // A correction is not one of the attempts that wait.
            (&[wait, RenewCredentials, wait], true, 4, None),
            (&[wait, RenewCredentials, wait, wait], false, 4, Some(4)),
        ] {
            let failures = actions.iter().map(|action| failed(*action, None)).collect();
            let (answer, found) = run(&QUICK, failures);
            assert_eq!((answer.is_ok(), found), (succeeds, made), "{actions:?}");
            let error = answer.err().map(|failure| failure.error);
            let exhausted = error.and_then(|error| error.exhausted.map(|tried| tried.attempts));
            assert_eq!(exhausted, in_vain, "{actions:?}");
        }
    }

    #[test]
    fn a_failure_after_other_attempts_has_their_number() {
        let (answer, _) =
            run(&QUICK, vec![failed(RetryAction::Backoff, None), failed(GiveUp, None)]);
        let error = answer.unwrap_err().error;
        assert_eq!((error.context("attempts"), error.retryable), (Some("2"), true));
    }

    #[test]
    fn a_brief_call_outlives_some_failures_but_not_its_limit() {
        let wait = RetryAction::Backoff;
        let many = |actions: &[RetryAction]| actions.iter().map(|one| failed(*one, None)).collect();
        assert!(run(&Policy::BRIEF, many(&[ResyncClock, wait, wait])).0.is_ok());
        assert!(run(&Policy::BRIEF, many(&[wait; 4])).0.is_ok());
        assert!(run(&Policy::BRIEF, many(&[wait; 6])).0.is_err());
        let late = vec![failed(wait, Some(Duration::from_secs(60)))];
        let (answer, made) = run(&Policy::BRIEF, late);
        assert_eq!((answer.is_err(), made), (true, 1));
    }
}
