//! Finds the firmware of a boot test: SeaBIOS, which is part of qemu, or OVMF, which is a package.
//! Source: file lists of the packages `ovmf` (Debian, Ubuntu), `edk2-ovmf` (Fedora, Arch), `qemu-ovmf-x86_64`
//! (openSUSE).

use std::path::{Path, PathBuf};

use crate::error::{Error, Kind};

/// Pairs of code and variables, in the order in which they are tried. None of them enforces Secure Boot.
const OVMF: [(&str, &str); 6] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
];

/// The firmware of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, as qemu has it.
    Bios,
    /// OVMF.
    Uefi {
        /// The file with its code.
        code: PathBuf,
        /// The file with its initial variables, which is not written.
        variables: PathBuf,
    },
}

impl Firmware {
    /// Finds OVMF on this host.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] when it is not installed; the hint names packages.
    pub fn find_uefi() -> Result<Self, Error> {
        Self::find_uefi_below(Path::new("/"))
    }

    fn find_uefi_below(root: &Path) -> Result<Self, Error> {
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        let pairs = OVMF.iter().map(|(code, variables)| (below(code), below(variables)));
        pairs
            .into_iter()
            .find(|(code, variables)| code.is_file() && variables.is_file())
            .map(|(code, variables)| Self::Uefi { code, variables })
            .ok_or_else(|| {
                Error::new(Kind::Unsupported, "the firmware OVMF, which boots UEFI disks, is not installed")
                    .with_hint(
                        "install it: `apt-get install ovmf` on Debian and Ubuntu, `dnf install edk2-ovmf` on Fedora",
                    )
            })
    }

    /// Returns its name for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::Uefi { .. } => "UEFI",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn code_and_variables_are_used_only_together() {
        let root = tempfile::tempdir().unwrap();
        let error = Firmware::find_uefi_below(root.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.hint().unwrap().contains("apt-get install ovmf"));
        let directory = root.path().join("usr/share/OVMF");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("OVMF_CODE_4M.fd"), "").unwrap();
        fs::write(directory.join("OVMF_VARS.fd"), "").unwrap();
        assert!(Firmware::find_uefi_below(root.path()).is_err());
        fs::write(directory.join("OVMF_CODE.fd"), "").unwrap();
        let found = Firmware::find_uefi_below(root.path()).unwrap();
        assert_eq!(found.name(), "UEFI");
        assert!(matches!(found, Firmware::Uefi { code, .. } if code.ends_with("OVMF_CODE.fd")));
    }
}
