//! Makes a value once for all threads that need it: the first one makes it, the others wait.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, TryLockError},
};

use crate::error::Result;

/// A value, or the error of the thread that tried to make it; locked while a thread makes it.
type Cell<T> = Mutex<Option<Result<T>>>;

/// Values by their keys.
pub(super) struct Once<T> {
    cells: Mutex<BTreeMap<String, Arc<Cell<T>>>>,
}

/// A value, and whether this call made it.
pub(super) struct Made<T> {
    pub(super) value: T,
    pub(super) is_new: bool,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self { cells: Mutex::default() }
    }
}

impl<T: Clone> Once<T> {
    /// Returns the value of a key; makes it unless another thread has made it or is making it. `on_wait` is called before
    /// this thread waits for another one.
    ///
    /// # Errors
    /// The error of the thread that tried to make it.
    pub(super) fn get(
        &self,
        key: &str,
        on_wait: impl FnOnce(),
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Made<T>> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = Arc::clone(cells.entry(key.to_owned()).or_default());
        drop(cells);
        let mut value = match cell.try_lock() {
            Ok(value) => value,
            // The thread that was making it panicked: it is made again.
            Err(TryLockError::Poisoned(error)) => {
                cell.clear_poison();
                error.into_inner()
            }
            Err(TryLockError::WouldBlock) => {
                on_wait();
                cell.lock().unwrap_or_else(PoisonError::into_inner)
            }
        };
        if let Some(made) = value.as_ref() {
            return made.clone().map(|value| Made { value, is_new: false });
        }
        let made = make();
        *value = Some(made.clone());
        made.map(|value| Made { value, is_new: true })
    }

    /// Returns how many values were made.
    pub(super) fn count(&self) -> usize {
        let cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let is_made =
            |cell: &&Arc<Cell<T>>| cell.try_lock().is_ok_and(|value| matches!(*value, Some(Ok(_))));
        cells.values().filter(is_made).count()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::channel,
    };

    use super::*;
    use crate::error::{Error, Stage};

    #[test]
    fn one_thread_makes_a_value_and_the_others_wait_for_it() {
        let (once, calls) = (Once::default(), AtomicU32::new(0));
        let (waits, waiting) = channel();
        let (go, gone) = channel();
        std::thread::scope(|scope| {
            let (once, calls) = (&once, &calls);
            scope.spawn(move || {
                let made = once.get(
                    "k",
                    || (),
                    || {
                        go.send(()).unwrap();
                        // The other thread has found the value locked.
                        waiting.recv().unwrap();
                        Ok(calls.fetch_add(1, Ordering::Relaxed))
                    },
                );
                assert!(made.unwrap().is_new);
            });
            gone.recv().unwrap();
            let waits = || waits.send(()).unwrap();
            let made = once.get("k", waits, || Ok(calls.fetch_add(1, Ordering::Relaxed))).unwrap();
            assert!(!made.is_new && made.value == 0);
        });
        assert!(once.get("other", || (), || Ok(7)).unwrap().is_new);
        assert_eq!((once.count(), calls.into_inner()), (2, 1));
    }

    #[test]
    fn all_threads_get_the_error_and_a_panic_is_not_a_value() {
        let once = Once::<u8>::default();
        let fails = || once.get("k", || (), || Err(Error::new(Stage::Source, "damaged")));
        for _ in 0..2 {
            assert_eq!(fails().err().unwrap().message, "damaged");
        }
        let panics = || once.get("p", || (), || panic!("planned"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(once.get("p", || (), || Ok(1)).unwrap().value, 1);
        assert_eq!(once.count(), 1);
    }
}
