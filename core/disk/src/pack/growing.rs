//! Makes a file readable while a separate thread is still writing it.

use std::fmt;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use build_image_files::Identity;

use super::control::Control;
use super::digest::{DigestKinds, Digests};
use super::engine::broken;
use super::output::Output;
use crate::error::{Error, Kind};
use crate::field::index;
use crate::staged::Staged;

/// How often a waiting reader checks whether to continue waiting.
const LOOK: Duration = Duration::from_millis(100);

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The path.
    pub path: PathBuf,
    /// The length in bytes.
    pub length: u64,
    /// The requested digests.
    pub digests: Digests,
}

/// The properties of a file that are known before its first byte is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outline {
    /// The maximum length of the file in bytes.
    pub(super) length_limit: u64,
    /// Number of bytes at the start that become final last.
    pub(super) deferred_prefix_len: u64,
    pub(super) digests: DigestKinds,
}

/// A file that is being written and whose final bytes can already be read.
///
/// It appears under its name when it is complete. Dropping it stops the work and removes the file, even if it
/// was already complete; [`Growing::finish`] waits for the end, keeps the file, and returns the error of the
/// work.
pub struct Growing {
    shared: Arc<Shared>,
    outline: Outline,
    identity: Identity,
    worker: Option<JoinHandle<Result<Packed, Error>>>,
}

/// The state that the writer and the readers share.
#[derive(Debug)]
pub(super) struct Shared {
    file: File,
    path: PathBuf,
    deferred_prefix_len: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes before this offset are final, except the deferred prefix.
    until: u64,
    length: Option<u64>,
    cancelled: bool,
    /// Kind and text of the error that ended the work.
    failed: Option<(Kind, String)>,
}

impl Growing {
    /// Creates the file beside `dest` and runs `job` in a thread.
    pub(super) fn start(
        dest: &Path,
        outline: Outline,
        control: &Control,
        job: impl FnOnce(&mut Output) -> Result<(), Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let staged = Staged::create(dest)?;
        let identity = staged.identity();
        let file = staged.file().try_clone().map_err(|source| staged.write_error(source))?;
        let shared = Arc::new(Shared {
            file,
            path: dest.to_owned(),
            deferred_prefix_len: outline.deferred_prefix_len,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let in_order = outline.deferred_prefix_len == 0;
        let (control, kinds) = (control.clone(), outline.digests);
        let mut output = Output::new(staged, Arc::clone(&shared), control, kinds, in_order)?;
        let (theirs, path) = (Arc::clone(&shared), dest.to_owned());
        let run = move || {
            let work = AssertUnwindSafe(move || {
                job(&mut output)?;
                let (length, digests) = output.finish()?;
                Ok(Packed { path, length, digests })
            });
            let result = catch_unwind(work).unwrap_or_else(|panic| Err(broken(panic.as_ref())));
            if let Err(error) = &result {
                theirs.fail(error);
            }
            result
        };
        let worker = thread::Builder::new()
            .name("pack".into())
            .spawn(run)
            .map_err(|source| Error::new(Kind::Io, "cannot start a thread").caused_by(source))?;
        Ok(Self { shared, outline, identity, worker: Some(worker) })
    }

    /// Returns the maximum length of the file in bytes.
    pub fn length_limit(&self) -> u64 {
        self.outline.length_limit
    }

    /// Returns the length in bytes once it is known; all bytes are final then.
    pub fn length(&self) -> Option<u64> {
        self.shared.lock().length
    }

    /// Returns the number of bytes at the start that become final last, when the length is known; all other
    /// bytes become final in order. A reader that follows the writer reads the prefix at the end.
    pub fn deferred_prefix_len(&self) -> u64 {
        self.outline.deferred_prefix_len
    }

    /// Returns the offset up to which the bytes from [`Growing::deferred_prefix_len`] on are final.
    pub fn final_until(&self) -> u64 {
        self.shared.lock().until
    }

    /// Fills `buf` from offset `offset`; returns fewer bytes only at the end of the finished file. Waits
    /// until the bytes are final and calls `watch` ten times a second; `Break` ends the wait with
    /// [`Kind::Cancelled`] and does not affect the work.
    ///
    /// Fails when the work fails, with the same kind.
    pub fn read_at(
        &self,
        buf: &mut [u8],
        offset: u64,
        watch: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<usize, Error> {
        let end = self.shared.wait(offset, buf.len() as u64, watch)?;
        let whole = index(end.saturating_sub(offset).min(buf.len() as u64));
        let shared = &self.shared;
        shared.file.read_exact_at(&mut buf[..whole], offset).map_err(|source| {
            Error::io("cannot read back", &shared.path, source).at_offset(offset)
        })?;
        Ok(whole)
    }

    /// Stops the work soon; [`Growing::finish`] then returns [`Kind::Cancelled`].
    pub fn cancel(&self) {
        self.shared.lock().cancelled = true;
    }

    /// Waits until the file is complete and has its final name.
    pub fn finish(mut self) -> Result<Packed, Error> {
        self.join()
    }

    fn join(&mut self) -> Result<Packed, Error> {
        let no_result = || Error::new(Kind::Tool, "packing ended without a word");
        let Some(worker) = self.worker.take() else { return Err(no_result()) };
        worker.join().unwrap_or_else(|panic| Err(broken(panic.as_ref())))
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if self.worker.is_some() {
            self.cancel();
            // The reason why the work ended is not needed.
            let _ = self.join();
            // The work may have been complete. Another file with the same name is kept.
            let path = &self.shared.path;
            let is_ours = self.identity.is_at(path);
            let removed =
                is_ours.and_then(|ours| if ours { fs::remove_file(path) } else { Ok(()) });
            if let Err(error) = removed {
                tracing::warn!(file = %path.display(), %error, "cannot remove an image");
            }
        }
    }
}

impl fmt::Debug for Growing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Growing").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    pub(super) fn publish(&self, until: u64) {
        let mut state = self.lock();
        state.until = state.until.max(until);
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn complete(&self, length: u64) {
        let mut state = self.lock();
        state.until = length;
        state.length = Some(length);
        drop(state);
        self.changed.notify_all();
    }

    fn fail(&self, error: &Error) {
        self.lock().failed = Some((error.kind(), error.to_string()));
        self.changed.notify_all();
    }

    /// Waits until `len` bytes at `offset` are final; returns the offset where the final bytes end.
    fn wait(
        &self,
        offset: u64,
        len: u64,
        watch: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<u64, Error> {
        let mut state = self.lock();
        let mut look = Instant::now() + LOOK;
        loop {
            if let Some((kind, text)) = &state.failed {
                let message = format!("it could not be finished ({text}):");
                return Err(Error::new(*kind, message).at(&self.path));
            }
            let behind_head =
                offset >= self.deferred_prefix_len && offset.saturating_add(len) <= state.until;
            if state.length.is_some() || behind_head {
                return Ok(state.until);
            }
            let rest = look.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                drop(state);
                if watch().is_break() {
                    return Err(
                        Error::new(Kind::Cancelled, "waiting was stopped for").at(&self.path)
                    );
                }
                state = self.lock();
                look = Instant::now() + LOOK;
            } else {
                let waited = self.changed.wait_timeout(state, rest);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}
