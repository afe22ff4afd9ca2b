//! Checks whether the firmware of the target's machines can start the disk.

use crate::finding::Finding;
use crate::model::{Evidence, Firmware, Inspection, Loader};
use crate::requirements::Requirements;

pub(super) fn check(found: &Inspection, needs: &Requirements, findings: &mut Vec<Finding>) {
    if !needs.schemes.is_empty() && !needs.schemes.contains(&found.scheme) {
        let message = format!(
            "the disk has {}, and the target needs {}",
            scheme(found),
            needs.schemes.join(" or ")
        );
        let remedy = "create the disk with the partition table that the target needs";
        findings.push(Finding::error("partition-table", message, remedy));
    }
    architecture(found, needs, findings);
    let problems: Vec<(Firmware, Option<Finding>)> =
        needs.firmware.iter().map(|firmware| (*firmware, cannot_start(found, *firmware))).collect();
    let works = problems.iter().any(|(_, problem)| problem.is_none());
    for (_, problem) in problems {
        if needs.every_firmware || !works {
            findings.extend(problem);
        }
    }
    modules(found, needs, findings);
    for search in &found.unknown_searches {
        let message =
            format!("a boot loader searches for {}, which the disk does not have", search.name);
        let remedy = "run `grub-install` and `update-grub` (or `grub2-mkconfig`) in the system";
        findings.push(Finding::error("boot-search", message, remedy).at(&search.evidence));
    }
    if needs.secure_boot {
        secure_boot(found, findings);
    }
}

fn scheme(found: &Inspection) -> String {
    match found.scheme.as_str() {
        "GPT" => "a GPT".to_owned(),
        "MBR" => "an MBR".to_owned(),
        other => other.to_owned(),
    }
}

fn architecture(found: &Inspection, needs: &Requirements, findings: &mut Vec<Finding>) {
    let Some(system) = &found.system else { return };
    let Some(architecture) = &system.architecture else { return };
    if !needs.architectures.is_empty() && !needs.architectures.contains(architecture) {
        let message = format!(
            "the system is for {architecture}, and the target's machines are {}",
            needs.architectures.join(" or ")
        );
        let remedy = "choose machines of this architecture, or another disk";
        let evidence = Evidence::of(&system.volume, "/bin/sh");
        findings.push(Finding::error("architecture", message, remedy).at(&evidence));
    }
}

/// Returns why a firmware cannot start the disk.
fn cannot_start(found: &Inspection, firmware: Firmware) -> Option<Finding> {
    let loaders: Vec<&Loader> =
        found.loaders.iter().filter(|loader| loader.firmware == firmware).collect();
    match firmware {
        Firmware::Bios => bios(&loaders),
        Firmware::Uefi => uefi(found, &loaders),
    }
}

/// Checks that GRUB finds its modules, if machines with BIOS start it.
fn modules(found: &Inspection, needs: &Requirements, findings: &mut Vec<Finding>) {
    let is_started = needs.firmware.is_empty() || needs.firmware.contains(&Firmware::Bios);
    let Some(loader) = found.loaders.iter().find(|loader| loader.missing_module.is_some()) else {
        return;
    };
    if is_started && loader.problem.is_none() {
        let message = "GRUB has no modules beside its configuration, and without them it stops at a rescue prompt, unless its core includes them";
        let remedy = "run `grub-install --target=i386-pc` in the system";
        let finding = Finding::warning("grub-modules", message.to_owned(), remedy);
        let evidence = loader.missing_module.clone().unwrap_or_default();
        findings.push(finding.at(&evidence));
    }
}

fn bios(loaders: &[&Loader]) -> Option<Finding> {
    let Some(loader) = loaders.first() else {
        let message = "the disk has no boot loader for BIOS in its first sector".to_owned();
        let remedy = "install one in the system, for instance with `grub-install --target=i386-pc`";
        return Some(
            Finding::error("no-bios-loader", message, remedy).at(&Evidence::of("disk", "")),
        );
    };
    let problem = loader.problem.as_ref()?;
    let message = format!("{} cannot start with BIOS: {problem}", loader.name);
    let remedy = if loader.name == "GRUB" {
        "run `grub-install --target=i386-pc` in the system"
    } else {
        "install the boot loader again, and make its partition the only active one"
    };
    Some(Finding::error("bios-loader-broken", message, remedy).at(&loader.evidence))
}

fn uefi(found: &Inspection, loaders: &[&Loader]) -> Option<Finding> {
    let esp: Vec<_> = found.volumes.iter().filter(|volume| volume.is_esp).collect();
    let Some(first) = esp.first() else {
        let message = "the disk has no EFI system partition".to_owned();
        let remedy = "create one with a boot loader for UEFI, or choose machines with BIOS";
        return Some(Finding::error("no-esp", message, remedy).at(&Evidence::of("disk", "")));
    };
    if !esp.iter().any(|volume| volume.inspected) {
        let message = format!("the EFI system partition ({}) has no FAT file system", first.name);
        let remedy = "create a FAT file system with a boot loader on it";
        return Some(Finding::error("no-esp", message, remedy).at(&Evidence::of(&first.name, "")));
    }
    let architecture = found.system.as_ref().and_then(|system| system.architecture.as_ref());
    let fits = |loader: &&&Loader| {
        architecture.is_none()
            || loader.architecture.is_none()
            || loader.architecture.as_ref() == architecture
    };
    let fallback: Vec<&&Loader> =
        loaders.iter().filter(|loader| loader.is_fallback && loader.problem.is_none()).collect();
    if fallback.iter().any(fits) {
        return None;
    }
    let name = match architecture.map(String::as_str) {
        Some("aarch64") => "BOOTAA64.EFI",
        Some("riscv64") => "BOOTRISCV64.EFI",
        Some("i386") => "BOOTIA32.EFI",
        _ => "BOOTX64.EFI",
    };
    let mut finding = if loaders.is_empty() {
        let message = format!("the EFI system partition ({}) has no boot loader", first.name);
        let remedy = "install one in the system, for instance with `grub-install --removable`";
        Finding::error("no-uefi-loader", message, remedy)
    } else {
        let message = format!(
            "no usable boot loader is at \\EFI\\BOOT\\{name}, where UEFI looks on a new machine"
        );
        let remedy =
            "install it there, for instance with `grub-install --removable` or `bootctl install`";
        Finding::error("no-fallback-loader", message, remedy)
    };
    for loader in loaders {
        finding = finding.at(&loader.evidence);
    }
    if finding.evidence.is_empty() {
        finding = finding.at(&Evidence::of(&first.name, "/EFI/BOOT"));
    }
    Some(finding)
}

/// Checks that what a firmware with Secure Boot starts is signed; signatures are not verified.
fn secure_boot(found: &Inspection, findings: &mut Vec<Finding>) {
    let remedy = "install the signed packages of the distribution, such as shim-signed, or switch Secure Boot off";
    let fallback = found
        .loaders
        .iter()
        .filter(|loader| loader.is_fallback && loader.firmware == Firmware::Uefi);
    for loader in fallback.filter(|loader| loader.problem.is_none() && !loader.is_signed) {
        let message = format!("{} is not signed for Secure Boot", loader.evidence.file);
        findings.push(Finding::error("not-signed", message, remedy).at(&loader.evidence));
    }
    let kernels =
        found.entries.iter().filter(|entry| entry.is_default && entry.kernel.volume.is_some());
    for entry in kernels.filter(|entry| !entry.kernel.is_signed) {
        let message = format!("the kernel {} is not signed for Secure Boot", entry.kernel.path);
        findings.push(Finding::error("not-signed", message, remedy).at(&entry.evidence));
    }
}
