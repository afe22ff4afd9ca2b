//! Uploads the disk to a bucket in parts: one thread reads and computes SHA-256, several parts are in flight, and parts
//! that the service has are not sent again.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use build_image_plugin_api::{
    Context, Disk, Error, ErrorKind, Result,
    retry::{Backoff, Failure, Policy, retry},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::{
    ebs::Digest,
    limiter::Limiter,
    s3::{Bucket, Part},
    transfer::joined,
};

const MIB: u64 = 1 << 20;
/// Smallest part that this provider sends; the service refuses less than 5 MiB.
const SMALLEST_PART: u64 = 8 * MIB;
/// Most parts of an upload, below the service's 10000.
const MOST_PARTS: u64 = 9000;
/// Most parts in flight: each is in memory.
const MOST_IN_FLIGHT: usize = 6;
/// Attempts of a part.
const POLICY: Policy = Policy::new(
    9,
    Duration::from_secs(300),
    Backoff::new(Duration::from_millis(200), Duration::from_secs(20)),
);

/// Beginning of the checkpoints of the parts that arrived; their number follows.
const ARRIVED: &str = "part-";

/// What the service answered to a part.
#[derive(Serialize, Deserialize)]
struct Arrived {
    upload: String,
    etag: String,
    /// Base64.
    sha256: String,
}

/// Returns the size of the parts of an object of at most this length.
pub(crate) fn part_size(length: u64) -> u64 {
    SMALLEST_PART.max(length.div_ceil(MOST_PARTS).next_multiple_of(MIB))
}

/// A part of the disk.
struct Piece {
    number: u32,
    data: Bytes,
    digest: Digest,
}

/// The upload of a disk to a key.
pub(crate) struct Parts<'a> {
    pub(crate) context: &'a Context,
    pub(crate) bucket: &'a Bucket,
    pub(crate) key: &'a str,
    pub(crate) upload: &'a str,
    pub(crate) disk: &'a Disk,
    /// Most parts in flight.
    pub(crate) concurrency: usize,
    /// Bytes sent, repeated ones included.
    pub(crate) sent: &'a AtomicU64,
}

impl Parts<'_> {
    /// Sends every part that the service does not have; returns all in ascending order.
    ///
    /// # Errors
    /// Refusals, broken connections after several attempts, a disk that cannot be read.
    pub(crate) async fn send(&self, listed: Vec<Part>) -> Result<Vec<Part>, Failure> {
        let listed: BTreeMap<u32, Part> =
            listed.into_iter().map(|part| (part.number, part)).collect();
        let (sender, receiver) = mpsc::channel::<Piece>(1);
        let reader = Reader {
            context: self.context.clone(),
            disk: self.disk.clone(),
            part: part_size(self.disk.length_limit),
        };
        let thread = tokio::task::spawn_blocking(move || reader.run(&sender));
        let pieces =
            stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        let window = self.concurrency.min(MOST_IN_FLIGHT);
        let (limiter, done) = (Limiter::new(window), AtomicU64::new(0));
        let total = self.disk.length.unwrap_or_default();
        let sent = pieces
            .map(async |piece| {
                let size = piece.data.len() as u64;
                let known = listed.get(&piece.number);
                let part = self.piece(&limiter, piece, known).await?;
                let moved = done.fetch_add(size, Ordering::Relaxed) + size;
                self.context.progress_bytes(moved, total.max(moved));
                Ok::<Part, Failure>(part)
            })
            .buffer_unordered(window);
        let mut parts: Vec<Part> = sent.try_collect().await?;
        joined(thread).await?;
        parts.sort_by_key(|part| part.number);
        if parts.is_empty() {
            return Err(Failure::stop(Error::internal("the disk image is empty")));
        }
        Ok(parts)
    }

    async fn piece(
        &self,
        limiter: &Limiter,
        Piece { number, data, digest }: Piece,
        known: Option<&Part>,
    ) -> Result<Part, Failure> {
        let size = data.len() as u64;
        let sha256 = BASE64_STANDARD.encode(digest);
        let arrived = format!("{ARRIVED}{number}");
        if let Some(part) = known.filter(|part| part.size == size) {
            // Not every service that speaks S3 lists checksums; what this run was answered counts as well.
            let answered: Option<Arrived> = self.context.load(&arrived)?;
            let same = answered.is_some_and(|answered| {
                answered.upload == self.upload
                    && answered.etag == part.etag
                    && answered.sha256 == sha256
            });
            if same || part.sha256.as_deref() == Some(&sha256) {
                return Ok(Part { sha256: Some(sha256), ..part.clone() });
            }
        }
        let sent = retry(&POLICY, async || {
            let _slot = limiter.enter().await;
            self.sent.fetch_add(size, Ordering::Relaxed);
            let target = (self.key, self.upload);
            let sent = self.bucket.put(target, number, data.clone(), &digest).await;
            match &sent {
                Ok(_) => limiter.arrived(),
                Err(failure) if failure.error.kind == ErrorKind::Throttled => limiter.throttled(),
                Err(_) => {}
            }
            sent
        })
        .await?;
        let answered = Arrived { upload: self.upload.to_owned(), etag: sent.etag.clone(), sha256 };
        let context = self.context.clone();
        let saved = tokio::task::spawn_blocking(move || context.save(&arrived, &answered));
        joined(saved).await?;
        Ok(sent)
    }
}

/// Reads the disk part by part. The first bytes may become readable last.
struct Reader {
    context: Context,
    disk: Disk,
    part: u64,
}

impl Reader {
    fn run(&self, sender: &mpsc::Sender<Piece>) -> Result<()> {
        let count = self.disk.length_limit.div_ceil(self.part);
        let late = self.disk.deferred_prefix_len.div_ceil(self.part).min(count);
        for index in (late..count).chain(0..late) {
            self.context.check_cancelled()?;
            let data = self.read(index)?;
            if data.is_empty() {
                // The image ended; the parts at its start may be left.
                if index >= late && late > 0 {
                    return self.late(late, sender);
                }
                return Ok(());
            }
            self.pass(index, data, sender)?;
        }
        Ok(())
    }

    fn late(&self, late: u64, sender: &mpsc::Sender<Piece>) -> Result<()> {
        for index in 0..late {
            self.context.check_cancelled()?;
            let data = self.read(index)?;
            if data.is_empty() {
                break;
            }
            self.pass(index, data, sender)?;
        }
        Ok(())
    }

    fn pass(&self, index: u64, data: Vec<u8>, sender: &mpsc::Sender<Piece>) -> Result<()> {
        let digest: Digest = Sha256::digest(&data).into();
        let number = u32::try_from(index + 1)
            .map_err(|error| Error::internal("there are too many parts").caused_by(&error))?;
        let piece = Piece { number, data: data.into(), digest };
        sender.blocking_send(piece).map_err(|_| Error::cancelled())
    }

    fn read(&self, index: u64) -> Result<Vec<u8>> {
        let size = usize::try_from(self.part).unwrap_or(usize::MAX);
        let (mut data, mut filled) = (vec![0; size], 0);
        while filled < size {
            let at = index * self.part + filled as u64;
            let read = self.context.read_disk(&self.disk, at, &mut data[filled..])?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        data.truncate(filled);
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use build_image_plugin_api::{DiskSpec, testing::MockHost};

    use super::*;

    #[test]
    fn parts_stay_within_the_services_limits() {
        for (length, size) in [
            (0, SMALLEST_PART),
            (MOST_PARTS * SMALLEST_PART, SMALLEST_PART),
            (MOST_PARTS * SMALLEST_PART + 1, 9 * MIB),
            (16 << 40, 1865 * MIB),
        ] {
            assert_eq!(part_size(length), size, "{length}");
            assert!(length.div_ceil(part_size(length)) <= 10_000);
        }
    }

    #[test]
    fn parts_whose_start_is_late_come_last_and_cover_the_image() {
        let bytes: Vec<u8> = (0..10_u8).collect();
        for (late, limit, order) in [
            (0, 10, &[1, 2, 3][..]),
            (1, 10, &[2, 3, 1]),
            (5, 30, &[3, 1, 2]),
            (0, 30, &[1, 2, 3]),
            (30, 10, &[1, 2, 3]),
        ] {
            let host = Arc::new(MockHost::new().with_disk(bytes.clone()));
            let context = host.context();
            let disk = context.make_disk(&DiskSpec::default()).unwrap();
            let disk = disk.deferred_prefix_len(late).length_limit(limit);
            let reader = Reader { context, disk, part: 4 };
            let (sender, mut receiver) = mpsc::channel(16);
            reader.run(&sender).unwrap();
            drop(sender);
            let mut found = BTreeMap::new();
            let mut numbers = Vec::new();
            while let Some(piece) = receiver.blocking_recv() {
                numbers.push(piece.number);
                found.insert(piece.number, piece.data.to_vec());
            }
            assert_eq!(numbers, order, "{late} {limit}");
            assert_eq!(found.into_values().collect::<Vec<_>>().concat(), bytes);
        }
    }
}
