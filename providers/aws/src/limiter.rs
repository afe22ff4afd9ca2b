//! Limits how many blocks or parts are in flight: few at first, one more for each that arrives, half as many when the
//! service asks to slow down, and then one more per round.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// Slots at the start.
const FIRST: usize = 4;
/// Many requests are refused by one request to slow down; it counts once within this time.
const ONE_SLOW_DOWN: Duration = Duration::from_secs(1);

/// Decides on the number of slots.
struct Tuner {
    most: usize,
    slots: usize,
    /// Arrivals since the last change.
    arrived: usize,
    slowed: Option<Instant>,
}

impl Tuner {
    fn arrived(&mut self) {
        self.arrived += 1;
        let round = if self.slowed.is_some() { self.slots } else { 1 };
        if self.arrived >= round && self.slots < self.most {
            (self.slots, self.arrived) = (self.slots + 1, 0);
        }
    }

    fn throttled(&mut self, now: Instant) {
        if self.slowed.is_none_or(|at| now.duration_since(at) >= ONE_SLOW_DOWN) {
            (self.slots, self.arrived) = ((self.slots / 2).max(1), 0);
            self.slowed = Some(now);
        }
    }
}

/// Slots of one upload.
pub(crate) struct Limiter {
    free: Semaphore,
    tuner: Mutex<Tuner>,
    /// Slots that end when they are left, since all were in use when their number fell.
    surplus: Mutex<usize>,
}

/// A slot in use.
pub(crate) struct Slot<'a> {
    limiter: &'a Limiter,
    permit: Option<SemaphorePermit<'a>>,
}

impl Limiter {
    /// A limiter whose number of slots may grow to `most`.
    pub(crate) fn new(most: usize) -> Self {
        let slots = FIRST.min(most).max(1);
        let tuner = Tuner { most, slots, arrived: 0, slowed: None };
        Self { free: Semaphore::new(slots), tuner: Mutex::new(tuner), surplus: Mutex::new(0) }
    }

    /// Waits for a free slot.
    pub(crate) async fn enter(&self) -> Slot<'_> {
        Slot { limiter: self, permit: self.free.acquire().await.ok() }
    }

    /// Records that a request succeeded.
    pub(crate) fn arrived(&self) {
        self.tune(Tuner::arrived);
    }

    /// Records that the service asked to slow down.
    pub(crate) fn throttled(&self) {
        self.tune(|tuner| tuner.throttled(Instant::now()));
    }

    fn tune(&self, change: impl FnOnce(&mut Tuner)) {
        let mut tuner = lock(&self.tuner);
        let before = tuner.slots;
        change(&mut tuner);
        for _ in before..tuner.slots {
            if !self.take_surplus() {
                self.free.add_permits(1);
            }
        }
        for _ in tuner.slots..before {
            if self.free.forget_permits(1) == 0 {
                *lock(&self.surplus) += 1;
            }
        }
    }

    fn take_surplus(&self) -> bool {
        let mut surplus = lock(&self.surplus);
        let any = *surplus > 0;
        *surplus -= usize::from(any);
        any
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn slots_grow_fast_until_the_service_asks_to_slow_down() {
        let now = Instant::now();
        let mut tuner = Tuner { most: 32, slots: 4, arrived: 0, slowed: None };
        (0..100).for_each(|_| tuner.arrived());
        assert_eq!(tuner.slots, 32);
        (0..5).for_each(|_| tuner.throttled(now));
        assert_eq!(tuner.slots, 16);
        (0..16).for_each(|_| tuner.arrived());
        assert_eq!(tuner.slots, 17);
        (2..9).for_each(|second| tuner.throttled(now + Duration::from_secs(second)));
        assert_eq!(tuner.slots, 1);
        tuner.arrived();
        assert_eq!(tuner.slots, 2);
    }

    #[test]
    fn slots_in_use_end_when_they_are_left() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let limiter = Limiter::new(8);
            let mut used = Vec::new();
            for _ in 0..FIRST {
                used.push(limiter.enter().await);
            }
            limiter.throttled();
            assert_eq!(limiter.free.available_permits(), 0);
            used.clear();
            assert_eq!(limiter.free.available_permits(), FIRST / 2);
        });
    }
}
