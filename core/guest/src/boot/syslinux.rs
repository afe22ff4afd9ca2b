//! Reads syslinux.cfg and extlinux.conf. Source: the SYSLINUX wiki, "Config". Keywords are not case-sensitive; included
//! files and menus of other files are not followed.

use super::Raw;
use crate::tree::{Mounted, Text};

/// Places in the order in which SYSLINUX and EXTLINUX search.
pub(super) const PLACES: [&str; 9] = [
    "/boot/extlinux/extlinux.conf",
    "/boot/syslinux/extlinux.conf",
    "/extlinux/extlinux.conf",
    "/syslinux/extlinux.conf",
    "/extlinux.conf",
    "/boot/syslinux/syslinux.cfg",
    "/syslinux/syslinux.cfg",
    "/syslinux.cfg",
    "/boot/extlinux/syslinux.cfg",
];
const MAX_ENTRIES: usize = 200;

/// Returns the entries of the first configuration of a file system.
pub(super) fn entries(mounted: &Mounted) -> Vec<Raw> {
    PLACES.iter().find_map(|path| mounted.text(path)).map(|text| parse(&text)).unwrap_or_default()
}

pub(super) fn parse(text: &Text) -> Vec<Raw> {
    let directory = text.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let place = |path: &str| {
        // Windows separators are allowed, and relative paths.
        let path = path.replace('\\', "/");
        if path.starts_with('/') { path } else { format!("{directory}/{path}") }
    };
    let (mut found, mut default, mut global) = (Vec::<Raw>::new(), None, String::new());
    for (number, line) in text.settings() {
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim();
        let is_full = found.len() >= MAX_ENTRIES;
        let last = found.last_mut();
        match (key.to_ascii_lowercase().as_str(), last) {
            ("default" | "ontimeout", _) => default = Some(value.to_owned()),
            ("label", _) if !is_full => {
                found.push(Raw {
                    loader: "SYSLINUX",
                    by: "SYSLINUX",
                    title: value.to_owned(),
                    ..Raw::default()
                });
            }
            ("kernel" | "linux", Some(raw)) => {
                raw.kernel = place(value);
                raw.evidence = text.evidence(number, line);
            }
            ("initrd", Some(raw)) => raw.initrds = value.split(',').map(place).collect(),
            ("append", Some(raw)) => {
                value.clone_into(&mut raw.arguments);
                raw.arguments_at = text.evidence(number, line);
            }
            ("append", None) => value.clone_into(&mut global),
            ("menu", Some(raw)) if value.eq_ignore_ascii_case("default") => raw.is_default = true,
            _ => {}
        }
    }
    let menu_default = found.iter().any(|raw| raw.is_default);
    let first = found.first().map(|raw| raw.title.clone());
    let default = default.filter(|name| found.iter().any(|raw| raw.title == *name)).or(first);
    for raw in &mut found {
        if raw.arguments.is_empty() {
            raw.arguments.clone_from(&global);
        }
        // An initramfs may also be an argument.
        let words = raw.arguments.split_whitespace();
        let named: Vec<&str> = words.filter_map(|word| word.strip_prefix("initrd=")).collect();
        if raw.initrds.is_empty() {
            raw.initrds = named.iter().flat_map(|files| files.split(',')).map(place).collect();
        }
        raw.is_default |= !menu_default && Some(&raw.title) == default.as_ref();
    }
    found.retain(|raw| !raw.kernel.is_empty());
    found
}
