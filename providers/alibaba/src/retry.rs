//! Decides how often an attempt is repeated.

use std::time::{Duration, Instant};

use build_image_plugin_api::retry::Backoff;

use crate::error::{Failure, RetryAction};

/// When to give up.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Attempts that are always made.
    pub(crate) attempts: u32,
    /// Attempts continue for this long after the first failure, whatever their number.
    pub(crate) min_retry_time: Duration,
    /// The pauses between attempts.
    pub(crate) backoff: Backoff,
    /// Every pause ends at most this long after the first failure, even one that the service requests.
    pub(crate) limit: Option<Duration>,
}

impl Policy {
    /// For single calls of a build.
    pub(crate) const CALL: Self = Self {
        attempts: 6,
        min_retry_time: Duration::from_secs(60),
        limit: None,
        backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(10)),
    };
    /// For checks, for which a user waits.
    pub(crate) const CHECK: Self = Self {
        attempts: 6,
        min_retry_time: Duration::ZERO,
        // Slightly less than the time limit of a check.
        limit: Some(Duration::from_secs(8)),
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_millis(1500)),
    };
}

/// Repeats an attempt until it succeeds, cannot succeed, or the policy gives up.
pub(crate) async fn retry<T>(
    policy: &Policy,
    mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let started = Instant::now();
    let mut first_failure: Option<Instant> = None;
    let mut made = 0;
    // Attempts that failed with `Backoff`; a corrected clock does not count.
    let mut timed = 0;
    let mut clock_followed = false;
    let mut keys_renewed = false;
    loop {
        made += 1;
        let mut failure = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let since = first_failure.get_or_insert_with(Instant::now).elapsed();
        let hopeless = match failure.action {
            RetryAction::GiveUp => true,
            // One correction must suffice; a second refusal has another cause.
            RetryAction::ResyncClock => std::mem::replace(&mut clock_followed, true),
            // The same holds for a second refusal of keys that were just fetched.
            RetryAction::RefreshCredentials => std::mem::replace(&mut keys_renewed, true),
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
    use build_image_plugin_api::{Error, ErrorKind};

    use super::*;

    const QUICK: Policy = Policy {
        attempts: 3,
        min_retry_time: Duration::ZERO,
        limit: None,
        backoff: Backoff::new(Duration::ZERO, Duration::ZERO),
    };

    fn broken() -> Failure {
        Failure::network(Error::new(ErrorKind::Network, "broken"))
    }

    fn run(outcomes: Vec<Result<u8, Failure>>) -> (Result<u8, Failure>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut left = outcomes.into_iter();
        let total = left.len();
        let answer = runtime.block_on(retry(&QUICK, async || left.next().unwrap()));
        (answer, total - left.len())
    }

    #[test]
    fn a_broken_connection_is_retried_until_the_budget_is_spent() {
        let (answer, made) = run(vec![Err(broken()), Err(broken()), Ok(7)]);
        assert_eq!((answer.unwrap(), made), (7, 3));
        let (answer, made) = run(vec![Err(broken()), Err(broken()), Err(broken()), Ok(7)]);
        let error = answer.unwrap_err().error;
        assert_eq!((error.context("attempts"), made), (Some("3"), 3));
        let tried = error.exhausted.unwrap();
        assert_eq!((tried.attempts, error.retryable), (3, true));
    }

    #[test]
    fn a_check_outlives_one_reset_beside_a_wrong_clock_and_some_throttling() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let skewed = || Failure { action: RetryAction::ResyncClock, ..broken() };
        let slow = |pause| {
            let error = Error::new(ErrorKind::Throttled, "slow").retryable();
            Failure { pause, ..Failure::network(error) }
        };
        let run = |outcomes: Vec<Failure>| {
            let mut left = outcomes.into_iter();
            runtime.block_on(retry(&Policy::CHECK, async || left.next().map_or(Ok(()), Err)))
        };
        assert!(run(vec![skewed(), broken(), broken()]).is_ok());
        assert!(run((0..4).map(|_| slow(None)).collect()).is_ok());
        // A reachable server does not answer after the check's limit.
        let late = run(vec![slow(Some(Duration::from_secs(60)))]).unwrap_err();
        assert_eq!(late.error.kind, ErrorKind::Throttled);
        assert!(run((0..6).map(|_| broken()).collect()).is_err());
    }

    #[test]
    fn errors_that_are_not_retryable_are_not_repeated() {
        let refused = Failure::stop(Error::new(ErrorKind::Auth, "no"));
        let (answer, made) = run(vec![Err(refused), Ok(7)]);
        assert_eq!((answer.unwrap_err().error.exhausted, made), (None, 1));
        // A second attempt that ends with a refusal was not in vain.
        let refused = Failure::stop(Error::new(ErrorKind::Auth, "no"));
        let (answer, made) = run(vec![Err(broken()), Err(refused)]);
        assert_eq!((answer.unwrap_err().error.exhausted, made), (None, 2));
    }

    #[test]
    fn the_clock_is_corrected_once() {
        let skewed = || Failure { action: RetryAction::ResyncClock, ..broken() };
        let (answer, made) = run(vec![Err(skewed()), Ok(7)]);
        assert_eq!((answer.unwrap(), made), (7, 2));
        assert_eq!(run(vec![Err(skewed()), Err(skewed()), Ok(7)]).1, 2);
    }
}
