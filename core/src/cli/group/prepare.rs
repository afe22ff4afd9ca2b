//! Loads the providers of all targets and resolves the settings of each: everything that is wrong with one of them is
//! reported before anything is touched.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    cli::{
        args,
        build::{self, Prepared, Resumed},
        command::{self, Parsed},
        exposed, unknown,
    },
    error::{Error, Result, Stage},
    plugins::{Loader, Plugin},
    report::{OutputMode, Reporter},
    runs::Run,
    settings::{ChosenTarget, FileLayer, Layers, Row, Use, core_rows, found_note, keys, rows_for},
};

/// A target whose provider is loaded and whose settings are valid.
pub(super) struct Target {
    pub(super) chosen: ChosenTarget,
    pub(super) prepared: Prepared,
    /// The command line of its run, without secrets.
    pub(super) words: Vec<String>,
    /// Its run of an earlier process.
    pub(super) resumed: Option<Run>,
}

/// The result of the preparation.
pub(super) enum Ready {
    /// The user requested help, the version or facts; this is the text.
    Text(String),
    /// The build can begin.
    Targets(Vec<Target>),
}

/// A target whose provider is loaded.
struct Loaded {
    chosen: ChosenTarget,
    layers: Layers,
    plugin: Plugin,
    loader: Loader,
}

/// Loads the providers, parses the command line with the flags of all of them, and resolves all settings.
///
/// # Errors
/// What is wrong with a target; the error names it.
pub(super) fn prepare(
    args: &[String],
    layers: &Layers,
    targets: Vec<ChosenTarget>,
    resumed: Option<&Resumed>,
) -> Result<Ready> {
    let loaded = targets.into_iter().map(|chosen| load(layers, chosen));
    let loaded: Vec<Loaded> = loaded.collect::<Result<_>>()?;
    let mut rows = core_rows();
    for row in loaded.iter().flat_map(|one| one.plugin.rows()) {
        if !rows.iter().any(|other| other.key() == row.key()) {
            rows.push(row);
        }
    }
    let mut texts = match command::parse(command::command("build-image", &rows), &rows, args)? {
        Parsed::Text(text) => return Ok(Ready::Text(text)),
        Parsed::Texts(texts) => texts,
    };
    texts.remove(keys::PLATFORM.name());
    if let Some(resumed) = resumed {
        args::start_here(&mut texts, &resumed.typed, &rows)?;
    }
    let typed = Layers { command_line: texts.clone(), ..layers.clone() };
    if let Some(text) = build::information(&typed)? {
        return Ok(Ready::Text(text));
    }
    check_keys(layers, &loaded, &rows, &texts)?;
    let targets = loaded.into_iter().map(|one| resolve(one, &texts)).collect::<Result<Vec<_>>>()?;
    check_written(&targets)?;
    check_switches(&targets)?;
    Ok(Ready::Targets(targets))
}

fn load(layers: &Layers, chosen: ChosenTarget) -> Result<Loaded> {
    let of_target = |error| named(&chosen.name, error);
    let mut own = layers.clone();
    args::choose(&mut own, chosen.clone()).map_err(of_target)?;
    let load = || {
        let first = own.resolve(&rows_for(Use::Selection))?;
        let loader = build::loader(&first, &own.environment)?;
        let plugin = loader.load(&loader.search.find(&chosen.provider)?)?;
        Ok((plugin, loader))
    };
    let (plugin, loader) = load().map_err(of_target)?;
    Ok(Loaded { chosen, layers: own, plugin, loader })
}

/// Checks the keys of the configuration file, and where secrets stand, once for all targets.
fn check_keys(
    layers: &Layers,
    loaded: &[Loaded],
    rows: &[Row],
    texts: &BTreeMap<String, String>,
) -> Result<()> {
    let settings = layers.resolve(&rows_for(Use::Report))?;
    let reporter = Reporter::new(OutputMode::of(&settings, &layers.environment));
    exposed::warn_of_arguments(texts, rows, &reporter);
    let (Some(file), Some(first)) = (&layers.file, loaded.first()) else { return Ok(()) };
    found_note(file).iter().for_each(|text| reporter.note(text));
    unknown::keys(file, rows, &first.chosen.provider, &first.loader, &reporter)?;
    let mut all = file.clone();
    for one in loaded {
        let Some(own) = &one.layers.file else { continue };
        let of_target = FileLayer {
            entries: own.entries.iter().filter(|(key, _)| own.own.contains(key)).cloned().collect(),
            ..own.clone()
        };
        let own_rows = [core_rows(), one.plugin.rows()].concat();
        unknown::keys(&of_target, &own_rows, &one.chosen.provider, &one.loader, &reporter)
            .map_err(|error| named(&one.chosen.name, error))?;
        all.entries.extend(of_target.entries);
    }
    exposed::warn_of_file(&all, rows, &reporter);
    Ok(())
}

/// Resolves the settings of a target.
fn resolve(one: Loaded, texts: &BTreeMap<String, String>) -> Result<Target> {
    let Loaded { chosen, mut layers, plugin, .. } = one;
    let rows = [core_rows(), plugin.rows()].concat();
    let is_own = |key: &String| rows.iter().any(|row| row.key() == key);
    layers.command_line = texts
        .iter()
        .filter(|(key, _)| is_own(key))
        .map(|(key, text)| (key.clone(), text.clone()))
        .collect();
    let resolve = || {
        let settings = layers.resolve(&rows)?;
        build::check_required(&plugin, &settings)?;
        Ok(settings)
    };
    let settings = resolve().map_err(|error| named(&chosen.name, error))?;
    let words = words(&layers.command_line, &rows, &chosen.name);
    Ok(Target { chosen, prepared: Prepared { plugin, settings }, words, resumed: None })
}

/// Returns the command line that builds for one target alone, without secrets.
fn words(texts: &BTreeMap<String, String>, rows: &[Row], name: &str) -> Vec<String> {
    let flag = |row: &Row| Some(format!("--{}={}", row.long(), texts.get(row.key())?));
    let flags: Vec<String> = rows.iter().filter_map(flag).collect();
    let mut words = args::without_secrets(&flags, rows);
    words.push(args::platform_flag(name));
    words
}

/// Refuses files that two targets would write.
fn check_written(targets: &[Target]) -> Result<()> {
    let mut written: Vec<(PathBuf, &str)> = Vec::new();
    for target in targets {
        let settings = &target.prepared.settings;
        for row in core_rows().iter().filter(|row| row.writes.is_some() && !is_common(row)) {
            let Some(path) = settings.of(row).and_then(|value| value.text()) else { continue };
            let path = settings.absolute(path.as_ref())?;
            if let Some((_, other)) = written.iter().find(|(other, _)| *other == path) {
                let (key, name) = (row.key(), &target.chosen.name);
                let text = format!(
                    "targets `{other}` and `{name}` would both write `{}` ({key})",
                    path.display()
                );
                return Err(Error::new(Stage::Settings, text).hint(format!(
                    "list the targets in the configuration file, each with another {key}"
                )));
            }
            written.push((path, &target.chosen.name));
        }
    }
    Ok(())
}

/// Returns whether a file is written once for all targets.
fn is_common(row: &Row) -> bool {
    keys::LOG_FILE == *row || keys::OUTPUT_JSON_FILE == *row
}

fn check_switches(targets: &[Target]) -> Result<()> {
    if targets.iter().any(|target| target.prepared.settings.core().run.once.is_some()) {
        let text = format!("{} names one build with one target", keys::ONCE);
        return Err(Error::new(Stage::Settings, text)
            .hint("make the targets an axis of a matrix (build-image matrix): each build has its name then"));
    }
    let both = |target: &Target| {
        let run = &target.prepared.settings.core().run;
        run.fail_fast && run.keep_going
    };
    if !targets.iter().any(both) {
        return Ok(());
    }
    let text = format!("{} and {} are both set", keys::FAIL_FAST, keys::KEEP_GOING);
    Err(Error::new(Stage::Settings, text).hint("leave one of them out, or give --fail-fast=no"))
}

/// Names the target in an error.
pub(super) fn named(name: &str, mut error: Error) -> Error {
    error.message = format!("target `{name}`: {}", error.message);
    error
}
