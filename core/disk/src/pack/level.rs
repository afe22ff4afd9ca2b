//! Defines the compression level.

use flate2::Compression;
use libdeflater::CompressionLvl;

/// A deflate level, 1 (fast) to 9 (small). Without a level, each compressor uses the one that gives most of
/// the gain for little time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level(Option<u8>);

impl Level {
    /// Creates a level; `level` is clamped to 1 to 9.
    pub fn new(level: u8) -> Self {
        Self(Some(level.clamp(1, 9)))
    }

    /// Returns the level for a stream that many threads write.
    pub(super) fn of_streams(self) -> Compression {
        Compression::new(self.0.unwrap_or(2).into())
    }

    /// Returns the level for streams that are entirely in memory.
    pub(super) fn of_wholes(self) -> CompressionLvl {
        CompressionLvl::new(self.0.unwrap_or(1).into()).unwrap_or_default()
    }
}
