//! Handles Ctrl-C and termination: the first signal cancels all work, the second one exits at once.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

use crate::error::{Error, Result, Stage};

/// The state of a cancellation request: threads wait for it with [`Interrupt::wait`], tasks with
/// [`Interrupt::cancelled`].
#[derive(Debug, Default)]
pub struct Interrupt {
    signals: AtomicU32,
    /// Whether the program itself cancels the work.
    cancelled: AtomicBool,
    /// Set while the build is undone or finished: the first signal is then ignored.
    held: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
    tasks: Notify,
}

impl Interrupt {
    /// Returns whether the current work must end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        (self.has_signal() || self.is_cancelled()) && !self.held.load(Ordering::Relaxed)
    }

    /// Returns whether a signal has arrived.
    #[must_use]
    pub fn has_signal(&self) -> bool {
        self.signals.load(Ordering::Relaxed) > 0
    }

    /// Returns whether the program itself has cancelled the work.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Cancels the work, without a signal.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Requests cancellation.
    pub fn set(&self) {
        self.signals.fetch_add(1, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        let _guard = self.lock.lock();
        self.changed.notify_all();
        self.tasks.notify_waiters();
    }

    /// Ignores signals from now on: the build is being undone or finished.
    pub fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// Honours signals again, including those that arrived in the meantime.
    pub fn release(&self) {
        self.held.store(false, Ordering::Relaxed);
        self.wake();
    }

    /// Completes when the current work must end.
    pub async fn cancelled(&self) {
        loop {
            let changed = self.tasks.notified();
            tokio::pin!(changed);
            // Registered before the state is read: a signal between the two wakes this task.
            changed.as_mut().enable();
            if self.is_set() {
                return;
            }
            changed.await;
        }
    }

    /// Waits; returns early when cancelled. Returns whether it is cancelled.
    #[must_use]
    pub fn wait(&self, duration: Duration) -> bool {
        if let Ok(guard) = self.lock.lock() {
            let _ = self.changed.wait_timeout_while(guard, duration, |()| !self.is_set());
        }
        self.is_set()
    }

    /// Returns an error when cancelled.
    ///
    /// # Errors
    /// [`Stage::Interrupted`].
    pub fn check(&self) -> Result<()> {
        if self.is_set() { Err(Error::interrupted()) } else { Ok(()) }
    }
}

/// Handles SIGINT, SIGTERM and SIGHUP in a separate thread. On the second signal `leave` is called; it must not
/// return.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn listen(interrupt: Arc<Interrupt>, leave: impl Fn() + Send + 'static) -> Result<()> {
    listen_for(vec![interrupt], leave)
}

/// As [`listen`], for work that consists of several parts.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn listen_for(parts: Vec<Arc<Interrupt>>, leave: impl Fn() + Send + 'static) -> Result<()> {
    let listen_error = |error: std::io::Error| {
        Error::new(Stage::Bug, "cannot listen for signals").caused_by(&error)
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(listen_error)?;
    let (mut int, mut term, mut hup) = {
        let _inside = runtime.enter();
        let register = |kind| signal(kind).map_err(listen_error);
        // Without a handler, a limit on the size of files (`ulimit -f`) ends the process in the middle of a write; with
        // one, the write fails with an error that names the file.
        drop(register(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        (
            register(SignalKind::interrupt())?,
            register(SignalKind::terminate())?,
            register(SignalKind::hangup())?,
        )
    };
    let spawned = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let mut signals: u32 = 0;
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                    _ = hup.recv() => {}
                }
                parts.iter().for_each(|part| part.set());
                signals += 1;
                if signals > 1 {
                    leave();
                }
            }
        });
    });
    spawned.map(|_| ()).map_err(listen_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_interrupt_ends_a_long_wait_at_once() {
        let interrupt = Arc::new(Interrupt::default());
        let other = Arc::clone(&interrupt);
        let setter = std::thread::spawn(move || other.set());
        assert!(interrupt.wait(Duration::from_secs(3600)));
        setter.join().unwrap();
        interrupt.hold();
        assert!(!interrupt.is_set());
        interrupt.release();
        assert!(interrupt.is_set());
        assert!(interrupt.has_signal() && !interrupt.is_cancelled());
    }

    #[test]
    fn cancelled_work_ends_without_a_signal() {
        let interrupt = Interrupt::default();
        interrupt.cancel();
        assert!(interrupt.is_set() && !interrupt.has_signal());
        interrupt.hold();
        assert!(!interrupt.is_set() && interrupt.is_cancelled());
    }

    #[test]
    fn a_task_that_waits_for_cancellation_ends_when_it_is_requested_and_honoured() {
        let interrupt = Arc::new(Interrupt::default());
        interrupt.hold();
        let other = Arc::clone(&interrupt);
        let task = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(other.cancelled());
            other.is_set()
        });
        interrupt.set();
        assert!(!task.is_finished());
        interrupt.release();
        assert!(task.join().unwrap());
    }
}
