//! Deflates the clusters of a disk that hold data, each separately, in guest order.

use super::Level;
use super::control::Control;
use super::engine::{PoolConfig, in_order};
use super::whole::{Frame, Wholes, longest};
use crate::error::{Error, Kind};
use crate::field::index;
use crate::format::GuestReader;
use crate::view::{Allocation, CLUSTER};

/// Number of clusters in a batch: 1 MiB of data.
const BATCH: u64 = 16;

/// How clusters are encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coding {
    pub(super) level: Level,
    pub(super) frame: Frame,
    /// Whether a cluster that does not become shorter is stored uncompressed.
    pub(super) may_stay: bool,
}

/// Several encoded clusters, concatenated.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) clusters: Vec<Cluster>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Cluster {
    /// The number of the cluster on the guest's disk.
    pub(super) guest: u64,
    /// Its encoded length in bytes.
    pub(super) len: usize,
    pub(super) deflated: bool,
}

/// Passes every cluster of `map` to `take`, encoded, one batch at a time.
pub(super) fn deflate_clusters(
    control: &Control,
    disk: &GuestReader,
    map: &Allocation,
    coding: Coding,
    take: impl FnMut(Batch) -> Result<(), Error>,
) -> Result<(), Error> {
    let bytes = index(2 * BATCH * CLUSTER);
    let config = PoolConfig { threads: control.threads(), window: control.window(bytes) };
    let pieces = (0..map.allocated().div_ceil(BATCH)).map(|batch| batch * BATCH);
    let setup = || (Wholes::new(coding.level, coding.frame), vec![0; index(BATCH * CLUSTER)]);
    let work = |(wholes, plain): &mut (Wholes, Vec<u8>), first: u64| {
        let last = map.allocated().min(first + BATCH);
        let guests: Vec<u64> = (first..last).map(|rank| map.select(rank)).collect();
        read(disk, &guests, plain)?;
        let mut batch = Batch::default();
        for (guest, plain) in guests.iter().zip(plain.chunks(index(CLUSTER))) {
            batch.push(*guest, plain, wholes, coding.may_stay)?;
        }
        Ok(batch)
    };
    in_order(config, pieces, setup, work, take)
}

/// Reads clusters one after the other, adjacent clusters in one call.
fn read(disk: &GuestReader, guests: &[u64], plain: &mut [u8]) -> Result<(), Error> {
    let mut done = 0;
    for run in guests.chunk_by(|one, next| one + 1 == *next) {
        let len = index(run.len() as u64 * CLUSTER);
        let place = &mut plain[done..done + len];
        let got = disk.read_at(place, run[0] * CLUSTER)?;
        place[got..].fill(0); // the last cluster of a disk may be shorter
        done += len;
    }
    Ok(())
}

impl Batch {
    fn push(
        &mut self,
        guest: u64,
        plain: &[u8],
        wholes: &mut Wholes,
        may_stay: bool,
    ) -> Result<(), Error> {
        // If the plain cluster may be stored instead, the stream must be shorter than it; otherwise the
        // buffer has room for every stream.
        let most = if may_stay { plain.len() - 1 } else { index(longest(plain.len() as u64)) };
        let (bytes, deflated) = match wholes.deflate(plain, most) {
            Some(stream) => (stream, true),
            None if may_stay => (plain, false),
            None => return Err(Error::new(Kind::Tool, "the compressor failed")),
        };
        self.bytes.extend(bytes);
        self.clusters.push(Cluster { guest, len: bytes.len(), deflated });
        Ok(())
    }
}
