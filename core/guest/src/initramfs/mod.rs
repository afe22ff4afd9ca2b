//! Reads what an initramfs holds: the names of its modules, and which program made it. The archive is read as a
//! stream; nothing but names and the list of modules that are built into the kernel is kept.
//!
//! ```text
//! unpack.rs   detects the compression of a part and unpacks it;  lz4.rs  the format that Linux calls LZ4
//! cpio.rs     the members of a cpio archive in the format newc
//! ```
//!
//! Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. An initramfs is a sequence of archives,
//! each compressed or not, with zeros between them: a processor's microcode, then the rest.

mod cpio;
mod lz4;
mod unpack;

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};

use crate::bytes::index;
use crate::model::Initramfs;
use crate::source::Source;
use cpio::{Damage, Member};

/// Maximum length of a list of built-in modules in bytes.
const MAX_LIST: u64 = 1 << 20;
/// Maximum number of module names.
pub(crate) const MAX_MODULES: usize = 10_000;
/// Longest name of a module in bytes; that of a file.
const MAX_NAME: usize = 255;
/// Maximum number of archives in one initramfs.
const MAX_PARTS: usize = 64;

/// Members that only one program writes.
const GENERATORS: [(&str, &str); 6] = [
    ("usr/lib/dracut/", "dracut"),
    ("lib/dracut/", "dracut"),
    ("conf/initramfs.conf", "initramfs-tools"),
    ("scripts/functions", "initramfs-tools"),
    ("init_functions", "mkinitcpio"),
    ("VERSION", "mkinitcpio"),
];

/// Reads an initramfs of a length in bytes.
pub(crate) fn read(reader: Box<dyn Read>, len: u64, source: &Source) -> Initramfs {
    let mut found = Initramfs { len, ..Initramfs::default() };
    let mut input = BufReader::with_capacity(64 << 10, reader);
    let result = parts(&mut input, &mut found, source);
    match result {
        Ok(()) if found.members == 0 => found.damage = Some("it holds no archive".to_owned()),
        Ok(()) | Err(Damage::Stopped) => {}
        Err(Damage::Archive(why)) => found.damage = Some(why),
        Err(Damage::NotInspected(why)) => found.not_inspected = Some(why),
    }
    if source.is_stopped() {
        found.damage = None;
        found.not_inspected = Some("the inspection ended early".to_owned());
    }
    found
}

fn parts(
    input: &mut BufReader<Box<dyn Read>>,
    found: &mut Initramfs,
    source: &Source,
) -> Result<(), Damage> {
    for _ in 0..MAX_PARTS {
        skip_zeros(input).map_err(|error| Damage::of(&error, source))?;
        let head = input.fill_buf().map_err(|error| Damage::of(&error, source))?;
        let Some(first) = head.first() else { return Ok(()) };
        if *first == b'0' {
            archive(input, found, source)?;
            note(found, "none");
            continue;
        }
        let Some(packing) = unpack::detect(head) else {
            if found.members > 0 && head.len() < 4 {
                return Ok(());
            }
            return Err(Damage::Archive("it is neither an archive nor compressed".to_owned()));
        };
        note(found, packing.name());
        let mut unpacked = unpack::reader(packing, input, source)?;
        archive(&mut unpacked, found, source)?;
        skip_zeros(&mut unpacked).map_err(|error| Damage::of(&error, source))?;
        if unpacked.fill_buf().is_ok_and(|next| next.starts_with(b"0707")) {
            archive(&mut unpacked, found, source)?;
        }
        // A checksum at the end of the stream is verified only if the stream is read to its end.
        io::copy(&mut unpacked, &mut io::sink()).map_err(|error| Damage::of(&error, source))?;
    }
    Err(Damage::NotInspected(format!("it has more than {MAX_PARTS} archives")))
}

fn note(found: &mut Initramfs, compression: &str) {
    if !found.compressions.iter().any(|known| known == compression) {
        found.compressions.push(compression.to_owned());
    }
}

fn skip_zeros(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        if zeros == 0 {
            return Ok(());
        }
        input.consume(zeros);
    }
}

fn archive(input: &mut impl Read, found: &mut Initramfs, source: &Source) -> Result<(), Damage> {
    let mut versions: BTreeSet<String> = found.versions.drain(..).collect();
    let result = cpio::members(input, source, |member| {
        found.members += 1;
        visit(member, found, &mut versions)
    });
    found.versions = versions.into_iter().collect();
    result
}

fn visit(
    member: &mut Member<'_>,
    found: &mut Initramfs,
    versions: &mut BTreeSet<String>,
) -> Result<(), Damage> {
    let name = member.name.trim_start_matches("./").trim_start_matches('/').to_owned();
    for (path, generator) in GENERATORS {
        if found.generator.is_none()
            && (name == path || path.ends_with('/') && name.starts_with(path))
        {
            found.generator = Some(generator.to_owned());
        }
    }
    if matches!(name.rsplit('/').next(), Some("lvm" | "lvm.static")) && !name.contains("/etc/") {
        found.has_lvm |= name.contains("bin/");
    }
    let below = name.strip_prefix("usr/").unwrap_or(&name);
    let Some((version, path)) =
        below.strip_prefix("lib/modules/").and_then(|rest| rest.split_once('/'))
    else {
        return Ok(());
    };
    if versions.len() < MAX_PARTS && version.len() <= MAX_NAME {
        versions.insert(version.to_owned());
    }
    if path == "modules.builtin" {
        let list = member.head(MAX_LIST)?;
        let list = String::from_utf8_lossy(&list).into_owned();
        found.builtin.extend(list.lines().filter_map(module).take(MAX_MODULES));
    } else if let Some(module) = module(path).filter(|_| found.modules.len() < MAX_MODULES) {
        found.modules.insert(module);
    }
    Ok(())
}

/// Returns the name of a module as `lsmod` prints it; `None` if the path is not that of a module.
pub(crate) fn module(path: &str) -> Option<String> {
    // In modules.dep the modules that it depends on follow.
    let file = path.split(':').next()?.rsplit('/').next()?;
    let name =
        [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().find_map(|end| file.strip_suffix(end))?;
    (name.len() <= MAX_NAME).then(|| name.replace('-', "_"))
}

/// Returns the length of a buffer for a member, at most `most`.
fn bounded(len: u64, most: u64) -> usize {
    index(len.min(most))
}

#[cfg(test)]
mod tests;
