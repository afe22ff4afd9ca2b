//! Defines the states of a build. This table is the only place that knows their order: the pipeline walks it,
//! undo, resume, `runs`, `gc`, `plan` and the progress events read it.
//!
//! A state is reached when the journal says so, durably, before the next step begins. A build of today has one
//! target; inputs (`planned` to `installed`) have one state for all targets, the rest is the target's.

use serde::Serialize;

use crate::journal::Entry;

/// How far a build is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The run has a journal.
    #[default]
    Planned,
    /// The provider accepts credentials, names and limits.
    Checked,
    /// The inputs are on this machine, verified and unpacked.
    Fetched,
    /// The installer has filled the raw disk.
    Installed,
    /// The disk has the form the target takes.
    Converted,
    /// The image is at its target, under names that belong to this run.
    Uploaded,
    /// The target knows the image under its final name.
    Registered,
    /// Checksums, signature and provenance statement are written.
    Attested,
    /// The image is the user's. What follows is finished, never undone.
    Released,
    /// The registry of the user's choice knows the image.
    Notified,
}

/// What becomes of a build that ends between a state and the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// Everything the run created is removed, in reverse order; what it moved aside gets its name back.
    Remove,
    /// What is left to do is done: published files get their names, intermediates and a replaced image go.
    Finish,
}

/// How a later process of the same run enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The step runs again.
    Repeat,
    /// The step runs again and takes up what its earlier attempt left: the provider's checkpoints, a disk that is
    /// unchanged.
    TakeUp,
    /// The result is in the journal; the step does not run again.
    Keep,
}

/// Where the result of a build goes; decides which states it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Uploaded to a cloud and registered there.
    Cloud,
    /// A package for a cloud in IMAGE_DIR (`--no-upload`).
    Package,
    /// A file that the provider writes into IMAGE_DIR.
    Local,
}

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// The state.
    pub state: State,
    /// The step that leads to it, as journal, progress events and results name it.
    pub step: &'static str,
    /// What exists when it is reached, beside what existed before.
    pub exists: &'static str,
    /// What becomes of a build that ends before the next state.
    pub undo: Undo,
    /// How a later process of the run enters when the state was reached.
    pub entrance: Entrance,
    /// Whether Ctrl-C ends the step that leads to it.
    pub cancellable: bool,
    /// Which builds pass it.
    pub flows: &'static [Flow],
}

/// The step in which a failed build is undone. What it did not record may have been removed or renamed.
pub(super) const CLEANUP: &str = "cleanup";

const ALL: &[Flow] = &[Flow::Cloud, Flow::Package, Flow::Local];
const WITH_IMAGE: &[Flow] = &[Flow::Cloud, Flow::Local];

/// All states in their order.
pub static TABLE: [Row; 10] = [
    row(State::Planned, "plan", "the run's directory with its journal", Entrance::Repeat, ALL),
    row(State::Checked, "check", "nothing new", Entrance::Repeat, ALL),
    row(State::Fetched, "fetch", "downloads, which outlive the run", Entrance::Repeat, ALL),
    row(State::Installed, "install", "the raw disk below ARTIFACTS_DIR", Entrance::TakeUp, ALL),
    row(
        State::Converted,
        "disk",
        "an image in the run's directory, a package in its staging directory",
        Entrance::Repeat,
        ALL,
    ),
    row(
        State::Uploaded,
        "upload",
        "intermediates at the target, or a file in the staging directory",
        Entrance::TakeUp,
        WITH_IMAGE,
    ),
    row(
        State::Registered,
        "register",
        "the image; one it replaces has another name",
        Entrance::Keep,
        WITH_IMAGE,
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
        ..row(State::Notified, "notify", "nothing new", Entrance::Keep, &[Flow::Cloud])
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

/// Part of the step to [`State::Converted`], in builds that write a package for IMAGE_DIR: the journal has a line of
/// its own for it, with the file.
pub const PUBLISH: &str = "publish";

impl State {
    /// Its row.
    #[must_use]
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The step that leads to it.
    #[must_use]
    pub fn step(self) -> &'static str {
        self.row().step
    }

    /// Whether journal lines say that it was reached. What only stays as it is, such as a registered image with its
    /// name, does not count any more once undoing it began.
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

    /// The last state that journal lines say was reached.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Self {
        let reached = TABLE.iter().rev().find(|row| row.state.is_reached(entries));
        reached.map(|row| row.state).unwrap_or_default()
    }
}

impl Flow {
    /// The states a build passes; `installs` when an ISO is installed.
    pub fn states(self, installs: bool) -> impl Iterator<Item = &'static Row> {
        let passes = move |row: &&Row| {
            row.flows.contains(&self) && (installs || row.state != State::Installed)
        };
        TABLE.iter().filter(passes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_finds_its_row_and_only_what_follows_a_release_is_finished() {
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
            (Flow::Package, "plan check fetch disk attest release"),
            (Flow::Local, "plan check fetch disk upload register attest release"),
        ] {
            assert_eq!(steps(flow, false), expected);
            assert_eq!(steps(flow, true), expected.replace("fetch", "fetch install"));
        }
    }

    #[test]
    fn the_journal_tells_how_far_a_build_is() {
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
