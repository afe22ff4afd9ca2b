//! ISOs that are none, a missing qemu, sizes and versions that do not go: one clear error each, nothing left behind.

use std::fs;

use crate::harness::{Iso, Run, Sandbox, TinyIso, needs_qemu};

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

/// Changes bytes of an ISO that is made already.
fn patched(sandbox: &Sandbox, change: fn(&mut Vec<u8>)) {
    let path = TinyIso::base().write(&sandbox.path().join("x.iso"));
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
}

/// Where the directory record of a name starts: ECMA-119, section 9.1. The name is its own, not Joliet's.
fn record(bytes: &[u8], name: &str) -> usize {
    let found = bytes.windows(name.len()).position(|window| window == name.as_bytes());
    found.unwrap() - 33
}

/// A number in both byte orders, as directory records have it.
fn set(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&number.to_be_bytes());
}

fn rename(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// What is wrong with an ISO, how it comes about, what is said.
type Lie = (&'static str, fn(&mut Vec<u8>), &'static [&'static str]);

const LIES: [Lie; 7] = [
    (
        "a file beyond the end",
        |bytes| {
            let at = record(bytes, "VERSION.");
            set(bytes, at + 2, u32::MAX);
        },
        &["VERSION"],
    ),
    (
        "a file longer than the ISO",
        |bytes| {
            let at = record(bytes, "VERSION.");
            set(bytes, at + 10, 60_000);
            bytes.truncate(bytes.len() - 300_000);
        },
        &["x.iso"],
    ),
    (
        "an absurd length",
        |bytes| {
            let at = record(bytes, "VERSION.");
            set(bytes, at + 10, u32::MAX);
        },
        &["VERSION"],
    ),
    (
        "a folder that is its own parent",
        |bytes| {
            let (root, at) = (156 + 16 * 2048, record(bytes, "BIGIP1500"));
            let extent: [u8; 16] = bytes[root + 2..root + 18].try_into().unwrap();
            bytes[at + 2..at + 18].copy_from_slice(&extent);
        },
        &["x.iso"],
    ),
    (
        "a name that leaves its folder",
        |bytes| rename(bytes, b"BIGIP1500", b"../../etc"),
        &["x.iso"],
    ),
    (
        "such a name for readers of Joliet",
        |bytes| {
            rename(bytes, &wide("BIGIP1500"), &wide("../../etc"));
        },
        &["x.iso"],
    ),
    (
        "no end of volume descriptors",
        |bytes| {
            for sector in 17..64 {
                let head: [u8; 7] = *b"\x02CD001\x01";
                bytes[sector * 2048..sector * 2048 + 7].copy_from_slice(&head);
            }
        },
        &["x.iso"],
    ),
];

#[test]
fn isos_whose_tables_lie_are_refused_by_name() {
    if !needs_qemu() {
        return;
    }
    for (what, change, texts) in LIES {
        let sandbox = Sandbox::with_cloud();
        patched(&sandbox, change);
        let run = build(&sandbox, "x.iso", &[]);
        assert_eq!(run.code, 4, "{what}: {}", run.stderr);
        run.failed(4, texts);
        assert!(!run.stderr.contains('\u{1b}'), "{what}");
    }
}

#[test]
fn version_files_that_make_no_sense_are_refused() {
    if !needs_qemu() {
        return;
    }
    let file = |version: &str, build: &str| TinyIso::version_file(version, build, build);
    let of = |text: &str| TinyIso::base().with("BIGIP1500/VERSION", text);
    let sizes = "BIGIP1500/install/ve.info.json";
    for (iso, texts) in [
        (of(""), &["`Version: …` is missing"][..]),
        (of(&"x".repeat(70_000)), &["VERSION", "70000"]),
        (of("\u{0}\u{1}\u{1b}[2J"), &["line 1 is not `Key: value`"]),
        (of(&file("15.0.0", "../../x")), &["`Build: …` has `../../x`"]),
        (of(&file("15.0.0", "-rf")), &["`Build: …` has `-rf`"]),
        (of(&file("15.0.0", &"1".repeat(200))), &["`Build: …`", "too long"]),
        (of(&file("fifteen", "1")), &["`fifteen` is not a version"]),
        (of(&file("15.0.0", "1").replace("BIG-IP", "-")), &["`Product: …`"]),
        (of(&file("13.1.0", "1")), &["13.1.0"]),
        (of(&file("14.1.0.2", "1")), &["needs 14.1.0.3 or newer"]),
        (TinyIso::base().with("BIGIP1600/VERSION", "x"), &["two product folders"]),
        (TinyIso::base().options(&["-r"]), &["Joliet"]),
        (TinyIso::empty().with("BIGIP1500/README", "x"), &["/BIGIP1500/VERSION"]),
        (TinyIso::empty().with("BIGIP-x/VERSION", "x"), &["no product folder"]),
        (TinyIso::base().with(sizes, "{"), &["ve.info.json"]),
        (TinyIso::base().with(sizes, "[]"), &["ve.info.json"]),
        (TinyIso::base().with(sizes, &"[".repeat(100_000)), &["ve.info.json"]),
        (TinyIso::base().with(sizes, &" ".repeat(2 << 20)), &["ve.info.json", "2097152"]),
    ] {
        let sandbox = Sandbox::with_cloud();
        iso.write(&sandbox.path().join("x.iso"));
        let run = build(&sandbox, "x.iso", &[]);
        run.failed(4, &[texts, &["x.iso", "hint:"]].concat());
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
