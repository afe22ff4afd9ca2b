//! Runs services that may block on threads, created on demand: a provider that waits must not keep its other
//! threads from reading the disk.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
    mpsc::{Receiver, Sender, channel},
};

/// Maximum number of threads per provider.
const MOST: usize = 64;

/// A job; the buffer belongs to the thread and keeps its size.
type Job = Box<dyn FnOnce(&mut Vec<u8>) + Send>;

/// The threads of one session. They end with it.
pub(super) struct Workers {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
    made: usize,
}

struct Shared {
    jobs: Mutex<Receiver<Job>>,
    idle: AtomicUsize,
}

impl Workers {
    pub(super) fn new() -> Self {
        let (jobs, receiver) = channel();
        let shared = Shared { jobs: Mutex::new(receiver), idle: AtomicUsize::new(0) };
        Self { jobs, shared: Arc::new(shared), made: 0 }
    }

    /// Runs a job on a thread.
    pub(super) fn run(&mut self, job: impl FnOnce(&mut Vec<u8>) + Send + 'static) {
        // A thread counts as idle until it has received its job, hence one is subtracted here.
        let taken = self
            .shared
            .idle
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |idle| idle.checked_sub(1));
        if taken.is_err() && self.made < MOST {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("service".to_owned());
            if thread.spawn(move || shared.work()).is_ok() {
                self.made += 1;
            }
        }
        // Sending fails only when all threads have ended, which only panics could cause.
        let _ = self.jobs.send(Box::new(job));
    }
}

impl Shared {
    fn work(&self) {
        let mut buffer = Vec::new();
        loop {
            let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            job(&mut buffer);
            self.idle.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn jobs_that_block_do_not_keep_others_waiting() {
        let mut workers = Workers::new();
        let meeting = Arc::new(Barrier::new(9));
        for _ in 0..8 {
            let meeting = Arc::clone(&meeting);
            workers.run(move |_| {
                meeting.wait();
            });
        }
        meeting.wait();
        assert_eq!(workers.made, 8);
    }
}
