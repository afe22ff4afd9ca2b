//! Judges steps that were asked to stop.

use super::{
    Judgement,
    build::whole,
    listed, settle, survived,
    undo::{BLIND, sound},
};
use crate::conformance::{
    evidence::{Cancelled, Reach, Stopped},
    table::Evidence,
};

/// The contract's limit, in milliseconds.
const LIMIT: u64 = 2_000;

pub(in crate::conformance) fn clean(evidence: &Evidence) -> Judgement {
    settle(|| {
        sound(evidence)?;
        let Cancelled { stopped, begun, left, .. } = evidence.cancelled()?;
        listed(&evidence.cancel)?;
        if stopped.iter().all(|one| one.after.is_none()) {
            return Ok(Judgement::Skip("see `cancel-before`".to_owned()));
        }
        let begun =
            begun.iter().map(|what| format!("it created {what} after it was asked to stop"));
        let left = left.iter().map(|what| format!("{what} was left after `discard`"));
        let problems: Vec<String> = begun.chain(left).collect();
        if problems.is_empty() && evidence.built()?.listed.is_empty() {
            return Ok(Judgement::Skip(BLIND.to_owned()));
        }
        Ok(Judgement::unless(&problems, "nothing was created or left"))
    })
}

fn with(evidence: &Evidence, before: bool, judge: fn(&Stopped) -> Option<String>) -> Judgement {
    settle(|| {
        if before {
            survived(&evidence.cancel)?;
        }
        let Cancelled { reach, stopped, .. } = evidence.cancelled()?;
        match reach {
            Reach::Whole => {}
            Reach::Stub => return Ok(Judgement::Skip("it is a stub".to_owned())),
            Reach::Dry(why) => return Ok(Judgement::Skip(why)),
        }
        let mine: Vec<&Stopped> = stopped.iter().filter(|one| one.before == before).collect();
        if mine.is_empty() {
            whole(evidence)?;
            let why = if before { "none of its steps came so far" } else { "see `cancel-before`" };
            return Ok(Judgement::Skip(why.to_owned()));
        }
        let problems: Vec<String> = mine.iter().filter_map(|one| judge(one)).collect();
        let steps: Vec<String> = mine
            .iter()
            .map(|one| match one.after {
                Some(after) => format!("{} after {after} ms", one.call.step),
                None => format!("{} was never asked", one.call.step),
            })
            .collect();
        Ok(Judgement::unless(&problems, steps.join(", ")))
    })
}

/// Returns what is wrong: the step stopped too late, or with another error.
fn stop_problem(stopped: &Stopped) -> Option<String> {
    let step = &stopped.call.step;
    if stopped.stuck {
        return Some(format!("`{step}` went on for seconds after it was asked to stop"));
    }
    if stopped.after.is_some_and(|after| after > LIMIT) {
        return Some(format!(
            "`{step}` returned {} ms after it was asked to stop",
            stopped.after.unwrap_or_default()
        ));
    }
    // The check `build` reports a step that failed before it was asked to stop.
    let stop_requested = stopped.before || stopped.after.is_some();
    (stop_requested && stopped.call.failure.is_some() && !stopped.call.is("cancelled"))
        .then(|| format!("asked to stop, {}; expected `cancelled`", stopped.call.ending()))
}

fn ignored_stop(stopped: &Stopped) -> Option<String> {
    let ignored = stopped.call.step == "upload"
        && stopped.call.failure.is_none()
        && stopped.after.is_some()
        && stopped.unread;
    ignored.then(|| "`upload` succeeded although it was asked to stop".to_owned())
}

pub(in crate::conformance) fn before(evidence: &Evidence) -> Judgement {
    with(evidence, true, |stopped| stop_problem(stopped).or_else(|| ignored_stop(stopped)))
}

pub(in crate::conformance) fn during(evidence: &Evidence) -> Judgement {
    with(evidence, false, |stopped| stop_problem(stopped).or_else(|| ignored_stop(stopped)))
}
