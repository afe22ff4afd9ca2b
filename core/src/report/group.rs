//! Shows the progress of a build with several targets: one line per target on a terminal, lines with the name of the
//! target elsewhere.

use indicatif::MultiProgress;

/// The line of a target in the display that all targets share.
#[derive(Clone, Debug)]
pub struct TargetLine {
    /// Name of the target.
    pub name: String,
    /// The bars of all targets.
    pub(super) bars: MultiProgress,
}

/// The display of a build with several targets.
#[derive(Clone, Debug, Default)]
pub struct GroupDisplay {
    bars: MultiProgress,
}

impl GroupDisplay {
    /// Returns the line of a target.
    #[must_use]
    pub fn line(&self, name: &str) -> TargetLine {
        TargetLine { name: name.to_owned(), bars: self.bars.clone() }
    }
}
