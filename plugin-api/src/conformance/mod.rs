//! Whether a provider keeps the contract: the suite behind `build-image providers check FILE`, also as a
//! call for a provider's own tests.
//!
//! ```no_run
//! #[test]
//! fn keeps_the_contract() {
//!     build_image_plugin_api::assert_conforms!();
//! }
//! ```
//!
//! Probes run the provider in processes of their own with a time limit, so that the suite survives
//! whatever it does, and bring back what they saw; judges, pure functions, make the rows of one table
//! of it. Steps that need a cloud are only run when settings lead to one that may be used: a fake one,
//! or a test account. There the suite uploads a disk of a few mebibytes about ten times, registers it,
//! and removes everything again.
//!
//! `subject` is what is examined, `host` the host it meets, `probe` what is done to it, `child` the
//! process around a probe, `evidence` what comes back, `judge` and `table` what is made of it.

mod child;
mod evidence;
mod host;
mod judge;
mod probe;
mod report;
mod subject;
mod surroundings;
mod table;

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use serde_json::Value;

use self::{child::Job, evidence::Ended, probe::Probe, table::Evidence};
pub use self::{
    host::{DiskBytes, plain_disk},
    report::{Report, Row, Verdict},
    subject::{RawSteps, Refusal, Subject, Ways},
};
use crate::Description;

/// Set in processes of `cargo test` that run a probe.
const VARIABLE: &str = "BUILD_IMAGE_CONFORMANCE";
/// How long a probe may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it may take where a cloud is asked.
const CLOUD_LIMIT: Duration = Duration::from_secs(600);

/// What is examined, and with what.
pub struct Suite {
    evidence: Evidence,
    settings: BTreeMap<String, Value>,
    secrets: BTreeMap<String, String>,
    cloud: bool,
    inventory: Option<String>,
    limit: Option<Duration>,
    child: Box<dyn Fn() -> Command>,
}

impl Suite {
    /// The suite for a provider's file. `child` starts this program anew in a way that ends in a call of
    /// [`serve`].
    pub fn new(file: &Path, child: impl Fn() -> Command + 'static) -> Self {
        Self {
            evidence: Evidence::of(file),
            settings: BTreeMap::new(),
            secrets: BTreeMap::new(),
            cloud: false,
            inventory: None,
            limit: None,
            child: Box::new(child),
        }
    }

    /// With a value for a setting, as the host would send it.
    #[must_use]
    pub fn setting(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// With a value for a secret setting.
    #[must_use]
    pub fn secret(mut self, key: &str, value: &str) -> Self {
        self.secrets.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The settings lead to a fake cloud or a test account: builds may use it.
    #[must_use]
    pub fn with_cloud(mut self) -> Self {
        self.cloud = true;
        self
    }

    /// A shell command that prints what exists in the cloud now, one thing per line. With it the suite
    /// sees what a failed build left there, and what it removed that another build had made.
    #[must_use]
    pub fn inventory(mut self, command: &str) -> Self {
        self.inventory = Some(command.to_owned());
        self
    }

    /// Another limit for each probe than a minute, or ten with a cloud.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Asks the provider who it is; nothing when it does not load. Settings may be given afterwards.
    ///
    /// # Errors
    /// When there is no place for temporary files.
    pub fn describe(&mut self) -> std::io::Result<Option<Description>> {
        self.evidence.describe = self.probe(Probe::Describe)?;
        let described = self.evidence.described().ok();
        Ok(described.and_then(|described| serde_json::from_value(described.document).ok()))
    }

    /// Runs all checks.
    ///
    /// # Errors
    /// When there is no place for temporary files.
    pub fn run(&mut self) -> std::io::Result<Report> {
        if matches!(self.evidence.describe, Ended::Omitted(_)) {
            self.describe()?;
        }
        if matches!(self.evidence.describe, Ended::Answered(_)) {
            self.evidence.create = self.probe(Probe::Create)?;
            if matches!(self.evidence.create, Ended::Answered(_)) {
                self.evidence.shapes = self.probe(Probe::Shapes)?;
                self.evidence.later = self.probe(Probe::Later)?;
                self.evidence.malformed = self.probe(Probe::Malformed)?;
            } else {
                let omitted = || Ended::Omitted("see `create`".to_owned());
                (self.evidence.shapes, self.evidence.later) = (omitted(), omitted());
                self.evidence.malformed = omitted();
            }
            self.evidence.cycles = self.probe(Probe::Cycles)?;
            self.evidence.build = self.probe(Probe::Build)?;
            if matches!(self.evidence.build, Ended::Answered(_)) {
                self.evidence.concurrent = self.probe(Probe::Concurrent)?;
                self.evidence.cancel = self.probe(Probe::Cancel)?;
                self.evidence.undo = self.probe(Probe::Undo)?;
            } else {
                let omitted = || Ended::Omitted("see `build`".to_owned());
                (self.evidence.concurrent, self.evidence.cancel) = (omitted(), omitted());
                self.evidence.undo = omitted();
            }
        }
        Ok(self.evidence.judge())
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
        };
        let limit = self.limit.unwrap_or(if self.cloud { CLOUD_LIMIT } else { LIMIT });
        Ok(child::run((self.child)(), &job, limit))
    }
}

/// The child's half: does the job on standard input and writes its answer where the job says.
///
/// # Errors
/// When standard input holds no job.
pub fn serve(ways: Ways) -> std::io::Result<()> {
    let job: Job = serde_json::from_reader(std::io::stdin().lock())?;
    probe::perform(&job, ways);
    Ok(())
}

/// The suite for the plugin that cargo built beside the running test; see
/// [`assert_conforms!`](crate::assert_conforms).
///
/// # Panics
/// When a check fails: that is how a test fails.
#[doc(hidden)]
#[expect(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a test starts itself again, and fails by a panic"
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
    let test = test.rsplit_once("::").map_or(test, |(rest, _)| rest).to_owned();
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

/// Runs the conformance suite against this crate's plugin; the test fails with a report when it does not
/// keep the contract.
///
/// For a test in `tests/`, of a crate with `crate-type = ["cdylib", "rlib"]`. Settings, secrets and a
/// fake cloud are added by a closure:
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
