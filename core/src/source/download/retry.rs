//! Repeats requests whose answers are small: until one succeeds, cannot succeed, or the attempts are spent.

use std::time::{Duration, Instant};

use build_image_plugin_api::retry::Backoff;

use super::client::Failure;

/// The pauses between the attempts of all downloads.
pub(super) const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// Makes at most `attempts` attempts.
pub(super) async fn retry<T>(
    attempts: u64,
    mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let started = Instant::now();
    let mut made = 0;
    loop {
        let failure = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        made += 1;
        if !failure.retryable || made >= attempts {
            return Err(failure.after(made, started.elapsed()));
        }
        tokio::time::sleep(BACKOFF.pause(made, failure.pause)).await;
    }
}
