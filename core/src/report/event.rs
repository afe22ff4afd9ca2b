//! Formats progress as JSON documents, one per line, for programs that watch a build.

use build_image_plugin_api::{Progress, ProgressUnit};
use serde::Serialize;

use super::{Failure, Leftover};

/// An event. `docs/progress.md` describes every member; members are only ever added.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    /// A step begins.
    StepBegun { step: &'a str, text: &'a str },
    /// Progress of the step.
    Progress { step: &'a str, done: u64, total: u64, unit: &'static str },
    /// The step is still running.
    Alive { step: &'a str, text: &'a str },
    /// A part of the step is done, or another event worth reporting.
    Note { text: &'a str },
    /// A warning.
    Warning {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<&'a str>,
    },
    /// The step is done.
    StepDone { step: &'a str, seconds: f64, text: &'a str },
    /// The build failed.
    Error {
        #[serde(flatten)]
        failure: &'a Failure,
    },
    /// A resource that could not be removed.
    LeftBehind {
        #[serde(flatten)]
        leftover: &'a Leftover,
    },
    /// The build has ended; the last line.
    Finished { result: &'a str, exit_code: u8, image_ids: &'a [String] },
}

#[derive(Serialize)]
struct Line<'a> {
    /// UTC, RFC 3339.
    time: String,
    /// The target, if the build has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

impl<'a> Event<'a> {
    pub(super) fn progress(step: &'a str, all: Progress) -> Self {
        let unit = match all.unit {
            ProgressUnit::Bytes => "bytes",
            ProgressUnit::Percent => "percent",
            _ => "items",
        };
        Self::Progress { step, done: all.done, total: all.total, unit }
    }

    /// The line, without its line end.
    pub(super) fn line(&self, target: Option<&str>) -> String {
        let line = Line { time: crate::clock::now(), target, event: self };
        serde_json::to_string(&line).unwrap_or_default()
    }
}
