//! Faults of drivers, of the initramfs, and of boot loaders.

use super::{CONFIG, Fault, INITRD, OTHER, fault};
use crate::model::Firmware::{Bios, Uefi};
use crate::tests::disk::{Holds, ROOT_UUID};
use crate::tests::parts::{self, VERSION, efi, initramfs};
use crate::tests::systems::{bios_grub, fedora, lvm, syslinux, systemd_boot, uefi_grub};

pub(super) const DRIVERS: [Fault; 10] = [
    fault(
        "no driver for NVMe",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, INITRD, initramfs(&["virtio_blk", "ext4"]));
        },
        &["disk-driver-missing"],
    ),
    fault(
        "no driver for any disk",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, INITRD, initramfs(&["ext4"]));
        },
        &["disk-driver-missing", "disk-driver-missing"],
    ),
    fault(
        "no driver in the initramfs of dracut",
        fedora,
        Uefi,
        |disk| {
            let path = format!("/initramfs-{VERSION}.img");
            disk.put(1, &path, initramfs(&["nvme", "ext4"]));
        },
        &["disk-driver-missing"],
    ),
    fault(
        "no driver for the network",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, &format!("/usr/lib/modules/{VERSION}/modules.dep"), "kernel/nvme.ko:\n");
        },
        &["network-driver-missing"],
    ),
    fault(
        "no driver for the root",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, INITRD, initramfs(&["virtio_blk", "nvme"]));
        },
        &["root-driver-missing"],
    ),
    fault(
        "an initramfs without lvm",
        lvm,
        Bios,
        |disk| {
            let names = ["virtio_blk", "nvme", "ext4"]
                .map(|name| format!("lib/modules/{VERSION}/{name}.ko"));
            let members: Vec<(&str, &[u8])> =
                names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
            disk.put(0, &format!("/initrd.img-{VERSION}"), parts::gzip(&parts::cpio(&members)));
        },
        &["lvm-missing"],
    ),
    fault(
        "an initramfs of another kernel",
        bios_grub,
        Bios,
        |disk| {
            let names =
                ["virtio_blk", "nvme", "ext4"].map(|name| format!("lib/modules/5.10.0/{name}.ko"));
            let members: Vec<(&str, &[u8])> =
                names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
            disk.put(0, INITRD, parts::gzip(&parts::cpio(&members)));
        },
        &["initramfs-version"],
    ),
    fault(
        "a truncated initramfs",
        bios_grub,
        Bios,
        |disk| {
            let whole = initramfs(&["virtio_blk", "nvme", "ext4"]);
            disk.put(0, INITRD, &whole[..whole.len() / 2]);
        },
        &["initramfs-damaged"],
    ),
    fault(
        "an empty initramfs",
        syslinux,
        Bios,
        |disk| {
            disk.put(0, "/initrd", "");
        },
        &["initramfs-damaged"],
    ),
    fault(
        "an initramfs that does not exist",
        systemd_boot,
        Uefi,
        |disk| {
            disk.remove(0, &format!("/debian/{VERSION}/initrd"));
        },
        &["initramfs-missing"],
    ),
];

pub(super) const LOADERS: [Fault; 16] = [
    fault("a disk for BIOS on machines with UEFI", bios_grub, Uefi, |_| (), &["no-esp"]),
    fault("a disk for UEFI on machines with BIOS", uefi_grub, Bios, |_| (), &["no-bios-loader"]),
    fault(
        "no boot record",
        bios_grub,
        Bios,
        |disk| {
            disk.patches = vec![(0, vec![0; 440])];
        },
        &["no-bios-loader"],
    ),
    fault(
        "no core of GRUB",
        bios_grub,
        Bios,
        |disk| {
            disk.patches.push((512, vec![0; 1024]));
        },
        &["bios-loader-broken"],
    ),
    fault(
        "half of the core of GRUB",
        bios_grub,
        Bios,
        |disk| {
            disk.patches.push((1024, vec![0; 1024]));
        },
        &["bios-loader-broken"],
    ),
    fault(
        "GRUB without modules",
        bios_grub,
        Bios,
        |disk| {
            disk.remove(0, "/boot/grub/i386-pc/normal.mod");
        },
        &["grub-modules"],
    ),
    fault(
        "GRUB without modules on a separate boot partition",
        lvm,
        Bios,
        |disk| {
            disk.remove(0, "/grub/i386-pc/normal.mod");
        },
        &["grub-modules"],
    ),
    fault(
        "no active partition",
        syslinux,
        Bios,
        |disk| {
            disk.partitions[0].line = "type=c";
        },
        &["bios-loader-broken"],
    ),
    fault(
        "no boot loader in the active partition",
        syslinux,
        Bios,
        |disk| {
            disk.patches.pop();
        },
        &["bios-loader-broken"],
    ),
    fault(
        "an empty EFI system partition",
        uefi_grub,
        Uefi,
        |disk| {
            disk.tree(0).clear();
        },
        &["no-uefi-loader"],
    ),
    fault(
        "no boot loader at the path of new machines",
        uefi_grub,
        Uefi,
        |disk| {
            disk.remove(0, "/EFI/BOOT/BOOTX64.EFI");
        },
        &["no-fallback-loader"],
    ),
    fault(
        "a boot loader that is not a program",
        systemd_boot,
        Uefi,
        |disk| {
            disk.put(0, "/EFI/BOOT/BOOTX64.EFI", "not a program");
        },
        &["no-fallback-loader"],
    ),
    fault(
        "an EFI system partition that is not formatted",
        uefi_grub,
        Uefi,
        |disk| {
            disk.partitions[0].holds = Holds::Nothing;
            disk.put(1, "/etc/fstab", format!("UUID={ROOT_UUID} / ext4 defaults 0 1\n"));
        },
        &["no-esp"],
    ),
    fault(
        "GRUB searches for another file system",
        uefi_grub,
        Uefi,
        |disk| {
            disk.edit(0, "/EFI/debian/grub.cfg", |text| text.replace(ROOT_UUID, OTHER));
        },
        &["boot-search"],
    ),
    fault(
        "no configuration of the boot loader",
        bios_grub,
        Bios,
        |disk| {
            disk.remove(0, CONFIG);
        },
        &["no-boot-entry"],
    ),
    fault(
        "a program for another architecture",
        uefi_grub,
        Uefi,
        |disk| {
            let mut program = efi("UEFI SHIM", true);
            program[0x84..0x86].copy_from_slice(&0xaa64_u16.to_le_bytes());
            disk.put(0, "/EFI/BOOT/BOOTX64.EFI", program);
        },
        &["no-fallback-loader"],
    ),
];
