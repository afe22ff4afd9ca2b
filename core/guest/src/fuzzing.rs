//! Gives the fuzz targets the readers of single files, without a disk around them. Not part of the interface.

use std::io::Cursor;

use crate::model::{Initramfs, VolumeFacts};
use crate::source::{Fault, Limits, Source};
use crate::tree::Text;
use crate::{boot, initramfs, sbom, system, volume};

/// Reads an initramfs.
pub fn initramfs(bytes: &[u8], limits: Limits) -> Initramfs {
    let source = Source::new(None, limits);
    initramfs::read(Box::new(Cursor::new(bytes.to_vec())), bytes.len() as u64, &source)
}

/// Reads the same bytes as every file whose text or headers are parsed.
pub fn files(bytes: &[u8]) {
    let content = String::from_utf8_lossy(bytes).into_owned();
    let text = Text { volume: "partition 1".to_owned(), path: "/x/y.conf".to_owned(), content };
    boot::parse(&text, bytes);
    volume::parse_lvm(&text.content);
    let volume = VolumeFacts { aliases: vec!["UUID=1".to_owned()], ..VolumeFacts::default() };
    for entry in system::fstab_entries(&text, &[volume]) {
        system::is_remote(&entry);
    }
}

/// Reads the same bytes as a database of rpm of every kind, with the log of SQLite. Returns the number of packages of
/// each that could be read.
pub fn rpm(database: &[u8], log: &[u8], limits: Limits) -> Vec<Option<usize>> {
    let source = Source::new(None, limits);
    let found = sbom::rpm_databases(database, log, &source).into_iter();
    found.map(|found| found.map_err(|fault| assert_ne!(fault, Fault::Stopped)).ok()).collect()
}
