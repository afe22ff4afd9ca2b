//! Tests views with qemu-img, and by comparing a whole read with reads of pieces.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Qcow2View, RawView, View, copy_to, materialise, materialise_new};
use crate::Kind;
use crate::format::{Format, GuestReader, probe};
use crate::pack::{DigestKinds, Digests};
use crate::testing::{noise, program, run};

const MIB: u64 = 1 << 20;

fn disk(path: &Path, size: u64, data: &[(u64, usize)]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, len) in data {
        file.write_all_at(&noise(*offset + 3, *len), *offset).unwrap();
    }
}

fn all(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Name, size, data of a disk.
type Case = (&'static str, u64, Vec<(u64, usize)>);

fn disks() -> Vec<Case> {
    vec![
        ("nothing", 0, vec![]),
        ("empty", 64 * MIB, vec![]),
        ("one sector", 512, vec![(0, 512)]),
        ("full", 4 * MIB, vec![(0, 4 << 20)]),
        ("sparse", 64 * MIB, vec![(0, 512), (MIB - 1, 2), (63 * MIB + 65535, 1)]),
        ("odd", 4 * MIB + 512 * 3, vec![(4 * MIB, 512 * 3)]),
        ("far", 40 << 30, vec![(0, 70_000), (513 * MIB, 512), ((40 << 30) - 512, 512)]),
    ]
}

#[test]
fn qemu_finds_no_fault_and_the_same_bytes() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = (directory.path().join("raw"), directory.path().join("image.qcow2"));
    for (name, size, data) in disks() {
        disk(&raw, size, &data);
        let view = Qcow2View::new(&raw).unwrap();
        assert_eq!((view.format(), view.virtual_size()), (Format::Qcow2, size), "{name}");
        materialise(&view, &image, DigestKinds::NONE, &mut all).unwrap();
        assert_eq!(fs::metadata(&image).unwrap().len(), view.len(), "{name}");
        let checked = run(&qemu_img, &[&"check", &"-f", &"qcow2", &image]);
        let text = String::from_utf8(checked.stdout).unwrap();
        assert!(text.contains("No errors were found"), "{name}: {text}");
        run(&qemu_img, &[&"compare", &"-f", &"raw", &"-F", &"qcow2", &raw, &image]);
        let found = probe(&image).unwrap();
        assert_eq!((found.virtual_size, found.variant), (size, Some("v3")), "{name}");
    }
}

#[test]
fn digests_are_those_of_the_file_that_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = (directory.path().join("raw"), directory.path().join("image"));
    let kinds = DigestKinds { md5: true, sha256: true, ..DigestKinds::NONE };
    let small = |(_, size, _): &Case| (1..1 << 30).contains(size);
    for (name, size, data) in disks().into_iter().filter(small) {
        disk(&raw, size, &data);
        let (qcow2, plain) = (Qcow2View::new(&raw).unwrap(), RawView::open(&raw).unwrap());
        for view in [&qcow2 as &dyn View, &plain] {
            let digests = materialise(view, &image, kinds, &mut all).unwrap();
            let written = fs::read(&image).unwrap();
            assert_eq!(digests, Digests::of(&written, kinds), "{name} {:?}", view.format());
            assert!(materialise_new(view, &image, kinds, &mut all).is_err(), "it exists");
            fs::remove_file(&image).unwrap();
            let again = materialise_new(view, &image, kinds, &mut all).unwrap();
            assert!(again == digests && fs::read(&image).unwrap() == written, "{name}");
        }
    }
    fs::remove_file(&image).unwrap();
    let stopped = materialise_new(&RawView::open(&raw).unwrap(), &image, kinds, &mut |_| {
        ControlFlow::Break(())
    });
    assert_eq!(stopped.unwrap_err().kind(), Kind::Cancelled);
    assert!(!image.exists());
}

/// Creates a qcow2 image whose guest clusters all refer to one cluster of the file: 33,000 clusters of data
/// that need no space. Clusters: 0 header, 1 refcount table, 2 its block, 3 L1, 4 to 8 L2, 9 data.
fn many_from_one(path: &Path, clusters: u64) {
    let file = File::create(path).unwrap();
    let put = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at).unwrap();
    put(0, b"QFI\xfb\0\0\0\x03");
    put(20, &16_u32.to_be_bytes());
    put(24, &(clusters << 16).to_be_bytes());
    put(36, &5_u32.to_be_bytes());
    put(40, &(3_u64 << 16).to_be_bytes());
    put(48, &(1_u64 << 16).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(1 << 16, &(2_u64 << 16).to_be_bytes());
    for table in 0..5 {
        put((3 << 16) + table * 8, &((4 + table) << 16).to_be_bytes());
    }
    let entry = (9_u64 << 16).to_be_bytes();
    put(4 << 16, &entry.repeat(usize::try_from(clusters).unwrap()));
    put(9 << 16, &noise(9, 65536));
}

#[test]
fn refcounts_may_need_more_than_one_block() {
    let directory = tempfile::tempdir().unwrap();
    let (source, image) = (directory.path().join("source"), directory.path().join("image"));
    many_from_one(&source, 33_000);
    let view = Qcow2View::new(&source).unwrap();
    assert_eq!(view.data_bytes(), 33_000 << 16);
    // Header, refcount table, 2 refcount blocks, L1 table, 5 L2 tables.
    let metadata = 10 << 16;
    assert_eq!(view.len(), view.data_bytes() + metadata);
    for rank in [0, 1, 32_757, 32_758, 32_999] {
        let mut cluster = vec![0; 65536];
        view.read_at(&mut cluster, metadata + (rank << 16)).unwrap();
        assert!(cluster == noise(9, 65536), "{rank}");
    }
    let Some(qemu_img) = program("qemu-img") else { return };
    // The check reads only tables, so the data may stay a hole.
    let mut tables = vec![0; usize::try_from(metadata).unwrap()];
    view.read_at(&mut tables, 0).unwrap();
    fs::write(&image, &tables).unwrap();
    File::options().write(true).open(&image).unwrap().set_len(view.len()).unwrap();
    let checked = run(&qemu_img, &[&"check", &"-f", &"qcow2", &image]);
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains("No errors were found"), "{text}");
    assert!(text.contains("33000/33000 = 100.00% allocated"), "{text}");
}

#[test]
fn any_piece_is_the_same_as_in_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    disk(&raw, 5 * MIB + 512, &[(0, 1), (MIB + 100, 300_000), (5 * MIB, 512)]);
    let view = Qcow2View::new(&raw).unwrap();
    let mut whole = Vec::new();
    copy_to(&view, &mut whole, &mut all).unwrap();
    assert_eq!(whole.len() as u64, view.len());
    let mut seed = 88_172_645_463_325_252_u64;
    for _ in 0..3000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let offset = seed % (view.len() + 100);
        let mut piece = vec![0xee; usize::try_from(seed >> 40).unwrap() % 200_000];
        let len = view.read_at(&mut piece, offset).unwrap();
        let start = usize::try_from(offset).unwrap().min(whole.len());
        assert_eq!(len, piece.len().min(whole.len() - start), "{offset}");
        assert!(piece[..len] == whole[start..start + len], "{offset} {len}");
    }
    let again = Qcow2View::new(&raw).unwrap();
    let mut second = Vec::new();
    copy_to(&again, &mut second, &mut all).unwrap();
    assert!(whole == second, "two views of one disk differ");
}

#[test]
fn written_zeros_are_not_stored() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    let mut bytes = vec![0; 8 << 20];
    bytes[3 << 20] = 1;
    // The last byte of a cluster: checking only its start is not sufficient.
    bytes[(5 << 20) - 1] = 1;
    fs::write(&raw, &bytes).unwrap();
    let view = Qcow2View::new(&raw).unwrap();
    assert_eq!(view.data_bytes(), 2 * 65536);
}

#[test]
fn a_qcow2_image_may_be_the_disk_underneath() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = (directory.path().join("raw"), directory.path().join("image"));
    disk(&raw, 3 * MIB + 512, &[(0, 100_000), (2 * MIB, 5)]);
    materialise(&Qcow2View::new(&raw).unwrap(), &image, DigestKinds::NONE, &mut all).unwrap();
    for path in [&raw, &image] {
        let view = RawView::open(path).unwrap();
        let mut bytes = Vec::new();
        copy_to(&view, &mut bytes, &mut all).unwrap();
        assert!(bytes == fs::read(&raw).unwrap(), "{}", path.display());
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    copy_to(&Qcow2View::new(&raw).unwrap(), &mut first, &mut all).unwrap();
    copy_to(&Qcow2View::new(&image).unwrap(), &mut second, &mut all).unwrap();
    assert!(first == second);
    let mut byte = [0];
    GuestReader::open(&image).unwrap().read_at(&mut byte, 2 * MIB).unwrap();
    assert_eq!(byte[0], noise(2 * MIB + 3, 1)[0]);
}

#[test]
fn a_stopped_or_failed_copy_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = (directory.path().join("raw"), directory.path().join("image"));
    disk(&raw, 3 * MIB, &[(0, 3 << 20)]);
    let view = RawView::open(&raw).unwrap();
    let stopped =
        materialise(&view, &image, DigestKinds::NONE, &mut |_| ControlFlow::Break(())).unwrap_err();
    assert_eq!(stopped.kind(), Kind::Cancelled);
    let nowhere = directory.path().join("no").join("image");
    assert_eq!(
        materialise(&view, &nowhere, DigestKinds::NONE, &mut all).unwrap_err().kind(),
        Kind::NotFound
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(copy_to(&view, &mut Full, &mut all).unwrap_err().kind(), Kind::NoSpace);
}

#[test]
fn a_disk_which_shrinks_under_its_view_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    disk(&raw, 3 * MIB, &[(0, 3 << 20)]);
    let view = Qcow2View::new(&raw).unwrap();
    File::options().write(true).open(&raw).unwrap().set_len(MIB).unwrap();
    let error = copy_to(&view, &mut io::sink(), &mut all).unwrap_err();
    assert_eq!(error.kind(), Kind::Truncated);
}

#[test]
fn half_sectors_are_refused_for_qcow2_only() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    disk(&raw, 1000, &[]);
    assert_eq!(Qcow2View::new(&raw).unwrap_err().kind(), Kind::Unsupported);
    assert_eq!(RawView::open(&raw).unwrap().len(), 1000);
}
