//! Removes what a provider created: its means after a success, everything after a failure. A resource
//! is gone only when the provider says so; whatever it does not mention counts as left behind.

use build_image_plugin_api::{
    Event, Resource,
    document::{DiscardReason, DiscardRequest, Discarded},
};

use super::Pipeline;
use crate::{
    journal::Entry,
    report::{Leftover, Outcome},
};

impl Pipeline<'_> {
    /// Last created is removed first.
    pub(super) fn discard(&self, means_only: bool, outcome: &mut Outcome) {
        let mut resources = self.host.resources();
        resources.retain(|resource| !(means_only && resource.product));
        resources.reverse();
        if resources.is_empty() {
            return;
        }
        tracing::info!(count = resources.len(), "removing what is no longer needed");
        if !means_only {
            let labels: Vec<String> = resources.iter().map(Resource::label).collect();
            let text = format!("  cleanup  removing {}", labels.join(", "));
            self.reporter.note(&self.host.mask().text(&text));
        }
        let request = DiscardRequest {
            run_id: self.plan.build.run_id.clone(),
            reason: if means_only { DiscardReason::Done } else { DiscardReason::Failed },
            resources: resources.clone(),
        };
        match self.steps.discard(&request) {
            Ok(answer) => self.sort(resources, answer, outcome),
            Err(error) => {
                let error = self.host.mask().error(error);
                let left = |resource| Leftover {
                    resource,
                    reason: error.to_string(),
                    hint: error.hint.clone(),
                };
                outcome.leftovers.extend(resources.into_iter().map(left));
            }
        }
    }

    fn sort(&self, asked: Vec<Resource>, answer: Discarded, outcome: &mut Outcome) {
        for resource in asked {
            if answer.removed.iter().any(|removed| removed.is(&resource)) {
                // The provider has said so itself, as a rule; twice does no harm.
                let event = Event::ResourceGone { resource };
                if let Err(error) = self.host.record(Entry::Resource { event }) {
                    self.reporter.warning(&error.message, error.hint.as_deref());
                }
                continue;
            }
            let told = answer.remaining.iter().find(|remaining| remaining.resource.is(&resource));
            let mask = self.host.mask();
            outcome.leftovers.push(match told {
                Some(told) => Leftover {
                    resource,
                    reason: mask.text(&told.reason),
                    hint: told.hint.as_ref().map(|hint| mask.text(hint)),
                },
                None => Leftover {
                    resource,
                    reason: "the provider does not say what became of it".to_owned(),
                    hint: None,
                },
            });
        }
    }
}
