//! Writes compressed images and archives once, on all processors.
//!
//! ```text
//! control.rs   threads, progress, cancelling        level.rs    compression level
//! engine.rs    pieces in, results in order, bounded memory
//! output.rs    the file under construction          growing.rs  reading it meanwhile
//! digest.rs    digests computed during the write, each in its own thread (hashing.rs)
//! steps.rs     a stream split into steps           deflate.rs  one deflate stream from many threads
//! cluster.rs   the data of a disk, each cluster deflated separately (whole.rs)
//! qcow2.rs     deflated qcow2 (place.rs: allocation in the file)    vmdk.rs   streamOptimized VMDK
//! archive/     tar.gz, zip, OVA                plain_tar.rs tar of one exact form
//! ```
//!
//! All output is independent of the number of threads, appears under its name when it is complete, and is
//! removed when the operation fails or is cancelled.

mod archive;
mod cluster;
mod control;
mod deflate;
mod digest;
mod engine;
mod growing;
mod hashing;
#[cfg(test)]
mod image_tests;
mod level;
mod output;
mod place;
pub mod plain_tar;
mod qcow2;
mod steps;
mod vmdk;
mod vmdk_header;
mod whole;

pub use archive::{ArchiveOptions, Content, Member, OvfPackage, tar_gz, zip};
pub use control::{Control, Progress, Watch};
pub use digest::{DigestKinds, Digests, OtherDigest};
pub use growing::{Growing, Packed};
pub(crate) use hashing::{Hashing, PIECE};
pub use level::Level;
pub use qcow2::PackedQcow2;
pub use vmdk::StreamVmdk;
