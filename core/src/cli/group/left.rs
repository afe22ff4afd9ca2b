//! Lists and removes unfinished builds with several targets. Their runs are listed and removed as any others.

use std::path::Path;

use crate::{
    artifacts,
    cli::runs::duration,
    error::{Error, Result},
    groups::{self, Group, Target},
    journal::{Journal, Key, continued, is_continued},
    runs::{self, Run, State},
    settings::Environment,
    trust::is_below,
};

/// Returns the builds that are not finished.
pub(crate) fn unfinished(base: &Path, key: &Key) -> Vec<Group> {
    groups::list(base, key)
}

/// Returns the runs and builds that no process works on; of one that is named, only that. Another process may be about to
/// use the runs of a build at work.
pub(crate) fn idle(base: &Path, key: &Key, named: Option<&str>) -> (Vec<Run>, Vec<Group>) {
    let (mut runs, mut groups) = (runs::list(base, key), groups::list(base, key));
    let is_used = |run: &Run| {
        let of = |group: &Group| run.group.as_ref() == Some(&group.id);
        groups.iter().any(|group| group.state == State::Running && of(group))
    };
    let is_meant = |id: &str| named.is_none_or(|named| id == named);
    runs.retain(|run| run.state != State::Running && !is_used(run) && is_meant(&run.id));
    groups.retain(|group| group.state != State::Running && is_meant(&group.id));
    (runs, groups)
}

/// Prints builds, and with `yes` removes what they left besides their runs; returns the first error.
pub(crate) fn clean_all(
    groups: &[Group],
    base: &Path,
    yes: bool,
    is_adopted: bool,
    environment: &Environment,
) -> Option<Error> {
    let mut first = None;
    for group in groups {
        crate::cli::print_folded(&describe(group));
        let cleaned = if yes { clean(group, base, is_adopted) } else { Ok(()) };
        if let Err(error) = cleaned {
            crate::cli::report_error(&error, environment);
            first = first.or(Some(error));
        }
    }
    first
}

/// Describes a build, in lines.
pub(crate) fn describe(group: &Group) -> String {
    let state = match group.state {
        State::Running => "running",
        State::Untrusted => "untrusted",
        State::Damaged => "damaged",
        State::Elsewhere => "running or dead on another host",
        State::Dead | State::Failed | State::Done => "unfinished",
    };
    let count = group.targets.len();
    let idle = duration(group.idle_seconds);
    let mut text = format!("{}  {count} targets  {state}, {idle} ago\n", group.id);
    if let Some(damage) = &group.damage {
        text.push_str(&format!("    {}\n", damage.message));
    }
    if let Some(reason) = &group.untrusted {
        text.push_str(&format!("    not trusted: {reason}\n"));
    }
    for target in &group.targets {
        text.push_str(&format!(
            "    {} ({})  {}\n",
            target.name,
            target.provider,
            progress(target)
        ));
    }
    text
}

fn progress(target: &Target) -> String {
    match (&target.run, target.exit_code) {
        (_, Some(0)) => "done".to_owned(),
        (_, Some(code)) => format!("failed, exit code {code}"),
        (Some(run), None) => format!("run {run}"),
        (None, None) => "not started".to_owned(),
    }
}

/// Removes the journal of a build and what its targets shared. Its runs are removed afterwards: until then, each can be
/// resumed alone.
///
/// # Errors
/// When it is not trusted, damaged, or may be running.
fn clean(group: &Group, base: &Path, is_adopted: bool) -> Result<()> {
    if let Some(error) = group.refusal().filter(|_| !is_adopted) {
        return Err(error);
    }
    let held = Journal::hold(&group.directory)?;
    if held.is_some() && is_continued(group.entries, &Journal::snapshot(&group.directory)?.entries)
    {
        return Err(continued(&group.id));
    }
    // What it shared may be another build's by now.
    if held.is_some() && group.untrusted.is_none() {
        remove_files(group, base);
    } else {
        artifacts::remove_run(&group.directory, base);
    }
    crate::cli::print(&format!("{}  removed\n", group.id));
    Ok(())
}

/// Removes the directories that targets share, and the journal.
pub(super) fn remove_files(group: &Group, base: &Path) {
    for directory in group.shared.iter().filter(|directory| is_below(directory, base)) {
        artifacts::remove_left(directory, base);
    }
    artifacts::remove_run(&group.directory, base);
}
