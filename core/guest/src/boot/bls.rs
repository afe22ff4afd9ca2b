//! Reads entries of the Boot Loader Specification, which systemd-boot and GRUB of Fedora read, loader.conf of
//! systemd-boot, and kernels with their initramfs in one UEFI program. Source: the specification, version 1, and
//! systemd-stub(7).

use super::Raw;
use super::pe;
use super::words::{Variables, expand, version_key};
use crate::bytes::{index, text};
use crate::tree::{Mounted, Text};

/// Maximum number of entries that are read.
const MAX_ENTRIES: usize = 200;
/// Maximum number of lines of an entry.
const MAX_LINES: usize = 200;
/// Maximum length of a section with text in bytes.
const MAX_SECTION: usize = 64 << 10;

/// An entry with the name that selects it.
pub(super) struct Found {
    pub(super) raw: Raw,
    /// The name of its file, with its ending.
    pub(super) file: String,
}

/// Returns the entries of a directory, the newest first.
pub(super) fn entries(mounted: &Mounted, directory: &str, variables: &Variables) -> Vec<Found> {
    let texts = mounted.texts(directory, ".conf").take(MAX_ENTRIES);
    let mut found: Vec<Found> = texts.filter_map(|text| entry(&text, variables)).collect();
    found.sort_by_key(|found| {
        let version = found.raw.version.clone().unwrap_or_default();
        std::cmp::Reverse((version_key(&version), version_key(&found.file)))
    });
    found
}

pub(super) fn entry(text: &Text, variables: &Variables) -> Option<Found> {
    let file = text.path.rsplit('/').next()?.to_owned();
    let mut raw = Raw { loader: "BLS", ..Raw::default() };
    let mut options = Vec::new();
    for (number, line) in text.settings().take(MAX_LINES) {
        let Some((key, value)) = line.split_once(char::is_whitespace) else { continue };
        let value = value.trim();
        match key {
            "title" => value.clone_into(&mut raw.title),
            "version" => raw.version = Some(value.to_owned()),
            "linux" | "efi" | "uki" => {
                raw.kernel = value.to_owned();
                raw.evidence = text.evidence(number, line);
            }
            "initrd" => {
                let files = expand(value, variables);
                raw.initrds.extend(files.split_whitespace().map(str::to_owned));
            }
            "options" => {
                options.push(expand(value, variables));
                raw.arguments_at = text.evidence(number, line);
            }
            _ => {}
        }
    }
    raw.arguments = options.join(" ");
    raw.clip();
    (!raw.kernel.is_empty()).then_some(Found { raw, file })
}

/// Returns the pattern of loader.conf that selects the default entry.
pub(super) fn default_pattern(mounted: &Mounted) -> Option<String> {
    let text = mounted.text("/loader/loader.conf")?;
    let lines = text.settings().filter_map(|(_, line)| line.split_once(char::is_whitespace));
    lines.filter(|(key, _)| *key == "default").map(|(_, value)| value.trim().to_owned()).last()
}

/// Returns whether a name matches a pattern with `*` and `?`; the ending `.conf` may be left out.
pub(super) fn matches(pattern: &str, file: &str) -> bool {
    let stem = file.strip_suffix(".conf").unwrap_or(file);
    [file, stem].iter().any(|name| glob(pattern.as_bytes(), name.as_bytes()))
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    // The place to return to after the last `*`: both positions.
    let (mut at, mut read, mut star) = (0, 0, None);
    while read < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, read));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || Some(wanted) == name.get(read) => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                (at, read) = (after, from + 1);
            }
        }
    }
    pattern.iter().skip(at).all(|letter| *letter == b'*')
}

/// Returns the kernels with their initramfs in one program.
pub(super) fn unified(mounted: &Mounted) -> Vec<Found> {
    let names = mounted.list("/EFI/Linux").into_iter().map(|entry| entry.name);
    let names = names.filter(|name| name.to_lowercase().ends_with(".efi")).take(MAX_ENTRIES);
    let mut found: Vec<Found> = names.filter_map(|name| program(mounted, name)).collect();
    found.sort_by_key(|found| std::cmp::Reverse(version_key(&found.file)));
    found
}

fn program(mounted: &Mounted, file: String) -> Option<Found> {
    let path = format!("/EFI/Linux/{file}");
    let program = pe::parse(&mounted.head(&path, pe::HEAD)?)?;
    let section = |name: &str| {
        let (offset, len) = *program.sections.get(name)?;
        let most = index(offset).checked_add(len.min(MAX_SECTION))?;
        // Sections with text come before the kernel.
        let head = mounted.head(&path, most.min(4 << 20))?;
        head.get(index(offset)..).map(text)
    };
    let initrd = program.sections.get(".initrd").map(|(offset, len)| (*offset, *len as u64));
    let raw = Raw {
        loader: "UKI",
        title: file.clone(),
        evidence: mounted.evidence(&path),
        kernel: path.clone(),
        arguments: section(".cmdline").unwrap_or_default(),
        version: section(".uname"),
        inside: initrd,
        ..Raw::default()
    };
    Some(Found { raw, file })
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_select_entries() {
        for (pattern, file, want) in [
            ("debian-*", "debian-6.1.0-18.conf", true),
            ("debian", "debian.conf", true),
            ("debian.conf", "debian.conf", true),
            ("*.efi", "a.efi", true),
            ("d?b*n*", "debian-x.conf", true),
            ("fedora-*", "debian-6.conf", false),
            ("", "debian.conf", false),
        ] {
            assert_eq!(matches(pattern, file), want, "{pattern} {file}");
        }
    }
}
