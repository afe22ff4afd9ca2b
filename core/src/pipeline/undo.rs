//! Removes what a provider created: its means after a success, everything after a failure. A resource
//! is gone only when the provider says so; whatever it does not mention counts as left behind.

use std::{path::Path, sync::Arc};

use build_image_plugin_api::{
    Event, Host, Resource, Steps,
    document::{DiscardReason, DiscardRequest, Discarded},
};

use super::{
    Pipeline,
    state::{CLEANUP, Flow, State},
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

/// Removes what a run that is over left in the cloud. Returns what is still there.
///
/// # Errors
/// When the provider refuses its settings.
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
        .map_err(|error| Error::provider(&plugin.name, "create", host.mask().error(error)))?;
    let mut resources = host.resources();
    resources.reverse();
    let (resources, refused) = scope.split(resources);
    let request = DiscardRequest {
        run_id: run.id.clone(),
        reason: DiscardReason::Leftover,
        resources,
        ..DiscardRequest::default()
    };
    let mut left = discard(&host, steps.as_ref(), &request);
    left.extend(refused);
    Ok(left)
}

/// Asks the provider and believes only what it says.
fn discard(host: &RunHost, steps: &dyn Steps, request: &DiscardRequest) -> Vec<Leftover> {
    match steps.discard(request) {
        Ok(answer) => {
            request.resources.iter().filter_map(|resource| left(host, resource, &answer)).collect()
        }
        Err(error) => {
            let error = host.mask().error(error);
            let left = |resource: &Resource| Leftover {
                resource: resource.clone(),
                reason: error.to_string(),
                hint: error.hint.clone(),
            };
            request.resources.iter().map(left).collect()
        }
    }
}

/// What is left of one resource.
fn left(host: &RunHost, resource: &Resource, answer: &Discarded) -> Option<Leftover> {
    let resource = resource.clone();
    if answer.removed.iter().any(|removed| removed.is(&resource)) {
        // The provider has said so itself, as a rule; twice does no harm.
        if let Err(error) = host.record(Entry::Resource { event: Event::ResourceGone { resource } })
        {
            tracing::warn!(%error, "a removed resource could not be written down");
        }
        return None;
    }
    let told = answer.remaining.iter().find(|remaining| remaining.resource.is(&resource));
    let reason = told.map_or("the provider does not say what became of it", |told| &told.reason);
    let hint = told.and_then(|told| told.hint.as_ref());
    let mask = host.mask();
    Some(Leftover { resource, reason: mask.text(reason), hint: hint.map(|hint| mask.text(hint)) })
}

impl Pipeline<'_> {
    /// Where local files of the run may be removed: the journal of a run that was adopted may name any.
    fn scope(&self) -> Scope {
        let (plan, build) = (&self.plan, &self.plan.build);
        let published = build.image_dir.as_deref().map(Path::new);
        let artifacts = plan.kept_artifacts();
        Scope::of_run(&build.run_id, &plan.run, artifacts.as_deref(), &plan.base, published)
    }

    /// Records that the build is undone from here on. A registered image is left as it is when that cannot be recorded:
    /// a resumed run would find it registered, and give its name to nothing.
    pub(super) fn begins_undo(&self, outcome: &mut Outcome) -> bool {
        let started = self.host.record(Entry::StepStarted { step: CLEANUP.to_owned() });
        let Err(error) = started else { return true };
        if self.plan.flow() != Flow::Cloud
            || self.host.step_done(State::Registered.step()).is_none()
        {
            return true;
        }
        let left = |resource: Resource| Leftover {
            resource,
            reason: error.message.clone(),
            hint: error.hint.clone(),
        };
        outcome.leftovers.extend(self.host.resources().into_iter().map(left));
        false
    }

    /// Last created is removed first.
    pub(super) fn discard(&self, means_only: bool, outcome: &mut Outcome) {
        let mut resources = self.host.resources();
        resources.retain(|resource| !(means_only && resource.product));
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
        if !means_only {
            let labels: Vec<String> = resources.iter().map(Resource::label).collect();
            // A step of its own, so that it is never silent for long; it is none of the build's.
            let text = format!("removing {}", labels.join(", "));
            self.reporter.begin(CLEANUP, &self.host.mask().text(&text));
        }
        let reason = if means_only { DiscardReason::Done } else { DiscardReason::Failed };
        let run_id = self.plan.build.run_id.clone();
        let request = DiscardRequest { run_id, reason, resources, ..DiscardRequest::default() };
        outcome.leftovers.extend(discard(&self.host, self.steps.as_ref(), &request));
        self.reporter.abandon();
    }
}
