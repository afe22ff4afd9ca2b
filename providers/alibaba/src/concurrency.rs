//! Limits how many parts are in flight: few at first, more as long as that increases the throughput, half as
//! many when the service asks to slow down.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use build_image_plugin_api::retry::LONGEST_REQUESTED;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// Parts in flight at the start.
const FIRST: usize = 4;
/// Factor by which more slots must raise the throughput to be kept.
const GAIN: f64 = 1.1;
/// Rounds without growth before more slots are tried again.
const REST: u32 = 8;
/// Many parts are refused by one request to slow down; it counts once within this time.
const ONE_SLOW_DOWN: Duration = Duration::from_secs(1);

/// Decides on the number of slots; does not use the network.
struct Tuner {
    most: usize,
    slots: usize,
    /// Bytes per second of the previous round.
    before: Option<f64>,
    round: (Instant, u64, usize),
    rest: u32,
    slowed: Option<Instant>,
}

impl Tuner {
    fn new(most: usize, now: Instant) -> Self {
        let slots = FIRST.min(most).max(1);
        Self { most, slots, before: None, round: (now, 0, 0), rest: 0, slowed: None }
    }

    /// Records that a part of this many bytes arrived.
    fn arrived(&mut self, bytes: u64, now: Instant) {
        self.round.1 += bytes;
        self.round.2 += 1;
        if self.round.2 < self.slots {
            return;
        }
        let seconds = now.duration_since(self.round.0).as_secs_f64().max(1e-6);
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let rate = self.round.1 as f64 / seconds;
        self.round = (now, 0, 0);
        let better = self.before.is_none_or(|before| rate > before * GAIN);
        if self.rest > 0 {
            self.rest -= 1;
        } else if better {
            self.slots = (self.slots + (self.slots / 2).max(1)).min(self.most);
        } else {
            self.rest = REST;
        }
        self.before = if self.rest == 1 { None } else { Some(rate) };
    }

    /// Records that the service asked to slow down.
    fn throttled(&mut self, now: Instant) {
        if self.slowed.is_some_and(|at| now.duration_since(at) < ONE_SLOW_DOWN) {
            return;
        }
        self.slowed = Some(now);
        self.slots = (self.slots / 2).max(1);
        self.rest = REST;
        self.round = (now, 0, 0);
    }
}

/// Slots for the parts of one upload.
pub(crate) struct ConcurrencyLimiter {
    free: Semaphore,
    /// Slots that are closed when their part has been sent.
    surplus: AtomicUsize,
    tuner: Mutex<Tuner>,
    /// No part starts before this time.
    closed: Mutex<Option<Instant>>,
}

/// A slot in use.
pub(crate) struct Slot<'a> {
    limiter: &'a ConcurrencyLimiter,
    permit: Option<SemaphorePermit<'a>>,
}

impl ConcurrencyLimiter {
    /// A limiter whose number of slots may grow to `most`.
    pub(crate) fn new(most: usize) -> Self {
        let tuner = Tuner::new(most, Instant::now());
        Self {
            free: Semaphore::new(tuner.slots),
            surplus: AtomicUsize::new(0),
            tuner: Mutex::new(tuner),
            closed: Mutex::new(None),
        }
    }

    /// Waits for a free slot.
    pub(crate) async fn enter(&self) -> Slot<'_> {
        let permit = self.free.acquire().await.ok();
        loop {
            let until = *self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                _ => return Slot { limiter: self, permit },
            }
        }
    }

    /// Records that a part arrived.
    pub(crate) fn arrived(&self, bytes: u64) {
        self.tune(|tuner| tuner.arrived(bytes, Instant::now()));
    }

    /// Records that the service asked to slow down, with the pause if it gave one.
    pub(crate) fn throttled(&self, pause: Option<Duration>) {
        self.tune(|tuner| tuner.throttled(Instant::now()));
        let until = Instant::now() + pause.unwrap_or_default().min(LONGEST_REQUESTED);
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        *closed = Some(closed.map_or(until, |known| known.max(until)));
    }

    fn tune(&self, change: impl FnOnce(&mut Tuner)) {
        let mut tuner = self.tuner.lock().unwrap_or_else(PoisonError::into_inner);
        let before = tuner.slots;
        change(&mut tuner);
        let after = tuner.slots;
        if before != after {
            tracing::debug!(lanes = after, "parts in flight");
        }
        for _ in before..after {
            if !self.take_surplus() {
                self.free.add_permits(1);
            }
        }
        for _ in after..before {
            if self.free.forget_permits(1) == 0 {
                self.surplus.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn take_surplus(&self) -> bool {
        let less = |surplus: usize| surplus.checked_sub(1);
        self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if self.limiter.take_surplus()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of parts of 1000 bytes at a rate that depends on the slots.
    fn slots_after(rounds: u32, most: usize, rate: impl Fn(usize) -> u64) -> usize {
        let mut now = Instant::now();
        let mut tuner = Tuner::new(most, now);
        for _ in 0..rounds {
            let slots = tuner.slots;
            let bytes = 1000 * slots as u64;
            now += Duration::from_nanos(bytes * 1_000_000_000 / rate(slots));
            for _ in 0..slots {
                tuner.arrived(1000, now);
            }
        }
        tuner.slots
    }

    #[test]
    fn concurrency_grows_while_that_increases_throughput() {
        assert_eq!(slots_after(10, 32, |slots| 1_000 * slots as u64), 32);
        assert_eq!(slots_after(1, 3, |_| 1000), 3);
        assert_eq!(slots_after(6, 32, |_| 1000), 6);
    }

    #[test]
    fn a_saturated_connection_keeps_its_concurrency() {
        let slots = slots_after(9, 32, |slots| 1_000 * slots.min(9) as u64);
        assert!((9..20).contains(&slots), "{slots}");
    }

    #[test]
    fn a_slow_down_halves_the_concurrency_once_for_any_number_of_refused_parts() {
        let now = Instant::now();
        let mut tuner = Tuner::new(32, now);
        tuner.slots = 20;
        for _ in 0..5 {
            tuner.throttled(now);
        }
        assert_eq!(tuner.slots, 10);
        tuner.throttled(now + Duration::from_secs(2));
        assert_eq!(tuner.slots, 5);
        for second in 3..20 {
            tuner.throttled(now + Duration::from_secs(2 * second));
        }
        assert_eq!(tuner.slots, 1);
    }

    #[test]
    fn lanes_in_use_are_closed_when_they_are_left() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let limiter = ConcurrencyLimiter::new(8);
            let mut used = Vec::new();
            for _ in 0..FIRST {
                used.push(limiter.enter().await);
            }
            limiter.throttled(Some(Duration::ZERO));
            assert_eq!(limiter.free.available_permits(), 0);
            used.clear();
            assert_eq!(limiter.free.available_permits(), FIRST / 2);
        });
    }

    #[test]
    fn no_pause_is_too_long_to_be_added_to_the_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let limiter = ConcurrencyLimiter::new(8);
            limiter.throttled(Some(Duration::MAX));
            let until = limiter.closed.lock().unwrap().unwrap();
            assert!(until <= Instant::now() + LONGEST_REQUESTED);
        });
    }
}
