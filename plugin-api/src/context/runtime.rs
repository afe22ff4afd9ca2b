//! Keeps the runtime of a provider: it is created on first use and ended without waiting for stuck tasks.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{Error, ErrorKind, Result};

/// A runtime that is created on first use.
#[derive(Default)]
pub(super) struct RuntimeSlot {
    made: Mutex<Slot>,
}

#[derive(Default)]
enum Slot {
    #[default]
    NotYet,
    Running(tokio::runtime::Runtime),
    Ended,
}

impl RuntimeSlot {
    pub(super) fn handle(&self) -> Result<tokio::runtime::Handle> {
        let mut slot = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::NotYet) {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("provider")
                .enable_all()
                .build()
                .map_err(|error| {
                    Error::new(ErrorKind::Local, "cannot start the provider's threads")
                        .caused_by(&error)
                })?;
            *slot = Slot::Running(runtime);
        }
        match &*slot {
            Slot::Running(runtime) => Ok(runtime.handle().clone()),
            Slot::NotYet | Slot::Ended => {
                Err(Error::internal("the provider was used after its end"))
            }
        }
    }

    pub(super) fn end(&self) {
        let mut slot = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Slot::Running(runtime) = std::mem::replace(&mut *slot, Slot::Ended) {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

impl Drop for RuntimeSlot {
    fn drop(&mut self) {
        let slot = self.made.get_mut().unwrap_or_else(PoisonError::into_inner);
        // The last context may be dropped by a task of the runtime, which must not wait for its own end.
        if let Slot::Running(runtime) = std::mem::replace(slot, Slot::Ended) {
            runtime.shutdown_background();
        }
    }
}
