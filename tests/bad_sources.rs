//! ISOs that are none, a missing qemu, sizes and versions that do not go: one clear error each, nothing left behind.

use std::fs;

use crate::harness::{Iso, Run, Sandbox, needs_qemu};

/// A build of an ISO for the cloud, with short patience.
fn build(sandbox: &Sandbox, iso: &str, more: &[&str]) -> Run {
    let words = ["-i", iso, "-c", "config.yml", "-p", "alibaba", "-m", "ltm", "-b", "1"];
    sandbox.run(&[&words, more].concat())
}

#[test]
fn files_that_are_no_installer_are_refused_at_once() {
    let sandbox = Sandbox::with_cloud();
    let text = sandbox.write("text.iso", "this is no ISO");
    let big = sandbox.disk("big.iso", 4, 1);
    for (path, texts) in [
        ("absent.iso", &["absent.iso", "No such file"][..]),
        (text.to_str().unwrap(), &["text.iso", "hint:"]),
        (big.to_str().unwrap(), &["big.iso", "hint:"]),
        ("https://example.org/x.iso", &["is a URL", "download it first"]),
    ] {
        build(&sandbox, path, &[]).failed(4, texts);
    }
    sandbox.cloud_has_only(0);
}

#[test]
fn isos_with_something_missing_are_refused_by_name() {
    if !needs_qemu() {
        return;
    }
    for (variant, code, texts) in [
        ("not-an-iso", 4, &["hint:"][..]),
        ("truncated", 4, &["truncated.iso", "hint:"]),
        ("no-joliet", 4, &["Joliet"]),
        ("no-product-dir", 4, &["no product folder"]),
        ("two-product-dirs", 4, &["two product folders"]),
        ("no-version-key", 4, &["is missing"]),
        ("no-append", 4, &["isolinux.cfg", "no `append` line"]),
        ("two-appends", 4, &["isolinux.cfg", "2 `append` lines"]),
        ("missing-kernel", 4, &["vmlinuz"]),
        ("missing-initrd", 4, &["initrd.img"]),
    ] {
        let sandbox = Sandbox::with_cloud();
        let iso = Iso::of(variant);
        let run = build(&sandbox, iso.word(), &["--accel", "tcg"]);
        run.failed(code, texts);
        assert_eq!(run.member("error")["kind"], "source", "{variant}");
        sandbox.cloud_has_only(0);
        let disks = sandbox.files().iter().filter(|name| name.ends_with(".raw")).count();
        assert_eq!(disks, 0, "{variant} leaves no disk");
    }
}

#[test]
fn a_missing_qemu_is_found_before_anything_is_done() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    let iso = Iso::of("unbootable");
    let result = sandbox.path().join("result.json");
    let words = ["-i", iso.word(), "-c", "config.yml", "-p", "alibaba", "-m", "ltm", "-b", "1"];
    let output = sandbox
        .command(&words)
        .env("PATH", sandbox.path())
        .env("F5_OUTPUT_JSON_FILE", &result)
        .output()
        .unwrap();
    let document = serde_json::from_slice(&fs::read(&result).unwrap()).unwrap();
    let run = Run::of(&output, Some(document));
    run.failed(5, &["qemu-system-x86_64", "hint:", "install"]);
    let words = ["-i", iso.word(), "-c", "config.yml", "-p", "alibaba", "-m", "ltm", "-b", "1"];
    sandbox.run(&[&words[..], &["--qemu", "/absent/qemu"]].concat()).failed(5, &["/absent/qemu"]);
    sandbox.cloud_has_only(0);
}

#[test]
fn an_iso_needs_its_shape_and_the_platform_a_new_enough_version() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    let iso = Iso::of("unbootable");
    let words = ["-i", iso.word(), "-c", "config.yml", "-p", "alibaba"];
    sandbox.run(&words).failed(2, &["MODULES is not set", "BOOT_LOCATIONS is not set"]);
}

#[test]
fn sizes_no_disk_can_have_are_errors_and_not_wrapped_or_shrunk() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    let iso = Iso::of("unbootable");
    for (sizes, texts) in [
        (r#"{"var": 18446744073709551615}"#, &["`var`", "at most 67108864 (64 TiB)"][..]),
        (r#"{"log": 67108865}"#, &["`log` is to be 67108865 MiB", "64 TiB"]),
        (r#"{"var": 3000000}"#, &["provider `alibaba` takes at most 2048 GiB", "UPDATE_LV_SIZES"]),
    ] {
        build(&sandbox, iso.word(), &["--update-lv-sizes", sizes]).failed(2, texts);
    }
    sandbox.cloud_has_only(0);
}
