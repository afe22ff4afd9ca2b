//! Tests the reader with ISOs made by xorriso, and with the same ISOs corrupted on purpose.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{EntryKind, Iso};
use crate::Kind;
use crate::testing::{noise, program, run};

const LONG: &str = "a rather long name which needs Rock Ridge, with blanks and more than sixty-four characters.tar.gz";

/// Creates an ISO with the given options of xorriso's mkisofs mode.
fn make(xorriso: &Path, tree: &Path, options: &[&str]) -> PathBuf {
    let iso = tree.with_extension(format!("{}iso", options.join("")));
    let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"-as", &"mkisofs", &"-quiet", &"-V", &"STAND_IN"];
    args.extend(options.iter().map(|option| option as &dyn AsRef<OsStr>));
    args.extend([&"-o" as &dyn AsRef<OsStr>, &iso, &tree]);
    run(xorriso, &args);
    iso
}

fn tree(directory: &Path) -> PathBuf {
    let tree = directory.join("tree");
    let deep = tree.join("d1/d2/d3/d4/d5/d6/d7/d8/d9/d10");
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir_all(tree.join("isolinux")).unwrap();
    fs::create_dir_all(tree.join("BIGIP1410/install")).unwrap();
    fs::write(deep.join("bottom.txt"), b"deep").unwrap();
    fs::write(tree.join("isolinux/vmlinuz"), noise(5, 300_001)).unwrap();
    fs::write(tree.join("isolinux/isolinux.cfg"), b"append quiet\n").unwrap();
    fs::write(tree.join(LONG), b"long").unwrap();
    fs::write(tree.join("empty"), b"").unwrap();
    symlink("isolinux/../isolinux/vmlinuz", tree.join("kernel")).unwrap();
    symlink("/isolinux", tree.join("boot")).unwrap();
    symlink("../../../../etc/passwd", tree.join("escape")).unwrap();
    symlink("loop", tree.join("loop")).unwrap();
    symlink(format!("{}x", "long-component/".repeat(40)), tree.join("far")).unwrap();
    for number in 0..300 {
        fs::write(
            tree.join(format!("BIGIP1410/install/package-{number:04}-with-a-name.rpm")),
            b"x",
        )
        .unwrap();
    }
    tree
}

#[test]
fn both_trees_are_read() {
    let Some(xorriso) = program("xorriso") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = make(&xorriso, &tree(directory.path()), &["-R", "-J", "-joliet-long"]);
    let iso = Iso::open(&path).unwrap();
    assert!(iso.has_rock_ridge() && iso.has_joliet());
    assert_eq!(iso.label(), "STAND_IN");

    let names = iso.joliet_root_names().unwrap();
    assert!(names.iter().any(|name| name == "BIGIP1410"), "{names:?}");
    assert!(names.iter().any(|name| name == LONG), "{names:?}");
    assert_eq!(iso.joliet_list("/BIGIP1410/install").unwrap().len(), 300);
    assert_eq!(iso.list("BIGIP1410/install").unwrap().len(), 300);

    assert_eq!(iso.read("/isolinux/vmlinuz", 1 << 20).unwrap(), noise(5, 300_001));
    assert_eq!(iso.read("/kernel", 1 << 20).unwrap(), noise(5, 300_001));
    assert_eq!(iso.read("boot/isolinux.cfg", 100).unwrap(), b"append quiet\n");
    assert_eq!(iso.read(LONG, 100).unwrap(), b"long");
    assert_eq!(iso.read("empty", 0).unwrap(), b"");
    assert_eq!(iso.read("d1/d2/d3/d4/d5/d6/d7/d8/d9/d10/bottom.txt", 9).unwrap(), b"deep");
    let far = iso.list("/").unwrap().into_iter().find(|entry| entry.name == "far").unwrap();
    assert_eq!(far.kind, EntryKind::Symlink(format!("{}x", "long-component/".repeat(40))));
    let kernel = iso.find("isolinux/vmlinuz").unwrap();
    assert_eq!((kernel.size, kernel.kind), (300_001, EntryKind::File));
    let mut stream = iso.open_file("isolinux/vmlinuz").unwrap();
    drop(iso);
    let mut first = [0; 10];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(first, noise(5, 10)[..]);
}

#[test]
fn what_is_missing_is_named() {
    let Some(xorriso) = program("xorriso") else { return };
    let directory = tempfile::tempdir().unwrap();
    let tree = tree(directory.path());
    let iso = Iso::open(&make(&xorriso, &tree, &["-R"])).unwrap();
    let joliet = iso.joliet_root_names().unwrap_err();
    assert_eq!(joliet.kind(), Kind::Unsupported);
    assert!(joliet.hint().is_some());
    for path in ["isolinux/none", "isolinux/vmlinuz/x", "escape", "no/such", "isolinux", "far"] {
        let error = iso.open_file(path).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{path}");
        assert!(error.to_string().contains(path), "{error}");
    }
    assert_eq!(iso.read("loop", 1).unwrap_err().kind(), Kind::Malformed);
    assert_eq!(iso.read("isolinux/vmlinuz", 300_000).unwrap_err().kind(), Kind::Unsupported);
    assert_eq!(iso.list("isolinux/vmlinuz").unwrap_err().kind(), Kind::NotFound);

    let plain = Iso::open(&make(&xorriso, &tree, &["--norock"])).unwrap();
    assert!(!plain.has_rock_ridge());
    assert_eq!(plain.read("isolinux/isolinux.cfg", 100).unwrap(), b"append quiet\n");
}

#[test]
fn other_files_are_distinguished_from_truncated_isos() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.iso");
    for bytes in [&b""[..], b"<html>", &[0; 100_000]] {
        fs::write(&other, bytes).unwrap();
        let error = Iso::open(&other).unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed, "{error}");
        assert!(error.to_string().contains("no ISO 9660 volume"));
    }
    let Some(xorriso) = program("xorriso") else { return };
    let whole = fs::read(make(&xorriso, &tree(directory.path()), &["-R", "-J"])).unwrap();
    for len in [35_000, 60_000, whole.len() / 2, whole.len() - 1] {
        fs::write(&other, &whole[..len]).unwrap();
        let error = Iso::open(&other).unwrap_err();
        assert_eq!(error.kind(), Kind::Truncated, "{len}: {error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn no_byte_of_the_tables_can_hurt() {
    let Some(xorriso) = program("xorriso") else { return };
    let directory = tempfile::tempdir().unwrap();
    let small = directory.path().join("small");
    fs::create_dir_all(small.join("isolinux")).unwrap();
    fs::write(small.join("isolinux/a file with a long name.cfg"), b"append\n").unwrap();
    symlink("isolinux", small.join("boot")).unwrap();
    let whole = fs::read(make(&xorriso, &small, &["-R", "-J"])).unwrap();
    let path = directory.path().join("bad.iso");
    let tables = whole.len().min(90_000);
    let mut good = 0;
    for at in (32_768..tables).filter(|at| whole[*at] != 0) {
        let mut bytes = whole.clone();
        bytes[at] = bytes[at].wrapping_mul(7) ^ 0xff;
        fs::write(&path, &bytes).unwrap();
        // Any result is valid except a panic, an endless loop, or a huge allocation.
        if let Ok(iso) = Iso::open(&path) {
            let _ = iso.joliet_list("isolinux");
            let read = iso.read("boot/a file with a long name.cfg", 100);
            good += usize::from(read.is_ok());
        }
    }
    assert!(good > 0, "some bytes do not matter");
}

#[test]
fn names_which_leave_their_directory_are_refused() {
    let Some(xorriso) = program("xorriso") else { return };
    let directory = tempfile::tempdir().unwrap();
    let small = directory.path().join("small");
    fs::create_dir_all(&small).unwrap();
    fs::write(small.join("abc-marker"), b"x").unwrap();
    let whole = fs::read(make(&xorriso, &small, &["-R", "-J"])).unwrap();
    let path = directory.path().join("bad.iso");
    let at = whole.windows(10).position(|window| window == b"abc-marker").unwrap();
    for name in [b"abc/marker", b"../marker1", b"abc\0marker"] {
        let mut bytes = whole.clone();
        bytes[at..at + 10].copy_from_slice(name);
        fs::write(&path, &bytes).unwrap();
        let error = Iso::open(&path).unwrap().list("/").unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed, "{error}");
    }
}

#[test]
fn a_file_of_several_extents_is_one_file() {
    let Some(xorriso) = program("xorriso") else { return };
    let directory = tempfile::tempdir().unwrap();
    let small = directory.path().join("small");
    fs::create_dir_all(&small).unwrap();
    fs::write(small.join("aaa"), noise(1, 4096)).unwrap();
    fs::write(small.join("aab"), noise(2, 1000)).unwrap();
    let whole = fs::read(make(&xorriso, &small, &["--norock", "-iso-level", "3"])).unwrap();
    // Two adjacent records become one file when the first one has the flag that it continues.
    let mut bytes = whole;
    let at = bytes.windows(6).position(|window| window == b"AAA.;1").unwrap();
    bytes[at - 33 + 25] |= 0x80;
    let path = directory.path().join("multi.iso");
    fs::write(&path, &bytes).unwrap();
    let got = Iso::open(&path).unwrap().read("aab", 1 << 20).unwrap();
    assert!(got == [noise(1, 4096), noise(2, 1000)].concat());
}

/// Builds an ISO by hand: the data that records refer to from sector 18 on, the root directory in sector 64.
fn by_hand(path: &Path, root_len: u32, records: &[Vec<u8>], elsewhere: &[u8]) {
    let both = |number: u32| [number.to_le_bytes(), number.to_be_bytes()].concat();
    let mut own = [&[34, 0][..], &both(64), &both(root_len), &[0; 7], &[2, 0, 0], &[0; 4]].concat();
    own.extend([1, 0]);
    let mut bytes = vec![0; 64 * 2048];
    let volume = &mut bytes[16 * 2048..];
    volume[..8].copy_from_slice(b"\x01CD001\x01\0");
    volume[128..130].copy_from_slice(&2048_u16.to_le_bytes());
    volume[156..190].copy_from_slice(&own);
    volume[2048..2055].copy_from_slice(b"\xffCD001\x01");
    bytes[18 * 2048..18 * 2048 + elsewhere.len()].copy_from_slice(elsewhere);
    own[0] += 7;
    own.extend(b"SP\x07\x01\xbe\xef\0");
    bytes.extend(own);
    for record in records {
        if bytes.len() % 2048 + record.len() > 2048 {
            bytes.resize(bytes.len().next_multiple_of(2048), 0);
        }
        bytes.extend(record);
    }
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_len(8 << 20).unwrap();
}

/// Builds a SUSP entry that specifies where the record continues.
fn goes_on(sector: u32, len: u32) -> Vec<u8> {
    let both = |number: u32| [number.to_le_bytes(), number.to_be_bytes()].concat();
    [b"CE\x1c\x01".to_vec(), both(sector), both(0), both(len)].concat()
}

/// Builds a record with these flags and this system use area, whose content is the root directory.
fn record(flags: u8, area: &[u8]) -> Vec<u8> {
    let len = u8::try_from(34 + area.len()).unwrap();
    let place = [[64, 0, 0, 0, 0, 0, 0, 64], [0, 0, 64, 0, 0, 64, 0, 0]].concat();
    [&[len, 0][..], &place, &[0; 7], &[flags, 0, 0], &[0; 4], &[1, b'A'], area].concat()
}

#[test]
fn directories_cost_what_they_hold() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.iso");
    // Sectors 18 to 48 continue in the next one, 49 is the last, and 50 continues in itself.
    let mut elsewhere = vec![0; 33 * 2048];
    for sector in (18..49).chain([50]) {
        let (at, next) = ((sector - 18) * 2048, if sector == 50 { 50 } else { sector + 1 });
        let next = goes_on(u32::try_from(next).unwrap(), 2048);
        elsewhere[at..at + next.len()].copy_from_slice(&next);
    }
    let list = |root_len: u32, records: &[Vec<u8>], directory: &str| {
        by_hand(&path, root_len, records, &elsewhere);
        Iso::open(&path).and_then(|iso| iso.list(directory)).map(|entries| entries.len())
    };
    let long = || record(0, &goes_on(18, 2048));
    assert_eq!(list(2048, &[long(), record(0, &goes_on(48, 100))], "/").unwrap(), 2);
    assert_eq!(list(64 << 10, &vec![long(); 256], "/").unwrap(), 256);
    let many = [vec![record(0x82, &[]); 20], vec![record(2, &[])]].concat();
    for (root_len, records, directory, what) in [
        (2048, vec![record(0, &goes_on(18, 2049))], "/", "without end"),
        (2048, vec![record(0, &goes_on(50, 2048))], "/", "without end"),
        // Each record is long, and all of them together are too long.
        (64 << 10, vec![long(); 257], "/", "without end"),
        ((4 << 20) + 2048, vec![], "/", "not believable"),
        (u32::MAX, vec![], "/", "not believable"),
        // A directory of many extents is as large as all of them together.
        (2048, many, "/A", "not believable"),
    ] {
        let error = list(root_len, &records, directory).unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed);
        assert!(error.to_string().contains(what), "{error}");
    }
}
