//! Judges what no probe may have observed.

use super::Judgement;
use crate::conformance::{
    evidence::{Answer, Ended},
    table::Evidence,
};

fn every(evidence: &Evidence, what: fn(&Answer) -> &Vec<String>, detail: &str) -> Judgement {
    let mut problems = Vec::new();
    let mut answered = 0;
    for ended in evidence.all() {
        if let Ended::Answered(answer) = ended {
            answered += 1;
            problems.extend(what(answer).clone());
        }
    }
    if answered == 0 {
        return Judgement::Skip("see `loads`".to_owned());
    }
    problems.dedup();
    Judgement::unless(&problems, detail)
}

pub(in crate::conformance) fn panics(evidence: &Evidence) -> Judgement {
    every(evidence, |answer| &answer.panics, "none")
}

pub(in crate::conformance) fn output(evidence: &Evidence) -> Judgement {
    every(evidence, |answer| &answer.noise, "silent")
}

pub(in crate::conformance) fn secrets(evidence: &Evidence) -> Judgement {
    every(evidence, |answer| &answer.leaks, "none was seen")
}

pub(in crate::conformance) fn process(evidence: &Evidence) -> Judgement {
    every(evidence, |answer| &answer.changes, "unchanged")
}
