//! Generates `build-image completions` and `build-image man` from the same tables as the flags.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, ValueHint, builder::EnumValueParser};
use clap_complete::Shell;

use super::{args, build, command, tree};
use crate::{
    error::{Error, Result, Stage},
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
    let directory = Arg::new("FOLDER").value_hint(ValueHint::DirPath);
    Command::new("build-image man")
        .about("Prints the manual page; with a folder, writes the pages of all verbs into it.")
        .arg(directory.help("folder for the pages; it must exist"))
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
    let mut tree = tree::whole(&loader(&matches, environment)?)?;
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut tree, "build-image", &mut script);
    // clap_complete spells the dash of a program's name in two ways in scripts for bash, so that nothing after a verb
    // would be completed.
    let script = String::from_utf8_lossy(&script).replace("build__subcmd__image", "build__image");
    super::print_as_is(&script);
    Ok(())
}

/// Writes manual pages.
///
/// # Errors
/// Usage errors, and a directory that cannot be written.
pub(super) fn man(args: &[String], environment: &Environment) -> Result<()> {
    let args = args::normalised(args);
    let Some(matches) = command::matches(man_parser(), &args)? else { return Ok(()) };
    let tree = tree::whole(&loader(&matches, environment)?)?;
    let Some(directory) = matches.get_one::<String>("FOLDER").map(PathBuf::from) else {
        let page = page(tree)?;
        super::print_as_is(&String::from_utf8_lossy(&page));
        return Ok(());
    };
    for verb in tree.get_subcommands() {
        let name = format!("build-image-{}", verb.get_name());
        write(&directory, &name, &page(verb.clone().name(name.clone()))?)?;
    }
    write(&directory, "build-image", &page(tree)?)
}

/// Renders a page in the format of man(7).
fn page(command: Command) -> Result<Vec<u8>> {
    let synopsis = format!(".SH SYNOPSIS\n{} [OPTIONS]\n", command.get_name());
    let has_verbs = command.has_subcommands();
    let man = clap_mangen::Man::new(command).manual("build-image");
    let mut page = Vec::new();
    let mut render = || {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        page.extend_from_slice(synopsis.as_bytes());
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if has_verbs {
            man.render_subcommands_section(&mut page)?;
        }
        man.render_extra_section(&mut page)
    };
    render().map_err(|error: std::io::Error| {
        Error::new(Stage::Bug, "cannot make a manual page").caused_by(&error)
    })?;
    Ok(page)
}

fn write(directory: &Path, name: &str, page: &[u8]) -> Result<()> {
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, page).map_err(|error| {
        Error::new(Stage::Settings, format!("cannot write `{}`", path.display()))
            .caused_by(&error)
            .hint("give a folder that exists and that you may write to")
    })
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
