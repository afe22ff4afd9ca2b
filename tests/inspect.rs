//! Inspects disks with `build-image inspect`: what it prints, and packages that a booted guest lists as well.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _};

use serde_json::Value;

use crate::{
    build_debian::{TOOLS, debian},
    guest_faults::planted,
    harness::{Sandbox, Turn, needs, target_directory},
};

/// The first process of the guest: it lists the packages and ends, which is a panic of the kernel.
const LIST: &str = "#!/bin/sh\nexport PATH=/usr/bin:/bin:/usr/sbin\necho\n\
    dpkg-query -W -f 'P:${db:Status-Status} ${Package} ${Version} ${Architecture}\\n'\nsleep 1\n";

#[test]
fn the_packages_of_a_disk_are_those_that_its_booted_guest_lists() {
    if !needs(&TOOLS) || !needs(&["debugfs"]) {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    let directory = tempfile::tempdir_in(target_directory()).unwrap();
    let list = directory.path().join("list");
    fs::write(&list, LIST).unwrap();
    fs::set_permissions(&list, fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = "root=/dev/vda2 ro console=ttyS0 quiet loglevel=1 init=/list";
    let plant = format!("E 'write list /list'; C APPEND 'APPEND {arguments}'");
    let disk = planted(directory.path(), &plant);
    let disk = disk.to_str().unwrap();
    let args = ["boot", disk, "--serial-log", "log", "--boot-timeout", "4m"];
    sandbox.run(&args).failed(5, &["panic"]);
    let log = fs::read(sandbox.path().join("log")).unwrap();
    let log = String::from_utf8_lossy(&log);
    let listed: BTreeSet<&str> =
        log.lines().filter_map(|line| line.trim_end().strip_prefix("P:installed ")).collect();
    assert!(listed.len() > 100, "{log}");

    let sbom = |format: &str| -> Value {
        let run = sandbox.run(&["inspect", disk, "--sbom", format]);
        run.succeeded();
        serde_json::from_str(&run.stdout).unwrap()
    };
    let cyclonedx = sbom("cyclonedx");
    let spdx = sbom("spdx");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |document: &Value, list: &str, version: &str, url: &str| {
        let packages = document[list].as_array().unwrap().clone();
        let line = |package: Value| {
            let url = text(package.pointer(url).unwrap());
            let (_, architecture) = url.split_once("arch=").unwrap();
            let architecture = architecture.split('&').next().unwrap();
            format!("{} {} {architecture}", text(&package["name"]), text(&package[version]))
        };
        packages.into_iter().map(line).collect::<BTreeSet<String>>()
    };
    let listed: BTreeSet<String> = listed.into_iter().map(str::to_owned).collect();
    assert_eq!(of(&cyclonedx, "components", "version", "/purl"), listed);
    let locator = "/externalRefs/0/referenceLocator";
    assert_eq!(of(&spdx, "packages", "versionInfo", locator), listed);
}

#[test]
fn a_disk_is_described_for_people_and_for_programs() {
    if !needs(&TOOLS) {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = debian();
    let disk = disk.to_str().unwrap();
    let run = sandbox.run(&["inspect", disk]);
    run.succeeded();
    for text in ["Debian GNU/Linux 12", ", x86_64, BIOS\n", "partition 2: ext4\n", "/etc/fstab:1"] {
        assert!(run.stdout.contains(text), "{text}: {}", run.stdout);
    }
    let run = sandbox.run(&["inspect", disk, "--json"]);
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["attributes"]["os"], "debian");
    assert_eq!(document["inspection"]["scheme"], "MBR");
    let fstab = document["findings"].as_array().unwrap().iter();
    assert!(fstab.clone().any(|one| one["id"] == "fstab-device-unstable"), "{document:#}");
}

#[test]
fn packages_that_are_not_known_are_an_error_and_not_an_empty_list() {
    let sandbox = Sandbox::new();
    sandbox.disk("data.raw", 4, 1);
    let run = sandbox.run(&["inspect", "data.raw", "--sbom", "spdx"]);
    run.failed(4, &["the packages of `data.raw` are not known", "hint: "]);
    assert_eq!(run.stdout, "");
    let run = sandbox.run(&["inspect", "data.raw"]);
    run.succeeded();
    assert!(run.stdout.starts_with("no system was found\n"), "{}", run.stdout);
    sandbox.run(&["inspect", "nothing.raw"]).failed(4, &["nothing.raw"]);
    sandbox.run(&["inspect", "data.raw", "--sbom", "text"]).failed(2, &["text"]);
    sandbox.run(&["inspect"]).failed(2, &["FILE"]);
}
