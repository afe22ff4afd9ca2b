//! Defines the states of a build. This table is the only definition of their order: the pipeline, undo, resume,
//! `runs`, `gc`, `plan` and the progress events read it.
//!
//! A state is reached when the journal has recorded it durably, before the next step begins. A build currently has
//! one target; inputs (`planned` to `installed`) have one state for all targets, the other states belong to the
//! target.

use build_image_plugin_api::{Step, document::Purpose};
use serde::Serialize;

use crate::journal::Entry;

/// The state of a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The run has a journal.
    #[default]
    Planned,
    /// The provider accepts credentials, names and limits.
    Checked,
    /// The inputs are on this machine, verified and unpacked; an object at the target was found.
    Fetched,
    /// The installer has filled the raw disk.
    Installed,
    /// The disk has the image format of the target.
    Converted,
    /// The image is at its target, under names that belong to this run.
    Uploaded,
    /// The target knows the image under its final name.
    Registered,
    /// Checksums, signature and provenance statement are written.
    Attested,
    /// The image belongs to the user. What follows is finished, never undone.
    Released,
    /// The user's registry knows the image.
    Notified,
}

/// What a failure between a state and the next one leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// Everything the run created is removed, in reverse order; anything it moved aside gets its name back.
    Remove,
    /// The remaining steps are finished: published files are given their names, intermediates and a replaced image
    /// are removed.
    Finish,
}

/// How a later process of the same run enters a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The step runs again.
    Repeat,
    /// The step runs again and reuses what its earlier attempt left: the provider's checkpoints, a disk that is
    /// unchanged.
    TakeUp,
    /// The result is in the journal; the step does not run again.
    Keep,
}

/// The destination of a build's result; decides which states the build passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Uploaded to a cloud and registered there.
    Cloud,
    /// Uploaded to a cloud, for a later registration (`build-image upload`).
    Upload,
    /// Registered from an object that is in the cloud already (`build-image register`).
    Register,
    /// A package for a cloud in IMAGE_DIR (`--no-upload`).
    Package,
    /// A file that the provider writes into IMAGE_DIR.
    Local,
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    /// The state.
    pub state: State,
    /// The step that leads to it; its name in the journal, progress events and results.
    pub step: &'static str,
    /// What exists when it is reached, in addition to what existed before.
    pub exists: &'static str,
    /// The effect of a failure before the next state.
    pub undo: Undo,
    /// How a later process of the run enters if the state was reached.
    pub entrance: Entrance,
    /// Whether Ctrl-C ends the step that leads to it.
    pub cancellable: bool,
    /// The builds that pass it.
    pub flows: &'static [Flow],
}

/// The step in which a failed build is undone. Resources that it did not record may have been removed or renamed.
pub(super) const CLEANUP: &str = "cleanup";

const ALL: &[Flow] = &[Flow::Cloud, Flow::Upload, Flow::Register, Flow::Package, Flow::Local];
const WITH_DISK: &[Flow] = &[Flow::Cloud, Flow::Upload, Flow::Package, Flow::Local];
const UPLOADING: &[Flow] = &[Flow::Cloud, Flow::Upload, Flow::Local];
const REGISTERING: &[Flow] = &[Flow::Cloud, Flow::Register, Flow::Local];

/// All states in their order.
pub static TABLE: [Row; 10] = [
    row(State::Planned, "plan", "the run's directory with its journal", Entrance::Repeat, ALL),
    row(State::Checked, Step::Check.name(), "nothing new", Entrance::Repeat, ALL),
    row(State::Fetched, "fetch", "downloads, which outlive the run", Entrance::Repeat, ALL),
    row(
        State::Installed,
        "install",
        "the raw disk below ARTIFACTS_DIR",
        Entrance::TakeUp,
        WITH_DISK,
    ),
    row(
        State::Converted,
        "disk",
        "an image in the run's directory, a package in its staging directory",
        Entrance::Repeat,
        WITH_DISK,
    ),
    row(
        State::Uploaded,
        Step::Upload.name(),
        "intermediates at the target, or a file in the staging directory",
        Entrance::TakeUp,
        UPLOADING,
    ),
    row(
        State::Registered,
        Step::Register.name(),
        "the image; one it replaces has another name",
        Entrance::Keep,
        REGISTERING,
    ),
    row(
        State::Attested,
        "attest",
        "checksums and signature in the staging directory, PROVENANCE_FILE",
        Entrance::Keep,
        ALL,
    ),
    Row {
        undo: Undo::Finish,
        cancellable: false,
        ..row(State::Released, "release", "the published files", Entrance::Keep, ALL)
    },
    Row {
        undo: Undo::Finish,
        ..row(
            State::Notified,
            "notify",
            "nothing new",
            Entrance::Keep,
            &[Flow::Cloud, Flow::Register],
        )
    },
];

const fn row(
    state: State,
    step: &'static str,
    exists: &'static str,
    entrance: Entrance,
    flows: &'static [Flow],
) -> Row {
    Row { state, step, exists, undo: Undo::Remove, entrance, cancellable: true, flows }
}

/// Part of the step to [`State::Converted`], in builds that write a package for IMAGE_DIR: the journal has a separate
/// line for it, with the file.
pub const PUBLISH: &str = "publish";

/// Returns the name of a step for people: files of this machine are not uploaded, and are published when everything
/// is done.
pub(super) fn label(step: &str, flow: Flow) -> Option<&str> {
    Some(match (step, flow) {
        ("disk", _) => "prepare",
        ("upload", Flow::Local) => "write",
        ("register", Flow::Local) => return None,
        ("attest", Flow::Local) => "checksums",
        _ => step,
    })
}

impl State {
    /// Returns its row.
    #[must_use]
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Returns the step that leads to it.
    #[must_use]
    pub fn step(self) -> &'static str {
        self.row().step
    }

    /// Returns whether journal entries record that it was reached. A result that is kept, such as a registered image
    /// with its name, no longer counts once its undo has started.
    #[must_use]
    pub fn is_reached(self, entries: &[Entry]) -> bool {
        let may_be_undone = self.row().entrance == Entrance::Keep && self < Self::Released;
        let undone = entries
            .iter()
            .rposition(|entry| matches!(entry, Entry::StepStarted { step } if step == CLEANUP));
        let first = undone.filter(|_| may_be_undone).unwrap_or_default();
        entries.iter().skip(first).any(|entry| match (self, entry) {
            (Self::Planned, Entry::RunStarted { .. })
            | (Self::Released, Entry::ProductsReleased { .. }) => true,
            (_, Entry::StepDone { step, .. }) => step == self.step(),
            _ => false,
        })
    }

    /// Returns the last state that journal entries record as reached.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Self {
        let reached = TABLE.iter().rev().find(|row| row.state.is_reached(entries));
        reached.map(|row| row.state).unwrap_or_default()
    }
}

impl Flow {
    /// Returns the states a build passes; `installs` when an ISO is installed.
    pub fn states(self, installs: bool) -> impl Iterator<Item = &'static Row> {
        let passes = move |row: &&Row| {
            row.flows.contains(&self) && (installs || row.state != State::Installed)
        };
        TABLE.iter().filter(passes)
    }

    /// Returns whether a build passes a state.
    #[must_use]
    pub fn passes(self, state: State) -> bool {
        state.row().flows.contains(&self)
    }

    /// Returns the state whose result is what the build makes in the cloud, if it makes something there.
    #[must_use]
    pub fn made_in_cloud(self) -> Option<State> {
        match self {
            Self::Cloud | Self::Register => Some(State::Registered),
            // The last one before the release that is not repeated.
            Self::Upload => Some(State::Attested),
            Self::Package | Self::Local => None,
        }
    }

    /// Returns what the provider is asked to do.
    #[must_use]
    pub fn purpose(self) -> Purpose {
        match self {
            Self::Upload => Purpose::Upload,
            Self::Register => Purpose::Register,
            Self::Cloud | Self::Package | Self::Local => Purpose::Build,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_finds_its_row_and_only_states_after_a_release_are_finished() {
        for (number, row) in TABLE.iter().enumerate() {
            assert_eq!(row.state as usize, number);
            assert!(std::ptr::eq(row.state.row(), row));
            assert_eq!(row.undo == Undo::Finish, row.state >= State::Released, "{row:?}");
        }
    }

    #[test]
    fn each_flow_has_its_states() {
        let steps = |flow: Flow, installs| {
            flow.states(installs).map(|row| row.step).collect::<Vec<_>>().join(" ")
        };
        for (flow, expected) in [
            (Flow::Cloud, "plan check fetch disk upload register attest release notify"),
            (Flow::Upload, "plan check fetch disk upload attest release"),
            (Flow::Package, "plan check fetch disk attest release"),
            (Flow::Local, "plan check fetch disk upload register attest release"),
        ] {
            assert_eq!(steps(flow, false), expected);
            assert_eq!(steps(flow, true), expected.replace("fetch", "fetch install"));
        }
        let registers = "plan check fetch register attest release notify";
        assert_eq!(steps(Flow::Register, false), registers);
    }

    #[test]
    fn the_state_of_a_build_follows_from_its_journal() {
        let done = |step: &str| Entry::StepDone { step: step.to_owned(), facts: 1.into() };
        let mut entries = Vec::new();
        assert_eq!(State::of(&entries), State::Planned);
        entries.extend([done("check"), done("disk"), done("upload")]);
        assert_eq!(State::of(&entries), State::Uploaded);
        entries.push(Entry::ProductsReleased { files: Vec::new() });
        assert_eq!(State::of(&entries), State::Released);
        assert!(!State::Attested.is_reached(&entries));
        assert!(State::Planned < State::Notified);
    }

    #[test]
    fn an_image_that_may_have_been_undone_is_registered_again() {
        let done = |step: &str| Entry::StepDone { step: step.to_owned(), facts: 1.into() };
        let mut entries = vec![done("upload"), done("register"), done("attest")];
        entries.push(Entry::StepStarted { step: CLEANUP.to_owned() });
        assert_eq!(State::of(&entries), State::Uploaded);
        entries.push(done("register"));
        assert_eq!(State::of(&entries), State::Registered);
    }
}
