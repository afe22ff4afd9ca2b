//! Whether a plugin file may be loaded: who owns it, who may write to it, what its bytes are.
//!
//! A plugin is native code with all the rights of the user. These checks keep others from planting or
//! changing one; the hash says which bytes ran. They do not make a plugin safe.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result, Stage};

/// `O_NONBLOCK` as the kernel wants it.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// A file that passed, still open: what was hashed is what is loaded.
#[derive(Debug)]
pub struct Trusted {
    /// The open file.
    pub file: File,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
}

/// Checks a plugin file and its folders, and hashes it.
///
/// # Errors
/// What is wrong with it, on which path, and what to do.
pub fn trust(path: &Path) -> Result<Trusted> {
    // Links are followed first: whoever may change the real folder may change the plugin.
    let opened = path.canonicalize().and_then(|real| {
        // A pipe called like a plugin must not make the program wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(&real)?;
        Ok((real, file))
    });
    let (real, file) = opened.map_err(|error| {
        let error = refused(path, "the file cannot be opened").because(&error);
        error.hint("check the path, or copy the provider's plugin there")
    })?;
    let metadata = file
        .metadata()
        .map_err(|error| refused(path, "the file cannot be read").because(&error))?;
    if !metadata.is_file() {
        return Err(refused(path, "it is not a regular file"));
    }
    check_owner(path, path, &metadata)?;
    for folder in real.ancestors().skip(1) {
        let metadata = folder.metadata().map_err(|error| {
            refused(path, &format!("its folder `{}` cannot be read", folder.display()))
                .because(&error)
        })?;
        check_owner(path, folder, &metadata)?;
    }
    let sha256 =
        hash(&file).map_err(|error| refused(path, "the file cannot be read").because(&error))?;
    Ok(Trusted { file, sha256 })
}

fn check_owner(plugin: &Path, object: &Path, metadata: &Metadata) -> Result<()> {
    let me = rustix::process::geteuid().as_raw();
    let what = if plugin == object {
        "the file".to_owned()
    } else {
        format!("its folder `{}`", object.display())
    };
    if metadata.uid() != 0 && metadata.uid() != me {
        return Err(refused(plugin, &format!("{what} belongs to user id {}", metadata.uid()))
            .hint("a plugin and its folders must belong to you or to root"));
    }
    let mode = metadata.mode();
    let sticky = metadata.is_dir() && mode & 0o1000 != 0;
    if mode & 0o002 != 0 && !sticky {
        return Err(refused(plugin, &format!("{what} may be written by everybody"))
            .hint(format!("chmod o-w '{}'", object.display())));
    }
    let my_group = rustix::process::getegid().as_raw();
    if mode & 0o020 != 0 && !sticky && metadata.gid() != 0 && metadata.gid() != my_group {
        return Err(refused(
            plugin,
            &format!("{what} may be written by group id {}", metadata.gid()),
        )
        .hint(format!("chmod g-w '{}'", object.display())));
    }
    Ok(())
}

fn hash(mut file: &File) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn refused(path: &Path, why: &str) -> Error {
    let path: PathBuf = path.to_owned();
    Error::new(Stage::Plugin, format!("plugin `{}` does not load: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn plugin(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin.so");
        fs::write(&path, "abc").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_sound_file_is_hashed() {
        let (_folder, path) = plugin(0o644);
        let sha = trust(&path).unwrap().sha256;
        assert_eq!(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn files_and_folders_that_others_may_write_to_are_refused() {
        let (_folder, path) = plugin(0o646);
        assert!(trust(&path).unwrap_err().message.contains("by everybody"));
        let (folder, path) = plugin(0o644);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = trust(&path).unwrap_err();
        assert!(
            error.message.contains("its folder") && error.hint.unwrap().starts_with("chmod o-w")
        );
    }

    #[test]
    fn folders_and_missing_files_are_refused() {
        let (folder, _) = plugin(0o644);
        assert!(trust(folder.path()).unwrap_err().message.contains("not a regular file"));
        assert!(
            trust(&folder.path().join("absent")).unwrap_err().message.contains("cannot be opened")
        );
    }
}
