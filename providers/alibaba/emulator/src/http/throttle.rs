//! Limits the rate of bytes, for one call or for many calls together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A rate in bytes per second, shared by everything that is limited by it.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: u64,
    /// Time at which all bytes accepted so far have passed at that rate.
    free: Mutex<Option<Instant>>,
}

impl Throttle {
    /// At least one byte per second.
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free: Mutex::new(None) }
    }

    /// Accepts bytes; returns the time at which they have passed.
    pub(crate) fn take(&self, bytes: u64) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let start = free.map_or(now, |at| at.max(now));
        let micros = bytes.saturating_mul(1_000_000) / self.rate;
        let passed = start + Duration::from_micros(micros);
        *free = Some(passed);
        passed
    }

    /// How many bytes to accept at once, so that the flow is even.
    pub(crate) fn step(&self) -> u64 {
        (self.rate / 20).clamp(64, 512 << 10)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Throttle;

    #[test]
    fn bytes_pass_one_after_the_other_at_the_rate() {
        let pace = Throttle::new(1000);
        let first = pace.take(500);
        let second = pace.take(1500);
        assert_eq!(second - first, Duration::from_millis(1500));
        assert_eq!(pace.step(), 64);
    }
}
