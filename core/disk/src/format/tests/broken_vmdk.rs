//! Tests VMDK and VDI images that are corrupted on purpose.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{convert, kind_of, patched, raw_disk, survive};
use crate::Kind;
use crate::field::{index, le32, le64};
use crate::format::{GuestReader, probe};
use crate::testing::program;

const MIB: u64 = 1 << 20;

/// Creates a disk of 4 MiB with 200,000 bytes of data at 1 MiB, in a format.
fn made(folder: &Path, format: &str, option: &str) -> Option<PathBuf> {
    let qemu_img = program("qemu-img")?;
    let raw = folder.join("raw");
    raw_disk(&raw, 4 * MIB, &[(MIB, 200_000)]);
    Some(convert(&qemu_img, &raw, format, &["-o", option]))
}

/// Checks that each patch of `whole` is refused with its kind.
fn refused(folder: &Path, whole: &[u8], cases: &[(&str, usize, &[u8], Kind)]) {
    let path = folder.join("broken");
    assert_eq!(kind_of(&path, whole), None, "the unbroken image is fine");
    for (what, at, bytes, want) in cases {
        let image = patched(whole, &[(*at, bytes)]);
        assert_eq!(kind_of(&path, &image), Some(*want), "{what}");
    }
}

#[test]
fn each_broken_field_of_a_sparse_vmdk_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(image) = made(folder.path(), "vmdk", "subformat=monolithicSparse") else { return };
    let whole = fs::read(image).unwrap();
    let directory = index(le64(&whole, 56) * 512);
    let table = index(u64::from(le32(&whole, directory)) * 512);
    // 1 MiB is grain 16 of 64 KiB.
    let grain = table + 16 * 4;
    let first = le32(&whole, grain);
    let next = (first + 1).to_le_bytes();
    refused(
        folder.path(),
        &whole,
        &[
            ("version", 4, &[9], Kind::Unsupported),
            ("capacity", 12, &[0xff; 8], Kind::Malformed),
            ("no grain", 20, &[0; 8], Kind::Malformed),
            ("odd grain", 20, &[3], Kind::Malformed),
            ("huge grain", 20, &[0, 0, 0, 1], Kind::Malformed),
            ("descriptor outside", 28, &[0xff; 8], Kind::Truncated),
            ("no descriptor", 28, &[0; 8], Kind::Unsupported),
            ("huge descriptor", 36, &[0xff; 8], Kind::Malformed),
            ("empty tables", 44, &[0; 4], Kind::Malformed),
            ("huge tables", 44, &[0xff; 4], Kind::Malformed),
            ("directory outside", 58, &[1], Kind::Truncated),
            (
                "directory nowhere",
                56,
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                Kind::Malformed,
            ),
            ("directory at the end of no stream", 56, &[0xff; 8], Kind::Truncated),
            ("text mode", 74, b"\n", Kind::Malformed),
            ("table outside", directory, &[0xff; 4], Kind::Truncated),
            ("grain outside", grain, &[0xff; 4], Kind::Truncated),
            ("grain used twice", grain + 4, &first.to_le_bytes(), Kind::Malformed),
            ("overlapping grain", grain + 4, &next, Kind::Malformed),
        ],
    );
    let twice =
        patched(&whole, &[(12, &[0, 0, 4]), (directory + 4, &whole[directory..directory + 4])]);
    assert_eq!(kind_of(&folder.path().join("twice"), &twice), Some(Kind::Malformed));
    let cut = folder.path().join("cut");
    for len in [0, 3, 20, 100, 511, 512, 513, directory, table, index(u64::from(first) * 512) + 5] {
        let kind = kind_of(&cut, &whole[..len]);
        // A file without the complete magic is a raw file, which is refused elsewhere because of its size.
        assert!(len < 4 || kind.is_some(), "cut to {len}");
    }
    let places = (4..80).chain(512..1100).chain(directory..directory + 8).chain(table..table + 80);
    survive(folder.path(), &whole, places);
}

/// Builds a streamOptimized VMDK as it is written to a pipe: grains of 64 KiB with their markers, then the
/// tables, then a footer with their offsets. qemu-img does not write a footer.
fn streamed(raw: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 64 << 10];
    let pad = |image: &mut Vec<u8>| image.resize(image.len().next_multiple_of(512), 0);
    let sector = |image: &Vec<u8>| u32::try_from(image.len() / 512).unwrap();
    let marker = |image: &mut Vec<u8>, sectors: u64, kind: u32| {
        image.extend([&sectors.to_le_bytes()[..], &[0; 4], &kind.to_le_bytes()].concat());
        pad(image);
    };
    let mut table = vec![0_u8; 2048];
    for (at, grain) in raw.chunks(64 << 10).enumerate() {
        if grain.iter().any(|byte| *byte != 0) {
            table[at * 4..at * 4 + 4].copy_from_slice(&sector(&image).to_le_bytes());
            let mut packed =
                flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(grain).unwrap();
            let packed = packed.finish().unwrap();
            image.extend((at as u64 * 128).to_le_bytes());
            image.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
            image.extend(packed);
            pad(&mut image);
        }
    }
    marker(&mut image, 4, 1);
    let table_at = sector(&image);
    image.extend(table);
    marker(&mut image, 1, 2);
    let directory_at = sector(&image);
    image.extend(table_at.to_le_bytes());
    pad(&mut image);
    marker(&mut image, 1, 3);
    let mut header = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"KDMV\x03\0\0\0\x01\0\x03\0");
    put(12, &(raw.len() as u64 / 512).to_le_bytes());
    put(20, &128_u64.to_le_bytes());
    put(28, &1_u64.to_le_bytes());
    put(36, &20_u64.to_le_bytes());
    put(44, &512_u32.to_le_bytes());
    put(56, &u64::from(directory_at).to_le_bytes());
    put(64, &128_u64.to_le_bytes());
    put(73, b"\n \r\n\x01");
    image.extend(header);
    header[56..64].fill(0xff);
    image[..512].copy_from_slice(&header);
    let text = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n\
        createType=\"streamOptimized\"\nRW 8192 SPARSE \"../made elsewhere.vmdk\"\n";
    image[512..512 + text.len()].copy_from_slice(text.as_bytes());
    marker(&mut image, 0, 0);
    image
}

#[test]
fn a_stream_with_its_tables_at_the_end_shows_what_qemu_sees() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (raw, path) = (folder.path().join("raw"), folder.path().join("x.vmdk"));
    raw_disk(&raw, 3 * MIB + 4096, &[(MIB, 200_000), (3 * MIB, 4096)]);
    let bytes = fs::read(&raw).unwrap();
    // The last grain holds only the rest of the disk.
    fs::write(&path, streamed(&bytes)).unwrap();
    let reader = GuestReader::open(&path).unwrap();
    let mut got = vec![0xaa; bytes.len()];
    assert_eq!(reader.read_at(&mut got, 0).unwrap(), bytes.len());
    assert!(got == bytes);
    let probe = reader.probe();
    assert_eq!((probe.variant, probe.compressed), (Some("streamOptimized"), true));
    crate::testing::run(&qemu_img, &[&"compare", &"-f", &"raw", &"-F", &"vmdk", &raw, &path]);
}

#[test]
fn each_broken_field_of_a_streamed_vmdk_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    raw_disk(&folder.path().join("raw"), 4 * MIB, &[(MIB, 200_000)]);
    let whole = streamed(&fs::read(folder.path().join("raw")).unwrap());
    let footer = whole.len() - 1024;
    let directory = index(le64(&whole, footer + 56) * 512);
    let table = index(u64::from(le32(&whole, directory)) * 512);
    let first = le32(&whole, table + 16 * 4);
    let marker = index(u64::from(first) * 512);
    refused(
        folder.path(),
        &whole,
        &[
            ("compression", footer + 77, &[2], Kind::Unsupported),
            ("no markers", footer + 10, &[1], Kind::Unsupported),
            ("footer marker", footer - 512 + 12, &[4], Kind::Truncated),
            ("end marker", footer + 512, &[1], Kind::Truncated),
            ("footer without a place", footer + 56, &[0xff; 8], Kind::Malformed),
            ("footer's magic", footer, b"X", Kind::Malformed),
            ("another grain's marker", marker, &[1], Kind::Malformed),
            ("empty grain", marker + 8, &[0; 4], Kind::Malformed),
            ("huge grain", marker + 8, &[0xff; 4], Kind::Malformed),
            ("grain used twice", table + 17 * 4, &first.to_le_bytes(), Kind::Malformed),
        ],
    );
    let cut = folder.path().join("cut");
    for lost in [1, 512, 1024, 1536, whole.len() / 2] {
        let kind = kind_of(&cut, &whole[..whole.len() - lost]);
        assert_eq!(kind, Some(Kind::Truncated), "without {lost} bytes");
    }
    // An error that is detected only during decompression is an error of the read.
    fs::write(&cut, patched(&whole, &[(marker + 12, &[0xff; 16])])).unwrap();
    let reader = GuestReader::open(&cut).unwrap();
    let error = reader.read_at(&mut [0; 512], MIB).unwrap_err();
    assert_eq!(error.kind(), Kind::Malformed);
    let places = (4..80).chain(footer..footer + 80).chain(directory..directory + 4);
    survive(folder.path(), &whole, places.chain(table + 60..table + 72).chain(marker..marker + 14));
}

#[test]
fn two_compressed_grains_never_share_bytes() {
    let folder = tempfile::tempdir().unwrap();
    raw_disk(&folder.path().join("raw"), 4 * MIB, &[(MIB, 200_000)]);
    let whole = streamed(&fs::read(folder.path().join("raw")).unwrap());
    let directory = index(le64(&whole, whole.len() - 1024 + 56) * 512);
    let table = index(u64::from(le32(&whole, directory)) * 512);
    let marker = index(u64::from(le32(&whole, table + 16 * 4)) * 512);
    // A second grain inside the first one, with a valid marker.
    let inside = u32::try_from(marker / 512 + 1).unwrap().to_le_bytes();
    let sector = 20_u64 * 128;
    let image = patched(
        &whole,
        &[
            (table + 20 * 4, &inside),
            (marker + 512, &sector.to_le_bytes()),
            (marker + 520, &16_u32.to_le_bytes()),
        ],
    );
    assert_eq!(kind_of(&folder.path().join("x"), &image), Some(Kind::Malformed));
}

#[test]
fn a_descriptor_cannot_reach_another_directory_or_a_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.vmdk");
    let describe = |lines: &str| {
        let text =
            format!("# Disk DescriptorFile\nparentCID=ffffffff\ncreateType=\"custom\"\n{lines}\n");
        fs::write(&path, text).unwrap();
    };
    fs::write(folder.path().join("flat"), [7; 4096]).unwrap();
    for (lines, kind) in [
        ("RW 8 FLAT \"flat\" 0\nRW 8 ZERO", None),
        ("RW 4 FLAT \"flat\" 4", None),
        ("", Some(Kind::Malformed)),
        ("RW 0 ZERO", Some(Kind::Malformed)),
        ("RW 9 FLAT \"flat\" 0", Some(Kind::Truncated)),
        ("RW 8 FLAT \"flat\" 1", Some(Kind::Truncated)),
        ("RW 8 FLAT \"flat\" 36028797018963967", Some(Kind::Truncated)),
        ("RW 8 FLAT \"gone\" 0", Some(Kind::NotFound)),
        ("RW 8 FLAT \"/etc/hostname\" 0", Some(Kind::Unsupported)),
        ("RW 8 SPARSE \"flat\"", Some(Kind::Malformed)),
        ("RW 8 SESPARSE \"flat\"", Some(Kind::Unsupported)),
        ("RW 36028797018963967 ZERO\nRW 36028797018963967 ZERO", Some(Kind::Malformed)),
    ] {
        describe(lines);
        let opened = GuestReader::open(&path);
        assert_eq!(opened.as_ref().err().map(crate::Error::kind), kind, "{lines}");
    }
    describe("RW 1 ZERO\nRW 8 FLAT \"flat\" 0\nRW 1 ZERO");
    let reader = GuestReader::open(&path).unwrap();
    let mut buf = vec![9; 6000];
    assert_eq!(reader.read_at(&mut buf, 0).unwrap(), 5120);
    let want = [&[0; 512][..], &[7; 4096], &[0; 512]].concat();
    assert!(buf[..5120] == want);
    let names: Vec<_> = reader.files().map(|file| file.file_name().unwrap()).collect();
    assert_eq!(names, ["d.vmdk", "flat"]);
    fs::write(&path, "# Disk DescriptorFile\nparentCID=1\nRW 8 FLAT \"flat\" 0").unwrap();
    assert!(probe(&path).unwrap().backing_file.is_some());
    assert_eq!(GuestReader::open(&path).unwrap_err().kind(), Kind::Unsupported);
}

#[test]
fn each_broken_field_of_a_vdi_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(image) = made(folder.path(), "vdi", "static=off") else { return };
    let whole = fs::read(image).unwrap();
    let map = index(u64::from(le32(&whole, 0x154)));
    refused(
        folder.path(),
        &whole,
        &[
            ("version", 0x44, &[9], Kind::Unsupported),
            ("type", 0x4c, &[9], Kind::Malformed),
            ("block size", 0x178, &[9], Kind::Malformed),
            ("block extra", 0x17c, &[9], Kind::Unsupported),
            ("map outside", 0x154, &[0xff; 4], Kind::Truncated),
            ("disk larger than the map", 0x170, &[0, 0, 0, 0xf0], Kind::Malformed),
            ("absurd number of blocks", 0x180, &[0xff; 4], Kind::Malformed),
            ("size not in sectors", 0x170, &[1], Kind::Malformed),
            ("data outside", 0x158, &[0xff; 4], Kind::Truncated),
            ("block outside", map + 4, &[0xf0, 0xff, 0xff, 0xff], Kind::Truncated),
            ("block used twice", map, &whole[map + 4..map + 8], Kind::Malformed),
        ],
    );
    let path = folder.path().join("child");
    assert_eq!(kind_of(&path, &patched(&whole, &[(0x4c, &[4])])), None);
    assert_eq!(GuestReader::open(&path).unwrap_err().kind(), Kind::Unsupported);
    survive(folder.path(), &whole, (0x40..0x188).chain(map..map + 16));
}

#[test]
fn an_extent_that_is_a_link_out_of_the_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images");
    fs::create_dir(&images).unwrap();
    for flat in [root.path().join("elsewhere"), images.join("other")] {
        raw_disk(&flat, MIB, &[(0, 1000)]);
    }
    let descriptor = images.join("d.vmdk");
    let text = "# Disk DescriptorFile\nversion=1\nCID=123a\nparentCID=ffffffff\n\
                createType=\"monolithicFlat\"\nRW 2048 FLAT \"d-flat.vmdk\" 0\n";
    fs::write(&descriptor, text).unwrap();
    let beside = images.join("d-flat.vmdk");
    let outside = root.path().join("elsewhere");
    for (target, refused) in [
        (outside.as_path(), true),
        (Path::new("../elsewhere"), true),
        (Path::new("../images/other"), false),
        (Path::new("other"), false),
    ] {
        symlink(target, &beside).unwrap();
        let opened = GuestReader::open(&descriptor);
        let kind = opened.err().map(|error| error.kind());
        assert_eq!(kind, refused.then_some(Kind::Unsupported), "{}", target.display());
        fs::remove_file(&beside).unwrap();
    }
    // The directory itself may be reached through a symbolic link.
    symlink("images", root.path().join("link")).unwrap();
    raw_disk(&beside, MIB, &[(0, 1000)]);
    GuestReader::open(&root.path().join("link/d.vmdk")).unwrap();
}
