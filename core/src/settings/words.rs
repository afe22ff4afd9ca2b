//! Defines the words of the settings of guest checks, bills of materials, and boot tests.

use serde_json::Value as Json;

use super::{define::choice, typed::FromSetting};

choice! {
    /// Whether the disk is inspected before it is sent, and what an error leads to.
    GuestCheck {
        /// It is not inspected.
        Off = "off",
        /// Every finding is a warning.
        Warn = "warn",
        /// A disk that cannot work on the provider's machines is refused.
        Require = "require",
    }
}

choice! {
    /// The format of a bill of materials.
    SbomFormat {
        /// CycloneDX 1.5.
        Cyclonedx = "cyclonedx",
        /// SPDX 2.3.
        Spdx = "spdx",
    }
}

choice! {
    /// The firmware of a boot test.
    BootFirmware {
        /// UEFI if only that can boot the disk, otherwise a BIOS.
        Auto = "auto",
        /// A BIOS.
        Bios = "bios",
        /// UEFI.
        Uefi = "uefi",
    }
}

choice! {
    /// How the guest of a boot test accesses its disk.
    BootDiskBus {
        /// virtio-blk.
        Virtio = "virtio",
        /// NVMe.
        Nvme = "nvme",
        /// virtio-scsi.
        Scsi = "scsi",
        /// SATA or IDE.
        Sata = "sata",
    }
}

choice! {
    /// The network card of the guest of a boot test.
    BootNic {
        /// No card.
        None = "none",
        /// virtio-net.
        Virtio = "virtio",
        /// Intel 82540EM.
        E1000 = "e1000",
    }
}
