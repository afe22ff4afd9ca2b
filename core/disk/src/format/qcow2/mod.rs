//! qcow2, versions 2 and 3, for reading. Source: QEMU, docs/interop/qcow2.txt.
//! Left out on purpose: external data files and extended L2 entries (refused), zstd and encryption
//! (reported by the probe, refused by the reader), internal snapshots (counted, never followed).

mod guest;
mod header;
mod table;

pub(super) use guest::Guest;
pub(super) use header::MAGIC;
pub(super) use table::probe;
