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
    /// Every pause ends at most this long after the first failure, even one that the registry requests.
    pub(crate) limit: Option<Duration>,
}

impl Policy {
    /// For single calls of a build.
    pub(crate) const fn call(min_retry_time: Duration) -> Self {
        Self {
            attempts: 6,
            min_retry_time,
            limit: None,
            backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(10)),
        }
    }

    /// For checks and removals, for which a user waits.
    pub(crate) const BRIEF: Self = Self {
        attempts: 6,
        min_retry_time: Duration::ZERO,
        limit: Some(Duration::from_secs(8)),
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_millis(1500)),
    };
}

/// Repeats an attempt until it succeeds, cannot succeed, or the policy gives up. The attempt itself renews the token
/// when it fails with [`RetryAction::RenewToken`]; a second refusal has another cause.
pub(crate) async fn retry<T>(
    policy: &Policy,
    mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let started = Instant::now();
    let mut first_failure: Option<Instant> = None;
    let (mut made, mut timed, mut renewed) = (0, 0, false);
    loop {
        made += 1;
        let mut failure = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let since = first_failure.get_or_insert_with(Instant::now).elapsed();
        let hopeless = match failure.action {
            RetryAction::GiveUp => true,
            RetryAction::RenewToken => {
                if !std::mem::replace(&mut renewed, true) {
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
                // Only waiting was in vain; a refused new token was one correction.
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

    fn failed(action: RetryAction) -> Failure {
        Failure { action, ..Failure::stop(Error::new(ErrorKind::Auth, "no")) }
    }

    fn run(actions: &[RetryAction]) -> (bool, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut left = actions.iter();
        let answer = runtime.block_on(retry(&QUICK, async || {
            left.next().map_or(Ok(()), |action| Err(failed(*action)))
        }));
        (answer.is_ok(), actions.len() - left.len())
    }

    #[test]
    fn attempts_end_when_they_are_hopeless_or_the_budget_is_spent() {
        use RetryAction::{Backoff, GiveUp, RenewToken};
        for (actions, expected) in [
            (&[Backoff, Backoff][..], (true, 2)),
            (&[Backoff, Backoff, Backoff, Backoff], (false, 3)),
            (&[GiveUp, Backoff], (false, 1)),
            (&[RenewToken], (true, 1)),
            (&[RenewToken, RenewToken, Backoff], (false, 2)),
            (&[Backoff, RenewToken, Backoff], (true, 3)),
        ] {
            assert_eq!(run(actions), expected, "{actions:?}");
        }
    }

    #[test]
    fn only_attempts_that_waited_are_reported_as_made_in_vain() {
        use RetryAction::{Backoff, GiveUp, RenewToken};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for (actions, expected) in [
            (&[Backoff, Backoff, Backoff][..], Some(3)),
            (&[Backoff, GiveUp], None),
            (&[RenewToken, RenewToken], None),
            (&[GiveUp], None),
        ] {
            let mut left = actions.iter();
            let attempt = async || Err::<(), _>(failed(*left.next().unwrap()));
            let error = runtime.block_on(retry(&QUICK, attempt)).unwrap_err().error;
            assert_eq!(error.exhausted.map(|tried| tried.attempts), expected, "{actions:?}");
        }
    }
}
