//! Computes the MD5 and SHA-256 digests of a stream while it is copied, each in its own thread.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{Builder, Scope, ScopedJoinHandle},
};

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Number of blocks that may wait for a thread.
const WAITING: usize = 4;

/// Computes MD5 and SHA-256 of one stream.
pub(super) struct Hashing<'scope> {
    workers: [Worker<'scope>; 2],
}

struct Worker<'scope> {
    pieces: SyncSender<Arc<Vec<u8>>>,
    thread: ScopedJoinHandle<'scope, String>,
}

impl<'scope> Hashing<'scope> {
    /// Starts the threads; they end when the value is dropped.
    pub(super) fn start(scope: &'scope Scope<'scope, '_>) -> io::Result<Self> {
        Ok(Self { workers: [start::<Md5>(scope, "md5")?, start::<Sha256>(scope, "sha256")?] })
    }

    /// Adds the next block. Waits while the threads are far behind.
    pub(super) fn update(&self, piece: Vec<u8>) {
        let piece = Arc::new(piece);
        for worker in &self.workers {
            // `finish` detects a thread that panicked.
            let _ = worker.pieces.send(Arc::clone(&piece));
        }
    }

    /// Returns both digests, MD5 first, as hexadecimal text.
    pub(super) fn finish(self) -> Result<(String, String)> {
        let [md5, sha256] = self.workers.map(|Worker { pieces, thread }| {
            drop(pieces);
            thread.join().map_err(|_| Error::internal("a thread that takes a digest panicked"))
        });
        Ok((md5?, sha256?))
    }
}

fn start<'scope, D: Digest + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
) -> io::Result<Worker<'scope>> {
    let (pieces, arriving) = sync_channel::<Arc<Vec<u8>>>(WAITING);
    let thread = Builder::new().name(name.to_owned()).spawn_scoped(scope, move || {
        let mut digest = D::new();
        for piece in arriving {
            digest.update(piece.as_slice());
        }
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    })?;
    Ok(Worker { pieces, thread })
}
