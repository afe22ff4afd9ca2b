//! Describes this provider.

use build_image_plugin_api::{
    Archive, Description, DiskFormat, DiskNeeds, DiskSpec, DiskVariant, DriverNeed, GuestNeeds,
    MachineNeeds, Ovf, Setting, SettingKind,
};

/// Licence text inside the OVA.
pub(crate) const EULA: &str = "ADD_OVA_EULA";
/// Digest algorithm of the manifest.
pub(crate) const DIGEST: &str = "OVA_MANIFEST_DIGEST";
/// Whether the OVA asks for addresses and passwords.
pub(crate) const PROPERTIES: &str = "OVA_PROP_NET_USER";
/// Processors of the machine.
pub(crate) const CPUS: &str = "OVA_CPUS";
/// Memory of the machine.
pub(crate) const MEMORY: &str = "OVA_MEMORY";
/// Version of the virtual hardware.
pub(crate) const HARDWARE: &str = "OVA_HARDWARE_VERSION";

pub(crate) fn description() -> Description {
    let image = DiskSpec::new(DiskFormat::Vmdk).variant(DiskVariant::StreamOptimized);
    Description::new("vmware", env!("CARGO_PKG_VERSION"))
        .summary("an OVA file in IMAGE_DIR, for vSphere, Workstation and Fusion")
        .license("Apache-2.0 OR MIT")
        .settings([
            Setting::new(EULA, SettingKind::Path, "Text file with the licence the OVA shows"),
            Setting::new(
                DIGEST,
                SettingKind::Text,
                "Digest of the manifest; SHA1 for vSphere before 6.5",
            )
            .choices(&["SHA256", "SHA1"])
            .default_value("SHA256"),
            Setting::new(
                PROPERTIES,
                SettingKind::Switch,
                "The OVA asks for management addresses and passwords when it is deployed",
            ),
            Setting::new(
                CPUS,
                SettingKind::Integer,
                "Processors of the machine; for a BIG-IP this or OVA_MEMORY replaces the sizes to choose from [default: 2]",
            ),
            Setting::new(MEMORY, SettingKind::Size, "Memory of the machine [default: 4GiB]"),
            Setting::new(
                HARDWARE,
                SettingKind::Integer,
                "Virtual hardware version: 13 is vmx-13, for ESXi 6.5 and later [default: 13, or what the product's version needs]",
            ),
        ])
        .disk(
            DiskNeeds::new(image.clone()) // The machine depends on the build; `create_disk` fills it in.
                .package(image.archive(Archive::Ova).ovf(Ovf::default()))
                .multiple_of_bytes(512),
        )
        .guest(GuestNeeds::default().machines(machines()))
}

/// What the virtual machine of the OVA needs: an LSI Logic SCSI controller and VMXNET3 adapters.
fn machines() -> MachineNeeds {
    MachineNeeds::default()
        .schemes(["MBR", "GPT"])
        .disks([DriverNeed::new("the disk on an LSI Logic controller", ["mptspi"])])
        .networks([DriverNeed::new("the network (VMXNET3)", ["vmxnet3"])])
}
