//! Finds the files that a boot entry names, and reads its initramfs.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;

use super::{Raw, pe};
use crate::initramfs;
use crate::model::{BootEntry, Initramfs, InitramfsFile, Located};
use crate::source::Source;
use crate::tree::Mounted;

/// Maximum number of entries, and of initramfs files that are read.
const MAX_ENTRIES: usize = 100;
const MAX_INITRAMFS: usize = 3;

/// Reads the files of all entries.
pub(super) fn entries(
    mounted: &[Rc<Mounted>],
    raws: Vec<Raw>,
    source: &Source,
    all_read: bool,
) -> Vec<BootEntry> {
    let mut resolver = Resolver { mounted, source, all_read, read: BTreeMap::new() };
    raws.into_iter().take(MAX_ENTRIES).map(|raw| resolver.entry(raw)).collect()
}

struct Resolver<'a> {
    mounted: &'a [Rc<Mounted>],
    source: &'a Source,
    all_read: bool,
    /// What was read, by file system and path.
    read: BTreeMap<(usize, String), Arc<Initramfs>>,
}

impl Resolver<'_> {
    fn entry(&mut self, raw: Raw) -> BootEntry {
        let place = self.find(&raw, &raw.kernel);
        let head = place.as_ref().and_then(|(on, path)| self.mounted[*on].head(path, pe::HEAD));
        let head = head.unwrap_or_default();
        let kernel = Located {
            is_signed: pe::parse(&head).is_some_and(|program| program.is_signed),
            ..self.located(&raw, &raw.kernel, place.as_ref())
        };
        let version = pe::kernel_version(&head).or_else(|| raw.version.clone());
        let version = version.or_else(|| version_in_name(&raw.kernel));
        let mut initramfs = Vec::new();
        if let (Some((offset, len)), Some((on, path))) = (raw.inside, place) {
            let content = self.read(on, &path, Some((offset, len)));
            let file = self.located(&raw, &raw.kernel, Some(&(on, path)));
            initramfs.push(InitramfsFile { file, content });
        }
        for name in &raw.initrds {
            let place = self.find(&raw, name);
            let file = self.located(&raw, name, place.as_ref());
            let content = place.and_then(|(on, path)| self.read(on, &path, None));
            initramfs.push(InitramfsFile { file, content });
        }
        let Raw { loader, title, is_default, evidence, arguments, mut arguments_at, .. } = raw;
        if arguments_at.file.is_empty() {
            arguments_at = evidence.clone();
        }
        BootEntry {
            loader: loader.to_owned(),
            title,
            is_default,
            evidence,
            arguments,
            arguments_at,
            kernel,
            version,
            initramfs,
        }
    }

    /// Returns the file system and the path in it.
    fn find(&self, raw: &Raw, path: &str) -> Option<(usize, String)> {
        // GRUB allows `(hd0,gpt2)/vmlinuz` and `($root)/vmlinuz`.
        let path = path.rsplit_once(')').map_or(path, |(_, path)| path);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let order = match raw.on {
            Some(on) => vec![on],
            None => std::iter::once(raw.home).chain(0..self.mounted.len()).collect(),
        };
        let mut places = order.into_iter();
        places
            .find(|on| self.mounted.get(*on).is_some_and(|one| one.has(&path)))
            .map(|on| (on, path))
    }

    fn located(&self, raw: &Raw, path: &str, place: Option<&(usize, String)>) -> Located {
        let volume = place.map(|(on, _)| self.mounted[*on].name.clone());
        // Paths of syslinux are on its own file system; those of GRUB without a search could be anywhere.
        let may_be_elsewhere =
            volume.is_none() && !self.all_read && raw.on.is_none() && raw.loader == "GRUB";
        Located { path: path.to_owned(), volume, may_be_elsewhere, is_signed: false }
    }

    fn read(&mut self, on: usize, path: &str, range: Option<(u64, u64)>) -> Option<Arc<Initramfs>> {
        let key = (on, path.to_owned());
        if let Some(known) = self.read.get(&key) {
            return Some(Arc::clone(known));
        }
        if self.read.len() >= MAX_INITRAMFS {
            return None;
        }
        let mut opened = self.mounted.get(on)?.open(path)?;
        let found = match range {
            None => initramfs::read(opened.reader, opened.len, self.source),
            Some((offset, len)) => {
                // A short file shows when the initramfs is read.
                let _ = io::copy(&mut (&mut opened.reader).take(offset), &mut io::sink());
                initramfs::read(Box::new(opened.reader.take(len)), len, self.source)
            }
        };
        let found = Arc::new(found);
        self.read.insert(key, Arc::clone(&found));
        Some(found)
    }
}

/// Returns the version in the name of a kernel: `vmlinuz-6.1.0-18-amd64`.
fn version_in_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let prefixes = ["vmlinuz-", "vmlinux-", "bzImage-", "Image-", "kernel-"];
    let version = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    version.starts_with(|letter: char| letter.is_ascii_digit()).then(|| version.to_owned())
}
