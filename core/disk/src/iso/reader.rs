//! Reads an ISO: its two trees, one directory at a time.

use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::content::Content;
use super::entry::{Entry, EntryKind};
use super::record::{self, Dialect};
use super::volume::{Root, Volume};
use crate::error::{Error, Kind};
use crate::field::index;
use crate::format::Image;

/// Maximum number of symbolic links that are followed for one path.
const MAX_LINKS: u32 = 40;

/// An ISO image opened for reading.
///
/// The kinds of its errors: [`Kind::Malformed`] not an ISO, or broken · [`Kind::Truncated`] the file ends too
/// early · [`Kind::NotFound`] no such file inside · [`Kind::Unsupported`] no Joliet tree.
#[derive(Debug)]
pub struct Iso {
    image: Arc<Image>,
    volume: Volume,
    dialect: Dialect,
}

impl Iso {
    /// Opens an ISO and checks that the file is as long as the volume declares.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let image = Image::open(path)?;
        let volume = Volume::read(&image)?;
        let dialect = record::detect(&image, volume.root)?;
        Ok(Self { image: Arc::new(image), volume, dialect })
    }

    /// Returns the file that this ISO was opened from.
    pub fn path(&self) -> &Path {
        &self.image.path
    }

    /// Returns the label of the volume.
    pub fn label(&self) -> &str {
        &self.volume.label
    }

    /// Returns whether the main tree has Rock Ridge names. Without them, names are upper case and looked up
    /// case-insensitively.
    pub fn has_rock_ridge(&self) -> bool {
        matches!(self.dialect, Dialect::RockRidge(_))
    }

    /// Returns whether the ISO has a Joliet tree.
    pub fn has_joliet(&self) -> bool {
        self.volume.joliet.is_some()
    }

    /// Returns the names in the root of the Joliet tree.
    pub fn joliet_root_names(&self) -> Result<Vec<String>, Error> {
        Ok(self.joliet_list("/")?.into_iter().map(|entry| entry.name).collect())
    }

    /// Returns the entries of a directory in the Joliet tree.
    pub fn joliet_list(&self, path: &str) -> Result<Vec<Entry>, Error> {
        let root = self.volume.joliet.ok_or_else(|| {
            self.image
                .unsupported("there is no Joliet tree")
                .with_hint("take the vendor's original ISO; a rewritten one may have lost it")
        })?;
        self.list_in(root, Dialect::Joliet, path)
    }

    /// Returns the entries of a directory in the main tree.
    pub fn list(&self, path: &str) -> Result<Vec<Entry>, Error> {
        self.list_in(self.volume.root, self.dialect, path)
    }

    /// Returns the entry that a path of the main tree leads to. Symbolic links are followed and never leave
    /// the image.
    pub fn find(&self, path: &str) -> Result<Entry, Error> {
        self.find_in(self.volume.root, self.dialect, path)
    }

    /// Reads the whole content of a file, which must not be larger than `limit` bytes.
    pub fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let mut content = self.open_file(path)?;
        if content.len() > limit {
            let message =
                format!("`{path}` has {} bytes, more than the {limit} expected, in", content.len());
            return Err(Error::new(Kind::Unsupported, message).at(&self.image.path));
        }
        let mut bytes = Vec::with_capacity(index(content.len()));
        content.read_to_end(&mut bytes).map_err(|source| {
            Error::io(&format!("cannot read `{path}` in"), self.path(), source)
        })?;
        Ok(bytes)
    }

    /// Opens a file of the main tree as a stream, after checking that all of it is inside the image.
    pub fn open_file(&self, path: &str) -> Result<Content, Error> {
        let entry = self.find(path)?;
        if entry.kind != EntryKind::File {
            let message = format!("`{path}` is no file in");
            return Err(Error::new(Kind::NotFound, message).at(&self.image.path));
        }
        for (offset, len) in &entry.extents {
            // The extent of an empty file is not used and may have any offset.
            if *len > 0 && !self.image.holds(*offset, *len) {
                return Err(self.image.truncated(&format!("`{path}`"), offset + len));
            }
        }
        Ok(Content::new(Arc::clone(&self.image), entry.extents))
    }

    fn list_in(&self, root: Root, dialect: Dialect, path: &str) -> Result<Vec<Entry>, Error> {
        let directory = self.find_in(root, dialect, path)?;
        if directory.kind == EntryKind::Folder {
            self.read_directory(&directory, dialect)
        } else {
            Err(Error::new(Kind::NotFound, format!("`{path}` is no folder in")).at(self.path()))
        }
    }

    fn read_directory(&self, directory: &Entry, dialect: Dialect) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        record::check_length(&self.image, directory.size, directory.extents[0].0)?;
        for (offset, len) in &directory.extents {
            let place = Root { offset: *offset, len: *len };
            entries.extend(record::read_directory(&self.image, place, self.volume.block, dialect)?);
        }
        Ok(entries)
    }

    fn find_in(&self, root: Root, dialect: Dialect, path: &str) -> Result<Entry, Error> {
        let missing =
            || Error::new(Kind::NotFound, format!("there is no `{path}` in")).at(&self.image.path);
        let mut directories = vec![Entry {
            name: "/".to_owned(),
            kind: EntryKind::Folder,
            size: root.len,
            mode: None,
            extents: vec![(root.offset, root.len)],
        }];
        let mut todo: VecDeque<String> = components(path).collect();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                directories.truncate((directories.len() - 1).max(1));
                continue;
            }
            let directory = directories.last().expect("the root is never removed");
            let entries = self.read_directory(directory, dialect)?;
            let same = |entry: &Entry| match dialect {
                Dialect::RockRidge(_) => entry.name == name,
                Dialect::Plain | Dialect::Joliet => entry.name.eq_ignore_ascii_case(&name),
            };
            let entry = entries.into_iter().find(same).ok_or_else(missing)?;
            match &entry.kind {
                EntryKind::Folder => directories.push(entry),
                EntryKind::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        let message = format!("too many symbolic links lead to `{path}`");
                        return Err(self.image.malformed(&message));
                    }
                    if target.starts_with('/') {
                        directories.truncate(1);
                    }
                    for part in components(target).rev() {
                        todo.push_front(part);
                    }
                }
                EntryKind::File | EntryKind::Other if todo.is_empty() => return Ok(entry),
                EntryKind::File | EntryKind::Other => return Err(missing()),
            }
        }
        Ok(directories.pop().expect("the root is never removed"))
    }
}

fn components(path: &str) -> impl DoubleEndedIterator<Item = String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned)
}
