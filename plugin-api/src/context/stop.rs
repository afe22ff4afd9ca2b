//! Lets futures await the host's request to stop.
//!
//! A plugin can ask its host whether to stop, or wait in it; ABI 1.0 has no call from the host that wakes a plugin.
//! One thread per instance therefore waits in the host while futures need it. The host ends that wait at once when a
//! step must stop, so futures learn it without delay. The wait is bounded only because the host may not be called
//! after an instance has ended: the bound is the longest time by which the thread delays that end.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{Error, ErrorKind, Host, Result};

/// First wait in the host; each one is twice as long as the one before. Short calls delay an end by little.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);
/// Longest wait in the host.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// The host's request to stop, as futures see it.
#[derive(Default)]
pub(super) struct Stop {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether the running step must stop.
    signal: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    listeners: usize,
    /// The next wait in the host.
    wait: Duration,
    /// The listeners were notified; nothing is left to wait for.
    notified: bool,
    ended: bool,
}

/// Receives the request to stop; the thread waits in the host while listeners exist.
pub(super) struct Listener {
    shared: Arc<Shared>,
    signal: watch::Receiver<bool>,
}

impl Stop {
    /// Starts to listen. A request from before counts as well if the host still upholds it.
    pub(super) fn listen(&self, host: &Arc<dyn Host>) -> Result<Listener> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.shared.lock();
        if state.ended {
            return Err(Error::internal("the provider was used after its end"));
        }
        if thread.is_none() {
            let (shared, host) = (Arc::clone(&self.shared), Arc::clone(host));
            let named = std::thread::Builder::new().name("provider-stop".to_owned());
            *thread = Some(named.spawn(move || shared.watch(&*host)).map_err(|error| {
                Error::new(ErrorKind::Local, "cannot start the provider's threads")
                    .caused_by(&error)
            })?);
        }
        if state.listeners == 0 || state.notified {
            (state.wait, state.notified) = (SHORTEST_WAIT, false);
            self.shared.signal.send_replace(false);
        }
        state.listeners += 1;
        self.shared.changed.notify_all();
        Ok(Listener { shared: Arc::clone(&self.shared), signal: self.shared.signal.subscribe() })
    }

    /// Ends the thread; afterwards it does not call the host.
    pub(super) fn end(&self) {
        self.shared.end();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread was logged by the hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn watch(&self, host: &dyn Host) {
        let mut state = self.lock();
        while !state.ended {
            if state.listeners == 0 || state.notified {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let wait = state.wait;
            state.wait = (2 * wait).min(LONGEST_WAIT);
            drop(state);
            let begun = Instant::now();
            let stops = host.wait(wait);
            state = self.lock();
            if stops {
                state.notified = true;
                self.signal.send_replace(true);
                continue;
            }
            // A host that returns too early must not keep this thread busy.
            let rest = wait.saturating_sub(begun.elapsed());
            let idle = self.changed.wait_timeout_while(state, rest, |state| !state.ended);
            state = idle.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Listener {
    /// Completes when the step must stop.
    pub(super) async fn stopped(&mut self) {
        // The sender exists as long as this listener.
        let _ = self.signal.wait_for(|stops| *stops).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.lock().listeners -= 1;
    }
}
