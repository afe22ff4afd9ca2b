//! Checks the optional steps: one that a provider declares works, one that it does not declare answers `unsupported`
//! with a hint. Contains probe, judges and rows, so that a step is added in one place.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    evidence::{Built, Call, Reach},
    host::ProbeHost,
    judge::{Judgement, build::whole, description, settle, survived, undeclared as not_declared},
    probe::{Probe, build, lab::Lab},
    rows::{Check, Remedy, check},
    table::Evidence,
};
use crate::{
    Step, Steps,
    document::{
        Action, Audience, Change, DiskRequest, Inventory, InventoryRequest, Item, ItemKind,
        LocateRequest, Located, ManageOutcome, ManageRequest, Purpose, Reference, Registered,
        UploadRequest, Uploaded,
    },
};

/// The rows.
pub(super) const CHECKS: [Check; 4] = [
    check(
        "undeclared",
        "answers `unsupported` to steps that it does not declare",
        undeclared,
        &[Probe::Optional],
        Remedy::new(
            "declare the step in `Description::capabilities`, or leave out its method",
            "declare the step in `capabilities`, or answer unknown methods with code -32601",
        ),
    ),
    check(
        "inventory",
        "lists what a build made, and lets `discard` remove it",
        inventory,
        &[Probe::Build, Probe::Optional],
        Remedy::both(
            "set the run id in the request that creates each object; fill in `id`, `run_id` and `resource`, and apply the filters and `limit` of the request",
        ),
    ),
    check(
        "manage",
        "changes registered images as declared, once, and not in a dry run",
        manage,
        &[Probe::Build, Probe::Optional],
        Remedy::new(
            "compare the image with what the action wants before you change it: `Managed::unchanged`; refuse an unknown image with `Managed::refused`, and an action that is not declared with `Error::unsupported`",
            "compare the image with what the action wants before you change it: `change` is `unchanged`; for an unknown image it is `refused` with an `error` of kind `not_found`; answer an action that is not declared with an error of kind `unsupported`",
        ),
    ),
    check(
        "locate",
        "finds an uploaded object as `upload` returned it, and records nothing",
        locate,
        &[Probe::Build, Probe::Optional],
        Remedy::new(
            "return `Uploaded::id` from `upload`, and from `locate` the same location and facts; answer `not_found` for an object that does not exist; report no resource in `locate`",
            "return `id` from `upload`, and from `locate` the same `location` and `facts`; answer with an error of kind `not_found` for an object that does not exist; send no `event` about resources in `locate`",
        ),
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
    /// The name that its image was to have.
    image_name: String,
    /// The images that it registered.
    images: Vec<Reference>,
    listed: Option<Listed>,
    managed: Option<Vec<Act>>,
    sought: Option<Sought>,
}

/// Calls of `locate` after an upload that is not registered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sought {
    uploaded: Call,
    /// Whether `upload` recorded a resource that stays after a success.
    stays: bool,
    /// Of the uploaded object.
    found: Call,
    /// Of an object that does not exist.
    absent: Call,
    /// Number of events that `locate` reported about resources.
    recorded: usize,
}

/// Calls of `manage` with one action.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Act {
    /// Word of the capability.
    capability: String,
    declared: bool,
    /// For an image that does not exist.
    absent: Call,
    /// For the image of a build: in a dry run, for the first and for the second time. `None` where the suite cannot
    /// know what would be valid: accounts, regions.
    trial: Option<[Call; 3]>,
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
    if seen.reach == Reach::Whole {
        for step in known {
            build(lab, &host, steps.as_ref(), *step, &mut seen);
        }
    }
    lab.end(&host, steps);
    seen
}

/// Runs a build, calls a declared step on its result, and removes it.
fn build(lab: &Lab<'_>, host: &Arc<ProbeHost>, steps: &dyn Steps, step: Step, seen: &mut Optional) {
    let build = lab.build(&format!("optional-{}", step.name()));
    if step == Step::Locate {
        seen.sought = seek(lab, host, steps, &build);
        return;
    }
    let mut built = Built { reach: Reach::Whole, ..Built::default() };
    let complete = build::walk(lab, host, steps, &build, &mut built).is_some();
    let images = images(&built);
    match step {
        Step::Inventory if complete => {
            seen.listed = Some(list(lab, host, steps, &build.run_id));
            (seen.run_id, seen.images) = (build.run_id.clone(), images);
            seen.image_name = build.image_name.clone();
        }
        Step::Manage if complete => {
            seen.managed =
                images.first().map(|image| change(lab, host, steps, &build.run_id, image));
        }
        _ => {}
    }
    let resources = build::resources(host);
    if !resources.is_empty() {
        build::discard(lab, host, steps, &build, &resources);
    }
}

/// Uploads an image that is not registered, looks for it, and removes it.
fn seek(
    lab: &Lab<'_>,
    host: &Arc<ProbeHost>,
    steps: &dyn Steps,
    build: &crate::document::Build,
) -> Option<Sought> {
    let request = lab.check_of(build.clone(), true).purpose(Purpose::Upload);
    lab.call(host, Step::Check.name(), || steps.check(&request)).1?;
    let request = DiskRequest::new(build.clone(), lab.description().disk.spec.clone());
    let disk = lab.call(host, Step::CreateDisk.name(), || steps.create_disk(&request)).1?;
    let request = UploadRequest::new(build.clone(), disk).stays(true);
    let (call, uploaded) = lab.call(host, Step::Upload.name(), || steps.upload(&request));
    let resources = build::resources(host);
    let stays = resources.iter().any(|resource| resource.deliverable);
    let before = host.reports().events.len();
    let locate = |id: &str| {
        let request = LocateRequest::new(lab.build("optional-located"), id);
        lab.call(host, Step::Locate.name(), || steps.locate(&request)).0
    };
    let id = uploaded.and_then(|uploaded| uploaded.id).unwrap_or_default();
    let (found, absent) = (locate(&id), locate(&format!("{id}-conformance-absent")));
    let events = host.reports().events;
    let is_resource = |event: &crate::Event| {
        use crate::Event::{ResourceCreated, ResourceGone, ResourcePlanned};
        matches!(event, ResourcePlanned { .. } | ResourceCreated { .. } | ResourceGone { .. })
    };
    let recorded = events.iter().skip(before).filter(|(_, event)| is_resource(event)).count();
    if !resources.is_empty() {
        build::discard(lab, host, steps, build, &resources);
    }
    Some(Sought { uploaded: call, stays, found, absent, recorded })
}

/// Returns the images that `register` returned.
fn images(built: &Built) -> Vec<Reference> {
    let registered = built.calls.iter().find(|call| call.step == Step::Register.name());
    let registered = registered.map(|call| call.answer.clone()).unwrap_or_default();
    let registered: Registered = serde_json::from_value(registered).unwrap_or_default();
    let images = registered.images.into_iter();
    images.map(|image| Reference { region: image.region, ..Reference::image(image.id) }).collect()
}

/// Returns the name that an image was to have, and the images that `inventory` listed of its run.
pub(super) fn listed_images(evidence: &Evidence) -> (String, Vec<Item>) {
    let seen: Optional = evidence.optional().unwrap_or_default();
    let answer = seen.listed.map(|listed| listed.run.answer).unwrap_or_default();
    let found: Inventory = serde_json::from_value(answer).unwrap_or_default();
    let images = found.items.into_iter().filter(|item| seen.images.contains(&item.reference()));
    (seen.image_name, images.collect())
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

/// All actions, in an order in which each changes the image, with values that are valid in every cloud. The word is the
/// action that must be declared too for that; absent where valid values depend on the account.
fn actions() -> Vec<(Action, Option<&'static str>)> {
    let accounts = || vec!["conformance".to_owned()];
    let tags = [("conformance".to_owned(), "yes".to_owned())];
    let audience = Audience::Private;
    let keys = BTreeMap::default();
    let (at, disabled_at, replacement, reason) = (None, None, None, String::new());
    vec![
        (Action::Share { accounts: accounts() }, None),
        (Action::Unshare { accounts: accounts(), everyone: false }, None),
        (Action::Publish { audience }, None),
        (Action::Copy { regions: accounts(), name: None, with_access: false, keys }, None),
        (Action::Tag { tags: tags.into() }, Some("manage.tag")),
        (Action::Untag { keys: accounts() }, Some("manage.tag")),
        (Action::Deprecate { at, disabled_at, replacement, reason }, Some("manage.deprecate")),
        (Action::Restore, Some("manage.deprecate")),
        (Action::Modify { name: None, attributes: BTreeMap::default() }, None),
        (Action::Delete { keep_data: false, force: false }, Some("manage.delete")),
        (Action::Unknown, None),
    ]
}

fn change(
    lab: &Lab<'_>,
    host: &Arc<ProbeHost>,
    steps: &dyn Steps,
    run_id: &str,
    image: &Reference,
) -> Vec<Act> {
    let call = |action: &Action, image: &Reference, dry_run| {
        let request = ManageRequest {
            run_id: run_id.to_owned(),
            images: vec![image.clone()],
            action: action.clone(),
            dry_run,
            ..ManageRequest::default()
        };
        lab.call(host, Step::Manage.name(), || steps.manage(&request)).0
    };
    let absent = Reference { id: "conformance-no-such-image".to_owned(), ..image.clone() };
    let declares = |word: &str| lab.description().capabilities.iter().any(|one| one == word);
    let acts = actions().into_iter().map(|(action, needed)| {
        let capability = action.capability().to_owned();
        let declared = declares(&capability);
        let trial = (declared && needed.is_some_and(declares)).then(|| {
            [(true, image), (false, image), (false, image)]
                .map(|(dry_run, image)| call(&action, image, dry_run))
        });
        Act { capability, declared, absent: call(&action, &absent, false), trial }
    });
    acts.collect()
}

fn undeclared(evidence: &Evidence) -> Judgement {
    settle(|| {
        survived(&evidence.optional)?;
        let seen: Optional = evidence.optional()?;
        if seen.undeclared.is_empty() {
            let description = description(evidence)?;
            let is_complete = Step::ALL.iter().all(|step| step.is_declared_by(&description));
            let why = match &seen.reach {
                _ if is_complete => "every optional step is declared",
                Reach::Dry(why) => why,
                _ => "see `create`",
            };
            return Ok(Judgement::Skip(why.to_owned()));
        }
        let mut problems = Vec::new();
        for call in &seen.undeclared {
            let hint = call.failure.as_ref().and_then(|failure| failure.hint.as_ref());
            // A program that does not know the method has nothing to add.
            if !call.is("unsupported") || (hint.is_none() && evidence.is_library()) {
                problems.push(format!("{}; expected `unsupported` with a hint", call.ending()));
            }
        }
        let answers = seen.undeclared.iter().filter_map(|call| call.failure.as_ref());
        let answers: Vec<&str> = answers.map(|failure| failure.message.as_str()).collect();
        Ok(Judgement::unless(&problems, answers.join("; ")))
    })
}

/// Returns the observations of a declared step; skips where there are none.
fn declared<T>(
    evidence: &Evidence,
    step: Step,
    part: impl FnOnce(&Optional) -> Option<T>,
) -> Result<(Optional, T), Judgement> {
    survived(&evidence.optional)?;
    let seen: Optional = evidence.optional()?;
    if !step.is_declared_by(&description(evidence)?) {
        let member = match step {
            Step::Manage => "`manage.…` in its `capabilities`".to_owned(),
            _ => format!("`{}` in its `capabilities`", step.name()),
        };
        return Err(Judgement::Skip(not_declared(&member)));
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

fn locate(evidence: &Evidence) -> Judgement {
    settle(|| {
        let (_, sought) = declared(evidence, Step::Locate, |seen| seen.sought.clone())?;
        let Sought { uploaded, stays, found, absent, recorded } = &sought;
        let mut problems: Vec<String> = [uploaded, found]
            .into_iter()
            .filter(|call| call.failure.is_some())
            .map(Call::ending)
            .collect();
        let sent: Uploaded = serde_json::from_value(uploaded.answer.clone()).unwrap_or_default();
        let there: Located = serde_json::from_value(found.answer.clone()).unwrap_or_default();
        if sent.id.is_none() {
            problems.push("`upload` returned no `id`".to_owned());
        }
        let expected = Uploaded { bytes_sent: 0, ..sent };
        if problems.is_empty() && there.uploaded != expected {
            problems.push(format!("`locate` found {:?}, not {expected:?}", there.uploaded));
        }
        if !["not_found", "config"].iter().any(|kind| absent.is(kind)) {
            let ending = absent.ending();
            problems.push(format!("an object that does not exist: {ending}; expected `not_found`"));
        }
        if *recorded > 0 {
            problems.push(format!("`locate` reported {recorded} events about resources"));
        }
        if !stays {
            problems.push("an upload that is to stay has no resource that stays".to_owned());
        }
        Ok(Judgement::unless(&problems, format!("{} bytes", there.length)))
    })
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

/// Returns what became of the one image of a call, or how the call failed.
fn outcome(call: &Call) -> Result<(Change, Option<String>), String> {
    if call.failure.is_some() {
        return Err(call.ending());
    }
    let answer: ManageOutcome = serde_json::from_value(call.answer.clone()).unwrap_or_default();
    match answer.results.as_slice() {
        [one] => Ok((one.change, one.error.as_ref().map(|error| error.kind.clone()))),
        results => Err(format!("`manage` of one image has {} results", results.len())),
    }
}

fn manage(evidence: &Evidence) -> Judgement {
    settle(|| {
        let (_, acts) = declared(evidence, Step::Manage, |seen| seen.managed.clone())?;
        let mut problems = Vec::new();
        for act in &acts {
            let name = &act.capability;
            if !act.declared {
                if !act.absent.is("unsupported") {
                    problems.push(format!("{name} is not declared; {}", act.absent.ending()));
                }
                continue;
            }
            // What is not there is deleted already.
            let expected = match name.as_str() {
                "manage.delete" => Ok((Change::Unchanged, None)),
                _ => Ok((Change::Refused, Some("not_found".to_owned()))),
            };
            let absent = outcome(&act.absent);
            if absent != expected {
                problems.push(format!("{name} of an image that does not exist: {absent:?}"));
            }
            let wanted = [Change::Done, Change::Done, Change::Unchanged];
            let times = ["in a dry run", "for the first time", "for the second time"];
            for ((call, wanted), time) in act.trial.iter().flatten().zip(wanted).zip(times) {
                let found = outcome(call);
                if found != Ok((wanted, None)) {
                    problems.push(format!("{name} {time}: {found:?}, expected {wanted:?}"));
                }
            }
        }
        let untried = acts.iter().filter(|act| act.declared && act.trial.is_none());
        let untried: Vec<&str> = untried.map(|act| act.capability.as_str()).collect();
        let detail = match untried.as_slice() {
            [] => "all actions tried".to_owned(),
            names => format!("only for an unknown image: {}", names.join(", ")),
        };
        Ok(Judgement::unless(&problems, detail))
    })
}
