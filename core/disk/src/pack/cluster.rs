//! The clusters of a disk which hold data, each deflated alone, in guest order.

use super::Level;
use super::control::Control;
use super::engine::{PoolConfig, in_order};
use super::whole::{Frame, Wholes, longest};
use crate::error::{Error, Kind};
use crate::field::index;
use crate::format::GuestReader;
use crate::view::{Allocation, CLUSTER};

/// Clusters of one piece of work: 1 MiB of data.
const BATCH: u64 = 16;

/// How clusters are coded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coding {
    pub(super) level: Level,
    pub(super) frame: Frame,
    /// Whether a cluster which does not get shorter is kept as it is.
    pub(super) may_stay: bool,
}

/// Some clusters, coded, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) clusters: Vec<Cluster>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Cluster {
    /// Its number on the guest's disk.
    pub(super) guest: u64,
    /// Bytes it takes.
    pub(super) len: usize,
    pub(super) deflated: bool,
}

/// Gives every cluster of `map` to `take`, coded, a batch at a time.
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

/// Reads clusters one behind the other, neighbours in one call.
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
        // What is kept as it is must not become longer than it was; else there is room for every stream.
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
