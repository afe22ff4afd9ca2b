//! THE TABLE of checks: id, requirement, hint for violations, and judge.

use std::collections::BTreeMap;

use super::{
    evidence::{
        Built, Call, Cancelled, Concurrent, Created, Cycled, Described, Ended, Later, Malformed,
        Undone,
    },
    faults::{self, Disturbed, Fault},
    judge::{Judgement, build, cancel, create, describe, every, file, marked, undo},
    optional,
    report::{Report, Row, Verdict},
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

/// A row of the table.
pub(super) struct Check {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) remedy: &'static str,
    pub(super) judge: fn(&Evidence) -> Judgement,
}

pub(super) const fn check(
    id: &'static str,
    title: &'static str,
    judge: fn(&Evidence) -> Judgement,
    remedy: &'static str,
) -> Check {
    Check { id, title, remedy, judge }
}

/// Checks of the steps of ABI 1.0, in a natural order of reading.
pub(super) const CHECKS: [Check; 35] = [
    check(
        "loads",
        "loads as a build loads it",
        describe::loads,
        "build it with `export_provider!`, crate-type `cdylib`, a released build-image-plugin-api and panic = \"unwind\"; a program answers `initialize` and `describe`",
    ),
    check(
        "name",
        "file name and description agree on the name",
        describe::name,
        "call the crate `build-image-provider-<name>` and say the same <name>, `[a-z][a-z0-9_]*`, in `describe`",
    ),
    check(
        "symbols",
        "exports its entry symbol and nothing else",
        file::symbols,
        "remove `#[no_mangle]` and `export_name` from the crate and what it links",
    ),
    check(
        "libraries",
        "needs no library beyond the C library",
        file::libraries,
        "link other libraries statically, or use a crate written in Rust",
    ),
    check(
        "unwind",
        "is built with unwinding panics",
        file::unwind,
        "remove `panic = \"abort\"` from the profile",
    ),
    check(
        "abi",
        "requires no newer ABI than it was built with",
        describe::abi_check,
        "leave `Description::abi` at its default",
    ),
    check(
        "description",
        "describes itself fully and in known members",
        describe::description,
        "fill name, version and a summary of one sentence; spell members as `Description` does",
    ),
    check(
        "size",
        "keeps its description small",
        describe::size,
        "read large data when a step needs it; a description is read at every start",
    ),
    check(
        "pure",
        "describes itself the same every time and leaves nothing behind",
        describe::pure,
        "`describe` returns constants: no files, no threads, no environment, no clock",
    ),
    check(
        "settings",
        "declares settings that can be set",
        describe::settings,
        "see `Setting`: keys of capital letters, a summary, no default for secrets, defaults among the choices",
    ),
    check(
        "create",
        "takes its settings, or says which one is missing",
        create::create,
        "`create` is cheap and asks no network; use `Settings::require`, and leave checks to `check`",
    ),
    check(
        "shapes",
        "survives settings of another shape",
        create::junk,
        "use `Settings::text`, `integer`, `boolean` and `parsed`; never unwrap a value",
    ),
    check(
        "later",
        "ignores settings and members of later versions",
        create::later,
        "do not use `deny_unknown_fields`, and do not refuse keys you do not know",
    ),
    check(
        "malformed",
        "refuses malformed documents with a known error",
        create::malformed,
        "use the SDK's export macro, or answer with a code of `ErrorKind`",
    ),
    check(
        "cycles",
        "gives everything back when it is dropped, a thousand times",
        create::cycles,
        "end threads and close files in `Drop`, or use `Context::block_on`, whose threads end by themselves",
    ),
    check(
        "build",
        "runs a whole build",
        build::build,
        "see the failed step; try it in a unit test with `MockHost`",
    ),
    check(
        "stub",
        "says how to go on by hand where it does nothing",
        build::stub,
        "leave the step out, or answer `Error::unsupported(what, what to do instead)`",
    ),
    check(
        "ledger",
        "tells of resources before they exist",
        build::ledger,
        "call `context.will_create` before and `context.created` after each resource",
    ),
    check(
        "discard",
        "removes what it made, and does not mind when it is gone",
        build::discard,
        "count resources that are gone as removed; list what could not be removed in `remaining`",
    ),
    check(
        "gone",
        "reports what it removed as gone",
        undo::gone,
        "call `context.gone(&resource)` after each removal, as `context.discard_each` does, and list every resource in `removed` or `remaining`",
    ),
    check(
        "identity",
        "gives each thing it creates an identity",
        undo::identity,
        "put everything that locates a thing (bucket, account, path) into the name of its `Resource`: kind, region and name must differ from those of every other thing of the run",
    ),
    check(
        "taken",
        "leaves alone what others made under the same name",
        undo::taken,
        "write a file under a temporary name and rename it; in `discard` remove by the id the cloud gave, or by a mark of this run (a tag, an inode), never by the name alone",
    ),
    check(
        "unrecorded",
        "finds what it created before the host knew its identifier",
        undo::unrecorded,
        "in `discard` look for a resource without `id` by a mark of this run that was set in the request that creates it: a tag with `run_id`, a client token, an inode noted before the rename",
    ),
    check(
        "image-name",
        "gives the image the name that the user chose",
        marked::name,
        "use `build.image_name` in the request that registers the image, and return it in `Image::name`",
    ),
    check(
        "tags",
        "gives the image the tags that the user chose",
        marked::tags,
        "send `build.tags` in the request that registers the image, or leave `tags` out of the description",
    ),
    check(
        "progress",
        "tells its progress forwards and to the end",
        build::progress,
        "count up, never beyond the total, and report the total when done",
    ),
    check(
        "concurrent",
        "works in two instances at once",
        build::concurrent,
        "keep state in the instance; no statics, no fixed file names",
    ),
    check(
        "cancel-before",
        "does not begin when it was asked to stop",
        cancel::before,
        "begin steps with `context.check_cancelled()?`",
    ),
    check(
        "cancel-during",
        "stops within two seconds",
        cancel::during,
        "call `context.check_cancelled()?` in every loop, `context.wait` instead of sleeping, `context.block_on` for futures",
    ),
    check(
        "cancel-clean",
        "creates nothing after it was asked to stop, and leaves nothing",
        cancel::clean,
        "call `context.check_cancelled()?` before each `context.will_create`; announce whatever is created, so that `discard` gets it",
    ),
    check(
        "panics",
        "does not panic",
        every::panics,
        "return an `Error`; a panic ends the build with `this is a bug of the provider`",
    ),
    check(
        "quiet",
        "tells nothing when no step runs",
        build::quiet,
        "join your threads before a step returns and before `drop` ends",
    ),
    check(
        "output",
        "writes nothing to standard output and standard error",
        every::output,
        "use `tracing`, whose records reach the host's log, and `context.milestone` for the user",
    ),
    check(
        "secrets",
        "keeps secrets out of logs, events, answers and errors",
        every::secrets,
        "reveal a `Secret` only where it is sent; name the setting in errors, not its value",
    ),
    check(
        "process",
        "leaves the process as it is",
        every::process,
        "no `set_var`, `set_current_dir`, umask or signal handler in a provider",
    ),
];

/// Returns all checks: those of the optional steps and, where they are asked for, of faults last.
fn checks(with_faults: bool) -> impl Iterator<Item = &'static Check> {
    let faults = if with_faults { &faults::CHECKS[..] } else { &[] };
    CHECKS.iter().chain(&optional::CHECKS).chain(faults)
}

impl Evidence {
    /// Returns the report.
    pub(super) fn judge(&self) -> Report {
        let rows = checks(!self.faults.is_empty()).map(|check| self.row(check));
        let checks: Vec<Row> = rows.collect();
        let mut report = Report { file: self.file.clone(), ..Report::default() };
        if let Ok(described) = self.described() {
            let text =
                |name: &str| described.document[name].as_str().unwrap_or_default().to_owned();
            (report.name, report.version) = (text("name"), text("version"));
            report.api_version = described.api_version;
        }
        report.conforms = checks.iter().all(|row| row.verdict != Verdict::Fail);
        report.checks = checks;
        report
    }

    fn row(&self, check: &Check) -> Row {
        let Check { id, title, remedy, judge } = *check;
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
        let failed = verdict == Verdict::Fail;
        let remedy = failed.then(|| better.unwrap_or_else(|| remedy.to_owned()));
        Row { id, title, verdict, detail, remedy }
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

    /// Omits the probes that follow `create`.
    pub(super) fn omit_from_create(&mut self, why: &str) {
        let omitted = || Ended::Omitted(why.to_owned());
        (self.shapes, self.later, self.malformed) = (omitted(), omitted(), omitted());
        (self.cycles, self.build) = (omitted(), omitted());
        self.omit_from_concurrent(why);
    }

    /// Omits the probes that follow `build`.
    pub(super) fn omit_from_concurrent(&mut self, why: &str) {
        let omitted = || Ended::Omitted(why.to_owned());
        (self.concurrent, self.cancel) = (omitted(), omitted());
        (self.undo, self.optional) = (omitted(), omitted());
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_check_has_a_unique_id_a_title_and_a_remedy() {
        let ids: BTreeSet<&str> = checks(true).map(|check| check.id).collect();
        assert_eq!(ids.len(), checks(true).count());
        for check in checks(true) {
            assert!(check.id.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'));
            assert!(!check.title.is_empty() && !check.title.ends_with('.'), "{}", check.id);
            assert!(!check.remedy.is_empty() && !check.remedy.contains('\n'), "{}", check.id);
        }
    }
}
