//! Adds a user's files and directories to an initrd. Contents are not read here.

use std::{
    ffi::OsStr,
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Component, Path},
};

use build_image_disk::{
    initrd::{Addition, Content},
    installer::Refusal,
};

use crate::Result;

/// Adds a file or a tree with its modes. If the path that the user named is a link, it is followed; links
/// inside a named directory stay links.
pub(super) fn add(additions: &mut Vec<Addition>, path: String, source: &Path) -> Result<()> {
    let metadata = source.metadata().map_err(|error| unreadable(source, &error))?;
    add_one(additions, path, source, &metadata, 0)
}

/// `depth` counts the directories between the named one and this one.
fn add_one(
    additions: &mut Vec<Addition>,
    path: String,
    source: &Path,
    metadata: &Metadata,
    depth: usize,
) -> Result<()> {
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_symlink() {
        let target = fs::read_link(source).map_err(|error| unreadable(source, &error))?;
        if leaves(&target, depth) {
            return Err(tree_error(
                source,
                &format!("is a link to `{}`, which is outside of the folder", target.display()),
                "name what it points to by its absolute path in the image, or put a copy into the folder",
            ));
        }
        let target = utf8(target.as_os_str(), source)?;
        additions.push(Addition { path, mode: 0o777, content: Content::Symlink(target) });
    } else if metadata.is_dir() {
        additions.push(Addition { path: path.clone(), mode, content: Content::Directory });
        let entries = fs::read_dir(source).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.map_err(|error| unreadable(source, &error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = utf8(&entry.file_name(), &entry.path())?;
            let inner = entry.metadata().map_err(|error| unreadable(&entry.path(), &error))?;
            add_one(additions, format!("{path}/{name}"), &entry.path(), &inner, depth + 1)?;
        }
    } else if metadata.is_file() {
        fs::File::open(source).map_err(|error| unreadable(source, &error))?;
        additions.push(Addition { path, mode, content: Content::File(source.to_owned()) });
    } else {
        let text = format!("is {}, which no image can hold", kind(metadata));
        return Err(tree_error(source, &text, "leave it out"));
    }
    Ok(())
}

/// Returns whether a link's target is above the named directory. An absolute target refers to the installed system.
fn leaves(target: &Path, depth: usize) -> bool {
    let mut level = depth.saturating_sub(1);
    for part in target.components() {
        match part {
            Component::RootDir | Component::Prefix(_) => return false,
            Component::ParentDir if level == 0 => return true,
            Component::ParentDir => level -= 1,
            Component::Normal(_) => level += 1,
            Component::CurDir => {}
        }
    }
    false
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() {
        "a named pipe"
    } else {
        "a device"
    }
}

fn tree_error(source: &Path, what: &str, hint: &str) -> Refusal {
    let text = format!("UPDATE_IMAGE_FILES: `{}` {what}", source.display());
    Refusal::settings(text).hint(hint)
}

fn unreadable(source: &Path, error: &io::Error) -> Refusal {
    let text = format!("UPDATE_IMAGE_FILES: cannot read `{}`", source.display());
    Refusal::settings(text).caused_by(error).hint("check that the file is there and may be read")
}

/// Converts a name to UTF-8. Names are stored unchanged; a name that is not UTF-8 would be changed.
fn utf8(name: &OsStr, source: &Path) -> Result<String> {
    let text = format!("`{name:?}` is not UTF-8");
    name.to_str().map(str::to_owned).ok_or_else(|| tree_error(source, &text, "rename it"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener};

    use super::*;

    fn added(source: &Path) -> Result<Vec<Addition>> {
        let mut additions = Vec::new();
        add(&mut additions, "src".to_owned(), source).map(|()| additions)
    }

    #[test]
    fn a_tree_keeps_hidden_files_blanks_links_and_modes() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join(".hidden file"), "x").unwrap();
        fs::set_permissions(tree.join(".hidden file"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("/nowhere", tree.join("link")).unwrap();
        symlink("../.hidden file", tree.join("sub/up")).unwrap();
        let additions = added(&tree).unwrap();
        let paths: Vec<(&str, u32)> =
            additions.iter().map(|addition| (addition.path.as_str(), addition.mode)).collect();
        assert_eq!(paths[1], ("src/.hidden file", 0o640));
        assert!(matches!(&additions[2].content, Content::Symlink(target) if target == "/nowhere"));
        assert_eq!(paths[4], ("src/sub/up", 0o777));
        // The named path itself is followed.
        symlink(&tree, directory.path().join("named")).unwrap();
        assert_eq!(added(&directory.path().join("named")).unwrap().len(), additions.len());
    }

    #[test]
    fn files_that_no_image_can_hold_are_reported() {
        let directory = tempfile::tempdir().unwrap();
        let case = |name: &str| {
            let tree = directory.path().join(name);
            fs::create_dir_all(tree.join("sub")).unwrap();
            tree
        };
        let (socket, out, deep) = (case("socket"), case("out"), case("deep"));
        let _listener = UnixListener::bind(socket.join("sub/s")).unwrap();
        symlink("../x", out.join("link")).unwrap();
        symlink("a/../../../x", deep.join("sub/link")).unwrap();
        let odd = case("odd");
        fs::write(odd.join(OsStr::from_bytes(b"x\xff")), "").unwrap();
        for (tree, text) in [
            (socket.clone(), "sub/s` is a socket"),
            (socket.join("sub/s"), "is a socket"),
            (Path::new("/dev/null").to_owned(), "`/dev/null` is a device"),
            (out, "is a link to `../x`, which is outside"),
            (deep, "is a link to `a/../../../x`"),
            (odd, "is not UTF-8"),
            (directory.path().join("absent"), "cannot read"),
        ] {
            let error = added(&tree).unwrap_err();
            assert!(error.message.contains(text), "{error}");
            assert!(error.hint.is_some(), "{error}");
        }
    }
}
