//! Judges a whole build and the reports during it.

use std::collections::BTreeMap;

use super::{Judgement, listed, settle, survived};
use crate::{
    Event, Resource,
    conformance::{
        evidence::{Built, Reach},
        table::Evidence,
    },
    document::Discarded,
};

/// Returns the observations of a build that ran all steps.
pub(in crate::conformance) fn whole(evidence: &Evidence) -> Result<Built, Judgement> {
    let built = evidence.built()?;
    match &built.reach {
        Reach::Whole if listed(&evidence.build).is_err() => {
            Err(Judgement::Skip("see `build`".to_owned()))
        }
        Reach::Whole if built.calls.iter().all(|call| call.failure.is_none()) => Ok(built),
        Reach::Whole => Err(Judgement::Skip("see `build`".to_owned())),
        Reach::Stub => Err(Judgement::Skip("it is a stub".to_owned())),
        Reach::Dry(why) => Err(Judgement::Skip(why.clone())),
    }
}

pub(in crate::conformance) fn build(evidence: &Evidence) -> Judgement {
    settle(|| {
        survived(&evidence.build)?;
        let built = evidence.built()?;
        if let Reach::Dry(why) = &built.reach {
            return Ok(Judgement::Skip(why.clone()));
        }
        listed(&evidence.build)?;
        let stub = built.reach == Reach::Stub;
        let mut problems: Vec<String> =
            built.refused.iter().map(|what| format!("`check` found: {what}")).collect();
        let expected = |step: &str| stub && ["upload", "register"].contains(&step);
        let failed = built.calls.iter().filter(|call| call.failure.is_some());
        problems.extend(failed.filter(|call| !expected(&call.step)).map(|call| call.ending()));
        if problems.is_empty() && !stub && built.images == 0 {
            problems.push("`register` named no image".to_owned());
        }
        let steps: Vec<String> = built
            .calls
            .iter()
            .map(|call| format!("{} {} ms", call.step, call.milliseconds))
            .collect();
        Ok(Judgement::unless(&problems, steps.join(", ")))
    })
}

pub(in crate::conformance) fn stub(evidence: &Evidence) -> Judgement {
    settle(|| {
        let built = evidence.built()?;
        if built.reach != Reach::Stub {
            return Ok(Judgement::Skip("its `status` is not `stub`".to_owned()));
        }
        let mut problems = Vec::new();
        for step in ["upload", "register"] {
            let Some(call) = built.calls.iter().find(|call| call.step == step) else { continue };
            let hint = call.failure.as_ref().and_then(|failure| failure.hint.as_ref());
            if !call.is("unsupported") || hint.is_none() {
                problems.push(format!("{}; expected `unsupported` with a hint", call.ending()));
            }
        }
        Ok(Judgement::unless(&problems, "it says so"))
    })
}

pub(in crate::conformance) fn ledger(evidence: &Evidence) -> Judgement {
    settle(|| {
        let built = whole(evidence)?;
        let mut planned: Vec<&Resource> = Vec::new();
        let mut problems = Vec::new();
        for (_, event) in &built.reports.events {
            match event {
                Event::ResourcePlanned { resource } => planned.push(resource),
                Event::ResourceCreated { resource }
                    if !planned.iter().any(|earlier| earlier.is(resource)) =>
                {
                    problems
                        .push(format!("{} was created before anybody was told", resource.label()));
                }
                _ => {}
            }
        }
        if planned.is_empty() && problems.is_empty() {
            return Ok(Judgement::fail("a build that made an image told of no resource"));
        }
        Ok(Judgement::unless(&problems, format!("{} resources", planned.len())))
    })
}

pub(in crate::conformance) fn discard(evidence: &Evidence) -> Judgement {
    settle(|| {
        let built = whole(evidence)?;
        let [first, second] = built.discards.as_slice() else {
            return Ok(Judgement::Skip("there is nothing to remove, see `ledger`".to_owned()));
        };
        let mut problems = Vec::new();
        for (when, call) in [("", first), ("the second time, ", second)] {
            if call.failure.is_some() {
                problems.push(format!("{when}{}", call.ending()));
                continue;
            }
            let answer: Discarded = serde_json::from_value(call.answer.clone()).unwrap_or_default();
            let remaining = answer.remaining.iter();
            problems.extend(remaining.map(|left| {
                format!("{when}{} was not removed: {}", left.resource.label(), left.reason)
            }));
            if answer.removed.is_empty() {
                problems.push(format!("{when}`discard` named nothing as removed"));
            }
        }
        let left = built.left.iter();
        problems.extend(left.map(|file| format!("file `{file}` is still in the image folder")));
        Ok(Judgement::unless(&problems, "removed, and removed again"))
    })
}

pub(in crate::conformance) fn progress(evidence: &Evidence) -> Judgement {
    settle(|| {
        let built = whole(evidence)?;
        if built.reports.progress.is_empty() {
            return Ok(Judgement::Skip(
                "it reported no progress: `progress` is optional".to_owned(),
            ));
        }
        let mut last: BTreeMap<(&str, u32), (u64, u64)> = BTreeMap::new();
        let mut problems = Vec::new();
        for (step, task, done, total) in &built.reports.progress {
            let before = last.insert((step.as_str(), *task), (*done, *total));
            if before.is_some_and(|(before, _)| before > *done) {
                problems.push(format!(
                    "`{step}` went back from {} to {done}",
                    before.unwrap_or_default().0
                ));
            }
            if *total > 0 && done > total {
                problems.push(format!("`{step}` told {done} of {total}"));
            }
        }
        let short = last.iter().filter(|(_, (done, total))| *total > 0 && done != total);
        problems.extend(short.map(|((step, _), (done, total))| {
            format!("`{step}` succeeded and told {done} of {total} at last")
        }));
        Ok(Judgement::unless(&problems, format!("{} reports", built.reports.progress.len())))
    })
}

pub(in crate::conformance) fn quiet(evidence: &Evidence) -> Judgement {
    settle(|| {
        let created = evidence.created()?.reports.late;
        let built = evidence.built().map(|built| built.reports.late).unwrap_or_default();
        let mut problems = [created, built].concat();
        problems.dedup();
        Ok(Judgement::unless(&problems, "nothing was heard"))
    })
}

pub(in crate::conformance) fn concurrent(evidence: &Evidence) -> Judgement {
    settle(|| {
        survived(&evidence.concurrent)?;
        // Two instances need not succeed where one fails.
        let built = evidence.built()?;
        if built.reach == Reach::Whole && built.calls.iter().any(|call| call.failure.is_some()) {
            return Ok(Judgement::Skip("see `build`".to_owned()));
        }
        if evidence.created()?.plain.failure.is_some() {
            return Ok(Judgement::Skip("it makes no instance without settings".to_owned()));
        }
        let both = evidence.both()?;
        let failed = both.failed.iter().filter(|call| !call.is("unsupported"));
        let problems: Vec<String> = failed.map(|call| call.ending()).collect();
        Ok(Judgement::unless(&problems, format!("{} instances", both.instances)))
    })
}
