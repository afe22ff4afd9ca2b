//! Runs the steps, one function each.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use build_image_disk::format::GuestReader;
use build_image_plugin_api::{
    Disk, DiskSpec, ErrorKind,
    document::{
        CheckReport, CheckRequest, DiskRequest, Finding, HostFacts, RegisterRequest, Registered,
        Severity, UploadRequest, Uploaded,
    },
};
use serde_json::{Value, json};

use super::{
    Pipeline,
    inputs::INPUTS,
    order::Work,
    shared::source_key,
    state::{Flow, State},
};
use crate::{
    error::{Error, Problem, Result, Stage},
    journal::Entry,
    plan::{Source, check_space, compression_advice},
    plugins::{BaseDisk, RunHost},
    report::{ImageEntry, Outcome},
    source::{self, from_disk},
};

/// Member of the facts of an upload: SHA-256 of the image as it was sent.
const SENT: &str = "image_sha256";

impl Pipeline<'_> {
    /// Runs the provider's checks, online or without any network. With `dry_run` the provider creates and changes
    /// nothing: no build follows.
    ///
    /// # Errors
    /// When the provider cannot run its checks.
    pub fn ask(&self, online: bool, dry_run: bool) -> Result<CheckReport> {
        self.can_skip()?;
        self.can_deprecate()?;
        let request =
            CheckRequest::new(self.plan.build.clone()).purpose(self.plan.flow().purpose());
        self.ask_for(request.online(online).dry_run(dry_run))
    }

    /// Sends a request to check with the facts of this host.
    pub(super) fn ask_for(&self, request: CheckRequest) -> Result<CheckReport> {
        let host = HostFacts::default()
            .version(env!("CARGO_PKG_VERSION").to_owned())
            .disks(RunHost::disks());
        let request = request.host(host);
        let mut report = self
            .steps
            .check(&request)
            .map_err(|error| self.step_error(State::Checked.step(), error))?;
        let redactor = self.host.redactor();
        for finding in &mut report.findings {
            finding.message = redactor.text(&finding.message);
            finding.hint = finding.hint.as_ref().map(|hint| redactor.text(hint));
            finding.causes = finding.causes.iter().map(|cause| redactor.text(cause)).collect();
        }
        Ok(report)
    }

    /// Runs the provider's preflight checks; without an upload only those that need no network.
    pub(super) fn check(&mut self, outcome: &mut Outcome) -> Result<()> {
        let text = format!("running preflight checks ({})", self.plan.platform);
        self.begin(State::Checked.step(), &text)?;
        let found = self.examine(None)?;
        let mut report = self.ask(self.plan.upload, false)?;
        let (errors, others): (Vec<Finding>, Vec<Finding>) = std::mem::take(&mut report.findings)
            .into_iter()
            .partition(|finding| finding.severity == Severity::Error);
        let waits = self.may_skip_despite(&errors);
        match &found {
            // What is wrong with the disk would hide what ends the build.
            Some(found) if !errors.is_empty() && !waits => {
                outcome.guest = Some(self.judged(found, &report));
            }
            Some(found) => self.judge_guest(found, &report, outcome)?,
            None => {}
        }
        let done = passed(&others);
        for finding in others {
            let text = format!("{}: {}", finding.subject, finding.message);
            if finding.severity == Severity::Warning {
                self.reporter.warning(&text, finding.hint.as_deref());
            } else if self.settings.core().output.verbose {
                self.reporter.milestone(&text);
            } else {
                tracing::info!("{text}");
            }
        }
        self.refused = None;
        if !errors.is_empty() {
            let error = self.findings_error(errors);
            if !waits {
                return Err(error);
            }
            self.refused = Some(error);
        }
        self.check_bundle(&report)?;
        self.can_make(report.disk.as_ref().unwrap_or(&self.plan.spec))?;
        if self.plan.needs_image_dir() {
            self.can_make(&self.plan.package)?;
            self.signer()?;
        }
        self.prepare_provenance()?;
        let facts = self.with_guest(Value::Null, outcome);
        self.end(State::Checked.step(), &done, facts, outcome)
    }

    /// Refuses an image format that the host cannot produce, before the long steps.
    fn can_make(&self, spec: &DiskSpec) -> Result<()> {
        if RunHost::can_make(spec) {
            return Ok(());
        }
        let formats: Vec<String> = RunHost::disks().iter().map(ToString::to_string).collect();
        let text = format!("provider `{}` wants a {spec} image", self.plan.platform);
        Err(Error::new(Stage::Provider(ErrorKind::Unsupported), text)
            .hint(format!("this build-image makes {}", formats.join(", "))))
    }

    /// Combines all findings that stop the build into one error; a repeated hint appears once.
    fn findings_error(&self, findings: Vec<Finding>) -> Error {
        let kind = findings.iter().find_map(|finding| finding.kind).unwrap_or(ErrorKind::Provider);
        let mut problems: Vec<Problem> = Vec::new();
        for finding in findings {
            let causes: String = finding.causes.iter().map(|cause| format!(": {cause}")).collect();
            let message = format!("{}: {}{causes}", finding.subject, finding.message);
            let hint = finding.hint;
            let is_repeated =
                problems.iter().any(|problem| problem.hint.is_some() && problem.hint == hint);
            problems.push(Problem { message, hint: hint.filter(|_| !is_repeated) });
        }
        let (count, plural) = (problems.len(), if problems.len() == 1 { "" } else { "s" });
        let text = format!("provider `{}` found {count} problem{plural}", self.plan.platform);
        Error::several(Stage::Provider(kind), text, problems)
    }

    /// Fetches the inputs to this machine, verifies and unpacks them. Settings that depend on them are checked now.
    pub(super) fn fetch(&mut self, outcome: &mut Outcome) -> Result<()> {
        let step = State::Fetched.step();
        self.begin_silently(step)?;
        let source = self.open_source(outcome)?;
        let piped = self.same_pipe(&source)?;
        let described = self.plugin.description();
        let stem = self.plan.build.file_stem.clone();
        let differs = self.plan.complete(described, self.settings, source)?;
        if stem != self.plan.build.file_stem {
            self.close_publication()?;
        }
        // A registered image keeps the name that its provider gave it.
        if !self.was_reached(State::Registered) {
            outcome.image_name.clone_from(&self.plan.build.image_name);
        }
        self.host.record(Entry::InputsKnown {
            build: Box::new(self.plan.build.clone()),
            artifacts: self.plan.kept_artifacts(),
        })?;
        self.end_silently(step, piped)?;
        // Before the long steps: another build may be writing a file of the name that is known now.
        self.open_publication()?;
        if differs && self.is_due(State::Checked.row()) {
            check_space(&self.plan)?;
            self.check(outcome)?;
        }
        Ok(())
    }

    /// Opens the source; of a bundle, the image is verified, and an object at the target is looked up.
    fn open_source(&mut self, outcome: &mut Outcome) -> Result<Source> {
        if let Some(object) = self.plan.object.clone() {
            return self.locate(object, outcome);
        }
        if let Some(bundle) = self.plan.from_bundle.clone() {
            self.verify_bundle(&bundle, outcome)?;
            return Ok(Source::Bundle(bundle));
        }
        let open = || {
            let context =
                source::SourceContext::new(self.settings, &self.reporter, &self.interrupt);
            let opened = source::open(&context.with_key(Arc::clone(&self.key)))?;
            Ok((opened.source, opened.downloads))
        };
        if let Some(member) = &self.member {
            let on_wait = || self.note_wait("the source");
            return member.shared.source(&source_key(self.settings), on_wait, open);
        }
        let (source, downloads) = open()?;
        self.downloads = downloads;
        Ok(source)
    }

    /// Reports that another target prepares something that this one needs too.
    pub(super) fn note_wait(&self, what: &str) {
        self.reporter.note(&format!("     wait  for {what}, which another target prepares"));
    }

    /// Converts the disk into the required image formats: a package for IMAGE_DIR, an image for the target.
    pub(super) fn convert(&mut self, work: &mut Work, outcome: &mut Outcome) -> Result<()> {
        if let Some(raw) = &work.raw {
            let disk = GuestReader::open_raw(raw).map_err(|error| from_disk(Stage::Disk, error))?;
            if let Some(found) = self.examine(Some(&disk))? {
                self.judge_guest(&found, &self.ask(false, true)?, outcome)?;
            }
        }
        self.open_publication()?;
        if let Some(publication) = self.publication.as_ref().filter(|_| self.plan.publish.is_some())
        {
            // Files that the host wrote in an earlier attempt are written again; a provider resumes its own files.
            publication.clear()?;
        }
        let plan = &self.plan;
        let given = plan.disk.as_ref().map(|disk| disk.path.clone()).unwrap_or_default();
        let origin = BaseDisk {
            ready: self.ready_image(),
            is_raw: work.raw.is_some(),
            path: work.raw.clone().unwrap_or(given),
            given: plan.disk.as_ref().map(|disk| disk.reader.clone()),
            piped: plan.disk.as_ref().and_then(|disk| disk.piped.clone()),
            virtual_size: plan.build.virtual_size,
            disk_name: plan.build.disk_name.clone(),
            date: self.settings.builder().date,
            signer: self.signer()?.map(Arc::new),
            published: false,
        };
        self.host.set_disk(origin, &plan.build.file_stem);
        if plan.bundle.is_some() {
            return self.make_bundle(work, outcome);
        }
        let published = State::Registered.row();
        if plan.publish.is_some() && self.is_due(published) {
            let disk = self.create_disk(true, outcome)?;
            work.published.push(self.publish(&disk, outcome)?);
            self.interrupt.check()?;
        }
        if plan.flow() != Flow::Package {
            work.disk = Some(self.create_disk(plan.flow() == Flow::Local, outcome)?);
        }
        self.boot_image(work.disk.as_ref(), outcome)
    }

    /// Lets the provider request its disk, for IMAGE_DIR or for the upload.
    pub(super) fn create_disk(&self, published: bool, outcome: &mut Outcome) -> Result<Disk> {
        let spec = if published { &self.plan.package } else { &self.plan.spec };
        self.begin(State::Converted.step(), &format!("preparing the image ({spec})"))?;
        let used = self.disk_inputs();
        match (&self.publication, published && self.plan.publish.is_some()) {
            (Some(publication), true) => {
                self.host.write_images_to(publication.dir(), true, true);
            }
            // An upload reports its own progress; a provider that only publishes waits for the image.
            _ => {
                let is_published = self.plan.needs_image_dir();
                self.host.write_images_to(&self.plan.run, !self.plan.upload, is_published);
            }
        }
        let request = DiskRequest::new(self.staged_build(), spec.clone()).for_image_dir(published);
        let made = self.steps.create_disk(&request);
        let disk = made.map_err(|error| self.step_error("create_disk", error))?;
        outcome.virtual_size = disk.virtual_size;
        outcome.image_length = disk.length.unwrap_or(disk.length_limit);
        let text = format!("prepared {} ({})", bytes(outcome.image_length), disk.spec);
        let mut facts = json!(disk);
        if self.plan.disk.is_some() {
            facts[INPUTS] = used;
        }
        let facts = self.with_guest(facts, outcome);
        self.end(State::Converted.step(), &text, facts, outcome)?;
        let settings = &self.plugin.description().settings;
        if let Some(advice) = disk
            .length
            .filter(|_| !published)
            .and_then(|length| compression_advice(&self.plan, &disk.spec, length, settings))
        {
            self.reporter.note(&format!("{:>9}  {advice}", ""));
        }
        Ok(disk)
    }

    /// Uploads the image to its target. Its checksum is computed at the same time if a statement needs it.
    pub(super) fn upload(&self, work: &mut Work, outcome: &mut Outcome) -> Result<()> {
        let disk = work.disk.clone().ok_or_else(|| missing("a disk", "upload"))?;
        let (step, verb) =
            (State::Uploaded.step(), if self.plan.upload { "uploading" } else { "writing" });
        self.begin(step, &format!("{verb} {}", bytes(outcome.image_length)))?;
        let over = AtomicBool::new(false);
        let wants = self.plan.upload && (self.wants_statement() || self.marks_disk());
        let made = self.host.made(disk.id).filter(|_| wants && work.sent_sha256.is_none());
        let stays = self.plan.flow() == Flow::Upload;
        let request = UploadRequest::new(self.staged_build(), disk.clone()).stays(stays);
        let (this, over) = (self, &over);
        let (uploaded, digest) = std::thread::scope(|scope| {
            let started = made.map(|made| {
                let again = made.clone();
                let digest = move || this.digest_of_image(&made, over);
                std::thread::Builder::new().spawn_scoped(scope, digest).map_err(|_| again)
            });
            let uploaded = self.steps.upload(&request);
            over.store(uploaded.is_err(), Ordering::Relaxed);
            let digest = started.map(|started| match started {
                Ok(thread) => thread.join(),
                // Without another thread, afterwards.
                Err(made) => Ok(this.digest_of_image(&made, over)),
            });
            (uploaded, digest)
        });
        let uploaded = uploaded.map_err(|error| self.step_error(step, error))?;
        let panic_error = |_| Error::new(Stage::Bug, "the checksum of the image was not taken");
        let digest = digest.map(|joined| joined.map_err(panic_error)).transpose()?.transpose()?;
        work.sent_sha256 = digest.or_else(|| work.sent_sha256.take());
        self.show_uploaded(&uploaded, outcome);
        self.is_usable_later(outcome)?;
        let text = self.arrived(&uploaded, outcome);
        let mut facts = json!(uploaded);
        if let Some(sha256) = &work.sent_sha256 {
            facts[SENT] = json!(sha256);
        }
        work.uploaded = Some(uploaded);
        self.end(step, &text, facts, outcome)
    }

    /// Describes what is at the target now, and how much of it this process sent.
    fn arrived(&self, uploaded: &Uploaded, outcome: &Outcome) -> String {
        let length = uploaded.facts.get("size").and_then(Value::as_u64);
        let length = bytes(length.unwrap_or(outcome.image_length));
        let sent = bytes(uploaded.bytes_sent);
        let location = &uploaded.location;
        if !self.plan.upload {
            return format!("wrote {length} to {location}");
        }
        let is_result = self.plan.flow() == Flow::Upload;
        let place = if is_result || self.settings.core().output.verbose {
            format!(" to {location}")
        } else {
            String::new()
        };
        if sent == length {
            return format!("uploaded {length}{place}");
        }
        format!("uploaded {length}{place}, of which {sent} by this process")
    }

    /// Returns the SHA-256 of the image that an earlier process of the run sent, if it was computed.
    pub(super) fn sent_before(&self) -> Option<String> {
        let facts = self.host.step_done(State::Uploaded.step())?;
        facts.get(SENT)?.as_str().map(str::to_owned)
    }

    pub(super) fn show_uploaded(&self, uploaded: &Uploaded, outcome: &mut Outcome) {
        outcome.bytes_sent = uploaded.bytes_sent;
        self.show_object(uploaded, outcome);
        if !self.plan.upload {
            outcome.location = self.plan.build.image_dir.clone();
            outcome.file = Some(self.host.shown(&uploaded.location));
        }
    }

    /// Registers the image at its target, under its final name.
    pub(super) fn register(&self, work: &mut Work, outcome: &mut Outcome) -> Result<()> {
        let uploaded = work.uploaded.clone().or_else(|| self.located());
        let uploaded = uploaded.ok_or_else(|| missing("an upload", "register"))?;
        let step = State::Registered.step();
        self.name_same(work);
        self.begin(step, &format!("registering image {}", self.plan.build.image_name))?;
        let mut request = RegisterRequest::new(self.staged_build(), uploaded);
        request.disk_digest = self.mark(work);
        let registered: Registered =
            self.steps.register(&request).map_err(|error| self.step_error(step, error))?;
        let Some(first) = registered.images.first() else {
            let text = format!(
                "provider `{}` registered no image and reported no error",
                self.plan.platform
            );
            return Err(Error::new(Stage::Provider(ErrorKind::Internal), text));
        };
        let text = format!("registered image {}", first.id);
        self.end(step, &text, json!(registered), outcome)?;
        self.show_registered(registered, outcome);
        Ok(())
    }

    /// Adds registered images to the outcome and the records.
    pub(super) fn show_registered(&self, registered: Registered, outcome: &mut Outcome) {
        let translated = self.host.translated(json!(registered));
        let registered = serde_json::from_value(translated).unwrap_or(registered);
        if let Some(first) = registered.images.first() {
            outcome.image_id.clone_from(&first.id);
            outcome.image_name.clone_from(&first.name);
        }
        let entry = |image: build_image_plugin_api::document::Image| ImageEntry {
            id: image.id,
            name: image.name,
            region: image.region,
        };
        outcome.images = registered.images.into_iter().map(entry).collect();
        let (prefix, redactor) = (&self.plan.platform, self.host.redactor());
        let with_prefix = |(name, value)| (format!("{prefix}_{name}"), redactor.value(value));
        outcome.provider = registered.facts.into_iter().map(with_prefix).collect();
        self.write_down(|records| records.registered(outcome));
    }
}

fn missing(what: &str, step: &str) -> Error {
    Error::new(Stage::Bug, format!("step {step} was started without {what}"))
}

/// Summarises checks that found no error.
fn passed(findings: &[Finding]) -> String {
    let passed = findings.iter().filter(|finding| finding.severity == Severity::Ok).count();
    let warnings = findings.len() - passed;
    let counted =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    match (passed, warnings) {
        (0, 0) => "no problem found".to_owned(),
        (_, 0) => format!("{} passed", counted(passed, "check")),
        (0, _) => counted(warnings, "warning"),
        _ => format!("{} passed, {}", counted(passed, "check"), counted(warnings, "warning")),
    }
}

fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_counted_by_result() {
        let (ok, odd) = (Finding::ok("a", "b"), Finding::warning("a", "b", "c"));
        for (findings, text) in [
            (vec![], "no problem found"),
            (vec![ok.clone()], "1 check passed"),
            (vec![ok.clone(), ok.clone()], "2 checks passed"),
            (vec![odd.clone()], "1 warning"),
            (vec![ok, odd.clone(), odd], "1 check passed, 2 warnings"),
        ] {
            assert_eq!(passed(&findings), text);
        }
    }
}
