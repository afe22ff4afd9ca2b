//! Runs the halves of a build: reports an uploaded object that is not registered, and looks up the object that a later
//! run registers. A run that looks an object up does not own it: nothing may be recorded that an undo would remove.

use build_image_plugin_api::{
    ErrorKind, Step,
    document::{LocateRequest, Located, Uploaded},
};
use serde_json::{Value, json};

use super::{Pipeline, state::Flow};
use crate::{
    error::{Error, Result, Stage},
    plan::{RemoteObject, Source},
    report::{Outcome, UploadedEntry},
};

impl Pipeline<'_> {
    /// Lets the provider look up the object that is registered.
    ///
    /// # Errors
    /// When it does not exist or holds no image, and when the provider records a resource or returns a secret.
    pub(super) fn locate(&self, object: RemoteObject, outcome: &mut Outcome) -> Result<Source> {
        let step = Step::Locate.name();
        self.reporter.begin(step, &format!("looking for {}", self.host.shown(&object.id)));
        let request = LocateRequest::new(self.plan.build.clone(), &object.id);
        let found = self.host.without_resources(|| self.steps.locate(&request));
        let located: Located = found.map_err(|error| self.step_error(step, error))?;
        let value = json!(located);
        let is_secret = self.host.redactor().value(value.clone()) != value;
        if located.uploaded.location.is_empty() || is_secret {
            let text = format!(
                "provider `{}` found `{}` and returned no place that can be recorded",
                self.plan.platform, object.id
            );
            return Err(Error::new(Stage::Provider(ErrorKind::Internal), text)
                .hint("report it to the author of the provider"));
        }
        outcome.image_length = located.length;
        outcome.virtual_size = located.virtual_size.unwrap_or_default();
        let length = indicatif::HumanBytes(located.length);
        self.reporter.end(&format!("{length} at {}", located.uploaded.location));
        Ok(Source::Object(Box::new(RemoteObject { located: Some(located), ..object })))
    }

    /// Returns the object that was looked up, as an upload would have returned it.
    pub(super) fn located(&self) -> Option<Uploaded> {
        Some(self.plan.object.as_ref()?.located.as_ref()?.uploaded.clone())
    }

    /// Adds an object that is not registered to the outcome.
    pub(super) fn show_object(&self, uploaded: &Uploaded, outcome: &mut Outcome) {
        if self.plan.flow() != Flow::Upload {
            return;
        }
        let length = uploaded.facts.get("size").and_then(Value::as_u64);
        // It has no image, hence no name of one.
        outcome.image_name.clear();
        outcome.uploaded = Some(UploadedEntry {
            version: UploadedEntry::VERSION,
            id: self.host.shown(uploaded.id.as_deref().unwrap_or_default()),
            location: self.host.shown(&uploaded.location),
            length: length.unwrap_or(outcome.image_length),
            virtual_size: self.plan.build.virtual_size,
            disk: self.plan.spec.to_string(),
        });
    }

    /// Refuses an uploaded object that no later run could name.
    ///
    /// # Errors
    /// When the provider returned no identifier.
    pub(super) fn is_usable_later(&self, outcome: &Outcome) -> Result<()> {
        let is_named = outcome.uploaded.as_ref().is_none_or(|uploaded| !uploaded.id.is_empty());
        if is_named {
            return Ok(());
        }
        let text = format!(
            "provider `{}` uploaded the image and returned no identifier of it",
            self.plan.platform
        );
        Err(Error::new(Stage::Provider(ErrorKind::Internal), text)
            .hint("report it to the author of the provider"))
    }
}
