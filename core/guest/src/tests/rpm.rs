//! Databases that rpm made, on a disk: the packages are those that `rpm -qa` prints, except keys.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::disk::{Disk, Node};
use super::systems::bios_grub;
use super::tools::{program, run};
use crate::sbom::{Document, Package, Packages};
use crate::{Limits, inspect_with_packages};

const TOOLS: [&str; 4] = ["python3", "rpm", "rpmbuild", "db5.3_load"];

/// Makes the databases; `None` if a program is missing.
fn databases() -> Option<TempDir> {
    let programs: Option<Vec<PathBuf>> = TOOLS.iter().map(|name| program(name)).collect();
    programs?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let directory = tempfile::tempdir().unwrap();
    run(&root.join("tests/fixtures/rpm-databases/build"), &[&directory.path()]);
    Some(directory)
}

/// Returns the packages of a disk with what `change` adds.
fn packages(change: impl FnOnce(&mut Disk)) -> Option<Packages> {
    let mut disk = bios_grub();
    disk.partitions[0].mib = 64;
    disk.put(0, "/usr/lib/os-release", "ID=rhel\nVERSION_ID=\"9.4\"\n");
    change(&mut disk);
    let (found, packages) =
        inspect_with_packages(&disk.write()?.reader(), Limits::default()).unwrap();
    assert!(found.complete, "{:?}", found.remarks);
    Some(packages)
}

fn put(disk: &mut Disk, place: &str, database: &Path) {
    for file in fs::read_dir(database).unwrap() {
        let file = file.unwrap();
        let path = format!("{place}/{}", file.file_name().to_str().unwrap());
        disk.put(0, &path, fs::read(file.path()).unwrap());
    }
}

/// Returns a package as the query of the databases prints it.
fn line(package: &Package) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "(none)".to_owned());
    let Package { name, version, architecture, source, maintainer, licence, kind } = package;
    assert_eq!(kind, "rpm");
    let (source, vendor, license) = (text(source), text(maintainer), text(licence));
    format!("{name}|{version}|{architecture}|{source}|{vendor}|{license}")
}

#[test]
fn the_packages_are_those_that_rpm_lists() {
    let Some(made) = databases() else { return };
    for (name, place) in [
        ("sqlite", "/usr/lib/sysimage/rpm"),
        ("sqlite", "/var/lib/rpm"),
        ("killed", "/usr/lib/sysimage/rpm"),
        ("hash", "/var/lib/rpm"),
        ("ndb", "/usr/lib/sysimage/rpm"),
        ("small", "/var/lib/rpm"),
    ] {
        let found = packages(|disk| {
            put(disk, place, &made.path().join(name));
            if place.starts_with("/usr") {
                // As in Fedora and openSUSE.
                let link = Node::Link("../../usr/lib/sysimage/rpm".to_owned());
                disk.tree(0).insert("/var/lib/rpm".to_owned(), link);
            }
        });
        let Some(found) = found else { return };
        assert!(found.not_inspected.is_empty(), "{name}: {:?}", found.not_inspected);
        let want = fs::read_to_string(made.path().join(format!("{name}.list"))).unwrap();
        let mut want: Vec<&str> = want.lines().collect();
        let mut got: Vec<String> = found.packages.iter().map(line).collect();
        want.sort_unstable();
        got.sort_unstable();
        assert_eq!(got, want, "{name}");
    }
    let found = packages(|disk| put(disk, "/var/lib/rpm", &made.path().join("small")));
    let Some(found) = found else { return };
    documents(&found);
    damaged(&made.path().join("small/rpmdb.sqlite"));
}

fn documents(found: &Packages) {
    let document = Document {
        name: "image",
        uuid: "3e671687-395b-41f5-a30f-a58921a69b79",
        time: "2026-01-01T00:00:00Z",
        tool_version: "1.0.0",
    };
    let (cyclonedx, spdx) = (found.cyclonedx(&document), found.spdx(&document));
    let component = &cyclonedx["components"][2];
    let url = "pkg:rpm/redhat/upgraded@1.0~rc1-1?arch=noarch&distro=rhel-9.4&epoch=3";
    assert_eq!(component["purl"], url);
    assert_eq!(component["version"], "3:1.0~rc1-1");
    assert_eq!(spdx["packages"][2]["externalRefs"][0]["referenceLocator"], url);
    assert_eq!(
        component["licenses"][0]["license"]["name"],
        "MIT AND (GPL-2.0-or-later WITH Classpath-exception-2.0)"
    );
    let url = "pkg:rpm/redhat/foreign@2-1?arch=aarch64&distro=rhel-9.4";
    assert_eq!(cyclonedx["components"][0]["purl"], url);
}

/// A database that is not read completely gives no packages, but a reason.
fn damaged(database: &Path) {
    const PATH: &str = "/var/lib/rpm/rpmdb.sqlite";
    let whole = fs::read(database).unwrap();
    let cut = whole.get(..whole.len() / 2).unwrap().to_vec();
    let zeros = vec![0; whole.len()];
    let journal = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, 0, 0, 0, 1];
    for (content, journal, why) in [
        (cut, &[][..], "it is truncated"),
        (zeros, &[], "it is not a database of SQLite"),
        (whole.clone(), &journal, "its last transaction was interrupted, see its journal"),
    ] {
        let found = packages(|disk| {
            disk.put(0, PATH, content);
            disk.put(0, &format!("{PATH}-journal"), journal);
        });
        let Some(found) = found else { return };
        assert!(found.packages.is_empty());
        let want = format!("the database of rpm at {PATH} is not read: {why}");
        assert_eq!(found.not_inspected, [want]);
    }
    // A journal whose transaction ended begins with zeros, and a log without valid frames does not count.
    let found = packages(|disk| {
        disk.put(0, PATH, whole);
        disk.put(0, &format!("{PATH}-journal"), [0; 512]);
        disk.put(0, &format!("{PATH}-wal"), [0; 512]);
    });
    let Some(found) = found else { return };
    assert_eq!((found.packages.len(), found.not_inspected.len()), (3, 0));
}
