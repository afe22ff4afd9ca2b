//! Defines the names of the disk formats, as users and providers write them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind};

/// A disk image format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// The guest's disk without a container.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
    /// Microsoft's Virtual Hard Disk, fixed or dynamic; not VHDX.
    Vhd,
    /// Microsoft's Virtual Hard Disk, version 2.
    Vhdx,
    /// VMware's virtual disk: sparse, stream-optimised, or flat.
    Vmdk,
    /// VirtualBox's disk image.
    Vdi,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 6] =
        [Self::Raw, Self::Qcow2, Self::Vhd, Self::Vhdx, Self::Vmdk, Self::Vdi];

    /// Returns the lower-case name, which is also the usual file extension.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::new(Kind::Unsupported, format!("unknown disk format `{text}`"))
                .with_hint(format!("known formats: {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_and_only_lower_case_is_taken() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        for unknown in ["RAW", "vpc", ""] {
            assert_eq!(unknown.parse::<Format>().unwrap_err().kind(), Kind::Unsupported);
        }
    }
}
