//! Healthy systems: everything is found, and nothing is reported.

use super::disk::{ESP_UUID, ROOT_UUID};
use super::parts::VERSION;
use super::systems::{ALL, MODULES, needs};
use crate::model::Firmware;
use crate::{Attributes, Severity, check};

#[test]
fn healthy_systems_have_no_findings() {
    for (name, system) in ALL {
        let Some(disk) = system().write() else { return };
        let found = disk.inspect();
        let uefi = !["GRUB, BIOS, MBR", "SYSLINUX", "LVM"].contains(&name);
        let firmware = if uefi { Firmware::Uefi } else { Firmware::Bios };
        let findings = check(&found, &needs(firmware));
        assert!(findings.is_empty(), "{name}: {findings:#?}");
        assert!(found.complete && found.remarks.is_empty(), "{name}: {:?}", found.remarks);
        let attributes = Attributes::of(&found);
        assert_eq!(attributes.firmware, [firmware], "{name}");
        assert_eq!(attributes.architecture.as_deref(), Some("x86_64"), "{name}");
        assert_eq!(attributes.nvme, Some(true), "{name}");
        assert_eq!(attributes.os.as_deref(), Some("debian"), "{name}");
        assert_eq!(attributes.os_version.as_deref(), Some("12"), "{name}");
    }
}

#[test]
fn the_default_entry_has_its_kernel_and_the_modules_of_its_initramfs() {
    for (name, system) in ALL {
        let Some(disk) = system().write() else { return };
        let found = disk.inspect();
        let defaults: Vec<_> = found.entries.iter().filter(|entry| entry.is_default).collect();
        let [entry] = defaults[..] else { panic!("{name}: {defaults:#?}") };
        assert_eq!(entry.version.as_deref(), Some(VERSION), "{name}");
        assert!(entry.kernel.volume.is_some(), "{name}");
        let initramfs = entry.initramfs[0].content.as_ref().unwrap();
        let want: Vec<String> = MODULES.iter().map(|module| module.replace('-', "_")).collect();
        assert!(
            want.iter().all(|module| initramfs.modules.contains(module)),
            "{name}: {initramfs:#?}"
        );
        let made_by = if name == "BLS and dracut" { "dracut" } else { "initramfs-tools" };
        assert_eq!(initramfs.generator.as_deref(), Some(made_by), "{name}");
        assert_eq!(initramfs.versions, [VERSION], "{name}");
        // Every other entry is there too, behind the default one.
        assert!(found.entries[0].is_default && found.entries.len() > 1, "{name}");
        let console = entry.arguments.contains("console=ttyS0");
        assert!(console && entry.evidence.line.is_some(), "{name}: {entry:#?}");
    }
}

#[test]
fn the_boot_record_of_an_image_that_is_also_an_iso_is_read() {
    let mut disk = super::systems::bios_grub();
    disk.patches.push((0x5c, vec![0; 8]));
    disk.patches.push((0x1b0, 1_u64.to_le_bytes().to_vec()));
    let Some(written) = disk.write() else { return };
    assert_eq!(written.check(&needs(Firmware::Bios)), []);
    disk.patches.push((0x1b0, vec![0; 8]));
    let Some(written) = disk.write() else { return };
    let findings = written.check(&needs(Firmware::Bios));
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].message.contains("refers to no core"), "{findings:#?}");
}

#[test]
fn a_configuration_that_no_boot_loader_reads_starts_nothing() {
    let mut disk = super::systems::systemd_boot();
    let stale = "menuentry x {\n linux /gone root=/dev/sda1\n}\n";
    disk.put(1, "/boot/grub/grub.cfg", stale);
    let Some(disk) = disk.write() else { return };
    let found = disk.inspect();
    assert!(found.entries.iter().any(|entry| entry.loader == "GRUB" && !entry.is_default));
    assert!(check(&found, &needs(Firmware::Uefi)).is_empty());
}

#[test]
fn a_kernel_with_its_initramfs_in_one_program_is_an_entry() {
    let mut disk = super::systems::systemd_boot();
    let entries = ["a-rescue.conf".to_owned(), format!("debian-{VERSION}.conf")];
    for name in entries {
        disk.remove(0, &format!("/loader/entries/{name}"));
    }
    disk.put(0, "/loader/loader.conf", "timeout 1\n");
    let options = format!("root=UUID={ROOT_UUID} console=ttyS0\0");
    let initramfs = super::parts::initramfs(&MODULES);
    let sections: [(&str, &[u8]); 4] = [
        (".cmdline", options.as_bytes()),
        (".uname", VERSION.as_bytes()),
        (".linux", b"kernel"),
        (".initrd", &initramfs),
    ];
    disk.put(0, "/EFI/Linux/debian.efi", super::parts::pe(true, &sections));
    let Some(disk) = disk.write() else { return };
    let found = disk.inspect();
    let findings = check(&found, &needs(Firmware::Uefi));
    assert!(findings.is_empty(), "{findings:#?}");
    let [entry] = &found.entries[..] else { panic!("{:#?}", found.entries) };
    assert_eq!((entry.loader.as_str(), entry.version.as_deref()), ("UKI", Some(VERSION)));
    assert!(entry.initramfs[0].content.as_ref().unwrap().modules.contains("nvme"));
}

#[test]
fn entries_of_grub_legacy_are_read() {
    let mut disk = super::systems::bios_grub();
    disk.remove(0, "/boot/grub/grub.cfg");
    let kernel = format!("/boot/vmlinuz-{VERSION}");
    let config = format!(
        "default=1\ntimeout=5\ntitle old\n\troot (hd0,4)\n\tkernel /old\ntitle BIG\n  root (hd0,0)\n  \
         kernel {kernel} ro root=UUID={ROOT_UUID} console=ttyS0,38400\n  initrd /boot/initrd.img-{VERSION}\n"
    );
    disk.put(0, "/boot/grub/grub.conf", config);
    // The second stage is at the sector that the first one names, without a list of blocks.
    disk.patches =
        vec![(0x44, vec![1, 0, 0, 0]), (0x180, b"GRUB \0".to_vec()), (512, vec![9; 512])];
    let Some(written) = disk.write() else { return };
    let found = written.inspect();
    let findings = check(&found, &needs(Firmware::Bios));
    assert!(findings.is_empty(), "{findings:#?}");
    assert_eq!((found.entries[0].title.as_str(), found.entries[0].evidence.line), ("BIG", Some(8)));
    disk.patches.pop();
    let Some(written) = disk.write() else { return };
    let findings = check(&written.inspect(), &needs(Firmware::Bios));
    assert_eq!(findings[0].id, "bios-loader-broken");
}

#[test]
fn volumes_have_the_names_that_lead_to_them() {
    let Some(disk) = super::systems::uefi_grub().write() else { return };
    let found = disk.inspect();
    let aliases = |number: usize| found.volumes[number].aliases.clone();
    assert!(aliases(0).contains(&format!("UUID={ESP_UUID}")), "{:?}", aliases(0));
    assert!(aliases(0).contains(&"LABEL=BOOT".to_owned()), "{:?}", aliases(0));
    assert!(aliases(1).contains(&format!("UUID={ROOT_UUID}")), "{:?}", aliases(1));
    assert!(aliases(1).iter().any(|alias| alias.starts_with("PARTUUID=")), "{:?}", aliases(1));
    assert_eq!((found.volumes[0].content.as_str(), found.volumes[0].is_esp), ("vfat", true));
    let system = found.system.unwrap();
    assert_eq!(system.fstab[1].volume.as_deref(), Some("partition 1"));
    assert_eq!(system.agents[0].name, "cloud-init");
    assert_eq!(system.networks[0].program, "ifupdown");
    let fallback: Vec<_> = found.loaders.iter().filter(|loader| loader.is_fallback).collect();
    assert_eq!(
        (fallback.len(), fallback[0].name.as_str(), fallback[0].is_signed),
        (1, "shim", true)
    );
}

#[test]
fn a_result_is_the_same_after_it_was_written_and_read() {
    let Some(disk) = super::systems::lvm().write() else { return };
    let found = disk.inspect();
    let text = serde_json::to_string(&found).unwrap();
    let read: crate::Inspection = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    // Lists of modules are long, and stay out of documents.
    assert!(!text.contains("autofs4") && text.len() < 20_000, "{}", text.len());
    let mut wanted = needs(Firmware::Bios);
    wanted.secure_boot = true;
    let findings = check(&found, &wanted);
    assert!(findings.iter().all(|finding| finding.severity <= Severity::Error));
    let text = serde_json::to_string(&wanted).unwrap();
    assert_eq!(serde_json::from_str::<crate::Requirements>(&text).unwrap(), wanted);
}
