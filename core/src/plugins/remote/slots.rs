//! Allocates slots in the shared memory, one for each read that is in progress.

use std::sync::{Condvar, Mutex, PoisonError};

use super::buffer::SIZE;

/// Size of a slot in bytes: the most that one round trip transfers.
pub(super) const SLOT: u64 = 1 << 20;

/// The free slots.
pub(super) struct Slots {
    free: Mutex<Vec<u64>>,
    freed: Condvar,
}

impl Slots {
    pub(super) fn new() -> Self {
        // The lowest is used first: memory that is never needed is never touched.
        let free = (0..SIZE / SLOT).rev().map(|number| number * SLOT).collect();
        Self { free: Mutex::new(free), freed: Condvar::new() }
    }

    /// Calls `use_it` with a slot, identified by the offset of its first byte.
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
