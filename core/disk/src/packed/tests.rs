//! Tests files packed by the usual programs, and files corrupted on purpose.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crc_fast::{CrcAlgorithm, checksum};

use super::pour::Pouring;
use super::tap::End;
use super::unpack::{Output, Packed};
use super::{Content, Found, Wrapping, find, wrapping};
use crate::testing::{noise, program, run};
use crate::{Error, FileStamp, Kind};

/// The content of the packed files: noise, a hole of 3 MiB, noise again.
fn content() -> Vec<u8> {
    [noise(1, 1_500_000), vec![0; 3 << 20], noise(2, 70_001)].concat()
}

/// Returns the bytes of a file packed by a program that writes its output to another file beside the input.
fn pack(name: &str, args: &[&str], content: &[u8]) -> Option<Vec<u8>> {
    let tool = program(name)?;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("content");
    fs::write(&file, content).unwrap();
    let mut all_args: Vec<&dyn AsRef<std::ffi::OsStr>> = Vec::new();
    all_args.extend(args.iter().map(|arg| arg as &dyn AsRef<std::ffi::OsStr>));
    all_args.push(&file);
    run(&tool, &all_args);
    fs::remove_file(&file).unwrap();
    let made = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap();
    Some(fs::read(made.path()).unwrap())
}

fn go_on(_: &[u8]) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Unpacks bytes in a separate directory, where no file may remain.
fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("packed");
    fs::write(&path, bytes).unwrap();
    let mut seen = Vec::new();
    let result = find(&path, directory.path(), None, &mut |piece| {
        seen.extend_from_slice(piece);
        ControlFlow::Continue(())
    });
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a file is left");
    let Found { content, streamed, .. } = result?;
    assert!(streamed);
    let Content::Unpacked { mut file, len, source } = content else { panic!("{content:?}") };
    assert_eq!(source, FileStamp::at(&path).unwrap());
    assert!(seen == bytes, "every packed byte is seen once, in order");
    let mut got = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut got).unwrap();
    assert_eq!(got.len() as u64, len);
    Ok(got)
}

const TOOLS: [(&str, &[&str], Wrapping); 13] = [
    ("gzip", &["-k"], Wrapping::Gzip),
    ("gzip", &["-k", "-1"], Wrapping::Gzip),
    ("xz", &["-k", "-0"], Wrapping::Xz),
    ("xz", &["-k", "-0", "--block-size=300000"], Wrapping::Xz),
    ("xz", &["-k", "-0", "--check=sha256"], Wrapping::Xz),
    ("xz", &["-k", "-0", "--check=none", "--x86", "--lzma2=preset=0"], Wrapping::Xz),
    ("xz", &["-k", "-0", "--format=lzma"], Wrapping::Lzma),
    ("bzip2", &["-k", "-1"], Wrapping::Bzip2),
    ("lz4", &["-k", "-q", "-m"], Wrapping::Lz4),
    ("pzstd", &["-k", "-q"], Wrapping::Zstd),
    ("zstd", &["-k", "-q"], Wrapping::Zstd),
    ("zstd", &["-k", "-q", "--no-check"], Wrapping::Zstd),
    ("zstd", &["-k", "-q", "-19", "--long=27"], Wrapping::Zstd),
];

#[test]
fn what_the_usual_programs_pack_is_unpacked() {
    let content = content();
    for (name, args, kind) in TOOLS {
        let Some(bytes) = pack(name, args, &content) else { continue };
        let case = format!("{name} {args:?}");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        assert_eq!(wrapping(file.path()).unwrap(), Some(kind), "{case}");
        let got = unpacked(&bytes).unwrap_or_else(|error| panic!("{case}: {error:?}"));
        assert!(got == content, "{case}: bytes differ");
    }
}

#[test]
fn pieces_packed_one_by_one_are_one_file() {
    let (first, second) = (noise(3, 200_000), noise(4, 100));
    let whole = [&first[..], &second].concat();
    for (name, args) in [
        ("gzip", &["-k"][..]),
        ("xz", &["-k", "-0"]),
        ("zstd", &["-k", "-q"]),
        ("bzip2", &["-k"]),
        ("lz4", &["-k", "-q", "-m"]),
    ] {
        let Some(one) = pack(name, args, &first) else { continue };
        let (two, none) = (pack(name, args, &second).unwrap(), pack(name, args, b"").unwrap());
        let skipped = if name == "zstd" { &b"\x53\x2a\x4d\x18\x05\0\0\0hello"[..] } else { b"" };
        let joined = [&one[..], &none, skipped, &two, &none].concat();
        assert!(unpacked(&joined).unwrap() == whole, "{name}");
        // Padding as on tapes and devices.
        let padded = [&joined[..], &[0; 4096]].concat();
        assert!(unpacked(&padded).unwrap() == whole, "{name} padded");
        let skipped_first = [skipped, skipped, &one].concat();
        assert!(
            name != "zstd" || unpacked(&skipped_first).unwrap() == first,
            "{name} after skippable frames"
        );
    }
}

fn wrapping_of(bytes: &[u8]) -> Option<Wrapping> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    wrapping(file.path()).unwrap()
}

#[test]
fn truncated_damaged_and_trailing_data_are_distinguished() {
    let content = noise(5, 400_000);
    for (name, args, kind_of) in TOOLS {
        let Some(bytes) = pack(name, args, &content) else { continue };
        let kind = |bytes: &[u8]| unpacked(bytes).err().map(|error| error.kind());
        let case = format!("{name} {args:?}");
        // LZMA has no magic: its first 14 bytes are needed to know it. pzstd begins with a skippable frame of 12 bytes.
        let first = match name {
            "pzstd" => 16,
            _ if kind_of == Wrapping::Lzma => 14,
            _ => 10,
        };
        for len in [first, 30, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
            assert_eq!(kind(&bytes[..len]), Some(Kind::Truncated), "{case} cut to {len}");
        }
        for garbage in [&b"garbage"[..], b"\x1f", b"\x1f\x8bx and more", &[0xfd; 20], &[0x28; 9]] {
            let bytes = [&bytes[..], garbage].concat();
            let found = kind(&bytes);
            let expected = [Some(Kind::Malformed), Some(Kind::Truncated)];
            assert!(expected.contains(&found), "{case} followed by {garbage:?}: {found:?}");
        }
        let unchecked = ["--check=none", "--no-check", "--format=lzma"];
        if args.iter().any(|arg| unchecked.contains(arg)) {
            continue;
        }
        for at in (20..bytes.len()).step_by(bytes.len() / 7) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            assert!(kind(&bytes).is_some(), "{case} changed at {at}");
        }
    }
}

#[test]
fn an_lz4_file_that_is_cut_between_two_blocks_is_truncated() {
    let Some(bytes) = pack("lz4", &["-k", "-q", "-m", "-B4"], &noise(7, 300_000)) else { return };
    // Frame header of 7 bytes, then blocks: length and bytes (LZ4 Frame Format 1.6.4).
    let first = crate::field::le32(&bytes, 7) & 0x7fff_ffff;
    let boundary = 11 + usize::try_from(first).unwrap();
    for len in [7, boundary, boundary + 4, bytes.len() - 8, bytes.len() - 4] {
        let error = unpacked(&bytes[..len]).unwrap_err();
        assert_eq!(error.kind(), Kind::Truncated, "{len}: {error:?}");
    }
}

#[test]
fn memory_is_not_what_the_file_asks_for() {
    // A zstd frame with a window of 1 GiB, and one empty block.
    let zstd = b"\x28\xb5\x2f\xfd\x00\xa0\x01\0\0";
    assert_eq!(unpacked(zstd).unwrap_err().kind(), Kind::Unsupported);
    let Some(mut xz) = pack("xz", &["-k", "-0"], b"content") else { return };
    // The block header: size, flags, filter 0x21, one byte of properties: the dictionary's size.
    assert_eq!(xz[14..16], [0x21, 1]);
    let end = 12 + usize::from(xz[12]) * 4;
    xz[16] = 40;
    let sum = u32::try_from(checksum(CrcAlgorithm::Crc32IsoHdlc, &xz[12..end])).unwrap();
    xz[end..end + 4].copy_from_slice(&sum.to_le_bytes());
    let error = unpacked(&xz).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.hint().is_some());
}

#[test]
fn a_bomb_stops_before_the_disk_is_full() {
    let Some(bytes) = pack("gzip", &["-k"], &[7; 20 << 20]) else { return };
    assert!(bytes.len() < 100_000);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bomb");
    fs::write(&path, bytes).unwrap();
    let mut out = Output::create(directory.path()).unwrap().with_room(4 << 20);
    let packed = Packed { path: &path, end: End::default() };
    let mut pouring = Pouring::new(&packed, None);
    let mut file = fs::File::open(&path).unwrap();
    let error = pouring.pour(&mut file, &mut out, 0).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace);
    assert!(error.hint().is_some());
    assert!(out.file.metadata().unwrap().len() <= 6 << 20, "it stopped soon");
}

#[test]
fn zeros_cost_no_space() {
    let zeros = vec![0; 40 << 20];
    let Some(bytes) = pack("gzip", &["-k", "-1"], &zeros) else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zeros");
    fs::write(&path, bytes).unwrap();
    let found = find(&path, directory.path(), None, &mut go_on).unwrap();
    let Content::Unpacked { file, len, .. } = found.content else { panic!() };
    assert_eq!((len, file.metadata().unwrap().len()), (40 << 20, 40 << 20));
    assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn the_caller_may_stop_and_nothing_stays() {
    let Some(bytes) = pack("gzip", &["-k", "-1"], &noise(6, 8 << 20)) else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long");
    fs::write(&path, bytes).unwrap();
    let mut calls = 0;
    let error = find(&path, directory.path(), None, &mut |_| {
        calls += 1;
        if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(error.unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_is_not_packed_is_not_unpacked() {
    assert_eq!(wrapping_of(b""), None);
    assert_eq!(wrapping_of(b"\x1f\x8b\x09"), None);
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = find(file.path(), Path::new("/tmp"), None, &mut go_on).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    fs::write(file.path(), b"\x1f\x8b\x08").unwrap();
    let missing = find(file.path(), Path::new("/nowhere"), None, &mut go_on).unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
}

/// Changes to the packed file while it is read, and the text of the error.
#[test]
fn a_packed_file_that_changes_while_it_is_read_is_an_error() {
    let Some(bytes) = pack("gzip", &["-k", "-1"], &noise(7, 8 << 20)) else { return };
    type Change = fn(&Path);
    let changes: [(Change, &str); 4] = [
        (|path| append(path, b"more"), "bytes and has"),
        (
            |path| {
                let before = path.metadata().unwrap().modified().unwrap();
                let file = fs::File::options().write(true).open(path).unwrap();
                std::os::unix::fs::FileExt::write_at(&file, &[0; 9], 7 << 20).unwrap();
                file.set_modified(before).unwrap();
            },
            "change time",
        ),
        (
            |path| {
                let beside = path.with_extension("new");
                fs::copy(path, &beside).unwrap();
                fs::rename(beside, path).unwrap();
            },
            "another file has its name now",
        ),
        (|path| fs::remove_file(path).unwrap(), "removed or renamed"),
    ];
    for (change, text) in changes {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("packed");
        fs::write(&path, &bytes).unwrap();
        let written = FileStamp::at(&path).unwrap();
        let mut changed = false;
        let result = find(&path, directory.path(), None, &mut |_| {
            // Repeated until the clock of the file system shows the change; the bytes are the same each time.
            if !changed {
                change(&path);
                changed = FileStamp::at(&path).ok() != Some(written);
            }
            ControlFlow::Continue(())
        });
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::Changed, "{error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(text), "{cause}");
    }
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = fs::File::options().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
}
