//! Tests deflated qcow2 and streamOptimized VMDK with qemu-img, and against each other.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Control, DigestKinds, Digests, Growing, Level, Packed, PackedQcow2, StreamVmdk};
use crate::Kind;
use crate::format::GuestReader;
use crate::testing::{program, run};
use crate::view::{Qcow2Version, Stamp};

const MIB: u64 = 1 << 20;
const CLUSTER: u64 = 64 << 10;
const EVERY: DigestKinds = DigestKinds { md5: true, sha1: true, sha256: true, ..DigestKinds::NONE };

/// The data at an offset: noise, which cannot be compressed, or text, which can.
#[derive(Clone, Copy)]
enum Data {
    Noise(u64, u64),
    Text(u64, u64),
    /// Clusters of noise and text in turn, from one cluster to another.
    Mixed(u64, u64),
}

fn disk(path: &Path, size: u64, data: &[Data]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    let len = |len: u64| usize::try_from(len).unwrap();
    for data in data {
        match *data {
            Data::Noise(at, n) => file.write_all_at(&noise(at + 3, len(n)), at).unwrap(),
            Data::Text(at, n) => file.write_all_at(&text(at, len(n)), at).unwrap(),
            Data::Mixed(from, to) => {
                for cluster in from..to {
                    let bytes = match noise(cluster, 9)[8] % 3 {
                        0 => noise(cluster, len(CLUSTER)),
                        _ => text(cluster, len(CLUSTER)),
                    };
                    file.write_all_at(&bytes, cluster * CLUSTER).unwrap();
                }
            }
        }
    }
}

/// Returns bytes that no compressor makes shorter.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(step).collect()
}

fn text(seed: u64, len: usize) -> Vec<u8> {
    let words = (seed..).map(|number| format!("word {} ", number.wrapping_mul(number) % 10_007));
    let mut out: Vec<u8> = words.take(len / 6 + 1).flat_map(String::into_bytes).collect();
    out.truncate(len);
    out
}

/// Name, size, data.
type Case = (&'static str, u64, Vec<Data>);

fn disks() -> Vec<Case> {
    use Data::{Mixed, Noise, Text};
    vec![
        ("empty", 64 * MIB, vec![]),
        ("one sector", 512, vec![Noise(0, 512)]),
        ("noise", 4 * MIB, vec![Noise(0, 4 * MIB)]),
        ("text", 8 * MIB, vec![Text(0, 8 * MIB)]),
        ("borders", 3 * MIB, vec![Text(CLUSTER - 1, 2), Noise(5 * CLUSTER, 1), Text(MIB - 1, 1)]),
        ("odd", 4 * MIB + 512 * 3, vec![Text(4 * MIB, 512 * 3)]),
        ("mixed", 40 * MIB, vec![Mixed(3, 600)]),
        ("whole ones behind an open one", 40 * MIB, vec![Text(0, 100), Noise(CLUSTER, 30 * MIB)]),
        (
            "far",
            40 << 30,
            vec![Text(0, 70_000), Noise(513 * MIB, 512), Text((40 << 30) - 512, 512)],
        ),
        ("tables", 200 * MIB, vec![Text(32 * MIB - 1, 1), Text(32 * MIB, 1), Noise(160 * MIB, 9)]),
    ]
}

fn vmdk(raw: &Path) -> StreamVmdk {
    let stamp = Stamp::new("test", 0);
    StreamVmdk::of(GuestReader::open_raw(raw).unwrap(), "disk.vmdk", &stamp).unwrap()
}

fn qcow2(raw: &Path) -> PackedQcow2 {
    PackedQcow2::of(GuestReader::open_raw(raw).unwrap()).unwrap()
}

/// Reads a whole image while it is written, the deferred prefix last, and compares it with the finished file.
fn read_along(growing: Growing) -> Packed {
    let on = || ControlFlow::Continue(());
    let (limit, head) = (growing.length_limit(), growing.deferred_prefix_len());
    let (mut bytes, mut piece) = (Vec::<u8>::new(), vec![0; 100_000]);
    loop {
        let len = growing.read_at(&mut piece, head + bytes.len() as u64, &on).unwrap();
        bytes.extend(&piece[..len]);
        if len < piece.len() {
            break;
        }
    }
    let mut whole = vec![0; usize::try_from(head).unwrap()];
    growing.read_at(&mut whole, 0, &on).unwrap();
    whole.extend(bytes);
    let packed = growing.finish().unwrap();
    assert!(packed.length <= limit, "{} of {limit}", packed.length);
    assert!(fs::read(&packed.path).unwrap() == whole);
    assert_eq!(packed.digests, Digests::of(&whole, EVERY));
    packed
}

#[test]
fn qemu_finds_no_fault_in_deflated_qcow2_and_it_is_at_most_a_twentieth_larger_than_qemus() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (raw, image, theirs) = (
        directory.path().join("raw"),
        directory.path().join("image"),
        directory.path().join("theirs"),
    );
    for (number, (name, size, data)) in disks().into_iter().enumerate() {
        disk(&raw, size, &data);
        let version = if number % 2 == 0 { Qcow2Version::V3 } else { Qcow2Version::V2 };
        let growing = qcow2(&raw).with_version(version).write(&image, EVERY, &Control::new());
        let packed = read_along(growing.unwrap());
        let checked = run(&qemu_img, &[&"check", &"-f", &"qcow2", &image]);
        let text = String::from_utf8(checked.stdout).unwrap();
        assert!(text.contains("No errors were found"), "{name}: {text}");
        run(&qemu_img, &[&"compare", &"-f", &"raw", &"-F", &"qcow2", &raw, &image]);
        let reader = GuestReader::open(&image).unwrap();
        assert_eq!(reader.virtual_size(), size, "{name}");
        run(&qemu_img, &[&"convert", &"-c", &"-O", &"qcow2", &"-f", &"raw", &raw, &theirs]);
        let theirs = fs::metadata(&theirs).unwrap().len();
        let most = theirs + theirs / 20 + CLUSTER;
        assert!(packed.length <= most, "{name}: {} against {most}", packed.length);
    }
}

#[test]
fn qemu_reads_stream_optimized_vmdk() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = (directory.path().join("raw"), directory.path().join("image.vmdk"));
    for (name, size, data) in disks() {
        disk(&raw, size, &data);
        let vmdk = vmdk(&raw);
        let virtual_size = size.next_multiple_of(CLUSTER);
        assert_eq!(vmdk.virtual_size(), virtual_size, "{name}");
        read_along(vmdk.write(&image, EVERY, &Control::new()).unwrap());
        let info = run(&qemu_img, &[&"info", &"-f", &"vmdk", &"--output=json", &image]);
        let info = String::from_utf8(info.stdout).unwrap();
        assert!(info.contains(&format!("\"virtual-size\": {virtual_size},")), "{name}: {info}");
        assert!(info.contains("\"create-type\": \"streamOptimized\""), "{name}: {info}");
        let checked = run(&qemu_img, &[&"check", &"-f", &"vmdk", &image]);
        let text = String::from_utf8(checked.stdout).unwrap();
        assert!(text.contains("No errors were found"), "{name}: {text}");
        // Not strict, because the last grain may extend beyond the disk.
        run(&qemu_img, &[&"compare", &"-f", &"raw", &"-F", &"vmdk", &raw, &image]);
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = (directory.path().join("raw"), directory.path().join("image"));
    disk(&raw, 60 * MIB, &[Data::Mixed(7, 150), Data::Text(50 * MIB, 3 * MIB)]);
    let mut first = None;
    for threads in 1..9 {
        let control = Control::new().with_threads(threads);
        qcow2(&raw).write(&image, EVERY, &control).unwrap().finish().unwrap();
        let mut got = fs::read(&image).unwrap();
        vmdk(&raw).write(&image, EVERY, &control).unwrap().finish().unwrap();
        got.extend(fs::read(&image).unwrap());
        assert!(*first.get_or_insert_with(|| got.clone()) == got, "{threads}");
    }
}

#[test]
fn every_level_gives_an_image_qemu_reads() {
    let Some(qemu_img) = program("qemu-img") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = (directory.path().join("raw"), directory.path().join("image"));
    disk(&raw, 4 * MIB, &[Data::Mixed(1, 40), Data::Text(3 * MIB, MIB)]);
    for level in 1..10 {
        let level = Level::new(level);
        let control = Control::new();
        let write = qcow2(&raw).with_level(level).write(&image, DigestKinds::NONE, &control);
        write.unwrap().finish().unwrap();
        run(&qemu_img, &[&"compare", &"-f", &"raw", &"-F", &"qcow2", &raw, &image]);
        let write = vmdk(&raw).with_level(level).write(&image, DigestKinds::NONE, &control);
        write.unwrap().finish().unwrap();
        run(&qemu_img, &[&"compare", &"-f", &"raw", &"-F", &"vmdk", &raw, &image]);
    }
}

#[test]
fn stopping_half_way_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = (directory.path().join("raw"), directory.path().join("image"));
    disk(&raw, 20 * MIB, &[Data::Mixed(0, 320)]);
    let half = || {
        Control::new().with_watch(|progress| {
            assert_eq!(progress.total, 20 * MIB);
            if progress.done * 2 >= progress.total {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    };
    let one = qcow2(&raw).write(&image, EVERY, &half()).unwrap();
    let two = vmdk(&raw).write(&image, EVERY, &half()).unwrap();
    for growing in [one, two] {
        assert_eq!(growing.finish().unwrap_err().kind(), Kind::Cancelled);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_no_image_can_hold_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    let stamp = Stamp::new("", 0);
    disk(&raw, 1000, &[]);
    let open = || GuestReader::open_raw(&raw).unwrap();
    assert_eq!(PackedQcow2::of(open()).unwrap_err().kind(), Kind::Unsupported);
    for name in ["a\"b", "a/b", ""] {
        assert_eq!(StreamVmdk::of(open(), name, &stamp).unwrap_err().kind(), Kind::Unsupported);
    }
    disk(&raw, 0, &[]);
    assert_eq!(StreamVmdk::of(open(), "x", &stamp).unwrap_err().kind(), Kind::Unsupported);
}
