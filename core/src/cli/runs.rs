//! `build-image runs`, `resume` and `gc`: what earlier processes left, going on with it, removing it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use build_image_disk::remove_abandoned;
use clap::{Arg, ArgAction, Command};
use indicatif::HumanBytes;
use serde_json::json;

use super::{
    args,
    build::{self, Resumed},
    command,
};
use crate::{
    artifacts,
    error::{Error, Result, Stage},
    exit,
    interrupt::Interrupt,
    journal::Journal,
    pipeline::clean,
    report::{Leftover, Manner, Outcome, Reporter},
    runs::{self, Run, State},
    settings::{Environment, Layers, Resolved, Row, core_rows},
    source,
};

const KEYS: [&str; 3] = ["ARTIFACTS_DIR", "CONFIG_FILE", "JSON"];

fn rows() -> Vec<Row> {
    core_rows().into_iter().filter(|row| KEYS.contains(&row.key())).collect()
}

fn with_flags(parser: Command) -> Command {
    parser.args(rows().iter().map(command::flag).collect::<Vec<Arg>>())
}

/// The parser of `runs`.
pub(super) fn list_parser() -> Command {
    with_flags(Command::new("build-image runs"))
        .about("Lists builds that left something: dead, failed or at work.")
}

/// The parser of `gc`.
pub(super) fn gc_parser() -> Command {
    let yes = Arg::new("YES").long("yes").short('y').action(ArgAction::SetTrue);
    with_flags(Command::new("build-image gc"))
        .about("Removes what dead and failed builds left, here and in the cloud. Says only what it would do unless --yes is given.")
        .arg(yes.help("do it"))
}

/// Parses the words of `runs` or `gc`; `None` when help was printed.
fn parse(
    parser: Command,
    words: &[String],
    environment: &Environment,
) -> Result<Option<(PathBuf, bool, bool)>> {
    let words = args::normalised(words);
    let Some(matches) = command::matches(parser, &words)? else { return Ok(None) };
    let layers = Layers {
        command_line: command::texts(&rows(), &matches),
        ..args::first_look(&words, environment, None)?
    };
    let settings = layers.resolve(&rows())?;
    let yes = matches.try_get_one::<bool>("YES").ok().flatten().is_some_and(|yes| *yes);
    Ok(Some((base(&settings), settings.is_on("JSON"), yes)))
}

/// Folder of all builds' files.
fn base(settings: &Resolved) -> PathBuf {
    let base = settings.path("ARTIFACTS_DIR").unwrap_or_else(|| PathBuf::from("artifacts"));
    std::path::absolute(&base).unwrap_or(base)
}

/// Lists runs.
///
/// # Errors
/// Usage errors.
pub(super) fn list(words: &[String], environment: &Environment) -> Result<()> {
    let Some((base, as_json, _)) = parse(list_parser(), words, environment)? else { return Ok(()) };
    let runs = runs::list(&base);
    if as_json {
        super::print(&format!("{:#}\n", json!({"runs": runs, "folder": base})));
        return Ok(());
    }
    if runs.is_empty() {
        super::print(&format!("no run left anything in {}\n", base.display()));
    }
    for run in &runs {
        super::print(&describe(run));
    }
    Ok(())
}

fn describe(run: &Run) -> String {
    let step = run.step.as_deref().unwrap_or("start");
    let (idle, bytes) = (duration(run.idle_seconds), HumanBytes(run.bytes));
    let (id, platform, state) = (&run.id, &run.platform, word(run.state));
    let mut text = format!("{id}  {platform}  {state} at {step}, {idle} ago; {bytes} here");
    text.push_str(&match run.resources.len() {
        0 => "\n".to_owned(),
        count => format!(", {count} left in the cloud\n"),
    });
    if let Some(damage) = &run.damage {
        text.push_str(&format!("    {}\n", damage.message));
    }
    for resource in &run.resources {
        let region =
            resource.region.as_ref().map(|region| format!(" in {region}")).unwrap_or_default();
        text.push_str(&format!("    {}{region}\n", resource.label()));
    }
    text
}

/// A time, as long as people want to know it.
fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Dead => "dead",
        State::Failed => "failed",
        State::Done => "done",
        State::Damaged => "damaged",
    }
}

/// The parser of `resume`, without the settings of providers.
pub(super) fn resume_parser() -> Command {
    Command::new("build-image resume")
        .about("Resumes a build that was killed or kept: what is done is not done again. Flags win over those it was started with; those that decide what is built cannot change.")
        .arg(Arg::new("RUN").help("name of the run, as build-image runs shows it; not needed when there is only one"))
}

/// Goes on with a run. Returns the exit code.
pub(super) fn resume(words: &[String], environment: &Environment) -> u8 {
    let words = args::normalised(words);
    if words.iter().any(|word| word == "-h" || word == "--help") {
        let flags: Vec<Arg> = core_rows().iter().map(command::flag).collect();
        super::print(&resume_parser().args(flags).render_help().to_string());
        return exit::DONE;
    }
    match earlier(&words, environment) {
        Ok((resumed, words)) => build::run(words, environment, Some(&resumed)),
        Err(error) => super::failed(&error, environment),
    }
}

/// The run that is named, or the only one, and the words it is resumed with: those typed now win over those of its
/// first process.
fn earlier(words: &[String], environment: &Environment) -> Result<(Resumed, Vec<String>)> {
    let (name, more) = match words.split_first() {
        Some((name, more)) if !name.starts_with('-') => (Some(name), more),
        _ => (None, words),
    };
    let settings = args::first_look(more, environment, None)?.resolve(&rows())?;
    let base = base(&settings);
    let run = match name {
        Some(name) => runs::find(&base, name)?,
        None => runs::only(&base)?,
    };
    let all = [more.to_vec(), run.words.clone()].concat();
    Ok((Resumed { run, typed: more.to_vec() }, all))
}

/// Removes what dead and failed runs left; without `--yes` it only says what it would remove.
///
/// # Errors
/// Usage errors, and the first run that could not be cleaned.
pub(super) fn gc(words: &[String], environment: &Environment) -> Result<()> {
    let Some((base, _, yes)) = parse(gc_parser(), words, environment)? else { return Ok(()) };
    let mut first = None;
    let mut found = false;
    for run in runs::list(&base).into_iter().filter(|run| run.state != State::Running) {
        found = true;
        super::print(&describe(&run));
        if !yes {
            continue;
        }
        if let Err(error) = remove(&run, &base, environment) {
            super::failed(&error, environment);
            first = first.or(Some(error));
        }
    }
    for url in source::clean_downloads(&base.join(source::DOWNLOADS), yes) {
        found = true;
        super::print(&format!("download of {url}{}\n", if yes { "  removed" } else { "" }));
    }
    if yes {
        artifacts::remove_empty_runs(&base);
    }
    if !found {
        super::print(&format!("no run left anything in {}\n", base.display()));
    } else if !yes {
        super::print("nothing was removed; give --yes to remove all of this\n");
    }
    match first {
        Some(error) => Err(Error::new(error.stage, "not everything could be removed")),
        None => Ok(()),
    }
}

fn remove(run: &Run, base: &Path, environment: &Environment) -> Result<()> {
    if let Some(damage) = &run.damage {
        return Err(damage.clone());
    }
    if !run.resources.is_empty() {
        let leftovers = in_the_cloud(run, environment)?;
        let reporter = Reporter::new(Manner::of_stderr(environment));
        leftovers.iter().for_each(|leftover| reporter.left_behind(leftover));
        if !leftovers.is_empty() {
            return Err(Error::new(
                Stage::Disk,
                format!("run `{}` still has something in the cloud", run.id),
            ));
        }
    }
    let _alone = Journal::hold(&run.folder)?;
    remove_unfinished(run);
    if let Some(folder) = &run.artifacts {
        artifacts::remove_left(folder, base);
    }
    artifacts::remove_run(&run.folder, base);
    super::print(&format!("{}  removed\n", run.id));
    Ok(())
}

/// Removes files outside its own folders that a run was writing, under their temporary names.
fn remove_unfinished(run: &Run) {
    if let Some(folder) = run.build.image_dir.as_deref().map(Path::new) {
        remove_abandoned(folder, &format!(".{}.", run.build.file_stem));
        // And those that only tried whether the folder can be written to.
        remove_abandoned(folder, ".build-image.probe.");
    }
}

fn in_the_cloud(run: &Run, environment: &Environment) -> Result<Vec<Leftover>> {
    let resumed = Resumed { run: run.clone(), typed: Vec::new() };
    let layers = args::first_look(&run.words, environment, Some(&resumed))?;
    let prepared = build::prepare(&run.words, layers, Some(&resumed), &mut Outcome::default())?;
    let prepared = match prepared {
        build::Preparation::Ready(prepared) => prepared,
        build::Preparation::Text(_) => {
            return Err(Error::new(Stage::Bug, format!("run `{}` was no build", run.id)));
        }
    };
    let reporter = Arc::new(Reporter::new(Manner::None));
    clean(run, &prepared.plugin, &prepared.settings, reporter, Arc::new(Interrupt::default()))
}
