//! Runs `build-image completions` and `build-image man`: both are generated from the tables that flags are made of.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, ValueHint, builder::EnumValueParser};
use clap_complete::Shell;

use super::{args, build, command, complete, manual, tree};
use crate::{
    error::Result,
    plugins::Loader,
    settings::{Environment, Use, rows_for},
};

fn flags() -> Vec<Arg> {
    rows_for(Use::Shell).iter().map(command::flag).collect()
}

pub(super) fn completions_parser() -> Command {
    let shell = Arg::new("SHELL").required(true).value_parser(EnumValueParser::<Shell>::new());
    Command::new("build-image completions")
        .about("Prints what makes a shell complete command lines, with the settings of every provider that is installed now.")
        .arg(shell.help("which shell"))
        .args(flags())
}

pub(super) fn man_parser() -> Command {
    let directory = Arg::new("DIRECTORY").value_hint(ValueHint::DirPath);
    Command::new("build-image man")
        .about(
            "Prints the manual page; with a directory, writes the pages of all commands into it.",
        )
        .arg(directory.help("directory for the pages; it must exist"))
        .args(flags())
}

/// Prints a completion script.
///
/// # Errors
/// Usage errors.
pub(super) fn completions(args: &[String], environment: &Environment) -> Result<()> {
    let args = args::normalised(args);
    let Some(matches) = command::matches(completions_parser(), &args)? else { return Ok(()) };
    let Some(shell) = matches.get_one::<Shell>("SHELL") else { return Ok(()) };
    let providers = tree::providers(&loader(&matches, environment)?);
    let script = complete::script(&shell.to_string(), &providers).unwrap_or_else(|| {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut tree::whole(&providers), "build-image", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    });
    super::print_as_is(&script);
    Ok(())
}

/// Prints or writes manual pages.
///
/// # Errors
/// Usage errors, and a directory that cannot be written.
pub(super) fn man(args: &[String], environment: &Environment) -> Result<()> {
    let args = args::normalised(args);
    let Some(matches) = command::matches(man_parser(), &args)? else { return Ok(()) };
    let root = tree::whole(&tree::providers(&loader(&matches, environment)?));
    match matches.get_one::<String>("DIRECTORY").map(PathBuf::from) {
        Some(directory) => manual::write_all(root, &directory),
        None => {
            super::print_as_is(&manual::main_page(root)?);
            Ok(())
        }
    }
}

fn loader(matches: &ArgMatches, environment: &Environment) -> Result<Loader> {
    let command_line = command::texts(&rows_for(Use::Shell), matches);
    let layers = crate::settings::Layers {
        command_line,
        environment: environment.clone(),
        ..Default::default()
    };
    build::loader(&layers.resolve(&rows_for(Use::Selection))?, environment)
}
