//! Stores the state of the emulator, in memory and on disk.

mod blobs;
mod hold;
mod identity;
mod model;
mod store;
mod table;

pub(crate) use blobs::{Blobs, Segment, merge};
pub(crate) use hold::Hold;
pub(crate) use identity::{Attached, Role, Session};
pub(crate) use model::{
    Bucket, Disk, Encryption, Image, Object, Part, Snapshot, Task, Token, Upload, Verdict,
    object_key, part_key,
};
pub(crate) use store::{Store, World};
pub use table::StateError;
