//! Runs `build-image providers …`: lists the plugins, whether they load, what they declare, and which of them are
//! locked. None of their code runs in this process.

mod lock;
mod members;
mod packages;
mod show;
mod step;

use clap::{Arg, ArgAction, Command};

use super::{args, build, check, command, scaffold};
use crate::{
    error::Result,
    settings::{Environment, Use, keys, rows_for, rows_of},
};

/// Another name of the flag `-c` for all verbs here.
const CONFIG: &str = "config";

/// Returns the parser of the verbs.
pub(super) fn parser() -> Command {
    let name = Arg::new("NAME").required(true).help("name of a provider, as after -p");
    let update = Arg::new("UPDATE")
        .long("update")
        .action(ArgAction::SetTrue)
        .help("also accept plugins that are not the ones that were locked");
    let flags = rows_for(Use::Providers)
        .iter()
        .map(|row| {
            let flag = command::flag(row).global(true);
            if keys::CONFIG_FILE == *row { flag.visible_alias(CONFIG) } else { flag }
        })
        .collect::<Vec<Arg>>();
    Command::new("build-image providers")
        .about("Installs, lists, inspects and locks provider plugins.")
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .args(flags)
        .subcommand(Command::new("list").about("list plugins and say whether they load"))
        .subcommand(Command::new("inspect").about("show what a provider declares").arg(name))
        .subcommand(
            Command::new("lock")
                .about("write down which plugins, to the byte, may be loaded")
                .arg(update),
        )
        .subcommands(packages::commands())
        .subcommands([
            check::command(),
            step::command(),
            scaffold::command(),
            check::probe_command(),
        ])
}

/// Runs one of the verbs.
///
/// # Errors
/// Usage errors, and a plugin that was named and does not load.
pub(super) fn run(args: &[String], environment: &Environment) -> Result<()> {
    let args = with_one_config(args::normalised(args));
    let Some(matches) = command::matches(parser(), &args)? else { return Ok(()) };
    let layers = args::core_layers(&args, environment, None)?;
    let selection = layers.resolve(&rows_for(Use::Selection))?;
    let loader = build::loader(&selection, environment)?;
    let as_json = layers.resolve(&rows_for(Use::Providers))?.core().output.json;
    match matches.subcommand() {
        Some(("inspect", named)) => {
            let name = named.get_one::<String>("NAME").map(String::as_str);
            show::inspect(&loader, name.unwrap_or_default(), as_json)
        }
        Some(("lock", sub_matches)) => lock::write(loader, sub_matches.get_flag("UPDATE"), as_json),
        Some(("check", sub_matches)) => check::run(sub_matches, layers, environment, as_json),
        Some(("run-step", sub_matches)) => step::run(sub_matches, &layers, environment),
        Some(("new", sub_matches)) => scaffold::run(sub_matches),
        Some((check::PROBE, sub_matches)) => check::probe(sub_matches),
        Some((verb @ ("install" | "update" | "remove" | "verify"), sub_matches)) => {
            let directory = selection.core().plugins.directory.as_deref();
            let context =
                packages::Context { loader: &loader, layers: &layers, directory, as_json };
            context.run(verb, sub_matches)
        }
        _ => {
            show::list(&loader, as_json);
            Ok(())
        }
    }
}

/// Replaces the other name of `-c`, so that the file is read whatever the flag is called.
fn with_one_config(mut args: Vec<String>) -> Vec<String> {
    let rows = rows_of(&[keys::CONFIG_FILE]);
    let Some(row) = rows.first() else { return args };
    for arg in args.iter_mut().take_while(|arg| *arg != "--") {
        let rest = arg.strip_prefix("--").and_then(|long| long.strip_prefix(CONFIG));
        if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('=')) {
            *arg = format!("--{}{rest}", row.long());
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn words_are_accepted_in_any_order_and_unknown_ones_are_refused() {
        for line in [
            "list",
            "--json list",
            "list --json=no -c c.yml",
            "inspect x --provider-dir d",
            "--provider-dir d inspect x --json",
            "inspect --provider-dir=d x",
            "lock --update -c c.yml",
            "check x --config c.yml",
            "check x -c c.yml --only build,tags --only taken",
            "--config-file=c.yml run-step x check",
            "--locked list",
        ] {
            let words = std::iter::once("x").chain(line.split(' '));
            parser().try_get_matches_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for (line, kind) in [
            ("x", ErrorKind::MissingSubcommand),
            ("x list --nonsense", ErrorKind::UnknownArgument),
            ("x inspect", ErrorKind::MissingRequiredArgument),
            ("x list x", ErrorKind::UnknownArgument),
            ("x list --update", ErrorKind::UnknownArgument),
            ("x --help", ErrorKind::DisplayHelp),
            ("x inspect -h", ErrorKind::DisplayHelp),
        ] {
            let error = parser().try_get_matches_from(line.split(' ')).unwrap_err();
            assert_eq!(error.kind(), kind, "{line}");
        }
    }
}
