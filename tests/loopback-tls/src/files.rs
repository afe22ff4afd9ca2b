//! Writes files completely or not at all, and reads the CA key only if no other user could have changed it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::TlsError;

/// Maximum length of a file that is read, in bytes; a key and a certificate need less than two thousand.
const LONGEST: u64 = 64 << 10;

/// A complete file beside `path` under a temporary name.
fn beside(path: &Path, text: &str, mode: u32) -> io::Result<NamedTempFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Writes a file that everyone may read; replaces an older one.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), TlsError> {
    let written =
        beside(path, text, 0o644).and_then(|file| file.persist(path).map_err(|error| error.error));
    written.map(|_| ()).map_err(TlsError::file("write", path))
}

/// Writes a file that only its owner may read, unless it exists. When two processes do so at once, the file of one
/// of them remains.
pub(crate) fn create_private(path: &Path, text: &str) -> Result<(), TlsError> {
    let written = beside(path, text, 0o600).and_then(|file| match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    });
    written.map_err(TlsError::file("write", path))
}

/// Reads a file that only its owner may read; `None` when it does not exist.
pub(crate) fn read_private(path: &Path) -> Result<Option<String>, TlsError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(TlsError::file("read", path))?,
    };
    let metadata = file.metadata().map_err(TlsError::file("read", path))?;
    let owner = rustix::process::geteuid().as_raw();
    if metadata.uid() != owner || metadata.mode() & 0o077 != 0 {
        return Err(TlsError::Exposed(path.to_owned()));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(TlsError::file("read", path))?;
    Ok(Some(text))
}

/// Whether a file may be replaced: it is missing, or its first line is `mark`.
pub(crate) fn is_missing_or_marked(path: &Path, mark: &str) -> Result<bool, TlsError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Ok(metadata) if !metadata.is_file() => return Ok(false),
        _ => {}
    }
    let mut start = vec![0; mark.len()];
    let mut file = File::open(path).map_err(TlsError::file("read", path))?;
    match file.read_exact(&mut start) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| start == mark.as_bytes()).map_err(TlsError::file("read", path)),
    }
}
