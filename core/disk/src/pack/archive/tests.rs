//! Tests archives with tar, gzip, unzip, and Python's zipfile, and against each other.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ArchiveOptions, Content, Member, tar_gz, zip};
use crate::format::Format;
use crate::pack::{Control, DigestKinds, Digests, Growing, Level};
use crate::testing::{noise, program, run, run_any};
use crate::view::{RawView, Stamp, View};
use crate::{Error, Kind};

const MIB: u64 = 1 << 20;
const EVERY: DigestKinds = DigestKinds { md5: true, sha1: true, sha256: true, ..DigestKinds::NONE };

fn disk(path: &Path, size: u64, data: &[(u64, usize)]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, len) in data {
        file.write_all_at(&noise(*offset + 3, *len), *offset).unwrap();
    }
}

fn options() -> ArchiveOptions {
    let stamp = Stamp::new("test", 1_700_000_000);
    ArchiveOptions { level: Level::default(), stamp, digests: EVERY }
}

fn of(path: &Path) -> Content {
    Content::View(Arc::new(RawView::open(path).unwrap()))
}

fn member(name: &str, content: Content) -> Member {
    Member { name: name.into(), content }
}

/// Name, size, data; holes start and end around multiples of 1 MiB.
type Case = (&'static str, u64, Vec<(u64, usize)>);

fn disks() -> Vec<Case> {
    vec![
        ("nothing", 0, vec![]),
        ("one byte", 1, vec![(0, 1)]),
        ("one sector", 512, vec![(0, 512)]),
        ("hole", 9 * MIB, vec![]),
        ("full", 3 * MIB, vec![(0, 3 << 20)]),
        ("one byte less", 3 * MIB - 1, vec![(3 * MIB - 2, 1)]),
        ("one byte more", 3 * MIB + 1, vec![(3 * MIB, 1)]),
        ("around borders", 40 * MIB, vec![(MIB - 1, 1), (3 * MIB, 1), (6 * MIB - 1, 2)]),
        ("long hole", 70 * MIB + 77, vec![(0, 100_000), (70 * MIB, 77)]),
    ]
}

#[test]
fn tar_finds_the_member_and_the_same_bytes() {
    let (Some(tar), Some(gzip)) = (program("tar"), program("gzip")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (raw, dest) = (directory.path().join("raw"), directory.path().join("a.tar.gz"));
    for (name, size, data) in disks() {
        disk(&raw, size, &data);
        let growing = tar_gz(member("disk.raw", of(&raw)), &options(), &dest, &Control::new());
        let growing = growing.unwrap();
        let limit = growing.length_limit();
        let packed = growing.finish().unwrap();
        let bytes = fs::read(&dest).unwrap();
        assert_eq!(packed.length, bytes.len() as u64, "{name}");
        assert!(packed.length <= limit, "{name}: {} of {limit}", packed.length);
        assert_eq!(packed.digests, Digests::of(&bytes, EVERY), "{name}");
        run(&gzip, &[&"-t", &dest]);
        let utc = ["--utc", "--full-time"];
        let list = run(&tar, &[&utc[0], &utc[1], &"-tvf", &dest]);
        let want = format!("-rw-r--r-- root/root {size:>9} 2023-11-14 22:13:20 disk.raw\n");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&String::from_utf8(list.stdout).unwrap()), words(&want), "{name}");
        run(&tar, &[&"-C", &directory.path(), &"-xSf", &dest]);
        assert!(same(&raw, &directory.path().join("disk.raw")), "{name}");
    }
}

fn same(one: &Path, other: &Path) -> bool {
    let Some(cmp) = program("cmp") else { return true };
    run_any(&cmp, &[&one, &other]).status.success()
}

/// Compares the output of Python's zipfile and unzip with the packed content.
#[test]
fn unzip_and_python_find_the_members_and_the_same_bytes() {
    let (Some(unzip), Some(python)) = (program("unzip"), program("python3")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let dest = directory.path().join("a.zip");
    let mut members = vec![member("bytes.txt", Content::Bytes(b"some text".to_vec()))];
    for (number, (_, size, data)) in disks().into_iter().enumerate() {
        let path = directory.path().join(format!("disk{number}"));
        disk(&path, size, &data);
        members.push(member(&format!("d\u{e9}{number}.raw"), of(&path)));
    }
    let growing = zip(members, &options(), &dest, &Control::new()).unwrap();
    let limit = growing.length_limit();
    let packed = growing.finish().unwrap();
    assert!(packed.length <= limit, "{} of {limit}", packed.length);
    assert_eq!(packed.digests, Digests::of(&fs::read(&dest).unwrap(), EVERY));
    run(&unzip, &[&"-tq", &dest]);
    let script = r"
import sys, zipfile, filecmp, shutil
directory = sys.argv[1]
archive = zipfile.ZipFile(directory + '/a.zip')
assert archive.testzip() is None
infos = archive.infolist()
assert archive.read('bytes.txt') == b'some text'
for number, info in enumerate(infos[1:]):
    assert info.filename == 'd\u00e9%d.raw' % number, info.filename
    assert info.date_time == (2023, 11, 14, 22, 13, 20), info.date_time
    assert info.external_attr >> 16 == 0o100644
    with archive.open(info) as member, open(directory + '/disk%d' % number, 'rb') as disk:
        while True:
            piece = disk.read(1 << 20)
            assert piece == member.read(len(piece) or 1)
            if not piece: break
";
    run(&python, &[&"-c", &script, &directory.path()]);
}

/// A view of one repeated byte, without known zeros.
struct Long(u64);

impl View for Long {
    fn format(&self) -> Format {
        Format::Raw
    }
    fn virtual_size(&self) -> u64 {
        self.0
    }
    fn len(&self) -> u64 {
        self.0
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        let len = usize::try_from(self.0.saturating_sub(offset)).unwrap().min(buf.len());
        buf[..len].fill(0);
        Ok(len)
    }
    fn zeros_at(&self, offset: u64) -> Result<u64, Error> {
        Ok(self.0.saturating_sub(offset))
    }
}

#[test]
fn members_beyond_32_and_33_bits_have_correct_sizes() {
    let (Some(tar), Some(python)) = (program("tar"), program("python3")) else { return };
    let directory = tempfile::tempdir().unwrap();
    for size in [(1 << 32) - 2, (1 << 32) - 1, 1 << 32, (1 << 33) - 1, 1 << 33, 9 << 40] {
        let header = super::tar::header("x", size, super::tar::Flavour::OldGnu, &Stamp::new("", 0));
        let path = directory.path().join("head.tar");
        fs::write(&path, header.unwrap()).unwrap();
        // The content of the member is missing, which tar reports after it has listed the member.
        let list = run_any(&tar, &[&"-tvf", &path]);
        let text = String::from_utf8(list.stdout).unwrap();
        assert!(text.contains(&format!(" {size} ")), "{text}");
        if size > 1 << 40 {
            continue; // too long to pack in a test
        }
        let dest = directory.path().join("a.zip");
        let long = Content::View(Arc::new(Long(size)));
        let members = vec![member("long", long), member("b", Content::Bytes(vec![7; 3]))];
        zip(members, &options(), &dest, &Control::new()).unwrap().finish().unwrap();
        let script = r"
import sys, zipfile
infos = zipfile.ZipFile(sys.argv[1]).infolist()
assert infos[0].file_size == int(sys.argv[2]), infos
assert zipfile.ZipFile(sys.argv[1]).read('b') == b'\x07\x07\x07'
with zipfile.ZipFile(sys.argv[1]).open('long') as member:
    assert member.read(100) == bytes(100)
";
        run(&python, &[&"-c", &script, &dest, &size.to_string()]);
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, dest) = (directory.path().join("raw"), directory.path().join("a"));
    disk(&raw, 30 * MIB + 5, &[(MIB - 7, 3 << 20), (20 * MIB, 70_000)]);
    let mut first = None;
    for threads in 1..9 {
        let control = Control::new().with_threads(threads);
        tar_gz(member("x", of(&raw)), &options(), &dest, &control).unwrap().finish().unwrap();
        let mut got = fs::read(&dest).unwrap();
        let members = vec![member("x", of(&raw)), member("y", Content::Bytes(vec![1]))];
        zip(members, &options(), &dest, &control).unwrap().finish().unwrap();
        got.extend(fs::read(&dest).unwrap());
        assert!(*first.get_or_insert_with(|| got.clone()) == got, "{threads}");
    }
}

#[test]
fn a_growing_archive_can_be_read_up_to_what_is_final() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, dest) = (directory.path().join("raw"), directory.path().join("a.tar.gz"));
    disk(&raw, 20 * MIB, &[(0, 20 << 20)]);
    let control = Control::new().with_threads(2);
    let growing = tar_gz(member("x", of(&raw)), &options(), &dest, &control).unwrap();
    assert_eq!(growing.deferred_prefix_len(), 0);
    let on = || ControlFlow::Continue(());
    let (mut bytes, mut piece) = (Vec::<u8>::new(), vec![0; 300_000]);
    loop {
        let len = growing.read_at(&mut piece, bytes.len() as u64, &on).unwrap();
        bytes.extend(&piece[..len]);
        if len < piece.len() {
            break;
        }
    }
    assert_eq!(growing.length(), Some(bytes.len() as u64));
    let path = growing.finish().unwrap().path;
    assert!(fs::read(path).unwrap() == bytes);
}

/// Starts an archive whose work does not end before it is cancelled.
fn stuck(directory: &Path, started: &Arc<AtomicU64>) -> Growing {
    let started = Arc::clone(started);
    let control = Control::new().with_watch(move |progress| {
        started.store(progress.done, Ordering::SeqCst);
        ControlFlow::Continue(())
    });
    let content = Content::View(Arc::new(Long(1 << 50)));
    tar_gz(member("x", content), &options(), &directory.join("a.tar.gz"), &control).unwrap()
}

#[test]
fn stopping_leaves_nothing_behind_whoever_stops() {
    let directory = tempfile::tempdir().unwrap();
    let empty = || fs::read_dir(directory.path()).unwrap().count() == 0;
    let dest = directory.path().join("a.tar.gz");
    let on = || ControlFlow::Continue(());
    let content = || Content::View(Arc::new(Long(1 << 40)));

    let control = Control::new().with_watch(|_| ControlFlow::Break(()));
    let growing = tar_gz(member("x", content()), &options(), &dest, &control).unwrap();
    let mut piece = vec![0; 1 << 20];
    assert_eq!(growing.read_at(&mut piece, 1 << 30, &on).unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(growing.finish().unwrap_err().kind(), Kind::Cancelled);
    assert!(empty());

    let started = Arc::new(AtomicU64::new(0));
    let growing = stuck(directory.path(), &started);
    let stop = || ControlFlow::Break(());
    assert_eq!(growing.read_at(&mut piece, 1 << 40, &stop).unwrap_err().kind(), Kind::Cancelled);
    growing.cancel();
    assert_eq!(growing.finish().unwrap_err().kind(), Kind::Cancelled);
    assert!(empty());

    drop(stuck(directory.path(), &started));
    assert!(empty());
}

#[test]
fn a_dropped_archive_is_removed_even_when_complete_and_an_older_file_stays() {
    let directory = tempfile::tempdir().unwrap();
    let dest = directory.path().join("a.tar.gz");
    let bytes = Content::Bytes(noise(1, 300_000));
    let growing = tar_gz(member("x", bytes), &options(), &dest, &Control::new()).unwrap();
    let mut piece = vec![0; 1 << 20];
    growing.read_at(&mut piece, 0, &|| ControlFlow::Continue(())).unwrap();
    assert!(growing.length().is_some());
    drop(growing);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

    fs::write(&dest, "older").unwrap();
    drop(stuck(directory.path(), &Arc::default()));
    assert_eq!(fs::read_to_string(&dest).unwrap(), "older");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn failures_reach_reader_and_writer_and_leave_nothing_behind() {
    struct Broken;
    impl View for Broken {
        fn format(&self) -> Format {
            Format::Raw
        }
        fn virtual_size(&self) -> u64 {
            9 << 20
        }
        fn len(&self) -> u64 {
            9 << 20
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
            assert_ne!(offset, 7 << 20, "broken on purpose");
            let whole = if offset == 5 << 20 { 3 } else { buf.len() };
            Ok(whole)
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let dest = directory.path().join("a.zip");
    let content = Content::View(Arc::new(Broken));
    let growing = zip(vec![member("x", content)], &options(), &dest, &Control::new()).unwrap();
    let on = || ControlFlow::Continue(());
    assert_eq!(growing.read_at(&mut [0; 9], 0, &on).unwrap_err().kind(), Kind::Truncated);
    assert_eq!(growing.finish().unwrap_err().kind(), Kind::Truncated);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    let nowhere = directory.path().join("no/a.zip");
    assert_eq!(
        zip(vec![], &options(), &nowhere, &Control::new()).unwrap_err().kind(),
        Kind::NotFound
    );
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let dest = directory.path().join("a");
    let long = "x".repeat(101);
    for name in ["", ".", "..", "a/b", "/a", "a\\b", "a\nb", long.as_str()] {
        let one = || member(name, Content::Bytes(vec![]));
        let refused = tar_gz(one(), &options(), &dest, &Control::new()).unwrap_err();
        assert_eq!(refused.kind(), Kind::Unsupported, "{name}");
        assert!(zip(vec![one()], &options(), &dest, &Control::new()).is_err(), "{name}");
    }
    let longest = member(&long[1..], Content::Bytes(vec![]));
    tar_gz(longest, &options(), &dest, &Control::new()).unwrap().finish().unwrap();
}
