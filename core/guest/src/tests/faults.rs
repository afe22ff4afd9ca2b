//! Disks with one planted fault each: every fault is reported, and nothing but the fault.

use super::disk::{Disk, Holds, MIB, ROOT_UUID};
use super::parts::{self, VERSION, efi, elf, initramfs};
use super::systems::{bios_grub, fedora, lvm, needs, syslinux, systemd_boot, uefi_grub};
use crate::model::Firmware::{self, Bios, Uefi};

/// A fault: its name, the healthy disk, the firmware of the machines, what is changed, and the findings.
struct Fault {
    name: &'static str,
    system: fn() -> Disk,
    firmware: Firmware,
    plant: fn(&mut Disk),
    want: &'static [&'static str],
}

const fn fault(
    name: &'static str,
    system: fn() -> Disk,
    firmware: Firmware,
    plant: fn(&mut Disk),
    want: &'static [&'static str],
) -> Fault {
    Fault { name, system, firmware, plant, want }
}

const INITRD: &str = "/boot/initrd.img-6.1.0-18-amd64";
const CONFIG: &str = "/boot/grub/grub.cfg";
const OTHER: &str = "deadbeef-dead-4bee-8fde-adbeefdeadbe";

/// Replaces text in the configuration of GRUB on a BIOS disk.
pub(super) fn config(disk: &mut Disk, from: &str, to: &str) {
    disk.edit(0, CONFIG, |text| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
}

pub(super) fn fstab(disk: &mut Disk, line: &str) {
    disk.edit(0, "/etc/fstab", |text| text + line + "\n");
}

const DRIVERS: [Fault; 10] = [
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

const LOADERS: [Fault; 14] = [
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

const DEVICES: [Fault; 11] = [
    fault(
        "root=/dev/sda1",
        bios_grub,
        Bios,
        |disk| {
            config(disk, &format!("root=UUID={ROOT_UUID}"), "root=/dev/sda1");
        },
        &["root-device-unstable"],
    ),
    fault(
        "another UUID of the root",
        bios_grub,
        Bios,
        |disk| {
            config(disk, &format!("root=UUID={ROOT_UUID}"), &format!("root=UUID={OTHER}"));
        },
        &["root-device-unknown"],
    ),
    fault(
        "no root device",
        syslinux,
        Bios,
        |disk| {
            disk.edit(0, "/syslinux.cfg", |text| text.replace("root=UUID=", "oldroot="));
        },
        &["no-root-device"],
    ),
    fault(
        "no such logical volume",
        lvm,
        Bios,
        |disk| {
            disk.edit(0, "/grub/grub.cfg", |text| {
                text.replace("/dev/mapper/vg--a-root", "/dev/vg-a/swap")
            });
        },
        &["root-device-unknown"],
    ),
    fault(
        "a kernel that does not exist",
        bios_grub,
        Bios,
        |disk| {
            disk.remove(0, &format!("/boot/vmlinuz-{VERSION}"));
        },
        &["kernel-missing"],
    ),
    fault(
        "no serial console",
        bios_grub,
        Bios,
        |disk| {
            config(disk, "console=ttyS0,115200", "quiet");
        },
        &["no-console"],
    ),
    fault(
        "/dev/sda1 in fstab",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, "/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n");
        },
        &["fstab-device-unstable"],
    ),
    fault(
        "an unknown UUID in fstab",
        bios_grub,
        Bios,
        |disk| {
            fstab(disk, &format!("UUID={OTHER} /srv ext4 defaults 0 2"));
        },
        &["fstab-device-unknown"],
    ),
    fault(
        "an unknown swap space in fstab",
        bios_grub,
        Bios,
        |disk| {
            fstab(disk, &format!("UUID={OTHER} none swap sw 0 0"));
        },
        &["fstab-device-unknown"],
    ),
    fault(
        "another type in fstab",
        bios_grub,
        Bios,
        |disk| {
            disk.edit(0, "/etc/fstab", |text| text.replace("ext4", "xfs"));
        },
        &["fstab-type"],
    ),
    fault(
        "a system for another architecture",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, "/usr/bin/dash", elf(183));
        },
        &["architecture"],
    ),
];

const LEFTOVERS: [Fault; 13] = [
    fault(
        "host keys",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, "/etc/ssh/ssh_host_ed25519_key", "S3CRET");
            disk.put(0, "/etc/ssh/ssh_host_ed25519_key.pub", "public");
        },
        &["host-keys"],
    ),
    fault(
        "a machine identity",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, "/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        },
        &["machine-id"],
    ),
    fault(
        "a shell history",
        lvm,
        Bios,
        |disk| {
            disk.put(1, "/home/admin/.bash_history", "mysql -pS3CRET\n");
        },
        &["shell-history"],
    ),
    fault(
        "keys that may log in",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, "/root/.ssh/authorized_keys", "# comment\nssh-ed25519 AAAA x\n");
        },
        &["authorized-keys"],
    ),
    fault(
        "a private key",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, "/root/.ssh/id_ed25519", "S3CRET");
        },
        &["private-keys"],
    ),
    fault(
        "state of cloud-init",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, "/var/lib/cloud/instances/i-1/boot-finished", "x");
        },
        &["cloud-init-state"],
    ),
    fault(
        "names of interfaces by MAC address",
        bios_grub,
        Bios,
        |disk| {
            disk.put(
                0,
                "/etc/udev/rules.d/70-persistent-net.rules",
                "ATTR{address}==\"52:54:00:12:34:56\"",
            );
        },
        &["udev-net-rules"],
    ),
    fault(
        "a MAC address in the network",
        bios_grub,
        Bios,
        |disk| {
            disk.put(
                0,
                "/etc/netplan/50-cloud-init.yaml",
                "network:\n  match:\n    macaddress: 52:54:00:12:34:56\n",
            );
        },
        &["network-mac"],
    ),
    fault(
        "a lease",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, "/var/lib/dhcp/dhclient.eth0.leases", "lease {}");
        },
        &["dhcp-leases"],
    ),
    fault(
        "a random seed",
        bios_grub,
        Bios,
        |disk| {
            disk.put(0, "/var/lib/systemd/random-seed", "x");
        },
        &["random-seed"],
    ),
    fault(
        "no agent",
        bios_grub,
        Bios,
        |disk| {
            disk.remove(0, "/usr/bin/cloud-init");
        },
        &["no-agent"],
    ),
    fault(
        "no network and no agent",
        bios_grub,
        Bios,
        |disk| {
            disk.remove(0, "/usr/bin/cloud-init");
            disk.remove(0, "/etc/network/interfaces");
        },
        &["no-agent", "no-network"],
    ),
    fault(
        "a root file system that is damaged",
        syslinux,
        Bios,
        |disk| {
            // The descriptors of the block groups, whose checksums no longer fit.
            disk.patches.push((35 * MIB + 2048, vec![0x55; 512]));
        },
        &["not-inspected"],
    ),
];

fn judge(faults: &[Fault]) {
    for fault in faults {
        let mut disk = (fault.system)();
        (fault.plant)(&mut disk);
        let Some(disk) = disk.write() else { return };
        let findings = disk.check(&needs(fault.firmware));
        let mut found: Vec<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, fault.want, "{}: {findings:#?}", fault.name);
        for finding in &findings {
            assert!(
                !finding.evidence.is_empty() && !finding.remedy.is_empty(),
                "{}: {finding:#?}",
                fault.name
            );
            let quoted = finding.evidence.iter().map(|evidence| evidence.text.as_str());
            let all: String = quoted.chain([finding.message.as_str()]).collect();
            assert!(!all.contains("S3CRET"), "{}: {all}", fault.name);
        }
    }
}

#[test]
fn a_missing_driver_or_initramfs_is_reported() {
    judge(&DRIVERS);
}

#[test]
fn a_boot_loader_that_cannot_start_is_reported() {
    judge(&LOADERS);
}

#[test]
fn a_device_that_does_not_exist_or_has_other_names_is_reported() {
    judge(&DEVICES);
}

#[test]
fn what_every_machine_would_share_is_reported() {
    judge(&LEFTOVERS);
}
