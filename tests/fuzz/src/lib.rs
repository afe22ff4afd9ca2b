//! What the fuzz targets stand on. A target must come to `Ok` or `Err` within bounded time and memory;
//! `tests/fuzz/run` sets the bounds.
//!
//! ```text
//! sparse.rs    an input becomes a large file with holes
//! checksum.rs  sums an input cannot guess are put right, so that what lies behind them is reached
//! walk.rs      reads a disk here and there, and holds the reader to its word
//! newc.rs      a cpio reader of its own, to compare with
//! ```
#![forbid(unsafe_code)]

pub mod checksum;
pub mod newc;
pub mod sparse;
pub mod walk;
