//! Builds flags from rows: the command line parser knows the settings table and nothing else.

use std::collections::BTreeMap;

use build_image_plugin_api::SettingKind;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, builder::Styles, error::ErrorKind};

use super::unknown;
use crate::{
    error::{Error, Result},
    installers,
    settings::{CommandLine, Key, Row, keys, parse_text, rows_of},
};

const ABOUT: &str = "Turns a disk image or an installer ISO into a registered cloud image.";
const NOTES: &str = "\
Every setting can also be given in the configuration file as KEY: value, or in the environment as F5_KEY.
Flags take precedence over the file, the file over the environment.
With -p NAME, --help also lists the settings of that provider.";

/// Returns the invocations of the main jobs.
fn examples() -> Vec<String> {
    let mut lines = vec!["  build-image --disk debian.qcow2 -c config.yml -p PROVIDER".to_owned()];
    if let Some((iso, flags)) = installers::example() {
        lines.push(format!("  build-image -i {iso} -c config.yml -p PROVIDER {flags}"));
    }
    lines
}

/// Returns the examples and notes behind the flags.
fn after_help() -> String {
    format!("Examples:\n{}\n  build-image providers list\n\n{NOTES}", examples().join("\n"))
}

/// Settings of the short help.
pub(super) const COMMON: [Key; 6] = [
    keys::PLATFORM,
    keys::CONFIG_FILE,
    keys::DISK,
    keys::CLOUD_IMAGE_NAME,
    keys::JSON,
    keys::QUIET,
];

/// Returns the help that fits on one screen: the main jobs, the commands, and the options that most builds use.
pub(super) fn short_help() -> String {
    let mut text = format!("{ABOUT}\n\nUsage: build-image [OPTIONS] [COMMAND]\n");
    text.push_str(&format!("{}\n\nCommands:\n", examples().join("\n")));
    for (topic, verbs) in super::TOPICS {
        text.push_str(&format!("  {topic:<9} {}\n", verbs.join(", ")));
    }
    text.push_str("\nOptions:\n");
    let flags = rows_of(&COMMON).into_iter().map(|row| {
        let short = row.flag.map_or_else(|| "    ".to_owned(), |flag| format!("-{flag}, "));
        let value = match row.command_line {
            CommandLine::Switch => String::new(),
            CommandLine::Value => format!(" <{}>", value_name(row.setting.kind)),
        };
        let summary = first_clause(&row.setting.summary).to_owned();
        (format!("{short}--{}{value}", row.long()), summary)
    });
    let own = [
        ("-h, --help", "this screen, or with --help every option"),
        ("-V, --version", "print the version"),
    ];
    let own = own.map(|(flag, summary)| (flag.to_owned(), summary.to_owned()));
    let flags: Vec<(String, String)> = flags.chain(own).collect();
    let width = flags.iter().map(|(flag, _)| flag.len()).max().unwrap_or_default();
    for (flag, summary) in flags {
        text.push_str(&format!("  {flag:<width$}  {summary}\n"));
    }
    text
}

/// Returns the part of a help text before its details, which may be a list of words.
pub(super) fn first_clause(text: &str) -> &str {
    text.split([';', ':', '[']).next().unwrap_or(text).trim_end()
}

/// Builds the parser for a set of rows.
pub(super) fn command(name: &'static str, rows: &[Row]) -> Command {
    let mut command = Command::new(name)
        .about(ABOUT)
        .styles(Styles::styled())
        .after_help(after_help())
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .arg(switch("HELP", "help").help("print every option, with -h a screen of them"))
        .arg(switch("SHORT", SHORT_HELP).short('h').hide(true))
        .arg(switch(VERSION, "version").short('V').help("print the version"))
        .arg(Arg::new(OLD_VERSION).short('v').action(ArgAction::SetTrue).hide(true));
    for row in rows {
        command = command.arg(flag(row));
    }
    for (verb, about) in super::VERBS {
        command = command.subcommand(Command::new(verb).about(about));
    }
    command
}

/// Flag that prints the version as most programs do.
pub(super) const VERSION: &str = "VERSION";
/// Hidden flag of the old tool, whose output scripts read.
pub(super) const OLD_VERSION: &str = "OLD";
/// Long name of the hidden flag behind `-h`.
const SHORT_HELP: &str = "short-help";

fn switch(key: &'static str, long: &'static str) -> Arg {
    Arg::new(key).long(long).action(ArgAction::SetTrue)
}

/// Builds the flag of a row.
pub(super) fn flag(row: &Row) -> Arg {
    let setting = &row.setting;
    let mut arg = Arg::new(row.key().to_owned())
        .long(row.long())
        .help(help(row))
        .help_heading(setting.group.clone())
        .hide(setting.hidden || row.unsupported.is_some())
        // The last occurrence counts, so that a wrapper's defaults can be overridden.
        .action(ArgAction::Append);
    if let Some(short) = row.flag {
        arg = arg.short(short);
    }
    match row.command_line {
        CommandLine::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL"),
        CommandLine::Value => {
            arg.num_args(1).value_name(value_name(setting.kind)).value_hint(hint(setting.kind))
        }
    }
}

/// Returns the kind of values that a shell completes.
fn hint(kind: SettingKind) -> ValueHint {
    if kind == SettingKind::Path { ValueHint::AnyPath } else { ValueHint::Unknown }
}

pub(super) fn value_name(kind: SettingKind) -> &'static str {
    match kind {
        SettingKind::Boolean => "YES|NO",
        SettingKind::Integer => "NUMBER",
        SettingKind::List => "LIST",
        SettingKind::Map => "MAP",
        SettingKind::Path => "PATH",
        SettingKind::Size => "SIZE",
        SettingKind::Duration => "TIME",
        _ => "TEXT",
    }
}

/// Whether the help of a flag lists the allowed values: if they are few.
pub(super) fn lists_choices<T>(choices: &[T]) -> bool {
    (1..=6).contains(&choices.len())
}

fn help(row: &Row) -> String {
    let setting = &row.setting;
    let mut text = setting.summary.clone();
    let choices = row.choices_once();
    if lists_choices(&choices) {
        text.push_str(&format!(" [{}]", choices.join(", ")));
    }
    if let Some(default) = &setting.default {
        text.push_str(&format!(" [default: {default}]"));
    }
    if setting.required {
        text.push_str(" (required)");
    }
    if setting.secret {
        text.push_str(" (secret: better in the file or environment)");
    }
    text
}

/// Parses the arguments of a verb; returns `None` when help was requested and printed.
///
/// # Errors
/// A usage error with the closest known flag.
pub(super) fn matches(parser: Command, args: &[String]) -> Result<Option<ArgMatches>> {
    let name = parser.get_name().to_owned();
    let verbs = parser.get_subcommands().filter(|verb| !verb.is_hide_set());
    let verbs: Vec<String> = verbs.map(|verb| format!("`{}`", verb.get_name())).collect();
    let argv = std::iter::once(name.clone()).chain(args.iter().cloned());
    match parser.try_get_matches_from(argv) {
        Ok(matches) => Ok(Some(matches)),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            super::print(&error.to_string());
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::MissingSubcommand => {
            let text = format!("{name} needs one of {}", verbs.join(", "));
            Err(Error::usage(text).hint(format!("see {name} --help")))
        }
        Err(error) => {
            let is_unknown = error.kind() == ErrorKind::UnknownArgument;
            let known = unknown::flag(args).filter(|_| is_unknown);
            Err(known.unwrap_or_else(|| usage(&error, &format!("{name} --help"))))
        }
    }
}

/// Result of parsing the command line.
pub(super) enum Parsed {
    /// Texts by key.
    Texts(BTreeMap<String, String>),
    /// The help or the version, to print instead of a build.
    Text(String),
}

/// Parses normalised arguments.
///
/// # Errors
/// A usage error with the closest known flag.
pub(super) fn parse(mut command: Command, rows: &[Row], args: &[String]) -> Result<Parsed> {
    let name = command.get_name().to_owned();
    let argv = std::iter::once(name).chain(args.iter().cloned());
    let matches = command.try_get_matches_from_mut(argv).map_err(|error| {
        value_of_a_switch(rows, args)
            .or_else(|| unknown::flag(args).filter(|_| error.kind() == ErrorKind::UnknownArgument))
            .unwrap_or_else(|| usage(&error, "build-image --help"))
    })?;
    if matches.get_flag("SHORT") {
        return Ok(Parsed::Text(short_help()));
    }
    if matches.get_flag("HELP") {
        return Ok(Parsed::Text(command.render_help().to_string()));
    }
    for (flag, text) in [
        (VERSION, concat!("build-image ", env!("CARGO_PKG_VERSION"), "\n")),
        (OLD_VERSION, concat!("version=", env!("CARGO_PKG_VERSION"), "\n")),
    ] {
        if matches.get_flag(flag) {
            return Ok(Parsed::Text(text.to_owned()));
        }
    }
    if let Some((verb, _)) = matches.subcommand() {
        return Err(Error::usage(format!("`{verb}` must be the first word"))
            .hint(format!("build-image {verb} …")));
    }
    Ok(Parsed::Texts(texts(rows, &matches)))
}

/// Detects a switch that is followed by its value as a separate argument.
fn value_of_a_switch(rows: &[Row], args: &[String]) -> Option<Error> {
    let switch = |arg: &str| {
        let long = arg.strip_prefix("--")?;
        rows.iter().find(|row| row.command_line == CommandLine::Switch && row.long() == long)
    };
    let pairs = args.iter().zip(args.iter().skip(1)).take_while(|(arg, _)| *arg != "--");
    let takes = |(flag, value): &(&String, &String)| {
        let row = switch(flag);
        row.is_some_and(|row| matches!(parse_text(&row.setting, value), Ok(Some(_))))
    };
    let (flag, value) = pairs.into_iter().find(takes)?;
    let text = format!("{flag} is followed by `{value}`, which does not belong to it");
    Some(Error::usage(text).hint(format!("write {flag}={value}, or {flag} alone for yes")))
}

/// Returns the argument of verbs that read one disk image.
pub(super) fn disk_file() -> Arg {
    Arg::new("FILE")
        .required(true)
        .value_hint(ValueHint::FilePath)
        .help("raw, qcow2, VMDK, VHD, VHDX or VDI disk")
}

pub(super) fn texts(rows: &[Row], matches: &ArgMatches) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for row in rows {
        // A verb has the flags of some rows only.
        let Ok(Some(mut values)) = matches.try_get_many::<String>(row.key()) else { continue };
        if let Some(last) = values.next_back() {
            texts.insert(row.key().to_owned(), last.clone());
        }
    }
    texts
}

/// Reduces the parser's message to one line and one hint; the default hint names the help.
pub(super) fn usage(error: &clap::Error, help: &str) -> Error {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("the command line is not understood");
    let mut message = first.strip_prefix("error: ").unwrap_or(first).replace('\'', "`");
    if message.ends_with(':') {
        // The missing arguments are listed in the lines below.
        let missing = lines.by_ref().take_while(|line| line.starts_with(['<', '-', '[']));
        message = format!("{message} {}", missing.collect::<Vec<&str>>().join(", "));
    }
    let tip = lines.find_map(|line| line.strip_prefix("tip: ")).map(|tip| tip.replace('\'', "`"));
    Error::usage(message).hint(tip.unwrap_or_else(|| format!("see {help}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_printed_as_most_programs_do_and_with_the_old_flag_as_the_old_tool_did() {
        let version = env!("CARGO_PKG_VERSION");
        for (flag, expected) in [
            ("-V", format!("build-image {version}\n")),
            ("--version", format!("build-image {version}\n")),
            ("-v", format!("version={version}\n")),
        ] {
            let parsed = parse(command("build-image", &[]), &[], &[flag.to_owned()]);
            assert!(matches!(parsed, Ok(Parsed::Text(text)) if text == expected), "{flag}");
        }
    }
}
