//! Defines the words that settings of the core accept.

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

choice! {
    /// What becomes of a failed build.
    OnFailure {
        /// It is removed.
        Undo = "undo",
        /// It is kept for `resume`.
        Keep = "keep",
    }
}

choice! {
    /// What a build does whose image the account has already.
    IfSame {
        /// It uploads nothing, and its result is that image.
        Skip = "skip",
        /// It makes another one.
        New = "new",
    }
}

choice! {
    /// What becomes of a published file whose name a build uses again.
    IfExists {
        /// The new one replaces it.
        Replace = "replace",
        /// It stays, and the build fails.
        Fail = "fail",
    }
}

choice! {
    /// How an image is published.
    Package {
        /// In its provider's archive.
        Archive = "archive",
        /// Without an archive.
        None = "none",
    }
}

choice! {
    /// How progress is reported on standard error.
    ProgressMode {
        /// As suits the terminal.
        Auto = "auto",
        /// Lines.
        Plain = "plain",
        /// JSON documents, one per line.
        Json = "json",
        /// Warnings and errors only.
        None = "none",
    }
}

choice! {
    /// Whether output is coloured.
    ColorMode {
        /// As suits the terminal, `NO_COLOR`, and `CLICOLOR_FORCE`.
        Auto = "auto",
        /// Always.
        Always = "always",
        /// Never.
        Never = "never",
    }
}

choice! {
    /// What a build prints on standard output.
    OutputFormat {
        /// A line per image and published file.
        Text = "text",
        /// The result document.
        Json = "json",
        /// The identifiers alone, one per line.
        Id = "id",
    }
}

choice! {
    /// Lowest level of the messages in the log file.
    LogLevel {
        /// As `Error`: the old tool had this level.
        Critical = "critical",
        /// Errors.
        Error = "error",
        /// Warnings.
        Warning = "warning",
        /// What the build does.
        Info = "info",
        /// What a developer needs.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}
