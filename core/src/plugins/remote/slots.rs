//! Places in the shared memory, one for each read that is under way.

use std::sync::{Condvar, Mutex, PoisonError};

use super::buffer::SIZE;

/// Bytes of a place: what one round trip brings at most.
pub(super) const SLOT: u64 = 1 << 20;

/// Which places are free.
pub(super) struct Slots {
    free: Mutex<Vec<u64>>,
    freed: Condvar,
}

impl Slots {
    pub(super) fn new() -> Self {
        // The lowest is taken first: memory that is never needed is never touched.
        let free = (0..SIZE / SLOT).rev().map(|number| number * SLOT).collect();
        Self { free: Mutex::new(free), freed: Condvar::new() }
    }

    /// Uses a place, by its first byte.
    pub(super) fn with<T>(&self, use_it: impl FnOnce(u64) -> T) -> T {
        let taken = self.take();
        let result = use_it(taken);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
        self.freed.notify_one();
        result
    }

    fn take(&self) -> u64 {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(place) = free.pop() {
                return place;
            }
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
