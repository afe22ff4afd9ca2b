//! Checks `--disk` with files that packages of Debian have: disks pass through every provider and back, other files are
//! refused by name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    build_debian::{TOOLS, debian},
    harness::{Sandbox, needs, tool},
    inputs_archive::{MAKERS, returns},
};

/// Disks: package, file. Each is an ISO 9660 file system with a boot record, so it needs `--disk-format raw`.
const DISKS: [(&str, &str); 5] = [
    ("grub-rescue-pc", "usr/lib/grub-rescue/grub-rescue-cdrom.iso"),
    ("grub-rescue-pc", "usr/lib/grub-rescue/grub-rescue-floppy.img"),
    ("ipxe", "usr/lib/ipxe/ipxe.iso"),
    ("memtest86+", "usr/lib/memtest86+/memtest86+ia32.iso"),
    ("memtest86+", "usr/lib/memtest86+/memtest86+x64.iso"),
];
/// Other files: package, file, and what the message calls it.
const OTHERS: [(&str, &str, &str); 7] = [
    ("ipxe", "boot/ipxe.lkrn", "is a Linux kernel"),
    ("ipxe", "boot/ipxe.efi", "is not recognised as a disk"),
    ("ipxe", "usr/lib/ipxe/ipxe.pxe", "is not recognised as a disk"),
    ("memtest86+", "boot/memtest86+x64.bin", "is a Linux kernel"),
    ("memtest86+", "usr/share/doc/memtest86+/copyright", "is not recognised as a disk"),
    ("grub-pc-bin", "usr/lib/grub/i386-pc/normal.mod", "is a program (ELF)"),
    ("debian-installer-12-netboot-amd64", INITRD, "holds a cpio archive"),
];
const INITRD: &str =
    "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/initrd.gz";

/// Downloads a package and unpacks it; the directory with its files.
fn unpacked(directory: &Path, package: &str) -> PathBuf {
    let root = directory.join(package);
    if !root.exists() {
        fs::create_dir(&root).unwrap();
        tool(&root, &["apt-get", "-q", "download", package]);
        tool(&root, &["sh", "-c", "dpkg-deb -x *.deb . && rm *.deb"]);
    }
    root
}

#[test]
fn files_of_debian_packages_pass_through_every_provider_or_are_refused_by_name() {
    let is_long = std::env::var_os("BUILD_IMAGE_SOAK_INPUTS").is_some();
    if !is_long || !needs(&["apt-get", "dpkg-deb", "qemu-img"]) {
        return;
    }
    let packages = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_cloud();
    sandbox.write("config.yml", &sandbox.config(&[]));
    for (package, file) in DISKS {
        let disk = unpacked(packages.path(), package).join(file);
        let refused = sandbox.run(&["--disk", disk.to_str().unwrap(), "-p", "qcow2"]);
        refused.failed(4, &["is an ISO image", "--disk-format raw"]);
        for words in MAKERS {
            returns(&sandbox, &disk, words, &["--disk-format", "raw"]);
        }
    }
    for (package, file, name) in OTHERS {
        let file = unpacked(packages.path(), package).join(file);
        let run = sandbox.run(&["--disk", file.to_str().unwrap(), "-p", "qcow2"]);
        run.failed(4, &[name, "hint: "]);
    }
}

#[test]
fn a_debian_disk_passes_through_every_provider() {
    let is_long = std::env::var_os("BUILD_IMAGE_SOAK_INPUTS").is_some();
    if !is_long || !needs(&TOOLS) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    sandbox.write("config.yml", &sandbox.config(&[]));
    for words in MAKERS {
        let words: Vec<&str> =
            words.iter().map(|word| if *word == "1GiB" { "2GiB" } else { word }).collect();
        returns(&sandbox, &debian(), &words, &[]);
    }
}
