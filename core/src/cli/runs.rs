//! Runs `build-image runs`, `resume` and `gc`: lists, resumes and removes what earlier processes left.

mod remove;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Arg, ArgAction, Command};
use indicatif::HumanBytes;
use serde_json::json;

use self::remove::{Choice, remove};
use super::{
    adopt, args,
    build::{self, Resumed},
    command, group, images,
};
use crate::{
    artifacts,
    error::{Error, Result, Stage},
    exit,
    interrupt::{self, Interrupt},
    journal::{Journal, Key},
    pipeline::Undo,
    publication::Publication,
    report::print_line,
    runs::{self, Run, State},
    settings::{Environment, Resolved, Row, Use, core_rows, rows_for},
    source,
};

pub(super) fn rows() -> Vec<Row> {
    rows_for(Use::Runs)
}

fn with_flags(parser: Command) -> Command {
    parser.args(rows().iter().map(command::flag).collect::<Vec<Arg>>())
}

/// Returns the parser of `runs`.
pub(super) fn list_parser() -> Command {
    with_flags(Command::new("build-image runs"))
        .about("Lists builds that left something: dead, failed or at work.")
}

/// Returns the parser of `gc`.
pub(super) fn gc_parser() -> Command {
    let yes = Arg::new("YES").long("yes").short('y').action(ArgAction::SetTrue);
    with_flags(Command::new("build-image gc"))
        .about("Removes what dead and failed builds left, here and in the cloud. Says only what it would do unless --yes is given.")
        .arg(yes.help("do it"))
        .arg(Arg::new("CLOUD").long("cloud").num_args(0).help(
            "with -p PROVIDER: remove what unfinished builds of any host left in the account; see gc --cloud --help",
        ))
        .arg(Arg::new("ADOPT").long("adopt").value_name("RUN").help(
            "show what a run that is not trusted uses and would remove; with --yes, trust it and remove that",
        ))
        .arg(Arg::new("FORGET").long("forget").value_name("RUN").conflicts_with("ADOPT").help(
            "show what a run has announced in the cloud; with --yes, remove the run and its files, and leave that where it is",
        ))
}

/// The parsed request of `runs` or `gc`.
struct Request {
    base: PathBuf,
    shared_locks: bool,
    as_json: bool,
    yes: bool,
    named: Option<(Choice, String)>,
    key: Arc<Key>,
}

/// Parses the arguments of `runs` or `gc`; returns `None` when help was printed.
fn parse(parser: Command, args: &[String], environment: &Environment) -> Result<Option<Request>> {
    let Some((matches, layers)) = args::of_verb(parser, &rows(), args, environment)? else {
        return Ok(None);
    };
    let settings = layers.resolve(&rows())?;
    let yes = matches.try_get_one::<bool>("YES").ok().flatten().is_some_and(|yes| *yes);
    let named = [("ADOPT", Choice::Adopt), ("FORGET", Choice::Forget)];
    let named = named.into_iter().find_map(|(id, choice)| {
        let name = matches.try_get_one::<String>(id).ok().flatten()?;
        Some((choice, name.clone()))
    });
    let adopts = matches!(named, Some((Choice::Adopt, _)));
    // Adopting a run signs its journal, which requires a key.
    let find = if adopts && yes { Key::of } else { Key::existing };
    let key = Arc::new(find(&settings, environment)?);
    let (base, as_json) = (base(&settings), settings.core().output.json);
    let shared_locks = settings.core().publication.shared_locks;
    Ok(Some(Request { base, shared_locks, as_json, yes, named, key }))
}

/// Returns the directory of all builds' files.
pub(super) fn base(settings: &Resolved) -> PathBuf {
    let base = settings.core().publication.artifacts();
    std::path::absolute(base).unwrap_or_else(|_| base.to_owned())
}

/// Lists runs.
///
/// # Errors
/// Usage errors.
pub(super) fn list(args: &[String], environment: &Environment) -> Result<()> {
    let Some(request) = parse(list_parser(), args, environment)? else { return Ok(()) };
    let Request { base, shared_locks, as_json, key, .. } = request;
    let runs: Vec<Run> = runs::list(&base, &key)
        .into_iter()
        .map(|run| run.with_shared_locks(shared_locks))
        .collect();
    let groups = group::unfinished(&base, &key);
    if as_json {
        let document = json!({"runs": runs, "groups": groups, "folder": base});
        super::print(&format!("{document:#}\n"));
        return Ok(());
    }
    if runs.is_empty() && groups.is_empty() {
        super::print(&format!("no run left anything in {}\n", base.display()));
    }
    for run in &runs {
        super::print_folded(&describe(run));
    }
    for group in &groups {
        super::print_folded(&group::describe(group));
    }
    if runs.iter().any(|run| matches!(run.state, State::Dead | State::Failed)) || !groups.is_empty()
    {
        super::print_folded(
            "continue a run with `build-image resume RUN`, remove what is left with `build-image gc --yes`\n",
        );
    }
    Ok(())
}

fn describe(run: &Run) -> String {
    let step = run.step.as_deref().unwrap_or("start");
    let (idle, bytes) = (duration(run.idle_seconds), HumanBytes(run.bytes));
    let (id, platform, state) = (&run.id, &run.platform, state_name(run));
    let mut text = format!("{id}  {platform}  {state} at {step}, {idle} ago; {bytes} here");
    text.push_str(&match run.resources.len() {
        0 => "\n".to_owned(),
        1 => ", 1 resource left\n".to_owned(),
        count => format!(", {count} resources left\n"),
    });
    if let Some(damage) = &run.damage {
        text.push_str(&format!("    {}\n", damage.message));
    }
    if let Some(reason) = &run.untrusted {
        text.push_str(&format!("    not trusted: {reason}\n"));
    }
    let directory = run.build.image_dir.as_deref().map(Path::new);
    if let Some(directory) =
        directory.filter(|directory| Publication::is_pending(directory, &run.id))
    {
        let fate = if finishes(run) { "released: gc publishes them in" } else { "of the run in" };
        text.push_str(&format!("    files {fate} `{}`\n", directory.display()));
    }
    for resource in &run.resources {
        let region =
            resource.region.as_ref().map(|region| format!(" in {region}")).unwrap_or_default();
        text.push_str(&format!("    {}{region}\n", resource.label()));
    }
    text
}

/// Formats a duration in a precision that is useful to people.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn state_name(run: &Run) -> String {
    let state_name = match run.state {
        State::Running => "running",
        State::Dead => "dead",
        State::Failed => "failed",
        State::Done => "done",
        State::Damaged => "damaged",
        State::Untrusted => "untrusted",
        State::Elsewhere => {
            let host = run.host.as_ref().map_or("another host", |host| &host.name);
            return format!("running or dead on {host}");
        }
    };
    state_name.to_owned()
}

/// Returns the parser of `resume`, without the settings of providers.
pub(super) fn resume_parser() -> Command {
    Command::new("build-image resume")
        .about("Resumes a build that was killed or kept: what is done is not done again. Flags win over those it was started with; those that decide what is built cannot change.")
        .arg(Arg::new("RUN").help("name of the run, or of a build with several targets, as build-image runs shows it; not needed when there is only one"))
        .arg(Arg::new("ADOPT").long("adopt").value_name("RUN").help("resume a run that is not trusted: shows what it uses, then trusts it"))
}

/// Resumes a run; returns the exit code.
pub(super) fn resume(args: &[String], environment: &Environment) -> u8 {
    let args = args::normalised(args);
    if args.iter().any(|arg| arg == "-h" || arg == "--help") {
        let flags: Vec<Arg> = core_rows().iter().map(command::flag).collect();
        super::print(&resume_parser().args(flags).render_help().to_string());
        return exit::DONE;
    }
    match group::find_resumable(&args, environment) {
        Ok(Some(found)) => return group::resume(found, environment),
        Ok(None) => {}
        Err(error) => return super::report_error(&error, environment),
    }
    match earlier(&args, environment) {
        Ok((resumed, args)) => build::run(args, environment, Some(&resumed)),
        Err(error) => super::report_error(&error, environment),
    }
}

/// Returns the named run, or the only one, and the arguments it is resumed with: those typed now override those
/// of its first process.
fn earlier(args: &[String], environment: &Environment) -> Result<(Resumed, Vec<String>)> {
    let (adopt, args) = adopted(args)?;
    let (name, more) = match args.split_first() {
        Some((name, more)) if adopt.is_none() && !name.starts_with('-') => (Some(name), more),
        _ => (None, args.as_slice()),
    };
    let settings = args::core_layers(more, environment, None)?.resolve(&rows())?;
    let base = base(&settings);
    let key = Arc::new(Key::of(&settings, environment)?);
    let run = match (&adopt, name) {
        (Some(name), _) => {
            let run = runs::find(&base, name, &key)?;
            // The files of a run that is named by its path are next to it, not below ARTIFACTS_DIR.
            let base = run.directory.ancestors().nth(2).unwrap_or(&base);
            print_line(&adopt::describe(&run, base, environment));
            drop(Journal::adopt(&run.directory, &key)?);
            runs::find(base, name, &key)?
        }
        (None, Some(name)) => runs::find(&base, name, &key)?,
        (None, None) => runs::only(&base, &key)?,
    };
    if run.untrusted.is_some() {
        return Err(run.not_trusted());
    }
    let run = run.with_shared_locks(settings.core().publication.shared_locks);
    if run.state == State::Elsewhere && adopt.is_none() {
        return Err(run.is_elsewhere());
    }
    let all = [run.words.clone(), more.to_vec()].concat();
    Ok((Resumed { run, typed: more.to_vec() }, all))
}

/// Returns the run to be adopted, and the other arguments.
fn adopted(args: &[String]) -> Result<(Option<String>, Vec<String>)> {
    let mut kept = args.to_vec();
    let is_adopt_flag = |arg: &String| arg == "--adopt" || arg.starts_with("--adopt=");
    let Some(at) = kept.iter().take_while(|arg| *arg != "--").position(is_adopt_flag) else {
        return Ok((None, kept));
    };
    let arg = kept.remove(at);
    let name = match arg.split_once('=') {
        Some((_, name)) => Some(name.to_owned()),
        None => (at < kept.len()).then(|| kept.remove(at)),
    };
    match name.filter(|name| !name.is_empty() && !name.starts_with('-')) {
        Some(name) => Ok((Some(name), kept)),
        None => {
            Err(Error::usage("--adopt needs the name of a run").hint("build-image runs lists them"))
        }
    }
}

/// Removes what dead and failed runs left; without `--yes` it only prints what it would remove.
///
/// # Errors
/// Usage errors, and the first run that could not be cleaned.
pub(super) fn gc(args: &[String], environment: &Environment) -> Result<()> {
    let words = args::normalised(args);
    if words.iter().take_while(|arg| *arg != "--").any(|arg| arg == images::CLOUD) {
        return images::sweep(&words, environment);
    }
    let Some(request) = parse(gc_parser(), args, environment)? else { return Ok(()) };
    let Request { base, shared_locks, yes, named, key, .. } = request;
    let (choice, name) = named.unzip();
    let (runs, mut groups) = group::idle(&base, &key, name.as_deref());
    if choice == Some(Choice::Forget) {
        // Its targets are runs that have names.
        groups.clear();
    }
    if let Some(name) = name.as_ref().filter(|_| runs.is_empty() && groups.is_empty()) {
        return Err(not_idle(&base, name, &key));
    }
    let interrupt = Arc::new(Interrupt::default());
    if yes {
        interrupt::listen(Arc::clone(&interrupt), || build::leave(&[]))?;
    }
    let adopts = choice == Some(Choice::Adopt);
    let mut found = !groups.is_empty();
    let mut first = group::clean_all(&groups, &base, yes, adopts, environment);
    for run in runs {
        interrupt.check()?;
        found = true;
        let run = run.with_shared_locks(shared_locks);
        super::print_folded(&describe(&run));
        if adopts {
            super::print(&adopt::describe(&run, &base, environment));
        }
        if !yes {
            continue;
        }
        if let Err(error) = remove(&run, &base, choice, &key, environment, &interrupt) {
            super::report_error(&error, environment);
            first = first.or(Some(error));
        }
    }
    interrupt.check()?;
    let downloads = base.join(source::DOWNLOADS);
    let others =
        if choice.is_some() { Vec::new() } else { source::clean_downloads(&downloads, yes) };
    for url in others {
        found = true;
        super::print(&format!("download of {url}{}\n", if yes { "  removed" } else { "" }));
    }
    if yes {
        artifacts::remove_empty_runs(&base);
    }
    if !found {
        super::print(&format!("no run left anything in {}\n", base.display()));
    } else if !yes {
        super::print(unchanged(choice));
    }
    match first {
        Some(error) => Err(Error::new(error.stage, "not everything could be removed")),
        None => Ok(()),
    }
}

/// Returns the error for a name that is not that of a run or build without a process.
fn not_idle(base: &Path, name: &str, key: &Key) -> Error {
    if runs::list(base, key).iter().any(|run| run.id == name) {
        let text = format!("a process is at work with run `{name}`, or with its targets");
        return Error::new(Stage::InUse, text).hint("wait until it is done");
    }
    let text = format!("no run `{name}` was found in `{}`", base.display());
    Error::usage(text).hint("build-image runs lists runs, also those at work")
}

/// What `gc` says at the end without `--yes`.
fn unchanged(choice: Option<Choice>) -> &'static str {
    match choice {
        Some(Choice::Forget) => {
            "nothing was changed; give --yes to forget the run, whose resources stay then\n"
        }
        Some(Choice::Adopt) | None => "nothing was removed; give --yes to remove all of this\n",
    }
}

/// Returns whether a run was killed after its image was released: what is left to do is then done. A run that
/// was reported to the user as failed is not finished by a clean-up.
fn finishes(run: &Run) -> bool {
    run.reached.row().undo == Undo::Finish && run.state != State::Failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Entry, HostId};

    #[test]
    fn a_run_of_another_host_is_not_cleaned_until_it_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("artifacts");
        let state = directory.path().join("state").display().to_string();
        let environment = Environment::of([("XDG_STATE_HOME", state.as_str())]);
        let flags = ["--artifacts-dir".to_owned(), base.display().to_string()];
        let with = |words: &[&str]| -> Vec<String> {
            flags.iter().cloned().chain(words.iter().map(|word| (*word).to_owned())).collect()
        };
        let settings = args::core_layers(&flags, &environment, None).unwrap();
        let key = Arc::new(Key::of(&settings.resolve(&rows()).unwrap(), &environment).unwrap());
        let other = HostId { name: "far-away".to_owned(), boot: "another-start".to_owned() };
        for (host, is_elsewhere) in [(other, true), (HostId::of_this(), false)] {
            let run = base.join("runs/r-1");
            let started = json!({"what": "run_started", "run_id": "r-1", "tool": "1.0.0",
                "platform": "acme", "host": host});
            let mut journal = Journal::open(&run, &key).unwrap();
            journal.append(serde_json::from_value::<Entry>(started).unwrap()).unwrap();
            drop(journal);
            let listed = runs::list(&base, &key);
            assert_eq!(listed[0].state == State::Elsewhere, is_elsewhere, "{host:?}");
            assert_eq!(describe(&listed[0]).contains("running or dead on far-away"), is_elsewhere);
            if is_elsewhere {
                assert!(gc(&with(&["--yes"]), &environment).is_err());
                assert!(run.exists());
                let interrupt = Arc::new(Interrupt::default());
                let error = remove(&listed[0], &base, None, &key, &environment, &interrupt);
                let error = error.unwrap_err();
                assert!(error.message.ends_with("may still be at work on `far-away`"), "{error}");
                let hint = error.hint.unwrap();
                assert!(hint.contains("--adopt r-1"), "{hint}");
                for name in [&["r-1"][..], &[]] {
                    let words = [name.iter().map(|&name| name.to_owned()).collect(), with(&[])];
                    let error = earlier(&words.concat(), &environment).err().unwrap();
                    assert!(error.message.contains("at work on `far-away`"), "{error}");
                }
                let words =
                    [vec!["r-1".to_owned(), "--shared-locks".to_owned()], with(&[])].concat();
                assert_eq!(earlier(&words, &environment).unwrap().0.run.state, State::Dead);
                let words = [vec!["--adopt".to_owned(), "r-1".to_owned()], with(&[])].concat();
                assert_eq!(earlier(&words, &environment).unwrap().0.run.id, "r-1");
                gc(&with(&["--adopt", "r-1", "--yes"]), &environment).unwrap();
            } else {
                gc(&with(&["--yes"]), &environment).unwrap();
            }
            assert!(!run.exists());
        }
    }
}
