//! Walks a plan; the only file that knows the order of steps. Whatever fails, what was created is
//! removed in reverse order, and what could not be removed is listed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use build_image_disk::{qemu::Qemu, view::materialise};
use build_image_plugin_api::{
    Disk, Host as _, Resource, Steps,
    document::{
        CheckRequest, DiscardRequest, DiskRequest, Finding, RegisterRequest, Registered, Severity,
        UploadRequest, Uploaded,
    },
};

use crate::{
    artifacts::{self, cannot_make},
    error::{Error, Problem, Result, Stage},
    install::{self, Workshop},
    interrupt::Interrupt,
    journal::{Entry, Journal},
    plan::Plan,
    plugins::{Plugin, RunHost},
    report::{ImageEntry, Leftover, Outcome, Reporter},
    settings::{Environment, Resolved},
    source::from_disk,
};

/// A build with everything it works with.
pub struct Pipeline<'a> {
    plan: &'a Plan,
    plugin: &'a Plugin,
    host: Arc<RunHost>,
    steps: Box<dyn Steps>,
    qemu: Option<Qemu>,
    reporter: Arc<Reporter>,
    interrupt: Arc<Interrupt>,
}

impl<'a> Pipeline<'a> {
    /// Opens the run's journal and makes the provider's instance.
    ///
    /// # Errors
    /// When the journal cannot be written or the provider refuses its settings.
    pub fn new(
        plan: &'a Plan,
        plugin: &'a Plugin,
        settings: &Resolved,
        environment: &Environment,
        reporter: Arc<Reporter>,
        interrupt: Arc<Interrupt>,
    ) -> Result<Self> {
        let rows = &plugin.rows();
        let find = |installation| install::find_qemu(installation, &environment.for_children());
        let qemu = plan.installation.as_ref().map(find).transpose()?;
        let journal = Journal::open(&plan.run)?;
        let secrets = settings.secrets(rows);
        let host =
            Arc::new(RunHost::new(journal, Arc::clone(&reporter), Arc::clone(&interrupt), secrets));
        host.record(Entry::RunStarted {
            run_id: plan.build.run_id.clone(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            platform: plan.platform.clone(),
        })?;
        let lent: Arc<dyn build_image_plugin_api::Host> = host.clone();
        let steps = plugin
            .library
            .create(lent, &settings.for_provider(rows))
            .map_err(|error| Error::provider(&plan.platform, "create", error))?;
        Ok(Self { plan, plugin, host, steps, qemu, reporter, interrupt })
    }

    /// Runs all steps. On failure what was created is removed; leftovers are in the outcome.
    ///
    /// # Errors
    /// The first failure.
    pub fn run(&self, outcome: &mut Outcome) -> Result<()> {
        let result = self.build(outcome);
        let means_only = result.is_ok();
        self.reporter.clear();
        self.interrupt.begin_undo();
        self.discard(means_only, outcome);
        let word = result.as_ref().map_or_else(Error::kind, |()| "success");
        self.tidy(word, outcome);
        result
    }

    fn build(&self, outcome: &mut Outcome) -> Result<()> {
        let plan = self.plan;
        if let Some(folder) = plan.build.image_dir.as_ref().filter(|_| plan.needs_image_dir()) {
            fs::create_dir_all(folder).map_err(|error| cannot_make(folder.as_ref(), &error))?;
        }
        if plan.upload || !self.plugin.description().uploads {
            self.check(outcome)?;
        }
        self.interrupt.check()?;
        let raw = match &plan.installation {
            Some(_) => self.install(outcome)?,
            None => plan.disk.clone().unwrap_or_default(),
        };
        self.host.set_disk(&raw, &plan.build.file_stem, &plan.build.run_id);
        self.interrupt.check()?;
        let disk = self.create_disk(outcome)?;
        if let Some(folder) = &plan.publish {
            self.publish(&disk, folder, outcome)?;
        }
        if !plan.upload && self.plugin.description().uploads {
            return Ok(());
        }
        self.interrupt.check()?;
        let uploaded = self.upload(disk, outcome)?;
        self.interrupt.check()?;
        self.register(uploaded, outcome)
    }

    fn check(&self, outcome: &mut Outcome) -> Result<()> {
        self.begin(
            "check",
            &format!("asking provider {} before the long part", self.plan.platform),
        )?;
        let request = CheckRequest { build: self.plan.build.clone() };
        let report = self.steps.check(&request).map_err(|error| self.failed("check", error))?;
        let count = report.findings.len();
        let (errors, others): (Vec<Finding>, Vec<Finding>) =
            report.findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        for finding in others {
            let text = format!("{}: {}", finding.subject, finding.message);
            if finding.severity == Severity::Warning {
                self.reporter.warning(&text, finding.hint.as_deref());
            } else {
                tracing::info!("{text}");
            }
        }
        if !errors.is_empty() {
            return Err(self.refused(errors));
        }
        self.end("check", &format!("{count} checks passed"), outcome)
    }

    /// One error out of all findings that stop the build.
    fn refused(&self, findings: Vec<Finding>) -> Error {
        let kinds = findings.iter().find_map(|finding| finding.kind.as_deref());
        let kind = build_image_plugin_api::ErrorKind::from_code(kinds.unwrap_or("provider"));
        let count = findings.len();
        let problems = findings.into_iter().map(|finding| Problem {
            message: format!("{}: {}", finding.subject, finding.message),
            hint: finding.hint,
        });
        Error::several(
            Stage::Provider(kind),
            format!(
                "provider `{}` found {count} problem{}",
                self.plan.platform,
                if count == 1 { "" } else { "s" }
            ),
            problems.collect(),
        )
    }

    fn install(&self, outcome: &mut Outcome) -> Result<PathBuf> {
        let (Some(installation), Some(qemu)) = (&self.plan.installation, &self.qemu) else {
            return Err(Error::new(Stage::Bug, "an installation was started without an ISO"));
        };
        let (raw, folder) = (self.plan.raw_disk(), &self.plan.artifacts);
        artifacts::make(folder)?;
        let accel = install::choose_accel(installation, qemu)?;
        if accel.accel == build_image_disk::qemu::Accel::Tcg && installation.machine.accel == "auto"
        {
            let text = format!(
                "installing without hardware acceleration, which is slow: {}",
                accel.reason
            );
            self.reporter.warning(&text, None);
        }
        let text = format!(
            "installing {} {} in qemu ({})",
            installation.facts.product, installation.facts.version, accel.accel
        );
        self.begin("install", &text)?;
        let work = tempfile::Builder::new()
            .prefix("tmp.")
            .tempdir_in(folder)
            .map_err(|error| cannot_make(folder, &error))?;
        let workshop = Workshop {
            installation,
            platform: &self.plan.platform,
            disk: &raw,
            size: self.plan.build.virtual_size,
            work: work.path(),
            logs: folder,
            qemu,
            accel: &accel,
            reporter: &self.reporter,
            interrupt: &self.interrupt,
        };
        workshop.install()?;
        self.end("install", "disk installed", outcome)?;
        Ok(raw)
    }

    fn create_disk(&self, outcome: &mut Outcome) -> Result<Disk> {
        self.begin("disk", &format!("showing the disk as {}", self.plan.spec.format.word()))?;
        let request = DiskRequest { build: self.plan.build.clone(), spec: self.plan.spec.clone() };
        let disk =
            self.steps.create_disk(&request).map_err(|error| self.failed("create_disk", error))?;
        outcome.virtual_size = disk.virtual_size;
        outcome.image_length = disk.length;
        let text = format!("{} image of {}", disk.spec.format.word(), bytes(disk.length));
        self.end("disk", &text, outcome)?;
        Ok(disk)
    }

    fn publish(&self, disk: &Disk, folder: &Path, outcome: &mut Outcome) -> Result<()> {
        let target = folder.join(&disk.file_name);
        self.begin("publish", &format!("writing {}", target.display()))?;
        fs::create_dir_all(folder).map_err(|error| cannot_make(folder, &error))?;
        let view = self.host.view(disk.id).ok_or_else(|| {
            Error::new(
                Stage::Bug,
                format!("the provider returned disk {}, which was never made", disk.id),
            )
        })?;
        let mut progress = |done| {
            let unit = build_image_plugin_api::ProgressUnit::Bytes;
            self.reporter.progress(build_image_plugin_api::Progress {
                unit,
                done,
                total: disk.length,
            });
            if self.interrupt.is_set() {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        };
        materialise(view.as_ref(), &target, &mut progress)
            .map_err(|error| from_disk(Stage::Disk, error))?;
        outcome.location = Some(folder.display().to_string());
        self.end("publish", &format!("{} written", target.display()), outcome)
    }

    fn upload(&self, disk: Disk, outcome: &mut Outcome) -> Result<Uploaded> {
        self.begin("upload", &format!("sending {}", bytes(disk.length)))?;
        let request = UploadRequest { build: self.plan.build.clone(), disk };
        let uploaded = self.steps.upload(&request).map_err(|error| self.failed("upload", error))?;
        outcome.bytes_sent = uploaded.bytes_sent;
        self.end(
            "upload",
            &format!("{} now at {}", bytes(uploaded.bytes_sent), uploaded.location),
            outcome,
        )?;
        Ok(uploaded)
    }

    fn register(&self, uploaded: Uploaded, outcome: &mut Outcome) -> Result<()> {
        self.begin("register", &format!("registering image {}", self.plan.build.image_name))?;
        let request = RegisterRequest { build: self.plan.build.clone(), uploaded };
        let registered: Registered =
            self.steps.register(&request).map_err(|error| self.failed("register", error))?;
        let Some(first) = registered.images.first() else {
            return Err(Error::new(
                Stage::Plugin,
                format!(
                    "provider `{}` registered no image and reported no error",
                    self.plan.platform
                ),
            ));
        };
        outcome.image_id.clone_from(&first.id);
        outcome.image_name.clone_from(&first.name);
        let text = format!("image {} registered", first.id);
        outcome.images = registered
            .images
            .into_iter()
            .map(|image| ImageEntry { id: image.id, name: image.name, region: image.region })
            .collect();
        let prefix = &self.plan.platform;
        let facts =
            registered.facts.into_iter().map(|(name, value)| (format!("{prefix}_{name}"), value));
        outcome.provider = facts.collect();
        self.end("register", &text, outcome)
    }

    /// Removes means after a success, everything after a failure, last created first.
    fn discard(&self, means_only: bool, outcome: &mut Outcome) {
        let mut resources: Vec<Resource> = self.host.resources();
        resources.retain(|resource| !(means_only && resource.product));
        resources.reverse();
        if resources.is_empty() {
            return;
        }
        tracing::info!(count = resources.len(), "removing what is no longer needed");
        if !means_only {
            let labels: Vec<String> = resources.iter().map(Resource::label).collect();
            self.reporter.note(&format!("  cleanup  removing {}", labels.join(", ")));
        }
        match self.steps.discard(&DiscardRequest { resources: resources.clone() }) {
            Ok(answer) => {
                outcome.leftovers.extend(answer.remaining.into_iter().map(|remaining| Leftover {
                    resource: remaining.resource,
                    reason: remaining.reason,
                    hint: remaining.hint,
                }));
            }
            Err(error) => outcome.leftovers.extend(resources.into_iter().map(|resource| {
                Leftover { resource, reason: error.to_string(), hint: error.hint.clone() }
            })),
        }
    }

    /// Ends the journal and removes files that nobody needs any more.
    fn tidy(&self, word: &str, outcome: &Outcome) {
        let plan = self.plan;
        if let Err(error) = self.host.record(Entry::RunDone { result: word.to_owned() }) {
            self.reporter.warning(&error.message, error.hint.as_deref());
        }
        if plan.installation.is_some() && !plan.keep {
            if word == "success" {
                artifacts::remove(&plan.artifacts, &plan.base);
            } else {
                // The serial logs say why it failed; half a disk is of no use.
                let _ = fs::remove_file(plan.raw_disk());
            }
        }
        if outcome.leftovers.is_empty() && !plan.keep {
            artifacts::remove_run(&plan.run, &plan.base);
        }
    }

    fn begin(&self, step: &str, text: &str) -> Result<()> {
        self.reporter.begin(step, text);
        self.host.record(Entry::StepStarted { step: step.to_owned() })
    }

    fn end(&self, step: &str, text: &str, outcome: &mut Outcome) -> Result<()> {
        let took = self.reporter.end(text);
        outcome.durations.insert(step.to_owned(), (took.as_secs_f64() * 1000.0).round() / 1000.0);
        self.host.record(Entry::StepDone { step: step.to_owned(), facts: serde_json::Value::Null })
    }

    fn failed(&self, step: &str, error: build_image_plugin_api::Error) -> Error {
        if self.host.is_cancelled() {
            return Error::interrupted();
        }
        Error::provider(&self.plan.platform, step, error)
    }
}

fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}
