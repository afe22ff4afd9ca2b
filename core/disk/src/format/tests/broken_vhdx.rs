//! Tests VHDX images that are corrupted on purpose, with corrected checksums.

use std::fs;
use std::path::{Path, PathBuf};

use crc_fast::{CrcAlgorithm, checksum};

use super::{convert, kind_of, patched, raw_disk, survive};
use crate::Kind;
use crate::field::{index, le32, le64};
use crate::format::{GuestReader, probe};
use crate::testing::program;

const MIB: u64 = 1 << 20;
const KIB: usize = 1 << 10;

fn made(directory: &Path) -> Option<PathBuf> {
    let qemu_img = program("qemu-img")?;
    let raw = directory.join("raw");
    raw_disk(&raw, 4 * MIB, &[(MIB, 200_000), (3 * MIB, 100)]);
    Some(convert(&qemu_img, &raw, "vhdx", &["-o", "subformat=dynamic,block_size=1M"]))
}

/// Corrects the checksums of both headers and both region tables.
fn sealed(mut image: Vec<u8>) -> Vec<u8> {
    for (at, len) in [(64, 4), (128, 4), (192, 64), (256, 64)] {
        let part = &mut image[at * KIB..(at + len) * KIB];
        part[4..8].fill(0);
        let sum = u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, part)).unwrap();
        part[4..8].copy_from_slice(&sum.to_le_bytes());
    }
    image
}

/// Returns the offset of an entry in a table with 16-byte names.
fn entry(table: &[u8], first: &[u8]) -> usize {
    (0..table.len()).step_by(16).find(|at| table[*at..].starts_with(first)).unwrap()
}

/// Offsets of the structures of an image, in bytes.
struct Places {
    bat_entry: usize,
    metadata_entry: usize,
    bat: usize,
    metadata: usize,
    /// The entry of the disk size in the metadata table.
    size_item: usize,
    size: usize,
    parameters: usize,
    sector: usize,
}

impl Places {
    fn of(whole: &[u8]) -> Self {
        let regions = &whole[192 * KIB..256 * KIB];
        let bat_entry = 192 * KIB + entry(regions, &[0x66, 0x77, 0xc2, 0x2d]);
        let metadata_entry = 192 * KIB + entry(regions, &[0x06, 0xa2, 0x7c, 0x8b]);
        let metadata = index(le64(whole, metadata_entry + 16));
        let item = |first: &[u8]| metadata + entry(&whole[metadata..metadata + 64 * KIB], first);
        let value = |item: usize| metadata + index(u64::from(le32(whole, item + 16)));
        let size_item = item(&[0x24, 0x42, 0xa5, 0x2f]);
        Self {
            bat_entry,
            metadata_entry,
            bat: index(le64(whole, bat_entry + 16)),
            metadata,
            size_item,
            size: value(size_item),
            parameters: value(item(&[0x37, 0x67, 0xa1, 0xca])),
            sector: value(item(&[0x1d, 0xbf, 0x41, 0x81])),
        }
    }
}

/// Name, patches, and the expected kind of error.
type Case<'a> = (&'static str, Vec<(usize, &'a [u8])>, Kind);

fn broken_headers<'a>(whole: &'a [u8], at: &Places) -> Vec<Case<'a>> {
    let (bat, metadata) = (at.bat_entry, at.metadata_entry);
    let same_place = &whole[metadata + 16..metadata + 24];
    vec![
        ("version", vec![(64 * KIB + 66, &[2]), (128 * KIB + 66, &[2])], Kind::Unsupported),
        ("region count", vec![(192 * KIB + 8, &[0xff; 4])], Kind::Malformed),
        ("region outside", vec![(bat + 21, &[9])], Kind::Truncated),
        ("region not aligned", vec![(bat + 16, &[1])], Kind::Malformed),
        ("region at the header", vec![(bat + 16, &[0; 8])], Kind::Malformed),
        ("regions overlap", vec![(bat + 16, same_place)], Kind::Malformed),
        ("region twice", vec![(bat, &whole[metadata..metadata + 16])], Kind::Malformed),
        ("unknown region", vec![(bat, &[1]), (bat + 28, &[1])], Kind::Unsupported),
        ("metadata table", vec![(at.metadata, b"M")], Kind::Malformed),
        ("metadata count", vec![(at.metadata + 10, &[0xff; 2])], Kind::Malformed),
        ("unknown item", vec![(at.size_item, &[1])], Kind::Unsupported),
        ("item in the table", vec![(at.size_item + 16, &[0; 4])], Kind::Malformed),
        ("item outside", vec![(at.size_item + 16, &[0xff; 4])], Kind::Malformed),
        ("item too long", vec![(at.size_item + 20, &[9])], Kind::Malformed),
        ("block size", vec![(at.parameters, &[1])], Kind::Malformed),
        ("small block size", vec![(at.parameters, &[0, 0, 8, 0])], Kind::Malformed),
        ("sector size", vec![(at.sector, &[1])], Kind::Malformed),
        ("absurd size", vec![(at.size + 6, &[9])], Kind::Malformed),
        ("size not in sectors", vec![(at.size, &[1])], Kind::Malformed),
        ("more blocks than entries", vec![(at.size + 5, &[1])], Kind::Malformed),
    ]
}

#[test]
fn each_broken_field_of_a_vhdx_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let Some(image) = made(directory.path()) else { return };
    let whole = fs::read(image).unwrap();
    let at = Places::of(&whole);
    let (bat, block) = (at.bat, &whole[at.bat + 8..at.bat + 16]);
    let (far, near) = ([6, 0, 0, 0, 0xff, 0xff, 0xff, 0], [6, 0, 0, 0, 0, 0, 0, 0]);
    let in_table = ((bat as u64) | 6).to_le_bytes();
    let mut cases = broken_headers(&whole, &at);
    cases.extend([
        ("block outside", vec![(bat + 8, &far[..])], Kind::Truncated),
        ("block in the header", vec![(bat + 8, &near)], Kind::Malformed),
        ("block in the table", vec![(bat + 8, &in_table)], Kind::Malformed),
        ("block used twice", vec![(bat, block)], Kind::Malformed),
        ("block partially present", vec![(bat + 8, &[7])], Kind::Malformed),
        ("reserved state", vec![(bat + 8, &[5])], Kind::Malformed),
        ("reserved bits", vec![(bat + 9, &[1])], Kind::Malformed),
    ]);
    let path = directory.path().join("broken");
    assert_eq!(kind_of(&path, &sealed(whole.clone())), None, "the unbroken image is fine");
    for (what, patches, want) in cases {
        let image = sealed(patched(&whole, &patches));
        assert_eq!(kind_of(&path, &image), Some(want), "{what}");
    }
    for len in [8, 64 * KIB, 128 * KIB, 200 * KIB, 1 << 20, bat, at.metadata, whole.len() - 1] {
        assert_eq!(kind_of(&path, &whole[..len]), Some(Kind::Truncated), "cut to {len}");
    }
    let child = patched(&whole, &[(at.parameters + 4, &[2])]);
    assert_eq!(kind_of(&path, &child), None);
    assert_eq!(probe(&path).unwrap().variant, Some("differencing"));
    assert_eq!(GuestReader::open(&path).unwrap_err().kind(), Kind::Unsupported);
    let places = (bat..bat + 40).chain(at.metadata..at.metadata + 80).chain(at.size..at.size + 8);
    survive(directory.path(), &whole, places.chain(64 * KIB..64 * KIB + 80));
}

#[test]
fn the_newer_intact_copy_counts() {
    let directory = tempfile::tempdir().unwrap();
    let Some(image) = made(directory.path()) else { return };
    let (whole, path) = (fs::read(image).unwrap(), directory.path().join("x"));
    for (what, damaged, want) in [
        ("first header", &[64 * KIB + 9][..], None),
        ("second header", &[128 * KIB + 9], None),
        ("both headers", &[64 * KIB + 9, 128 * KIB + 9], Some(Kind::Malformed)),
        ("first table", &[192 * KIB + 9], None),
        ("second table", &[256 * KIB + 9], None),
        ("both tables", &[192 * KIB + 9, 256 * KIB + 9], Some(Kind::Malformed)),
    ] {
        let mut image = whole.clone();
        damaged.iter().for_each(|at| image[*at] ^= 0xff);
        assert_eq!(kind_of(&path, &image), want, "{what}");
    }
}

#[test]
fn a_log_with_changes_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let Some(image) = made(directory.path()) else { return };
    let (whole, path) = (fs::read(image).unwrap(), directory.path().join("x"));
    let log = index(le64(&whole, 64 * KIB + 72));
    let id = [7; 16];
    let headers = [(64 * KIB + 48, &id[..]), (128 * KIB + 48, &id)];
    // A log whose GUID is set but that has no entry with this GUID is empty.
    assert_eq!(kind_of(&path, &sealed(patched(&whole, &headers))), None);
    let entry = [(log + 4096, &b"loge"[..]), (log + 4096 + 24, &[1]), (log + 4096 + 32, &id)];
    let patches = [&headers[..], &entry].concat();
    fs::write(&path, sealed(patched(&whole, &patches))).unwrap();
    let error = GuestReader::open(&path).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.hint().unwrap().contains("qemu-img convert"), "{:?}", error.hint());
    for (what, at, bytes) in [
        ("log outside", 72, &[0, 0, 0, 0, 9][..]),
        ("log not aligned", 72, &[1]),
        ("absurd log", 68, &[0, 0, 0, 0xf0]),
    ] {
        let patches = [&headers[..], &[(64 * KIB + at, bytes), (128 * KIB + at, bytes)]].concat();
        assert!(kind_of(&path, &sealed(patched(&whole, &patches))).is_some(), "{what}");
    }
}
