//! Limits the bytes per second that uploads read from the disk. All uploads of a build share one limiter.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A limiter: each read reserves the time that its bytes take, after those of earlier reads.
pub struct RateLimiter {
    bytes_per_second: u64,
    free_from: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// Creates a limiter; a rate of 0 counts as 1.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_from: Mutex::default() }
    }

    /// Reserves the time for bytes that were read; returns how long their reader must wait.
    pub(super) fn reserve(&self, bytes: u64, now: Instant) -> Duration {
        let mut free_from = self.free_from.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free_from.filter(|time| *time > now).unwrap_or(now);
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let took = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        *free_from = start.checked_add(took);
        start.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_the_rate_and_idle_time_is_not_saved() {
        let (limiter, start) = (RateLimiter::new(1000), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(limiter.reserve(1000, start), Duration::ZERO);
        assert_eq!(limiter.reserve(500, start), second);
        assert_eq!(limiter.reserve(500, start), second * 3 / 2);
        assert_eq!(limiter.reserve(1000, start + second), second);
        // Long after the last read, one read passes at once and the next one waits for it.
        assert_eq!(limiter.reserve(2000, start + second * 60), Duration::ZERO);
        assert_eq!(limiter.reserve(1, start + second * 60), second * 2);
        assert_eq!(RateLimiter::new(0).reserve(5, start), Duration::ZERO);
    }
}
