//! Runs `build-image publish`: uploads and registers the image of a bundle. It is a build whose source is the bundle, so
//! that `resume`, `runs`, and `gc` treat it as any other.

use clap::{Arg, Command, ValueHint};

use super::{args, build, command, plan};
use crate::{
    error::{Error, Result},
    exit,
    settings::{Environment, core_rows, keys, rows_of},
};

/// Flag that verifies and asks the cloud, and sends nothing.
const CHECK: &str = "--check";

/// Returns the parser, without the settings of providers.
pub(super) fn parser() -> Command {
    Command::new("build-image publish")
        .about("Verifies a bundle, and uploads and registers its image as it is. With --check it only prints what it would do, and what the cloud finds.")
        .arg(
            Arg::new("FILE")
                .value_hint(ValueHint::FilePath)
                .help("the bundle, as build-image --no-upload --bundle writes it"),
        )
}

/// Publishes a bundle; returns the exit code.
pub(super) fn run(args: &[String], environment: &Environment) -> u8 {
    start(args, environment, parser(), words)
}

/// Runs a verb that is a build with other sources or ends: prints its help, its plan with `--check`, or builds.
pub(super) fn start(
    args: &[String],
    environment: &Environment,
    parser: Command,
    words: fn(&[String]) -> Result<Vec<String>>,
) -> u8 {
    let args = args::normalised(args);
    if args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "-h" || arg == "--help") {
        let flags: Vec<Arg> = core_rows().iter().map(command::flag).collect();
        super::print(&parser.args(flags).arg(super::tree::check_flag()).render_help().to_string());
        return exit::DONE;
    }
    match words(&args) {
        Ok(words) if words.iter().any(|word| word == CHECK) => {
            match plan::run(&words, environment) {
                Ok(()) => exit::DONE,
                Err(error) => super::report_error(&error, environment),
            }
        }
        Ok(words) => build::run(words, environment, None),
        Err(error) => super::report_error(&error, environment),
    }
}

/// Returns the arguments of the build: the file becomes a setting.
fn words(args: &[String]) -> Result<Vec<String>> {
    let missing = || {
        Error::usage("build-image publish needs a bundle")
            .hint("build-image publish FILE -p PROVIDER -c CONFIG_FILE")
    };
    let (file, rest) = args.split_first().ok_or_else(missing)?;
    if file.starts_with('-') {
        return Err(missing());
    }
    let setting = rows_of(&[keys::FROM_BUNDLE]).first().map(crate::settings::Row::long);
    let flag = format!("--{}={file}", setting.unwrap_or_default());
    Ok(std::iter::once(flag).chain(rest.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_first_and_becomes_a_setting() {
        let words = |line: &str| -> Result<Vec<String>> {
            words(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(words("x.tar -p acme").unwrap(), ["--from-bundle=x.tar", "-p", "acme"]);
        for line in ["", "-p acme x.tar", "--from-bundle x.tar"] {
            assert!(words(line).unwrap_err().hint.unwrap().contains("publish FILE"), "{line}");
        }
    }
}
