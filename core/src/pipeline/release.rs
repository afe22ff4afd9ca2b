//! Releases the image: from here on it is the user's. What is left to do is finished by this process, or by `resume`
//! or `gc` after a kill.

use serde_json::Value;

use super::{Pipeline, state::State};
use crate::{
    error::{Error, Result, Stage},
    journal::Entry,
    registry,
    report::Outcome,
};

impl Pipeline<'_> {
    /// Makes the release durable. Nothing irreversible happens before.
    ///
    /// # Errors
    /// When it cannot be written down; then the build is undone.
    pub(super) fn release(&self) -> Result<()> {
        if self.was_reached(State::Released) {
            return Ok(());
        }
        self.host.record(Entry::ProductsReleased { files: Vec::new() })
    }

    /// Removes intermediates and what the image replaces.
    ///
    /// # Errors
    /// When something is left to do; a resumed run does it.
    pub(super) fn finish(&self, outcome: &mut Outcome) -> Result<()> {
        self.discard(true, outcome);
        Ok(())
    }

    /// Posts the image to the registry of the user's choice, if there is one.
    ///
    /// # Errors
    /// When the registry refuses, cannot be reached, or the user cancels.
    pub(super) fn notify(&self, outcome: &mut Outcome) -> Result<()> {
        let step = State::Notified.step();
        if self.settings.text(registry::KEY).is_none() {
            return self.end_silently(step, Value::Null);
        }
        self.begin(step, "posting the image to the registry")?;
        match registry::tell(&self.plan, self.settings, outcome, &self.interrupt) {
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
