//! Faults of devices, of the console, and what every machine would share.

use super::{Fault, OTHER, config, fault, fstab};
use crate::model::Firmware::{Bios, Uefi};
use crate::tests::disk::{MIB, ROOT_UUID};
use crate::tests::parts::{VERSION, elf, initramfs, kernel};
use crate::tests::systems::{bios_grub, lvm, syslinux, systemd_boot};

pub(super) const DEVICES: [Fault; 13] = [
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
        "a kernel on a file system that SYSLINUX does not read",
        syslinux,
        Bios,
        |disk| {
            disk.remove(0, "/vmlinuz");
            disk.put(1, "/vmlinuz", kernel(VERSION, false));
        },
        &["kernel-missing"],
    ),
    fault(
        "an initramfs on a file system that systemd-boot does not read",
        systemd_boot,
        Uefi,
        |disk| {
            let path = format!("/debian/{VERSION}/initrd");
            disk.remove(0, &path);
            disk.put(1, &path, initramfs(&["virtio_blk", "nvme", "ext4"]));
        },
        &["initramfs-missing"],
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

pub(super) const MACHINE_DATA: [Fault; 13] = [
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
