//! `--disk` with every format people have: what comes out is the disk that went in.

use std::{path::Path, process::Command};

use crate::harness::{Sandbox, needs_qemu};

/// Runs qemu-img, which must succeed.
#[track_caller]
fn qemu_img(words: &[&str]) {
    let output = Command::new("qemu-img").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The image made from `given` holds the same disk as the raw file.
#[track_caller]
fn same_disk(sandbox: &Sandbox, given: &Path, raw: &str) {
    sandbox
        .run(&["--disk", given.to_str().unwrap(), "-p", "qcow2", "--package", "none"])
        .succeeded();
    let stem = given.file_stem().unwrap().to_str().unwrap();
    let made = sandbox.path().join("images").join(format!("{stem}.qcow2"));
    let made = made.to_str().unwrap();
    qemu_img(&["check", made]);
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", raw, made]);
}

#[test]
fn every_format_arrives_as_the_disk_it_is() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let raw = sandbox.disk("disk.raw", 70, 3);
    let raw = raw.to_str().unwrap();
    for (number, (format, options)) in [
        ("qcow2", &["-c", "-o", "compression_type=zstd"][..]),
        ("vmdk", &["-o", "subformat=monolithicSparse"]),
        ("vmdk", &["-o", "subformat=streamOptimized"]),
        ("vmdk", &["-o", "subformat=monolithicFlat"]),
        ("vmdk", &["-o", "subformat=twoGbMaxExtentSparse"]),
        ("vhdx", &[]),
        ("vdi", &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let given = sandbox.path().join(format!("given-{number}.{format}"));
        let words = ["convert", "-O", format];
        qemu_img(&[&words, options, &[raw, given.to_str().unwrap()]].concat());
        same_disk(&sandbox, &given, raw);
    }
}

#[test]
fn images_that_are_only_a_part_of_a_disk_are_refused() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let raw = sandbox.disk("disk.raw", 8, 1);
    let raw = raw.to_str().unwrap();
    let path = |name: &str| sandbox.path().join(name);
    let (flat, split) = (path("flat.vmdk"), path("split.vmdk"));
    let make = |file: &Path, option: &str| {
        qemu_img(&["convert", "-O", "vmdk", "-o", option, raw, file.to_str().unwrap()]);
    };
    make(&flat, "subformat=monolithicFlat");
    make(&split, "subformat=twoGbMaxExtentSparse");
    std::fs::remove_file(path("flat-flat.vmdk")).unwrap();
    sandbox.write("other.vmdk", "# Disk DescriptorFile\nRW 1 FLAT \"/etc/hostname\" 0\n");
    sandbox.write("device.vmdk", "# Disk DescriptorFile\nRW 1 VMFSRDM \"x\"\n");
    for (name, texts) in [
        ("flat.vmdk", &["flat-flat.vmdk", "hint: an extent of the VMDK is missing"][..]),
        ("split-s001.vmdk", &["split-s001.vmdk", "one extent of a disk in several files"]),
        ("other.vmdk", &["/etc/hostname", "not a file in the same folder"]),
        ("device.vmdk", &["VMFSRDM", "hint:"]),
    ] {
        sandbox
            .run(&["--disk", path(name).to_str().unwrap(), "-p", "qcow2", "--package", "none"])
            .failed(4, texts);
    }
}
