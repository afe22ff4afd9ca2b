//! Prints `build-image help`: the help of a verb, or the description of settings.

use build_image_plugin_api::SettingKind;
use clap::{Arg, ArgAction, Command};

use super::{args, build, command, command::value_name, example};
use crate::{
    error::{Error, Result},
    plugins::{Loader, Plugin},
    settings::{CommandLine, Environment, PREFIX, Row, Use, core_rows, rows_for},
};

/// The topic that describes settings.
pub(super) const SETTINGS: &str = "settings";

pub(super) fn parser() -> Command {
    Command::new("build-image help")
        .about("Explains a command, or with `settings` what can be set.")
        .arg(Arg::new("WHAT").help("a command, or `settings`"))
        .arg(
            Arg::new("KEY")
                .help("a setting, in any spelling, also of a provider; all when left out"),
        )
        .arg(
            Arg::new("MARKDOWN")
                .long("markdown")
                .action(ArgAction::SetTrue)
                .help("as a page of documentation"),
        )
        .arg(
            Arg::new("EXAMPLE")
                .long("example")
                .action(ArgAction::SetTrue)
                .conflicts_with("MARKDOWN")
                .help("as a configuration file to copy, with -p NAME for one provider"),
        )
        .args(rows_for(Use::Help).iter().map(command::flag).collect::<Vec<Arg>>())
}

/// Returns the arguments that print the help of a verb; `None` when settings are to be described.
pub(super) fn target(args: &[String]) -> Option<Vec<String>> {
    let help = "--help".to_owned();
    match args.first() {
        Some(arg) if arg == SETTINGS || arg.starts_with('-') => None,
        Some(verb) => Some(vec![verb.clone(), help]),
        None => Some(vec![help]),
    }
}

/// Prints the description of settings.
///
/// # Errors
/// Usage errors, an unknown key, and a provider that does not load.
pub(super) fn run(args: &[String], environment: &Environment) -> Result<()> {
    let args = args::normalised(args);
    let Some(matches) = command::matches(parser(), &args)? else { return Ok(()) };
    let layers = args::core_layers(&args, environment, None)?;
    let first = layers.resolve(&rows_for(Use::Selection))?;
    let loader = build::loader(&first, environment)?;
    let plugin = match &first.core().plugins.platform {
        Some(name) => Some(loader.ask(&loader.search.find(name)?)?),
        None => None,
    };
    let own = plugin.as_ref().map(Plugin::rows).unwrap_or_default();
    let rows: Vec<Row> = [core_rows(), own]
        .concat()
        .into_iter()
        .filter(|row| !row.setting.hidden && row.unsupported.is_none())
        .collect();
    let chosen = match matches.get_one::<String>("KEY") {
        Some(key) => named(&rows, &loader, key)?,
        None => rows,
    };
    let text = if matches.get_flag("EXAMPLE") {
        example::text(&chosen, plugin.as_ref().map(|plugin| plugin.name.as_str()))
    } else if matches.get_flag("MARKDOWN") {
        markdown(&chosen)
    } else {
        plain(&chosen)
    };
    super::print(&text);
    Ok(())
}

/// Returns the rows of a key: of the core and of the chosen provider, otherwise of every provider that loads.
fn named(rows: &[Row], loader: &Loader, key: &str) -> Result<Vec<Row>> {
    if let Some(row) = find(rows, key) {
        return Ok(vec![row.clone()]);
    }
    let mut candidates = loader.search.all();
    candidates.dedup_by(|later, first| later.name == first.name);
    let loaded = candidates.iter().filter_map(|candidate| loader.ask(candidate).ok());
    let all: Vec<Vec<Row>> = loaded.map(|plugin| plugin.rows()).collect();
    let found: Vec<Row> = all.iter().filter_map(|rows| find(rows, key).cloned()).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let all = [rows.to_vec(), all.concat()].concat();
    let hint = super::unknown::nearest(&all, &spelled(key)).map_or_else(
        || "build-image help settings lists them; those of a provider with -p NAME".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    Err(Error::usage(format!("unknown setting `{key}`")).hint(hint))
}

/// Returns the key, which files, flags, and variables spell differently.
fn spelled(key: &str) -> String {
    let name = key.trim_start_matches('-').to_uppercase().replace('-', "_");
    name.strip_prefix(PREFIX).unwrap_or(&name).to_owned()
}

fn find<'a>(rows: &'a [Row], key: &str) -> Option<&'a Row> {
    let name = spelled(key);
    let short = |row: &&Row| row.flag.is_some_and(|flag| key == format!("-{flag}"));
    rows.iter().find(|row| row.key() == name).or_else(|| rows.iter().find(short))
}

/// Returns the facts about a row, without its key and its summary.
fn facts(row: &Row) -> Vec<(&'static str, String)> {
    let setting = &row.setting;
    let short = row.flag.map(|flag| format!("-{flag}, ")).unwrap_or_default();
    let mut facts = vec![("flag", format!("{short}--{}", row.long()))];
    let prefixed = format!("{PREFIX}{}", row.key());
    let variables = if row.prefixed_only { prefixed } else { format!("{prefixed}, {}", row.key()) };
    facts.push(("environment", variables));
    facts.push(("kind", kind_name(row).to_owned()));
    if !setting.choices.is_empty() {
        facts.push(("one of", setting.choices.join(", ")));
    }
    if !setting.pattern.is_empty() {
        facts.push(("matches", setting.pattern.clone()));
    }
    if let Some(default) = &setting.default {
        facts.push(("default", default.clone()));
    }
    if setting.required {
        facts.push(("required", "yes, unless the build stops before the upload".to_owned()));
    }
    if setting.secret {
        facts.push(("secret", "never shown; better in the file or the environment".to_owned()));
    }
    facts
}

/// Returns the kind of a row's values.
fn kind_name(row: &Row) -> &'static str {
    match row.command_line {
        CommandLine::Switch => value_name(SettingKind::Boolean),
        CommandLine::Value => value_name(row.setting.kind),
    }
}

fn plain(rows: &[Row]) -> String {
    let describe = |row: &Row| {
        let facts = facts(row).into_iter();
        let facts: String =
            facts.map(|(name, value)| format!("    {name:<12} {value}\n")).collect();
        format!("{}\n    {}\n{facts}", row.key(), row.setting.summary)
    };
    rows.iter().map(describe).collect::<Vec<_>>().join("\n")
}

fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut group = "";
    for row in rows {
        if row.setting.group != group {
            group = &row.setting.group;
            text.push_str(&format!("## {group}\n\n"));
        }
        text.push_str(&format!("### `{}`\n\n{}.\n\n", row.key(), capital(&row.setting.summary)));
        for (name, value) in facts(row) {
            text.push_str(&format!("- {name}: `{value}`\n"));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// Capitalises the text.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_found_in_every_spelling() {
        let rows = core_rows();
        for spelling in ["IMAGE_DIR", "image-dir", "--image-dir", "F5_IMAGE_DIR", "image_dir"] {
            assert_eq!(find(&rows, spelling).unwrap().key(), "IMAGE_DIR", "{spelling}");
        }
        assert_eq!(find(&rows, "-p").unwrap().key(), "PLATFORM");
        assert!(find(&rows, "--image-dri").is_none());
    }

    #[test]
    fn a_verb_gets_its_own_help() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (line, target_words) in [
            ("", Some("--help")),
            ("runs", Some("runs --help")),
            ("settings", None),
            ("settings IMAGE_DIR", None),
            ("--help", None),
        ] {
            assert_eq!(target(&words(line)), target_words.map(words), "{line}");
        }
    }
}
