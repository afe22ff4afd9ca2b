//! Names what instances need from a disk. The properties of the image choose the devices that an instance gets; without
//! them Nova's driver for libvirt chooses virtio. Source:
//! <https://docs.openstack.org/glance/latest/admin/useful-image-properties.html>.

use std::collections::BTreeMap;

use build_image_plugin_api::{Architecture, BootMode, DriverNeed, MachineNeeds};

/// Drivers of disks for each value of `hw_disk_bus`. Others, such as `fdc`, hold no root.
const DISKS: [(&str, &[&str]); 5] = [
    ("virtio", &["virtio_blk"]),
    ("scsi", &["virtio_scsi", "sym53c8xx"]),
    ("sata", &["ahci"]),
    ("ide", &["ata_piix"]),
    ("usb", &["usb_storage"]),
];
/// Drivers of networks for each value of `hw_vif_model`.
const NETWORKS: [(&str, &[&str]); 7] = [
    ("virtio", &["virtio_net"]),
    ("e1000", &["e1000"]),
    ("e1000e", &["e1000e"]),
    ("ne2k_pci", &["ne2k_pci"]),
    ("pcnet", &["pcnet32"]),
    ("rtl8139", &["8139cp", "8139too"]),
    ("vmxnet3", &["vmxnet3"]),
];
/// Properties that name the hypervisor; the second is its older name.
const HYPERVISORS: [&str; 2] = ["img_hv_type", "hypervisor_type"];

/// Returns what instances need without any property.
pub(crate) fn usual() -> MachineNeeds {
    of(&BTreeMap::new())
}

/// Returns what instances need with the properties of an image. Under a hypervisor other than KVM and QEMU the devices
/// are not known, and nothing is needed of drivers.
pub(crate) fn of(properties: &BTreeMap<String, String>) -> MachineNeeds {
    let value = |name: &str| properties.get(name).map(|text| text.to_lowercase());
    let firmware = match value("hw_firmware_type").as_deref() {
        Some("uefi") => vec![BootMode::Uefi],
        Some("bios") => vec![BootMode::Bios],
        _ => vec![BootMode::Bios, BootMode::Uefi],
    };
    let needs = MachineNeeds::default()
        .architectures([Architecture::X86_64, Architecture::Aarch64])
        .firmware(firmware)
        .schemes(["MBR", "GPT"])
        .agents(["cloud-init", "ignition"])
        .secure_boot(value("os_secure_boot").as_deref() == Some("required"));
    let hypervisor = HYPERVISORS.iter().find_map(|name| value(name));
    if hypervisor.is_some_and(|name| !["kvm", "qemu"].contains(&name.as_str())) {
        return needs;
    }
    let row = |device: &str, property: &str, rows: &[(&str, &[&str])]| {
        let chosen = value(property).unwrap_or_else(|| "virtio".to_owned());
        let (_, drivers) = rows.iter().find(|(model, _)| *model == chosen)?;
        let drivers: Vec<&str> = match value("hw_scsi_model").as_deref() {
            Some("virtio-scsi") if chosen == "scsi" => vec!["virtio_scsi"],
            _ => drivers.to_vec(),
        };
        Some(DriverNeed::new(format!("{device} (`{property}` {chosen})"), drivers))
    };
    needs
        .disks(row("the disk", "hw_disk_bus", &DISKS))
        .networks(row("the network", "hw_vif_model", &NETWORKS))
        .console("ttyS0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_properties_choose_the_drivers() {
        let drivers = |properties: &[(&str, &str)]| {
            let properties =
                properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let needs = of(&properties.collect());
            let all = needs.disks.into_iter().chain(needs.networks);
            all.map(|need| need.one_of.join("|")).collect::<Vec<_>>().join(" ")
        };
        for (properties, want) in [
            (&[][..], "virtio_blk virtio_net"),
            (&[("hw_disk_bus", "SATA"), ("hw_vif_model", "e1000")], "ahci e1000"),
            (&[("hw_disk_bus", "scsi")], "virtio_scsi|sym53c8xx virtio_net"),
            (
                &[("hw_disk_bus", "scsi"), ("hw_scsi_model", "virtio-scsi")],
                "virtio_scsi virtio_net",
            ),
            // A bus that is not known here needs nothing.
            (&[("hw_disk_bus", "uml")], "virtio_net"),
            (&[("img_hv_type", "vmware")], ""),
            (&[("hypervisor_type", "qemu")], "virtio_blk virtio_net"),
        ] {
            assert_eq!(drivers(properties), want, "{properties:?}");
        }
    }

    #[test]
    fn the_firmware_of_the_properties_is_needed() {
        let of =
            |name: &str, value: &str| of(&BTreeMap::from([(name.to_owned(), value.to_owned())]));
        assert_eq!(of("hw_firmware_type", "uefi").firmware, [BootMode::Uefi]);
        assert_eq!(usual().firmware.len(), 2);
        assert!(of("os_secure_boot", "required").secure_boot);
        assert!(!of("os_secure_boot", "optional").secure_boot);
    }
}
