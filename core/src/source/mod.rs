//! What the image is made from: an installer ISO or a disk image.

mod open;

use std::path::Path;

use build_image_disk::Error as DiskError;

use crate::error::{Error, Stage};

pub(crate) use open::open;

/// A source file that is not accepted, as an error of the tool.
pub(crate) fn not_accepted(path: &Path, error: DiskError) -> Error {
    let mut made = from_disk(Stage::Source, error);
    let shown = path.display().to_string();
    if !made.message.contains(&shown) {
        made.message = format!("`{shown}`: {}", made.message);
    }
    if made.hint.is_none() {
        made.hint =
            Some("give a BIG-IP installer ISO with -i, or a disk image with --disk".to_owned());
    }
    made
}

/// An error of the disk library, at a stage.
#[expect(clippy::needless_pass_by_value, reason = "an error turns into another one")]
pub(crate) fn from_disk(stage: Stage, error: DiskError) -> Error {
    use build_image_disk::Kind;
    let stage = if error.kind() == Kind::Cancelled { Stage::Interrupted } else { stage };
    let mut made = Error::new(stage, error.to_string());
    if let Some(source) = std::error::Error::source(&error) {
        made = made.because(source);
    }
    if let Some(hint) = error.hint() {
        made = made.hint(hint);
    }
    made.context = error.details().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    made
}
