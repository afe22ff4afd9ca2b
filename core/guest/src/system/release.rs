//! Reads os-release(5), and the architecture of programs from their ELF headers.

use crate::bytes::le16;
use crate::tree::{Mounted, Text, Tree};

const PLACES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
/// Programs that every system has.
const PROGRAMS: [&str; 6] = [
    "/bin/sh",
    "/usr/bin/env",
    "/sbin/init",
    "/usr/lib/systemd/systemd",
    "/bin/busybox",
    "/bin/ls",
];

/// Returns whether a file system is the root of a system.
pub(crate) fn is_root(mounted: &Mounted) -> bool {
    PLACES.iter().any(|path| mounted.has(path))
        || mounted.has("/etc") && (mounted.has("/sbin/init") || mounted.has("/bin/sh"))
}

/// Returns ID, VERSION_ID, and PRETTY_NAME.
pub(super) fn names(tree: &Tree) -> (String, String, String) {
    let text = PLACES.iter().find_map(|path| tree.text(path));
    let value = |key: &str| text.as_ref().and_then(|text| variable(text, key)).unwrap_or_default();
    (value("ID"), value("VERSION_ID"), value("PRETTY_NAME"))
}

/// Returns the value of a shell variable; quotes are removed, and the last assignment counts.
fn variable(text: &Text, key: &str) -> Option<String> {
    let values = text.settings().filter_map(|(_, line)| line.strip_prefix(key)?.strip_prefix('='));
    let value = values.last()?.trim();
    let inner = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote).and_then(|rest| rest.strip_suffix(*quote)));
    Some(inner.unwrap_or(value).replace("\\\"", "\"").replace("\\$", "$"))
}

/// Returns the architecture of the first program that is found. Source: ELF-64 Object File Format, e_machine.
pub(super) fn architecture(tree: &Tree) -> Option<&'static str> {
    let heads = PROGRAMS.iter().filter_map(|path| tree.head(path, 64));
    let mut machines = heads.filter(|head| head.starts_with(b"\x7fELF"));
    machines.find_map(|head| match le16(&head, 18)? {
        62 => Some("x86_64"),
        3 => Some("i386"),
        183 => Some("aarch64"),
        243 => Some("riscv64"),
        _ => None,
    })
}
