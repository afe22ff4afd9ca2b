//! Reads and writes the JSON files of this module. One that another user may change is not read.

use std::{io, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use super::refused;
use crate::{
    artifacts::{make_private, write_whole},
    error::{Error, Result, Stage},
    trust::{doubt_of, read_regular},
};

/// Longest file, in bytes.
const LIMIT: u64 = 16 << 20;

/// Reads a file; `None` when it is absent.
///
/// # Errors
/// When it cannot be read, is malformed, or others may change it.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let display = path.display();
    let read_error =
        |error: &io::Error| refused(format!("`{display}` cannot be read")).caused_by(error);
    match doubt_of(path) {
        Ok(None) => {}
        Ok(Some(doubt)) => {
            return Err(refused(format!("`{display}` is not used: {doubt}")).hint(doubt.hint));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read_error(&error)),
    }
    let text = read_regular(path, LIMIT).map_err(|error| read_error(&error))?;
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|error| {
        refused(format!("`{display}` is malformed")).caused_by(&error).hint(
            "restore it from a backup; without it, build-image does not know what it installed",
        )
    })
}

/// Writes a file completely or not at all, and its directory when that is absent.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(path: &Path, content: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(content).map_err(|error| {
        Error::new(Stage::Bug, "a record of packages cannot be written").caused_by(&error)
    })?;
    let written = path.parent().map_or(Ok(()), make_private);
    written.and_then(|()| write_whole(path, &[&bytes[..], b"\n"].concat())).map_err(|error| {
        Error::new(Stage::Disk, format!("cannot write `{}`", path.display())).caused_by(&error)
    })
}
