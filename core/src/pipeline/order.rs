//! Executes a plan from state to state. A failure before the release is undone in reverse order; the steps after it
//! are finished. Resources that could not be removed are listed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use build_image_disk::qemu::Qemu;
use build_image_plugin_api::{
    Disk, Error as ProviderError, ErrorKind, Steps,
    document::{Registered, Uploaded},
};
use serde_json::Value;

use super::{
    changed::Earlier,
    shared::Member,
    state::{Entrance, PUBLISH, Row, State, TABLE, label},
};
use crate::{
    artifacts::{self, Claim},
    boot_test::check_firmware,
    bundle::BundleImage,
    error::{Error, Result, Stage},
    install,
    interrupt::Interrupt,
    journal::{Entry, HostId, Journal, Key, continued, is_continued},
    once::Once,
    plan::{Plan, check_space},
    plugins::{Plugin, RunHost},
    publication::{Publication, Translation},
    report::{Outcome, Reporter},
    settings::{Environment, Resolved},
    signature::Algorithm,
    source::Slot,
};

/// A build with everything that it needs.
pub struct Pipeline<'a> {
    pub(super) plan: Plan,
    pub(super) plugin: &'a Plugin,
    pub(super) settings: &'a Resolved,
    pub(super) host: Arc<RunHost>,
    pub(super) steps: Box<dyn Steps>,
    pub(super) qemu: Option<Qemu>,
    pub(super) key: Arc<Key>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) interrupt: Arc<Interrupt>,
    /// The claimed directory of this build's files, once it is needed.
    pub(super) claim: Mutex<Option<Claim>>,
    /// The journal entries of earlier processes of the run.
    pub(super) earlier: Vec<Entry>,
    /// The staging directory of published files until the release, once it is needed.
    pub(super) publication: Option<Publication>,
    /// IMAGE_DIR, if this build created it.
    pub(super) made_image_dir: Option<PathBuf>,
    /// The downloads that contain the source; they are locked as long as these are held.
    pub(super) downloads: Vec<Slot>,
    /// The image of the bundle that is published, once it is verified.
    pub(super) verified: Option<Arc<BundleImage>>,
    /// Whether this process has changed a resource or file of the run.
    pub(super) acted: bool,
    /// Failures after which the image stays.
    pub(super) late: Vec<Error>,
    /// Why the target refuses the image, unless the account has it already.
    pub(super) refused: Option<Error>,
    /// The bill of materials, until it is staged.
    pub(super) bill: Option<String>,
    /// The name under which this is built, if it has one.
    pub(super) once: Option<Box<Once>>,
    /// The target, if the build has several.
    pub(super) member: Option<Member>,
}

/// The parameters of a pipeline.
pub struct PipelineParams<'a> {
    /// The plan.
    pub plan: Plan,
    /// The provider.
    pub plugin: &'a Plugin,
    /// All settings.
    pub settings: &'a Resolved,
    /// Where qemu is found, and which variables it may see.
    pub environment: &'a Environment,
    /// The journal; absent = that of the run, in its directory.
    pub journal: Option<Journal>,
    /// The command line without secrets.
    pub words: Vec<String>,
    /// The name under which this is built, locked, if it has one.
    pub once: Option<Box<Once>>,
    /// Signs the journal and the records of downloads.
    pub key: Arc<Key>,
    /// Reports progress.
    pub reporter: Arc<Reporter>,
    /// Cancels the build.
    pub interrupt: Arc<Interrupt>,
    /// The target, if the build has several.
    pub member: Option<Member>,
}

/// Results that steps pass to later steps.
#[derive(Default)]
pub(super) struct Work {
    /// The raw disk, when this process installed it.
    pub(super) raw: Option<PathBuf>,
    /// The image for the target.
    pub(super) disk: Option<Disk>,
    /// Files that the host wrote for IMAGE_DIR, with the checksums computed while they were written.
    pub(super) published: Vec<(PathBuf, Vec<(Algorithm, String)>)>,
    /// The result of the upload.
    pub(super) uploaded: Option<Uploaded>,
    /// SHA-256 of the image as it was sent, when a statement is requested.
    pub(super) sent_sha256: Option<String>,
}

impl<'a> Pipeline<'a> {
    /// Opens the run's journal and creates the provider's instance.
    ///
    /// # Errors
    /// When the journal cannot be written or the provider refuses its settings.
    pub fn new(params: PipelineParams<'a>) -> Result<Self> {
        let PipelineParams { plan, plugin, settings, environment, .. } = params;
        let PipelineParams { journal, words, once, key, reporter, interrupt, member, .. } = params;
        let rows = &plugin.rows();
        let program = settings.core().machine.qemu.as_deref();
        let needs_qemu = plan.installs || settings.core().boot.enabled;
        let qemu = needs_qemu.then(|| install::find_qemu(program, environment)).transpose()?;
        check_firmware(settings, plan.disk.as_ref().map(|disk| &disk.facts))?;
        super::sbom::check_settings(settings)?;
        let has_directory = journal.is_none();
        let journal = journal.map_or_else(|| open_journal(&plan, &key), Ok)?;
        let own_settings = settings.for_provider(rows);
        let document = serde_json::to_value(&own_settings).unwrap_or_default();
        let earlier = Earlier::new(journal.entries().to_vec(), &document).warned(&reporter);
        let secrets = settings.secrets(rows);
        let host = RunHost::new(journal, Arc::clone(&reporter), Arc::clone(&interrupt), secrets);
        let host = Arc::new(super::shared::with_shared(host, &plan, settings, member.as_ref()));
        let fresh = earlier.is_empty();
        let entry = if fresh {
            run_started(&plan, plugin, document, words, member.as_ref())
        } else {
            run_resumed(plugin, document)
        };
        host.record(entry)?;
        // A run that was not begun leaves nothing.
        let forget = || {
            if fresh && has_directory {
                artifacts::remove_run(&plan.run, &plan.base);
            }
        };
        if let Some(directory) = plan.build.image_dir.as_ref().filter(|_| plan.needs_image_dir()) {
            let translation = Translation::of(Path::new(directory), &plan.build.run_id);
            host.set_translation(translation.inspect_err(|_| forget())?);
        }
        let made = plugin.create(host.clone(), &own_settings);
        let steps = made.map_err(|error| {
            forget();
            Error::provider(&plan.platform, "create", host.redactor().error(error))
        })?;
        Ok(Self {
            plan,
            plugin,
            settings,
            host,
            steps,
            qemu,
            key,
            reporter,
            interrupt,
            claim: Mutex::default(),
            earlier,
            publication: None,
            made_image_dir: None,
            downloads: Vec::new(),
            verified: None,
            acted: false,
            late: Vec::new(),
            refused: None,
            bill: None,
            once,
            member,
        })
    }

    /// Returns the plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the downloads that contain the source; the caller removes or keeps them.
    pub(crate) fn take_downloads(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.downloads)
    }

    /// Runs all steps.
    ///
    /// # Errors
    /// The first failure. Before the release everything the build created was removed or is kept for `resume`;
    /// afterwards the image stays, and the outcome names it.
    pub fn run(&mut self, outcome: &mut Outcome) -> Result<()> {
        let built = guarded(|| self.build(outcome));
        self.reporter.abandon();
        self.host.drop_images();
        self.interrupt.hold();
        let ended = match built.and_then(|()| self.release()) {
            Ok(()) => guarded(|| self.follow(outcome)),
            Err(mut error) => {
                if error.stage == Stage::Interrupted && self.interrupt.has_signal() {
                    // Whatever was at work names its part only.
                    "interrupted".clone_into(&mut error.message);
                }
                self.abandon(&error, outcome);
                Err(error)
            }
        };
        self.hand_over();
        ended
    }

    /// Runs the steps up to the release.
    fn build(&mut self, outcome: &mut Outcome) -> Result<()> {
        let mut work = Work::default();
        if self.was_reached(State::Converted) && !self.was_reached(State::Released) {
            self.open_publication()?;
        }
        self.take_up(&mut work, outcome);
        for row in self.plan.flow().states(self.plan.installs) {
            if row.state >= State::Released || !self.is_due(row) {
                continue;
            }
            if row.cancellable {
                self.interrupt.check()?;
            }
            // Steps before the installation do not change what an earlier process left.
            self.acted |= row.state >= State::Installed && row.state <= State::Registered;
            match row.state {
                State::Checked => {
                    self.make_image_dir()?;
                    if !self.plan.provisional || !self.plan.installs {
                        // With an ISO, the names of the files are known only after it is read.
                        self.open_publication()?;
                    }
                    check_space(&self.plan)?;
                    self.check(outcome)?;
                }
                State::Fetched => self.fetch(outcome)?,
                State::Installed => work.raw = Some(self.install(outcome)?),
                State::Converted => self.convert(&mut work, outcome)?,
                State::Uploaded if self.skips(&mut work, outcome)? => {}
                State::Uploaded => {
                    self.upload(&mut work, outcome)?;
                    self.input_is_unchanged()?;
                }
                State::Registered if outcome.skipped => {}
                State::Registered => self.register(&mut work, outcome)?,
                State::Attested => self.attest(&mut work, outcome)?,
                State::Planned | State::Released | State::Notified => {}
            }
        }
        Ok(())
    }

    /// Returns whether a step must run: no step before the last state whose result is kept, unless a later step needs
    /// it.
    pub(super) fn is_due(&self, row: &Row) -> bool {
        // The content of the staging directory is checked again: only a release makes it final.
        let is_staged = self.plan.needs_image_dir() && !self.was_reached(State::Released);
        let is_kept = |row: &&Row| {
            row.entrance == Entrance::Keep
                && row.state.is_reached(&self.earlier)
                && !(is_staged && row.state == State::Attested)
        };
        let last = TABLE.iter().rev().find(is_kept).map(|row| row.state);
        if last.is_none_or(|last| row.state > last) {
            return true;
        }
        let attests = !State::Attested.is_reached(&self.earlier) || self.lacks_statement();
        match row.state {
            State::Attested => attests,
            // The statement names the inputs, and the image when its checksum was not computed.
            State::Fetched => attests && self.wants_statement(),
            State::Installed | State::Converted => {
                attests && self.wants_statement() && self.sent_before().is_none()
            }
            _ => false,
        }
    }

    /// Returns whether an earlier process of the run reached a state.
    pub(super) fn was_reached(&self, state: State) -> bool {
        state.is_reached(&self.earlier)
    }

    /// Restores what an earlier process of the run recorded when its image was registered.
    fn take_up(&self, work: &mut Work, outcome: &mut Outcome) {
        let facts = |state: State| self.host.step_done(state.step()).unwrap_or_default();
        if let Ok(disk) = serde_json::from_value::<Disk>(facts(State::Converted)) {
            outcome.virtual_size = disk.virtual_size;
            outcome.image_length = disk.length.unwrap_or(disk.length_limit);
        }
        outcome.guest = self.found_before();
        self.take_up_package(outcome);
        let made = self.plan.flow().made_in_cloud().unwrap_or(State::Registered);
        if !self.was_reached(made) && !self.was_reached(State::Released) {
            return;
        }
        if let Ok(uploaded) = serde_json::from_value::<Uploaded>(facts(State::Uploaded)) {
            self.show_uploaded(&uploaded, outcome);
            work.uploaded = Some(uploaded);
        }
        work.sent_sha256 = self.sent_before();
        let file = self.host.step_done(PUBLISH);
        let file = file.as_ref().and_then(|facts| facts.get("file")?.as_str());
        if let Some(file) = file.filter(|_| !self.was_reached(State::Released)) {
            work.published.push((PathBuf::from(file), Vec::new()));
        }
        if let Ok(registered) = serde_json::from_value::<Registered>(facts(State::Registered))
            && let Some(first) = registered.images.first()
        {
            self.reporter.note(&self.host.shown(&format!(" register  done before: {}", first.id)));
            self.hold_earlier();
            self.show_registered(registered, outcome);
        } else if let Some(uploaded) = &outcome.uploaded {
            self.reporter
                .note(&self.host.shown(&format!("   upload  done before: {}", uploaded.id)));
            self.hold_earlier();
        }
    }

    /// Names the file that an earlier process of the run published or staged in the outcome.
    fn take_up_package(&self, outcome: &mut Outcome) {
        let facts = self.host.step_done(PUBLISH).unwrap_or_default();
        let staged = facts.get("file").and_then(Value::as_str).map(Path::new);
        let directory = self.plan.build.image_dir.as_deref();
        let (Some(staged), Some(directory)) = (staged, directory) else { return };
        let Some(name) = staged.file_name() else { return };
        let file = Path::new(directory).join(name);
        let found = [file.as_path(), staged].into_iter().find_map(|path| path.metadata().ok());
        outcome.image_length = found.map_or(outcome.image_length, |found| found.len());
        outcome.file = Some(self.host.shown(&file.display().to_string()));
        outcome.location = Some(directory.to_owned());
    }

    pub(super) fn begin(&self, step: &str, text: &str) -> Result<()> {
        self.reporter.begin_as(step, label(step, self.plan.flow()), text);
        self.begin_silently(step)
    }

    pub(super) fn begin_silently(&self, step: &str) -> Result<()> {
        self.host.record(Entry::StepStarted { step: step.to_owned() })
    }

    pub(super) fn end(
        &self,
        step: &str,
        text: &str,
        facts: Value,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let took = self.reporter.end(&self.host.shown(text));
        outcome.durations.insert(step.to_owned(), (took.as_secs_f64() * 1000.0).round() / 1000.0);
        self.end_silently(step, facts)
    }

    /// Records that a step is finished. A later process of the run uses its facts: they are stored unredacted, and
    /// therefore must not contain secrets.
    pub(super) fn end_silently(&self, step: &str, facts: Value) -> Result<()> {
        if self.host.redactor().value(facts.clone()) != facts {
            let text = format!(
                "provider `{}` put a secret into the answer of step {step}, which would be kept on disk",
                self.plan.platform
            );
            return Err(Error::new(Stage::Provider(ErrorKind::Internal), text)
                .hint("report it to the author of the provider"));
        }
        self.host.record(Entry::StepDone { step: step.to_owned(), facts })
    }

    /// Converts a provider's failure. It counts as an interruption only when the user interrupted the build.
    pub(super) fn step_error(&self, step: &str, error: ProviderError) -> Error {
        if self.interrupt.is_set() {
            return Error::interrupted();
        }
        let mut error = self.host.shown_error(error);
        if error.kind == ErrorKind::Cancelled {
            error.kind = ErrorKind::Internal;
        }
        Error::provider(&self.plan.platform, step, error)
    }

    /// Records a failure after which the image stays.
    pub(super) fn fails_late(&mut self, error: Error) {
        self.late.push(error);
    }
}

/// Opens the journal of the run.
///
/// # Errors
/// When it cannot be written, or another process has continued or completed the run since this one was planned.
fn open_journal(plan: &Plan, key: &Arc<Key>) -> Result<Journal> {
    let journal = Journal::open(&plan.run, key)?;
    if !is_continued(plan.entries, journal.entries()) {
        return Ok(journal);
    }
    if journal.is_fresh() {
        artifacts::remove_run(&plan.run, &plan.base);
    }
    Err(continued(&plan.build.run_id))
}

/// Returns the entry of a process that resumes a run.
fn run_resumed(plugin: &Plugin, settings: Value) -> Entry {
    Entry::RunResumed {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        sha256: plugin.sha256.clone(),
        settings,
        host: Some(HostId::of_this()),
    }
}

/// Returns the first entry of a run's journal.
fn run_started(
    plan: &Plan,
    plugin: &Plugin,
    settings: Value,
    words: Vec<String>,
    member: Option<&Member>,
) -> Entry {
    Entry::RunStarted {
        run_id: plan.build.run_id.clone(),
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        platform: plan.platform.clone(),
        plugin: plugin.path.display().to_string(),
        sha256: plugin.sha256.clone(),
        settings,
        words,
        working_directory: std::env::current_dir().unwrap_or_default().display().to_string(),
        shape: plan.shape.clone(),
        provisional: plan.provisional,
        build: Box::new(plan.build.clone()),
        artifacts: plan.kept_artifacts(),
        host: Some(HostId::of_this()),
        group: member.map(|member| member.group.as_str().into()),
    }
}

/// Runs a part of the build; a panic in it must not prevent the other parts.
fn guarded(part: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(part)).unwrap_or_else(|_| {
        Err(Error::new(Stage::Bug, "build-image panicked").hint("report it with the log file"))
    })
}
