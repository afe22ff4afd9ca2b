//! Checks the bill of materials that a build writes beside its provenance statement.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::{
    guest_attributes::{DEBIAN, SHELL, system},
    harness::{Sandbox, needs, root, tool},
};

const STATUS: (&str, &str) = (
    "var/lib/dpkg/status",
    "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.15-2\n\n\
     Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\
     Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.2.13-1\n",
);
const BUILD: [&str; 4] = ["--disk", "disk.raw", "--provenance-file", "said.json"];

fn read(sandbox: &Sandbox, name: &str) -> Value {
    serde_json::from_slice(&fs::read(sandbox.path().join(name)).unwrap()).unwrap()
}

/// Names and versions of all packages, in either format.
fn packages(document: &Value) -> BTreeSet<(String, String)> {
    let (list, version) = match document.get("components") {
        Some(list) => (list, "version"),
        None => (&document["packages"], "versionInfo"),
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one[version]))).collect()
}

#[test]
fn a_statement_names_the_packages_of_the_disk_by_the_digest_of_their_document() {
    if !needs(&["mke2fs", "sha256sum"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    system(&sandbox, &[DEBIAN, SHELL, STATUS]);
    let installed = [("bash", "5.2.15-2"), ("zlib1g", "1:1.2.13-1")];
    let installed = installed.map(|(name, version)| (name.to_owned(), version.to_owned())).into();
    for (format, file, media_type) in [
        ("cyclonedx", "said.cdx.json", "application/vnd.cyclonedx+json"),
        ("spdx", "said.spdx.json", "application/spdx+json"),
    ] {
        for target in [&["-p", "qcow2"][..], &["-c", "config.yml", "-p", "alibaba"]] {
            // The inspection of the packages does not depend on that of the machine.
            let check = if target.len() == 2 { "off" } else { "warn" };
            let name = ["--hypervisor-image-name", format, "--guest-check", check];
            sandbox.run(&[&BUILD[..], &["--sbom", format], &name, target].concat()).succeeded();
            let digest = tool(sandbox.path(), &["sha256sum", file]);
            let digest = digest.split(' ').next().unwrap();
            let subjects = read(&sandbox, "said.json")["subject"].clone();
            let expected = json!({"name": file, "uri": file, "mediaType": media_type,
                "digest": {"sha256": digest}});
            assert_eq!(subjects.as_array().unwrap().len(), 2, "{subjects}");
            assert_eq!(subjects[1], expected);
            let document = read(&sandbox, file);
            assert_eq!(packages(&document), installed, "{document:#}");
            fs::remove_file(sandbox.path().join(file)).unwrap();
        }
    }
    let run = sandbox.run(&[&BUILD[..], &["-p", "qcow2", "--hypervisor-image-name", "x"]].concat());
    run.succeeded();
    assert_eq!(read(&sandbox, "said.json")["subject"].as_array().unwrap().len(), 1);
    let left = sandbox.files();
    assert!(!left.iter().any(|name| name.contains("dx.json")), "{left:?}");
}

#[test]
fn packages_of_rpm_are_those_that_rpm_lists_also_after_it_was_killed() {
    const PLACE: &str = "tree/usr/lib/sysimage/rpm";
    if !needs(&["mke2fs", "python3", "rpm", "rpmbuild", "db5.3_load", "cp"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let script = root().join("tests/fixtures/rpm-databases/build");
    tool(sandbox.path(), &[script.to_str().unwrap(), "made"]);
    fs::create_dir_all(sandbox.path().join(PLACE).parent().unwrap()).unwrap();
    tool(sandbox.path(), &["cp", "-r", "made/killed", PLACE]);
    system(&sandbox, &[DEBIAN, SHELL]);
    let list = fs::read_to_string(sandbox.path().join("made/killed.list")).unwrap();
    let fields = list.lines().map(|line| line.split('|').map(str::to_owned));
    let fields = fields.map(|mut fields| (fields.next().unwrap(), fields.next().unwrap()));
    let installed: BTreeSet<(String, String)> = fields.collect();
    assert!(installed.contains(&("kills".to_owned(), "1.0-1".to_owned())), "{installed:?}");
    for format in ["cyclonedx", "spdx"] {
        let run = sandbox.run(&["inspect", "disk.raw", "--sbom", format]);
        run.succeeded();
        assert_eq!(packages(&serde_json::from_str(&run.stdout).unwrap()), installed, "{format}");
    }
    tool(sandbox.path(), &["cp", "-r", "made/killed", "torn"]);
    let database = sandbox.path().join("torn/rpmdb.sqlite");
    let bytes = fs::read(&database).unwrap();
    fs::write(&database, &bytes[..bytes.len() / 2]).unwrap();
    fs::create_dir_all(sandbox.path().join(PLACE).parent().unwrap()).unwrap();
    tool(sandbox.path(), &["cp", "-r", "torn", PLACE]);
    system(&sandbox, &[DEBIAN, SHELL, STATUS]);
    let run = sandbox.run(&["inspect", "disk.raw", "--sbom", "spdx"]);
    run.failed(4, &["the database of rpm at /usr/lib/sysimage/rpm/rpmdb.sqlite is not read: "]);
}

#[test]
fn packages_that_are_not_known_or_have_no_place_are_refused_before_the_upload() {
    if !needs(&["mke2fs"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    system(&sandbox, &[DEBIAN, SHELL]);
    let cloud = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--sbom", "spdx"];
    let statement = ["--provenance-file", "said.json"];
    for command in [&["plan"][..], &[]] {
        let run = sandbox.run(&[command, &cloud, &statement].concat());
        run.failed(4, &["the packages of the disk are not known", "leave SBOM out"]);
        let run = sandbox.run(&[command, &cloud].concat());
        run.failed(2, &["SBOM is set, and PROVENANCE_FILE is not", "build-image inspect --sbom"]);
    }
    sandbox.cloud_has_only(0);
    let left = sandbox.files();
    assert!(!left.iter().any(|name| name.contains("said")), "{left:?}");
}

#[test]
fn statement_and_packages_are_published_together_and_by_resume() {
    if !needs(&["mke2fs", "sha256sum"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    system(&sandbox, &[DEBIAN, SHELL, STATUS]);
    sandbox.write("said.json", "{}");
    let directory = sandbox.path().join("said.cdx.json");
    fs::create_dir(&directory).unwrap();
    let cloud = ["-c", "config.yml", "-p", "alibaba", "--sbom", "cyclonedx"];
    sandbox.run(&[&BUILD[..], &cloud].concat()).failed(9, &["said.cdx.json", "hint:"]);
    assert_eq!(fs::read_to_string(sandbox.path().join("said.json")).unwrap(), "{}");
    fs::remove_dir(directory).unwrap();
    let run = sandbox.run(&["resume", "--sbom", "spdx"]);
    run.failed(2, &["SBOM was `cyclonedx`, now it is `spdx`"]);
    sandbox.run(&["resume"]).succeeded();
    let digest = tool(sandbox.path(), &["sha256sum", "said.cdx.json"]);
    let subject = &read(&sandbox, "said.json")["subject"][1];
    assert!(digest.starts_with(subject["digest"]["sha256"].as_str().unwrap()), "{subject}");
    sandbox.cloud_has_only(1);
}
