//! Installs ISOs of a small Linux installer with the habits of debian-installer: kernel and initrd in its places,
//! answers in /preseed.cfg, a reboot at the end unless an answer says power-off.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    build_debian::{boots_to_login, debian},
    harness::{Run, Sandbox, TinyIso, Turn, needs, needs_qemu, root, target_directory},
};

/// The ISO; with a system, the installer writes that disk, and otherwise one line.
fn iso(path: &Path, system: Option<&Path>) -> PathBuf {
    let script = root().join("tests/fixtures/linux-iso/build");
    let mut build = Command::new("python3");
    build.arg(script).arg("--output").arg(path);
    build.arg("--cache").arg(target_directory().join("stand-in-iso"));
    if let Some(system) = system {
        build.arg("--system").arg(system);
    }
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path.to_owned()
}

const ANSWERS: &str =
    "d-i netcfg/get_hostname string answered\nd-i partman-auto/disk string /dev/vda\n";
const POWER_OFF: &str = "d-i debian-installer/exit/poweroff boolean true\n";

fn build(sandbox: &Sandbox, args: &[&str]) -> Run {
    let common = ["-i", "linux.iso", "-p", "qcow2", "--disk-size", "64MiB", "--reuse"];
    sandbox.run(&[&common, args].concat())
}

/// The raw disk of the only build.
fn raw(sandbox: &Sandbox) -> Option<PathBuf> {
    let name = sandbox.files().into_iter().find(|name| name.ends_with(".raw"))?;
    Some(sandbox.path().join(name))
}

#[test]
fn an_iso_with_an_answer_file_becomes_an_image_when_its_guest_powers_off() {
    if !needs_qemu() {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    iso(&sandbox.path().join("linux.iso"), None);
    sandbox.write("preseed.cfg", &format!("{ANSWERS}{POWER_OFF}"));
    let answers = ["--installer-answer-file", "preseed.cfg"];

    // Without answers, the installer reboots without an installation.
    let unanswered = ["-i", "linux.iso", "-p", "qcow2", "--disk-size", "64MiB"];
    sandbox.run(&unanswered).failed(5, &["reboot: Restarting system", "hint:"]);
    assert_eq!(raw(&sandbox), None);

    let run = build(&sandbox, &answers);
    run.succeeded();
    let disk = raw(&sandbox).unwrap();
    let content = fs::read(&disk).unwrap();
    assert!(content.starts_with(b"installed answered\n"), "{:?}", &content[..32]);
    assert_eq!(content.len(), 64 << 20);
    assert!(
        sandbox.files().iter().any(|name| name == "artifacts/linux/qcow2/generic/qemu.install.log")
    );

    // The same inputs are not installed again, others are.
    let again = build(&sandbox, &answers);
    again.succeeded();
    assert!(again.stderr.contains("the same was installed before"), "{}", again.stderr);
    sandbox.write("preseed.cfg", &format!("{}{POWER_OFF}", ANSWERS.replace("answered", "other")));
    build(&sandbox, &[&answers[..], &["--installer", "generic"]].concat()).succeeded();
    assert!(fs::read(&disk).unwrap().starts_with(b"installed other\n"));
    if std::env::var_os("BUILD_IMAGE_SOAK_INSTALLER").is_some() {
        debian_boots();
    }
}

#[test]
fn a_text_on_the_console_decides_where_the_user_names_one() {
    if !needs_qemu() {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    iso(&sandbox.path().join("linux.iso"), None);
    // It reboots at the end.
    sandbox.write("answers.cfg", ANSWERS);
    let args = ["--installer-answer-file", "answers.cfg"];
    build(&sandbox, &args).failed(5, &["reboot: Restarting system"]);
    let success = |text| [&args[..], &["--installer-success", text]].concat();
    build(&sandbox, &success("no such text")).failed(5, &["without printing `no such text`"]);
    build(&sandbox, &success("linux-iso: installation finished")).succeeded();
    assert!(fs::read(raw(&sandbox).unwrap()).unwrap().starts_with(b"installed answered\n"));
}

#[test]
fn what_a_linux_iso_needs_is_refused_before_qemu_starts() {
    if !needs(&["xorriso"]) {
        return;
    }
    let sandbox = Sandbox::new();
    TinyIso::empty()
        .with("boot/kernel", "k")
        .with("boot/initrd", "i")
        .write(&sandbox.path().join("odd.iso"));
    TinyIso::base().write(&sandbox.path().join("base.iso"));
    let odd = ["-i", "odd.iso", "--installer", "generic"];
    let sized = [&odd[..], &["--disk-size", "1GiB"]].concat();
    let with = |more: &[&'static str]| [&sized[..], more].concat();
    let boot = ["--installer-kernel", "/boot/kernel", "--installer-initrd"];
    for (args, code, texts) in [
        (odd.to_vec(), 2, vec!["DISK_SIZE is not set", "--disk-size 8GiB"]),
        (sized.clone(), 4, vec!["odd.iso` has no kernel", "INSTALLER_KERNEL and INSTALLER_INITRD"]),
        (with(&["--installer-kernel", "/x"]), 2, vec!["INSTALLER_INITRD is not"]),
        (with(&[boot[0], boot[1], boot[2], "/absent"]), 4, vec!["/absent", "odd.iso"]),
        (
            with(&[boot[0], boot[1], boot[2], "/boot/initrd", "--installer-answer-file", "none"]),
            2,
            vec!["INSTALLER_ANSWER_FILE", "is not a file"],
        ),
        (
            vec!["-i", "odd.iso", "--installer", "other"],
            2,
            vec!["INSTALLER", "auto, bigip, generic"],
        ),
        // The product's volumes are the least.
        (
            vec!["-i", "base.iso", "-m", "ltm", "-b", "1", "--disk-size", "1GiB"],
            2,
            vec![
                "DISK_SIZE is 1073741824 bytes, but the volumes of this image need",
                "hint: give at least",
            ],
        ),
        (
            vec!["-i", "base.iso", "-m", "ltm", "-b", "1", "--disk-size", "100GB1"],
            2,
            vec!["is not a number of bytes"],
        ),
    ] {
        sandbox.run(&[&args[..], &["-p", "qcow2"]].concat()).failed(code, &texts);
    }
    for (size, bytes) in [("200GiB", 200_u64 << 30), ("100GB", 100_000_000_000)] {
        let args = ["plan", "--json", "-i", "base.iso", "-m", "ltm", "-b", "2", "-p", "qcow2"];
        let plan = sandbox.run(&[&args[..], &["--disk-size", size]].concat());
        let plan: serde_json::Value = serde_json::from_str(&plan.succeeded().stdout).unwrap();
        assert_eq!(plan["virtual_size"], bytes, "{size}");
    }
    let plan = [&["plan", "-p", "qcow2"], &with(&[boot[0], boot[1], boot[2], "/boot/initrd"])[..]]
        .concat();
    let plan = sandbox.run(&[&plan[..], &["-e", "base.iso"]].concat());
    plan.succeeded();
    assert!(plan.stdout.contains("odd.qcow2"), "{}", plan.stdout);
    let warning = "EHF_ISO without effect: not used for Linux ISOs";
    assert!(plan.stderr.contains(warning), "{}", plan.stderr);
}

/// Installs a Debian system and boots it to its login.
fn debian_boots() {
    assert!(needs(&["mmdebstrap", "syslinux", "mcopy", "mkfs.vfat", "sfdisk"]));
    let sandbox = Sandbox::new();
    iso(&sandbox.path().join("debian.iso"), Some(&debian()));
    sandbox.write("preseed.cfg", &format!("{ANSWERS}{POWER_OFF}"));
    let args = ["-i", "debian.iso", "-p", "qcow2", "--disk-size", "3GiB", "--package", "none"];
    sandbox.run(&[&args[..], &["--installer-answer-file", "preseed.cfg"]].concat()).succeeded();
    let image = sandbox.path().join("images/debian.qcow2");
    let disk = sandbox.path().join("disk.raw");
    let converted = Command::new("qemu-img")
        .args(["convert", "-O", "raw"])
        .args([&image, &disk])
        .status()
        .unwrap();
    assert!(converted.success());
    assert_eq!(fs::metadata(&disk).unwrap().len(), 3 << 30);
    let (booted, printed) = boots_to_login(&disk);
    assert!(booted, "{printed}");
    // The host name is an answer of the answer file.
    assert!(printed.contains("answered login:"), "{printed}");
}
