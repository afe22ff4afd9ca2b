//! THE TABLE of checks: id, requirement, probes that observe it, judge, and what to do after a violation.

use super::{
    faults::{self, Fault},
    judge::{Judgement, build, cancel, create, describe, every, file, marked, undo},
    optional,
    probe::Probe,
    table::Evidence,
};

/// A row of the table.
pub(super) struct Check {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) judge: fn(&Evidence) -> Judgement,
    /// The probes whose observations the judge reads.
    pub(super) needs: &'static [Probe],
    pub(super) remedy: Remedy,
}

/// What to do after a violation: a library is written in Rust, a program in the words of the protocol.
#[derive(Clone, Copy)]
pub(super) struct Remedy {
    pub(super) library: &'static str,
    pub(super) program: &'static str,
}

impl Remedy {
    /// One text for libraries and programs.
    pub(super) const fn both(text: &'static str) -> Self {
        Self { library: text, program: text }
    }

    pub(super) const fn new(library: &'static str, program: &'static str) -> Self {
        Self { library, program }
    }
}

pub(super) const fn check(
    id: &'static str,
    title: &'static str,
    judge: fn(&Evidence) -> Judgement,
    needs: &'static [Probe],
    remedy: Remedy,
) -> Check {
    Check { id, title, judge, needs, remedy }
}

/// The probes of checks that any call may violate.
const ALL: &[Probe] = &Probe::ALL;

/// Checks of the steps of ABI 1.0, in a natural order of reading.
const CHECKS: [Check; 35] = [
    check(
        "loads",
        "loads as a build loads it",
        describe::loads,
        &[],
        Remedy::new(
            "build it with `export_provider!`, crate-type `cdylib`, a released build-image-plugin-api and panic = \"unwind\"",
            "make the file executable, and answer `initialize` and `describe` on standard output within ten seconds",
        ),
    ),
    check(
        "name",
        "file name and description agree on the name",
        describe::name,
        &[],
        Remedy::new(
            "call the crate `build-image-provider-<name>` and say the same <name>, `[a-z][a-z0-9_]*`, in `describe`",
            "call the file `build-image-provider-<name>` and write the same <name>, `[a-z][a-z0-9_]*`, into `name` of the answer to `describe`",
        ),
    ),
    check(
        "symbols",
        "exports its entry symbol and nothing else",
        file::symbols,
        &[],
        Remedy::both("remove `#[no_mangle]` and `export_name` from the crate and what it links"),
    ),
    check(
        "libraries",
        "needs no library beyond the C library",
        file::libraries,
        &[],
        Remedy::both("link other libraries statically, or use a crate written in Rust"),
    ),
    check(
        "unwind",
        "is built with unwinding panics",
        file::unwind,
        &[],
        Remedy::both("remove `panic = \"abort\"` from the profile"),
    ),
    check(
        "abi",
        "requires no newer ABI than it was built with",
        describe::abi_check,
        &[],
        Remedy::new(
            "leave `Description::abi` at its default",
            "answer `describe` with `\"abi\": {\"built\": \"1.0\", \"requires\": \"1.0\"}`, or the version of the documents that it was written for",
        ),
    ),
    check(
        "description",
        "describes itself fully and in known members",
        describe::description,
        &[],
        Remedy::new(
            "fill name, version and a summary of one sentence; spell members as `Description` does",
            "fill `name`, `version` and a `summary` of one sentence; spell members as the schema of the description does",
        ),
    ),
    check(
        "size",
        "keeps its description small",
        describe::size,
        &[],
        Remedy::both("read large data when a step needs it; a description is read at every start"),
    ),
    check(
        "pure",
        "returns the same description every time, without side effects",
        describe::pure,
        &[],
        Remedy::both(
            "`describe` returns constants: no files, no threads, no environment, no clock",
        ),
    ),
    check(
        "settings",
        "declares settings that can be set",
        describe::settings,
        &[],
        Remedy::new(
            "see `Setting`: keys of capital letters, a summary, no default for secrets, defaults among the choices",
            "give each entry of `settings` a `key` of capital letters and a `summary`; a secret has no `default`, and a `default` is one of the `choices`",
        ),
    ),
    check(
        "create",
        "takes its settings, or says which one is missing",
        create::create,
        &[Probe::Create],
        Remedy::new(
            "`create` is cheap and asks no network; use `Settings::require`, and leave checks to `check`",
            "answer `create` at once and without the network; name a missing setting in an error of kind `config`, and leave checks to `check`",
        ),
    ),
    check(
        "shapes",
        "survives settings of another shape",
        create::junk,
        &[Probe::Create, Probe::Shapes],
        Remedy::new(
            "use `Settings::text`, `integer`, `boolean` and `parsed`; never unwrap a value",
            "check the JSON type of each value in `settings` before you use it, and name the setting in an error of kind `config`",
        ),
    ),
    check(
        "later",
        "ignores settings and members of later versions",
        create::later,
        &[Probe::Create, Probe::Later],
        Remedy::new(
            "do not use `deny_unknown_fields`, and do not refuse keys you do not know",
            "ignore members of `params` and keys of `settings` that the program does not know",
        ),
    ),
    check(
        "malformed",
        "refuses malformed documents with a known error",
        create::malformed,
        &[Probe::Malformed],
        Remedy::new(
            "use the SDK's export macro, or answer with a code of `ErrorKind`",
            "answer with an error that has a message and a known `data.kind`, such as `config`",
        ),
    ),
    check(
        "cycles",
        "releases its threads and files when it is dropped, a thousand times",
        create::cycles,
        &[Probe::Cycles],
        Remedy::new(
            "end threads and close files in `Drop`, or use `Context::block_on`, whose threads end by themselves",
            "end when standard input ends, and let `create` replace the earlier instance with what it holds",
        ),
    ),
    check(
        "build",
        "runs a whole build",
        build::build,
        &[Probe::Build],
        Remedy::new(
            "see the failed step; try it in a unit test with `MockHost`",
            "see the failed step; run it alone with `build-image providers run-step`, which prints every message",
        ),
    ),
    check(
        "stub",
        "returns `unsupported` with the manual steps where it does nothing",
        build::stub,
        &[Probe::Build],
        Remedy::new(
            "leave the step out, or answer `Error::unsupported(what, what to do instead)`",
            "answer `upload` and `register` with an error of kind `unsupported` whose `hint` says what to do instead",
        ),
    ),
    check(
        "ledger",
        "announces resources before it creates them",
        build::ledger,
        &[Probe::Build],
        Remedy::new(
            "call `context.will_create` before and `context.created` after each resource",
            "call `event` with `resource_planned` before and with `resource_created` after each resource, and wait for the answer",
        ),
    ),
    check(
        "discard",
        "removes what it created, also when part of it is gone",
        build::discard,
        &[Probe::Build],
        Remedy::both(
            "count resources that are gone as removed; list what could not be removed in `remaining`",
        ),
    ),
    check(
        "gone",
        "reports what it removed as gone",
        undo::gone,
        &[Probe::Build],
        Remedy::new(
            "call `context.gone(&resource)` after each removal, as `context.discard_each` does, and list every resource in `removed` or `remaining`",
            "call `event` with `resource_gone` after each removal, and list every resource of the request in `removed` or `remaining`",
        ),
    ),
    check(
        "identity",
        "gives each resource an identity",
        undo::identity,
        &[Probe::Build],
        Remedy::new(
            "put everything that locates a thing (bucket, account, path) into the name of its `Resource`: kind, region and name must differ from those of every other thing of the run",
            "put everything that locates a thing (bucket, account, path) into `name` of its resource: `kind`, `region` and `name` must differ from those of every other thing of the run",
        ),
    ),
    check(
        "taken",
        "keeps resources of others with the same name",
        undo::taken,
        &[Probe::Build, Probe::Undo],
        Remedy::both(
            "write a file under a temporary name and rename it; in `discard` remove by the id the cloud gave, or by a mark of this run (a tag, an inode), never by the name alone",
        ),
    ),
    check(
        "unrecorded",
        "finds a resource whose id it had not reported",
        undo::unrecorded,
        &[Probe::Build, Probe::Undo],
        Remedy::both(
            "in `discard` look for a resource without `id` by a mark of this run that was set in the request that creates it: a tag with `run_id`, a client token, an inode noted before the rename; where a cloud has no marks, list it in `remaining` with a hint how to find it",
        ),
    ),
    check(
        "image-name",
        "gives the image the name of CLOUD_IMAGE_NAME",
        marked::name,
        &[Probe::Build, Probe::Optional],
        Remedy::new(
            "use `build.image_name` in the request that registers the image, and return it in `Image::name`",
            "use `build.image_name` in the request that registers the image, and return it in `name` of the image",
        ),
    ),
    check(
        "tags",
        "gives the image the tags of IMAGE_TAGS",
        marked::tags,
        &[Probe::Build, Probe::Optional, Probe::Fault(Fault::Throttled)],
        Remedy::both(
            "send `build.tags` in the request that registers the image, or leave `tags` out of the description",
        ),
    ),
    check(
        "progress",
        "reports progress that grows up to its total",
        build::progress,
        &[Probe::Build],
        Remedy::both("count up, never beyond the total, and report the total when done"),
    ),
    check(
        "concurrent",
        "works with several instances at once",
        build::concurrent,
        &[Probe::Create, Probe::Build, Probe::Concurrent],
        Remedy::new(
            "keep state in the instance; no statics, no fixed file names",
            "two processes run at once: no fixed file names, no fixed ports",
        ),
    ),
    check(
        "cancel-before",
        "does not begin when it was asked to stop",
        cancel::before,
        &[Probe::Build, Probe::Cancel],
        Remedy::new(
            "begin steps with `context.check_cancelled()?`",
            "begin steps with `is_cancelled`; after `true` or `cancel` answer with an error of kind `cancelled`",
        ),
    ),
    check(
        "cancel-during",
        "stops within two seconds",
        cancel::during,
        &[Probe::Build, Probe::Cancel],
        Remedy::new(
            "call `context.check_cancelled()?` in every loop, `context.wait` instead of sleeping, `context.block_on` for futures",
            "call `is_cancelled` in every loop and `wait` instead of sleeping; end requests that take longer than two seconds",
        ),
    ),
    check(
        "cancel-clean",
        "creates nothing after it was asked to stop, and leaves nothing",
        cancel::clean,
        &[Probe::Build, Probe::Cancel],
        Remedy::new(
            "call `context.check_cancelled()?` before each `context.will_create`; announce whatever is created, so that `discard` gets it",
            "call `is_cancelled` before each `resource_planned`; announce whatever is created, so that `discard` gets it",
        ),
    ),
    check(
        "panics",
        "does not panic",
        every::panics,
        ALL,
        Remedy::new(
            "return an `Error`; a panic ends the build with `this is a bug of the provider`",
            "answer with an error whose kind says what failed; `panic` means a bug of the provider",
        ),
    ),
    check(
        "quiet",
        "calls the host only while a step runs",
        build::quiet,
        &[Probe::Create, Probe::Build],
        Remedy::new(
            "join your threads before a step returns and before `drop` ends",
            "send `event`, `progress` and other calls before the answer of the step, none after it",
        ),
    ),
    check(
        "output",
        "writes nothing to standard output and standard error",
        every::output,
        ALL,
        Remedy::new(
            "use `tracing`, whose records reach the host's log, and `context.milestone` for the user",
            "send `log` for the host's log, and `event` with `milestone` for the user",
        ),
    ),
    check(
        "secrets",
        "keeps secrets out of logs, events, answers and errors",
        every::secrets,
        ALL,
        Remedy::new(
            "reveal a `Secret` only where it is sent; name the setting in errors, not its value",
            "use the answer of `secret` only where it is sent; name the setting in errors, not its value",
        ),
    ),
    check(
        "process",
        "does not change the process",
        every::process,
        ALL,
        Remedy::both("no `set_var`, `set_current_dir`, umask or signal handler in a provider"),
    ),
];

/// Returns all checks: those of the optional steps and of faults last.
pub(super) fn checks() -> impl Iterator<Item = &'static Check> {
    CHECKS.iter().chain(&optional::CHECKS).chain(&faults::CHECKS)
}

impl Check {
    /// Returns whether it applies only where requests are disturbed.
    pub(super) fn is_of_faults(&self) -> bool {
        faults::CHECKS.iter().any(|check| check.id == self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::conformance::evidence::{
        Answer, Built, Call, Cancelled, Concurrent, Created, Cycled, Described, Ended, Later,
        Malformed, Undone,
    };

    #[test]
    fn every_check_has_a_unique_id_a_title_and_remedies() {
        let ids: BTreeSet<&str> = checks().map(|check| check.id).collect();
        assert_eq!(ids.len(), checks().count());
        for check in checks() {
            assert!(check.id.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'));
            assert!(!check.title.is_empty() && !check.title.ends_with('.'), "{}", check.id);
            for text in [check.remedy.library, check.remedy.program] {
                assert!(!text.is_empty() && !text.contains('\n'), "{}", check.id);
            }
        }
    }

    /// Rows about libraries are skipped for programs, so their remedies are never printed for one.
    #[test]
    fn remedies_for_programs_name_no_item_of_the_crate() {
        let of_libraries = ["symbols", "libraries", "unwind", "process"];
        for check in checks().filter(|check| !of_libraries.contains(&check.id)) {
            let text = check.remedy.program;
            for item in ["::", "context.", "Context", "Error", "Description", "tracing", "macro"] {
                assert!(!text.contains(item), "{}: `{item}` in: {text}", check.id);
            }
        }
    }

    /// Observations of a probe in which nothing went wrong, and everything optional is declared.
    fn observed(probe: Probe) -> Ended {
        let capabilities = ["inventory", "manage.delete", "locate"];
        let document = json!({
            "name": "x", "capabilities": capabilities, "image_name": {}, "tags": {},
            "settings": [{"key": "X_KEY", "summary": "a key"}],
        });
        let seen = match probe {
            Probe::Describe => json!(Described { document, ..Described::default() }),
            Probe::Create => json!(Created::default()),
            Probe::Shapes => json!([("X_KEY", Call::default())]),
            Probe::Later => json!(Later::default()),
            Probe::Malformed => {
                json!(Malformed { calls: vec![(Call::default(), true)], lenient: true })
            }
            Probe::Cycles => json!(Cycled::default()),
            Probe::Build => json!(Built::default()),
            Probe::Concurrent => json!(Concurrent::default()),
            Probe::Cancel => json!(Cancelled::default()),
            Probe::Undo => json!(Undone::default()),
            Probe::Optional => json!(optional::Optional::default()),
            Probe::Fault(_) => json!(faults::Disturbed::default()),
        };
        Ended::Answered(Answer { seen, ..Answer::default() })
    }

    #[test]
    fn a_check_reads_no_other_observations_than_it_names() {
        for check in checks() {
            let mut evidence = Evidence::of(std::path::Path::new("/no-file"));
            for probe in Probe::ALL {
                let is_needed = probe == Probe::Describe || check.needs.contains(&probe);
                let other = || Ended::Omitted("not run".to_owned());
                *evidence.slot(probe) = if is_needed { observed(probe) } else { other() };
            }
            let judgement = (check.judge)(&evidence);
            assert_ne!(judgement, Judgement::Skip("not run".to_owned()), "{}", check.id);
        }
    }
}
