//! Ends a build: undoes or keeps a failed one, finishes a released one, and removes files that are not needed any more.

use std::{path::Path, sync::PoisonError};

use build_image_plugin_api::ready::scripted::shell_quote;

use super::{
    Pipeline,
    state::{Flow, State},
};
use crate::{
    artifacts::{self, Claim},
    error::{Error, Result, Stage},
    journal::Entry,
    publication::SCRIPT,
    report::Outcome,
};

impl Pipeline<'_> {
    /// Removes everything the build created, or keeps it for `resume`.
    pub(super) fn abandon(&self, error: &Error, outcome: &mut Outcome) {
        outcome.images.clear();
        outcome.image_id.clear();
        // A resumed run that was refused before it did anything keeps what it was to continue.
        let untouched = !self.earlier.is_empty() && !self.acted;
        let kept = self.plan.keep_on_failure || untouched || !self.begins_undo(outcome);
        if !kept {
            let is_undone = !self.host.resources().is_empty();
            self.discard(false, outcome);
            self.drop_publication(outcome);
            if is_undone && outcome.leftovers.is_empty() {
                self.reporter.note("  removed  everything that this build created");
            }
        }
        self.write_down(|records| records.ended(outcome, false));
        self.end_journal(error.kind());
        if kept {
            self.note_kept();
        } else {
            self.tidy(false, outcome);
        }
    }

    /// Runs the steps after the release; all of them run, even if one fails.
    pub(super) fn follow(&mut self, outcome: &mut Outcome) -> Result<()> {
        let mut late = std::mem::take(&mut self.late);
        late.extend(self.finish(outcome).err());
        if late.is_empty() && self.plan.flow() == Flow::Package {
            outcome.next = self.next_command(outcome);
        }
        late.extend(not_removed_error(outcome));
        self.interrupt.release();
        late.extend(self.follow_deprecation(!late.is_empty(), outcome).err());
        if self.plan.flow().passes(State::Notified) && !self.was_reached(State::Notified) {
            late.extend(self.notify(outcome).err());
        }
        if late.is_empty()
            && let Some(member) = &self.member
        {
            // Before the run is removed: afterwards only this shows that the target is done.
            late.extend(member.shared.done(&member.name, outcome).err());
        }
        if late.is_empty() {
            late.extend(self.done_once(outcome).err());
        }
        let first = late.into_iter().next();
        self.write_down(|records| records.ended(outcome, true));
        self.end_journal(first.as_ref().map_or("success", Error::kind));
        let Some(error) = first else {
            self.tidy(true, outcome);
            return Ok(());
        };
        self.note_kept();
        Err(error)
    }

    /// Returns the command that continues from files that a build made for a cloud.
    fn next_command(&self, outcome: &Outcome) -> Option<String> {
        let platform = &self.plan.platform;
        if let Some(bundle) = &self.plan.bundle {
            let bundle = shell_quote(&bundle.display().to_string());
            return Some(format!("build-image publish {bundle} -p {platform}"));
        }
        let directory = Path::new(self.plan.build.image_dir.as_deref()?);
        let files = self.host.released_files();
        let script = files.iter().find(|file| file.name.ends_with(SCRIPT));
        let script = script.map(|script| directory.join(&script.name).display().to_string());
        let command = script.map(|script| shell_quote(&script)).or_else(|| {
            let file = shell_quote(outcome.file.as_ref()?);
            Some(format!("build-image --disk {file} -p {platform}{}", self.same_flags()))
        });
        command.map(|command| self.host.shown(&command))
    }

    /// Returns the flags of this build that the command that continues needs too.
    fn same_flags(&self) -> String {
        let plugins = &self.settings.core().plugins;
        let flags = [
            ("-c", &plugins.config_file),
            ("--provider-dir", &plugins.directory),
            ("--provider-file", &plugins.file),
        ];
        let set = flags.into_iter().filter_map(|(flag, path)| {
            let path = path.as_ref()?.display().to_string();
            Some(format!(" {flag} {}", shell_quote(&path)))
        });
        set.collect()
    }

    fn end_journal(&self, result: &str) {
        if let Err(error) = self.host.record(Entry::RunDone { result: result.to_owned() }) {
            self.reporter.warning(&error.message, error.hint.as_deref());
        }
    }

    fn note_kept(&self) {
        let id = &self.plan.build.run_id;
        self.reporter.note(&format!("     kept  continue it with: build-image resume {id}"));
    }

    fn take_claim(&self) -> Option<Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Hands the directory with the installed disk over to the other targets of the build, which may still read it.
    pub(super) fn hand_over(&self) {
        let Some(member) = &self.member else { return };
        let Some(claim) = self.take_claim() else { return };
        let raw = self.recorded_disk().unwrap_or_else(|| self.plan.raw_disk());
        member.shared.take_over(claim, &raw, &self.plan.base, self.plan.keep);
    }

    /// Removes files that are no longer needed.
    fn tidy(&self, built: bool, outcome: &Outcome) {
        let plan = &self.plan;
        let raw = self.recorded_disk().unwrap_or_else(|| plan.raw_disk());
        // Other targets may still read the disk of this one.
        let is_alone = self.member.is_none();
        let claim = is_alone.then(|| self.take_claim()).flatten();
        if let Some(claim) = claim.filter(|_| !plan.keep) {
            if built {
                claim.remove(&plan.base);
            } else {
                // The serial logs show why it failed; an incomplete disk has no use.
                let _ = std::fs::remove_file(raw);
            }
        }
        // With REUSE the journal of a build is kept, for estimates; a build that did nothing has no useful times.
        let remembered = plan.keep && (built || self.acted);
        if outcome.leftovers.is_empty() && !remembered {
            artifacts::remove_run(&plan.run, &plan.base);
        }
    }
}

/// Returns the error of a build whose image exists, with intermediates that could not be removed.
fn not_removed_error(outcome: &Outcome) -> Option<Error> {
    let count = outcome.leftovers.len();
    let things = if count == 1 { "1 resource".to_owned() } else { format!("{count} resources") };
    let text = format!("the image is there, but {things} without further use could not be removed");
    (count > 0).then(|| Error::new(Stage::CleanUp, text).hint("build-image resume tries it again"))
}
