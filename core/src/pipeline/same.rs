//! Finds images of the account that were made from the same disk: by the SHA-256 of the image as it is uploaded, which
//! providers with the capability `same` write as a mark of each image.
//!
//! With IF_SAME=skip the account is asked before the upload, and the image is read once more for its digest if the
//! account has any image with such a mark. Otherwise the digest is computed during the upload, and the images that have it
//! are only named. Without IF_SAME nothing is read for it: the digest is known if a statement or a bundle needs it.

use std::sync::atomic::AtomicBool;

use build_image_plugin_api::{
    Disk, ErrorKind, Resource,
    document::{
        CheckReport, CheckRequest, Finding, InventoryRequest, Item, ItemKind, ItemState, Severity,
    },
};
use serde_json::json;

use super::{Pipeline, order::Work, state::State};
use crate::{
    account::{Lister, Listing},
    error::{Error, Result, Stage},
    report::Outcome,
    runs,
    settings::{IfSame, keys},
    tags::{self, Tags},
};

/// The capability of a provider that marks images with the digest of their disk, and compares them with a build.
const SAME: &str = "same";
/// What the mark begins with.
const SHA256: &str = "sha256:";

impl Pipeline<'_> {
    fn if_same(&self) -> Option<IfSame> {
        self.settings.core().run.if_same.filter(|_| self.plan.upload)
    }

    fn compares_disks(&self) -> bool {
        self.plan.upload && self.plugin.description().capabilities.iter().any(|one| one == SAME)
    }

    /// Refuses to skip with a provider that cannot find the image.
    ///
    /// # Errors
    /// When its description lacks the capability.
    pub(super) fn can_skip(&self) -> Result<()> {
        if self.if_same() != Some(IfSame::Skip) || self.compares_disks() {
            return Ok(());
        }
        let key = keys::IF_SAME;
        let text = format!(
            "{key} is `skip`, but provider `{}` cannot find images that were made from a disk",
            self.plan.platform
        );
        Err(Error::new(Stage::Provider(ErrorKind::Unsupported), text)
            .hint(format!("leave {key} out; the image is then made in every build")))
    }

    /// Returns whether the build may end without an upload. An upload that a run has begun is finished.
    fn may_skip(&self) -> bool {
        self.if_same() == Some(IfSame::Skip)
            && self.compares_disks()
            && self.host.resources().is_empty()
    }

    /// Returns whether the errors among findings only say that the image exists, and may be what lets the build skip its
    /// upload. An installation is not made for nothing.
    pub(crate) fn may_skip_despite(&self, findings: &[Finding]) -> bool {
        let mut errors = findings.iter().filter(|one| one.severity == Severity::Error);
        self.may_skip()
            && !self.plan.installs
            && errors.all(|one| one.kind == Some(ErrorKind::Conflict))
    }

    /// Returns whether the digest of the image is computed for its mark.
    pub(super) fn marks_disk(&self) -> bool {
        self.if_same().is_some() && self.compares_disks()
    }

    /// Returns the mark of the image, if its digest is known.
    pub(super) fn mark(&self, work: &Work) -> Option<String> {
        let digest = work.sent_sha256.as_ref().filter(|_| self.compares_disks());
        digest.map(|digest| format!("{SHA256}{digest}"))
    }

    /// Returns whether the account has the image that the build would register; it is the result then.
    ///
    /// # Errors
    /// When the account cannot be listed, the user cancels, and what the target had refused if there is no such image.
    pub(super) fn skips(&mut self, work: &mut Work, outcome: &mut Outcome) -> Result<bool> {
        if self.may_skip() && self.has_same(work, outcome)? {
            self.refused = None;
            return Ok(true);
        }
        self.refused.take().map_or(Ok(false), Err)
    }

    fn has_same(&self, work: &mut Work, outcome: &mut Outcome) -> Result<bool> {
        let listing = self.list_images()?;
        for finding in listing.findings.iter().filter(|one| one.severity == Severity::Error) {
            let text =
                format!("{} was not searched for the image: {}", finding.subject, finding.message);
            self.reporter.warning(&self.host.shown(&text), finding.hint.as_deref());
        }
        if listing.items.iter().all(|item| item.disk_digest.is_none()) {
            return Ok(false);
        }
        let Some(disk) = &work.disk else { return Ok(false) };
        self.reporter.begin("compare", "comparing the image with those of the account");
        work.sent_sha256 = Some(self.digest_of_disk(disk)?);
        let same = self.of_same_disk(work, &listing.items);
        let unfinished = self.unfinished_runs();
        let (complete, others): (Vec<&Item>, Vec<&Item>) = same.into_iter().partition(|item| {
            let is_left = item.run_id.as_ref().is_some_and(|run| unfinished.contains(run));
            item.state == ItemState::Available && !is_left
        });
        if complete.is_empty() {
            self.reporter.end("no complete image was made from the same disk");
            others.into_iter().for_each(|item| self.warn_of_unfinished(item));
            return Ok(false);
        }
        let report = self.compare_images(&complete)?;
        let Some(registered) = report.same.filter(|same| !same.images.is_empty()) else {
            self.reporter.end("images from the same disk are not as requested");
            report.findings.iter().for_each(|one| self.warn_of_difference(one));
            return Ok(false);
        };
        let ids: Vec<&str> = registered.images.iter().map(|image| image.id.as_str()).collect();
        let text = format!("{} was made from the same disk, nothing is sent", ids.join(", "));
        self.reporter.end(&self.host.shown(&text));
        self.end_silently(State::Registered.step(), json!(registered))?;
        outcome.skipped = true;
        self.show_registered(registered, outcome);
        Ok(true)
    }

    /// Names images of the account that were made from the disk whose image was uploaded.
    pub(super) fn name_same(&self, work: &Work) {
        if self.mark(work).is_none() || self.if_same() == Some(IfSame::Skip) {
            return;
        }
        let listing = match self.list_images() {
            Ok(listing) => listing,
            Err(error) => {
                tracing::info!(%error, "the account was not searched for images from the same disk");
                return;
            }
        };
        for item in self.of_same_disk(work, &listing.items) {
            let flag = format!("{}=skip", keys::IF_SAME);
            let text = format!(
                "     same  {} was made from the same disk; {flag} does not upload it again",
                described(item)
            );
            self.reporter.note(&self.host.shown(&text));
        }
    }

    /// Lists the images in the regions of the build.
    fn list_images(&self) -> Result<Listing> {
        let regions = self
            .ask(false, true)?
            .creates
            .into_iter()
            .filter_map(|one: Resource| one.region.filter(|_| one.deliverable));
        let mut regions: Vec<String> = regions.collect();
        regions.sort();
        regions.dedup();
        let request = InventoryRequest::default().kinds([ItemKind::Image]).regions(regions);
        self.lister().list(&request)
    }

    /// Returns what asks the provider for the objects of the account.
    pub(super) fn lister(&self) -> Lister<'_> {
        Lister {
            name: &self.plan.platform,
            host: &self.host,
            steps: self.steps.as_ref(),
            interrupt: &self.interrupt,
        }
    }

    /// Returns the images that other runs made from the disk.
    fn of_same_disk<'a>(&self, work: &Work, items: &'a [Item]) -> Vec<&'a Item> {
        let mark = self.mark(work);
        let own = Some(&self.plan.build.run_id);
        let is_same = |item: &&Item| {
            item.kind == ItemKind::Image && item.disk_digest == mark && item.run_id.as_ref() != own
        };
        items.iter().filter(|_| mark.is_some()).filter(is_same).collect()
    }

    /// Returns the runs of this host whose images are not released: when they fail or are collected, these are removed.
    fn unfinished_runs(&self) -> Vec<String> {
        let runs = runs::list(&self.plan.base, &self.key).into_iter();
        runs.filter(|run| run.reached < State::Released).map(|run| run.id).collect()
    }

    fn digest_of_disk(&self, disk: &Disk) -> Result<String> {
        if let Some(ready) = self.ready_image() {
            return Ok(ready.sha256);
        }
        let made = self
            .host
            .made(disk.id)
            .ok_or_else(|| Error::new(Stage::Bug, "an image is compared before it is made"))?;
        self.digest_of_image(&made, &AtomicBool::new(false))
    }

    /// Asks the provider whether complete images are what this build would register.
    fn compare_images(&self, images: &[&Item]) -> Result<CheckReport> {
        let mut build = self.plan.build.clone();
        let set = &self.settings.core().image;
        build.tags = tags::compose(Tags::new(), set.tags.as_ref(), set.excluded_tags.as_ref())?;
        let references = images.iter().map(|item| item.reference());
        self.ask_for(CheckRequest::new(build).online(true).dry_run(true).same(references))
    }

    fn warn_of_unfinished(&self, item: &Item) {
        let state = match item.state {
            ItemState::Pending => "is not complete yet: another build may be making it",
            ItemState::Failed => "was not completed",
            ItemState::Deleting => "is being deleted",
            ItemState::Available => "its build is not finished",
            _ => "is deprecated or disabled",
        };
        let text = format!("{} was made from the same disk, and {state}", described(item));
        self.reporter.warning(&self.host.shown(&text), None);
    }

    fn warn_of_difference(&self, finding: &Finding) {
        let text = format!("{}: {}", finding.subject, finding.message);
        let hint = finding.hint.as_ref().map(|hint| self.host.shown(hint));
        self.reporter.warning(&self.host.shown(&text), hint.as_deref());
    }
}

/// Returns an image with its name and region.
fn described(item: &Item) -> String {
    let region = item.region.as_ref().map(|region| format!(" in {region}")).unwrap_or_default();
    format!("image {} (`{}`){region}", item.id, item.name)
}
