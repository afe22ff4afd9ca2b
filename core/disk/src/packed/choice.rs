//! Decides which member of an archive is the disk: the one that the user names, the one that an OVF descriptor names,
//! or the only one whose name is that of a disk.

use std::path::Path;

use crate::error::{Error, Kind};

/// Suffixes of disk images.
const DISKS: [&str; 9] = ["raw", "img", "dd", "qcow2", "qcow", "vmdk", "vhd", "vhdx", "vdi"];
/// Suffixes of compressed files.
const PACKED: [&str; 8] = ["gz", "xz", "zst", "zstd", "bz2", "lz4", "lzma", "z"];
/// Suffixes of archives.
const ARCHIVES: [&str; 4] = ["ova", "tar", "tgz", "zip"];
/// Most names that a message lists.
const MOST_NAMES: usize = 12;

/// Returns the usual suffixes of disk images, of compressed files, and of archives.
pub fn suffixes() -> impl Iterator<Item = &'static str> {
    DISKS.into_iter().chain(PACKED).chain(ARCHIVES)
}

/// The wishes about a member.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    /// The name that the user wrote.
    pub(super) wanted: Option<String>,
    /// The names of the disks in the OVF descriptor of the archive.
    pub(super) described: Vec<String>,
}

impl Choice {
    /// Whether a member may be the disk.
    pub(super) fn accepts(&self, name: &str) -> bool {
        let name = plain(name);
        let file = name.rsplit('/').next().unwrap_or(name);
        if let Some(wanted) = &self.wanted {
            let wanted = plain(wanted);
            return wanted == name || !wanted.contains('/') && wanted == file;
        }
        if !self.described.is_empty() {
            return self.described.iter().any(|described| described == file);
        }
        !file.starts_with("._") && !name.starts_with("__MACOSX/") && is_disk(file)
    }

    /// Returns the only member that is accepted.
    ///
    /// # Errors
    /// When there is none or more than one; the message lists the names.
    pub(super) fn of<'n>(&self, path: &Path, names: &[&'n str]) -> Result<&'n str, Error> {
        names.iter().try_for_each(|name| check_name(path, name))?;
        let accepted: Vec<&str> = names.iter().copied().filter(|name| self.accepts(name)).collect();
        match (accepted[..].len(), names) {
            (1, _) => Ok(accepted[0]),
            // A single member needs no name that says what it is.
            (0, [only]) if self.wanted.is_none() && self.described.is_empty() => Ok(only),
            (0, _) => Err(self.none(path, names)),
            _ => Err(several(path, &accepted)),
        }
    }

    /// The error for an archive without an accepted member.
    pub(super) fn none(&self, path: &Path, names: &[&str]) -> Error {
        let message = match &self.wanted {
            Some(wanted) => format!("no member `{wanted}` is in"),
            None if !self.described.is_empty() => {
                format!(
                    "the disk `{}` of the OVF descriptor is not in",
                    self.described.join("`, `")
                )
            }
            None if names.is_empty() => "no file is in".to_owned(),
            None => "no member with the name of a disk image is in".to_owned(),
        };
        let error = Error::new(Kind::Unsupported, message).at(path);
        if names.is_empty() {
            return error;
        }
        error.with_hint(format!("name one with --disk-member; it has {}", list(names)))
    }
}

/// The error for an archive with several disks.
pub(super) fn several(path: &Path, names: &[&str]) -> Error {
    Error::new(Kind::Unsupported, "more than one disk image is in")
        .at(path)
        .with_hint(format!("name one with --disk-member: {}", list(names)))
}

/// Refuses a name that leaves its directory: the archive was made to harm, whatever is done with its names.
pub(super) fn check_name(path: &Path, name: &str) -> Result<(), Error> {
    if name.starts_with('/') || name.split('/').any(|part| part == "..") {
        let message = format!("the member `{name}` has a path that leaves its directory, in");
        return Err(Error::new(Kind::Malformed, message)
            .at(path)
            .with_hint("extract the disk with care, and give it itself"));
    }
    Ok(())
}

/// A name without the `./` that tar writes.
fn plain(name: &str) -> &str {
    name.strip_prefix("./").unwrap_or(name)
}

fn is_disk(file: &str) -> bool {
    let mut stem = file.to_lowercase();
    loop {
        let Some((rest, suffix)) = stem.rsplit_once('.') else { return false };
        if DISKS.contains(&suffix) {
            return true;
        }
        if !PACKED.contains(&suffix) {
            return false;
        }
        stem = rest.to_owned();
    }
}

fn list(names: &[&str]) -> String {
    let shown: Vec<String> =
        names.iter().take(MOST_NAMES).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_the_one_that_is_named_described_or_alone() {
        let choice = |wanted: Option<&str>, described: &[&str]| Choice {
            wanted: wanted.map(str::to_owned),
            described: described.iter().map(|name| (*name).to_owned()).collect(),
        };
        for (choice, names, want) in [
            (choice(None, &[]), &["disk.raw"][..], Ok("disk.raw")),
            (choice(None, &[]), &["./disk.raw", "._disk.raw", "README"], Ok("./disk.raw")),
            (choice(None, &[]), &["whatever"], Ok("whatever")),
            (choice(None, &[]), &["a/vm.VMDK.gz", "vm.ovf", "vm.mf"], Ok("a/vm.VMDK.gz")),
            (choice(None, &[]), &["one.img", "two.img"], Err("more than one")),
            (choice(None, &[]), &["one", "two"], Err("no member with the name of a disk image")),
            (choice(None, &[]), &[], Err("no file")),
            (choice(None, &[]), &["../disk.raw"], Err("leaves its directory")),
            (choice(None, &[]), &["/etc/disk.raw"], Err("leaves its directory")),
            (choice(Some("two.img"), &[]), &["one.img", "x/two.img"], Ok("x/two.img")),
            (choice(Some("x/two.img"), &["one.img"]), &["one.img", "x/two.img"], Ok("x/two.img")),
            (choice(Some("two"), &[]), &["one.img"], Err("no member `two`")),
            (choice(Some("a"), &[]), &["x/a", "y/a"], Err("more than one")),
            (choice(None, &["b.vmdk"]), &["vm.ovf", "a.vmdk", "b.vmdk"], Ok("b.vmdk")),
            (choice(None, &["c.vmdk"]), &["vm.ovf", "a.vmdk"], Err("the disk `c.vmdk`")),
        ] {
            let found = choice.of(Path::new("archive"), names);
            match (found, want) {
                (Ok(found), Ok(want)) => assert_eq!(found, want),
                (Err(error), Err(want)) => {
                    assert!(error.to_string().contains(want), "{names:?}: {error}");
                }
                (found, want) => panic!("{names:?}: {found:?}, not {want:?}"),
            }
        }
    }
}
