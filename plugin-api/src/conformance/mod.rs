//! Checks whether a provider keeps the contract: the suite of `build-image providers check FILE`, also callable
//! from a provider's tests.
//!
//! ```no_run
//! #[test]
//! fn keeps_the_contract() {
//!     build_image_plugin_api::assert_conforms!();
//! }
//! ```
//!
//! Probes run the provider in separate processes with a time limit, so that the suite survives whatever the
//! provider does, and return their observations; judges, which are pure functions, turn them into the rows of one
//! table. Steps that need a cloud run only when the settings refer to a cloud that may be used: an emulator or a
//! test account. There the suite uploads a disk of a few mebibytes about ten times, registers it, and removes
//! everything again.
//!
//! `subject` is the provider under test, `host` the host it meets; `probe` contains the probes, `child` the
//! process of a probe, `evidence` and `table` the observations, `judge` and `rows` the verdicts. `optional` has all of these for
//! the optional steps, `faults` for disturbed requests.

mod child;
mod evidence;
mod faults;
mod host;
mod judge;
mod optional;
mod probe;
mod report;
mod rows;
mod subject;
mod surroundings;
mod table;

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use serde_json::Value;

pub use self::{
    child::signal_name,
    host::{DiskBytes, plain_disk},
    report::{Report, Row, Verdict},
    subject::{RawSteps, Refusal, Subject, Ways},
};
use self::{
    child::{Job, Limits},
    evidence::Ended,
    probe::Probe,
    table::Evidence,
};
use crate::Description;

/// Environment variable of processes of `cargo test` that run a probe.
const VARIABLE: &str = "BUILD_IMAGE_CONFORMANCE";
/// Time limit of a call that uses no cloud.
const LIMIT: Duration = Duration::from_secs(10);
/// Time limit of a step that uses a cloud.
const CLOUD_LIMIT: Duration = Duration::from_secs(600);

/// A provider under test with its settings.
pub struct Suite {
    evidence: Evidence,
    settings: BTreeMap<String, Value>,
    secrets: BTreeMap<String, String>,
    cloud: bool,
    inventory: Option<String>,
    faults: Vec<(String, String)>,
    limit: Option<Duration>,
    /// Ids of the checks to report; empty = all.
    chosen: Vec<String>,
    progress: Box<dyn Fn(&Part)>,
    child: Box<dyn Fn() -> Command>,
}

/// A part of the suite that begins; see [`Suite::on_progress`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Part {
    /// What is tested.
    pub activity: &'static str,
    /// Its number, from 1.
    pub number: usize,
    /// Number of parts.
    pub count: usize,
}

/// Returns the ids of all checks, in the order of the report. Those that begin with `fault-` need [`Suite::faults`].
pub fn check_ids() -> impl Iterator<Item = &'static str> {
    rows::checks().map(|check| check.id)
}

impl Suite {
    /// Creates the suite for a provider's file. `child` starts this program again in such a way that it calls
    /// [`serve`].
    pub fn new(file: &Path, child: impl Fn() -> Command + 'static) -> Self {
        Self {
            evidence: Evidence::of(file),
            settings: BTreeMap::new(),
            secrets: BTreeMap::new(),
            cloud: false,
            inventory: None,
            faults: Vec::new(),
            limit: None,
            chosen: Vec::new(),
            progress: Box::new(|_| {}),
            child: Box::new(child),
        }
    }

    /// Sets a value for a setting, as the host would send it.
    #[must_use]
    pub fn setting(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a value for a secret setting.
    #[must_use]
    pub fn secret(mut self, key: &str, value: &str) -> Self {
        self.secrets.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Declares that the settings refer to an emulator or a test account, which builds may use.
    #[must_use]
    pub fn with_cloud(mut self) -> Self {
        self.cloud = true;
        self
    }

    /// Sets a shell command that prints what exists in the cloud now, one object per line. With it the suite
    /// detects what a failed build left there, and what it removed that another build had created.
    #[must_use]
    pub fn inventory(mut self, command: &str) -> Self {
        self.inventory = Some(command.to_owned());
        self
    }

    /// Disturbs the requests to the server whose address a setting contains: builds run through a proxy that refuses
    /// requests, breaks connections, and loses or delays answers. `url` is the address of the test server as the setting has
    /// it: `http://HOST:PORT/PATH` or `HOST:PORT/PATH`; the setting gets the address of the proxy instead. For a setting that takes the address of an HTTP proxy,
    /// `url` is `proxy`. Call it once for each setting. Needs [`Self::with_cloud`].
    #[must_use]
    pub fn faults(mut self, setting: &str, url: &str) -> Self {
        self.faults.push((setting.to_owned(), url.to_owned()));
        self
    }

    /// Sets the time limit of each call; the default is ten seconds, or ten minutes for steps that use a cloud.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Reads the provider's description; `None` when it does not load. Settings may be given afterwards.
    ///
    /// # Errors
    /// When temporary files cannot be created.
    pub fn describe(&mut self) -> std::io::Result<Option<Description>> {
        self.evidence.describe = self.probe(Probe::Describe)?;
        let described = self.evidence.described().ok();
        Ok(described.and_then(|described| serde_json::from_value(described.document).ok()))
    }

    /// Chooses checks: only they are reported, and only what they need is run. Each call adds one; without a call
    /// all are run. [`check_ids`] lists the ids.
    #[must_use]
    pub fn only(mut self, check: &str) -> Self {
        self.chosen.push(check.to_owned());
        self
    }

    /// Reports to `progress` what begins, before each part of the suite.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(&Part) + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Runs the checks.
    ///
    /// # Errors
    /// When temporary files cannot be created, or a chosen check does not exist.
    pub fn run(&mut self) -> std::io::Result<Report> {
        if let Some(unknown) = self.chosen.iter().find(|name| check_ids().all(|id| id != **name)) {
            let text = format!("check `{unknown}` does not exist");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text));
        }
        let plan = self.plan();
        for (number, probe) in plan.iter().enumerate() {
            let is_done =
                *probe == Probe::Describe && !matches!(self.evidence.describe, Ended::Omitted(_));
            if is_done {
                continue;
            }
            if let Some(why) = self.evidence.obstacle(*probe) {
                *self.evidence.slot(*probe) = Ended::Omitted(why);
                continue;
            }
            let activity = probe.activity();
            (self.progress)(&Part { activity, number: number + 1, count: plan.len() });
            *self.evidence.slot(*probe) = self.probe(*probe)?;
        }
        Ok(self.evidence.judge(&self.chosen, !self.faults.is_empty()))
    }

    /// Returns the probes that the checks need, in the order in which they run.
    fn plan(&self) -> Vec<Probe> {
        let is_chosen =
            |id: &str| self.chosen.is_empty() || self.chosen.iter().any(|one| one == id);
        let possible = |probe: &Probe| !self.faults.is_empty() || !matches!(probe, Probe::Fault(_));
        let mut needed: Vec<Probe> = rows::checks()
            .filter(|check| is_chosen(check.id))
            .flat_map(|check| check.needs.iter().copied())
            .filter(possible)
            .collect();
        let followed: Vec<Probe> =
            needed.iter().flat_map(|probe| probe.follows()).copied().collect();
        needed.extend(followed);
        let is_needed = |probe: &Probe| *probe == Probe::Describe || needed.contains(probe);
        Probe::ALL.into_iter().filter(is_needed).collect()
    }

    fn probe(&self, probe: Probe) -> std::io::Result<Ended> {
        let directory = tempfile::Builder::new().prefix("build-image-check").tempdir()?;
        let job = Job {
            probe,
            file: std::path::absolute(&self.evidence.file)?,
            directory: directory.path().to_owned(),
            settings: self.settings.clone(),
            secrets: self.secrets.clone(),
            cloud: self.cloud,
            inventory: self.inventory.clone(),
            faults: self.faults.clone(),
        };
        let limits = Limits {
            local: self.limit.unwrap_or(LIMIT),
            cloud: self.limit.unwrap_or(if self.cloud { CLOUD_LIMIT } else { LIMIT }),
        };
        Ok(child::run((self.child)(), &job, limits))
    }
}

/// Returns whether the suite can disturb requests to this address; see [`Suite::faults`].
#[must_use]
pub fn can_disturb(url: &str) -> bool {
    faults::is_address(url)
}

/// Runs the job on standard input in a child process and writes its answer where the job states.
///
/// # Errors
/// When standard input does not contain a job.
pub fn serve(ways: Ways) -> std::io::Result<()> {
    let job: Job = serde_json::from_reader(std::io::stdin().lock())?;
    probe::perform(&job, ways);
    Ok(())
}

/// Creates the suite for the plugin that cargo built beside the running test; see
/// [`assert_conforms!`](crate::assert_conforms).
///
/// # Panics
/// When a check fails, so that the test fails.
#[doc(hidden)]
#[expect(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a test starts itself again, and fails with a panic"
)]
pub fn in_test(package: &str, test: &str, configure: impl FnOnce(Suite) -> Suite) {
    if std::env::var_os(VARIABLE).is_some() {
        let code = i32::from(serve(Ways::default()).is_err());
        std::process::exit(code);
    }
    let program = std::env::current_exe().unwrap_or_default();
    let directory = program.parent().unwrap_or(Path::new(""));
    let name = format!("lib{}.so", package.replace('-', "_"));
    let file = directory.join(&name);
    assert!(
        file.exists(),
        "there is no `{}`: the crate needs `crate-type = [\"cdylib\", \"rlib\"]`",
        file.display()
    );
    // The path without the crate's own name and without the marker function.
    let test = test.split_once("::").map_or(test, |(_, rest)| rest);
    let test = test.rsplit_once("::").map_or(test, |(rest, _)| rest);
    // Also inside of a closure or of an asynchronous block of the test.
    let test = test.replace("::{{closure}}", "");
    let child = move || {
        let mut command = Command::new(&program);
        command.args(["--exact", &test, "--nocapture", "--test-threads=1"]).env(VARIABLE, "child");
        command
    };
    match configure(Suite::new(&file, child)).run() {
        Ok(report) => assert!(report.conforms, "\n{}", report.text()),
        Err(error) => panic!("the conformance suite cannot run: {error}"),
    }
}

/// Runs the conformance suite against this crate's plugin; the test fails with a report when the plugin does not
/// keep the contract.
///
/// For a test in `tests/`, of a crate with `crate-type = ["cdylib", "rlib"]`. A closure adds settings, secrets and
/// an emulator:
/// `assert_conforms!(|suite| suite.setting("ACME_URL", url).secret("ACME_KEY", "k").with_cloud())`.
#[macro_export]
macro_rules! assert_conforms {
    () => {
        $crate::assert_conforms!(|suite| suite)
    };
    ($configure:expr) => {{
        fn here() {}
        $crate::conformance::in_test(
            env!("CARGO_PKG_NAME"),
            ::std::any::type_name_of_val(&here),
            $configure,
        );
    }};
}
