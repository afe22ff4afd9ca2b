//! Reads files of file systems, and of the tree that a system mounts from several of them. What cannot be read is a
//! remark of the inspection, and reads as missing.

use std::cell::RefCell;
use std::io::Read;
use std::rc::Rc;

use crate::bytes::index;
use crate::fs::{Entry, FileSystem, Kind, Opened};
use crate::model::Evidence;
use crate::source::{Fault, Source};

/// Maximum length of a configuration file in bytes.
const MAX_TEXT: usize = 2 << 20;
/// Maximum number of text files that are read from one directory.
const MAX_TEXTS: usize = 200;
/// Maximum number of remarks.
const MAX_REMARKS: usize = 50;

/// Remarks of an inspection, shared by all its readers.
#[derive(Clone, Default)]
pub(crate) struct Remarks(Rc<RefCell<Vec<String>>>);

impl Remarks {
    /// Adds a sentence without a full stop, once.
    pub(crate) fn add(&self, text: String) {
        let mut all = self.0.borrow_mut();
        if all.len() < MAX_REMARKS && !all.contains(&text) {
            all.push(text);
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// A text file.
pub(crate) struct Text {
    pub(crate) volume: String,
    pub(crate) path: String,
    pub(crate) content: String,
}

impl Text {
    /// Returns the lines with their numbers, counted from 1, without white space around them.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (u32, &str)> {
        (1..).zip(self.content.lines().map(str::trim))
    }

    /// Returns the lines that are not empty and not a comment.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (u32, &str)> {
        self.lines().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    }

    pub(crate) fn evidence(&self, line: u32, text: &str) -> Evidence {
        Evidence::of(&self.volume, &self.path).at_line(line).quoting(text)
    }
}

/// A file system that can be read.
pub(crate) struct Mounted {
    /// The name of its volume in reports.
    pub(crate) name: String,
    /// See [`crate::volume::Named`].
    pub(crate) aliases: Vec<String>,
    pub(crate) is_esp: bool,
    pub(crate) kind: &'static str,
    pub(crate) source: Source,
    pub(crate) fs: Box<dyn FileSystem>,
    pub(crate) remarks: Remarks,
}

impl Mounted {
    fn seen<T>(&self, path: &str, found: Result<T, Fault>) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err(Fault::Damaged(why)) => {
                self.remarks.add(format!("cannot read `{path}` on {}: {why}", self.name));
                None
            }
            Err(Fault::Missing | Fault::Stopped) => None,
        }
    }

    pub(crate) fn kind(&self, path: &str) -> Option<Kind> {
        self.seen(path, self.fs.kind(path))
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.kind(path).is_some()
    }

    pub(crate) fn open(&self, path: &str) -> Option<Opened> {
        self.seen(path, self.fs.open(path))
    }

    /// Returns the entries of a directory in the order of their names.
    pub(crate) fn list(&self, path: &str) -> Vec<Entry> {
        let mut found = self.seen(path, self.fs.list(path)).unwrap_or_default();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Returns at most the first `most` bytes of a file.
    pub(crate) fn head(&self, path: &str, most: usize) -> Option<Vec<u8>> {
        let opened = self.open(path)?;
        let mut bytes = Vec::with_capacity(index(opened.len).min(most));
        let read = opened.reader.take(most as u64).read_to_end(&mut bytes);
        if let Err(error) = read {
            if !self.source.is_stopped() {
                self.remarks.add(format!("cannot read `{path}` on {}: {error}", self.name));
            }
            return None;
        }
        Some(bytes)
    }

    /// Returns a text file; what is not UTF-8 is replaced.
    pub(crate) fn text(&self, path: &str) -> Option<Text> {
        let bytes = self.head(path, MAX_TEXT)?;
        let content = String::from_utf8_lossy(&bytes).into_owned();
        Some(Text { volume: self.name.clone(), path: path.to_owned(), content })
    }

    /// Returns the text files of a directory whose name has this ending, at most [`MAX_TEXTS`].
    ///
    /// One at a time is in memory.
    pub(crate) fn texts<'a>(
        &'a self,
        directory: &'a str,
        ending: &'a str,
    ) -> impl Iterator<Item = Text> + 'a {
        let names = self.list(directory).into_iter().map(|entry| entry.name);
        let names = names.filter(move |name| name.to_lowercase().ends_with(ending)).take(MAX_TEXTS);
        names.filter_map(move |name| self.text(&format!("{directory}/{name}")))
    }

    pub(crate) fn evidence(&self, path: &str) -> Evidence {
        Evidence::of(&self.name, path)
    }
}

/// A root file system with what is mounted below it.
pub(crate) struct Tree {
    /// Mount points with their file systems; the longest come first, the last is `/`.
    mounts: Vec<(String, Rc<Mounted>)>,
}

impl Tree {
    pub(crate) fn new(root: Rc<Mounted>) -> Self {
        Self { mounts: vec![(String::new(), root)] }
    }

    pub(crate) fn mount(&mut self, point: &str, mounted: Rc<Mounted>) {
        let point = point.trim_end_matches('/').to_owned();
        if self.mounts.iter().all(|(other, _)| *other != point) {
            self.mounts.push((point, mounted));
            self.mounts.sort_by_key(|(point, _)| std::cmp::Reverse(point.len()));
        }
    }

    /// Returns the file system that holds a path, and the path in it.
    pub(crate) fn locate<'a>(&'a self, path: &'a str) -> Option<(&'a Rc<Mounted>, &'a str)> {
        self.mounts.iter().find_map(|(point, mounted)| {
            let rest = path.strip_prefix(point.as_str())?;
            match rest {
                "" => Some((mounted, "/")),
                _ if rest.starts_with('/') => Some((mounted, rest)),
                _ => None,
            }
        })
    }

    fn at<T>(&self, path: &str, read: impl FnOnce(&Mounted, &str) -> T) -> Option<T> {
        self.locate(path).map(|(mounted, rest)| read(mounted, rest))
    }

    pub(crate) fn kind(&self, path: &str) -> Option<Kind> {
        self.at(path, Mounted::kind).flatten()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.kind(path).is_some()
    }

    pub(crate) fn list(&self, path: &str) -> Vec<Entry> {
        self.at(path, Mounted::list).unwrap_or_default()
    }

    pub(crate) fn open(&self, path: &str) -> Option<Opened> {
        self.at(path, Mounted::open).flatten()
    }

    pub(crate) fn head(&self, path: &str, most: usize) -> Option<Vec<u8>> {
        self.at(path, |mounted, rest| mounted.head(rest, most)).flatten()
    }

    pub(crate) fn text(&self, path: &str) -> Option<Text> {
        let text = self.at(path, Mounted::text).flatten()?;
        Some(Text { path: path.to_owned(), ..text })
    }

    pub(crate) fn texts<'a>(
        &'a self,
        directory: &'a str,
        ending: &'a str,
    ) -> impl Iterator<Item = Text> + 'a {
        let names = self.list(directory).into_iter().map(|entry| entry.name);
        let names = names.filter(move |name| name.ends_with(ending)).take(MAX_TEXTS);
        names.filter_map(move |name| self.text(&format!("{directory}/{name}")))
    }

    pub(crate) fn evidence(&self, path: &str) -> Evidence {
        let volume = self.locate(path).map_or("disk", |(mounted, _)| mounted.name.as_str());
        Evidence::of(volume, path)
    }
}
