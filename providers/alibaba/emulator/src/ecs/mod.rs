//! Implements ECS: importing, describing, changing, sharing, copying, and deleting images, with their tasks
//! and snapshots.

mod checks;
mod copy;
pub(crate) mod describe;
pub(crate) mod error;
mod image;
mod import;
mod import_image;
pub(crate) mod params;
mod region;
mod serve;
mod share;
mod snapshot;
mod source;
mod tag;
pub(crate) mod task;

pub(crate) use import::{guest_of, resume};
pub(crate) use serve::serve;
