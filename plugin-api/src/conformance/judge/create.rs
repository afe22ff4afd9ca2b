//! Judges the handling of invalid instances and documents.

use super::{Judgement, settle, survived, undeclared};
use crate::conformance::{
    evidence::{Call, Failure},
    table::Evidence,
};

/// Returns whether an error names one of these settings.
fn names(failure: &Failure, keys: &[&str]) -> bool {
    keys.iter().any(|key| failure.text.contains(key))
}

pub(in crate::conformance) fn create(evidence: &Evidence) -> Judgement {
    settle(|| {
        survived(&evidence.create)?;
        let created = evidence.created()?;
        let required: Vec<&str> = created.required.iter().map(String::as_str).collect();
        let mut problems = Vec::new();
        if let Some(failure) = &created.bare.failure {
            // Builds that stop before the upload, and `gc`, run without required settings too.
            if required.is_empty() {
                problems.push(format!("with defaults only, {}", created.bare.ending()));
            } else if failure.kind != "config" || !names(failure, &required) {
                problems.push(format!(
                    "without {}, {}; expected a `config` error that names the setting",
                    required.join(", "),
                    created.bare.ending()
                ));
            }
        }
        for call in std::iter::once(&created.plain).chain(&created.check) {
            if call.failure.is_some() && !(required_missing(call, &required)) {
                problems.push(call.ending());
            }
        }
        Ok(Judgement::unless(&problems, format!("in {} ms", created.plain.milliseconds)))
    })
}

/// Returns whether a call failed because a required setting was not given.
fn required_missing(call: &Call, required: &[&str]) -> bool {
    let failure = call.failure.as_ref();
    failure.is_some_and(|failure| failure.kind == "config" && names(failure, required))
}

pub(in crate::conformance) fn junk(evidence: &Evidence) -> Judgement {
    settle(|| {
        survived(&evidence.shapes)?;
        let (created, shaped) = (evidence.created()?, evidence.shaped()?);
        if shaped.is_empty() {
            return Ok(Judgement::Skip(undeclared("entry of `settings` that is not `secret`")));
        }
        let mut problems = Vec::new();
        for (key, call) in &shaped {
            let Some(failure) = &call.failure else { continue };
            let other = created.plain.failure.as_ref().map(|plain| &plain.text);
            if other == Some(&failure.text) {
                continue;
            }
            if failure.kind != "config" || !names(failure, &[key]) {
                problems.push(format!(
                    "{key} with a value of another shape: {}; expected a `config` error that names it",
                    call.ending()
                ));
            }
        }
        Ok(Judgement::unless(&problems, format!("{} settings tried", shaped.len())))
    })
}

pub(in crate::conformance) fn later(evidence: &Evidence) -> Judgement {
    settle(|| {
        survived(&evidence.later)?;
        let (created, later) = (evidence.created()?, evidence.later()?);
        let comparable = |call: Option<&Call>| call.is_some_and(|call| call.failure.is_none());
        let with_request = later.request.is_some() && comparable(created.check.as_ref());
        if !comparable(Some(&created.plain)) && !with_request {
            return Ok(Judgement::Skip("it makes no instance without settings".to_owned()));
        }
        let mut problems = Vec::new();
        if created.plain.failure.is_none() && later.setting.failure.is_some() {
            problems.push(format!("with an unknown setting, {}", later.setting.ending()));
        }
        if let (Some(plain), Some(later)) = (&created.check, &later.request)
            && plain.failure.is_none()
            && later.failure.is_some()
        {
            problems.push(format!("with unknown members, {}", later.ending()));
        }
        Ok(Judgement::unless(&problems, "ignored"))
    })
}

pub(in crate::conformance) fn malformed(evidence: &Evidence) -> Judgement {
    settle(|| {
        survived(&evidence.malformed)?;
        let tried = evidence.malformed()?;
        if tried.calls.is_empty() {
            return Ok(Judgement::Skip("documents cannot be written by hand here".to_owned()));
        }
        let mut problems = Vec::new();
        for (call, has_known_code) in &tried.calls {
            match &call.failure {
                None if tried.lenient => {}
                None => problems.push(format!("`{}` took a malformed document", call.step)),
                Some(failure) if failure.kind == "panic" => problems.push(call.ending()),
                Some(failure) if failure.message.trim().is_empty() => {
                    problems.push(format!("`{}` refused it without a word", call.step));
                }
                Some(_) if !has_known_code => {
                    problems.push(format!("`{}` refused it with an unknown code", call.step));
                }
                Some(_) => {}
            }
        }
        Ok(Judgement::unless(&problems, format!("{} documents tried", tried.calls.len())))
    })
}

pub(in crate::conformance) fn cycles(evidence: &Evidence) -> Judgement {
    settle(|| {
        survived(&evidence.cycles)?;
        let cycled = evidence.cycled()?;
        let growth = cycled.growth.iter();
        let problems: Vec<String> = growth
            .map(|growth| format!("after {} instances there are {growth}", cycled.cycles))
            .collect();
        Ok(Judgement::unless(&problems, format!("{} instances", cycled.cycles)))
    })
}
