//! Tests images that are corrupted on purpose: each is refused with the matching kind, and none causes a
//! panic.

use std::fs;
use std::os::unix::fs::FileExt;

use super::{convert, kind_of, raw_disk, survive};
use crate::Kind;
use crate::format::GuestReader;
use crate::testing::program;

const MIB: u64 = 1 << 20;

/// A minimal valid qcow2 v3 of one 64 KiB cluster of data, built by hand.
/// Clusters: 0 header, 1 refcount table, 2 refcount block, 3 L1, 4 L2, 5 data.
fn tiny() -> Vec<u8> {
    let mut image = vec![0; 6 << 16];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb\0\0\0\x03");
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 20).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(3_u64 << 16).to_be_bytes());
    put(48, &(1_u64 << 16).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(1 << 16, &(2_u64 << 16).to_be_bytes());
    put(3 << 16, &((4_u64 << 16) | 1 << 63).to_be_bytes());
    put(4 << 16, &((5_u64 << 16) | 1 << 63).to_be_bytes());
    put(5 << 16, &[7; 100]);
    image
}

/// The largest allowed tables, in a file that has holes in their place, are checked up to their last entry.
#[test]
fn the_last_entry_of_the_largest_qcow2_tables_counts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.qcow2");
    // 8 MiB of refcount table at 1 MiB, 32 MiB of L1 table at 16 MiB.
    let mut image = tiny();
    for (at, bytes) in [
        (36, (4_u32 << 20).to_be_bytes().to_vec()),
        (40, (16 * MIB).to_be_bytes().to_vec()),
        (48, MIB.to_be_bytes().to_vec()),
        (56, 128_u32.to_be_bytes().to_vec()),
    ] {
        image[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    for (what, last, want) in [
        ("whole", 0, None),
        ("refcount table", 9 * MIB - 8, Some(Kind::Malformed)),
        ("L1 table", 48 * MIB - 8, Some(Kind::Malformed)),
    ] {
        fs::write(&path, &image).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(48 * MIB).unwrap();
        if last != 0 {
            file.write_all_at(&1_u64.to_be_bytes(), last).unwrap();
        }
        let error = GuestReader::open(&path).err().map(|error| error.kind());
        assert_eq!(error, want, "{what}");
    }
}

#[test]
fn each_broken_field_of_a_qcow2_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.qcow2");
    assert_eq!(kind_of(&path, &tiny()), None, "the unbroken image is fine");
    let mut buf = [0; 200];
    GuestReader::open(&path).unwrap().read_at(&mut buf, 0).unwrap();
    assert_eq!((buf[99], buf[100]), (7, 0));

    let be = |value: u64| value.to_be_bytes().to_vec();
    let cases: Vec<(&str, usize, Vec<u8>, Kind)> = vec![
        ("version 4", 7, vec![4], Kind::Unsupported),
        ("cluster bits 8", 23, vec![8], Kind::Malformed),
        ("cluster bits 22", 23, vec![22], Kind::Malformed),
        ("size not in sectors", 24, be(1000), Kind::Malformed),
        ("too few L1 entries", 24, be(1 << 40), Kind::Malformed),
        ("crypt method", 35, vec![9], Kind::Malformed),
        ("huge L1", 36, vec![0xff; 4], Kind::Malformed),
        ("L1 outside", 40, be(900 << 16), Kind::Truncated),
        ("L1 unaligned", 40, be((3 << 16) + 512), Kind::Malformed),
        ("L1 at the header", 40, be(0), Kind::Malformed),
        ("refcount table outside", 48, be(1 << 40), Kind::Truncated),
        ("refcount table missing", 56, vec![0; 4], Kind::Malformed),
        ("refcount block outside", 1 << 16, be(77 << 16), Kind::Truncated),
        ("snapshot table at the header", 63, vec![1], Kind::Malformed),
        ("marked corrupt", 79, vec![2], Kind::Malformed),
        ("external data", 79, vec![4], Kind::Unsupported),
        ("unknown feature", 78, vec![1], Kind::Unsupported),
        ("zstd flag without type", 79, vec![8], Kind::Malformed),
        ("header length", 103, vec![1], Kind::Malformed),
        ("refcount order", 99, vec![7], Kind::Malformed),
        ("L2 outside", 3 << 16, be(6 << 16), Kind::Truncated),
        ("L2 reserved bits", 3 << 16, be((4 << 16) | 1), Kind::Malformed),
        ("data outside", 4 << 16, be(6 << 16), Kind::Truncated),
        ("data overflow", 4 << 16, be(0x00ff_ffff_ffff_0000), Kind::Truncated),
        ("data unaligned", 4 << 16, be((5 << 16) + 512), Kind::Malformed),
        ("data reserved bits", 4 << 16, be((5 << 16) | 2), Kind::Malformed),
        ("compressed outside", 4 << 16, be(1 << 62 | 7 << 16), Kind::Truncated),
        ("compressed rubbish at the end", 4 << 16, be(1 << 62 | 6 << 16), Kind::Malformed),
        ("backing name outside", 8, be(1 << 40), Kind::Malformed),
    ];
    for (what, at, bytes, want) in cases {
        let mut image = tiny();
        image[at..at + bytes.len()].copy_from_slice(&bytes);
        // A compressed cluster at the very end claims a whole sector of which only a part exists.
        if what.contains("at the end") {
            image.extend([0; 100]);
        }
        assert_eq!(kind_of(&path, &image), Some(want), "{what}");
    }
}

#[test]
fn an_l2_table_used_twice_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.qcow2");
    let mut image = tiny();
    image[39] = 2;
    image.copy_within(3 << 16..(3 << 16) + 8, (3 << 16) + 8);
    assert_eq!(kind_of(&path, &image), Some(Kind::Malformed));
}

#[test]
fn version_two_has_no_zero_flag() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.qcow2");
    let mut image = tiny();
    image[(4 << 16) + 7] = 1;
    assert_eq!(kind_of(&path, &image), None);
    image[7] = 2;
    assert_eq!(kind_of(&path, &image), Some(Kind::Malformed));
}

#[test]
fn a_cut_image_is_never_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let cut = directory.path().join("cut");
    let whole = tiny();
    // The data cluster is used up to its end, so every shorter length loses data.
    for len in (4..whole.len()).step_by(4099).chain([71, 103, whole.len() - 1]) {
        assert!(kind_of(&cut, &whole[..len]).is_some(), "cut to {len}");
    }
    let Some(qemu_img) = program("qemu-img") else { return };
    let raw = directory.path().join("raw");
    raw_disk(&raw, 8 * MIB, &[(0, 8 << 20)]);
    for (format, extra) in
        [("qcow2", &[][..]), ("qcow2", &["-c"]), ("vpc", &["-o", "subformat=dynamic"])]
    {
        let image = fs::read(convert(&qemu_img, &raw, format, extra)).unwrap();
        for lost in [1, 511, 512, 65536, image.len() / 2, image.len() - 600] {
            // Padding after the last compressed byte may be cut off; half a sector is never only padding.
            if extra == ["-c"] && lost < 512 {
                continue;
            }
            let left = &image[..image.len() - lost];
            assert!(kind_of(&cut, left).is_some(), "{format} {extra:?} without {lost} bytes");
        }
    }
}

#[test]
fn a_vhd_with_a_wrong_field_is_refused() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (raw, path) = (directory.path().join("raw"), directory.path().join("x.vhd"));
    raw_disk(&raw, 4 * MIB, &[(MIB, 5000)]);
    let fixed = fs::read(convert(&qemu_img, &raw, "vpc", &["-o", "subformat=fixed,force_size=on"]))
        .unwrap();
    let dynamic = fs::read(convert(&qemu_img, &raw, "vpc", &["-o", "subformat=dynamic"])).unwrap();
    let footer = dynamic.len() - 512;
    let cases = [
        ("dynamic footer checksum", &dynamic, footer + 30, Kind::Malformed),
        ("dynamic header checksum", &dynamic, 512 + 600, Kind::Malformed),
        ("dynamic header cookie", &dynamic, 512, Kind::Malformed),
        ("block outside", &dynamic, 1536 + 1, Kind::Truncated),
        ("fixed footer checksum", &fixed, fixed.len() - 512 + 40, Kind::Malformed),
    ];
    for (what, image, at, want) in cases {
        assert_eq!(kind_of(&path, image), None, "{what}: the unbroken image is fine");
        let mut image = image.clone();
        image[at] ^= 0x15;
        assert_eq!(kind_of(&path, &image), Some(want), "{what}");
    }
    assert_eq!(kind_of(&path, &fixed[512..]), Some(Kind::Truncated));
}

#[test]
fn no_byte_of_a_qcow2_can_hurt() {
    let directory = tempfile::tempdir().unwrap();
    let tables = (1..5).flat_map(|cluster| (cluster << 16)..(cluster << 16) + 16);
    survive(directory.path(), &tiny(), (0..112).chain(tables));
}

#[test]
fn no_byte_of_a_vhd_can_hurt() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    raw_disk(&raw, 4 * MIB, &[(MIB, 5000)]);
    let image = fs::read(convert(&qemu_img, &raw, "vpc", &["-o", "subformat=dynamic"])).unwrap();
    let footer = image.len() - 512;
    let places = (16..70).chain(512..560).chain(1536..1552).chain(footer..footer + 68);
    survive(directory.path(), &image, places);
    // After the checksum is corrected, the fields themselves are checked.
    let mut fields = image.clone();
    for at in [40, 48, 56, 60] {
        fields[footer + at..footer + at + 4].fill(0xff);
        fields[footer + 64..footer + 68].fill(0);
        let sum: u32 = fields[footer..].iter().map(|byte| u32::from(*byte)).sum();
        fields[footer + 64..footer + 68].copy_from_slice(&(!sum).to_be_bytes());
        let path = directory.path().join("mutant");
        let kind = kind_of(&path, &fields);
        assert!(at == 40 || kind == Some(Kind::Malformed), "{at}: {kind:?}");
    }
}
