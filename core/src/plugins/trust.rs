//! Decides whether a plugin file may be loaded: checks its owner, who may write to it, and its checksum.
//!
//! A plugin is native code with all the rights of the user. These checks keep others from planting or changing
//! a plugin; the hash identifies the bytes that ran. They do not make a plugin safe.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    error::{Error, Result, Stage},
    trust::{Doubt, doubt_of_file, doubt_of_resolved, read_regular, resolve_path},
};

/// `O_NONBLOCK` as the kernel expects it.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
/// Suffix of the file with a plugin's checksum.
const SUM_SUFFIX: &str = ".sha256";
/// Longest checksum file, in bytes.
const SUM_LIMIT: u64 = 64 << 10;

/// A file that passed the checks, still open: the bytes that were hashed are the bytes that are loaded.
#[derive(Debug)]
pub struct Trusted {
    /// The open file.
    pub file: File,
    /// Its path without links.
    pub real: PathBuf,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Its mode bits.
    pub mode: u32,
}

/// Checks a plugin file and its directories, hashes it, and compares it with the checksum file beside it, if any.
///
/// # Errors
/// What is wrong, on which path, and what to do.
pub fn trust(path: &Path) -> Result<Trusted> {
    // Links are resolved first: whoever may change a directory on the path may change the plugin.
    let opened = resolve_path(path).and_then(|resolved| {
        // A pipe with a plugin's name must not make the program wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(&resolved.real)?;
        Ok((resolved, file))
    });
    let (resolved, file) = opened.map_err(|error| {
        let error = load_error(path, "the file cannot be opened").caused_by(&error);
        error.hint("check the path, or copy the provider's plugin there")
    })?;
    let read_error =
        |error: &io::Error| load_error(path, "the file cannot be read").caused_by(error);
    let metadata = file.metadata().map_err(|error| read_error(&error))?;
    if !metadata.is_file() {
        return Err(load_error(path, "it is not a regular file"));
    }
    if let Some(doubt) = doubt_of_file(&file, path).map_err(|error| read_error(&error))? {
        return Err(trust_error(path, true, doubt));
    }
    let doubt = doubt_of_resolved(&resolved).map_err(|error| {
        load_error(path, "its directories cannot be examined").caused_by(&error)
    })?;
    if let Some(doubt) = doubt {
        return Err(trust_error(path, false, doubt));
    }
    let real = resolved.real;
    let sha256 = hash(&file)
        .map_err(|error| load_error(path, "the file cannot be read").caused_by(&error))?;
    check_sum(path, &sha256)?;
    Ok(Trusted { file, real, sha256, mode: metadata.mode() })
}

/// The error for an object that others may change.
fn trust_error(plugin: &Path, is_file: bool, doubt: Doubt) -> Error {
    let what = if is_file {
        "the file".to_owned()
    } else {
        format!("its directory `{}`", doubt.object.display())
    };
    load_error(plugin, &format!("{what} {}", doubt.why)).hint(doubt.hint)
}

fn hash(mut file: &File) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Compares with `<plugin>.sha256`, in the format of `sha256sum`, if it exists.
fn check_sum(path: &Path, sha256: &str) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(SUM_SUFFIX);
    let sum = PathBuf::from(name);
    let text = match read_regular(&sum, SUM_LIMIT) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let what = format!("its sum `{}` cannot be read", sum.display());
            return Err(load_error(path, &what).caused_by(&error));
        }
    };
    let expected = text.split_whitespace().next().unwrap_or_default().to_lowercase();
    if expected == sha256 {
        return Ok(());
    }
    let mut error = load_error(path, &format!("it is not the file `{}` is for", sum.display()));
    error.causes = vec![format!("the file has SHA-256 {sha256}, wanted is {expected}")];
    Err(error.hint("copy both files again from where they came from"))
}

pub(super) fn load_error(path: &Path, why: &str) -> Error {
    Error::new(Stage::Plugin, format!("plugin `{}` does not load: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn plugin(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugin.so");
        fs::write(&path, "abc").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn a_trusted_file_is_hashed() {
        let (_directory, path) = plugin(0o644);
        let sha = trust(&path).unwrap().sha256;
        assert_eq!(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn files_and_directories_that_others_may_write_to_are_refused() {
        let (_directory, path) = plugin(0o646);
        assert!(trust(&path).unwrap_err().message.contains("by everybody"));
        let (directory, path) = plugin(0o644);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = trust(&path).unwrap_err();
        assert!(
            error.message.contains("its directory") && error.hint.unwrap().starts_with("chmod o-w")
        );
    }

    #[test]
    fn directories_that_hold_a_link_of_the_path_are_checked_too() {
        let (_directory, path) = plugin(0o644);
        let outer = tempfile::tempdir().unwrap();
        let (open, link) = (outer.path().join("open"), outer.path().join("link"));
        fs::create_dir(&open).unwrap();
        std::os::unix::fs::symlink(&path, open.join("plugin.so")).unwrap();
        std::os::unix::fs::symlink("open/../open/plugin.so", &link).unwrap();
        assert_eq!(trust(&link).unwrap().real, path.canonicalize().unwrap());
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let error = trust(&link).unwrap_err();
        assert!(error.message.contains("open` may be written by everybody"), "{}", error.message);
        let circle = outer.path().join("circle");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        assert!(trust(&circle).unwrap_err().causes[0].contains("too many links"));
    }

    #[test]
    fn a_checksum_beside_the_plugin_must_match() {
        let (directory, path) = plugin(0o644);
        let sum = directory.path().join("plugin.so.sha256");
        let own = "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (text, fits) in [
            (format!("{own}  plugin.so\n"), true),
            (format!("{own}\n"), true),
            (format!("{}  plugin.so\n", own.replace('f', "0")), false),
            (String::new(), false),
        ] {
            fs::write(&sum, &text).unwrap();
            assert_eq!(trust(&path).is_ok(), fits, "{text}");
        }
        let error = trust(&path).unwrap_err();
        assert!(error.message.contains("plugin.so.sha256") && error.hint.is_some());
    }

    #[test]
    fn directories_and_missing_files_are_refused() {
        let (directory, _) = plugin(0o644);
        assert!(trust(directory.path()).unwrap_err().message.contains("not a regular file"));
        assert!(
            trust(&directory.path().join("absent"))
                .unwrap_err()
                .message
                .contains("cannot be opened")
        );
    }
}
