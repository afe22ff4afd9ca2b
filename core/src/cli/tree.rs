//! Builds the whole command line as one tree, for shells and manual pages.

use clap::{Arg, Command, builder::PossibleValuesParser};

use super::{
    boot, command, doctor, halves, help, images, inspect, matrix, providers, publish, runs, shell,
};
use crate::{
    error::Result,
    plugins::Loader,
    settings::{CommandLine, Row, core_rows, keys},
};

/// Returns the flag of `plan` that is not a setting.
pub(super) fn check_flag() -> Arg {
    Arg::new("CHECK")
        .long("check")
        .num_args(0)
        .help("also ask the cloud whether it would take the build; changes nothing there")
}

/// Returns the command with all verbs, and with the settings of every provider that loads.
///
/// # Errors
/// Currently none; a provider that does not load is skipped.
pub(super) fn whole(loader: &Loader) -> Result<Command> {
    let (names, own) = of_providers(loader);
    let rows = [core_rows(), own.clone()].concat();
    let with_values = |arg: Arg| {
        let Some(row) = rows.iter().find(|row| row.key() == arg.get_id().as_str()) else {
            return arg;
        };
        let values =
            if keys::PLATFORM == *row { names.clone() } else { row.setting.choices.clone() };
        let offers = row.command_line == CommandLine::Value && !values.is_empty();
        if offers { arg.value_parser(PossibleValuesParser::new(values)) } else { arg }
    };
    let mut root = command::command("build-image", &rows);
    let build = root.clone();
    let verbs: Vec<Command> = root.get_subcommands().cloned().collect();
    for verb in verbs {
        let (name, about) = (verb.get_name().to_owned(), verb.get_about().cloned());
        let parser = match name.as_str() {
            "plan" => Command::new("plan")
                .disable_help_flag(true)
                .args(flags_of(&build))
                .arg(check_flag()),
            "publish" => {
                publish::parser().disable_help_flag(true).args(flags_of(&build)).arg(check_flag())
            }
            "upload" => halves::upload_parser()
                .disable_help_flag(true)
                .args(flags_of(&build))
                .arg(check_flag()),
            "register" => halves::register_parser()
                .disable_help_flag(true)
                .args(flags_of(&build))
                .arg(check_flag()),
            "resume" => runs::resume_parser().disable_help_flag(true).args(flags_of(&build)),
            "matrix" => matrix::parser(),
            "runs" => runs::list_parser(),
            "gc" => runs::gc_parser(),
            "providers" => providers::parser(),
            "images" => images::parser(&own),
            "inspect" => inspect::parser(),
            "boot" => boot::parser(),
            "doctor" => doctor::parser(),
            "completions" => shell::completions_parser(),
            "man" => shell::man_parser(),
            _ => help::parser(),
        };
        let parser =
            parser.name(name.clone()).about(about.unwrap_or_default()).mut_args(with_values);
        root = root.mut_subcommand(&name, |_| parser);
    }
    Ok(root.version(env!("CARGO_PKG_VERSION")).mut_args(with_values))
}

/// Returns the flags of a build.
fn flags_of(build: &Command) -> Vec<Arg> {
    build.get_arguments().filter(|arg| arg.get_id() != "VERSION").cloned().collect()
}

/// Returns the names of all providers, and their settings, each key once.
fn of_providers(loader: &Loader) -> (Vec<String>, Vec<Row>) {
    let mut candidates = loader.search.all();
    candidates.dedup_by(|later, first| later.name == first.name);
    let mut rows: Vec<Row> = Vec::new();
    let mut names = Vec::new();
    for candidate in candidates {
        let Ok(plugin) = loader.ask(&candidate) else { continue };
        names.push(plugin.name.clone());
        let is_known = |row: &Row| rows.iter().any(|one| one.key() == row.key());
        let new: Vec<Row> = plugin.rows().into_iter().filter(|row| !is_known(row)).collect();
        rows.extend(new);
    }
    (names, rows)
}
