//! Tests images made by qemu-img: the probe accepts them, and the reader returns the content of the raw disk.

use std::fs;

use super::{convert, raw_disk};
use crate::format::{
    Extent, Format, GuestReader, PartitionTable, export_raw, partition_table, probe,
};
use crate::testing::program;

const MIB: u64 = 1 << 20;
/// The name, the size, and the data of a disk.
type Case = (&'static str, u64, &'static [(u64, usize)]);

const VARIANTS: [(&str, &[&str]); 22] = [
    ("qcow2", &[]),
    ("qcow2", &["-c"]),
    ("qcow2", &["-o", "compat=0.10"]),
    ("qcow2", &["-o", "cluster_size=512"]),
    ("qcow2", &["-o", "cluster_size=2M"]),
    ("qcow2", &["-c", "-o", "cluster_size=4k"]),
    ("qcow2", &["-o", "preallocation=metadata"]),
    ("vpc", &["-o", "subformat=fixed,force_size=on"]),
    ("vpc", &["-o", "subformat=dynamic,force_size=on"]),
    ("qcow2", &["-c", "-o", "compression_type=zstd"]),
    ("qcow2", &["-c", "-o", "compression_type=zstd,cluster_size=2M"]),
    ("vhdx", &["-o", "subformat=dynamic"]),
    ("vhdx", &["-o", "subformat=dynamic,block_size=1M"]),
    ("vhdx", &["-o", "subformat=fixed"]),
    ("vmdk", &["-o", "subformat=monolithicSparse"]),
    ("vmdk", &["-o", "subformat=streamOptimized"]),
    ("vmdk", &["-o", "subformat=monolithicFlat"]),
    ("vmdk", &["-o", "subformat=twoGbMaxExtentSparse"]),
    ("vmdk", &["-o", "subformat=twoGbMaxExtentFlat"]),
    ("vmdk", &["-o", "subformat=monolithicSparse,zeroed_grain=on"]),
    ("vdi", &[]),
    ("vdi", &["-o", "static=on"]),
];

#[test]
fn every_variant_shows_the_bytes_of_the_raw_disk() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let directory = tempfile::tempdir().unwrap();
    let disks: [Case; 4] = [
        ("empty", 3 * MIB, &[]),
        ("sparse", 40 * MIB, &[(0, 5000), (7 * MIB + 512, 200_000), (39 * MIB, 1 << 20)]),
        ("odd", 5 * MIB + 512 * 77, &[(5 * MIB, 512 * 77)]),
        ("full", 2 * MIB, &[(0, 2 << 20)]),
    ];
    for (name, size, data) in disks {
        let raw = directory.path().join(name);
        raw_disk(&raw, size, data);
        let want = fs::read(&raw).unwrap();
        for (format, extra) in VARIANTS {
            let image = convert(&qemu_img, &raw, format, extra);
            let case = format!("{name} {format} {extra:?}");
            let found = probe(&image).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(found.virtual_size, size, "{case}");
            let packed = extra.contains(&"-c") || extra.contains(&"subformat=streamOptimized");
            assert_eq!(found.compressed, packed && name != "empty", "{case}");
            let reader = GuestReader::open(&image).unwrap();
            let mut got = vec![0xaa; want.len() + 10];
            assert_eq!(reader.read_at(&mut got, 0).unwrap(), want.len(), "{case}");
            assert!(got[..want.len()] == want[..], "{case}: bytes differ");
            let mut piece = [0; 3000];
            assert_eq!(reader.read_at(&mut piece, size - 1000).unwrap(), 1000, "{case}");
            assert!(piece[..1000] == want[want.len() - 1000..], "{case}: tail differs");
            let out = directory.path().join("out.raw");
            export_raw(&reader, &out).unwrap();
            assert!(fs::read(&out).unwrap() == want, "{case}: export differs");
            let grown = reader.grown_to(size + (1 << 20)).unwrap();
            let mut behind = [0xaa; 2000];
            assert_eq!(grown.read_at(&mut behind, size - 1000).unwrap(), 2000, "{case}");
            assert!(behind[..1000] == want[want.len() - 1000..], "{case}: grown differs");
            assert!(behind[1000..] == [0; 1000], "{case}: nothing is behind the end");
            let last = Extent { len: (1 << 20) - 5, zero: true };
            assert_eq!(grown.extent_at(size + 5).unwrap(), Some(last), "{case}");
            assert_eq!(grown.extent_at(size + (1 << 20)).unwrap(), None, "{case}");
        }
    }
}

#[test]
fn an_exported_disk_keeps_its_holes() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, out) = (directory.path().join("raw"), directory.path().join("out"));
    raw_disk(&raw, 4096 * MIB, &[(4000 * MIB, 70_000)]);
    export_raw(&GuestReader::open(&raw).unwrap(), &out).unwrap();
    assert_eq!(fs::metadata(&out).unwrap().len(), 4096 * MIB);
    assert!(crate::raw::allocated_bytes(&out).unwrap() < MIB);
    let mut buf = vec![0; 70_000];
    GuestReader::open(&out).unwrap().read_at(&mut buf, 4000 * MIB).unwrap();
    assert!(buf == crate::testing::noise(4000 * MIB + 1, 70_000));
}

#[test]
fn what_qemu_reports_is_what_the_probe_reports() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("d");
    raw_disk(&raw, 2 * MIB, &[(0, 100_000)]);
    let plain = convert(&qemu_img, &raw, "qcow2", &[]);
    let child = directory.path().join("child.qcow2");
    crate::testing::run(
        &qemu_img,
        &[&"create", &"-f", &"qcow2", &"-F", &"qcow2", &"-b", &plain, &child],
    );
    let found = probe(&child).unwrap();
    assert_eq!(found.backing_file.as_deref(), plain.to_str());
    let refused = GuestReader::open(&child).unwrap_err();
    assert_eq!(refused.kind(), crate::Kind::Unsupported);
    assert!(refused.hint().is_some());

    crate::testing::run(&qemu_img, &[&"snapshot", &"-c", &"one", &plain]);
    assert_eq!(probe(&plain).unwrap().snapshots, 1);

    for (option, message) in
        [("data_file=ext.raw", "external data file"), ("extended_l2=on", "extended L2")]
    {
        let path = directory.path().join(message);
        let _ = fs::remove_file(directory.path().join("ext.raw"));
        let option = option.replace("ext.raw", directory.path().join("ext.raw").to_str().unwrap());
        crate::testing::run(&qemu_img, &[&"create", &"-f", &"qcow2", &"-o", &option, &path, &"1M"]);
        let error = probe(&path).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn raw_disks_are_distinguished_from_other_formats() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let mut disk = vec![0; 4096];
    let table = |disk: &[u8]| {
        fs::write(&path, disk).unwrap();
        partition_table(&path).unwrap()
    };
    assert_eq!(table(&disk), PartitionTable::None);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(table(&disk), PartitionTable::SignatureOnly);
    disk[446] = 0x80;
    disk[450] = 0x83;
    assert_eq!(table(&disk), PartitionTable::Mbr);
    disk[512..520].copy_from_slice(b"EFI PART");
    assert_eq!(table(&disk), PartitionTable::Gpt);

    let found = probe(&path).unwrap();
    assert_eq!((found.format, found.sector_aligned, found.foreign), (Format::Raw, true, None));
    assert_eq!(found.evidence, Some("a GUID partition table"));
    type Case = (&'static [(usize, &'static [u8])], Option<&'static str>, Option<&'static str>);
    const CASES: [Case; 7] = [
        (&[(510, &[0x55, 0xaa])], Some("a boot sector"), None),
        (&[(1080, &[0x53, 0xef])], Some("ext4"), None),
        (&[(0, b"XFSB")], Some("xfs"), None),
        (&[(0, b"LUKS\xba\xbe")], Some("LUKS"), Some("an encrypted disk (LUKS)")),
        (&[(510, &[0x55, 0xaa]), (32769, b"CD001")], Some("iso9660"), Some("an ISO image")),
        (&[(0, b"QED\0")], None, Some("a QED image")),
        (&[(700, b"text")], None, None),
    ];
    for (content, evidence, foreign) in CASES {
        let mut disk = vec![0; 40_000];
        for (at, bytes) in content {
            disk[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        fs::write(&path, disk).unwrap();
        let found = probe(&path).unwrap();
        assert_eq!(found.evidence, evidence, "{content:?}");
        assert_eq!(found.foreign.map(|foreign| foreign.name), foreign, "{content:?}");
        assert!(!found.sector_aligned);
    }
    fs::write(&path, b"").unwrap();
    assert_eq!(probe(&path).unwrap().virtual_size, 0);
    assert_eq!(probe(directory.path()).unwrap_err().kind(), crate::Kind::Unsupported);
    assert_eq!(probe(&directory.path().join("no")).unwrap_err().kind(), crate::Kind::NotFound);
}
