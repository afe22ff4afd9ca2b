//! Limits the rate over all parts of an upload: bytes are booked one after the other, and each caller waits
//! for its turn.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Maximum sleep before the stall watchdog is fed.
const NAP: Duration = Duration::from_millis(200);

/// Limits the bytes per second of all parts together.
pub(crate) struct RateLimiter {
    rate: Option<u64>,
    /// Time at which all bytes booked so far are sent.
    free: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// At most `rate` bytes per second; `None` is unlimited.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate, free: Mutex::new(None) }
    }

    /// Whether there is a limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.rate.is_some()
    }

    /// Books bytes; returns when their turn begins.
    fn book(&self, bytes: u64, now: Instant) -> Instant {
        let Some(rate) = self.rate else { return now };
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = free.map_or(now, |free| free.max(now));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        *free = Some(turn + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        turn
    }

    /// Waits until these bytes may be sent. `alive` changes in the meantime: waiting is not a stall.
    pub(crate) async fn pass(&self, bytes: u64, alive: &AtomicU64) {
        let turn = self.book(bytes, Instant::now());
        loop {
            let now = Instant::now();
            if now >= turn {
                return;
            }
            tokio::time::sleep_until(turn.min(now + NAP)).await;
            alive.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_booked_one_after_the_other() {
        let (limiter, now) = (RateLimiter::new(Some(1000)), Instant::now());
        assert_eq!(limiter.book(500, now), now);
        assert_eq!(limiter.book(2000, now), now + Duration::from_millis(500));
        assert_eq!(limiter.book(1, now), now + Duration::from_millis(2500));
        // Unused time is not saved up.
        let later = now + Duration::from_secs(60);
        assert_eq!(limiter.book(1000, later), later);
        assert_eq!(limiter.book(1, later), later + Duration::from_secs(1));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let (limiter, now) = (RateLimiter::new(None), Instant::now());
        assert!((0..10).all(|_| limiter.book(u64::MAX, now) == now));
    }
}
