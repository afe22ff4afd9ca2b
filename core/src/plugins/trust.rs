//! Whether a plugin file may be loaded: who owns it, who may write to it, what its bytes are.
//!
//! A plugin is native code with all the rights of the user. These checks keep others from planting or
//! changing one; the hash says which bytes ran. They do not make a plugin safe.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{File, Metadata, OpenOptions},
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::group;
use crate::error::{Error, Result, Stage};

/// `O_NONBLOCK` as the kernel wants it.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
/// Most links that are followed; the kernel follows as many (path_resolution(7)).
const LINKS: usize = 40;
/// What follows a plugin's name in the name of the file with its sum.
const SUM_SUFFIX: &str = ".sha256";

/// A file that passed, still open: what was hashed is what is loaded.
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

/// Checks a plugin file and its folders, hashes it, and compares it with the sum beside it, if any.
///
/// # Errors
/// What is wrong with it, on which path, and what to do.
pub fn trust(path: &Path) -> Result<Trusted> {
    // Links are followed first: whoever may change a folder on the way may change the plugin.
    let opened = way(path).and_then(|(folders, real)| {
        // A pipe called like a plugin must not make the program wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(&real)?;
        Ok((folders, real, file))
    });
    let (folders, real, file) = opened.map_err(|error| {
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
    for folder in &folders {
        let metadata = folder.metadata().map_err(|error| {
            refused(path, &format!("its folder `{}` cannot be read", folder.display()))
                .because(&error)
        })?;
        check_owner(path, folder, &metadata)?;
    }
    let sha256 =
        hash(&file).map_err(|error| refused(path, "the file cannot be read").because(&error))?;
    check_sum(path, &sha256)?;
    Ok(Trusted { file, real, sha256, mode: metadata.mode() })
}

/// All folders that decide which file a path names, links included, and that file's own path.
fn way(path: &Path) -> std::io::Result<(BTreeSet<PathBuf>, PathBuf)> {
    let mut folders = BTreeSet::new();
    let mut real = PathBuf::from("/");
    let mut rest: Vec<OsString> = parts(&std::path::absolute(path)?);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            real.pop();
            continue;
        }
        folders.insert(real.clone());
        let next = real.join(&part);
        if next.symlink_metadata()?.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(std::io::Error::other("too many links"));
            }
            let target = next.read_link()?;
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            rest.extend(parts(&target));
        } else {
            real = next;
        }
    }
    Ok((folders, real))
}

/// The names in a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let named = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    named.collect()
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
    if mode & 0o020 != 0 && !sticky && !group::is_mine_alone(metadata.gid()) {
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

/// Compares with `<plugin>.sha256`, in the form `sha256sum` writes, when there is one.
fn check_sum(path: &Path, sha256: &str) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(SUM_SUFFIX);
    let sum = PathBuf::from(name);
    let text = match std::fs::read_to_string(&sum) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let what = format!("its sum `{}` cannot be read", sum.display());
            return Err(refused(path, &what).because(&error));
        }
    };
    let wanted = text.split_whitespace().next().unwrap_or_default().to_lowercase();
    if wanted == sha256 {
        return Ok(());
    }
    let mut error = refused(path, &format!("it is not the file `{}` is for", sum.display()));
    error.causes = vec![format!("the file has SHA-256 {sha256}, wanted is {wanted}")];
    Err(error.hint("copy both files again from where they came from"))
}

pub(super) fn refused(path: &Path, why: &str) -> Error {
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
    fn folders_that_hold_a_link_on_the_way_count_too() {
        let (_folder, path) = plugin(0o644);
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
    fn a_sum_beside_the_plugin_must_be_its_own() {
        let (folder, path) = plugin(0o644);
        let sum = folder.path().join("plugin.so.sha256");
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
    fn folders_and_missing_files_are_refused() {
        let (folder, _) = plugin(0o644);
        assert!(trust(folder.path()).unwrap_err().message.contains("not a regular file"));
        assert!(
            trust(&folder.path().join("absent")).unwrap_err().message.contains("cannot be opened")
        );
    }
}
