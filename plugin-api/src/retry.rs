//! Repeats calls: the pauses between attempts (exponential back-off with jitter), and, with the feature `async`, when
//! another attempt makes sense and when to give up.

#[cfg(feature = "async")]
mod attempts;
#[cfg(feature = "async")]
mod failure;

use std::{
    hash::{BuildHasher as _, Hasher as _},
    time::Duration,
};

#[cfg(feature = "async")]
pub use self::{
    attempts::{Policy, retry},
    failure::{Failure, RetryAction},
};

/// Longest pause that a server may request (`Retry-After`, RFC 9110 section 10.2.3, or a header of its vendor). A
/// longer one would look like a hanging build: the call is repeated after this time, and refused again if necessary.
pub const LONGEST_REQUESTED: Duration = Duration::from_secs(120);

/// Pauses that grow with each attempt.
///
/// ```
/// use std::time::Duration;
/// use build_image_plugin_api::retry::Backoff;
///
/// let backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// assert!(backoff.pause(3, None) <= Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// `first` is the upper bound of the first pause and doubles with every attempt; `longest` is the upper bound of
    /// every pause that the server did not request.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// Returns the pause after attempt number `attempt` (from 1): random, between half its bound and its bound, and never
    /// shorter than what the server `requested`, of which at most [`LONGEST_REQUESTED`] counts.
    #[must_use]
    pub fn pause(&self, attempt: u64, requested: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1 << attempt.saturating_sub(1).min(16));
        let half = doubled.min(self.longest) / 2;
        let millis = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
        let jittered = half + Duration::from_millis(random() % millis.saturating_add(1));
        jittered.max(requested.unwrap_or_default().min(LONGEST_REQUESTED))
    }
}

/// Returns an unpredictable number, for jitter; not suitable for keys.
#[must_use]
pub fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_heed_the_server_up_to_a_cap() {
        let backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(2));
        assert!((1..40).all(|made| backoff.pause(made, None) <= Duration::from_secs(2)));
        let first = Duration::from_millis(125)..=Duration::from_millis(250);
        assert!((0..50).all(|_| first.contains(&backoff.pause(1, None))));
        assert!((0..50).any(|_| backoff.pause(1, None) != backoff.pause(1, None)));
        let requested = Some(Duration::from_secs(9));
        assert_eq!(backoff.pause(1, requested), Duration::from_secs(9));
        for requested in [Duration::from_secs(86_400), Duration::MAX] {
            assert_eq!(backoff.pause(1, Some(requested)), LONGEST_REQUESTED);
        }
    }
}
