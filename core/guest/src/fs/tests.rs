//! Compares what is read with what mtools and mke2fs wrote.

use std::fs;
use std::io::Read;
use std::path::Path;

use build_image_disk::GuestReader;

use super::fat::Fat;
use super::{FileSystem, Kind};
use crate::source::{Fault, Limits, Source};
use crate::tests::tools::{program, run};
use crate::volume::{Volume, recognise};

fn volume(path: &Path) -> Volume {
    let source = Source::new(Some(GuestReader::open_raw(path).unwrap()), Limits::default());
    Volume::new(&source, &[(0, source.size())])
}

/// Bytes without a period that is a power of two.
fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 7 + at / 251 + seed) % 251).unwrap()).collect()
}

fn content(fs: &dyn FileSystem, path: &str, step: usize) -> Vec<u8> {
    let mut opened = fs.open(path).unwrap();
    let (mut all, mut buf) = (Vec::new(), vec![0; step]);
    loop {
        match opened.reader.read(&mut buf).unwrap() {
            0 => break,
            got => all.extend(&buf[..got]),
        }
    }
    assert_eq!(all.len() as u64, opened.len);
    all
}

#[test]
fn files_of_every_fat_have_their_bytes_also_in_fragments() {
    let (Some(mkfs), Some(mcopy), Some(mdel)) =
        (program("mkfs.vfat"), program("mcopy"), program("mdel"))
    else {
        return;
    };
    for (bits, clusters, mib) in [(12, 1, 1), (12, 8, 8), (16, 1, 8), (16, 4, 32), (32, 1, 40)] {
        let directory = tempfile::tempdir().unwrap();
        let (image, file) = (directory.path().join("fat"), directory.path().join("file"));
        fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        run(&mkfs, &[&"-F", &bits.to_string(), &"-s", &clusters.to_string(), &image]);
        let put = |name: &str, content: &[u8]| {
            fs::write(&file, content).unwrap();
            run(&mcopy, &[&"-i", &image, &file, &format!("::{name}")]);
        };
        for number in 0..40 {
            put(&format!("n{number}"), &bytes(9000, number));
        }
        // What was free between them is filled by the next file.
        for number in (0..40).step_by(2) {
            run(&mdel, &[&"-i", &image, &format!("::n{number}")]);
        }
        let long = "A long name with Ümlaut.configuration";
        put(long, &bytes(250_001, 3));
        let volume = volume(&image);
        assert_eq!(recognise(&volume).unwrap().kind, "vfat");
        let fat = Fat::open(&volume).unwrap();
        for step in [1000, 4096, 1 << 20] {
            let path = format!("/{}", long.to_uppercase().replace("ÜM", "Üm"));
            assert_eq!(content(&fat, &path, step), bytes(250_001, 3), "FAT{bits} {clusters}");
            assert_eq!(content(&fat, "/N7", step), bytes(9000, 7), "FAT{bits} {clusters}");
        }
        assert!(matches!(fat.open("/n2"), Err(Fault::Missing)));
        let names: Vec<String> = fat.list("/").unwrap().into_iter().map(|one| one.name).collect();
        assert!(names.contains(&long.to_owned()) && names.len() == 21, "{names:?}");
        assert_eq!(fat.kind("/n1").unwrap(), Kind::File);
    }
}

#[test]
fn contents_are_recognised_with_the_identifiers_that_blkid_prints() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("volume");
    let uuid = "12345678-9abc-4def-8123-456789abcdef";
    let cases: [(&str, &[&str], &str, Option<&str>); 6] = [
        ("mke2fs", &["-q", "-F", "-t", "ext4", "-U", uuid, "-L", "data"], "ext4", Some(uuid)),
        ("mke2fs", &["-q", "-F", "-t", "ext2", "-U", uuid, "-L", "data"], "ext4", Some(uuid)),
        ("mkfs.vfat", &["-F", "32", "-i", "1234abcd", "-n", "data"], "vfat", Some("1234-ABCD")),
        ("mkswap", &["-q", "-U", uuid, "-L", "data"], "swap", Some(uuid)),
        (
            "mkfs.xfs",
            &["-q", "-f", "-m", "uuid=12345678-9abc-4def-8123-456789abcdef", "-L", "data"],
            "xfs",
            Some(uuid),
        ),
        ("mkfs.btrfs", &["-q", "-f", "-U", uuid, "-L", "data"], "btrfs", Some(uuid)),
    ];
    for (name, words, kind, want) in cases {
        // Those of XFS and btrfs come with the long tests.
        let optional = ["mkfs.xfs", "mkfs.btrfs"].contains(&name);
        let found = if optional { optional_program(name) } else { program(name) };
        let Some(program) = found else { continue };
        fs::File::create(&path).unwrap().set_len(320 << 20).unwrap();
        let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = Vec::new();
        args.extend(words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        args.push(&path);
        run(&program, &args);
        let found = recognise(&volume(&path)).unwrap();
        assert_eq!((found.kind, found.uuid.as_deref()), (kind, want), "{name}");
        let label = found.label.unwrap_or_default().to_lowercase();
        assert_eq!(label, "data", "{name}");
        fs::remove_file(&path).unwrap();
    }
}

fn optional_program(name: &str) -> Option<std::path::PathBuf> {
    let place = Path::new("/usr/sbin").join(name);
    place.exists().then_some(place)
}
