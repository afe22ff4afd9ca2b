//! Finds the UEFI programs that a firmware can start from an EFI system partition.

use super::pe;
use crate::fs::Kind;
use crate::model::{Firmware, Loader};
use crate::tree::Mounted;

/// Maximum number of programs.
const MAX_PROGRAMS: usize = 64;
/// Bytes of a program in which its name is searched for.
const MAX_SEARCH: usize = 2 << 20;

/// Names of the programs that UEFI starts without a boot variable, in lower case (UEFI 2.10, 3.5.1.1).
const FALLBACKS: [&str; 5] =
    ["bootx64.efi", "bootia32.efi", "bootaa64.efi", "bootarm.efi", "bootriscv64.efi"];

/// Texts that only one program contains; a shim also names the GRUB that it starts.
const NAMES: [(&[u8], &str); 4] = [
    (b"#### LoaderInfo: systemd-boot", "systemd-boot"),
    (b"UEFI SHIM", "shim"),
    (b"GRUB", "GRUB"),
    (b"Linux version", "Linux"),
];

/// Returns the programs below \EFI, except for kernels of systemd-boot, which are entries.
pub(super) fn loaders(mounted: &Mounted) -> Vec<Loader> {
    if !mounted.is_esp {
        return Vec::new();
    }
    let directories = mounted
        .list("/EFI")
        .into_iter()
        .filter(|entry| entry.kind == Kind::Directory && !entry.name.eq_ignore_ascii_case("Linux"));
    let mut found = Vec::new();
    for directory in directories {
        let parent = format!("/EFI/{}", directory.name);
        for entry in mounted.list(&parent) {
            if entry.name.to_lowercase().ends_with(".efi") && found.len() < MAX_PROGRAMS {
                found.push(program(mounted, &format!("{parent}/{}", entry.name)));
            }
        }
    }
    found
}

fn program(mounted: &Mounted, path: &str) -> Loader {
    let bytes = mounted.head(path, MAX_SEARCH).unwrap_or_default();
    let headers = pe::parse(&bytes);
    let name =
        NAMES.iter().find(|(text, _)| bytes.windows(text.len()).any(|window| window == *text));
    let parts: Vec<String> = path.to_lowercase().split('/').map(str::to_owned).collect();
    let is_fallback = matches!(parts.as_slice(), [_, _, directory, file]
        if directory == "boot" && FALLBACKS.contains(&file.as_str()));
    Loader {
        firmware: Firmware::Uefi,
        name: name.map_or("unknown", |(_, name)| *name).to_owned(),
        evidence: mounted.evidence(path),
        architecture: headers.as_ref().and_then(|headers| headers.architecture).map(str::to_owned),
        is_fallback,
        is_signed: headers.as_ref().is_some_and(|headers| headers.is_signed),
        problem: headers.is_none().then(|| "it is not a UEFI program".to_owned()),
        missing_module: None,
    }
}
