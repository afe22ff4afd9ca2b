//! Runs the probes of a provider, one per process. Probes observe; the table judges.

pub(super) mod build;
mod cancel;
mod create;
mod describe;
pub(super) mod lab;
pub(super) mod sight;
mod undo;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use self::describe::LIMIT as DESCRIPTION_LIMIT;
use self::lab::Lab;
use super::{
    child::{Job, Noise},
    evidence::Answer,
    faults::{Fault, Proxies},
    subject::Ways,
    surroundings::{Footprint, Surroundings},
};

/// The probes, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Probe {
    /// Loads the provider and calls `describe` repeatedly.
    Describe,
    /// Creates instances from valid settings and calls `check`.
    Create,
    /// Creates instances from invalid settings.
    Shapes,
    /// Sends settings and members of a later version.
    Later,
    /// Sends malformed documents.
    Malformed,
    /// Creates and drops instances a thousand times.
    Cycles,
    /// Runs a whole build.
    Build,
    /// Runs two builds concurrently.
    Concurrent,
    /// Asks steps to stop.
    Cancel,
    /// Fails builds at points where undo is difficult.
    Undo,
    /// Calls the optional steps.
    Optional,
    /// Runs builds while requests are disturbed.
    Fault(Fault),
}

impl Probe {
    /// All probes.
    pub(super) const ALL: [Self; 11 + Fault::ALL.len()] = {
        let mut all = [Self::Describe; 11 + Fault::ALL.len()];
        let local = [
            Self::Describe,
            Self::Create,
            Self::Shapes,
            Self::Later,
            Self::Malformed,
            Self::Cycles,
            Self::Build,
            Self::Concurrent,
            Self::Cancel,
            Self::Undo,
            Self::Optional,
        ];
        let mut at = 0;
        while at < all.len() {
            all[at] = if at < local.len() {
                local[at]
            } else {
                Self::Fault(Fault::ALL[at - local.len()])
            };
            at += 1;
        }
        all
    };

    /// Returns the probes without whose observations this one is not run.
    pub(super) const fn follows(self) -> &'static [Self] {
        match self {
            Self::Describe => &[],
            Self::Create => &[Self::Describe],
            Self::Shapes | Self::Later | Self::Malformed | Self::Cycles | Self::Build => {
                &[Self::Describe, Self::Create]
            }
            Self::Concurrent | Self::Cancel | Self::Undo | Self::Optional | Self::Fault(_) => {
                &[Self::Describe, Self::Create, Self::Build]
            }
        }
    }

    /// Describes what it does, for people who wait for it.
    pub(super) const fn activity(self) -> &'static str {
        match self {
            Self::Describe => "load and describe",
            Self::Create => "create and check",
            Self::Shapes => "settings of another shape",
            Self::Later => "settings and members of later versions",
            Self::Malformed => "malformed documents",
            Self::Cycles => "many instances",
            Self::Build => "a whole build",
            Self::Concurrent => "two instances at once",
            Self::Cancel => "steps that are asked to stop",
            Self::Undo => "undo of failed builds",
            Self::Optional => "optional steps",
            Self::Fault(fault) => fault.check(),
        }
    }

    /// Returns the id of the check that fails when the probe does not answer.
    pub(super) fn check(self) -> &'static str {
        match self {
            Self::Describe => "loads",
            Self::Create => "create",
            Self::Shapes => "shapes",
            Self::Later => "later",
            Self::Malformed => "malformed",
            Self::Cycles => "cycles",
            Self::Build => "build",
            Self::Concurrent => "concurrent",
            Self::Cancel => "cancel-before",
            Self::Undo => "taken",
            Self::Optional => "undeclared",
            Self::Fault(fault) => fault.check(),
        }
    }

    /// Returns whether none of its calls may use a cloud.
    pub(super) fn is_local(self) -> bool {
        use Probe::{Create, Cycles, Describe, Later, Malformed, Shapes};
        matches!(self, Describe | Create | Shapes | Later | Malformed | Cycles)
    }
}

/// Runs a job in this process and writes its answer.
pub(super) fn perform(job: &Job, ways: Ways) {
    let (noise, surroundings) = (Noise::listen(), Surroundings::now());
    let before = Footprint::now();
    job.begins("load", "");
    let subject = match (ways.open)(&job.file) {
        Ok(subject) => subject,
        Err(refusal) => return job.refuse(&refusal.message, refusal.hint.as_deref()),
    };
    let mut job = job.clone();
    let proxies = match job.probe {
        Probe::Fault(_) => Proxies::start(&job.faults),
        _ => Proxies::start(&[]),
    };
    let proxies = match proxies {
        Ok(proxies) => proxies,
        Err(error) => return job.refuse(&format!("`--faults`: {error}"), None),
    };
    for (key, value) in &proxies.settings {
        job.settings.insert(key.clone(), Value::from(value.as_str()));
    }
    let lab = Lab::new(subject, &job, ways);
    let seen = match job.probe {
        Probe::Describe => document(&describe::probe(&lab, before)),
        Probe::Create => document(&create::probe(&lab)),
        Probe::Shapes => document(&create::shapes(&lab)),
        Probe::Later => document(&create::later(&lab)),
        Probe::Malformed => document(&create::malformed(&lab)),
        Probe::Cycles => document(&create::cycles(&lab)),
        Probe::Build => document(&build::probe(&lab)),
        Probe::Concurrent => document(&build::concurrent(&lab)),
        Probe::Cancel => document(&cancel::probe(&lab)),
        Probe::Undo => document(&undo::probe(&lab)),
        Probe::Optional => document(&super::optional::probe(&lab)),
        Probe::Fault(fault) => document(&super::faults::probe(&lab, &proxies, fault)),
    };
    let (panics, secrets, leaks) = (lab.panics(), lab.searched().len(), lab.leaks(&seen));
    job.answer(&Answer {
        seen,
        unlisted: lab.unlisted(),
        noise: noise.output(),
        changes: surroundings.changes(),
        panics,
        secrets,
        leaks,
    });
}

fn document(seen: &impl Serialize) -> Value {
    serde_json::to_value(seen).unwrap_or_default()
}
