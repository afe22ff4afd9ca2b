//! Describes this provider to the host: the disk it needs and the rules for names. The settings are in a separate file.

use build_image_plugin_api::{
    Architecture, BootMode, Description, DiskNeeds, DiskSpec, DriverNeed, GuestNeeds, MachineNeeds,
    NameRules, Status,
};

use crate::reference::{TAG_LENGTH, TAG_RULE};

/// The whole description. An image name may become a tag, so it has the grammar of tags.
pub(crate) fn description() -> Description {
    Description::new("oci", env!("CARGO_PKG_VERSION").to_owned())
        .summary(
            "OCI registries: uploads the disk as a container disk for KubeVirt or as an artifact"
                .to_owned(),
        )
        .status(Status::Stable)
        .license("Apache-2.0 OR MIT")
        .settings(crate::settings::settings())
        .disk(DiskNeeds::new(DiskSpec::default()))
        .guest(GuestNeeds::default().machines(machines()))
        .image_name(
            NameRules::default()
                .minimum_length(1)
                .maximum_length(TAG_LENGTH)
                .pattern("[a-zA-Z0-9_][a-zA-Z0-9._-]*")
                .explanation(format!("it may become a tag; {TAG_RULE}"))
                .replace("[^a-zA-Z0-9._-]"),
        )
        .uploads(true)
        .capabilities(
            ["resume", "inventory", "same"].into_iter().chain(crate::manage::CAPABILITIES),
        )
}

/// What KubeVirt's machines need from a container disk. The machine's definition chooses the bus of the disk and the
/// model of the network, so one driver of all is enough. Sources:
/// <https://kubevirt.io/user-guide/storage/disks_and_volumes/> and
/// <https://kubevirt.io/user-guide/network/interfaces_and_networks/>.
pub(crate) fn machines() -> MachineNeeds {
    MachineNeeds::default()
        .architectures([Architecture::X86_64, Architecture::Aarch64])
        .firmware([BootMode::Bios, BootMode::Uefi])
        .schemes(["MBR", "GPT"])
        .disks([DriverNeed::new(
            "the disk (bus virtio, scsi or sata)",
            ["virtio_blk", "virtio_scsi", "ahci"],
        )])
        .networks([DriverNeed::new(
            "the network (model virtio, e1000 or e1000e)",
            ["virtio_net", "e1000", "e1000e"],
        )])
        .console("ttyS0")
        .agents(["cloud-init", "ignition"])
}
