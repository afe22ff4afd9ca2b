//! Checks `--disk` with every common format: the disk in the image equals the input.

use std::{path::Path, process::Command};

use crate::harness::{Run, Sandbox, needs, needs_qemu};

/// Runs qemu-img, which must succeed.
#[track_caller]
fn qemu_img(args: &[&str]) {
    let output = Command::new("qemu-img").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Checks that the image made from `given` holds the same disk as the raw file.
#[track_caller]
fn same_disk(sandbox: &Sandbox, given: &Path, raw: &str) {
    let run = sandbox.run(&["--disk", given.to_str().unwrap(), "-p", "qcow2", "--package", "none"]);
    let made = made(run.succeeded());
    qemu_img(&["check", &made]);
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", raw, &made]);
}

/// The image that a run created.
#[track_caller]
fn made(run: &Run) -> String {
    run.member("file").as_str().unwrap().to_owned()
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
        let args = ["convert", "-O", format];
        qemu_img(&[&args, options, &[raw, given.to_str().unwrap()]].concat());
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
        ("other.vmdk", &["/etc/hostname", "not a file in the same directory"]),
        ("device.vmdk", &["VMFSRDM", "hint:"]),
    ] {
        sandbox
            .run(&["--disk", path(name).to_str().unwrap(), "-p", "qcow2", "--package", "none"])
            .failed(4, texts);
    }
}

/// Packs a file with a program that writes another file beside it.
#[track_caller]
fn pack(sandbox: &Sandbox, tool: &str, args: &[&str], file: &str) {
    let mut command = Command::new(tool);
    let output = command.args(args).arg(file).current_dir(sandbox.path()).output().unwrap();
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout)[..64].to_owned()
}

#[test]
fn packed_disks_are_unpacked_once_and_leave_nothing() {
    if !needs_qemu() {
        return;
    }
    for (tool, args, suffix) in
        [("gzip", &["-1", "-k"][..], "gz"), ("xz", &["-0", "-k"], "xz"), ("zstd", &["-q"], "zst")]
    {
        let sandbox = Sandbox::new();
        let raw = sandbox.disk("disk.raw", 40, 3);
        let inside = sandbox.path().join("inside.qcow2");
        qemu_img(&["convert", "-O", "qcow2", raw.to_str().unwrap(), inside.to_str().unwrap()]);
        pack(&sandbox, tool, args, "inside.qcow2");
        let packed = sandbox.path().join(format!("inside.qcow2.{suffix}"));
        let (digest, given) = (sha256(&packed), packed.to_str().unwrap());
        let args = ["--disk", given, "-p", "qcow2", "--package", "none", "--disk-sha256", &digest];
        let run = sandbox.run(&args);
        run.succeeded();
        assert!(run.stderr.contains("MiB unpacked"), "{}", run.stderr);
        let raw = raw.to_str().unwrap();
        qemu_img(&["compare", "-f", "raw", "-F", "qcow2", raw, &made(&run)]);
        assert!(!sandbox.path().join("artifacts").exists(), "{tool} left {:?}", sandbox.files());

        let plan = sandbox.run(&["plan", "--disk", given, "-p", "qcow2"]);
        assert!(plan.succeeded().stdout.contains("inside.qcow2."), "{}", plan.stdout);
        assert!(!sandbox.path().join("artifacts").exists(), "plan left {:?}", sandbox.files());

        let other = digest.replace(|letter: char| letter.is_ascii_digit(), "0");
        let run = sandbox.run(&["--disk", given, "-p", "qcow2", "--disk-sha256", &other]);
        run.failed(4, &["is not the file DISK_SHA256 names", "hint:"]);
        let run = sandbox.run(&["--disk", raw, "-p", "qcow2", "--disk-sha256", &other]);
        run.failed(4, &["is not the file DISK_SHA256 names"]);
        let whole = std::fs::read(&packed).unwrap();
        std::fs::write(&packed, &whole[..whole.len() - 5]).unwrap();
        let run = sandbox.run(&["--disk", given, "-p", "qcow2"]);
        run.failed(4, &["ends too early", "hint: the file is incomplete"]);
        std::fs::write(&packed, [&whole[..], b"garbage, garbage"].concat()).unwrap();
        let run = sandbox.run(&["--disk", given, "-p", "qcow2"]);
        run.failed(4, &["is damaged in", "hint:"]);
        assert!(!sandbox.path().join("artifacts").exists(), "{tool} left {:?}", sandbox.files());
    }
}

#[test]
fn what_is_packed_must_be_a_disk() {
    let sandbox = Sandbox::new();
    sandbox.write("text.img", "no disk");
    pack(&sandbox, "gzip", &["-k"], "text.img");
    pack(&sandbox, "tar", &["-cf", "disk.tar"], "text.img");
    pack(&sandbox, "gzip", &["-k"], "disk.tar");
    for (name, text) in [
        ("text.img.gz", "is not recognised as a disk"),
        ("disk.tar.gz", "is not recognised as a disk"),
    ] {
        let path = sandbox.path().join(name);
        let run = sandbox.run(&["--disk", path.to_str().unwrap(), "-p", "qcow2"]);
        run.failed(4, &[name, text, "hint:"]);
    }
}

#[test]
fn a_disk_grows_and_never_shrinks() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let raw = sandbox.disk("disk.raw", 8, 1);
    let given = raw.to_str().unwrap();
    let words = |size| ["--disk", given, "-p", "qcow2", "--package=none", "--disk-size", size];
    let run = sandbox.run(&words("20MiB"));
    let made = made(run.succeeded());
    let want = sandbox.path().join("want.raw");
    std::fs::copy(&raw, &want).unwrap();
    std::fs::File::options().write(true).open(&want).unwrap().set_len(20 << 20).unwrap();
    qemu_img(&["check", &made]);
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", want.to_str().unwrap(), &made]);
    assert_eq!(run.member("virtual_size"), 20_u64 << 20);
    let plan = sandbox.run(&["plan", "--disk", given, "-p", "qcow2", "--disk-size", "3GiB"]);
    assert!(plan.succeeded().stdout.contains("disk      3.00 GiB"), "{}", plan.stdout);
    sandbox.run(&words("4MiB")).failed(2, &["DISK_SIZE is 4194304 bytes", "8388608", "hint:"]);
    sandbox.run(&words("20000001")).failed(2, &["no multiple of 512", "hint:"]);
    for key in ["--disk-format=raw", "--disk-member=x", "--disk-sha256=00"] {
        let run = sandbox.run(&["-i", "x.iso", "-p", "qcow2", "-m", "ltm", "-b", "1", key]);
        assert_eq!(run.code, 2, "{}", run.stderr);
    }
}

#[test]
fn the_plan_shows_what_the_disk_contains() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let table = "label: gpt\n size=1MiB, type=21686148-6449-6E6F-744E-656564454649\n\
        size=4MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n";
    let arm = "label: gpt\n size=4MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n\
        size=4MiB, type=B921B045-1DF0-41C3-AF44-4C6F280D3FAE\n";
    for (script, summary) in
        [(table, "GPT, starts by BIOS and UEFI"), (arm, "GPT, starts by UEFI only, aarch64")]
    {
        let path = sandbox.path().join("disk.raw");
        std::fs::create_dir_all(sandbox.path().join("images")).unwrap();
        std::fs::write(&path, vec![0; 32 << 20]).unwrap();
        sandbox.write("script", script);
        let line = "sfdisk -q --no-reread --no-tell-kernel disk.raw < script";
        pack(&sandbox, "sh", &["-c"], line);
        let given = path.to_str().unwrap();
        let plan = sandbox.run(&["plan", "--disk", given, "-p", "qcow2"]);
        assert!(plan.succeeded().stdout.contains(summary), "{}", plan.stdout);
        let run = sandbox.run(&["--disk", given, "-p", "qcow2", "--disk-size", "40MiB"]);
        run.succeeded();
        assert!(run.stderr.contains("the backup of its partition table"), "{}", run.stderr);
    }
}

#[test]
fn a_disk_of_more_files_than_a_process_may_usually_open_is_read() {
    if !needs(&["qemu-img", "prlimit"]) {
        return;
    }
    // 1152 files.
    const EXTENT: usize = 64 << 10;
    let sandbox = Sandbox::new();
    let raw = sandbox.disk("disk.raw", 72, 3);
    let whole = std::fs::read(&raw).unwrap();
    let mut lines =
        ["# Disk DescriptorFile", "version=1", "CID=12345678", "parentCID=ffffffff"].join("\n");
    lines.push_str("\ncreateType=\"twoGbMaxExtentFlat\"\n");
    for (number, part) in whole.chunks(EXTENT).enumerate() {
        let name = format!("d-f{number:04}.vmdk");
        lines.push_str(&format!("RW 128 FLAT \"{name}\" 0\n"));
        std::fs::write(sandbox.path().join(&name), part).unwrap();
    }
    sandbox.write("d.vmdk", &lines);
    let words = ["--disk", "d.vmdk", "-p", "qcow2", "--package", "none"];
    let run = sandbox.limited("--nofile=1024:8192", &words);
    let made = made(run.succeeded());
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", raw.to_str().unwrap(), &made]);
    // What a hard limit forbids is an error that names the file.
    let run = sandbox.limited("--nofile=512:512", &words);
    run.failed(4, &["cannot open", "Too many open files"]);
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_leaves_nothing() {
    if !needs(&["prlimit"]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 8, 4);
    let words = ["--disk", "disk.raw", "-p", "qcow2", "--package", "none"];
    let run = sandbox.limited("--fsize=1000000", &words);
    assert_eq!(run.code, 5, "{}", run.stderr);
    assert!(run.stderr.contains("File too large"), "{}", run.stderr);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
    assert!(
        !sandbox.files().iter().any(|name| name.starts_with("images/")),
        "{:?}",
        sandbox.files()
    );
}

#[test]
fn a_block_device_is_a_disk() {
    let sandbox = Sandbox::new();
    let raw = sandbox.disk("disk.raw", 8, 1);
    let found = Command::new("losetup").args(["-f", "--show", "-r"]).arg(&raw).output();
    let Some(output) = found.ok().filter(|output| output.status.success()) else {
        eprintln!("SKIPPED: loop devices cannot be made here");
        return;
    };
    let device = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let run = sandbox.run(&["--disk", &device, "-p", "qcow2", "--package", "none"]);
    let detached = Command::new("losetup").args(["-d", &device]).status().unwrap();
    assert!(detached.success());
    let made = made(run.succeeded());
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", raw.to_str().unwrap(), &made]);
}
