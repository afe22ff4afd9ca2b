//! Prints the plans of all targets of a build.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::prepare::{self, Ready, Target, named};
use crate::{
    cli::plan::{self, Planned},
    error::{Error, Problem, Result},
    report::{GroupDisplay, OutputMode, Reporter},
    settings::{ChosenTarget, Layers},
};

/// Prints what a build with several targets would do: what they share, then the plan of each target.
///
/// # Errors
/// Everything that would keep a target from being built.
pub(crate) fn print(
    args: &[String],
    layers: &Layers,
    targets: Vec<ChosenTarget>,
    checks: bool,
) -> Result<()> {
    let targets = match prepare::prepare(args, layers, targets, None)? {
        Ready::Text(text) => {
            crate::cli::print(&text);
            return Ok(());
        }
        Ready::Targets(targets) => targets,
    };
    let display = GroupDisplay::default();
    let planned: Vec<(&Target, Result<Planned>)> =
        targets.iter().map(|target| (target, plan(target, layers, checks, &display))).collect();
    let as_json = targets.first().is_some_and(|target| target.prepared.settings.core().output.json);
    crate::cli::print(&if as_json { document(&planned) } else { text(&planned) });
    refuse(planned)
}

fn plan(target: &Target, layers: &Layers, checks: bool, display: &GroupDisplay) -> Result<Planned> {
    let mode = OutputMode::of(&target.prepared.settings, &layers.environment);
    let reporter = Reporter::of_target(mode, display.line(&target.chosen.name));
    plan::plan(&target.prepared, &layers.environment, checks, Arc::new(reporter))
}

fn document(planned: &[(&Target, Result<Planned>)]) -> String {
    let of_target = |(target, planned): &(&Target, Result<Planned>)| {
        let document = planned.as_ref().map_or(Value::Null, |planned| planned.document.clone());
        (target.chosen.name.clone(), document)
    };
    let targets: BTreeMap<String, Value> = planned.iter().map(of_target).collect();
    format!("{:#}\n", json!({"targets": targets}))
}

fn text(planned: &[(&Target, Result<Planned>)]) -> String {
    let names: Vec<String> = planned.iter().map(|(target, _)| target.chosen.name.clone()).collect();
    let mut text = format!("targets   {}\n", names.join(", "));
    text.push_str(
        "shared    the source is fetched, verified, unpacked and inspected once; an ISO is installed once for \
         targets that want the same disk\n",
    );
    for (target, planned) in planned {
        text.push_str(&format!("\ntarget    {}\n", target.chosen.name));
        if let Ok(planned) = planned {
            text.push_str(&planned.text);
        }
    }
    text
}

/// Returns the error of a target that would not be built, or all of them.
fn refuse(planned: Vec<(&Target, Result<Planned>)>) -> Result<()> {
    let error = |(target, planned): (&Target, Result<Planned>)| {
        let result = planned.and_then(|planned| planned.result);
        result.err().map(|error| named(&target.chosen.name, error))
    };
    let mut errors: Vec<Error> = planned.into_iter().filter_map(error).collect();
    if errors.len() < 2 {
        return errors.pop().map_or(Ok(()), Err);
    }
    let stage = errors[0].stage;
    let text = format!("{} targets would not be built", errors.len());
    let problem = |error: Error| {
        let causes: String = error.causes.iter().map(|cause| format!(": {cause}")).collect();
        Problem { message: format!("{}{causes}", error.message), hint: error.hint }
    };
    Err(Error::several(stage, text, errors.into_iter().map(problem).collect()))
}
