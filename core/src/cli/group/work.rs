//! Runs the targets of a build, a thread each, and records in the journal of the build which of them are done.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use build_image_plugin_api::Secret;
use serde_json::{Value, json};

use super::{
    ending::{Ended, Report},
    prepare::Target,
};
use crate::{
    artifacts,
    cli::{
        args,
        build::{self, Start},
        output::{Output, conclude},
    },
    error::{Error, Result, Stage},
    groups,
    interrupt::{self, Interrupt},
    journal::{Entry, GroupTarget, HostId, Journal, Key, continued, is_continued},
    pipeline::{Ending, Member, Shared},
    plan::{self, Draws, Suffixes},
    random,
    report::{GroupDisplay, LOGS, LogFile, LogNames, Outcome, OutputMode, Reporter, has_image},
    settings::{Environment, Layers, core_rows},
};

/// A build with several targets that is running.
pub(super) struct Job {
    id: String,
    /// Directory of the files of all builds.
    base: PathBuf,
    directory: PathBuf,
    journal: Arc<Mutex<Journal>>,
    shared: Arc<Shared>,
    display: GroupDisplay,
    mode: OutputMode,
    environment: Environment,
    fail_fast: bool,
    log_file: String,
    /// Suffixes of the names of images.
    suffixes: Suffixes,
    /// What cancels each target.
    interrupts: Vec<Arc<Interrupt>>,
    /// Directories of the runs.
    at_work: Arc<Mutex<Vec<PathBuf>>>,
    /// The error of the first target that failed.
    first: Mutex<Option<Error>>,
}

impl Job {
    /// Begins a new build: opens its log and its journal.
    ///
    /// # Errors
    /// When the log, the result or the journal cannot be written.
    pub(super) fn begin(
        args: &[String],
        targets: &[Target],
        layers: &Layers,
        output: &mut Output,
    ) -> Result<Self> {
        let id = format!("group-{}", plan::new_id()?);
        let job = Self::open(id, targets, layers, output)?;
        let rows: Vec<_> =
            targets.iter().flat_map(|target| target.prepared.plugin.rows()).collect();
        let of_group = |target: &Target| GroupTarget {
            name: target.chosen.name.clone(),
            provider: target.chosen.provider.clone(),
        };
        let recorded = job.record(Entry::GroupStarted {
            group: job.id.clone(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            words: args::without_secrets(args, &rows),
            working_directory: std::env::current_dir().unwrap_or_default().display().to_string(),
            targets: targets.iter().map(of_group).collect(),
            host: Some(HostId::of_this()),
        });
        if let Err(error) = recorded {
            artifacts::remove_run(&job.directory, &job.base);
            return Err(error);
        }
        Ok(job)
    }

    /// Opens the log and the journal of a build.
    ///
    /// # Errors
    /// As [`Job::begin`].
    pub(super) fn open(
        id: String,
        targets: &[Target],
        layers: &Layers,
        output: &mut Output,
    ) -> Result<Self> {
        let Some(first) = targets.first() else {
            return Err(Error::new(Stage::Bug, "a build was started without targets"));
        };
        let settings = &first.prepared.settings;
        for target in targets {
            let rows = [core_rows(), target.prepared.plugin.rows()].concat();
            output.set(&target.prepared.settings, &rows, &layers.environment);
            output.probe()?;
        }
        let base = plan::base_directory(settings)?;
        let fallback = layers.base.is_some().then(|| base.join(LOGS));
        let links = vec!["latest".to_owned()];
        let names = LogNames { file: format!("{id}.log"), links, fallback };
        let log = LogFile::start(settings, &names)?;
        let log_file = log.path.display().to_string();
        output.set_log(log);
        let suffixes = Suffixes::of_this(settings, &layers.environment)?;
        let key = Arc::new(Key::of(settings, &layers.environment)?);
        let interrupts: Vec<Arc<Interrupt>> = targets.iter().map(|_| Arc::default()).collect();
        let at_work: Arc<Mutex<Vec<PathBuf>>> = Arc::default();
        let runs = Arc::clone(&at_work);
        // Before the journal: a signal does not leave one without runs.
        interrupt::listen_for(interrupts.clone(), move || build::leave(&lock(&runs)))?;
        let directory = groups::directory(&base, &id);
        let journal = Arc::new(Mutex::new(Journal::open(&directory, &key)?));
        let shared = shared(&directory, &journal, targets);
        Ok(Self {
            id,
            base,
            directory,
            journal,
            shared: Arc::new(shared),
            display: GroupDisplay::default(),
            mode: output.mode,
            environment: layers.environment.clone(),
            fail_fast: settings.core().run.fail_fast,
            log_file,
            suffixes,
            interrupts,
            at_work,
            first: Mutex::default(),
        })
    }

    /// Refuses a build that another process has continued or completed since its journal had this many entries.
    ///
    /// # Errors
    /// When the journal is another now.
    pub(super) fn check_unchanged(&self, entries: usize) -> Result<()> {
        let journal = lock(&self.journal);
        if !is_continued(entries, journal.entries()) {
            return Ok(());
        }
        if journal.is_fresh() {
            artifacts::remove_run(&self.directory, &self.base);
        }
        Err(continued(&self.id))
    }

    pub(super) fn record(&self, entry: Entry) -> Result<()> {
        lock(&self.journal).append(entry)
    }

    /// Runs the targets, and removes or keeps what they shared.
    pub(super) fn run(&self, targets: Vec<Target>, report: &mut Report) {
        report.begin(&self.id, &self.log_file);
        let keeps = targets.iter().any(|target| target.prepared.settings.core().run.reuse);
        let ended: Vec<Ended> = std::thread::scope(|scope| {
            let started: Vec<_> = targets
                .into_iter()
                .zip(&self.interrupts)
                .map(|(target, part)| {
                    let name = target.chosen.name.clone();
                    (name, scope.spawn(move || self.run_target(target, part)))
                })
                .collect();
            let join = |(name, thread): (String, std::thread::ScopedJoinHandle<'_, Ended>)| {
                thread.join().unwrap_or_else(|_| Ended::panicked(name))
            };
            started.into_iter().map(join).collect()
        });
        report.prepared = self.shared.preparations();
        report.has_signal = self.interrupts.iter().any(|part| part.has_signal());
        report.first = lock(&self.first).take();
        report.ended.extend(ended);
        self.end(keeps, report);
    }

    /// Runs one target.
    fn run_target(&self, target: Target, interrupt: &Arc<Interrupt>) -> Ended {
        let name = target.chosen.name.clone();
        let span = tracing::error_span!("target", name);
        let _target = span.enter();
        let mut outcome = Outcome {
            start_time: crate::clock::now(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            uuid: random::characters(random::HEX, 32).unwrap_or_default(),
            platform: target.chosen.provider.clone(),
            log_file: Some(self.log_file.clone()),
            ..Outcome::default()
        };
        let settings = target.prepared.settings.by_name();
        outcome.modules = settings.text("MODULES").map(str::to_owned);
        outcome.boot_locations = settings.text("BOOT_LOCATIONS").map(str::to_owned);
        outcome.plugin = Some(build::plugin_entry(&target.prepared.plugin));
        let reporter = Arc::new(Reporter::of_target(self.mode, self.display.line(&name)));
        let built = self.build(target, interrupt, &reporter, &mut outcome);
        let result = built.map_err(|error| self.because_of_another(error, interrupt));
        let code = conclude(&result, &mut outcome);
        if let Err(error) = &result {
            reporter.error(error, code);
            self.failed(error, code);
        }
        outcome.leftovers.iter().for_each(|leftover| reporter.left_behind(leftover));
        reporter.finished(&outcome, code);
        // A target that is done was recorded before its run was removed.
        if code != crate::exit::DONE
            && let Err(error) = self.record(ended(&name, code, &outcome))
        {
            reporter.warning(&error.message, error.hint.as_deref());
        }
        let document = self.recorded(&name).unwrap_or_else(|| section(code, &outcome));
        Ended { name, code, run: Some(outcome.run_id.clone()), outcome: Some(outcome), document }
    }

    /// Returns the result of a target as the journal has it: a later process of the build reports the same.
    fn recorded(&self, name: &str) -> Option<Value> {
        let journal = lock(&self.journal);
        let last = journal.entries().iter().rev().find_map(|entry| match entry {
            Entry::TargetEnded { target, result, .. } if target == name => {
                Some(Some(result.clone()))
            }
            // The run of this process is not recorded.
            Entry::TargetStarted { target, .. } if target == name => Some(None),
            _ => None,
        });
        last.flatten()
    }

    fn build(
        &self,
        target: Target,
        interrupt: &Arc<Interrupt>,
        reporter: &Arc<Reporter>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let draws = match &target.resumed {
            Some(run) => Draws::of(run)?,
            None => self.suffixes.draws(&target.chosen.name)?,
        };
        outcome.run_id.clone_from(&draws.run_id);
        let name = target.chosen.name.clone();
        self.record(Entry::TargetStarted { target: name.clone(), run: draws.run_id.clone() })?;
        let member = Member { name, group: self.id.clone(), shared: Arc::clone(&self.shared) };
        let start = Start {
            prepared: &target.prepared,
            environment: &self.environment,
            draws: &draws,
            words: target.words,
            reporter: Arc::clone(reporter),
            interrupt: Arc::clone(interrupt),
            resumed: target.resumed.as_ref(),
            once: None,
            member: Some(member),
            at_work: &|run| lock(&self.at_work).push(run.to_owned()),
        };
        build::execute(start, outcome)
    }

    /// Returns the error of a target that was stopped because another one failed.
    fn because_of_another(&self, error: Error, interrupt: &Interrupt) -> Error {
        if error.stage != Stage::Interrupted || interrupt.has_signal() || !interrupt.is_cancelled()
        {
            return error;
        }
        let mut stopped = Error::new(Stage::Interrupted, "stopped, because another target failed");
        stopped.causes = error.causes;
        stopped
    }

    /// Remembers the first failure; with FAIL_FAST it stops all other targets.
    fn failed(&self, error: &Error, code: u8) {
        if has_image(code) {
            return;
        }
        let mut first = lock(&self.first);
        if first.is_none() {
            *first = Some(error.clone());
        }
        if self.fail_fast {
            self.interrupts.iter().for_each(|interrupt| interrupt.cancel());
        }
    }

    /// Removes or keeps what the targets shared, and the journal of the build.
    fn end(&self, keeps: bool, report: &mut Report) {
        let is_left = |ended: &Ended| {
            let run = ended.run.as_ref().map(|run| self.base.join("runs").join(run));
            has_image(ended.code) || run.is_some_and(|run| run.exists())
        };
        let ending = if report.ended.iter().all(|ended| ended.code == crate::exit::DONE) {
            Ending::Done
        } else if report.ended.iter().any(is_left) {
            Ending::Kept
        } else {
            Ending::Undone
        };
        self.shared.end(ending);
        report.is_kept = ending == Ending::Kept;
        if report.is_kept {
            return;
        }
        if ending == Ending::Done && !keeps {
            shared_directories(lock(&self.journal).entries())
                .for_each(|directory| artifacts::remove_left(directory, &self.base));
        }
        artifacts::remove_run(&self.directory, &self.base);
    }
}

/// Creates the store of what the targets share; the journal records which targets are done.
fn shared(directory: &Path, journal: &Arc<Mutex<Journal>>, targets: &[Target]) -> Shared {
    let rate = targets.first().and_then(|first| first.prepared.settings.core().run.upload_rate);
    let secrets = targets.iter().flat_map(secrets).collect();
    let (done, sharing) = (Arc::clone(journal), Arc::clone(journal));
    Shared::new(
        &directory.join("images"),
        rate,
        secrets,
        Box::new(move |name, outcome| {
            let mut outcome = outcome.clone();
            conclude(&Ok(()), &mut outcome);
            lock(&done).append(ended(name, crate::exit::DONE, &outcome))
        }),
        Box::new(move |entry| lock(&sharing).append(entry)),
    )
    .with_installed(groups::installed(lock(journal).entries()))
}

/// Returns the directories that targets share.
fn shared_directories(entries: &[Entry]) -> impl Iterator<Item = &Path> {
    entries.iter().filter_map(|entry| match entry {
        Entry::DirectoryShared { artifacts } => Some(artifacts.as_path()),
        _ => None,
    })
}

/// Returns the values of the secret settings of a target.
fn secrets(target: &Target) -> Vec<Secret> {
    let rows = target.prepared.plugin.rows();
    target.prepared.settings.secrets(&rows).into_values().flatten().collect()
}

fn ended(name: &str, code: u8, outcome: &Outcome) -> Entry {
    Entry::TargetEnded { target: name.to_owned(), code, result: section(code, outcome) }
}

/// Returns the section of a target in the result document.
fn section(code: u8, outcome: &Outcome) -> Value {
    let mut document: Value = serde_json::from_str(&outcome.text()).unwrap_or_default();
    document["exit_code"] = json!(code);
    document
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
