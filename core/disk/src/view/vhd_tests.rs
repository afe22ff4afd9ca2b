//! Tests VHD views with qemu-img, and compares the footer with the one that qemu-img writes.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{
    Qcow2Version, Qcow2View, RawView, Stamp, VhdKind, VhdView, View, copy_to, materialise,
};
use crate::Kind;
use crate::format::{GuestReader, probe};
use crate::pack::DigestKinds;
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

fn view(path: &Path, kind: VhdKind, multiple: u64) -> VhdView {
    let stamp = Stamp::new("test", 1_700_000_000);
    VhdView::of(GuestReader::open_raw(path).unwrap(), kind, multiple, &stamp).unwrap()
}

/// Name, size, data; the data is at and around the borders of 2 MiB blocks.
type Case = (&'static str, u64, Vec<(u64, usize)>);

fn disks() -> Vec<Case> {
    vec![
        ("empty", 64 * MIB, vec![]),
        ("one sector", 512, vec![(0, 512)]),
        ("full", 6 * MIB, vec![(0, 6 << 20)]),
        ("before a border", 9 * MIB, vec![(2 * MIB - 1, 1)]),
        ("behind a border", 9 * MIB, vec![(4 * MIB, 1)]),
        ("across a border", 9 * MIB, vec![(6 * MIB - 1, 2)]),
        ("one sector more than blocks", 4 * MIB + 512, vec![(4 * MIB, 512)]),
        ("one sector less than blocks", 4 * MIB - 512, vec![(4 * MIB - 1024, 512)]),
        ("beyond the geometry's reach", 136 << 30, vec![(0, 70_000), ((136 << 30) - 512, 512)]),
    ]
}

#[test]
fn qemu_sees_the_same_disk() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = (directory.path().join("raw"), directory.path().join("image.vhd"));
    for (name, size, data) in disks() {
        disk(&raw, size, &data);
        for (kind, variant) in [(VhdKind::Fixed, "fixed"), (VhdKind::Dynamic, "dynamic")] {
            let view = view(&raw, kind, 512);
            materialise(&view, &image, DigestKinds::NONE, &mut all).unwrap();
            assert_eq!(fs::metadata(&image).unwrap().len(), view.len(), "{name} {variant}");
            let found = probe(&image).unwrap();
            assert_eq!((found.variant, found.virtual_size), (Some(variant), size), "{name}");
            let info = run(&qemu_img, &[&"info", &"-f", &"vpc", &"--output=json", &image]);
            let info = String::from_utf8(info.stdout).unwrap();
            assert!(info.contains(&format!("\"virtual-size\": {size},")), "{name}: {info}");
            run(&qemu_img, &[&"compare", &"-f", &"raw", &"-F", &"vpc", &raw, &image]);
        }
    }
}

#[test]
fn the_fixed_footer_is_what_qemu_writes_with_force_size() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (raw, theirs) = (directory.path().join("raw"), directory.path().join("theirs.vhd"));
    for size in [MIB, 20 << 30, 500 << 30] {
        disk(&raw, size, &[]);
        let option = "subformat=fixed,force_size";
        run(&qemu_img, &[&"convert", &"-f", &"raw", &"-O", &"vpc", &"-o", &option, &raw, &theirs]);
        let (mut want, mut got) = (vec![0; 512], vec![0; 512]);
        File::open(&theirs).unwrap().read_exact_at(&mut want, size).unwrap();
        view(&raw, VhdKind::Fixed, 512).read_at(&mut got, size).unwrap();
        // Time, checksum, and identifier are expected to differ.
        for range in [24..28, 64..68, 68..84] {
            want[range.clone()].fill(0);
            got[range].fill(0);
        }
        assert_eq!(got, want, "{size}");
    }
}

#[test]
fn sizes_are_rounded_up_when_asked_and_the_rest_is_zeros() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    for (size, rounded) in [(512, MIB), (MIB, MIB), (MIB + 1, 2 * MIB), (5 * MIB - 512, 5 * MIB)] {
        disk(&raw, size, &[(size - 1, 1)]);
        for kind in [VhdKind::Fixed, VhdKind::Dynamic] {
            assert_eq!(view(&raw, kind, MIB).virtual_size(), rounded, "{size} {kind:?}");
        }
        let fixed = view(&raw, VhdKind::Fixed, MIB);
        assert_eq!(fixed.len(), rounded + 512);
        let padded = RawView::open(&raw).unwrap().padded_to(MIB);
        assert_eq!((padded.len(), padded.virtual_size()), (rounded, rounded));
        let (mut vhd, mut plain) = (Vec::new(), Vec::new());
        copy_to(&fixed, &mut vhd, &mut all).unwrap();
        copy_to(&padded, &mut plain, &mut all).unwrap();
        assert!(vhd[..plain.len()] == plain, "{size}");
        let tail = &plain[usize::try_from(size).unwrap()..];
        assert!(tail.iter().all(|byte| *byte == 0), "{size}");
        let end = fixed.zeros_at(size).unwrap();
        assert_eq!((end, padded.zeros_at(size).unwrap()), (rounded - size, rounded - size));
    }
}

#[test]
fn any_piece_is_the_same_as_in_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    disk(&raw, 9 * MIB + 512, &[(0, 1), (3 * MIB + 100, 1_300_000), (9 * MIB, 512)]);
    for kind in [VhdKind::Fixed, VhdKind::Dynamic] {
        let view = view(&raw, kind, 512);
        let mut whole = Vec::new();
        copy_to(&view, &mut whole, &mut all).unwrap();
        assert_eq!(whole.len() as u64, view.len());
        let mut seed = 88_172_645_463_325_252_u64;
        for _ in 0..2000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let offset = seed % (view.len() + 100);
            let mut piece = vec![0xee; usize::try_from(seed >> 40).unwrap() % 100_000];
            let len = view.read_at(&mut piece, offset).unwrap();
            let start = usize::try_from(offset).unwrap().min(whole.len());
            assert_eq!(len, piece.len().min(whole.len() - start), "{offset}");
            assert!(piece[..len] == whole[start..start + len], "{kind:?} {offset} {len}");
            let zeros = usize::try_from(view.zeros_at(offset).unwrap()).unwrap();
            let zero_range = &whole[start..whole.len().min(start + zeros)];
            assert!(zero_range.iter().all(|byte| *byte == 0), "{kind:?} {offset} {zeros}");
        }
    }
}

#[test]
fn disks_no_vhd_can_hold_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    for size in [0, (2040 << 30) + 512] {
        disk(&raw, size, &[]);
        for kind in [VhdKind::Fixed, VhdKind::Dynamic] {
            let disk = GuestReader::open_raw(&raw).unwrap();
            let error = VhdView::of(disk, kind, 512, &Stamp::new("", 0)).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{size}");
            assert!(error.hint().is_some());
        }
    }
    disk(&raw, 2040 << 30, &[]);
    assert_eq!(view(&raw, VhdKind::Dynamic, MIB).virtual_size(), 2040 << 30);
}

#[test]
fn qcow2_comes_in_version_2_as_well() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = (directory.path().join("raw"), directory.path().join("image.qcow2"));
    for (name, size, data) in disks() {
        disk(&raw, size, &data);
        let view = Qcow2View::new(&raw).unwrap().with_version(Qcow2Version::V2);
        materialise(&view, &image, DigestKinds::NONE, &mut all).unwrap();
        let checked = run(&qemu_img, &[&"check", &"-f", &"qcow2", &image]);
        let text = String::from_utf8(checked.stdout).unwrap();
        assert!(text.contains("No errors were found"), "{name}: {text}");
        let info = run(&qemu_img, &[&"info", &"-f", &"qcow2", &image]);
        assert!(String::from_utf8(info.stdout).unwrap().contains("compat: 0.10"), "{name}");
        run(&qemu_img, &[&"compare", &"-f", &"raw", &"-F", &"qcow2", &raw, &image]);
        assert_eq!(probe(&image).unwrap().variant, Some("v2"), "{name}");
    }
}
