//! Writes one record in the format that consumers expect: members sorted, indented by four spaces, complete or
//! not at all.

use std::path::Path;

use serde::Serialize as _;
use serde_json::{Serializer, Value, ser::PrettyFormatter};

use crate::{
    artifacts::{more_space, write_whole},
    error::{Error, Result, Stage},
    settings::keys::ARTIFACTS_DIR,
};

/// Members by name.
pub(super) type Members = serde_json::Map<String, Value>;

/// Writes a document.
pub(super) fn write(path: &Path, mut document: Value) -> Result<()> {
    document.sort_all_objects();
    let mut text = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    let write_error = |error: &(dyn std::error::Error + 'static)| {
        Error::new(Stage::Disk, format!("cannot write `{}`", path.display()))
            .caused_by(error)
            .hint(more_space(ARTIFACTS_DIR))
    };
    document.serialize(&mut serializer).map_err(|error| write_error(&error))?;
    text.push(b'\n');
    write_whole(path, &text).map_err(|error| write_error(&error))
}
