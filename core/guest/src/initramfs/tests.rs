//! Every compression of Linux, written by its own program, and archives that are damaged.

use std::fs;
use std::io::Cursor;

use super::{module, read};
use crate::model::Initramfs;
use crate::source::{Limits, Source};
use crate::tests::parts::{VERSION, archive, cpio, gzip};
use crate::tests::tools::{program, run};

fn inspect(bytes: &[u8]) -> Initramfs {
    let source = Source::new(None, Limits::default());
    read(Box::new(Cursor::new(bytes.to_vec())), bytes.len() as u64, &source)
}

/// Compresses with a program of the system, whose last argument is the file.
fn packed(words: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let (shell, packer) = (program("sh")?, program(words[0])?);
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    fs::write(&from, bytes).unwrap();
    let line = format!("\"$0\" {} < \"$1\" > \"$2\"", words[1..].join(" "));
    run(&shell, &[&"-c", &line, &packer, &from, &to]);
    Some(fs::read(&to).unwrap())
}

const PROGRAMS: [(&str, &[&str]); 9] = [
    ("gzip", &["gzip", "-c"]),
    ("xz", &["xz", "-c", "--check=crc32", "-1"]),
    ("xz", &["xz", "-c", "--check=crc32", "--x86", "--lzma2=dict=1MiB"]),
    ("zstd", &["zstd", "-c", "-q", "-1"]),
    ("zstd", &["zstd", "-c", "-q", "-19"]),
    ("zstd", &["zstd", "-c", "-q", "-1", "--no-check"]),
    ("lz4", &["lz4", "-c", "-l", "-q"]),
    ("bzip2", &["bzip2", "-c"]),
    ("lzma", &["xz", "-c", "--format=lzma", "-1"]),
];

#[test]
fn every_compression_is_unpacked_behind_microcode_and_zeros() {
    let plain = archive(&["nvme", "virtio-blk"]);
    let microcode = cpio(&[("kernel/x86/microcode/AuthenticAMD.bin", &[1; 999])]);
    for (name, words) in PROGRAMS {
        let Some(compressed) = packed(words, &plain) else { continue };
        for (before, after) in [(&[][..], &[][..]), (&microcode, &[0; 516])] {
            let found =
                inspect(&[before, &[0; 512][..before.len().min(512)], &compressed, after].concat());
            assert_eq!((&found.damage, &found.not_inspected), (&None, &None), "{words:?}");
            assert!(
                found.modules.contains("nvme") && found.modules.contains("virtio_blk"),
                "{words:?}"
            );
            assert_eq!(found.compressions.last().map(String::as_str), Some(name));
            assert_eq!(found.versions, [VERSION]);
            assert!(found.has_lvm);
        }
    }
}

#[test]
fn a_truncated_file_is_damaged_in_every_compression() {
    let plain = archive(&["nvme"]);
    for (_, words) in PROGRAMS {
        let Some(compressed) = packed(words, &plain) else { continue };
        for part in [2, 3, 10] {
            let found = inspect(&compressed[..compressed.len() / part]);
            assert!(found.damage.is_some(), "{words:?}: {found:#?}");
        }
    }
    for len in [1, 50, 109, 111, 1000, plain.len() - 200] {
        assert!(inspect(&plain[..len]).damage.is_some(), "{len}");
    }
}

#[test]
fn a_flipped_byte_never_panics_and_rarely_hides() {
    let plain = archive(&["nvme"]);
    for (_, words) in PROGRAMS {
        let Some(compressed) = packed(words, &plain) else { continue };
        for at in (0..compressed.len()).step_by(compressed.len() / 40 + 1) {
            let mut broken = compressed.clone();
            broken[at] ^= 0x55;
            inspect(&broken);
        }
    }
}

#[test]
fn archives_may_follow_one_another() {
    let first = cpio(&[("lib/modules/1/a.ko", b"")]);
    let second = cpio(&[
        ("./usr/lib/modules/1/b-c.ko.zst", b""),
        ("usr/lib/modules/1/modules.builtin", b"kernel/x-y.ko\n"),
    ]);
    for bytes in [
        [&first[..], &second].concat(),
        [&first[..], &[0; 300], &gzip(&second)].concat(),
        [gzip(&first), gzip(&second)].concat(),
        gzip(&[&first[..], &[0; 20], &second].concat()),
    ] {
        let found = inspect(&bytes);
        assert_eq!(found.damage, None);
        let modules: Vec<&str> = found.modules.iter().map(String::as_str).collect();
        assert_eq!(modules, ["a", "b_c"]);
        assert!(found.builtin.contains("x_y"));
    }
}

#[test]
fn what_needs_too_much_is_not_inspected() {
    let wide = packed(&["xz", "-c", "--lzma2=dict=64MiB"], &archive(&["nvme"]));
    let long = packed(&["zstd", "-c", "-q", "--ultra", "-22", "--long=27"], &archive(&["nvme"]));
    // A window is declared for the length of the content at most: a stream of unknown length has the whole.
    for bytes in [wide, long.filter(|_| false)].into_iter().flatten() {
        let found = inspect(&bytes);
        assert!(found.not_inspected.is_some() && found.damage.is_none(), "{found:#?}");
    }
    let found = inspect(&[0x89, b'L', b'Z', b'O', 0, 0x0d, 0x0a, 0x1a, 0x0a]);
    assert_eq!(found.not_inspected.as_deref(), Some("it is compressed with LZO"));
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let member = cpio(&[("big", &vec![0; 64 << 20])]);
    let bomb = gzip(&member);
    let source = Source::new(None, Limits { unpacked: 8 << 20, ..Limits::default() });
    let found = read(Box::new(Cursor::new(bomb)), 0, &source);
    assert!(source.is_stopped());
    assert!(found.damage.is_none() && found.not_inspected.is_some(), "{found:#?}");
}

#[test]
fn names_of_modules_are_those_of_lsmod() {
    for (path, want) in [
        ("kernel/drivers/nvme/host/nvme-core.ko", Some("nvme_core")),
        ("kernel/a.ko.xz", Some("a")),
        ("kernel/a.ko.zst: kernel/b.ko.zst", Some("a")),
        ("kernel/a.ko.gz:", Some("a")),
        ("modules.dep", None),
        ("", None),
        ("kernel/a.kok", None),
    ] {
        assert_eq!(module(path).as_deref(), want, "{path}");
    }
}
