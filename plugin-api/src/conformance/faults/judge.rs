//! Judges builds that were disturbed: each makes exactly what an undisturbed build makes, or fails with an error that
//! describes it and leaves nothing that is not listed.

use super::{
    probe::{Disturbed, Trial},
    script::Fault,
};
use crate::conformance::{
    evidence::Reach,
    judge::{Judgement, listed, settle, survived},
    table::Evidence,
};

/// Kinds of errors that a fault of the network does not justify.
const UNJUSTIFIED: [&str; 3] = ["panic", "internal", "cancelled"];
/// What is needed to observe the server.
const BLIND: &str = "builds ended as they may, but nothing that they made can be seen from here: `--inventory COMMAND` must list what the test cloud contains, or declare `inventory`";

pub(super) fn judge(evidence: &Evidence, fault: Fault) -> Judgement {
    settle(|| {
        let ended = evidence.faults.get(fault.check());
        ended.map_or(Ok(()), survived)?;
        let seen: Disturbed = evidence.disturbed(fault)?;
        ended.map_or(Ok(()), listed)?;
        match &seen.reach {
            Reach::Whole => {}
            Reach::Stub => return Ok(Judgement::Skip("it is a stub".to_owned())),
            Reach::Dry(why) => return Ok(Judgement::Skip(why.clone())),
        }
        if let Some(obstacle) = obstacle(&seen) {
            return Ok(Judgement::fail(obstacle));
        }
        let struck = seen.trials.iter().filter(|trial| trial.struck > 0);
        let struck: Vec<&Trial> = struck.collect();
        if struck.is_empty() {
            let why = match fault {
                Fault::Expired => "no request has a header with a credential",
                _ => "no request was struck",
            };
            return Ok(Judgement::Skip(why.to_owned()));
        }
        let problems: Vec<String> =
            struck.iter().flat_map(|trial| problems(trial, &seen.control)).collect();
        if problems.is_empty() && seen.control.made.is_empty() {
            return Ok(Judgement::Skip(BLIND.to_owned()));
        }
        Ok(Judgement::unless(&problems, summary(&struck)))
    })
}

/// Returns whether the requests of an undisturbed build contained the tag of the suite; `None` when they were not seen.
pub(in crate::conformance) fn tagged(evidence: &Evidence) -> Option<bool> {
    let seen = evidence.disturbed(Fault::Throttled).ok()?;
    let is_whole = seen.reach == Reach::Whole && obstacle(&seen).is_none();
    is_whole.then_some(seen.control.tagged)
}

/// Returns why the builds show nothing.
fn obstacle(seen: &Disturbed) -> Option<String> {
    let Trial { failure, broken, requests, left, .. } = &seen.control;
    let settings = seen.settings.join(", ");
    if let Some(broken) = broken.first() {
        return Some(format!("the server behind {settings} did not answer {broken}"));
    }
    if let Some(failure) = failure {
        return Some(format!("through the proxy, without a fault: {}", failure.text));
    }
    if *requests == 0 {
        return Some(format!("no request came through the proxy: the provider ignores {settings}"));
    }
    let left = left.first()?;
    Some(format!("through the proxy, without a fault, a discarded build left {left}"))
}

/// Returns what is wrong with the end of a build.
fn problems(trial: &Trial, control: &Trial) -> Vec<String> {
    let at = match trial.at.as_str() {
        "" => String::new(),
        at => format!("at `{at}`: "),
    };
    let mut problems = Vec::new();
    match &trial.failure {
        Some(failure) if UNJUSTIFIED.contains(&failure.kind.as_str()) => {
            problems.push(format!("{at}{}", failure.text));
        }
        Some(_) => {}
        None if trial.images != control.images => problems.push(format!(
            "{at}the build registered {} images instead of {}",
            trial.images, control.images
        )),
        None if trial.made.len() != control.made.len() => problems.push(format!(
            "{at}the build succeeded and made {} things instead of {}: {}",
            trial.made.len(),
            control.made.len(),
            trial.made.join(", ")
        )),
        None => {}
    }
    if trial.left_count > trial.remaining.len() {
        problems.push(format!(
            "{at}a discarded build left {}; listed as remaining: {}",
            trial.left.join(", "),
            if trial.remaining.is_empty() {
                "nothing".to_owned()
            } else {
                trial.remaining.join(", ")
            }
        ));
    }
    problems.extend(trial.early.iter().map(|early| format!("it repeated {early}")));
    problems
}

/// Describes how the builds ended.
fn summary(trials: &[&Trial]) -> String {
    let failures = trials.iter().filter_map(|trial| trial.failure.as_ref());
    let failures: Vec<&str> = failures.map(|failure| failure.text.as_str()).collect();
    let succeeded = trials.len() - failures.len();
    let mut text = format!("{succeeded} of {} builds succeeded", trials.len());
    let listed: Vec<&str> = trials
        .iter()
        .filter(|trial| trial.failure.is_some())
        .flat_map(|trial| trial.remaining.iter().map(String::as_str))
        .collect();
    if let Some(first) = failures.first() {
        let left = match listed.as_slice() {
            [] => "nothing".to_owned(),
            labels => format!("only what is listed ({})", labels.join(", ")),
        };
        text.push_str(&format!(", the others left {left}; the first: {first}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::probe::Failed, *};

    #[test]
    fn a_disturbed_build_makes_the_same_or_fails_and_leaves_nothing() {
        let text = |text: &str| vec![text.to_owned()];
        let control = Trial { images: 1, made: text("an image"), ..Trial::default() };
        let failed = |kind: &str| {
            let failed = Failed { kind: kind.to_owned(), text: "`upload` failed".to_owned() };
            Trial { failure: Some(failed), ..Trial::default() }
        };
        let two = vec!["an image".to_owned(), "another".to_owned()];
        for (trial, expected) in [
            (control.clone(), &[][..]),
            (failed("network"), &[]),
            (failed(""), &[]),
            (
                Trial { left: text("x"), left_count: 1, remaining: text("x"), ..failed("network") },
                &[],
            ),
            (failed("internal"), &["`upload` failed"]),
            (Trial { made: two.clone(), ..control.clone() }, &["made 2 things instead of 1"]),
            (Trial { images: 0, ..control.clone() }, &["registered 0 images instead of 1"]),
            (
                Trial { left: text("x"), left_count: 1, ..failed("network") },
                &["left x; listed as remaining: nothing"],
            ),
            (
                Trial { early: text("`PUT` 900 ms too early"), ..control.clone() },
                &["repeated `PUT`"],
            ),
        ] {
            let found = problems(&trial, &control);
            assert_eq!(found.len(), expected.len(), "{trial:?}: {found:?}");
            assert!(found.iter().zip(expected).all(|(found, text)| found.contains(text)));
        }
    }
}
