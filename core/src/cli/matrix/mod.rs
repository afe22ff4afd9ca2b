//! Runs `build-image matrix`: expands a file that describes many builds, prints them for those that run them, or runs them
//! here.
//!
//! ```text
//! check.rs  compares the settings of every build with their rows     local.rs  runs the builds
//! ```

mod check;
mod local;

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, ValueHint, builder::PossibleValuesParser, value_parser};
use serde_json::{Value, json};

use super::command;
use crate::{
    error::{Error, Problem, Result},
    exit,
    journal::Key,
    matrix::{self, Matrix, MatrixBuild},
    once::{self, Progress},
    settings::{Environment, Layers, Resolved, Row, Use, keys, rows_for, rows_of},
};

/// Version of the document.
const VERSION: u32 = 1;

/// How the builds are printed.
const FORMATS: [&str; 6] = ["text", "commands", "json", "github", "gitlab", "slurm"];

fn rows() -> Vec<Row> {
    let rows = [rows_for(Use::Selection), rows_of(&[keys::JSON, keys::QUIET])].concat();
    rows.into_iter().filter(|row| keys::CONFIG_FILE != *row && keys::PLATFORM != *row).collect()
}

/// Returns the parser of `matrix`.
pub(super) fn parser() -> Command {
    Command::new("build-image matrix")
        .about("Expands a file that describes many builds (products, module sets, targets, …) into independent builds. Prints them, for a shell, GitHub Actions, GitLab CI or Slurm; with --jobs it runs them here.")
        .arg(
            Arg::new("FILE")
                .short('c')
                .long("config-file")
                .required(true)
                .value_name("PATH")
                .value_hint(ValueHint::FilePath)
                .help("YAML file of the matrix; paths in it start in its directory"),
        )
        .arg(
            Arg::new("FORM")
                .long("format")
                .value_name("FORM")
                .value_parser(PossibleValuesParser::new(FORMATS))
                .default_value("text")
                .help("how the builds are printed"),
        )
        .arg(
            Arg::new("JOBS")
                .long("jobs")
                .short('j')
                .value_name("NUMBER")
                .value_parser(value_parser!(u16).range(1..))
                .help("run the builds here, so many at once; with --format slurm the most at once"),
        )
        .arg(
            Arg::new("ONLY")
                .long("only")
                .value_name("ID")
                .action(ArgAction::Append)
                .help("only the build with this id; may be repeated"),
        )
        .args(rows().iter().map(command::flag).collect::<Vec<Arg>>())
}

/// A build that was compared with the settings that exist.
struct Checked {
    build: MatrixBuild,
    /// Its ARTIFACTS_DIR, absolute.
    base: PathBuf,
    settings: Resolved,
    progress: Progress,
}

/// Prints or runs the builds of a matrix; returns the exit code.
///
/// # Errors
/// Usage errors, and a matrix that is not acceptable: then nothing was started.
pub(super) fn run(args: &[String], environment: &Environment) -> Result<u8> {
    let args = super::args::normalised(args);
    let Some(matches) = command::matches(parser(), &args)? else { return Ok(exit::DONE) };
    let rows = rows();
    let command_line = command::texts(&rows, &matches);
    let layers = Layers { command_line, environment: environment.clone(), ..Layers::default() };
    let settings = layers.resolve(&rows)?;
    let text = |id: &str| matches.get_one::<String>(id).map(String::as_str).unwrap_or_default();
    let matrix = Matrix::read(Path::new(text("FILE")))?;
    let builds = chosen(&matrix, matches.get_many::<String>("ONLY"))?;
    let checked = check::all(&matrix, builds, &layers)?;
    let jobs = matches.get_one::<u16>("JOBS").map(|jobs| usize::from(*jobs));
    let as_json = settings.core().output.json;
    let format = if as_json { "json" } else { text("FORM") };
    let builds: Vec<MatrixBuild> = checked.iter().map(|one| one.build.clone()).collect();
    match (format, jobs) {
        ("slurm", jobs) => super::print_as_is(&matrix::slurm(&matrix, &builds, jobs)),
        ("json" | "text", Some(jobs)) => {
            return local::run(&matrix, checked, jobs, &layers, as_json);
        }
        (_, Some(_)) => {
            return Err(Error::usage(format!(
                "--jobs runs the builds, --format {format} prints them"
            ))
            .hint("leave one of them out"));
        }
        ("github", None) => super::print_as_is(&format!("{}\n", matrix::github(&matrix, &builds))),
        ("gitlab", None) => super::print_as_is(&matrix::gitlab(&matrix, &builds)),
        ("json", None) => super::print(&format!("{:#}\n", document(&matrix, &checked))),
        ("commands", None) => {
            let lines = builds.iter().map(|build| matrix::command(&matrix, build) + "\n");
            super::print(&lines.collect::<String>());
        }
        _ => super::print(&checked.iter().map(line).collect::<String>()),
    }
    Ok(exit::DONE)
}

/// Returns the builds with these ids, or all.
fn chosen<'a>(
    matrix: &Matrix,
    only: Option<impl Iterator<Item = &'a String>>,
) -> Result<Vec<MatrixBuild>> {
    let mut builds = matrix.builds()?;
    let Some(only) = only else { return Ok(builds) };
    let only: Vec<&String> = only.collect();
    let unknown = only.iter().filter(|id| builds.iter().all(|build| build.id != ***id));
    let problems: Vec<Problem> = unknown
        .map(|id| {
            Problem::new(format!("the matrix has no build `{id}`"))
                .hint("build-image matrix -c FILE lists them")
        })
        .collect();
    if !problems.is_empty() {
        return Err(matrix.error(problems));
    }
    builds.retain(|build| only.contains(&&build.id));
    Ok(builds)
}

fn line(one: &Checked) -> String {
    let state = one.progress.word();
    let images: Vec<&str> = one.images().map(|image| image.id.as_str()).collect();
    let line = format!("{:<60} {state:<10} {}", one.build.id, images.join(" "));
    format!("{}\n", line.trim_end())
}

impl Checked {
    /// Looks how far the build is, with the key that its processes sign with.
    fn look(&mut self, environment: &Environment) -> Result<()> {
        let key = Key::existing(&self.settings, environment)?;
        self.progress = once::progress(&self.base, &self.build.id, &key);
        Ok(())
    }

    fn images(&self) -> impl Iterator<Item = &crate::report::ImageEntry> {
        let outcome = match &self.progress {
            Progress::Done(outcome) => Some(outcome),
            _ => None,
        };
        outcome.into_iter().flat_map(|outcome| &outcome.images)
    }
}

/// Returns the document; its schema is `docs/schemas/matrix-1.json`.
fn document(matrix: &Matrix, checked: &[Checked]) -> Value {
    let builds = checked.iter().map(|one| {
        let build = &one.build;
        json!({
            "id": build.id,
            "axes": build.axes,
            "args": build.args(matrix),
            "command": matrix::command(matrix, build),
            "state": one.progress.word(),
            "images": one.images().collect::<Vec<_>>(),
        })
    });
    json!({
        "version": VERSION,
        "name": matrix.name,
        "directory": matrix.directory(),
        "builds": builds.collect::<Vec<Value>>(),
    })
}
