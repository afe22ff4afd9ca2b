//! Checks the optional steps: one that a provider declares works, one that it does not declare answers `unsupported`
//! with a hint. Contains probe, judges and rows, so that a step is added in one place.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    evidence::{Built, Call, Reach},
    host::ProbeHost,
    judge::{Judgement, build::whole, settle, survived},
    probe::{build, lab::Lab},
    table::{Check, Evidence, check},
};
use crate::{
    Step, Steps,
    document::{Inventory, InventoryRequest, ItemKind, Reference, Registered},
};

/// The rows.
pub(super) const CHECKS: [Check; 2] = [
    check(
        "undeclared",
        "answers `unsupported` to steps that it does not declare",
        undeclared,
        "declare the step in `Description::capabilities`, or leave out its method; a program answers unknown methods with code -32601",
    ),
    check(
        "inventory",
        "lists what a build made, and lets `discard` remove it",
        inventory,
        "set the run id in the request that creates each object; fill in `id`, `run_id` and `resource`, and apply the filters and `limit` of the request",
    ),
];

/// Observations of the `optional` probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Optional {
    reach: Reach,
    /// Calls of steps that are not declared.
    undeclared: Vec<Call>,
    /// Identifier of the run that was built; empty when no optional step is declared or the build failed.
    run_id: String,
    /// The images that it registered.
    images: Vec<Reference>,
    listed: Option<Listed>,
}

/// Calls of `inventory`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Listed {
    /// Of the run.
    run: Call,
    /// Of the run, with one item at most.
    one: Call,
    /// Of a run that does not exist.
    other: Call,
    /// Of the run, after `discard` was given the resources of the items.
    after: Call,
}

pub(super) fn probe(lab: &Lab<'_>) -> Optional {
    let host = lab.host();
    let mut seen = Optional { reach: lab.reach(), ..Optional::default() };
    let Some(steps) = lab.create(&host, lab.settings()).1 else { return seen };
    let declared = |step: &&Step| step.is_declared_by(lab.description());
    let (known, unknown): (Vec<&Step>, Vec<&Step>) =
        Step::ALL.iter().filter(|step| step.is_optional()).partition(declared);
    for step in unknown {
        seen.undeclared.push(lab.call(&host, step.name(), || steps.call(*step, "{}")).0);
    }
    if !known.is_empty() && seen.reach == Reach::Whole {
        build(lab, &host, steps.as_ref(), &mut seen);
    }
    lab.end(&host, steps);
    seen
}

/// Runs a build, calls the declared steps on its result, and removes it.
fn build(lab: &Lab<'_>, host: &Arc<ProbeHost>, steps: &dyn Steps, seen: &mut Optional) {
    let build = lab.build("optional");
    let mut built = Built { reach: Reach::Whole, ..Built::default() };
    let complete = build::walk(lab, host, steps, &build, &mut built).is_some();
    if complete {
        seen.run_id.clone_from(&build.run_id);
        seen.images = images(&built);
        if Step::Inventory.is_declared_by(lab.description()) {
            seen.listed = Some(list(lab, host, steps, &build.run_id));
        }
    }
    let resources = build::resources(host);
    if !resources.is_empty() {
        build::discard(lab, host, steps, &build, &resources);
    }
}

/// Returns the images that `register` returned.
fn images(built: &Built) -> Vec<Reference> {
    let registered = built.calls.iter().find(|call| call.step == Step::Register.name());
    let registered = registered.map(|call| call.answer.clone()).unwrap_or_default();
    let registered: Registered = serde_json::from_value(registered).unwrap_or_default();
    let images = registered.images.into_iter();
    images.map(|image| Reference { region: image.region, ..Reference::image(image.id) }).collect()
}

fn list(lab: &Lab<'_>, host: &Arc<ProbeHost>, steps: &dyn Steps, run_id: &str) -> Listed {
    let list = |run_id: &str, limit| {
        let run_id = Some(run_id.to_owned());
        let request = InventoryRequest { run_id, limit, ..InventoryRequest::default() };
        lab.call(host, Step::Inventory.name(), || steps.inventory(&request))
    };
    let (run, found) = list(run_id, 0);
    let (one, _) = list(run_id, 1);
    let (other, _) = list("conformance-no-such-run", 0);
    let items = found.unwrap_or_default().items.into_iter();
    let resources: Vec<_> = items.map(|item| item.resource).collect();
    if !resources.is_empty() {
        let build = crate::document::Build { run_id: run_id.to_owned(), ..Default::default() };
        build::discard(lab, host, steps, &build, &resources);
    }
    let (after, _) = list(run_id, 0);
    Listed { run, one, other, after }
}

fn undeclared(evidence: &Evidence) -> Judgement {
    settle(|| {
        survived(&evidence.optional)?;
        let seen: Optional = evidence.optional()?;
        let mut problems = Vec::new();
        for call in &seen.undeclared {
            let hint = call.failure.as_ref().and_then(|failure| failure.hint.as_ref());
            // A program that does not know the method has nothing to add.
            if !call.is("unsupported") || (hint.is_none() && evidence.linkage.is_some()) {
                problems.push(format!("{}; expected `unsupported` with a hint", call.ending()));
            }
        }
        let answers = seen.undeclared.iter().filter_map(|call| call.failure.as_ref());
        let answers: Vec<&str> = answers.map(|failure| failure.message.as_str()).collect();
        let detail = if answers.is_empty() { "none".to_owned() } else { answers.join("; ") };
        Ok(Judgement::unless(&problems, detail))
    })
}

/// Returns the observations of a declared step; passes or skips where there are none.
fn declared<T>(
    evidence: &Evidence,
    step: Step,
    part: impl FnOnce(&Optional) -> Option<T>,
) -> Result<(Optional, T), Judgement> {
    survived(&evidence.optional)?;
    let seen: Optional = evidence.optional()?;
    if seen.undeclared.iter().any(|call| call.step == step.name()) {
        return Err(Judgement::pass("not declared, see `undeclared`"));
    }
    match (&seen.reach, part(&seen)) {
        (Reach::Dry(why), _) => Err(Judgement::Skip(why.clone())),
        (Reach::Stub, _) => Err(Judgement::Skip("it is a stub".to_owned())),
        (Reach::Whole, Some(part)) => Ok((seen, part)),
        (Reach::Whole, None) => {
            whole(evidence)?;
            Err(Judgement::Skip("its second build failed, see `build`".to_owned()))
        }
    }
}

fn inventory(evidence: &Evidence) -> Judgement {
    settle(|| {
        let (seen, listed) = declared(evidence, Step::Inventory, |seen| seen.listed.clone())?;
        let calls = [&listed.run, &listed.one, &listed.other, &listed.after];
        let mut problems: Vec<String> =
            calls.iter().filter(|call| call.failure.is_some()).map(|call| call.ending()).collect();
        let read = |call: &Call| -> Inventory {
            serde_json::from_value(call.answer.clone()).unwrap_or_default()
        };
        let (run, one) = (read(&listed.run), read(&listed.one));
        for image in &seen.images {
            let found = run.items.iter().find(|item| item.reference() == *image);
            match found {
                None => problems.push(format!("the image `{}` of a run is not listed", image.id)),
                Some(item) if !item.resource.deliverable => {
                    problems.push(format!("the image `{}` is not a deliverable", image.id));
                }
                Some(_) => {}
            }
        }
        for item in &run.items {
            let label = format!("{:?} `{}`", item.kind, item.id);
            if item.run_id.as_deref() != Some(&seen.run_id) {
                problems.push(format!("{label} is listed for a run and has another run id"));
            }
            if item.id.is_empty() || item.resource.kind.is_empty() {
                problems.push(format!("{label} has no id, or no resource that `discard` takes"));
            }
            if item.kind == ItemKind::Image && item.created.is_none() {
                problems.push(format!("{label} has no time of creation"));
            }
        }
        if one.items.len() > 1 || (run.items.len() > 1 && !one.truncated) {
            problems.push("`limit` is 1, and the answer is longer or not `truncated`".to_owned());
        }
        if !read(&listed.other).items.is_empty() {
            problems.push("objects are listed for a run that does not exist".to_owned());
        }
        let left = read(&listed.after).items.into_iter();
        problems.extend(left.map(|item| {
            format!("{:?} `{}` is listed after its resource was discarded", item.kind, item.id)
        }));
        Ok(Judgement::unless(&problems, format!("{} items", run.items.len())))
    })
}
