//! Finds configurations of the network, and MAC addresses in them.

use crate::model::{Network, Reference};
use crate::tree::{Text, Tree};

/// Program, directory, and the ending of its files.
const PLACES: [(&str, &str, &str); 8] = [
    ("netplan", "/etc/netplan", ".yaml"),
    ("ifupdown", "/etc/network/interfaces.d", ""),
    ("NetworkManager", "/etc/NetworkManager/system-connections", ""),
    ("systemd-networkd", "/etc/systemd/network", ".network"),
    ("systemd-networkd", "/etc/systemd/network", ".link"),
    ("systemd-networkd", "/usr/local/lib/systemd/network", ".network"),
    ("ifcfg", "/etc/sysconfig/network", ""),
    ("ifcfg", "/etc/sysconfig/network-scripts", ""),
];
/// Programs that use DHCP on every interface without a configuration.
const AUTOMATIC: [(&str, &str); 3] = [
    ("NetworkManager", "/usr/sbin/NetworkManager"),
    ("dhcpcd", "/usr/sbin/dhcpcd"),
    ("ConnMan", "/usr/sbin/connmand"),
];
/// Maximum number of MAC addresses of one file.
const MAX_MACS: usize = 16;
/// Maximum number of files.
const MAX_FILES: usize = 200;

/// Returns the configurations; those of the loopback interface alone do not count.
pub(super) fn read(tree: &Tree) -> Vec<Network> {
    let mut found = Vec::new();
    let interfaces =
        tree.text("/etc/network/interfaces").into_iter().map(|text| ("ifupdown", text));
    let texts = PLACES.iter().flat_map(|(program, directory, ending)| {
        let texts = tree.texts(directory, ending);
        let texts = texts.filter(|text| *program != "ifcfg" || is_ifcfg(&text.path));
        texts.map(move |text| (*program, text))
    });
    for (program, path) in AUTOMATIC {
        if tree.has(path) {
            let (program, evidence) = (program.to_owned(), tree.evidence(path));
            found.push(Network { program, evidence, macs: Vec::new() });
        }
    }
    for (program, text) in interfaces.chain(texts).take(MAX_FILES) {
        if configures(program, &text) {
            let evidence = tree.evidence(&text.path);
            found.push(Network { program: program.to_owned(), evidence, macs: macs(&text) });
        }
    }
    found
}

fn is_ifcfg(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with("ifcfg-") && name != "ifcfg-lo" && name != "ifcfg-template"
}

fn configures(program: &str, text: &Text) -> bool {
    if program != "ifupdown" {
        return true;
    }
    text.settings().any(|(_, line)| {
        let mut words = line.split_whitespace();
        words.next() == Some("iface") && words.next() != Some("lo")
    })
}

/// Returns the MAC addresses of a file.
pub(super) fn macs(text: &Text) -> Vec<Reference> {
    let mut found = Vec::new();
    for (number, line) in text.settings() {
        let words = line.split(|letter: char| !letter.is_ascii_hexdigit() && letter != ':');
        for word in words.filter(|word| is_mac(word)).take(MAX_MACS) {
            if found.len() >= MAX_MACS {
                return found;
            }
            let evidence = text.evidence(number, line);
            found.push(Reference { name: word.to_lowercase(), evidence });
        }
    }
    found
}

fn is_mac(word: &str) -> bool {
    word.len() == 17
        && word.split(':').count() == 6
        && word.split(':').all(|part| part.len() == 2)
        && word != "00:00:00:00:00:00"
}
