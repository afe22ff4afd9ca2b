//! Finds what starts the system: boot loaders for each firmware, and their entries with kernel and initramfs.
//!
//! ```text
//! record.rs     boot records of a BIOS: GRUB and its core, SYSLINUX and the active partition
//! programs.rs   UEFI programs of EFI system partitions;  pe.rs  their headers
//! grub.rs, legacy.rs, bls.rs, syslinux.rs   entries of configurations;  words.rs  words and variables
//! windows.rs    Windows, whose files are not read
//! resolve.rs    finds the files that an entry names, and reads its initramfs
//! ```

mod bls;
mod grub;
mod legacy;
mod pe;
mod programs;
mod record;
mod resolve;
mod syslinux;
pub(crate) mod windows;
mod words;

use std::rc::Rc;

use build_image_disk::facts::Facts;

use crate::model::{BootEntry, Evidence, Firmware, Loader, Reference};
use crate::source::Source;
use crate::tree::Mounted;
use words::Variables;

/// What was found.
pub(crate) struct Boot {
    pub(crate) loaders: Vec<Loader>,
    /// Default entries come first.
    pub(crate) entries: Vec<BootEntry>,
    pub(crate) unknown_searches: Vec<Reference>,
}

/// An entry as its configuration has it.
#[derive(Default)]
struct Raw {
    loader: &'static str,
    /// The boot loader that reads the configuration.
    by: &'static str,
    title: String,
    is_default: bool,
    evidence: Evidence,
    kernel: String,
    arguments: String,
    /// The line of the arguments; that of the kernel if it is empty.
    arguments_at: Evidence,
    initrds: Vec<String>,
    version: Option<String>,
    /// Offset and length of the initramfs inside of the kernel's file.
    inside: Option<(u64, u64)>,
    /// The only file system that paths are relative to; without it, that of the configuration comes first.
    on: Option<usize>,
    /// The file system that holds the configuration.
    home: usize,
}

/// Maximum number of entries of all configurations.
const MAX_RAWS: usize = 300;
/// Longest arguments of a kernel in bytes, longest title and path, and the number of initramfs files.
const MAX_ARGUMENTS: usize = 4 << 10;
const MAX_NAME: usize = 512;
const MAX_INITRDS: usize = 16;

impl Raw {
    /// Cuts what is longer than any system writes.
    fn clip(&mut self) {
        let clip = |text: &mut String, most: usize| {
            if text.len() > most {
                text.truncate((0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
                text.shrink_to_fit();
            }
        };
        clip(&mut self.arguments, MAX_ARGUMENTS);
        self.initrds.truncate(MAX_INITRDS);
        let names = [&mut self.title, &mut self.kernel].into_iter().chain(&mut self.initrds);
        names.for_each(|name| clip(name, MAX_NAME));
    }
}

/// Reads boot loaders and their entries. `aliases` are the names of all volumes, those that cannot be read included;
/// `all_read` is false if there are such volumes with a file system.
pub(crate) fn read(
    source: &Source,
    facts: &Facts,
    mounted: &[Rc<Mounted>],
    aliases: &[String],
    all_read: bool,
) -> Boot {
    let mut loaders = record::loaders(source, facts);
    let (mut raws, mut unknown) = (Vec::new(), Vec::new());
    let environment = mounted.iter().flat_map(|one| environments(one)).collect::<Variables>();
    for (home, one) in mounted.iter().enumerate() {
        loaders.extend(programs::loaders(one));
        let before = raws.len();
        // These boot loaders read no other file system: a file of the same path there does not help them.
        let at_home = |raw: Raw| Raw { on: Some(home), ..raw };
        grub_entries(mounted, home, &environment, aliases, (&mut raws, &mut unknown));
        if !raws.iter().skip(before).any(|raw: &Raw| raw.loader == "BLS") {
            raws.extend(systemd_entries(one, &environment).into_iter().map(at_home));
        }
        raws.extend(syslinux::entries(one).into_iter().map(at_home));
        raws.extend(legacy::entries(one).into_iter().map(|(raw, partition)| {
            let name = partition.map(|number| format!("partition {number}"));
            let on = mounted.iter().position(|one| Some(&one.name) == name.as_ref());
            Raw { on, ..raw }
        }));
        raws.truncate(MAX_RAWS);
        for raw in raws.iter_mut().skip(before) {
            raw.home = home;
            raw.clip();
        }
    }
    for loader in loaders.iter_mut().filter(|_| all_read) {
        if (loader.firmware, loader.name.as_str()) == (Firmware::Bios, "GRUB") {
            loader.missing_module = missing_module(mounted);
        }
    }
    for raw in &mut raws {
        raw.is_default &= is_read(raw, &loaders);
    }
    // What the order of the configurations does not change stays in it.
    raws.sort_by_key(|raw| !raw.is_default);
    let entries = resolve::entries(mounted, raws, source, all_read);
    Boot { loaders, entries, unknown_searches: unknown }
}

/// Returns whether a boot loader on the disk reads the configuration of an entry: a file of one that was replaced may
/// still be there. Programs that were not recognised may read every configuration.
fn is_read(raw: &Raw, loaders: &[Loader]) -> bool {
    let others = ["GRUB", "SYSLINUX", "systemd-boot"];
    loaders.is_empty()
        || loaders
            .iter()
            .any(|loader| loader.name == raw.by || !others.contains(&loader.name.as_str()))
}

/// Returns the names of GRUB's directories on a file system.
fn grub_directories(mounted: &Mounted) -> Vec<String> {
    let fixed = ["/boot/grub", "/boot/grub2", "/grub", "/grub2"].map(str::to_owned);
    let vendors = if mounted.is_esp { mounted.list("/EFI") } else { mounted.list("/boot/efi/EFI") };
    let parent = if mounted.is_esp { "/EFI" } else { "/boot/efi/EFI" };
    let vendors = vendors.into_iter().map(|entry| format!("{parent}/{}", entry.name));
    fixed.into_iter().chain(vendors).collect()
}

/// Returns where the first module of GRUB for BIOS should be, if there are configurations and none has modules. Its core
/// has room for a few modules only: those that read this file system.
fn missing_module(all: &[Rc<Mounted>]) -> Option<Evidence> {
    let mut missing = None;
    for mounted in all.iter().filter(|mounted| !mounted.is_esp) {
        for directory in ["/boot/grub", "/boot/grub2", "/grub", "/grub2"] {
            let module = format!("{directory}/i386-pc/normal.mod");
            if mounted.has(&module) {
                return None;
            }
            if mounted.has(&format!("{directory}/grub.cfg")) {
                missing.get_or_insert_with(|| Evidence::of(&mounted.name, &module));
            }
        }
    }
    missing
}

fn environments(mounted: &Mounted) -> Vec<(String, String)> {
    let blocks = grub_directories(mounted).into_iter();
    let blocks = blocks.filter_map(|directory| mounted.text(&format!("{directory}/grubenv")));
    blocks.flat_map(|block| grub::environment(&block.content)).collect()
}

fn grub_entries(
    all: &[Rc<Mounted>],
    home: usize,
    environment: &Variables,
    aliases: &[String],
    (raws, unknown): (&mut Vec<Raw>, &mut Vec<Reference>),
) {
    let Some(mounted) = all.get(home) else { return };
    for directory in grub_directories(mounted) {
        let Some(text) = mounted.text(&format!("{directory}/grub.cfg")) else { continue };
        let config = grub::parse(&text, environment);
        for search in &config.searches {
            let known = aliases.iter().any(|alias| alias.eq_ignore_ascii_case(&search.alias));
            let line = text.content.lines().nth(crate::bytes::index(u64::from(search.line) - 1));
            let evidence = text.evidence(search.line, line.unwrap_or_default().trim());
            let reference = Reference { name: search.alias.clone(), evidence };
            if !known && !unknown.iter().any(|other| other.name == reference.name) {
                unknown.push(reference);
            }
        }
        let on = |search: &Option<grub::Search>| {
            let alias = &search.as_ref()?.alias;
            all.iter()
                .position(|one| one.aliases.iter().any(|name| name.eq_ignore_ascii_case(alias)))
        };
        for (number, entry) in config.entries.iter().enumerate() {
            let Some((kernel, line, words)) = &entry.kernel else { continue };
            raws.push(Raw {
                loader: "GRUB",
                by: "GRUB",
                title: entry.title.clone(),
                is_default: config.is_default(entry, number == 0),
                evidence: text.evidence(*line, words),
                kernel: kernel.clone(),
                arguments: entry.arguments.clone(),
                initrds: entry.initrds.clone(),
                on: on(&entry.root).or_else(|| on(&config.root)),
                ..Raw::default()
            });
        }
        if config.has_bls {
            raws.extend(grub_bls(all, home, &config));
        }
    }
}

/// Returns the entries that `blscfg` reads: below /boot, or at the root of a separate boot file system.
fn grub_bls(all: &[Rc<Mounted>], home: usize, config: &grub::Config) -> Vec<Raw> {
    let order = std::iter::once(home).chain((0..all.len()).filter(|other| *other != home));
    for number in order {
        let Some(mounted) = all.get(number) else { continue };
        for directory in ["/boot/loader/entries", "/loader/entries"] {
            let mut found = bls::entries(mounted, directory, &config.variables);
            if found.is_empty() {
                continue;
            }
            let default = config.default.trim();
            let chosen = found.iter().position(|entry| {
                !default.is_empty()
                    && (bls::matches(default, &entry.file) || entry.raw.title == default)
            });
            let chosen = chosen.or_else(|| default.parse().ok()).unwrap_or_default();
            if let Some(entry) = found.get_mut(chosen) {
                entry.raw.is_default = true;
            }
            let raws =
                found.into_iter().map(|entry| Raw { on: Some(number), by: "GRUB", ..entry.raw });
            return raws.collect();
        }
    }
    Vec::new()
}

/// Returns the entries of systemd-boot on a file system, if it is there.
fn systemd_entries(mounted: &Mounted, environment: &Variables) -> Vec<Raw> {
    let is_managed = mounted.has("/loader/loader.conf") || mounted.is_esp;
    if !is_managed {
        return Vec::new();
    }
    let mut found = bls::entries(mounted, "/loader/entries", environment);
    found.extend(bls::unified(mounted));
    let pattern = bls::default_pattern(mounted).unwrap_or_else(|| "*".to_owned());
    let chosen = found.iter().position(|entry| bls::matches(&pattern, &entry.file));
    if let Some(entry) = found.get_mut(chosen.unwrap_or_default()) {
        entry.raw.is_default = true;
    }
    found.into_iter().map(|entry| Raw { by: "systemd-boot", ..entry.raw }).collect()
}

/// Parses a file as each of the configurations and headers, for fuzzing.
pub(crate) fn parse(text: &crate::tree::Text, bytes: &[u8]) {
    let config = grub::parse(text, &grub::environment(&text.content));
    for (number, entry) in config.entries.iter().enumerate() {
        config.is_default(entry, number == 0);
    }
    bls::entry(text, &config.variables);
    syslinux::parse(text);
    legacy::parse(text);
    let _ = (pe::parse(bytes), pe::kernel_version(bytes));
    bls::matches(&text.content, &config.default);
}
