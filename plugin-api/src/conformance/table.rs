//! Collects the observations of all probes, and turns them into rows.

use std::collections::BTreeMap;

use super::{
    evidence::{
        Built, Call, Cancelled, Concurrent, Created, Cycled, Described, Ended, Later, Malformed,
        Undone,
    },
    faults::{Disturbed, Fault},
    judge::Judgement,
    probe::Probe,
    report::{Report, Row, Verdict},
    rows::{Check, checks},
    subject::linkage,
};
use crate::wire::linkage::Linkage;

/// All observations.
pub(super) struct Evidence {
    pub(super) file: std::path::PathBuf,
    pub(super) linkage: Option<Linkage>,
    pub(super) describe: Ended,
    pub(super) create: Ended,
    pub(super) shapes: Ended,
    pub(super) later: Ended,
    pub(super) malformed: Ended,
    pub(super) cycles: Ended,
    pub(super) build: Ended,
    pub(super) concurrent: Ended,
    pub(super) cancel: Ended,
    pub(super) undo: Ended,
    pub(super) optional: Ended,
    /// Builds with faults, by the id of the check; empty = none was asked for.
    pub(super) faults: BTreeMap<&'static str, Ended>,
}

impl Evidence {
    /// Returns the report: the chosen rows, or all of them when none is chosen. Rows about faults are among them when
    /// faults were asked for.
    pub(super) fn judge(&self, chosen: &[String], with_faults: bool) -> Report {
        let all = || checks().filter(|check| with_faults || !check.is_of_faults());
        let is_chosen = |id: &str| chosen.is_empty() || chosen.iter().any(|name| name == id);
        let mut rows: Vec<Row> =
            all().filter(|check| is_chosen(check.id)).map(|check| self.row(check)).collect();
        for row in &mut rows {
            // What a row says that is not in the report follows the reference to it. A chosen check that a failure
            // prevents has not passed.
            let mut followed = Vec::new();
            while row.verdict == Verdict::Skip
                && let Some(other) = reference(&row.detail)
                && let Some(other) = all().find(|check| check.id == other && !is_chosen(check.id))
                && !followed.contains(&other.id)
            {
                followed.push(other.id);
                let other = self.row(other);
                row.detail = format!("{}: {}", row.detail, other.detail);
                if other.verdict == Verdict::Fail {
                    (row.verdict, row.remedy) = (Verdict::Fail, other.remedy);
                }
            }
        }
        let mut report = Report { file: self.file.clone(), ..Report::default() };
        if let Ok(described) = self.described() {
            let text =
                |name: &str| described.document[name].as_str().unwrap_or_default().to_owned();
            (report.name, report.version) = (text("name"), text("version"));
            report.api_version = described.api_version;
        }
        report.conforms = rows.iter().all(|row| row.verdict != Verdict::Fail);
        report.not_chosen = all().count() - rows.len();
        report.checks = rows;
        report
    }

    fn row(&self, check: &Check) -> Row {
        let Check { id, title, remedy, judge, .. } = *check;
        let deaths = self.all().into_iter().filter_map(|ended| match ended {
            Ended::Died(death) if death.check == id => Some(Judgement::fail(&death.how)),
            _ => None,
        });
        let judgement = { deaths }.next().unwrap_or_else(|| judge(self));
        let (verdict, detail, better) = match judgement {
            Judgement::Pass(detail) => (Verdict::Pass, detail, None),
            Judgement::Fail(detail, better) => (Verdict::Fail, detail, better),
            Judgement::Skip(detail) => (Verdict::Skip, detail, None),
        };
        let remedy = if self.is_library() { remedy.library } else { remedy.program };
        let failed = verdict == Verdict::Fail;
        let remedy = failed.then(|| better.unwrap_or_else(|| remedy.to_owned()));
        Row { id, title, verdict, detail, remedy }
    }

    /// Returns whether the file is a library; otherwise it is a program.
    pub(super) fn is_library(&self) -> bool {
        self.linkage.is_some()
    }

    pub(super) fn described(&self) -> Result<Described, Judgement> {
        seen(&self.describe, "loads")
    }

    pub(super) fn created(&self) -> Result<Created, Judgement> {
        seen(&self.create, "create")
    }

    /// Returns the calls of `create` with a value of another shape, by setting.
    pub(super) fn shaped(&self) -> Result<Vec<(String, Call)>, Judgement> {
        seen(&self.shapes, "shapes")
    }

    pub(super) fn later(&self) -> Result<Later, Judgement> {
        seen(&self.later, "later")
    }

    pub(super) fn malformed(&self) -> Result<Malformed, Judgement> {
        seen(&self.malformed, "malformed")
    }

    pub(super) fn cycled(&self) -> Result<Cycled, Judgement> {
        seen(&self.cycles, "cycles")
    }

    pub(super) fn built(&self) -> Result<Built, Judgement> {
        seen(&self.build, "build")
    }

    pub(super) fn both(&self) -> Result<Concurrent, Judgement> {
        seen(&self.concurrent, "concurrent")
    }

    pub(super) fn cancelled(&self) -> Result<Cancelled, Judgement> {
        seen(&self.cancel, "cancel-before")
    }

    pub(super) fn optional<T: serde::de::DeserializeOwned>(&self) -> Result<T, Judgement> {
        seen(&self.optional, "build")
    }

    pub(super) fn disturbed(&self, fault: Fault) -> Result<Disturbed, Judgement> {
        let ended = self.faults.get(fault.check());
        seen(ended.ok_or_else(|| Judgement::Skip("see `build`".to_owned()))?, fault.check())
    }

    pub(super) fn undone(&self) -> Result<Undone, Judgement> {
        seen(&self.undo, "taken")
    }

    /// Returns the results of all probes.
    pub(super) fn all(&self) -> Vec<&Ended> {
        let Self { describe, create, shapes, later, malformed, .. } = self;
        let Self { cycles, build, concurrent, cancel, undo, optional, .. } = self;
        let mut all = vec![describe, create, shapes, later, malformed, cycles, build, concurrent];
        all.extend([cancel, undo, optional]);
        all.extend(self.faults.values());
        all
    }

    /// Returns the place of a probe's results.
    pub(super) fn slot(&mut self, probe: Probe) -> &mut Ended {
        match probe {
            Probe::Describe => &mut self.describe,
            Probe::Create => &mut self.create,
            Probe::Shapes => &mut self.shapes,
            Probe::Later => &mut self.later,
            Probe::Malformed => &mut self.malformed,
            Probe::Cycles => &mut self.cycles,
            Probe::Build => &mut self.build,
            Probe::Concurrent => &mut self.concurrent,
            Probe::Cancel => &mut self.cancel,
            Probe::Undo => &mut self.undo,
            Probe::Optional => &mut self.optional,
            Probe::Fault(fault) => {
                let none = || Ended::Omitted("see `build`".to_owned());
                self.faults.entry(fault.check()).or_insert_with(none)
            }
        }
    }

    /// Returns why a probe would observe nothing: one that it depends on has failed.
    pub(super) fn obstacle(&mut self, probe: Probe) -> Option<String> {
        probe.follows().iter().find_map(|earlier| match self.slot(*earlier) {
            Ended::Answered(_) => None,
            Ended::Died(death) => Some(format!("see `{}`", death.check)),
            Ended::Refused(..) => Some(format!("see `{}`", earlier.check())),
            Ended::Omitted(why) => Some(why.clone()),
        })
    }

    /// Reads the properties of the file itself.
    pub(super) fn of(file: &std::path::Path) -> Self {
        let none = || Ended::Omitted("it does not load, see `loads`".to_owned());
        Self {
            file: file.to_owned(),
            linkage: linkage(file),
            describe: none(),
            create: none(),
            shapes: none(),
            later: none(),
            malformed: none(),
            cycles: none(),
            build: none(),
            concurrent: none(),
            cancel: none(),
            undo: none(),
            optional: none(),
            faults: BTreeMap::new(),
        }
    }
}

/// Returns the check to which a detail refers at its end.
fn reference(detail: &str) -> Option<&str> {
    Some(detail.strip_suffix('`')?.rsplit_once("see `")?.1)
}

/// Returns the observations of a probe; for a probe without any, skips with a reference to the check `owner`.
fn seen<T: serde::de::DeserializeOwned>(ended: &Ended, owner: &str) -> Result<T, Judgement> {
    match ended {
        Ended::Answered(answer) => serde_json::from_value(answer.seen.clone()).map_err(|error| {
            Judgement::Skip(format!("the probe's answer is not understood: {error}"))
        }),
        Ended::Refused(..) => Err(Judgement::Skip(format!("see `{owner}`"))),
        Ended::Died(death) => Err(Judgement::Skip(format!("see `{}`", death.check))),
        Ended::Omitted(why) => Err(Judgement::Skip(why.clone())),
    }
}
