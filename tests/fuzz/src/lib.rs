//! Provides the common parts of the fuzz targets. A target must return `Ok` or `Err` within bounded time and
//! memory; `tests/fuzz/run` sets the bounds.
//!
//! ```text
//! sparse.rs    turns an input into a large file with holes
//! checksum.rs  corrects checksums that an input cannot guess, so that the code behind them is reached
//! walk.rs      reads a disk at several places, and verifies what the reader promises
//! newc.rs      an independent cpio reader, to compare with
//! ```
#![forbid(unsafe_code)]

pub mod checksum;
pub mod newc;
pub mod sparse;
pub mod walk;
