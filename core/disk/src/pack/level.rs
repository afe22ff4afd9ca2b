//! How hard to compress.

use flate2::Compression;

/// A deflate level, 1 (fast) to 9 (small).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(u32);

impl Level {
    /// The level `level`, brought into 1 to 9.
    pub fn new(level: u32) -> Self {
        Self(level.clamp(1, 9))
    }

    pub(super) fn compression(self) -> Compression {
        Compression::new(self.0)
    }
}

impl Default for Level {
    /// Level 2: most of the gain for little of the time.
    fn default() -> Self {
        Self(2)
    }
}
