//! How hard to compress.

use flate2::Compression;
use libdeflater::CompressionLvl;

/// A deflate level, 1 (fast) to 9 (small). Without one each compressor works at the level which gives most
/// of the gain for little of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level(Option<u8>);

impl Level {
    /// The level `level`, brought into 1 to 9.
    pub fn new(level: u8) -> Self {
        Self(Some(level.clamp(1, 9)))
    }

    /// For a stream that many threads make.
    pub(super) fn of_streams(self) -> Compression {
        Compression::new(self.0.unwrap_or(2).into())
    }

    /// For streams that are in memory as a whole.
    pub(super) fn of_wholes(self) -> CompressionLvl {
        CompressionLvl::new(self.0.unwrap_or(1).into()).unwrap_or_default()
    }
}
