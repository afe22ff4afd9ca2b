//! Gives the fuzz targets the readers of single files, without a disk around them. Not part of the interface.

use std::io::Cursor;

use crate::model::{Initramfs, VolumeFacts};
use crate::source::{Limits, Source};
use crate::tree::Text;
use crate::{boot, initramfs, system, volume};

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
