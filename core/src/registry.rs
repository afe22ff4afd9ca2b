//! Notifies a registry about a new image, when the user has one: one form, posted over HTTP.

use std::{collections::BTreeMap, time::Instant};

use build_image_plugin_api::Exhausted;
use serde_json::{Value, json};

use crate::{
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    plan::Plan,
    report::{Outcome, Reporter},
    settings::{Registry, Resolved, keys},
    source::{Answered, Post},
    tags::exact_size,
};

/// Posts the facts of a registered image to IMAGE_REGISTRATION_URL, if that is set. The image stays whether or not
/// this succeeds.
///
/// # Errors
/// When the registry refuses, or cannot be reached after all attempts.
pub(crate) fn tell(
    plan: &Plan,
    settings: &Resolved,
    outcome: &Outcome,
    interrupt: &Interrupt,
    reporter: &Reporter,
) -> Result<()> {
    let Registry { url, attempts, pause } = &settings.core().registry;
    let Some(url) = url else { return Ok(()) };
    let key = keys::IMAGE_REGISTRATION_URL;
    let post = Post::to(key, url, settings.core().download.any_certificate, reporter)?;
    let form = form(plan, settings, outcome);
    let mut attempt = 1;
    let started = Instant::now();
    loop {
        let mut error = match post.send(&form, interrupt) {
            Answered::Yes => return Ok(()),
            Answered::No(error) => return Err(registry_error(outcome, error)),
            Answered::NotNow(error) => error,
        };
        if attempt > 1 {
            error.exhausted = Some(Exhausted::new(attempt, started.elapsed()));
        }
        if attempt >= *attempts || interrupt.wait(*pause) {
            return Err(registry_error(outcome, error));
        }
        tracing::warn!(%error, attempt, "the registry did not take the image");
        attempt += 1;
    }
}

/// Creates the error of a build that failed at its last step.
fn registry_error(outcome: &Outcome, error: Error) -> Error {
    let mut made = Error { stage: Stage::Registry, ..error };
    made.message = format!(
        "image {} is registered in the cloud, but {} did not take it: {}",
        outcome.image_id,
        keys::IMAGE_REGISTRATION_URL,
        made.message
    );
    made.hint("resume the run once the registry answers")
}

/// Returns the fields of the form, as the old tool sent them.
fn form(plan: &Plan, settings: &Resolved, outcome: &Outcome) -> Vec<(&'static str, String)> {
    let attributes = attributes(plan, settings, outcome);
    vec![
        ("cloud", plan.platform.clone()),
        ("image_id", outcome.image_id.clone()),
        ("image_name", outcome.image_name.clone()),
        ("attributes", serde_json::to_string(&attributes).unwrap_or_default()),
    ]
}

fn attributes(plan: &Plan, settings: &Resolved, outcome: &Outcome) -> BTreeMap<String, Value> {
    let builder = settings.builder();
    let mut facts: BTreeMap<String, Value> = [
        ("build_host", json!(builder.host)),
        ("build_user", json!(builder.user)),
        ("build_type", json!(builder.kind)),
        ("build_source", json!("build-image")),
        ("build_operation", json!("create")),
        ("build_time", json!(outcome.duration())),
        ("image_name", json!(outcome.image_name)),
        ("image_id", json!(outcome.image_id)),
        ("image_size", json!(exact_size(plan.build.virtual_size))),
        ("platform", json!(plan.platform)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(region) = outcome.images.first().and_then(|image| image.region.as_ref()) {
        facts.insert("location".to_owned(), json!(region));
    }
    if let Some(installation) = &plan.installation {
        facts.extend(installation.document().attributes.clone());
    }
    facts
}
