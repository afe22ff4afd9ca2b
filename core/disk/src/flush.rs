//! Writes a file that grows to the storage while its next bytes are made, so that the sync at its end has little left.

use std::fs::File;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Number of written bytes after which the storage gets them.
const STRETCH: u64 = 16 << 20;

/// Syncs the data of a file again and again in a thread. It does not replace the last sync.
#[derive(Debug)]
pub(crate) struct Flusher {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    /// Bytes since the last wake-up.
    since: u64,
}

impl Flusher {
    /// Starts the thread.
    pub(crate) fn start(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        // One wake-up may wait: a sync takes all bytes that were written before it began.
        let (wake, wakes) = sync_channel(1);
        let sync = move || wakes.iter().try_for_each(|()| file.sync_data());
        let thread = Builder::new().name("sync".to_owned()).spawn(sync)?;
        Ok(Self { wake: Some(wake), thread: Some(thread), since: 0 })
    }

    /// Counts bytes that were written.
    pub(crate) fn wrote(&mut self, bytes: u64) {
        self.since += bytes;
        if self.since >= STRETCH {
            self.flush();
        }
    }

    /// Lets the storage get what was written, without waiting for it.
    pub(crate) fn flush(&mut self) {
        self.since = 0;
        if let Some(wake) = &self.wake {
            // Full: the thread is going to sync these bytes too. Closed: `finish` returns its error.
            let _ = wake.try_send(());
        }
    }

    /// Waits for the running sync.
    ///
    /// # Errors
    /// Those of every sync: the kernel reports an error of a write-back once for each open file, so the last sync would
    /// not return it again.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        self.wake = None;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that syncs panicked")))
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        // Without `finish`, the file is removed.
        let _ = self.join();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn every_error_of_a_sync_is_returned() {
        let mut file = tempfile::tempfile().unwrap();
        let mut flusher = Flusher::start(&file).unwrap();
        for _ in 0..3 {
            file.write_all(&[1; 1000]).unwrap();
            flusher.wrote(STRETCH / 2);
        }
        assert_eq!(flusher.since, STRETCH / 2);
        flusher.finish().unwrap();
        // A pipe cannot be synced.
        let (_reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let mut flusher = Flusher::start(&file).unwrap();
        flusher.wrote(STRETCH);
        assert_eq!(flusher.finish().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
