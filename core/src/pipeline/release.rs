//! Releases the image: from here on it belongs to the user. The remaining steps are finished by this process, or by
//! `resume` or `gc` after a kill.

use std::{path::Path, sync::PoisonError};

use serde_json::Value;

use super::{Pipeline, state::State};
use crate::{
    error::{Error, Result, Stage},
    journal::Entry,
    publication::{Committed, Publication, PublishedFile},
    records::Records,
    registry,
    report::Outcome,
};

impl Pipeline<'_> {
    /// Writes records for other programs, where the build has a directory. A failure is not an error of the build.
    pub(super) fn write_down(&self, what: impl FnOnce(&Records<'_>) -> Result<()>) {
        if self.claim.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return;
        }
        if let Err(error) = what(&Records::new(&self.plan, self.settings)) {
            self.reporter.warning(&error.message, error.hint.as_deref());
        }
    }

    /// Records the result under the name of the build, if it has one. Before the run counts as done: a process killed in between
    /// leaves a run that `gc` finishes, and a result that is reported again.
    pub(super) fn done_once(&mut self, outcome: &Outcome) -> Result<()> {
        self.once.as_mut().map_or(Ok(()), |once| once.done(outcome))
    }

    /// Makes the release durable. Nothing irreversible happens before this.
    ///
    /// # Errors
    /// When it cannot be recorded; the build is then undone.
    pub(super) fn release(&self) -> Result<()> {
        if self.was_reached(State::Released) {
            return Ok(());
        }
        self.input_is_unchanged()?;
        let files = match &self.publication {
            Some(publication) => {
                publication.check_inputs(&self.inputs_of_build())?;
                let files = publication.files()?;
                let replaced = publication.replaced(&files);
                replaced.iter().try_for_each(|file| self.may_replace(file))?;
                files
            }
            None => Vec::new(),
        };
        self.host.record(Entry::ProductsReleased { files })
    }

    /// Gives published files their names, and removes intermediates and the replaced image.
    ///
    /// # Errors
    /// When something could not be finished; a resumed run finishes it.
    pub(super) fn finish(&self, outcome: &mut Outcome) -> Result<()> {
        let build = &self.plan.build;
        let image_dir = Path::new(build.image_dir.as_deref().unwrap_or_default());
        let files = self.host.released_files();
        let step = State::Released.step();
        let committed = if files.is_empty() || self.host.step_done(step).is_some() {
            if self.plan.needs_image_dir() {
                Publication::remove_stale_lock(image_dir);
            }
            Ok(())
        } else {
            Publication::commit(image_dir, &build.run_id, &files).and_then(|committed| {
                match committed {
                    Committed::Published(_) => self.end_silently(step, Value::Null),
                    Committed::Superseded => {
                        Err(superseded_error(&build.run_id, image_dir, &files))
                    }
                }
            })
        };
        // The statement is about an existing image.
        let stated = committed.and_then(|()| self.publish_statement(outcome));
        self.discard(true, outcome);
        stated
    }

    /// Posts the image to the user's registry, if one is set.
    ///
    /// # Errors
    /// When the registry refuses, cannot be reached, or the user cancels.
    pub(super) fn notify(&self, outcome: &mut Outcome) -> Result<()> {
        let step = State::Notified.step();
        if self.settings.core().registry.url.is_none() {
            return self.end_silently(step, Value::Null);
        }
        self.begin(step, "posting the image to the registry")?;
        let (interrupt, reporter) = (&self.interrupt, &self.reporter);
        match registry::tell(&self.plan, self.settings, outcome, interrupt, reporter) {
            Ok(()) => self.end(step, "the registry has the image", Value::Null, outcome),
            Err(error) => {
                self.reporter.abandon();
                if self.interrupt.is_set() {
                    let id = &outcome.image_id;
                    let text = format!(
                        "interrupted: image {id} is registered in the cloud, the registry was not notified"
                    );
                    return Err(Error::new(Stage::Interrupted, text));
                }
                Err(error)
            }
        }
    }
}

/// Returns the error of a run whose files were superseded by those of another.
fn superseded_error(run_id: &str, image_dir: &Path, files: &[PublishedFile]) -> Error {
    let name = files.first().map(|file| image_dir.join(&file.name)).unwrap_or_default();
    let text = format!(
        "`{}` was replaced or removed since run `{run_id}` was to publish it: nothing was published",
        name.display()
    );
    Error::new(Stage::Disk, text).hint("build again, if it is wanted")
}
