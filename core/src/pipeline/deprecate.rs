//! Deprecates older images of a family, once the image of the build is released: an image that fails deprecates nothing.
//!
//! What is deprecated is decided once and recorded before the first change, so that a process that was killed is continued
//! with the same images. Only images that are older than the one of the build are changed: of two builds at the same time,
//! neither deprecates the newer image.

use build_image_plugin_api::{
    ErrorKind,
    document::{
        Action, Change, InventoryRequest, Item, ItemKind, ManageRequest, Managed, Reference,
        Severity,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Pipeline, state::Flow};
use crate::{
    account::{Listing, outdated},
    error::{Error, Result, Stage},
    report::Outcome,
    settings::keys,
};

/// The step, in the journal and in durations.
const DEPRECATE: &str = "deprecate";
/// The journal's line with the images that are deprecated.
const DECIDED: &str = "deprecate_images";
/// Member of the facts of both.
const IMAGES: &str = "images";

/// Which images stay as they are.
struct Rule<'a> {
    /// What the names of the family begin with.
    family: &'a str,
    /// Number of the newest builds whose images stay.
    keep: usize,
}

/// An image to deprecate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Decided {
    image: Reference,
    /// The image of the build in the same region.
    replacement: Reference,
}

impl Pipeline<'_> {
    /// Returns the rule of the settings, if there is one and the build makes an image.
    fn rule(&self) -> Result<Option<Rule<'_>>> {
        let image = &self.settings.core().image;
        let (number, prefix) = (keys::IMAGE_DEPRECATE_OLDER, keys::IMAGE_DEPRECATE_FAMILY);
        if matches!(self.plan.flow(), Flow::Upload | Flow::Package) {
            return Ok(None);
        }
        let wrong = |text: String| Err(Error::new(Stage::Settings, text));
        let family = image.deprecate_family.as_deref().filter(|family| !family.is_empty());
        match (image.deprecate_older, family) {
            (None, None) => Ok(None),
            (Some(0), _) => wrong(format!("{number} is 0, which would be every image"))
                .map_err(|error| error.hint("count the image of the build: 1 keeps only that")),
            (Some(keep), Some(family)) => {
                let keep = usize::try_from(keep).unwrap_or(usize::MAX);
                Ok(Some(Rule { family, keep }))
            }
            (Some(_), None) => wrong(format!("{number} is set, and {prefix} is not"))
                .map_err(|error| error.hint("set what the names of the older images begin with")),
            (None, Some(_)) => wrong(format!("{prefix} is set, and {number} is not"))
                .map_err(|error| error.hint("set how many of the newest images stay")),
        }
    }

    /// Refuses a rule that cannot be followed, before anything is created.
    ///
    /// # Errors
    /// When a setting is missing, the image is not of the family, or the provider lacks a capability.
    pub(super) fn can_deprecate(&self) -> Result<()> {
        let Some(rule) = self.rule()? else { return Ok(()) };
        let (number, prefix) = (keys::IMAGE_DEPRECATE_OLDER, keys::IMAGE_DEPRECATE_FAMILY);
        let known = &self.plugin.description().capabilities;
        let needed = ["inventory", deprecation(None).capability()];
        if needed.iter().all(|word| known.iter().any(|one| one == word)) {
            return self.is_of_family(&rule);
        }
        let text = format!(
            "{number} is set, but provider `{}` cannot deprecate images",
            self.plan.platform
        );
        Err(Error::new(Stage::Provider(ErrorKind::Unsupported), text)
            .hint(format!("leave {number} and {prefix} out")))
    }

    fn is_of_family(&self, rule: &Rule<'_>) -> Result<()> {
        let (prefix, name) = (keys::IMAGE_DEPRECATE_FAMILY, &self.plan.build.image_name);
        // A provisional name is checked again once the inputs are known.
        if self.plan.provisional || name.is_empty() || name.starts_with(rule.family) {
            return Ok(());
        }
        let text =
            format!("image `{name}` does not begin with {prefix}, which is `{}`", rule.family);
        Err(Error::new(Stage::Settings, text)
            .hint("write what the names of the image and of the older ones begin with"))
    }

    /// Deprecates the older images, unless the build has failed or an earlier process of the run did it.
    ///
    /// # Errors
    /// As [`Self::deprecate_older`].
    pub(super) fn follow_deprecation(&self, has_failed: bool, outcome: &mut Outcome) -> Result<()> {
        if let Some(facts) = self.host.step_done(DEPRECATE) {
            let results = facts.get(IMAGES).cloned().unwrap_or_default();
            outcome.deprecated = serde_json::from_value(results).unwrap_or_default();
            return Ok(());
        }
        match self.rule()? {
            Some(rule) if !has_failed => self.deprecate_older(&rule, outcome),
            _ => Ok(()),
        }
    }

    /// Deprecates the older images.
    ///
    /// # Errors
    /// When the account cannot be read, an image is refused, or the user cancels. The image of the build stays; a resumed
    /// run deprecates the rest.
    fn deprecate_older(&self, rule: &Rule<'_>, outcome: &mut Outcome) -> Result<()> {
        self.begin(DEPRECATE, &format!("looking for older images of `{}`", rule.family))?;
        let done = self.decided(rule, outcome).and_then(|decided| self.apply(&decided, outcome));
        if let Err(error) = done {
            self.reporter.abandon();
            return Err(error);
        }
        let count = outcome.deprecated.len();
        let plural = if count == 1 { "" } else { "s" };
        let text = format!("{count} older image{plural} deprecated");
        self.end(DEPRECATE, &text, json!({IMAGES: outcome.deprecated}), outcome)
    }

    /// Returns the images that an earlier process decided on, or decides now.
    fn decided(&self, rule: &Rule<'_>, outcome: &Outcome) -> Result<Vec<Decided>> {
        if let Some(facts) = self.host.step_done(DECIDED) {
            let known = facts.get(IMAGES).cloned().unwrap_or_default();
            return serde_json::from_value(known).map_err(|error| {
                Error::new(Stage::Bug, "the journal does not say what is deprecated")
                    .caused_by(&error)
            });
        }
        let own: Vec<Reference> = outcome.images.iter().map(reference).collect();
        let listing = self.list_family(&own).map_err(|error| match error.stage {
            Stage::Interrupted | Stage::Deprecation => error,
            _ => Error { stage: Stage::Deprecation, ..error },
        })?;
        let mut decided = Vec::new();
        for one in &own {
            let is_own = |item: &&Item| item.id == one.id && is_in(item, one);
            let item = listing.items.iter().find(is_own).ok_or_else(|| self.unread(&one.id))?;
            for old in outdated(&listing.items, rule.family, rule.keep, item) {
                let old = Decided { image: old.reference(), replacement: one.clone() };
                if decided.iter().all(|known: &Decided| known.image != old.image) {
                    decided.push(old);
                }
            }
        }
        self.end_silently(DECIDED, json!({IMAGES: decided}))?;
        Ok(decided)
    }

    /// Lists the images of the regions that have the image of the build, which may not be in a list yet.
    fn list_family(&self, own: &[Reference]) -> Result<Listing> {
        let mut request = InventoryRequest::default().kinds([ItemKind::Image]).details(true);
        request.regions = own.iter().filter_map(|one| one.region.clone()).collect();
        request.regions.sort();
        request.regions.dedup();
        let mut listing = self.lister().list(&request)?;
        let missing = own
            .iter()
            .filter(|one| !listing.items.iter().any(|item| item.id == one.id && is_in(item, one)));
        request.items = missing.cloned().collect();
        if !request.items.is_empty() {
            let more = self.lister().list(&request)?;
            listing.items.extend(more.items);
            listing.findings.extend(more.findings);
        }
        let unread = listing.findings.iter().find(|one| one.severity == Severity::Error);
        unread.map_or(Ok(listing.clone()), |one| Err(self.unread(&one.subject)))
    }

    fn unread(&self, what: &str) -> Error {
        let text = format!(
            "the image is released, but no older image was deprecated: {what} could not be read"
        );
        Error::new(Stage::Deprecation, self.host.shown(&text))
            .hint("build-image resume tries it again")
    }

    /// Deprecates images, one after the other. All are tried, unless the user cancels.
    fn apply(&self, decided: &[Decided], outcome: &mut Outcome) -> Result<()> {
        outcome.deprecated.clear();
        let mut stopped = None;
        for one in decided {
            stopped = self.interrupt.check().err();
            if stopped.is_some() {
                break;
            }
            let mut request = ManageRequest::default();
            request.run_id.clone_from(&self.plan.build.run_id);
            request.images = vec![one.image.clone()];
            request.action = deprecation(Some(one.replacement.clone()));
            let answer = match self.steps.manage(&request) {
                Ok(answer) => answer.results.into_iter().next(),
                Err(error) => Some(Managed::refused(&one.image, &error)),
            };
            let lacking = build_image_plugin_api::Error::internal("the provider has no result");
            let answer = answer.unwrap_or_else(|| Managed::refused(&one.image, &lacking));
            stopped = self.interrupt.check().err().filter(|_| !is_settled(&answer));
            if stopped.is_some() {
                break;
            }
            outcome.deprecated.push(self.redacted(answer));
        }
        self.judge(decided, outcome, stopped)
    }

    fn redacted(&self, result: Managed) -> Managed {
        let shown = self.host.redactor().value(json!(result));
        serde_json::from_value(shown).unwrap_or(result)
    }

    /// Returns the error that names the images that are not deprecated.
    fn judge(&self, decided: &[Decided], outcome: &Outcome, stopped: Option<Error>) -> Result<()> {
        let is_done = |one: &&Decided| {
            outcome.deprecated.iter().any(|result| result.image == one.image && is_settled(result))
        };
        let rest: Vec<&str> =
            decided.iter().filter(|one| !is_done(one)).map(|one| one.image.id.as_str()).collect();
        if rest.is_empty() {
            return stopped.map_or(Ok(()), Err);
        }
        let refused = outcome.deprecated.iter().find_map(|one| one.error.as_ref());
        let why = refused.map(|error| format!(": {}", error.message)).unwrap_or_default();
        let stage = stopped.map_or(Stage::Deprecation, |error| error.stage);
        let id = &outcome.image_id;
        let rest = rest.join(" ");
        let text =
            format!("image {id} is released, but older images were not deprecated: {rest}{why}");
        Err(Error::new(stage, self.host.shown(&text)).hint(format!(
            "build-image resume tries it again; by hand: build-image images deprecate {rest} --replacement {id} -p {}",
            self.plan.platform
        )))
    }
}

fn deprecation(replacement: Option<Reference>) -> Action {
    Action::Deprecate { at: None, disabled_at: None, replacement, reason: String::new() }
}

fn reference(image: &crate::report::ImageEntry) -> Reference {
    let reference = Reference::image(&image.id);
    match &image.region {
        Some(region) => reference.in_region(region),
        None => reference,
    }
}

/// Whether an item is in the region of a reference, if that names one.
fn is_in(item: &Item, reference: &Reference) -> bool {
    reference.region.is_none() || item.region == reference.region
}

/// Whether an image needs no more: it is deprecated, or was deleted in the meantime.
fn is_settled(result: &Managed) -> bool {
    let is_gone =
        result.error.as_ref().is_some_and(|error| error.kind == ErrorKind::NotFound.code());
    matches!(result.change, Change::Done | Change::Unchanged) || is_gone
}
