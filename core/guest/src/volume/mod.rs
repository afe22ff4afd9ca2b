//! Finds the volumes of a disk: partitions, logical volumes, or the whole disk, and recognises what each holds.
//!
//! ```text
//! signature.rs   names the content of a volume by its signature, with its UUID and label
//! lvm.rs         physical volumes and the logical volumes in them;  lvm_text.rs  its metadata text
//! ```

mod lvm;
mod lvm_text;
mod signature;

use std::rc::Rc;

use build_image_disk::facts::{Facts, Role};

use crate::source::{Fault, Source};
pub(crate) use signature::{Content, recognise};

/// A range of bytes on the disk: offset and length.
pub(crate) type Piece = (u64, u64);

/// Consecutive bytes that a file system may fill, in one or more pieces of the disk.
#[derive(Clone)]
pub(crate) struct Volume {
    pub(crate) source: Source,
    pieces: Rc<[Piece]>,
    /// Length in bytes.
    pub(crate) len: u64,
}

impl Volume {
    pub(crate) fn new(source: &Source, pieces: &[Piece]) -> Self {
        let len = pieces.iter().fold(0_u64, |sum, (_, len)| sum.saturating_add(*len));
        Self { source: source.clone(), pieces: pieces.into(), len }
    }

    /// Fills `buf` from offset `at` of the volume.
    pub(crate) fn read(&self, buf: &mut [u8], at: u64) -> Result<(), Fault> {
        let (mut rest, mut skip) = (buf, at);
        for (start, len) in self.pieces.iter() {
            if rest.is_empty() {
                return Ok(());
            }
            let Some(left) = len.checked_sub(skip).filter(|left| *left > 0) else {
                skip -= len;
                continue;
            };
            let now = crate::bytes::index(left).min(rest.len());
            let (first, after) = rest.split_at_mut(now);
            let place = start.checked_add(skip);
            let place = place.ok_or_else(|| Fault::damaged("an offset is too large"))?;
            self.source.read(first, place)?;
            (rest, skip) = (after, 0);
        }
        if rest.is_empty() {
            return Ok(());
        }
        Err(Fault::damaged("it refers to bytes behind the end of its volume"))
    }

    /// Returns at most `most` bytes from offset `at`, fewer at the end of the volume.
    pub(crate) fn head(&self, at: u64, most: usize) -> Result<Vec<u8>, Fault> {
        let there = crate::bytes::index(self.len.saturating_sub(at)).min(most);
        let mut buf = vec![0; there];
        self.read(&mut buf, at)?;
        Ok(buf)
    }
}

/// A volume with its names and its content.
pub(crate) struct Named {
    /// How reports name it: `partition 1`, `logical volume vg/root`, `disk`.
    pub(crate) name: String,
    /// The number of the partition, for partitions.
    pub(crate) partition: Option<u32>,
    /// Names below /dev that are the same on every machine: `PARTUUID=…`, `/dev/vg/root`.
    pub(crate) aliases: Vec<String>,
    pub(crate) is_esp: bool,
    pub(crate) volume: Option<Volume>,
    pub(crate) content: Content,
    /// Why it is not inspected.
    pub(crate) reason: Option<String>,
}

/// Returns the volumes of the disk, logical volumes behind the partitions.
pub(crate) fn find(source: &Source, facts: &Facts) -> Result<Vec<Named>, Fault> {
    let mut found = Vec::new();
    for partition in &facts.partitions {
        let len = partition.len.min(source.size().saturating_sub(partition.start));
        let volume = Volume::new(source, &[(partition.start, len)]);
        let partuuid = partition.partuuid();
        found.push(named(
            format!("partition {}", partition.number),
            vec![format!("PARTUUID={partuuid}"), format!("/dev/disk/by-partuuid/{partuuid}")],
            volume,
        )?);
        if let Some(last) = found.last_mut() {
            last.partition = Some(partition.number);
            last.is_esp = partition.role == Role::EfiSystem;
        }
    }
    if facts.partitions.is_empty() {
        let volume = Volume::new(source, &[(0, source.size())]);
        found.push(named("disk".to_owned(), Vec::new(), volume)?);
    }
    let physical = found.iter().filter(|named| named.content.kind == "LVM2");
    let physical: Vec<Volume> = physical.filter_map(|named| named.volume.clone()).collect();
    for logical in lvm::read(source, &physical)? {
        let pieces = match logical.pieces {
            Ok(pieces) => pieces,
            Err(reason) => {
                let content = Content::unknown();
                let (name, aliases) = (logical.name, logical.aliases);
                let (partition, is_esp, volume) = (None, false, None);
                let reason = Some(reason);
                found.push(Named { name, partition, aliases, is_esp, volume, content, reason });
                continue;
            }
        };
        let volume = Volume::new(source, &pieces);
        let mut volume = named(logical.name, logical.aliases, volume)?;
        if volume.content.kind == "LVM2" {
            volume.reason = Some("LVM inside of a logical volume".to_owned());
        }
        found.push(volume);
    }
    Ok(found)
}

fn named(name: String, mut aliases: Vec<String>, volume: Volume) -> Result<Named, Fault> {
    let content = match recognise(&volume) {
        Ok(content) => content,
        Err(Fault::Stopped) => return Err(Fault::Stopped),
        Err(_) => Content::unknown(),
    };
    let names = [("UUID", &content.uuid, "by-uuid"), ("LABEL", &content.label, "by-label")];
    for (key, value, directory) in names {
        if let Some(value) = value {
            aliases.push(format!("{key}={value}"));
            aliases.push(format!("/dev/disk/{directory}/{value}"));
        }
    }
    let reason = content.not_inspected.map(str::to_owned);
    let (partition, is_esp, volume) = (None, false, Some(volume));
    Ok(Named { name, partition, aliases, is_esp, volume, content, reason })
}

/// Parses a metadata text, for fuzzing.
pub(crate) fn parse_lvm(text: &str) {
    let _ = lvm_text::parse(text);
}
