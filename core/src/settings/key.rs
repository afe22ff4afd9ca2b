//! Defines the keys of the core's settings.

use std::fmt;

use super::row::Row;

/// The key of a setting of the core, such as `IMAGE_DIR`. Only the table of settings creates keys: a key that is not
/// in the table does not compile. A message names a setting by formatting its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(&'static str);

impl Key {
    pub(super) const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Returns the key as configuration files spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Whether this is the key of a row.
impl PartialEq<Row> for Key {
    fn eq(&self, row: &Row) -> bool {
        row.key() == self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}
