//! Tests archives made by the usual programs: what is read in place, what is unpacked, and what is refused.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::{Content, Found, find, read_stream, wrapping};
use sha2::Digest;

use crate::format::{Format, GuestReader};
use crate::testing::{noise, program, run};
use crate::{Error, Kind};

const OVF: &str = r#"<Envelope><References><File href="vm.vmdk" id="f"/></References><DiskSection>
<Disk fileRef="f"/></DiskSection><VirtualSystem><VirtualHardwareSection><Config key="firmware" value="efi"/>
</VirtualHardwareSection></VirtualSystem></Envelope>"#;

/// Creates files in a directory and packs them: a shell command with the directory as its working directory.
fn packed(directory: &Path, command: &str) -> Option<PathBuf> {
    let shell = program("sh")?;
    let mut disk = noise(9, 300_000);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    for (name, content) in [("disk.raw", &disk[..]), ("other.img", b"text"), ("README", b"text")] {
        fs::write(directory.join(name), content).unwrap();
    }
    // The rest is a hole.
    fs::File::options()
        .write(true)
        .open(directory.join("disk.raw"))
        .unwrap()
        .set_len(4 << 20)
        .unwrap();
    fs::write(directory.join("vm.ovf"), OVF).unwrap();
    fs::copy(directory.join("disk.raw"), directory.join("vm.vmdk")).unwrap();
    let digest = sha2::Sha256::digest(fs::read(directory.join("vm.vmdk")).unwrap());
    let of_descriptor = sha2::Sha256::digest(OVF);
    let manifest = format!("SHA256(vm.ovf)= {of_descriptor:x}\nSHA256(vm.vmdk)= {digest:x}\n");
    fs::write(directory.join("vm.mf"), manifest).unwrap();
    fs::create_dir_all(directory.join("sub")).unwrap();
    fs::copy(directory.join("disk.raw"), directory.join("sub/deep.raw")).unwrap();
    let line = format!("cd \"$0\" && {command} >out");
    run(&shell, &[&"-c", &line, &directory]);
    Some(directory.join("out"))
}

fn opened(path: &Path, member: Option<&str>) -> Result<(Found, Vec<u8>), Error> {
    let before = fs::read_dir(path.parent().unwrap()).unwrap().count();
    let mut found = find(path, path.parent().unwrap(), member, &mut |_| ControlFlow::Continue(()))?;
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), before);
    let reader = match std::mem::replace(
        &mut found.content,
        Content::Unpacked {
            file: tempfile::tempfile().unwrap(),
            len: 0,
            source: crate::FileStamp::at(path).unwrap(),
        },
    ) {
        Content::InPlace { file } => {
            found.content = Content::InPlace { file: crate::format::LockedFile::open(path)? };
            GuestReader::open_file(file, Some(Format::Raw))?
        }
        Content::Unpacked { file, source, .. } => {
            GuestReader::open_unpacked(file, path, source, Some(Format::Raw))?
        }
    };
    let mut content = vec![0; usize::try_from(reader.virtual_size()).unwrap()];
    reader.read_at(&mut content, 0).unwrap();
    Ok((found, content))
}

/// Programs, command, member that is named, member that is found, and whether it is read in place.
type Case = (&'static [&'static str], &'static str, Option<&'static str>, &'static str, bool);

const CASES: [Case; 24] = [
    (&["tar"], "tar -c disk.raw", None, "disk.raw", true),
    (&["tar"], "tar -c --format=v7 disk.raw README", None, "disk.raw", true),
    (&["tar"], "tar -c --format=pax ./disk.raw", None, "./disk.raw", true),
    (&["tar"], "tar -c --format=gnu vm.ovf vm.vmdk disk.raw", None, "vm.vmdk", true),
    (&["tar"], "tar -c vm.ovf vm.mf vm.vmdk", None, "vm.vmdk", true),
    (&["tar"], "tar -c vm.ovf vm.vmdk vm.mf", None, "vm.vmdk", true),
    (&["tar", "gzip"], "tar -cz vm.ovf vm.vmdk vm.mf", Some("vm.vmdk"), "vm.vmdk", false),
    (&["tar", "gzip"], "tar -cz vm.ovf vm.mf vm.vmdk", None, "vm.vmdk", false),
    (&["tar", "gzip"], "tar -cz vm.ovf vm.vmdk vm.mf", None, "vm.vmdk", false),
    (&["tar"], "tar -c sub", None, "sub/deep.raw", true),
    (&["tar"], "tar -c disk.raw sub", Some("deep.raw"), "sub/deep.raw", true),
    (&["tar"], "tar -c --format=oldgnu -S disk.raw README", None, "disk.raw", false),
    (&["tar", "gzip"], "tar -cz --format=oldgnu -S disk.raw", None, "disk.raw", false),
    (&["tar", "gzip"], "tar -cz README disk.raw", None, "disk.raw", false),
    (&["tar", "gzip"], "tar -cz vm.ovf disk.raw vm.vmdk", None, "vm.vmdk", false),
    (&["tar", "gzip"], "tar -cz disk.raw other.img", Some("disk.raw"), "disk.raw", false),
    (
        &["tar", "xz", "gzip"],
        "sh -c 'gzip -k disk.raw; tar -cJ disk.raw.gz'",
        None,
        "disk.raw.gz",
        false,
    ),
    (&["tar", "zstd"], "tar -c --zstd disk.raw", None, "disk.raw", false),
    (&["tar", "bzip2"], "tar -cj disk.raw", None, "disk.raw", false),
    (&["tar", "gzip"], "sh -c 'gzip -k disk.raw; tar -c disk.raw.gz'", None, "disk.raw.gz", false),
    (&["zip"], "zip -q - disk.raw", None, "disk.raw", false),
    (
        &["zip"],
        "sh -c 'zip -q -0 x.zip README disk.raw; cat x.zip; rm x.zip'",
        None,
        "disk.raw",
        true,
    ),
    (
        &["zip"],
        "sh -c 'zip -q x.zip vm.ovf vm.vmdk disk.raw; cat x.zip; rm x.zip'",
        None,
        "vm.vmdk",
        false,
    ),
    (
        &["zip"],
        "sh -c 'zip -q -r x.zip sub other.img; cat x.zip; rm x.zip'",
        Some("sub/deep.raw"),
        "sub/deep.raw",
        false,
    ),
];

#[test]
fn the_disk_in_an_archive_is_read_in_place_or_unpacked_once() {
    for (programs, command, member, want, in_place) in CASES {
        if programs.iter().any(|name| program(name).is_none()) {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let Some(path) = packed(directory.path(), command) else { return };
        assert!(wrapping(&path).unwrap().is_some(), "{command}");
        let (found, content) =
            opened(&path, member).unwrap_or_else(|error| panic!("{command}: {error:?}"));
        assert!(content == fs::read(directory.path().join("disk.raw")).unwrap(), "{command}");
        let name = found.member.as_deref();
        assert_eq!(name, Some(want), "{command}");
        assert_eq!(matches!(found.content, Content::InPlace { .. }), in_place, "{command}");
        let uefi = found.machine.and_then(|machine| machine.uefi);
        assert_eq!(uefi, command.contains("vm.ovf").then_some(true), "{command}");
    }
}

/// Programs, command, member that is named, and the error: its kind and a part of its text.
type Refusal = (&'static [&'static str], &'static str, Option<&'static str>, Kind, &'static str);

const REFUSED: [Refusal; 14] = [
    (&["tar"], "tar -c disk.raw other.img", None, Kind::Unsupported, "more than one"),
    (&["tar", "gzip"], "tar -cz disk.raw other.img", None, Kind::Unsupported, "more than one"),
    (&["tar", "gzip"], "tar -cz README vm.ovf", None, Kind::Unsupported, "the disk `vm.vmdk`"),
    (&["tar"], "tar -c README sub/deep.raw", Some("no"), Kind::Unsupported, "no member `no`"),
    (
        &["tar"],
        "tar -cP ../$(basename $PWD)/disk.raw",
        None,
        Kind::Malformed,
        "leaves its directory",
    ),
    (&["tar", "gzip"], "tar -czP $PWD/disk.raw", None, Kind::Malformed, "leaves its directory"),
    (&["tar"], "tar -c --files-from=/dev/null", None, Kind::Unsupported, "no layer"),
    (&["tar"], "tar -c disk.raw | head -c 2000000", None, Kind::Truncated, "archive"),
    (&["tar", "gzip"], "tar -cz disk.raw | head -c 200000", None, Kind::Truncated, "gzip"),
    (
        &["tar", "gzip"],
        "sh -c 'tar -c disk.raw | head -c 2000000 | gzip'",
        None,
        Kind::Truncated,
        "tar",
    ),
    (&["tar"], "sh -c 'tar -c --format=pax -S disk.raw'", None, Kind::Unsupported, "sparse"),
    (&["zip"], "zip -q -P x - disk.raw", None, Kind::Unsupported, "encrypted"),
    (
        &["zip"],
        "sh -c 'zip -q x.zip disk.raw; head -c 100000 x.zip; rm x.zip'",
        None,
        Kind::Malformed,
        "zip",
    ),
    (
        &["zip"],
        "sh -c 'zip -q x.zip README other.img; cat x.zip; rm x.zip'",
        Some("README"),
        Kind::Cancelled,
        "",
    ),
];

const DIFFERING: [Refusal; 6] = [
    (
        &["zip"],
        // The first byte of the disk that is not in the name or the header.
        "sh -c 'zip -q -0 x.zip disk.raw; printf X | dd of=x.zip bs=1 seek=1000 conv=notrunc; cat x.zip; rm x.zip'",
        None,
        Kind::Malformed,
        "zip",
    ),
    (
        &["tar"],
        "sh -c 'echo >>vm.vmdk; tar -c vm.ovf vm.vmdk vm.mf'",
        None,
        Kind::Malformed,
        "does not have the SHA256 of the OVF manifest",
    ),
    (
        &["tar", "gzip"],
        "sh -c 'echo >>vm.vmdk; tar -cz vm.ovf vm.vmdk vm.mf'",
        None,
        Kind::Malformed,
        "`vm.vmdk` does not have the SHA256",
    ),
    (
        &["tar", "gzip"],
        "sh -c 'echo >>vm.vmdk; tar -cz vm.ovf vm.vmdk vm.mf'",
        Some("vm.vmdk"),
        Kind::Malformed,
        "`vm.vmdk` does not have the SHA256",
    ),
    (
        &["tar", "gzip"],
        "sh -c 'echo >>vm.ovf; tar -cz vm.ovf vm.mf vm.vmdk'",
        None,
        Kind::Malformed,
        "`vm.ovf` does not have the SHA256",
    ),
    (
        &["tar"],
        "sh -c 'echo >>vm.ovf; tar -c vm.mf vm.ovf vm.vmdk'",
        None,
        Kind::Malformed,
        "`vm.ovf` does not have the SHA256",
    ),
];

#[test]
fn the_disk_in_an_archive_is_the_same_through_a_pipe() {
    for (programs, command, member, want, _) in CASES {
        if programs.iter().any(|name| program(name).is_none()) {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let Some(path) = packed(directory.path(), command) else { return };
        let before = fs::read_dir(directory.path()).unwrap().count();
        let mut seen = Vec::new();
        let (pipe, name) = (fs::File::open(&path).unwrap(), Path::new("/dev/stdin"));
        let found = read_stream(pipe, name, directory.path(), member, &mut |piece| {
            seen.extend_from_slice(piece);
            ControlFlow::Continue(())
        });
        let found = found.unwrap_or_else(|error| panic!("{command}: {error:?}"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), before, "{command}");
        assert!(seen == fs::read(&path).unwrap(), "{command}: every byte is seen once, in order");
        assert_eq!(found.wrapping, wrapping(&path).unwrap(), "{command}");
        assert_eq!(found.member.as_deref(), Some(want), "{command}");
        let uefi = found.machine.and_then(|machine| machine.uefi);
        assert_eq!(uefi, command.contains("vm.ovf").then_some(true), "{command}");
        let reader = GuestReader::open_file(found.file, Some(Format::Raw)).unwrap();
        let mut content = vec![0; usize::try_from(reader.virtual_size()).unwrap()];
        reader.read_at(&mut content, 0).unwrap();
        assert!(content == fs::read(directory.path().join("disk.raw")).unwrap(), "{command}");
        // Its zeros are holes.
        assert!(found.allocated < 3 << 20, "{command}: {}", found.allocated);
    }
}

#[test]
fn archives_without_one_disk_and_damaged_ones_are_refused() {
    judge(&REFUSED);
}

#[test]
fn disks_that_differ_from_a_checksum_or_manifest_are_refused() {
    judge(&DIFFERING);
}

fn judge(refusals: &[Refusal]) {
    for (programs, command, member, kind, part) in refusals.iter().copied() {
        if programs.iter().any(|name| program(name).is_none()) {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let Some(path) = packed(directory.path(), command) else { return };
        match opened(&path, member) {
            Ok(_) => assert_eq!(kind, Kind::Cancelled, "{command}"),
            Err(error) => {
                assert_eq!(error.kind(), kind, "{command}: {error:?}");
                assert!(error.to_string().contains(part), "{command}: {error}");
            }
        }
    }
}

#[test]
fn a_search_may_be_stopped_and_leaves_nothing() {
    for (programs, command, member, _, in_place) in CASES {
        // A zip archive and a manifest have checksums, for which the member is read.
        let is_read = !in_place || command.contains("zip") || command.contains("vm.mf");
        if !is_read || programs.iter().any(|name| program(name).is_none()) {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let Some(path) = packed(directory.path(), command) else { return };
        let before = fs::read_dir(directory.path()).unwrap().count();
        let stopped = find(&path, directory.path(), member, &mut |_| ControlFlow::Break(()));
        assert_eq!(stopped.unwrap_err().kind(), Kind::Cancelled, "{command}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), before, "{command}");
    }
}
