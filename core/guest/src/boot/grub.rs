//! Reads grub.cfg: menu entries with their kernel, its arguments and initramfs, the default entry, and identifiers of
//! file systems that are searched for. Conditions are not evaluated: of several assignments the last one counts, which
//! is right for what grub-mkconfig writes. Source: GRUB manual 2.06, "Writing full configuration files directly".

use super::words::{Variables, expand, split};
use crate::tree::Text;

/// Maximum number of menu entries.
const MAX_ENTRIES: usize = 500;
/// Maximum length of all words in bytes, after variables were replaced.
const MAX_LENGTH: usize = 4 << 20;
/// Maximum depth of submenus.
const MAX_DEPTH: usize = 8;

/// A grub.cfg.
#[derive(Default)]
pub(super) struct Config {
    pub(super) entries: Vec<MenuEntry>,
    /// What selects the default entry: a number, a title, or an identifier, with `>` between those of submenus.
    pub(super) default: String,
    /// The file system that paths outside of an entry's own search are relative to.
    pub(super) root: Option<Search>,
    /// Identifiers that were searched for, in the order of their lines.
    pub(super) searches: Vec<Search>,
    /// Whether entries come from /loader/entries.
    pub(super) has_bls: bool,
    pub(super) variables: Variables,
}

/// A search for a file system.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// An alias of the volume: `UUID=…` or `LABEL=…`.
    pub(super) alias: String,
    pub(super) line: u32,
}

/// A menu entry.
#[derive(Default)]
pub(super) struct MenuEntry {
    pub(super) title: String,
    pub(super) id: String,
    /// The numbers of the submenus and of the entry.
    pub(super) place: Vec<usize>,
    pub(super) root: Option<Search>,
    pub(super) kernel: Option<(String, u32, String)>,
    pub(super) arguments: String,
    pub(super) initrds: Vec<String>,
}

/// A block that is open: a submenu, an entry, or anything else.
enum Block {
    /// Its number, and the number of its next item.
    Submenu {
        number: usize,
        next: usize,
    },
    Entry(Box<MenuEntry>),
    Other,
}

/// Parses a grub.cfg with the variables of its environment block.
pub(super) fn parse(text: &Text, environment: &Variables) -> Config {
    let mut config = Config { variables: environment.clone(), ..Config::default() };
    let (mut blocks, mut next, mut length) = (Vec::new(), 0_usize, 0);
    for (number, line) in text.settings() {
        let words = split(line);
        let words: Vec<String> = words.iter().map(|word| expand(word, &config.variables)).collect();
        length += words.iter().map(String::len).sum::<usize>();
        if length > MAX_LENGTH {
            break;
        }
        let Some(command) = words.first() else { continue };
        let arguments = words.get(1..).unwrap_or_default();
        match command.as_str() {
            "menuentry" | "submenu" if blocks.len() < MAX_DEPTH => {
                let mine = counter(&mut blocks, &mut next);
                let title = arguments.first().cloned().unwrap_or_default();
                blocks.push(if command == "submenu" {
                    Block::Submenu { number: mine, next: 0 }
                } else {
                    Block::Entry(Box::new(begin(title, arguments, mine, &blocks)))
                });
            }
            "}" => {
                if let Some(Block::Entry(entry)) = blocks.pop()
                    && config.entries.len() < MAX_ENTRIES
                {
                    config.entries.push(*entry);
                }
            }
            _ if words.last().is_some_and(|word| word == "{") => {
                if blocks.len() < MAX_DEPTH {
                    blocks.push(Block::Other);
                }
            }
            _ => {
                let entry = match blocks.last_mut() {
                    Some(Block::Entry(entry)) => Some(&mut **entry),
                    _ => None,
                };
                statement(&mut config, entry, command, arguments, (number, line));
            }
        }
    }
    config
}

/// Returns the number of the next item of the innermost menu.
fn counter(blocks: &mut [Block], top: &mut usize) -> usize {
    let innermost = blocks.iter_mut().rev().find_map(|block| match block {
        Block::Submenu { next, .. } => Some(next),
        _ => None,
    });
    let next = innermost.unwrap_or(top);
    *next += 1;
    *next - 1
}

fn begin(title: String, arguments: &[String], number: usize, blocks: &[Block]) -> MenuEntry {
    // grub-mkconfig writes `$menuentry_id_option 'gnulinux-…'`, and clears the variable for old versions of GRUB.
    let id = arguments
        .iter()
        .zip(arguments.iter().skip(1))
        .find_map(|(option, value)| matches!(option.as_str(), "--id" | "").then(|| value.clone()));
    let id = id.or_else(|| {
        arguments.iter().find_map(|argument| argument.strip_prefix("--id=").map(str::to_owned))
    });
    let mut place = Vec::new();
    for block in blocks {
        if let Block::Submenu { number, .. } = block {
            place.push(*number);
        }
    }
    place.push(number);
    MenuEntry { title, id: id.unwrap_or_default(), place, ..MenuEntry::default() }
}

fn statement(
    config: &mut Config,
    entry: Option<&mut MenuEntry>,
    command: &str,
    arguments: &[String],
    (number, line): (u32, &str),
) {
    match (command, entry) {
        ("set", _) => {
            if let Some((name, value)) = arguments.first().and_then(|word| word.split_once('=')) {
                if name == "default" {
                    value.clone_into(&mut config.default);
                }
                config.variables.insert(name.to_owned(), value.to_owned());
            }
        }
        ("blscfg", _) => config.has_bls = true,
        ("search" | "search.fs_uuid" | "search.fs_label", entry) => {
            let Some(search) = search(command, arguments, number) else { return };
            config.searches.push(search.clone());
            match entry {
                Some(entry) => entry.root = Some(search),
                None => config.root = Some(search),
            }
        }
        ("linux" | "linux16" | "linuxefi", Some(entry)) => {
            if let Some((kernel, rest)) = arguments.split_first() {
                entry.kernel = Some((kernel.clone(), number, line.to_owned()));
                entry.arguments = rest.join(" ");
            }
        }
        ("initrd" | "initrd16" | "initrdefi", Some(entry)) => {
            entry.initrds.extend(arguments.iter().cloned());
        }
        _ => {}
    }
}

fn search(command: &str, arguments: &[String], line: u32) -> Option<Search> {
    let has = |options: [&str; 2]| arguments.iter().any(|word| options.contains(&word.as_str()));
    let key = match command {
        "search.fs_uuid" => "UUID",
        "search.fs_label" => "LABEL",
        _ if has(["--fs-uuid", "-u"]) => "UUID",
        _ if has(["--label", "-l"]) => "LABEL",
        _ => return None,
    };
    let mut names = arguments.iter().filter(|word| !word.starts_with('-'));
    // In the short form of `search.fs_uuid` the variable and hints follow the identifier.
    let name = if command == "search" { names.next_back() } else { names.next() };
    Some(Search { alias: format!("{key}={}", name?), line })
}

impl Config {
    /// Returns whether an entry is the one that `default` selects.
    pub(super) fn is_default(&self, entry: &MenuEntry, is_first: bool) -> bool {
        let default = self.default.trim();
        if default.is_empty() {
            return is_first;
        }
        let last = default.rsplit('>').next().unwrap_or_default();
        let numbers: Option<Vec<usize>> =
            default.split('>').map(|part| part.trim().parse().ok()).collect();
        match numbers {
            // A number that leads to a submenu leads to its first entry.
            Some(numbers) => {
                entry.place.starts_with(&numbers)
                    && entry.place.iter().skip(numbers.len()).all(|number| *number == 0)
            }
            None => entry.id == last || entry.title == last,
        }
    }
}

/// Returns the variables of an environment block.
pub(super) fn environment(block: &str) -> Variables {
    let lines = block.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
