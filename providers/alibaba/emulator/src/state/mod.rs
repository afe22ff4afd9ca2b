//! What the emulator remembers, in memory and on disk.

mod blobs;
mod hold;
mod model;
mod store;
mod table;

pub(crate) use blobs::{Blobs, Segment, merge};
pub(crate) use hold::Hold;
pub(crate) use model::{
    Bucket, Disk, Image, Object, Part, Snapshot, Task, Token, Upload, Verdict, object_key, part_key,
};
pub(crate) use store::{Store, World};
pub use table::StateError;
