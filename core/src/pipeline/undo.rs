//! Removes what a provider created: its intermediates after a success, everything after a failure. A resource counts
//! as removed only if the provider reports so; any resource that it does not mention is a leftover.

use std::{path::Path, sync::Arc};

use build_image_plugin_api::{
    Event, Host, Resource, Steps,
    document::{DiscardReason, DiscardRequest, Discarded},
};

use super::{
    Pipeline,
    state::{CLEANUP, State},
};
use crate::{
    error::{Error, Result},
    interrupt::Interrupt,
    journal::{Entry, Journal},
    plugins::{Plugin, RunHost},
    report::{Leftover, Outcome, Reporter},
    runs::Run,
    settings::Resolved,
    trust::Scope,
};

/// Removes what a finished or dead run left in the cloud. Returns what still exists.
///
/// # Errors
/// When the provider refuses its settings, or the journal cannot be written.
pub fn clean(
    run: &Run,
    journal: Journal,
    scope: &Scope,
    plugin: &Plugin,
    settings: &Resolved,
    reporter: Arc<Reporter>,
    interrupt: Arc<Interrupt>,
) -> Result<Vec<Leftover>> {
    let rows = plugin.rows();
    let host = Arc::new(RunHost::new(journal, reporter, interrupt, settings.secrets(&rows)));
    let lent: Arc<dyn Host> = host.clone();
    let steps = plugin
        .create(lent, &settings.for_provider(&rows))
        .map_err(|error| Error::provider(&plugin.name, "create", host.redactor().error(error)))?;
    // An image that is about to be removed is not the result of a run that is resumed instead of removed.
    if !State::Released.is_reached(&host.entries()) {
        host.record(Entry::StepStarted { step: CLEANUP.to_owned() })?;
    }
    let mut resources = host.resources();
    resources.reverse();
    let (resources, refused) = scope.split(resources);
    let request = DiscardRequest::new(DiscardReason::Leftover, resources).run_id(run.id.clone());
    let mut left = discard(&host, steps.as_ref(), &request);
    left.extend(refused);
    Ok(left)
}

/// Lets the provider discard the resources; only resources that it reports as removed count as removed.
pub(crate) fn discard(
    host: &RunHost,
    steps: &dyn Steps,
    request: &DiscardRequest,
) -> Vec<Leftover> {
    match steps.discard(request) {
        Ok(answer) => {
            request.resources.iter().filter_map(|resource| left(host, resource, &answer)).collect()
        }
        Err(error) => {
            let error = host.redactor().error(error);
            let leftover = |resource: &Resource| Leftover {
                resource: resource.clone(),
                reason: error.to_string(),
                hint: error.hint.clone(),
            };
            request.resources.iter().map(leftover).collect()
        }
    }
}

/// Returns the leftover of a resource, if it was not removed.
fn left(host: &RunHost, resource: &Resource, answer: &Discarded) -> Option<Leftover> {
    let resource = resource.clone();
    if answer.removed.iter().any(|removed| removed.is(&resource)) {
        // The provider usually has recorded this itself; a second entry is harmless.
        if let Err(error) = host.record(Entry::Resource { event: Event::ResourceGone { resource } })
        {
            tracing::warn!(%error, "a removed resource could not be written down");
        }
        return None;
    }
    let remaining = answer.remaining.iter().find(|remaining| remaining.resource.is(&resource));
    let reason = remaining
        .map_or("the provider does not say what became of it", |remaining| &remaining.reason);
    let hint = remaining.and_then(|remaining| remaining.hint.as_ref());
    let redactor = host.redactor();
    Some(Leftover {
        resource,
        reason: redactor.text(reason),
        hint: hint.map(|hint| redactor.text(hint)),
    })
}

impl Pipeline<'_> {
    /// Returns the directories in which local files of the run may be removed: the journal of an adopted run may name
    /// any.
    fn scope(&self) -> Scope {
        let (plan, build) = (&self.plan, &self.plan.build);
        let published = build.image_dir.as_deref().map(Path::new);
        let artifacts = plan.kept_artifacts();
        Scope::of_run(&build.run_id, &plan.run, artifacts.as_deref(), &plan.base, published)
    }

    /// Records that the build is undone from here on. If that cannot be recorded, a registered image or an
    /// uploaded object is left as it is: a resumed run would find it recorded, and report what does not exist any more.
    pub(super) fn begins_undo(&self, outcome: &mut Outcome) -> bool {
        let started = self.host.record(Entry::StepStarted { step: CLEANUP.to_owned() });
        let Err(error) = started else { return true };
        let made = self.plan.flow().made_in_cloud();
        if made.is_none_or(|made| self.host.step_done(made.step()).is_none()) {
            return true;
        }
        let leftover = |resource: Resource| Leftover {
            resource,
            reason: error.message.clone(),
            hint: error.hint.clone(),
        };
        outcome.leftovers.extend(self.host.resources().into_iter().map(leftover));
        false
    }

    /// Removes resources, the last created first.
    pub(super) fn discard(&self, intermediates_only: bool, outcome: &mut Outcome) {
        let mut resources = self.host.resources();
        resources.retain(|resource| !(intermediates_only && resource.deliverable));
        resources.reverse();
        // What this process recorded itself is removed wherever it is; an earlier journal may be another user's work.
        let (resources, refused) = if self.earlier.is_empty() {
            (resources, Vec::new())
        } else {
            self.scope().split(resources)
        };
        outcome.leftovers.extend(refused);
        if resources.is_empty() {
            return;
        }
        tracing::info!(count = resources.len(), "removing what is no longer needed");
        if !intermediates_only {
            let labels: Vec<String> = resources.iter().map(Resource::label).collect();
            // Reported as a step so that the heartbeat covers it; it is not part of the build.
            let text = format!("removing {}", labels.join(", "));
            self.reporter.begin(CLEANUP, &self.host.redactor().text(&text));
        }
        let reason = if intermediates_only { DiscardReason::Done } else { DiscardReason::Failed };
        let run_id = self.plan.build.run_id.clone();
        let request = DiscardRequest::new(reason, resources).run_id(run_id);
        outcome.leftovers.extend(discard(&self.host, self.steps.as_ref(), &request));
        self.reporter.abandon();
    }
}
