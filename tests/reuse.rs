//! Checks REUSE: a second build uses the disk of the first if all its inputs are the same.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::harness::{Iso, Sandbox, Turn, needs, needs_qemu, root};

fn record(directory: &Path, name: &str) -> Value {
    let text = fs::read(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn an_old_configuration_builds_with_records_and_its_disk_is_used_again_while_nothing_changed() {
    if !needs_qemu() || !needs(&["unzip"]) {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    let iso = Iso::of("ok");
    let injected = sandbox.write("motd", "hello\n");
    let old = fs::read_to_string(root().join("tests/fixtures/old-config.yml")).unwrap();
    let old = old.replace("@ISO@", iso.word()).replace("@MOTD@", injected.to_str().unwrap());
    sandbox.write("c.yml", &old);
    let args = ["-c", "c.yml", "-p", "qcow2"];
    let first = sandbox.run(&args);
    first.succeeded();
    let again = "the same was installed before";
    assert!(!first.stderr.contains(again));
    assert!(sandbox.path().join("out/BIGIP-15.0.0-0.0.39.LTM_1SLOT.qcow2.zip").is_file());
    assert!(sandbox.path().join("results/output_info.json").is_file());

    let directory = sandbox.path().join("artifacts/ok/qcow2/ltm_1slot");
    for (name, pointer, value) in [
        ("build-image.json", "/modules", "ltm"),
        ("build_config.json", "/REUSE", "true"),
        ("VersionFile.json", "/version_version", "15.0.0"),
        ("create_raw_disk.json", "/attributes/fix_swap_mib", "10"),
        ("create_raw_disk.json", "/attributes/fix_var_mib", "1500"),
        ("prepare_raw_disk.json", "/output", "BIGIP-15.0.0-0.0.39.LTM_1SLOT.qcow2.raw"),
        ("prepare_virtual_disk.json", "/output", "BIGIP-15.0.0-0.0.39.LTM_1SLOT.qcow2.zip"),
        ("prepare_cloud_image.json", "/status", "success"),
        ("end_file.json", "/result", "SUCCESS"),
    ] {
        assert_eq!(record(&directory, name).pointer(pointer), Some(&value.into()), "{name}");
    }
    assert_eq!(record(&directory, "start_file.json")["result"], 0);

    let snapshot = sandbox.path().join("logs/build.log.snapshot.zip");
    let listed = Command::new("unzip").args(["-Z1", snapshot.to_str().unwrap()]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in ["build.log", "build_config.json", "qemu.iso.log", "files.txt"] {
        assert!(listed.lines().any(|line| line == name), "{name} is not in {listed}");
    }
    assert!(!listed.contains("motd"));

    let copies = sandbox.files().into_iter().filter(|name| name.ends_with(".zip"));
    let copies: Vec<String> = copies.filter(|name| name.starts_with("artifacts")).collect();
    assert!(copies.is_empty(), "the package is in IMAGE_DIR and nowhere else: {copies:?}");

    let second = sandbox.run(&args);
    second.succeeded();
    assert!(second.stderr.contains(again), "{}", second.stderr);

    // A build that is refused before it begins leaves no run; the journals of the others are kept for estimates.
    let runs = || -> Vec<String> {
        sandbox.files().into_iter().filter(|name| name.starts_with("artifacts/runs/")).collect()
    };
    let (before, taken) = (runs(), sandbox.write("taken", ""));
    let refused = sandbox.run(&[&args[..], &["--image-dir", taken.to_str().unwrap()]].concat());
    refused.failed(5, &["cannot create the directory"]);
    assert_eq!(runs(), before);

    // The content of one injected file, not its name, time or size.
    fs::write(&injected, "HELLO\n").unwrap();
    let third = sandbox.command(&[&args[..], &["--qemu", "/bin/false"]].concat()).output().unwrap();
    let text = String::from_utf8_lossy(&third.stderr).into_owned();
    assert!(!third.status.success() && !text.contains(again), "it wants to install: {text}");
}
