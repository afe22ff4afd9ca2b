//! Chooses what is offered at a place of the command line.

use build_image_disk::packed;
use build_image_plugin_api::SettingKind;
use clap::{Arg, ArgAction, Command, ValueHint};

use super::{
    known::Known,
    line::{self, Place},
};
use crate::{
    cli::{
        VERBS,
        command::{COMMON, first_clause},
        help::SETTINGS,
    },
    settings::{CommandLine, Named, Row, core_row, keys},
};

/// What is offered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Words with their descriptions.
    Words(Vec<(String, String)>),
    /// Files with these suffixes, or all, behind a prefix such as `--disk=`.
    Files(String, Vec<&'static str>),
    /// Directories behind a prefix.
    Directories(String),
}

/// Returns what completes `current`.
pub(super) fn offer(place: &Place<'_>, current: &str, known: &Known<'_>) -> Offer {
    if let Some(arg) = place.pending {
        return value(place, arg, "", current, known);
    }
    if place.flags && current.starts_with('-') {
        let long = current.strip_prefix("--").and_then(|rest| rest.split_once('='));
        let Some((name, begun)) = long else {
            return starting_with(flags(place, known, |_| true), current);
        };
        let name = name.to_lowercase().replace('_', "-");
        let Some(arg) = line::by_long(place.command, &name) else { return Offer::Words(vec![]) };
        return value(place, arg, &format!("--{name}="), begun, known);
    }
    if has_commands(place) {
        let commands = place.command.get_subcommands().filter(|command| !command.is_hide_set());
        let commands = commands.map(|command| (command.get_name().to_owned(), about(command)));
        return starting_with(commands.chain(main_flags(place, known)).collect(), current);
    }
    let arg = place.command.get_positionals().nth(place.positionals).or_else(|| {
        // The last one may take several values.
        place.command.get_positionals().last().filter(|arg| is_repeated(arg))
    });
    match arg.map(|arg| value(place, arg, "", current, known)) {
        Some(Offer::Words(words)) if words.is_empty() => {
            starting_with(main_flags(place, known), current)
        }
        None => starting_with(main_flags(place, known), current),
        Some(offer) => offer,
    }
}

/// Whether a command may be named here: those of the build in the first place only.
fn has_commands(place: &Place<'_>) -> bool {
    place.command.has_subcommands()
        && place.positionals == 0
        && (place.is_first || !place.path.is_empty())
}

fn is_repeated(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|range| range.max_values() > 1)
}

fn starting_with(mut words: Vec<(String, String)>, begun: &str) -> Offer {
    words.retain(|(word, _)| word.starts_with(begun));
    Offer::Words(words)
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn help(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    first_clause(&help).to_owned()
}

/// Returns these flags, the short ones first, without those that were given.
fn flags(
    place: &Place<'_>,
    known: &Known<'_>,
    wanted: impl Fn(&Arg) -> bool,
) -> Vec<(String, String)> {
    let is_given =
        |arg: &Arg| place.given.contains(&arg.get_id().as_str()) && !is_several(arg, known);
    let open = place.command.get_arguments().filter(|arg| !arg.is_hide_set() && !is_given(arg));
    let open = open.filter(|arg| wanted(arg));
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for arg in open {
        let about = help(arg);
        short.extend(arg.get_short().map(|letter| (format!("-{letter}"), about.clone())));
        long.extend(arg.get_long().map(|name| (format!("--{name}"), about)));
    }
    short.extend(long);
    short
}

/// Whether a flag is given again for more values. Settings are not: the last one counts, except of PLATFORM.
fn is_several(arg: &Arg, known: &Known<'_>) -> bool {
    let id = arg.get_id().as_str();
    match core_row(id).or_else(|| known.provider_row(id)) {
        Some(row) => keys::PLATFORM == *row,
        None => matches!(arg.get_action(), ArgAction::Append),
    }
}

/// Returns the flags that most command lines need, and those of the command that are not settings.
fn main_flags(place: &Place<'_>, known: &Known<'_>) -> Vec<(String, String)> {
    let is_main = |arg: &Arg| {
        let id = arg.get_id().as_str();
        let is_common = |row: &Row| COMMON.iter().any(|key| *key == *row);
        core_row(id).map_or_else(|| known.provider_row(id).is_none(), is_common)
    };
    flags(place, known, |arg| place.flags && is_main(arg) && arg.get_long().is_some())
        .into_iter()
        .filter(|(flag, _)| flag.starts_with("--"))
        .collect()
}

/// Returns the values of a flag or of an argument, behind a prefix.
fn value(place: &Place<'_>, arg: &Arg, prefix: &str, begun: &str, known: &Known<'_>) -> Offer {
    let id = arg.get_id().as_str();
    let words = |words: Vec<(String, String)>| {
        let matching = words.into_iter().filter(|(word, _)| word.starts_with(begun));
        Offer::Words(matching.map(|(word, about)| (format!("{prefix}{word}"), about)).collect())
    };
    let paths = |named| match named {
        Named::Anything => Offer::Files(prefix.to_owned(), Vec::new()),
        Named::Disks => Offer::Files(prefix.to_owned(), packed::suffixes().collect()),
        Named::Files(suffixes) => Offer::Files(prefix.to_owned(), suffixes.to_vec()),
        Named::Directories => Offer::Directories(prefix.to_owned()),
    };
    match (place.path.as_slice(), id) {
        (["resume"], "RUN") | (_, "ADOPT" | "FORGET") => return words(known.runs()),
        (["help"], "WHAT") => return words(topics()),
        (["help"], "KEY") if place.last == Some(SETTINGS) => return words(known.settings()),
        (["help"], "KEY") => return words(Vec::new()),
        (["providers", "update" | "remove" | "verify"], "NAME") => {
            return words(known.installed());
        }
        (["providers", _], "NAME") => return words(known.providers()),
        (["inspect" | "boot"], "FILE") => return paths(Named::Disks),
        (["matrix"], "FILE") => return paths(Named::YAML),
        _ => {}
    }
    if id == keys::PLATFORM.name() {
        // Several are separated by commas.
        let done = begun.rfind(',').map_or("", |comma| &begun[..=comma]);
        let named: Vec<&str> = done.split(',').collect();
        let rest = known.providers().into_iter().filter(|(name, _)| !named.contains(&&**name));
        return words(rest.map(|(name, about)| (format!("{done}{name}"), about)).collect());
    }
    if let Some(row) = core_row(id).or_else(|| known.provider_row(id)) {
        let is_path = row.setting.kind == SettingKind::Path;
        return if is_path { paths(row.names) } else { words(choices(row)) };
    }
    match arg.get_value_hint() {
        ValueHint::FilePath | ValueHint::AnyPath => paths(Named::Anything),
        ValueHint::DirPath => paths(Named::Directories),
        _ => {
            let values = arg.get_possible_values();
            let shown = values.iter().filter(|value| !value.is_hide_set());
            words(shown.map(|value| (value.get_name().to_owned(), String::new())).collect())
        }
    }
}

fn choices(row: &Row) -> Vec<(String, String)> {
    let is_boolean =
        row.command_line == CommandLine::Switch || row.setting.kind == SettingKind::Boolean;
    let words = if is_boolean { vec!["yes", "no"] } else { row.choices_once() };
    words.into_iter().map(|word| (word.to_owned(), String::new())).collect()
}

/// Returns what `help` explains.
fn topics() -> Vec<(String, String)> {
    let settings = (SETTINGS, "what can be set");
    let topics = VERBS.iter().copied().chain([settings]);
    topics.map(|(topic, about)| (topic.to_owned(), about.to_owned())).collect()
}
