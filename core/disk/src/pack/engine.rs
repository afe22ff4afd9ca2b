//! Processes pieces on many threads and returns the results in the order of the pieces.
//!
//! Memory is bounded by the window: a piece is started only if it is at most that many pieces ahead of the
//! last result that was consumed. An error or a panic in a piece is reported in its turn, so it is always the
//! first one in order: earlier results have been consumed, later results are not.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::{Error, Kind};

/// The number of threads, and how far they may run ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolConfig {
    pub(super) threads: usize,
    pub(super) window: usize,
}

/// The state that the threads share.
struct Queue<I, R> {
    pieces: I,
    /// The pieces that were started and whose results were not consumed yet.
    results: VecDeque<Option<Result<R, Error>>>,
    /// The number of the first of them.
    taken: u64,
    /// Whether the input has ended.
    ended: bool,
    /// Whether the results are no longer needed.
    stopped: bool,
}

struct OrderedPool<I, R> {
    line: Mutex<Queue<I, R>>,
    room: Condvar,
    ready: Condvar,
    window: usize,
}

/// Applies `work` to every piece on several threads and passes the results to `take` on the calling thread.
///
/// `setup` creates the state of one thread. Ends at the first error of `work` or `take`; all threads have
/// ended when this function returns.
pub(super) fn in_order<P: Send, R: Send, W>(
    config: PoolConfig,
    pieces: impl Iterator<Item = P> + Send,
    setup: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, P) -> Result<R, Error> + Sync,
    mut take: impl FnMut(R) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = Queue { pieces, results: VecDeque::new(), taken: 0, ended: false, stopped: false };
    let pool = OrderedPool {
        line: Mutex::new(line),
        room: Condvar::new(),
        ready: Condvar::new(),
        window: config.window.max(1),
    };
    thread::scope(|scope| {
        // Also needed when `take` panics: the scope waits for its threads before it propagates the panic.
        let _closed = CloseAtEnd(&pool);
        for number in 0..config.threads.max(1) {
            let (pool, setup, work) = (&pool, &setup, &work);
            let run = move || pool.serve(setup, work);
            let started = thread::Builder::new().name("pack".into()).spawn_scoped(scope, run);
            match started {
                Err(source) if number == 0 => {
                    return Err(Error::new(Kind::Io, "cannot start a thread").caused_by(source));
                }
                // The remaining threads do the same work.
                Err(_) => break,
                Ok(_) => {}
            }
        }
        while let Some(result) = pool.next_result() {
            take(result?)?;
        }
        Ok(())
    })
}

struct CloseAtEnd<'a, I, R>(&'a OrderedPool<I, R>);

impl<I, R> Drop for CloseAtEnd<'_, I, R> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.room.notify_all();
    }
}

impl<I, R> OrderedPool<I, R> {
    /// A panic while the lock is held can only come from the iterator of pieces, which is not used
    /// afterwards.
    fn lock(&self) -> MutexGuard<'_, Queue<I, R>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next result in order, or `None` after the last one.
    fn next_result(&self) -> Option<Result<R, Error>> {
        let mut line = self.lock();
        loop {
            if let Some(Some(_)) = line.results.front() {
                let result = line.results.pop_front().flatten();
                line.taken += 1;
                drop(line);
                self.room.notify_all();
                return result;
            }
            if line.ended && line.results.is_empty() {
                return None;
            }
            line = self.ready.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<P, I: Iterator<Item = P>, R> OrderedPool<I, R> {
    /// Runs one thread: takes a piece, processes it, and stores the result, in a loop.
    fn serve<W>(&self, setup: impl Fn() -> W, work: impl Fn(&mut W, P) -> Result<R, Error>) {
        let mut own = None;
        while let Some((number, piece)) = self.next_piece() {
            let attempt = AssertUnwindSafe(|| work(own.get_or_insert_with(&setup), piece));
            let result = catch_unwind(attempt).unwrap_or_else(|panic| {
                own = None;
                Err(broken(panic.as_ref()))
            });
            let mut line = self.lock();
            let place = usize::try_from(number - line.taken).unwrap_or(usize::MAX);
            if let Some(slot) = line.results.get_mut(place) {
                *slot = Some(result);
            }
            drop(line);
            self.ready.notify_one();
        }
    }

    fn next_piece(&self) -> Option<(u64, P)> {
        let mut line = self.lock();
        while !line.stopped && !line.ended && line.results.len() >= self.window {
            line = self.room.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        if line.stopped || line.ended {
            return None;
        }
        let piece = catch_unwind(AssertUnwindSafe(|| line.pieces.next()));
        match piece {
            Ok(Some(piece)) => {
                let number = line.taken + line.results.len() as u64;
                line.results.push_back(None);
                Some((number, piece))
            }
            Ok(None) => {
                line.ended = true;
                drop(line);
                self.end()
            }
            Err(panic) => {
                line.ended = true;
                line.results.push_back(Some(Err(broken(panic.as_ref()))));
                drop(line);
                self.end()
            }
        }
    }

    fn end(&self) -> Option<(u64, P)> {
        self.room.notify_all();
        self.ready.notify_one();
        None
    }
}

/// Converts a panic to an error, so that the caller's program continues.
pub(super) fn broken(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    Error::new(Kind::Tool, format!("packing broke off by a bug: {text}"))
        .with_hint("please report this with the command that was run")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PIECES: usize = 500;

    fn run(
        threads: usize,
        work: impl Fn(usize) -> Result<usize, Error> + Sync,
        take: impl FnMut(usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let config = PoolConfig { threads, window: threads * 2 };
        in_order(config, 0..PIECES, || (), |(), piece| work(piece), take)
    }

    #[test]
    fn results_come_in_order_whatever_the_number_of_threads() {
        for threads in 0..9 {
            let mut got = Vec::new();
            // Pieces need different amounts of work, so late pieces often finish before early ones.
            let work = |piece: usize| Ok((0..(piece * 7919) % 5000).fold(piece, |a, _| a));
            run(threads, work, |result| {
                got.push(result);
                Ok(())
            })
            .unwrap();
            assert!(got.iter().copied().eq(0..PIECES), "{threads}");
        }
    }

    #[test]
    fn no_thread_runs_ahead_of_the_window() {
        let (started, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |piece| {
            let ahead = started.fetch_add(1, Ordering::SeqCst) + 1;
            // A result is counted after it has left the window, so one more may be in progress.
            assert!(ahead <= taken.load(Ordering::SeqCst) + 8 + 1, "{ahead}");
            Ok(piece)
        };
        run(4, work, |_| {
            taken.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn the_first_failure_in_order_is_the_one_reported() {
        let failed = |piece| Err(Error::new(Kind::Io, format!("piece {piece}")));
        let mut taken = 0;
        let work = |piece| if piece % 100 == 99 { failed(piece) } else { Ok(piece) };
        let error = run(4, work, |_| {
            taken += 1;
            Ok(())
        });
        assert_eq!((error.unwrap_err().to_string().as_str(), taken), ("piece 99", 99));
        let error = run(4, Ok, |piece| if piece == 50 { failed(piece).map(drop) } else { Ok(()) });
        assert_eq!(error.unwrap_err().to_string(), "piece 50");
    }

    #[test]
    fn a_panic_becomes_an_error_and_the_other_threads_end() {
        let work = |piece| {
            assert_ne!(piece, 77, "seventy-seven");
            Ok(piece)
        };
        let error = run(4, work, |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), Kind::Tool);
        assert!(error.to_string().contains("seventy-seven"), "{error}");
        let pieces = (0..PIECES).inspect(|piece| assert_ne!(*piece, 20, "bad iterator"));
        let config = PoolConfig { threads: 3, window: 5 };
        let error = in_order(config, pieces, || (), |(), piece| Ok(piece), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("bad iterator"), "{error}");
        let caught = catch_unwind(|| {
            let _ = run(4, Ok, |piece| {
                assert_ne!(piece, 33, "taker");
                Ok(())
            });
        });
        assert!(caught.is_err());
    }
}
