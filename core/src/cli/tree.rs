//! Builds the whole command line as one tree, for shells and manual pages.

use std::collections::BTreeSet;

use clap::{Arg, Command, builder::PossibleValuesParser};

use super::{
    boot,
    command::{self, OLD_VERSION, VERSION},
    complete::Provider,
    doctor, halves, help, images, inspect, matrix, providers, publish, runs, shell,
};
use crate::{
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

/// Returns the command with all verbs, and with the settings of these providers.
pub(super) fn whole(providers: &[Provider]) -> Command {
    let names: Vec<String> = providers.iter().map(|provider| provider.name.clone()).collect();
    let own: Vec<Row> = providers
        .iter()
        .flat_map(|provider| provider.settings.iter().cloned().map(Row::new))
        .collect();
    let rows = [core_rows(), own.clone()].concat();
    let with_values = |arg: Arg| {
        let Some(row) = rows.iter().find(|row| row.key() == arg.get_id().as_str()) else {
            return arg;
        };
        let choices: Vec<String> = row.choices_once().into_iter().map(str::to_owned).collect();
        let is_listed = command::lists_choices(&choices);
        let values = if keys::PLATFORM == *row { names.clone() } else { choices };
        let offers = row.command_line == CommandLine::Value && !values.is_empty();
        if !offers {
            return arg;
        }
        arg.value_parser(PossibleValuesParser::new(values)).hide_possible_values(is_listed)
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
    root.version(env!("CARGO_PKG_VERSION")).mut_args(with_values)
}

/// Returns the flags of a build.
fn flags_of(build: &Command) -> Vec<Arg> {
    let is_version = |arg: &Arg| [VERSION, OLD_VERSION].contains(&arg.get_id().as_str());
    build.get_arguments().filter(|arg| !is_version(arg)).cloned().collect()
}

/// Returns the providers that load. A setting that several declare is listed once.
pub(super) fn providers(loader: &Loader) -> Vec<Provider> {
    let mut candidates = loader.search.all();
    candidates.dedup_by(|later, first| later.name == first.name);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for candidate in candidates {
        let Ok(plugin) = loader.ask(&candidate) else { continue };
        let own = plugin.rows().into_iter().filter(|row| seen.insert(row.key().to_owned()));
        let settings = own.map(|row| row.setting).collect();
        found.push(Provider { name: plugin.name.clone(), settings });
    }
    found
}
