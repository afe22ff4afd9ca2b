//! Defines the words of the settings of boot tests.

use serde_json::Value as Json;

use super::{define::choice, typed::FromSetting};

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
