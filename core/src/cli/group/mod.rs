//! Runs a build with several targets. Each target is a run with its journal and its result; a journal of the build says
//! which runs belong to it and which targets are done.
//!
//! ```text
//! prepare.rs  loads the providers, resolves the settings of all targets
//! work.rs     runs the targets, a thread each          ending.rs  the result and the exit code
//! resume.rs   resumes what is missing                  left.rs    lists and removes unfinished builds
//! plan.rs     prints the plans of all targets
//! ```

mod ending;
mod left;
mod plan;
mod prepare;
mod resume;
mod work;

use super::{args, output::Output};
use crate::{
    error::Result,
    settings::{ChosenTarget, Layers, Origin},
};

pub(super) use left::{clean_all, describe, idle, unfinished};
pub(super) use plan::print as print_plans;
pub(super) use resume::{find as find_resumable, run as resume};

/// The targets of a build.
pub(super) enum Choice {
    /// One, whose settings are among the layers.
    One(Box<Layers>),
    /// Several.
    Several(Box<Layers>, Vec<ChosenTarget>),
}

/// Determines the targets that the command line, the configuration file, or the environment names. A resumed run has
/// one.
///
/// # Errors
/// When a target is not in the list of the configuration file, or its entry sets what all targets share.
pub(super) fn chosen(args: &[String], mut layers: Layers, is_resumed: bool) -> Result<Choice> {
    if is_resumed {
        let names = args::last_names(args, &layers);
        args::choose_one(&mut layers, &names)?;
        return Ok(Choice::One(Box::new(layers)));
    }
    let names = args::target_names(args, &layers);
    let listed = layers.file.as_ref().map(|file| file.targets(&names)).transpose()?.flatten();
    let mut targets = match listed {
        Some(listed) => listed,
        None if names.len() < 2 => return Ok(Choice::One(Box::new(layers))),
        None => names.into_iter().map(unlisted).collect(),
    };
    if targets.len() == 1 {
        args::choose(&mut layers, targets.remove(0))?;
        return Ok(Choice::One(Box::new(layers)));
    }
    Ok(Choice::Several(Box::new(layers), targets))
}

/// Returns the target of a provider that the configuration file does not list.
fn unlisted(name: String) -> ChosenTarget {
    ChosenTarget { provider: name.clone(), name, origin: Origin::CommandLine }
}

/// Runs a build with several targets and reports it; returns the exit code. Arguments and layers may have secrets: they
/// are dropped as soon as they are parsed.
pub(super) fn run(
    args: Vec<String>,
    layers: Layers,
    targets: Vec<ChosenTarget>,
    output: &mut Output,
) -> u8 {
    let mut report = ending::Report::new();
    let result = attempt(args, layers, targets, output, &mut report);
    ending::finish(result, report, output)
}

fn attempt(
    args: Vec<String>,
    layers: Layers,
    targets: Vec<ChosenTarget>,
    output: &mut Output,
    report: &mut ending::Report,
) -> Result<Option<String>> {
    let prepared = match prepare::prepare(&args, &layers, targets, None)? {
        prepare::Ready::Text(text) => return Ok(Some(text)),
        prepare::Ready::Targets(targets) => targets,
    };
    let job = work::Job::begin(&args, &prepared, &layers, output)?;
    drop((args, layers));
    job.run(prepared, report);
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::{Environment, FileLayer};

    #[test]
    fn targets_are_named_by_flags_the_file_or_the_environment() {
        let list = "targets:\n- {name: one, provider: acme}\n- {name: two, provider: acme}\n- provider: other\n";
        for (args, file, expected) in [
            ("-p acme", "", "=acme"),
            ("-p acme,other", "", "acme other"),
            ("-p acme -p other -p acme", "", "acme other"),
            ("--platform=acme,,acme", "", "=acme,,acme"),
            ("", "PLATFORM: acme,other\n", "acme other"),
            ("-p acme", "PLATFORM: acme,other\n", "=acme"),
            ("", "", "=from_environment"),
            ("-p one", list, "=one"),
            ("-p acme", list, "one two"),
            ("-p other -p one", list, "other one"),
            ("-p two,one,acme", list, "two one"),
        ] {
            let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
            let layers = Layers {
                command_line: args::core_texts(&args),
                file: FileLayer::parse(Path::new("c.yml"), file).ok(),
                environment: Environment::of([("F5_PLATFORM", "from_environment")]),
                ..Layers::default()
            };
            let found = match chosen(&args, layers, false).unwrap() {
                Choice::One(layers) => {
                    let name = layers.target.map(|target| target.name);
                    let typed = layers.command_line.get("PLATFORM").cloned();
                    let of_file = layers.environment.get("F5_PLATFORM").map(str::to_owned);
                    format!("={}", name.or(typed).or(of_file).unwrap())
                }
                Choice::Several(_, targets) => {
                    targets.into_iter().map(|target| target.name).collect::<Vec<_>>().join(" ")
                }
            };
            assert_eq!(found, expected, "{args:?} {file}");
        }
    }
}
