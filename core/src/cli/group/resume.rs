//! Resumes a build with several targets: a target that is done is not contacted, a run that was killed or kept is
//! resumed, and any other target is started.

use std::path::Path;

use super::{
    ending::{self, Ended, Report},
    prepare::{self, Ready},
    unlisted,
    work::Job,
};
use crate::{
    artifacts,
    cli::{
        args,
        build::Resumed,
        output::Output,
        runs::{base, rows},
    },
    error::{Error, Result, Stage},
    exit,
    groups::{self, Group},
    journal::{self, Entry, HostId, Journal, Key, continued, is_continued},
    runs::{self, Run, State},
    settings::{ChosenTarget, Environment, Layers},
};

/// A build that is resumed.
pub(crate) struct Resumable {
    group: Group,
    /// The only target that is resumed, if the user named its run.
    only: Option<String>,
    /// The arguments typed now.
    typed: Vec<String>,
    key: Key,
}

/// Returns the build that the arguments of `resume` name, directly or by a run of it, or the only one. `None` when they
/// name another run.
///
/// # Errors
/// When the configuration file or the journal cannot be read, or several builds could be meant.
pub(crate) fn find(args: &[String], environment: &Environment) -> Result<Option<Resumable>> {
    if args.iter().any(|arg| arg == "--adopt" || arg.starts_with("--adopt=")) {
        return Ok(None);
    }
    let (name, typed) = match args.split_first() {
        Some((name, typed)) if !name.starts_with('-') => (Some(name), typed),
        _ => (None, args),
    };
    let settings = args::core_layers(typed, environment, None)?.resolve(&rows())?;
    let base = base(&settings);
    let key = Key::of(&settings, environment)?;
    let found = match name {
        Some(name) => named(&base, name, &key)?,
        None => only(&base, &key)?.map(|group| (group, None)),
    };
    let typed = typed.to_vec();
    Ok(found.map(|(group, only)| Resumable { group, only, typed, key }))
}

/// Returns the build with an identifier, or the one that a run belongs to, with the name of the target.
fn named(base: &Path, name: &str, key: &Key) -> Result<Option<(Group, Option<String>)>> {
    if let Some(group) = groups::find(base, name, key)? {
        return Ok(Some((group, None)));
    }
    let Ok(Run { group: Some(id), id: run, .. }) = runs::find(base, name, key) else {
        return Ok(None);
    };
    // Without the journal of the build, the run is one like any other.
    let Some(group) = groups::find(base, &id, key)? else { return Ok(None) };
    let target = group.targets.iter().find(|target| target.run.as_ref() == Some(&run));
    let name = target.map(|target| target.name.clone());
    Ok(name.map(|name| (group, Some(name))))
}

/// Returns the only build, if no other run can be resumed.
fn only(base: &Path, key: &Key) -> Result<Option<Group>> {
    let mut groups = groups::list(base, key);
    groups.retain(|group| group.state != State::Running && !group.targets.is_empty());
    if groups.is_empty() {
        return Ok(None);
    }
    let belongs =
        |run: &Run| run.group.as_ref().is_some_and(|id| groups.iter().any(|one| one.id == *id));
    let is_resumable = |run: &Run| {
        matches!(run.state, State::Dead | State::Failed | State::Elsewhere)
            && !run.platform.is_empty()
    };
    let runs = runs::list(base, key);
    let others = runs.iter().filter(|run| is_resumable(run) && !belongs(run));
    let mut names: Vec<String> = others.map(|run| run.id.clone()).collect();
    if let ([group], true) = (groups.as_slice(), names.is_empty()) {
        return Ok(Some(group.clone()));
    }
    names.extend(groups.into_iter().map(|group| group.id));
    Err(Error::usage("resume needs the name of a build, there are several")
        .hint(format!("one of {}", names.join(", "))))
}

/// Resumes a build and reports it; returns the exit code.
pub(crate) fn run(found: Resumable, environment: &Environment) -> u8 {
    let (mut report, mut output) = (Report::new(), Output::default());
    let result = attempt(found, environment, &mut report, &mut output);
    ending::finish(result, report, &output)
}

fn attempt(
    found: Resumable,
    environment: &Environment,
    report: &mut Report,
    output: &mut Output,
) -> Result<Option<String>> {
    let Resumable { group, only, typed, key } = found;
    let args = [group.words.clone(), typed.clone()].concat();
    let resumed = Resumed { run: as_run(&group), typed };
    output.learn(&args::without_file(&args, environment, Some(&resumed)));
    if let Some(error) = group.refusal() {
        return Err(error);
    }
    if group.targets.is_empty() {
        let text = format!("build `{}` ended before it wrote down what it was to build", group.id);
        return Err(Error::new(Stage::Settings, text)
            .hint("start it again; build-image gc --yes removes its directory"));
    }
    let layers = args::with_file(&args, environment, Some(&resumed))?;
    output.learn(&layers);
    if !args::target_names(&resumed.typed, &Layers::default()).is_empty() {
        let text = "the targets of a build that is resumed cannot be changed";
        return Err(Error::usage(text).hint("leave -p out; name the run of a target to resume one"));
    }
    let base = group.directory.ancestors().nth(2).unwrap_or(&group.directory).to_owned();
    let (done, open): (Vec<_>, Vec<_>) =
        group.targets.iter().partition::<Vec<&groups::Target>, _>(|target| target.is_done());
    let (open, others): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|target| only.as_ref().is_none_or(|only| target.name == *only));
    report.ended.extend(done.into_iter().map(of_earlier));
    report.ended.extend(others.into_iter().map(of_earlier));
    let chosen = open.iter().map(|target| chosen(&layers, target)).collect::<Result<Vec<_>>>()?;
    if chosen.is_empty() {
        return nothing_to_do(&group, &base, report);
    }
    let mut targets = match prepare::prepare(&args, &layers, chosen, Some(&resumed))? {
        Ready::Text(text) => return Ok(Some(text)),
        Ready::Targets(targets) => targets,
    };
    let job = Job::open(group.id.clone(), &targets, &layers, output)?;
    job.check_unchanged(group.entries)?;
    for (target, record) in targets.iter_mut().zip(open) {
        target.resumed = earlier_run(&base, record, &key)?;
    }
    let done = group.targets.iter().filter(|record| record.is_done());
    done.for_each(|record| remove_rest(&base, record));
    let tool = env!("CARGO_PKG_VERSION").to_owned();
    job.record(Entry::GroupResumed { tool, host: Some(HostId::of_this()) })?;
    // Both may have secrets.
    drop((args, layers));
    job.run(targets, report);
    Ok(None)
}

/// Ends a build that was killed when all its targets were done. One of which only the named target is done is kept.
fn nothing_to_do(group: &Group, base: &Path, report: &mut Report) -> Result<Option<String>> {
    report.begin(&group.id, "");
    report.is_kept = !group.targets.iter().all(groups::Target::is_done);
    if report.is_kept {
        return Ok(None);
    }
    let held = Journal::hold(&group.directory)?;
    if held.is_none() || is_continued(group.entries, &Journal::snapshot(&group.directory)?.entries)
    {
        return Err(continued(&group.id));
    }
    group.targets.iter().for_each(|record| remove_rest(base, record));
    super::left::remove_files(group, base);
    Ok(None)
}

/// Removes the directory of a run that was done, and killed before it removed its directory.
fn remove_rest(base: &Path, record: &groups::Target) {
    let Some(run) = &record.run else { return };
    let directory = base.join("runs").join(run);
    if directory.exists() {
        artifacts::remove_run(&directory, base);
    }
}

/// Returns the working directory and the place of a build, in the form in which the settings of a run need them.
fn as_run(group: &Group) -> Run {
    Run {
        id: group.id.clone(),
        directory: group.directory.clone(),
        working_directory: group.working_directory.clone(),
        ..Run::default()
    }
}

/// Returns what an earlier process recorded about a target.
fn of_earlier(record: &groups::Target) -> Ended {
    let document = record.result.clone().unwrap_or_default();
    Ended {
        name: record.name.clone(),
        code: record.exit_code.unwrap_or(exit::INTERRUPTED),
        run: record.run.clone(),
        outcome: None,
        document,
    }
}

/// Finds a target of the build among those of the configuration file.
///
/// # Errors
/// When the file does not list it any more, or with another provider.
fn chosen(layers: &Layers, record: &groups::Target) -> Result<ChosenTarget> {
    let names = [record.name.clone()];
    let listed = layers.file.as_ref().map(|file| file.targets(&names)).transpose()?.flatten();
    let found = listed.unwrap_or_else(|| vec![unlisted(record.name.clone())]);
    let is_same =
        |target: &&ChosenTarget| target.name == record.name && target.provider == record.provider;
    found.iter().find(is_same).cloned().ok_or_else(|| {
        let (name, provider) = (&record.name, &record.provider);
        let text = format!(
            "target `{name}` was built with provider `{provider}`, the configuration file names another one"
        );
        Error::new(Stage::Settings, text).hint("undo the change, or start a new build")
    })
}

/// Returns the run of a target that can be resumed; `None` when a new one is needed.
///
/// # Errors
/// When its journal cannot be used.
fn earlier_run(base: &Path, record: &groups::Target, key: &Key) -> Result<Option<Run>> {
    let Some(id) = &record.run else { return Ok(None) };
    let directory = base.join("runs").join(id);
    if !directory.exists() {
        return Ok(None);
    }
    if !directory.join(journal::FILE).exists() {
        // Its process was killed before the journal was created, or after it was removed.
        artifacts::remove_run(&directory, base);
        return Ok(None);
    }
    let run = runs::read(&directory, key)?;
    if run.platform.is_empty() && run.state != State::Running {
        // It ended before it recorded what it was to build.
        artifacts::remove_run(&directory, base);
        return Ok(None);
    }
    if run.untrusted.is_some() {
        return Err(run.not_trusted());
    }
    match run.state {
        State::Elsewhere => Err(run.is_elsewhere()),
        _ => Ok(Some(run)),
    }
}
