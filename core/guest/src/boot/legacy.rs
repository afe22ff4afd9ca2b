//! Reads menu.lst and grub.conf of GRUB Legacy, which older systems start with. Source: GRUB Legacy manual 0.97,
//! "Commands".

use super::Raw;
use crate::tree::{Mounted, Text};

const PLACES: [&str; 4] =
    ["/boot/grub/grub.conf", "/boot/grub/menu.lst", "/grub/grub.conf", "/grub/menu.lst"];
const MAX_ENTRIES: usize = 200;

/// An entry with the number of the partition that its paths are on, counted from 1, if it names one.
pub(super) type Found = (Raw, Option<u32>);

/// Returns the entries of the first configuration of a file system.
pub(super) fn entries(mounted: &Mounted) -> Vec<Found> {
    PLACES.iter().find_map(|path| mounted.text(path)).map(|text| parse(&text)).unwrap_or_default()
}

pub(super) fn parse(text: &Text) -> Vec<Found> {
    let (mut found, mut default) = (Vec::<Found>::new(), 0);
    for (number, line) in text.settings() {
        let (key, value) = line.split_once(['=', ' ', '\t']).unwrap_or((line, ""));
        let value = value.trim_start_matches(['=', ' ', '\t']).trim_end();
        let is_full = found.len() >= MAX_ENTRIES;
        match (key, found.last_mut()) {
            ("default", _) => default = value.parse().unwrap_or_default(),
            ("title", _) if !is_full => {
                let raw = Raw {
                    loader: "GRUB Legacy",
                    by: "GRUB",
                    title: value.to_owned(),
                    ..Raw::default()
                };
                found.push((raw, None));
            }
            ("root" | "rootnoverify", Some((_, on))) => *on = partition(value),
            ("kernel", Some((raw, _))) => {
                let mut words = value.split_whitespace().skip_while(|word| word.starts_with("--"));
                raw.kernel = words.next().unwrap_or_default().to_owned();
                raw.arguments = words.collect::<Vec<_>>().join(" ");
                raw.evidence = text.evidence(number, line);
            }
            ("initrd", Some((raw, _))) => raw.initrds = vec![value.to_owned()],
            _ => {}
        }
    }
    if let Some((raw, _)) = found.get_mut(default) {
        raw.is_default = true;
    }
    found.retain(|(raw, _)| !raw.kernel.is_empty());
    found
}

/// Returns the number of the partition in `(hd0,0)`.
fn partition(device: &str) -> Option<u32> {
    let number = device.strip_prefix("(hd0,")?.strip_suffix(')')?;
    number.parse::<u32>().ok()?.checked_add(1)
}
