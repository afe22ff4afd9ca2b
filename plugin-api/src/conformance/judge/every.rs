//! Judges what no probe may have observed.

use super::{Judgement, description, undeclared};
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
    let judgement = every(evidence, |answer| &answer.leaks, "none was seen");
    let searched = evidence.all().into_iter().any(|ended| match ended {
        Ended::Answered(answer) => answer.secrets > 0,
        _ => false,
    });
    if searched || !matches!(judgement, Judgement::Pass(_)) {
        return judgement;
    }
    Judgement::Skip(match description(evidence) {
        Ok(description) if description.settings.iter().any(|row| row.secret) => {
            "no secret setting has a value that is long enough to be searched for".to_owned()
        }
        _ => undeclared("entry of `settings` with `secret`"),
    })
}

pub(in crate::conformance) fn process(evidence: &Evidence) -> Judgement {
    every(evidence, |answer| &answer.changes, "unchanged")
}
