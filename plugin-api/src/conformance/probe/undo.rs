//! Fails builds at points where undo is difficult: another build has taken the name in the meantime, or the stop
//! arrives while an object is being created and the host does not know its identifier yet.

use std::{fs, sync::Arc};

use super::{build, lab::Lab, sight::Sight};
use crate::{
    Steps,
    conformance::{
        evidence::{Built, Kept, Reach, Taken, Undone, Unrecorded},
        host::{ProbeHost, Trigger},
    },
    document::{Build, Discarded},
};

/// The name that two builds want.
const TAKEN: &str = "taken";
/// Content of a file of another build.
const FOREIGN: &[u8] = b"an image that another build has made\n";
/// Maximum number of creations that are interrupted; each needs a build.
const MOST: usize = 6;

pub(super) fn probe(lab: &Lab<'_>) -> Undone {
    let mut undone = Undone { reach: lab.reach(), ..Undone::default() };
    if undone.reach == Reach::Whole {
        undone.taken = Some(taken(lab));
        lab.belongs_to("unrecorded");
        for number in 0..MOST {
            match unrecorded(lab, number) {
                Some(seen) => undone.unrecorded.push(seen),
                None => break,
            }
        }
    }
    undone
}

/// An instance with its host, for one run.
struct Run {
    host: Arc<ProbeHost>,
    steps: Box<dyn Steps>,
    build: Build,
}

impl Run {
    fn begin(lab: &Lab<'_>, build: Build) -> Option<Self> {
        let host = lab.host();
        let steps = lab.create(&host, lab.settings()).1?;
        Some(Self { host, steps, build })
    }

    fn check(&self, lab: &Lab<'_>) {
        let request = lab.check_of(self.build.clone(), lab.job.cloud);
        lab.call(&self.host, "check", || self.steps.check(&request));
    }

    fn make(&self, lab: &Lab<'_>) -> Built {
        let mut built = Built { reach: lab.reach(), ..Built::default() };
        build::make(lab, &self.host, self.steps.as_ref(), &self.build, &mut built, false);
        built
    }

    /// Ends the instance and lets a new instance remove the resources that the host knows of, as `gc` does.
    /// Returns what remained, or how the removal failed.
    fn undo(self, lab: &Lab<'_>) -> Result<Vec<Kept>, String> {
        let Self { host, steps, build } = self;
        host.cancel_on(Trigger::Never);
        lab.end(&host, steps);
        let resources = build::resources(&host);
        if resources.is_empty() {
            return Ok(Vec::new());
        }
        let (call, steps) = lab.create(&host, lab.settings());
        let Some(steps) = steps else { return Err(call.ending()) };
        let mut remaining = Ok(Vec::new());
        // A request whose answer was not awaited may take effect after the first time.
        for _ in 0..2 {
            let (call, _) = build::discard(lab, &host, steps.as_ref(), &build, &resources);
            if lab.description().uploads {
                build::listen(&host);
            }
            if call.failure.is_some() {
                remaining = Err(call.ending());
                continue;
            }
            let answer: Discarded = serde_json::from_value(call.answer).unwrap_or_default();
            let kept = |left: crate::document::Remaining| Kept {
                text: format!("{} was not removed: {}", left.resource.label(), left.reason),
                has_hint: left.hint.is_some_and(|hint| !hint.trim().is_empty()),
            };
            remaining = Ok(answer.remaining.into_iter().map(kept).collect());
        }
        lab.end(&host, steps);
        remaining
    }
}

/// Runs a build that finds its name free; then another build takes the name; then the first build fails.
fn taken(lab: &Lab<'_>) -> Taken {
    let mut seen = Taken::default();
    let nothing = Sight::of(lab, TAKEN).with_problems(lab, TAKEN);
    let runs = (Run::begin(lab, lab.build(TAKEN)), Run::begin(lab, lab.build_again(TAKEN)));
    let (Some(owner), Some(loser)) = runs else {
        seen.obstacle = Some("see `create`".to_owned());
        return seen;
    };
    loser.check(lab);
    let failed = owner.make(lab).calls.into_iter().find(|call| call.failure.is_some());
    seen.obstacle = failed.map(|call| call.ending());
    if seen.obstacle.is_none() {
        let local = !lab.description().uploads;
        if local {
            replace_files(lab);
        }
        let before = Sight::of(lab, TAKEN).with_problems(lab, TAKEN);
        seen.seen = before.count().saturating_sub(nothing.count());
        // The writer of a file fails midway; a cloud itself reports that the name is taken.
        if local {
            loser.host.cancel_on(Trigger::Unreadable);
        }
        let second = loser.make(lab);
        if local && second.calls.iter().all(|call| call.failure.is_none()) {
            seen.obstacle = Some("a build whose disk cannot be read succeeded".to_owned());
        }
        let _ = loser.undo(lab);
        let after = Sight::of(lab, TAKEN).with_problems(lab, TAKEN);
        (seen.lost, seen.left) = (after.lost_since(&before), after.more_than(&before));
    } else {
        let _ = loser.undo(lab);
    }
    let _ = owner.undo(lab);
    seen
}

/// Replaces the files of a build with files of another program: other bytes, other inodes.
fn replace_files(lab: &Lab<'_>) {
    let directory = lab.job.directory.join(format!("images-{TAKEN}"));
    for name in build::files(&directory) {
        let path = directory.join(name);
        let other = path.with_extension("foreign");
        if fs::write(&other, FOREIGN).is_ok() {
            let _ = fs::rename(other, path);
        }
    }
}

/// Runs a build that is stopped when it reports its resource number `number` as created. `None` when it has no
/// such resource.
fn unrecorded(lab: &Lab<'_>, number: usize) -> Option<Unrecorded> {
    let name = format!("unrecorded-{number}");
    let before = Sight::of(lab, &name).with_problems(lab, &name);
    let run = Run::begin(lab, lab.build(&name))?;
    run.host.cancel_on(Trigger::Created(number));
    run.make(lab);
    if !run.host.is_stopped() {
        let _ = run.undo(lab);
        return None;
    }
    let mut seen = Unrecorded::default();
    let open = build::resources(&run.host);
    seen.announced = open.iter().map(crate::Resource::label).collect();
    // A name that is taken shows the image only, and nothing that a build makes before it.
    seen.visible = !Sight::of(lab, &name).more_than(&before).is_empty();
    match run.undo(lab) {
        Ok(remaining) => seen.remaining = remaining,
        Err(failure) => seen.failure = Some(failure),
    }
    let after = Sight::of(lab, &name).with_problems(lab, &name);
    (seen.left, seen.left_count) = (after.more_than(&before), after.count_more_than(&before));
    Some(seen)
}
