//! Reads ext2, ext3, and ext4 through the crate ext4-view, after its superblock was checked: the crate allocates what
//! a superblock declares.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Read};

use ext4_view::{Ext4, Ext4Error, Ext4Read, File, FileType, Metadata};

use super::{Entry, FileSystem, Kind, MAX_ENTRIES, Opened};
use crate::bytes::{le16, le32};
use crate::source::{Fault, Source};
use crate::volume::Volume;

/// Largest block, 64 KiB, as the logarithm of its KiB.
const MAX_LOG_BLOCK: u64 = 6;
/// Maximum number of symbolic links that lead to one file, and longest target in bytes; those of Linux.
const MAX_LINKS: u32 = 40;
const MAX_TARGET: u64 = 4096;
/// Maximum number of block groups: 32 TiB with the usual blocks.
const MAX_GROUPS: u64 = 1 << 18;

pub(super) struct Ext {
    volume: Volume,
    inner: Ext4,
}

struct Reader(Volume);

impl Ext4Read for Reader {
    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), Box<dyn StdError + Send + Sync>> {
        self.0.read(buf, at).map_err(|fault| Box::new(Failed(fault)) as _)
    }
}

/// A file whose bytes are counted: its holes are zeros that are not read from the disk, and may be as long as an inode
/// declares.
struct Counted {
    file: File,
    source: Source,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buf)?;
        self.source.unpacked(got as u64).map_err(|fault| io::Error::other(Failed(fault)))?;
        Ok(got)
    }
}

/// A fault on its way through the crate.
#[derive(Debug)]
struct Failed(Fault);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Fault::Damaged(why) => f.write_str(why),
            Fault::Missing | Fault::Stopped => f.write_str("the inspection ended early"),
        }
    }
}

impl StdError for Failed {}

impl Ext {
    pub(super) fn open(volume: &Volume) -> Result<Self, Fault> {
        check(volume)?;
        let loaded = Ext4::load(Box::new(Reader(volume.clone())));
        match loaded {
            Ok(inner) => Ok(Self { volume: volume.clone(), inner }),
            Err(error) => Err(fault(volume, &error)),
        }
    }

    fn fault(&self, error: &Ext4Error) -> Fault {
        fault(&self.volume, error)
    }

    /// Returns a path without symbolic links, and what is there. The crate would follow links itself, but allocates
    /// what a link declares as its length.
    fn resolve(&self, path: &str) -> Result<(String, Metadata), Fault> {
        let mut rest: Vec<String> = names(path);
        let (mut done, mut links) = (String::from("/"), 0);
        loop {
            self.volume.source.step()?;
            let Some(name) = rest.pop() else {
                let found = self.inner.symlink_metadata(done.as_str());
                return found.map(|found| (done, found)).map_err(|error| self.fault(&error));
            };
            if name == ".." {
                done.truncate(done.rfind('/').unwrap_or(0).max(1));
                continue;
            }
            let place = format!("{}/{name}", done.trim_end_matches('/'));
            let found = self.inner.symlink_metadata(place.as_str());
            let found = found.map_err(|error| self.fault(&error))?;
            if !found.is_symlink() {
                done = place;
                continue;
            }
            links += 1;
            if links > MAX_LINKS || found.len() > MAX_TARGET {
                return Err(Fault::damaged("a symbolic link leads in a circle, or is too long"));
            }
            let target =
                self.inner.read_link(place.as_str()).map_err(|error| self.fault(&error))?;
            let target = target.to_str().map_err(|_| Fault::Missing)?.to_owned();
            if target.starts_with('/') {
                "/".clone_into(&mut done);
            }
            rest.extend(names(&target));
        }
    }
}

/// Returns the names of a path, the last one first.
fn names(path: &str) -> Vec<String> {
    let names = path.split('/').filter(|name| !name.is_empty() && *name != ".");
    names.rev().map(str::to_owned).collect()
}

/// Refuses a superblock that declares more than the volume can hold.
fn check(volume: &Volume) -> Result<(), Fault> {
    let raw = volume.head(1024, 1024)?;
    let field = |at| le32(&raw, at).map(u64::from).unwrap_or_default();
    // The crate counts the upper half of the number of blocks whether the feature 64bit is there or not.
    let blocks = field(4) | field(0x150) << 32;
    if field(24) > MAX_LOG_BLOCK {
        return Err(Fault::damaged("the size of its blocks is malformed"));
    }
    let block = 1024_u64 << field(24);
    let per_group = field(32).max(1);
    if blocks.checked_mul(block).is_none_or(|len| len > volume.len) {
        return Err(Fault::damaged("the file system is longer than its volume"));
    }
    if blocks.div_ceil(per_group) > MAX_GROUPS || le16(&raw, 88) == Some(0) {
        return Err(Fault::damaged("its superblock is malformed"));
    }
    Ok(())
}

fn fault(volume: &Volume, error: &Ext4Error) -> Fault {
    if volume.source.is_stopped() {
        return Fault::Stopped;
    }
    match error {
        Ext4Error::NotFound | Ext4Error::NotADirectory | Ext4Error::IsADirectory => Fault::Missing,
        Ext4Error::IsASpecialFile => Fault::Missing,
        other => Fault::damaged(other.to_string()),
    }
}

fn kind(found: FileType) -> Kind {
    match found {
        FileType::Regular => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

impl FileSystem for Ext {
    fn open(&self, path: &str) -> Result<Opened, Fault> {
        self.volume.source.step()?;
        let (path, _) = self.resolve(path)?;
        let opened = self.inner.open(path.as_str()).map_err(|error| self.fault(&error))?;
        let len = opened.metadata().len();
        let source = self.volume.source.clone();
        Ok(Opened { len, reader: Box::new(Counted { file: opened, source }) })
    }

    fn kind(&self, path: &str) -> Result<Kind, Fault> {
        let (_, found) = self.resolve(path)?;
        Ok(kind(found.file_type()))
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, Fault> {
        self.volume.source.step()?;
        let (path, _) = self.resolve(path)?;
        let entries = self.inner.read_dir(path.as_str()).map_err(|error| self.fault(&error))?;
        let mut found = Vec::new();
        for entry in entries {
            self.volume.source.step()?;
            let entry = entry.map_err(|error| self.fault(&error))?;
            let name = String::from_utf8_lossy(entry.file_name().as_ref()).into_owned();
            if name == "." || name == ".." {
                continue;
            }
            if found.len() >= MAX_ENTRIES {
                break;
            }
            let kind = entry.file_type().map(kind).map_err(|error| self.fault(&error))?;
            found.push(Entry { name, kind });
        }
        Ok(found)
    }
}
