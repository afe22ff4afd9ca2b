//! The healthy systems, and what machines need.

use super::disk::{BOOT_UUID, Disk, ESP_UUID, Holds, Node, Partition, ROOT_UUID, Tree};
use super::parts::{self, VERSION, efi, elf, initramfs, kernel};
use crate::model::Firmware;
use crate::{DriverNeed, Requirements, Severity};

pub(super) const MODULES: [&str; 6] =
    ["virtio_blk", "virtio-pci", "virtio_scsi", "nvme", "xen-blkfront", "ext4"];
type Healthy = fn() -> Disk;

/// Every healthy system with its name.
pub(super) const ALL: [(&str, Healthy); 6] = [
    ("GRUB, BIOS, MBR", bios_grub),
    ("GRUB, UEFI", uefi_grub),
    ("systemd-boot", systemd_boot),
    ("SYSLINUX", syslinux),
    ("LVM", lvm),
    ("BLS and dracut", fedora),
];

fn need(device: &str, one_of: &[&str], severity: Severity) -> DriverNeed {
    let one_of = one_of.iter().map(|name| (*name).to_owned()).collect();
    DriverNeed { device: device.to_owned(), one_of, severity }
}

/// What the machines of a cloud need that has virtio and NVMe, with one firmware.
pub(super) fn needs(firmware: Firmware) -> Requirements {
    Requirements {
        architectures: vec!["x86_64".to_owned()],
        firmware: vec![firmware],
        disks: vec![
            need("virtio disks", &["virtio_blk"], Severity::Error),
            need("NVMe disks", &["nvme"], Severity::Warning),
        ],
        networks: vec![need("virtio networks", &["virtio_net"], Severity::Error)],
        console: Some("ttyS0".to_owned()),
        agents: vec!["cloud-init".to_owned()],
        ..Requirements::default()
    }
}

fn file(tree: &mut Tree, path: &str, content: impl Into<Vec<u8>>) {
    tree.insert(path.to_owned(), Node::File(content.into()));
}

/// A root file system without a boot directory.
fn root() -> Tree {
    let mut tree = Tree::new();
    let release = "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
    file(&mut tree, "/usr/lib/os-release", release);
    tree.insert("/etc/os-release".to_owned(), Node::Link("../usr/lib/os-release".to_owned()));
    tree.insert("/bin".to_owned(), Node::Link("usr/bin".to_owned()));
    tree.insert("/lib".to_owned(), Node::Link("usr/lib".to_owned()));
    file(&mut tree, "/usr/bin/dash", elf(62));
    tree.insert("/usr/bin/sh".to_owned(), Node::Link("dash".to_owned()));
    file(&mut tree, "/usr/bin/cloud-init", "#!/usr/bin/python3\n");
    file(&mut tree, "/etc/fstab", format!("# a comment\nUUID={ROOT_UUID} / ext4 defaults 0 1\n"));
    file(&mut tree, "/etc/machine-id", "");
    file(
        &mut tree,
        "/etc/network/interfaces",
        "auto lo\niface lo inet loopback\niface eth0 inet dhcp\n",
    );
    let directory = format!("/usr/lib/modules/{VERSION}");
    file(&mut tree, &format!("{directory}/modules.builtin"), "kernel/fs/autofs/autofs4.ko\n");
    let modules = MODULES.iter().chain(&["virtio_net"]);
    let dep: String = modules.map(|name| format!("kernel/{name}.ko: kernel/x.ko\n")).collect();
    file(&mut tree, &format!("{directory}/modules.dep"), dep);
    for directory in ["/root", "/home/admin", "/proc", "/var/lib/cloud"] {
        tree.insert(directory.to_owned(), Node::Directory);
    }
    tree
}

/// Kernel and initramfs in a directory.
fn boot(tree: &mut Tree, directory: &str) {
    file(tree, &format!("{directory}/vmlinuz-{VERSION}"), kernel(VERSION, true));
    file(tree, &format!("{directory}/initrd.img-{VERSION}"), initramfs(&MODULES));
}

/// What grub-mkconfig of Debian writes, in short; `directory` is where GRUB finds the kernel.
fn grub_cfg(search: &str, directory: &str, root: &str) -> String {
    let entry = |title: &str, id: &str, extra: &str| {
        format!(
            "menuentry '{title}' --class debian $menuentry_id_option 'gnulinux-{id}' {{\n\
             \tload_video\n\tinsmod gzio\n\tif [ x$feature_platform_search_hint = xy ]; then\n\
             \t  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,msdos1  {search}\n\
             \telse\n\t  search --no-floppy --fs-uuid --set=root {search}\n\tfi\n\
             \techo\t'Loading Linux {VERSION} ...'\n\
             \tlinux\t{directory}/vmlinuz-{VERSION} root={root} ro {extra} console=tty0 console=ttyS0,115200\n\
             \tinitrd\t{directory}/initrd.img-{VERSION}\n}}\n"
        )
    };
    let recovery = entry("Debian GNU/Linux, with Linux (recovery mode)", "recovery", "single");
    let normal = entry("Debian GNU/Linux", "simple", "quiet");
    format!(
        "if [ -s $prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env\nfi\n\
         if [ \"${{next_entry}}\" ] ; then\n   set default=\"${{next_entry}}\"\nelse\n   set default=\"0\"\nfi\n\
         if [ x\"${{feature_menuentry_id}}\" = xy ]; then\n  menuentry_id_option=\"--id\"\nelse\n  menuentry_id_option=\"\"\nfi\n\
         function load_video {{\n  insmod vbe\n}}\n{normal}\
         submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced' {{\n{recovery}}}\n"
    )
}

fn linux(mib: u64, tree: Tree) -> Partition {
    Partition { line: "type=83, bootable", mib, holds: Holds::Ext { uuid: ROOT_UUID, tree } }
}

pub(super) fn bios_grub() -> Disk {
    let mut tree = root();
    boot(&mut tree, "/boot");
    file(
        &mut tree,
        "/boot/grub/grub.cfg",
        grub_cfg(ROOT_UUID, "/boot", &format!("UUID={ROOT_UUID}")),
    );
    file(&mut tree, "/boot/grub/grubenv", "# GRUB Environment Block\n######");
    file(&mut tree, "/boot/grub/i386-pc/normal.mod", "");
    Disk { label: "dos", partitions: vec![linux(40, tree)], patches: parts::grub_record() }
}

fn esp(tree: Tree) -> Partition {
    Partition { line: "type=U", mib: 34, holds: Holds::Fat { tree } }
}

fn gpt(mib: u64, uuid: &'static str, tree: Tree) -> Partition {
    Partition { line: "type=L", mib, holds: Holds::Ext { uuid, tree } }
}

pub(super) fn uefi_grub() -> Disk {
    let (mut tree, mut efi_tree) = (root(), Tree::new());
    boot(&mut tree, "/boot");
    file(
        &mut tree,
        "/boot/grub/grub.cfg",
        grub_cfg(ROOT_UUID, "/boot", &format!("UUID={ROOT_UUID}")),
    );
    let fstab = format!(
        "UUID={ROOT_UUID} / ext4 defaults 0 1\nUUID={ESP_UUID} /boot/efi vfat umask=0077 0 1\n"
    );
    file(&mut tree, "/etc/fstab", fstab);
    file(&mut efi_tree, "/EFI/BOOT/BOOTX64.EFI", efi("UEFI SHIM", true));
    file(&mut efi_tree, "/EFI/BOOT/grubx64.efi", efi("GRUB", true));
    file(&mut efi_tree, "/EFI/debian/grubx64.efi", efi("GRUB", true));
    let stub = format!(
        "search.fs_uuid {ROOT_UUID} root hd0,gpt2\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    );
    file(&mut efi_tree, "/EFI/debian/grub.cfg", stub);
    Disk {
        label: "gpt",
        partitions: vec![esp(efi_tree), gpt(40, ROOT_UUID, tree)],
        patches: Vec::new(),
    }
}

pub(super) fn systemd_boot() -> Disk {
    let (tree, mut efi_tree) = (root(), Tree::new());
    file(
        &mut efi_tree,
        "/EFI/BOOT/BOOTX64.EFI",
        efi("#### LoaderInfo: systemd-boot 252 ####", false),
    );
    file(
        &mut efi_tree,
        "/EFI/systemd/systemd-bootx64.efi",
        efi("#### LoaderInfo: systemd-boot 252 ####", false),
    );
    file(&mut efi_tree, "/loader/loader.conf", "timeout 3\ndefault debian-*\n");
    let directory = format!("/debian/{VERSION}");
    file(&mut efi_tree, &format!("{directory}/linux"), kernel(VERSION, true));
    file(&mut efi_tree, &format!("{directory}/initrd"), initramfs(&MODULES));
    let entry = |version: &str, extra: &str| {
        format!(
            "title Debian\nversion {version}\noptions root=UUID={ROOT_UUID} {extra}\noptions console=ttyS0\nlinux {directory}/linux\ninitrd {directory}/initrd\n"
        )
    };
    file(&mut efi_tree, &format!("/loader/entries/debian-{VERSION}.conf"), entry(VERSION, "ro"));
    file(&mut efi_tree, "/loader/entries/a-rescue.conf", entry("0", "single"));
    Disk {
        label: "gpt",
        partitions: vec![esp(efi_tree), gpt(24, ROOT_UUID, tree)],
        patches: Vec::new(),
    }
}

pub(super) fn syslinux() -> Disk {
    let (tree, mut fat) = (root(), Tree::new());
    file(&mut fat, "/vmlinuz", kernel(VERSION, false));
    file(&mut fat, "/initrd", initramfs(&MODULES));
    let config = format!(
        "SERIAL 0 115200\nDEFAULT linux\nLABEL rescue\n KERNEL old\nLABEL linux\n  KERNEL vmlinuz\n  INITRD initrd\n  APPEND root=UUID={ROOT_UUID} ro console=ttyS0\n"
    );
    file(&mut fat, "/syslinux.cfg", config);
    let boot = Partition { line: "type=c, bootable", mib: 34, holds: Holds::Fat { tree: fat } };
    let root = Partition { line: "type=83", ..linux(24, tree) };
    let mut patches = parts::syslinux_record();
    // What `syslinux --install` changes in the first sector of the partition.
    patches.push(((1 << 20) + 3, b"SYSLINUX".to_vec()));
    Disk { label: "dos", partitions: vec![boot, root], patches }
}

pub(super) fn lvm() -> Disk {
    let (mut tree, mut boot_tree) = (root(), Tree::new());
    boot(&mut boot_tree, "");
    file(&mut boot_tree, "/grub/i386-pc/normal.mod", "");
    file(&mut boot_tree, "/grub/grub.cfg", grub_cfg(BOOT_UUID, "", "/dev/mapper/vg--a-root"));
    let fstab = format!(
        "/dev/mapper/vg--a-root / ext4 defaults 0 1\nUUID={BOOT_UUID} /boot ext4 defaults 0 2\ntmpfs /tmp tmpfs defaults 0 0\n"
    );
    file(&mut tree, "/etc/fstab", fstab);
    let holds = Holds::Lvm { uuid: ROOT_UUID, tree, segments: parts::LINEAR.to_owned() };
    let physical = Partition { line: "type=8e", mib: 40, holds };
    let boot = Partition {
        line: "type=83, bootable",
        mib: 24,
        holds: Holds::Ext { uuid: BOOT_UUID, tree: boot_tree },
    };
    Disk { label: "dos", partitions: vec![boot, physical], patches: parts::grub_record() }
}

/// UEFI with GRUB that reads entries of the Boot Loader Specification, and an initramfs with microcode before it.
pub(super) fn fedora() -> Disk {
    let (mut tree, mut boot_tree, mut efi_tree) = (root(), Tree::new(), Tree::new());
    file(&mut efi_tree, "/EFI/BOOT/BOOTX64.EFI", efi("UEFI SHIM", true));
    file(&mut efi_tree, "/EFI/fedora/grubx64.efi", efi("GRUB", true));
    let stub = format!(
        "search --no-floppy --root-dev-only --fs-uuid --set=dev {BOOT_UUID}\nset prefix=($dev)/grub2\nexport $prefix\nconfigfile $prefix/grub.cfg\n"
    );
    file(&mut efi_tree, "/EFI/fedora/grub.cfg", stub);
    let config = format!(
        "set default=\"${{saved_entry}}\"\nsearch --no-floppy --fs-uuid --set=root {BOOT_UUID}\ninsmod blscfg\nblscfg\n"
    );
    file(&mut boot_tree, "/grub2/grub.cfg", config);
    let environment = format!(
        "# GRUB Environment Block\nsaved_entry=0123-{VERSION}\nkernelopts=root=UUID={ROOT_UUID} ro console=ttyS0,115200n8\n####"
    );
    file(&mut boot_tree, "/grub2/grubenv", environment);
    let entry = |version: &str| {
        format!(
            "title Fedora ({version})\nversion {version}\nlinux /vmlinuz-{version}\ninitrd /initramfs-{version}.img\noptions $kernelopts quiet\nid fedora\n"
        )
    };
    file(&mut boot_tree, &format!("/loader/entries/0123-{VERSION}.conf"), entry(VERSION));
    file(&mut boot_tree, "/loader/entries/0123-6.9.0.conf", entry("6.9.0"));
    file(&mut boot_tree, &format!("/vmlinuz-{VERSION}"), kernel(VERSION, true));
    let microcode = parts::cpio(&[("kernel/x86/microcode/GenuineIntel.bin", &[7; 5000])]);
    let names: Vec<String> = MODULES
        .iter()
        .map(|name| format!("usr/lib/modules/{VERSION}/kernel/{name}.ko.xz"))
        .collect();
    let mut members: Vec<(&str, &[u8])> =
        names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    members.push(("usr/lib/dracut/dracut-059", b""));
    let mut initramfs = [microcode, vec![0; 1000]].concat();
    initramfs.extend(parts::gzip(&parts::cpio(&members)));
    file(&mut boot_tree, &format!("/initramfs-{VERSION}.img"), initramfs);
    let fstab = format!(
        "UUID={ROOT_UUID} / ext4 defaults 0 1\nUUID={BOOT_UUID} /boot ext4 defaults 0 2\nUUID={ESP_UUID} /boot/efi vfat defaults 0 2\n"
    );
    file(&mut tree, "/etc/fstab", fstab);
    let partitions = vec![esp(efi_tree), gpt(24, BOOT_UUID, boot_tree), gpt(24, ROOT_UUID, tree)];
    Disk { label: "gpt", partitions, patches: Vec::new() }
}
