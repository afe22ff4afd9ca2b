//! Finds what should not be part of an image: every machine made from it would share it, or it is private. The content
//! of these files is never quoted.

use crate::fs::Kind;
use crate::model::{MachineData, MachineDataKind};
use crate::tree::Tree;

/// Maximum number of home directories.
const MAX_HOMES: usize = 100;
const HISTORIES: [&str; 8] = [
    ".bash_history",
    ".zsh_history",
    ".ash_history",
    ".sh_history",
    ".histfile",
    ".python_history",
    ".mysql_history",
    ".psql_history",
];
/// Kind, directory, start and end of a file's name.
const FILES: [(MachineDataKind, &str, &str, &str); 7] = [
    (MachineDataKind::HostKey, "/etc/ssh", "ssh_host_", "_key"),
    (MachineDataKind::UdevNetRules, "/etc/udev/rules.d", "", "persistent-net.rules"),
    (MachineDataKind::DhcpLease, "/var/lib/dhcp", "dhclient", ".leases"),
    (MachineDataKind::DhcpLease, "/var/lib/dhclient", "dhclient", ".lease"),
    (MachineDataKind::DhcpLease, "/var/lib/NetworkManager", "", ".lease"),
    (MachineDataKind::RandomSeed, "/var/lib/systemd", "random-seed", ""),
    (MachineDataKind::RandomSeed, "/var/lib/urandom", "random-seed", ""),
];

/// Returns the files.
pub(super) fn read(tree: &Tree) -> Vec<MachineData> {
    let mut found = Vec::new();
    let mut add = |kind, path: &str| {
        found.push(MachineData { kind, evidence: tree.evidence(path) });
    };
    for (kind, directory, start, end) in FILES {
        for entry in tree.list(directory) {
            let path = format!("{directory}/{}", entry.name);
            let matches = entry.name.starts_with(start) && entry.name.ends_with(end);
            if entry.kind == Kind::File && matches && has_content(tree, &path) {
                add(kind, &path);
            }
        }
    }
    for path in ["/etc/machine-id", "/var/lib/dbus/machine-id"] {
        let id = tree.head(path, 64).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        // `uninitialized` is what systemd writes into images.
        let is_id =
            id.is_some_and(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        // The second one is usually a link to the first.
        if is_id {
            add(MachineDataKind::MachineId, path);
            break;
        }
    }
    if !tree.list("/var/lib/cloud/instances").is_empty()
        || tree.has("/var/lib/cloud/instance/boot-finished")
    {
        add(MachineDataKind::CloudInitState, "/var/lib/cloud/instances");
    }
    for home in homes(tree) {
        user(tree, &home, &mut add);
    }
    found
}

fn homes(tree: &Tree) -> Vec<String> {
    let users = tree.list("/home").into_iter().filter(|entry| entry.kind == Kind::Directory);
    let users = users.take(MAX_HOMES).map(|entry| format!("/home/{}", entry.name));
    std::iter::once("/root".to_owned()).chain(users).collect()
}

fn user(tree: &Tree, home: &str, add: &mut impl FnMut(MachineDataKind, &str)) {
    for name in HISTORIES {
        let path = format!("{home}/{name}");
        if has_content(tree, &path) {
            add(MachineDataKind::ShellHistory, &path);
        }
    }
    for entry in tree.list(&format!("{home}/.ssh")) {
        let path = format!("{home}/.ssh/{}", entry.name);
        if entry.name.starts_with("authorized_keys") && has_key(tree, &path) {
            add(MachineDataKind::AuthorizedKeys, &path);
        } else if entry.name.starts_with("id_")
            && !entry.name.ends_with(".pub")
            && has_content(tree, &path)
        {
            add(MachineDataKind::PrivateKey, &path);
        }
    }
}

fn has_content(tree: &Tree, path: &str) -> bool {
    // Other kinds of files, such as a link to /dev/null, have no content.
    tree.kind(path) == Some(Kind::File) && tree.head(path, 1).is_some_and(|head| !head.is_empty())
}

/// A file of comments has no keys.
fn has_key(tree: &Tree, path: &str) -> bool {
    tree.text(path).is_some_and(|text| text.settings().next().is_some())
}
