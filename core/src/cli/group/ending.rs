//! Reports a build with several targets: summary, result document, exit code.

use serde_json::{Value, json};

use crate::{
    cli::output::Output,
    error::{Error, Result, Stage},
    exit,
    pipeline::Preparations,
    report::{Failure, GroupOutcome, Outcome, has_image},
};

/// A target whose run has ended, in this process or an earlier one.
pub(super) struct Ended {
    pub(super) name: String,
    pub(super) code: u8,
    /// Identifier of the run.
    pub(super) run: Option<String>,
    /// The result of this process; absent when an earlier one finished the target.
    pub(super) outcome: Option<Outcome>,
    /// Its section of the result document.
    pub(super) document: Value,
}

impl Ended {
    /// Creates the end of a target whose thread panicked.
    pub(super) fn panicked(name: String) -> Self {
        let document = json!({"result": "FAILURE", "exit_code": exit::BUG});
        Self { name, code: exit::BUG, run: None, outcome: None, document }
    }
}

/// What is known of a build.
pub(super) struct Report {
    outcome: GroupOutcome,
    pub(super) ended: Vec<Ended>,
    pub(super) prepared: Preparations,
    /// The error of the first target that failed.
    pub(super) first: Option<Error>,
    /// Whether a signal interrupted the build.
    pub(super) has_signal: bool,
    /// Whether the build can be resumed.
    pub(super) is_kept: bool,
}

impl Report {
    pub(super) fn new() -> Self {
        let outcome = GroupOutcome {
            version: GroupOutcome::VERSION,
            start_time: crate::clock::now(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..GroupOutcome::default()
        };
        Self {
            outcome,
            ended: Vec::new(),
            prepared: Preparations::default(),
            first: None,
            has_signal: false,
            is_kept: false,
        }
    }

    pub(super) fn begin(&mut self, id: &str, log_file: &str) {
        id.clone_into(&mut self.outcome.group_id);
        self.outcome.log_file = Some(log_file.to_owned());
    }

    /// Returns the error of the build and its exit code; `None` when all targets are done.
    fn error(&self) -> Option<(Error, u8)> {
        let (done, missing): (Vec<&Ended>, Vec<&Ended>) =
            self.ended.iter().partition(|ended| has_image(ended.code));
        let names = |ended: &[&Ended]| {
            ended.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let late: Vec<&Ended> = done.iter().copied().filter(|one| one.code != exit::DONE).collect();
        if missing.is_empty() && late.is_empty() {
            return None;
        }
        let (error, code) = if self.has_signal && !missing.is_empty() {
            (Error::interrupted(), exit::INTERRUPTED)
        } else if missing.is_empty() {
            let text =
                format!("all targets have their images, a later step failed: {}", names(&late));
            (Error::new(Stage::CleanUp, text), exit::FOLLOW_UP)
        } else if done.is_empty() {
            let text = format!("no target has its image: {}", names(&missing));
            let stage = self.first.as_ref().map_or(Stage::Bug, |first| first.stage);
            let retryable = self.first.as_ref().is_some_and(|first| first.retryable);
            let error = Error { retryable, ..Error::new(stage, text) };
            let code = self.first_code(&missing, error.exit_code());
            (error, code)
        } else {
            let (some, all) = (missing.len(), self.ended.len());
            let text = format!("{some} of {all} targets have no image: {}", names(&missing));
            (Error::new(Stage::Partial, text), exit::PARTIAL)
        };
        let id = &self.outcome.group_id;
        let hint =
            |error: Error| error.hint(format!("build-image resume {id} does what is missing"));
        Some((if self.is_kept { hint(error) } else { error }, code))
    }

    /// Returns the exit code of the first failure. What could not be removed counts more.
    fn first_code(&self, missing: &[&Ended], code: u8) -> u8 {
        let has_leftovers = missing.iter().any(|one| one.code == exit::LEFTOVERS);
        if has_leftovers { exit::LEFTOVERS } else { code }
    }
}

/// Reports a build that has ended; returns the exit code.
pub(super) fn finish(result: Result<Option<String>>, report: Report, output: &Output) -> u8 {
    let error = match result {
        Ok(Some(text)) => {
            crate::cli::print(&text);
            return exit::DONE;
        }
        Ok(None) => report.error(),
        Err(error) => {
            let code = error.exit_code();
            Some((error, code))
        }
    };
    let with_images = report.ended.iter().filter(|ended| has_image(ended.code));
    let targets: Vec<(String, Outcome)> = with_images
        .filter_map(|ended| {
            let earlier = || serde_json::from_value(ended.document.clone()).ok();
            Some((ended.name.clone(), ended.outcome.clone().or_else(earlier)?))
        })
        .collect();
    let mut outcome = report.outcome;
    outcome.end_time = crate::clock::now();
    outcome.exit_code = error.as_ref().map_or(exit::DONE, |(_, code)| *code);
    let done = report.ended.iter().filter(|ended| has_image(ended.code)).count();
    let all = report.ended.len();
    outcome.result = GroupOutcome::word(done, all).to_owned();
    outcome.error = error.as_ref().map(|(error, code)| Failure::of(error, *code));
    outcome.prepared = report.prepared;
    outcome.targets = report.ended.into_iter().map(|one| (one.name, one.document)).collect();
    output.finish_group(error.as_ref(), &mut outcome, &targets)
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::ErrorKind;

    use super::*;

    fn report(codes: &[u8], has_signal: bool) -> Report {
        let ended = |(number, code): (usize, &u8)| Ended {
            name: format!("t{number}"),
            code: *code,
            run: None,
            outcome: None,
            document: Value::Null,
        };
        Report {
            ended: codes.iter().enumerate().map(ended).collect(),
            first: Some(Error::new(Stage::Provider(ErrorKind::Auth), "refused")),
            has_signal,
            ..Report::new()
        }
    }

    #[test]
    fn the_exit_code_says_whether_all_some_or_no_targets_have_images() {
        for (codes, has_signal, expected) in [
            (&[0, 0][..], false, exit::DONE),
            (&[0, 9], false, exit::FOLLOW_UP),
            (&[0, 6], false, exit::PARTIAL),
            (&[9, 6], false, exit::PARTIAL),
            (&[6, 130], false, exit::REFUSED),
            (&[6, 8], false, exit::LEFTOVERS),
            (&[130, 130], true, exit::INTERRUPTED),
            (&[0, 130], true, exit::INTERRUPTED),
            (&[0, 0], true, exit::DONE),
        ] {
            let code = report(codes, has_signal).error().map_or(exit::DONE, |(_, code)| code);
            assert_eq!(code, expected, "{codes:?} {has_signal}");
        }
        assert_eq!(
            [0, 1, 2].map(|done| GroupOutcome::word(done, 2)),
            ["FAILURE", "PARTIAL", "SUCCESS"]
        );
    }

    #[test]
    fn the_error_names_what_is_missing_and_how_to_go_on_if_that_is_possible() {
        let mut report = report(&[0, 6, 7], false);
        let (error, _) = report.error().unwrap();
        assert_eq!(
            (error.message.as_str(), error.hint),
            ("2 of 3 targets have no image: t1, t2", None)
        );
        report.is_kept = true;
        report.outcome.group_id = "group-1".to_owned();
        let (error, _) = report.error().unwrap();
        assert_eq!(error.hint.unwrap(), "build-image resume group-1 does what is missing");
    }
}
