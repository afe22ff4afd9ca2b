//! Databases of package managers, and the documents that are made of them.

use super::systems::bios_grub;
use crate::sbom::{Document, Packages};
use crate::{Limits, inspect_with_packages};

const STATUS: &str = "Package: bash
Status: install ok installed
Priority: required
Architecture: amd64
Version: 5.2.15-2+b7
Maintainer: Matthias Klose <doko@debian.org>
Source: bash (5.2.15-2)
Description: GNU Bourne Again SHell
 Package: not-a-package
 .
 Version: 1

Package: removed
Status: deinstall ok config-files
Architecture: all
Version: 1:2.0~rc1-1

Package: libc6
Status: hold ok installed
Architecture: i386
Version: 1:2.36-9";

const APK: &str = "C:Q1abc=
P:musl
V:1.2.4-r2
A:x86_64
L:MIT
o:musl
m:Timo Teras <timo@example.com>

P:busybox-binsh
V:1.36.1-r5
A:x86_64
o:busybox
L:GPL-2.0-only
";

fn packages(change: impl FnOnce(&mut super::disk::Disk)) -> Option<Packages> {
    let mut disk = bios_grub();
    change(&mut disk);
    let (_, packages) = inspect_with_packages(&disk.write()?.reader(), Limits::default()).unwrap();
    Some(packages)
}

fn names(packages: &Packages) -> Vec<(&str, &str, &str)> {
    let all = packages.packages.iter();
    all.map(|package| {
        (package.name.as_str(), package.version.as_str(), package.architecture.as_str())
    })
    .collect()
}

fn document() -> Document<'static> {
    Document {
        name: "image",
        uuid: "3e671687-395b-41f5-a30f-a58921a69b79",
        time: "2026-01-01T00:00:00Z",
        tool_version: "1.0.0",
    }
}

#[test]
fn installed_packages_of_dpkg_are_listed() {
    let found = packages(|disk| {
        disk.put(0, "/var/lib/dpkg/status", STATUS);
        disk.put(
            0,
            "/var/lib/dpkg/status.d/base",
            "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n",
        );
        disk.put(0, "/var/lib/dpkg/status.d/base.md5sums", "Package: x\nVersion: 1\n");
    });
    let Some(found) = found else { return };
    let want = [
        ("base-files", "12.4", "amd64"),
        ("bash", "5.2.15-2+b7", "amd64"),
        ("libc6", "1:2.36-9", "i386"),
    ];
    assert_eq!(names(&found), want);
    assert_eq!(found.os, "debian");
    let document = found.cyclonedx(&document());
    let urls: Vec<&str> = document["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["purl"].as_str().unwrap())
        .collect();
    assert_eq!(urls[1], "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12");
    assert_eq!(urls[2], "pkg:deb/debian/libc6@1:2.36-9?arch=i386&distro=debian-12");
    assert_eq!(document["specVersion"], "1.5");
}

#[test]
fn installed_packages_of_apk_are_listed() {
    let Some(found) = packages(|disk| disk.put(0, "/usr/lib/apk/db/installed", APK)) else {
        return;
    };
    assert_eq!(
        names(&found),
        [("busybox-binsh", "1.36.1-r5", "x86_64"), ("musl", "1.2.4-r2", "x86_64")]
    );
    assert_eq!(found.packages[1].licence.as_deref(), Some("MIT"));
    assert_eq!(found.packages[0].source.as_deref(), Some("busybox"));
    let spdx = found.spdx(&document());
    assert_eq!(spdx["spdxVersion"], "SPDX-2.3");
    assert_eq!(spdx["packages"].as_array().unwrap().len(), 2);
    assert_eq!(spdx["relationships"].as_array().unwrap().len(), 2);
    let reference = &spdx["packages"][1]["externalRefs"][0]["referenceLocator"];
    assert_eq!(reference, "pkg:apk/debian/musl@1.2.4-r2?arch=x86_64&distro=debian-12");
}

#[test]
fn hostile_databases_end() {
    let long = format!("Package: {}\nVersion: 1\n\n", "x".repeat(1 << 20));
    for text in [
        long,
        "\n".repeat(100_000),
        ": : :\n::\nPackage\n".repeat(1000),
        "\u{0}\u{fffd}".repeat(99),
    ] {
        let Some(found) = packages(|disk| disk.put(0, "/var/lib/dpkg/status", text)) else {
            return;
        };
        assert!(found.packages.iter().all(|package| package.name.len() <= 4 << 10));
    }
}
