//! Normalises old spellings of flags, and determines the provider and the configuration file before all flags are
//! known.

use std::collections::BTreeMap;

use build_image_plugin_api::SettingKind;
use clap::{ArgMatches, Command};

use super::{build::Resumed, command};
use crate::{
    error::{Error, Result, Stage},
    settings::{
        ChosenTarget, CommandLine, Environment, FileLayer, GROUP_OF_SOURCES, Layers, Origin, Row,
        core_rows, find_file, keys, names_file, rows_of,
    },
    source::without_passwords,
};

/// Flags of the command itself: they have no value and may precede others in a bundle of short flags.
const PLAIN_FLAGS: &str = "hvV";

/// Normalises every long flag: `--ACME_BUCKET=x` → `--acme-bucket=x`.
#[must_use]
pub(super) fn normalised(args: &[String]) -> Vec<String> {
    let mut flags = true;
    let normalise = |arg: &String| {
        if arg == "--" {
            flags = false;
        }
        let Some(rest) = arg.strip_prefix("--").filter(|rest| flags && !rest.is_empty()) else {
            return arg.clone();
        };
        let (key, value) = match rest.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (rest, None),
        };
        let key = key.to_lowercase().replace('_', "-");
        value.map_or_else(|| format!("--{key}"), |value| format!("--{key}={value}"))
    };
    args.iter().map(normalise).collect()
}

/// Returns the texts of the core's settings from the command line; the last occurrence wins. Flags of providers are
/// not known yet and are skipped; the real parser reports every mistake later.
pub(super) fn core_texts(args: &[String]) -> BTreeMap<String, String> {
    texts_of(args, &core_rows())
}

/// Returns the texts of these settings; the last occurrence wins. Other flags are skipped.
fn texts_of(args: &[String], rows: &[Row]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    each_text(args, rows, |row, value| {
        found.insert(row.key().to_owned(), value);
    });
    found
}

/// Passes every occurrence of these settings on.
fn each_text(args: &[String], rows: &[Row], mut take: impl FnMut(&Row, String)) {
    let mut args = args.iter();
    while let Some(arg) = args.next().filter(|arg| *arg != "--") {
        let flags = match arg.strip_prefix("--") {
            Some(long) => vec![long_flag(long, rows)],
            None => arg.strip_prefix('-').map(|letters| bundle(letters, rows)).unwrap_or_default(),
        };
        for (row, value) in flags.into_iter().flatten() {
            if let Some(value) = value.or_else(|| args.next().cloned()) {
                take(row, value);
            }
        }
    }
}

/// Returns the names of targets or providers: those of all `-p` flags, otherwise those of the configuration file or
/// the environment. Each may name several, separated by commas.
pub(super) fn target_names(args: &[String], layers: &Layers) -> Vec<String> {
    let rows = rows_of(&[keys::PLATFORM]);
    let mut texts = Vec::new();
    each_text(args, &core_rows(), |row, text| {
        if keys::PLATFORM == *row {
            texts.push(text);
        }
    });
    let split = |texts: Vec<String>| -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in texts.iter().flat_map(|text| text.split(',')).map(str::trim) {
            if !name.is_empty() && !names.iter().any(|other| other == name) {
                names.push(name.to_owned());
            }
        }
        names
    };
    let typed = split(texts);
    if !typed.is_empty() {
        return typed;
    }
    let entry = layers.file.as_ref().and_then(|file| file.get(keys::PLATFORM.name()));
    let of_file = split(
        entry.and_then(|entry| entry.value.as_str()).map(str::to_owned).into_iter().collect(),
    );
    if !of_file.is_empty() {
        return of_file;
    }
    let variable = rows.first().and_then(|row| layers.environment.setting(row));
    split(variable.map(|(_, text)| text.to_owned()).into_iter().collect())
}

/// Returns the flag that chooses a target.
pub(super) fn platform_flag(name: &str) -> String {
    format!("--{}={name}", keys::PLATFORM.name().to_lowercase())
}

/// Returns the names of [`target_names`]; of several `-p` flags, only the last one counts.
pub(super) fn last_names(args: &[String], layers: &Layers) -> Vec<String> {
    let last = core_texts(args).remove(keys::PLATFORM.name());
    let last: Vec<String> = last.into_iter().flat_map(|text| ["-p".to_owned(), text]).collect();
    target_names(&last, layers)
}

/// Chooses the target of a command that takes one, if the configuration file lists targets.
///
/// # Errors
/// When the names select several targets, or one that is not in the list.
pub(super) fn choose_one(layers: &mut Layers, names: &[String]) -> Result<()> {
    let Some(file) = &layers.file else { return Ok(()) };
    let Some(mut chosen) = file.targets(names)? else { return Ok(()) };
    if chosen.len() > 1 && names.is_empty() {
        return Ok(());
    }
    if chosen.len() > 1 {
        let found: Vec<&str> = chosen.iter().map(|target| target.name.as_str()).collect();
        let text = format!("`{}` means several targets, this command takes one", names.join(","));
        return Err(Error::usage(text).hint(format!("give one of {} with -p", found.join(", "))));
    }
    choose(layers, chosen.remove(0))
}

/// Uses the settings of a target.
///
/// # Errors
/// When its entry sets what all targets share.
pub(super) fn choose(layers: &mut Layers, target: ChosenTarget) -> Result<()> {
    layers.file = layers.file.as_ref().map(|file| file.of_target(&target.name));
    layers.target = Some(target);
    layers.file.as_ref().map_or(Ok(()), FileLayer::check_own)
}

/// A setting and its text; `None` when the text is the next argument.
type FlagValue<'a> = Option<(&'a Row, Option<String>)>;

/// Parses `key` or `key=value`.
fn long_flag<'a>(long: &str, rows: &'a [Row]) -> FlagValue<'a> {
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (long, None),
    };
    let row = rows.iter().find(|row| row.long() == name)?;
    Some((row, value.or_else(|| switched_on(row))))
}

/// Parses the letters of an argument with one dash: `p`, `pacme`, `p=acme`, `qp`.
fn bundle<'a>(letters: &str, rows: &'a [Row]) -> Vec<FlagValue<'a>> {
    let mut flags = Vec::new();
    let mut rest = letters;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        if PLAIN_FLAGS.contains(letter) {
            continue;
        }
        let Some(row) = rows.iter().find(|row| row.flag == Some(letter)) else { break };
        let joined = rest.strip_prefix('=');
        if row.command_line == CommandLine::Switch && joined.is_none() {
            flags.push(Some((row, switched_on(row))));
            continue;
        }
        let value = Some(joined.unwrap_or(rest)).filter(|value| !value.is_empty());
        flags.push(Some((row, value.map(str::to_owned))));
        break;
    }
    flags
}

fn switched_on(row: &Row) -> Option<String> {
    (row.command_line == CommandLine::Switch).then(|| "true".to_owned())
}

/// Returns the layers that are known before the configuration file is read.
pub(super) fn without_file(
    args: &[String],
    environment: &Environment,
    resumed: Option<&Resumed>,
) -> Layers {
    let mut command_line = core_texts(args);
    if let Some(resumed) = resumed {
        // A missing working directory is reported by the step that needs it.
        let _ = start_here(&mut command_line, &resumed.typed, &core_rows());
    }
    let base = resumed.map(|resumed| resumed.run.working_directory.clone());
    let environment = environment.clone();
    Layers { command_line, environment, base, ..Layers::default() }
}

/// Makes the relative paths among `texts`, which were typed now, absolute: relative paths of an earlier process start
/// in its own working directory.
///
/// # Errors
/// When the working directory is unknown.
pub(super) fn start_here(
    texts: &mut BTreeMap<String, String>,
    typed: &[String],
    rows: &[Row],
) -> Result<()> {
    let typed = texts_of(typed, rows);
    for row in rows.iter().filter(|row| row.setting.kind == SettingKind::Path) {
        let Some(text) = typed.get(row.key()) else { continue };
        // A log file without a directory is written to the log directory.
        let is_name = keys::LOG_FILE == *row && !text.contains('/');
        if !is_name && names_file(text) && !text.starts_with(['~', '/']) {
            let here = std::env::current_dir().map_err(|error| {
                Error::new(Stage::Settings, "the working directory cannot be read")
                    .caused_by(&error)
            })?;
            texts.insert(row.key().to_owned(), here.join(text).display().to_string());
        }
    }
    Ok(())
}

/// Returns the layers that are known before the provider is: core settings, file, environment. If the file lists
/// targets, the settings of the target that `-p` names are among them.
///
/// # Errors
/// When the configuration file cannot be read, or `-p` names several of its targets.
pub(super) fn core_layers(
    args: &[String],
    environment: &Environment,
    resumed: Option<&Resumed>,
) -> Result<Layers> {
    let mut layers = with_file(args, environment, resumed)?;
    let names = last_names(args, &layers);
    choose_one(&mut layers, &names)?;
    Ok(layers)
}

/// Returns the layers that are known before the targets are. Without a named configuration file, that of the directory
/// in which the build began is used, if there is one.
///
/// # Errors
/// When the configuration file cannot be read, or the one that was found is not safe.
pub(super) fn with_file(
    args: &[String],
    environment: &Environment,
    resumed: Option<&Resumed>,
) -> Result<Layers> {
    let mut layers = without_file(args, environment, resumed);
    let settings = layers.resolve(&rows_of(&[keys::CONFIG_FILE]))?;
    layers.file = match settings.core().plugins.config_file.as_deref() {
        Some(named) => Some(FileLayer::read(named)?),
        None => find_file(layers.base.as_deref())?,
    };
    Ok(layers)
}

/// Returns whether the environment, or the configuration file that it names, sets what an image is made from.
pub(super) fn names_input(environment: &Environment) -> bool {
    let rows = core_rows().into_iter().filter(|row| row.setting.group == GROUP_OF_SOURCES);
    let rows: Vec<Row> = rows.collect();
    // What is not acceptable is reported by the build.
    let set = with_file(&[], environment, None).and_then(|layers| {
        // A file that was found does not start a build by itself.
        let file = layers.file.clone().filter(|file| !file.found);
        Layers { file, ..layers }.resolve(&rows)
    });
    set.map_or(true, |set| set.shown().any(|(_, _, origin)| *origin != Origin::Default))
}

/// Parses the arguments of a verb that reads these settings; `None` when help was printed.
///
/// # Errors
/// Usage errors, and a configuration file that cannot be read.
pub(super) fn of_verb(
    parser: Command,
    rows: &[Row],
    args: &[String],
    environment: &Environment,
) -> Result<Option<(ArgMatches, Layers)>> {
    let args = normalised(args);
    let Some(matches) = command::matches(parser, &args)? else { return Ok(None) };
    let layers = Layers {
        command_line: command::texts(rows, &matches),
        ..core_layers(&args, environment, None)?
    };
    Ok(Some((matches, layers)))
}

/// Removes secret values from the arguments, so that they may be recorded.
#[must_use]
pub(super) fn without_secrets(args: &[String], rows: &[Row]) -> Vec<String> {
    let is_secret = |arg: &str| {
        let key = arg.strip_prefix("--").unwrap_or_default();
        rows.iter().any(|row| row.setting.secret && row.long() == key)
    };
    let mut kept = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let (name, has_value) =
            arg.split_once('=').map_or((arg.as_str(), false), |(name, _)| (name, true));
        if !is_secret(name) {
            kept.push(without_passwords(arg));
        } else if !has_value {
            rest.next();
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::{Setting, SettingKind};

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn secrets_are_not_recorded() {
        let rows = [Row::new(Setting::new("A_KEY", SettingKind::Text, "").secret())];
        let line = "-i x.iso --a-key hunter2 --b=1 --a-key=hunter2 -p one";
        assert_eq!(without_secrets(&words(line), &rows), words("-i x.iso --b=1 -p one"));
    }

    #[test]
    fn all_spellings_of_a_flag_are_equivalent() {
        let line = "--ACME-BUCKET A_b --acme_bucket=X_y -i A_B -- --AS_IS";
        let expected = "--acme-bucket A_b --acme-bucket=X_y -i A_B -- --AS_IS";
        assert_eq!(normalised(&words(line)), words(expected));
    }

    #[test]
    fn the_first_look_uses_the_last_of_several() {
        let found = core_texts(&words("-i x.iso -p one --platform=two --config-file c.yml"));
        assert_eq!(found["PLATFORM"], "two");
        assert_eq!(found["CONFIG_FILE"], "c.yml");
    }

    #[test]
    fn the_first_look_sees_what_the_parser_sees() {
        for (line, platform, quiet) in [
            ("-pacme", Some("acme"), false),
            ("-p=acme", Some("acme"), false),
            ("-qp acme", Some("acme"), true),
            ("-qhvpacme", Some("acme"), true),
            ("-q=no -p acme", Some("acme"), true),
            ("--cloud-image-name -q --platform x", Some("x"), false),
            ("--quiet --json=no -i x -pone", Some("one"), true),
            ("-ip acme", None, false),
            ("-zp acme", None, false),
            ("-- -p acme", None, false),
        ] {
            let words = words(line);
            let found = core_texts(&words);
            assert_eq!(found.get("PLATFORM").map(String::as_str), platform, "{line}");
            assert_eq!(found.contains_key("QUIET"), quiet, "{line}");
            let rows = core_rows();
            let parser = command::command("build-image", &rows);
            // The real parser must accept the arguments and read the same values.
            if let Ok(command::Parsed::Texts(texts)) = command::parse(parser, &rows, &words) {
                assert_eq!(found, texts, "{line}");
            }
        }
        assert_eq!(core_texts(&words("-q=no"))["QUIET"], "no");
    }
}
