//! Walks a plan; the only file that knows the order of steps. Whatever fails, what was created is
//! removed in reverse order, and what could not be removed is listed.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use build_image_disk::qemu::Qemu;
use build_image_plugin_api::{Error as ProviderError, ErrorKind, Steps};
use serde_json::Value;

use crate::{
    artifacts::{self, Claim, cannot_make},
    error::{Error, Result, Stage},
    install,
    interrupt::Interrupt,
    journal::{Entry, Journal, Key},
    plan::{Installation, Plan, check_space},
    plugins::{Origin, Plugin, RunHost},
    records::Records,
    registry,
    report::{Outcome, Reporter},
    settings::{Environment, Resolved},
};

/// A build with everything it works with.
pub struct Pipeline<'a> {
    pub(super) plan: &'a Plan,
    pub(super) plugin: &'a Plugin,
    pub(super) settings: &'a Resolved,
    pub(super) records: Records<'a>,
    pub(super) host: Arc<RunHost>,
    pub(super) steps: Box<dyn Steps>,
    pub(super) qemu: Option<Qemu>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) interrupt: Arc<Interrupt>,
    /// The folder of this build's files, once it is needed.
    pub(super) claim: Mutex<Option<Claim>>,
}

/// What a pipeline is made of.
pub struct Start<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// Who does the provider's part.
    pub plugin: &'a Plugin,
    /// All settings.
    pub settings: &'a Resolved,
    /// For finding qemu and for what it may see.
    pub environment: &'a Environment,
    /// The command line without secrets.
    pub words: Vec<String>,
    /// For telling.
    pub reporter: Arc<Reporter>,
    /// For stopping.
    pub interrupt: Arc<Interrupt>,
}

impl<'a> Pipeline<'a> {
    /// Opens the run's journal and makes the provider's instance.
    ///
    /// # Errors
    /// When the journal cannot be written or the provider refuses its settings.
    pub fn new(start: Start<'a>) -> Result<Self> {
        let Start { plan, plugin, settings, environment, words, reporter, interrupt } = start;
        let rows = &plugin.rows();
        let find = |installation: &Installation| {
            install::find_qemu(installation.machine.qemu.as_deref(), environment)
        };
        let qemu = plan.installation.as_ref().map(find).transpose()?;
        let journal = Journal::open(&plan.run, &Arc::new(Key::of(settings, environment)?))?;
        let secrets = settings.secrets(rows);
        let host =
            Arc::new(RunHost::new(journal, Arc::clone(&reporter), Arc::clone(&interrupt), secrets));
        let own_settings = settings.for_provider(rows);
        let sha256 = plugin.sha256.clone();
        let tool = env!("CARGO_PKG_VERSION").to_owned();
        let fresh = host.is_fresh();
        host.record(if fresh {
            Entry::RunStarted {
                run_id: plan.build.run_id.clone(),
                tool,
                platform: plan.platform.clone(),
                plugin: plugin.path.display().to_string(),
                sha256,
                settings: serde_json::to_value(&own_settings).unwrap_or_default(),
                words,
                folder: std::env::current_dir().unwrap_or_default().display().to_string(),
                build: Box::new(plan.build.clone()),
                artifacts: plan.installation.as_ref().map(|_| plan.artifacts.clone()),
            }
        } else {
            Entry::RunResumed { tool, sha256 }
        })?;
        let lent: Arc<dyn build_image_plugin_api::Host> = host.clone();
        let made = plugin.create(lent, &own_settings);
        let steps = made.map_err(|error| {
            if fresh {
                artifacts::remove_run(&plan.run, &plan.base);
            }
            Error::provider(&plan.platform, "create", host.mask().error(error))
        })?;
        let claim = Mutex::default();
        let records = Records::new(plan, settings);
        Ok(Self { plan, plugin, settings, records, host, steps, qemu, reporter, interrupt, claim })
    }

    /// Runs all steps. On failure what was created is removed; leftovers are in the outcome.
    ///
    /// # Errors
    /// The first failure.
    pub fn run(&self, outcome: &mut Outcome) -> Result<()> {
        // A bug must not keep the undo from happening.
        let result = catch_unwind(AssertUnwindSafe(|| self.build(outcome))).unwrap_or_else(|_| {
            Err(Error::new(Stage::Bug, "build-image panicked").hint("report it with the log file"))
        });
        self.reporter.abandon();
        self.host.drop_images();
        self.interrupt.begin_undo();
        if result.is_err() {
            outcome.images.clear();
            outcome.image_id.clear();
        }
        let kept = result.is_err() && self.plan.keep_on_failure;
        if !kept {
            self.discard(result.is_ok(), outcome);
        }
        self.write_down(|records| records.ended(outcome, result.is_ok()));
        let word = result.as_ref().map_or_else(Error::kind, |()| "success");
        self.tidy(word, kept, outcome);
        result?;
        // The image is there and stays, whatever the registry says.
        let told = self.plan.upload.then(|| {
            registry::tell(self.plan, self.settings, outcome, &self.interrupt, &self.reporter)
        });
        told.unwrap_or(Ok(()))
    }

    fn build(&self, outcome: &mut Outcome) -> Result<()> {
        let plan = self.plan;
        let cloud = self.plugin.description().uploads;
        if cloud && plan.upload && self.is_registered(outcome) {
            return Ok(());
        }
        if let Some(folder) = plan.build.image_dir.as_ref().filter(|_| plan.needs_image_dir()) {
            fs::create_dir_all(folder).map_err(|error| cannot_make(folder.as_ref(), &error))?;
        }
        check_space(plan)?;
        self.check(outcome)?;
        self.interrupt.check()?;
        let (disk, made_here) = match &plan.installation {
            Some(_) => (self.install(outcome)?, true),
            None => (plan.disk.as_ref().map(|disk| disk.path.clone()).unwrap_or_default(), false),
        };
        let origin = Origin {
            path: disk,
            is_raw: made_here,
            given: plan.disk.as_ref().map(|disk| disk.reader.clone()),
            virtual_size: plan.build.virtual_size,
            disk_name: plan.build.disk_name.clone(),
            date: self.settings.builder().date,
            signer: self.signer()?.map(Arc::new),
        };
        self.host.set_disk(origin, &plan.build.file_stem);
        self.interrupt.check()?;
        if let Some(folder) = &plan.publish {
            let disk = self.create_disk(true, outcome)?;
            self.publish(&disk, folder, outcome)?;
            self.interrupt.check()?;
        }
        if cloud && !plan.upload {
            // What lies in IMAGE_DIR is what was asked for: nothing may take it away again.
            self.attest(None, outcome);
            return self.host.record(Entry::ProductsReleased);
        }
        let disk = self.create_disk(!cloud, outcome)?;
        self.interrupt.check()?;
        let uploaded = self.upload(disk.clone(), outcome)?;
        self.interrupt.check()?;
        self.register(uploaded, outcome)?;
        if let (Some(file), false) = (&outcome.file, cloud) {
            let file = PathBuf::from(file);
            self.begin("seal", "taking digests of what was published")?;
            self.seal(&file, &[])?;
            self.end("seal", "digests written beside it", Value::Null, outcome)?;
        }
        self.attest(Some(&disk).filter(|_| cloud), outcome);
        Ok(())
    }

    /// Ends the journal and removes files that nobody needs any more.
    fn tidy(&self, word: &str, kept: bool, outcome: &Outcome) {
        let plan = self.plan;
        if let Err(error) = self.host.record(Entry::RunDone { result: word.to_owned() }) {
            self.reporter.warning(&error.message, error.hint.as_deref());
        }
        if kept {
            let id = &plan.build.run_id;
            self.reporter.note(&format!("     kept  go on with: build-image resume {id}"));
            return;
        }
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(claim) = claim.filter(|_| !plan.keep) {
            if word == "success" {
                claim.remove(&plan.base);
            } else {
                // The serial logs say why it failed; half a disk is of no use.
                let _ = fs::remove_file(plan.raw_disk());
            }
        }
        if outcome.leftovers.is_empty() && !plan.keep {
            artifacts::remove_run(&plan.run, &plan.base);
        }
    }

    /// Writes records for other programs, where the build has a folder. They are no reason to fail.
    pub(super) fn write_down(&self, what: impl FnOnce(&Records<'_>) -> Result<()>) {
        if self.claim.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return;
        }
        if let Err(error) = what(&self.records) {
            self.reporter.warning(&error.message, error.hint.as_deref());
        }
    }

    pub(super) fn begin(&self, step: &str, text: &str) -> Result<()> {
        self.reporter.begin(step, text);
        self.host.record(Entry::StepStarted { step: step.to_owned() })
    }

    pub(super) fn end(
        &self,
        step: &str,
        text: &str,
        facts: Value,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let took = self.reporter.end(&self.host.mask().text(text));
        outcome.durations.insert(step.to_owned(), (took.as_secs_f64() * 1000.0).round() / 1000.0);
        self.host
            .record(Entry::StepDone { step: step.to_owned(), facts: self.host.mask().value(facts) })
    }

    /// A provider's failure. It counts as an interruption only when there was one.
    pub(super) fn failed(&self, step: &str, error: ProviderError) -> Error {
        if self.interrupt.is_set() {
            return Error::interrupted();
        }
        let mut error = self.host.mask().error(error);
        if error.kind == ErrorKind::Cancelled {
            error.kind = ErrorKind::Internal;
        }
        Error::provider(&self.plan.platform, step, error)
    }
}
