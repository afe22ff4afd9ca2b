//! Reads LVM2: finds the metadata of physical volumes and the linear logical volumes in them. Source: lvm2,
//! lib/format_text/layout.h and lib/label/label.h. Other kinds of segments are reported, but not read.

use std::collections::BTreeMap;

use super::lvm_text::{Node, parse};
use super::{Piece, Volume};
use crate::bytes::{array, index, le32, le64};
use crate::source::{Fault, Source};

const SECTOR: u64 = 512;
/// Maximum length of a metadata text in bytes; a usual area has 1 MiB.
const MAX_TEXT: u64 = 1 << 20;
/// Maximum number of areas that a header lists, and of physical volumes and segments that are followed.
const MAX_AREAS: usize = 8;
const MAX_SEGMENTS: usize = 1024;
const AREA_MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";

/// A logical volume.
pub(super) struct Logical {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    /// Its bytes on the disk, or why they are not known.
    pub(super) pieces: Result<Vec<Piece>, String>,
}

struct Physical {
    /// 32 characters without dashes.
    id: String,
    volume: Volume,
    text: Option<String>,
}

/// Returns the logical volumes of all volume groups. Logical volumes on missing disks are reported as such.
pub(super) fn read(source: &Source, volumes: &[Volume]) -> Result<Vec<Logical>, Fault> {
    let mut physical = Vec::new();
    for volume in volumes.iter().take(MAX_AREAS) {
        match open(volume) {
            Ok(Some(opened)) => physical.push(opened),
            Err(Fault::Stopped) => return Err(Fault::Stopped),
            Ok(None) | Err(_) => {}
        }
    }
    // Every physical volume of a group has the same text; the one that was written last counts.
    let mut groups: BTreeMap<String, (u64, Node)> = BTreeMap::new();
    for text in physical.iter().filter_map(|physical| physical.text.as_deref()) {
        source.step()?;
        let Some(Node::Section(members)) = parse(text) else { continue };
        for (name, group) in members.into_iter().filter(|(_, node)| node.get("id").is_some()) {
            let written = group.number("seqno").unwrap_or_default();
            if groups.get(&name).is_none_or(|(before, _)| *before < written) {
                groups.insert(name, (written, group));
            }
        }
    }
    let mut found = Vec::new();
    for (group, (_, node)) in &groups {
        let Some(volumes) = node.get("logical_volumes") else { continue };
        for (name, logical) in volumes.members() {
            source.step()?;
            let is_visible = logical.list("status").is_some_and(|flags| {
                flags.iter().any(|flag| matches!(flag, Node::Text(text) if text == "VISIBLE"))
            });
            if is_visible {
                let mapped = format!("{}-{}", group.replace('-', "--"), name.replace('-', "--"));
                let aliases = [format!("/dev/{group}/{name}"), format!("/dev/mapper/{mapped}")];
                found.push(Logical {
                    name: format!("logical volume {group}/{name}"),
                    aliases: aliases.into(),
                    pieces: pieces(node, logical, &physical),
                });
            }
        }
    }
    Ok(found)
}

/// Returns the bytes of a logical volume.
fn pieces(group: &Node, logical: &Node, physical: &[Physical]) -> Result<Vec<Piece>, String> {
    let malformed = || "the metadata of LVM is malformed".to_owned();
    let extent = group.number("extent_size").ok_or_else(malformed)?;
    let bytes = |extents: u64| extents.checked_mul(extent).and_then(|all| all.checked_mul(SECTOR));
    let count = logical.number("segment_count").ok_or_else(malformed)?;
    if count > MAX_SEGMENTS as u64 {
        return Err(format!("it has {count} segments"));
    }
    let mut found = Vec::new();
    for number in 1..=count {
        let segment = logical.get(&format!("segment{number}")).ok_or_else(malformed)?;
        let kind = segment.text("type").ok_or_else(malformed)?;
        let stripes = segment.number("stripe_count").unwrap_or_default();
        if kind != "striped" || stripes != 1 {
            let kind = if kind == "striped" { format!("{stripes} stripes") } else { kind.into() };
            return Err(format!("a logical volume with a segment of type {kind} is not read"));
        }
        let Some([Node::Text(name), Node::Number(first)]) = segment.list("stripes") else {
            return Err(malformed());
        };
        let on = group.get("physical_volumes").and_then(|all| all.get(name));
        let on = on.ok_or_else(malformed)?;
        let id = on.text("id").ok_or_else(malformed)?.replace('-', "");
        let found_on = physical.iter().find(|physical| physical.id == id);
        let found_on =
            found_on.ok_or_else(|| format!("a part of it is on another disk, {name}"))?;
        let begin = on.number("pe_start").and_then(|sectors| sectors.checked_mul(SECTOR));
        let len = segment.number("extent_count").and_then(bytes);
        let (begin, skip) = (begin.ok_or_else(malformed)?, bytes(*first).ok_or_else(malformed)?);
        let (at, len) =
            (begin.checked_add(skip).ok_or_else(malformed)?, len.ok_or_else(malformed)?);
        found.push(found_on.place(at, len).ok_or_else(malformed)?);
    }
    Ok(found)
}

impl Physical {
    /// Returns where a range of this physical volume is on the disk.
    fn place(&self, at: u64, len: u64) -> Option<Piece> {
        let [(start, whole)] = *self.volume.pieces else { return None };
        let end = at.checked_add(len)?;
        (end <= whole).then_some((start.checked_add(at)?, len))
    }
}

/// Reads the label and the metadata text of a physical volume.
fn open(volume: &Volume) -> Result<Option<Physical>, Fault> {
    let labels = volume.head(0, index(4 * SECTOR))?;
    let sectors = labels.chunks(index(SECTOR)).zip(0_u64..);
    let mut sectors = sectors
        .filter(|(raw, _)| raw.starts_with(b"LABELONE") && raw[24..].starts_with(b"LVM2 001"));
    let Some((label, _)) = sectors.next() else { return Ok(None) };
    let Some(header) = le32(label, 20).map(|at| index(at.into())) else { return Ok(None) };
    let Some(id) = array::<32>(label, header) else { return Ok(None) };
    let id = String::from_utf8_lossy(&id).into_owned();
    // Two lists of (offset, length), each with an empty entry at its end: data, then metadata.
    let (mut at, mut ended, mut text) = (header + 40, 0, None);
    for _ in 0..2 * MAX_AREAS {
        let (Some(offset), Some(len)) = (le64(label, at), le64(label, at + 8)) else { break };
        at += 16;
        match (ended, offset) {
            (0, 0) => ended = 1,
            (0, _) => {}
            (_, 0) => break,
            _ => text = text.or(area(volume, offset, len)?),
        }
    }
    Ok(Some(Physical { id, volume: volume.clone(), text }))
}

/// Reads the text of a metadata area, which is a ring.
fn area(volume: &Volume, start: u64, len: u64) -> Result<Option<String>, Fault> {
    let header = volume.head(start, index(SECTOR))?;
    if header.get(4..20) != Some(AREA_MAGIC) {
        return Ok(None);
    }
    let (Some(at), Some(size)) = (le64(&header, 40), le64(&header, 48)) else { return Ok(None) };
    if size == 0 || size > MAX_TEXT || at < SECTOR || at >= len || size > len - SECTOR {
        return Ok(None);
    }
    let Some(place) = start.checked_add(at) else { return Ok(None) };
    let first = size.min(len - at);
    let mut text = volume.head(place, index(first))?;
    text.extend(volume.head(start + SECTOR, index(size - first))?);
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}
