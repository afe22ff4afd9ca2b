//! Kills and interrupts builds for a real docker-registry at every line of their journals, then resumes or collects
//! them; and runs builds at once.
//!
//! After each: a finished build has its tags on one manifest that holds the disk; any other end leaves no manifest of the
//! run, and no upload that can be cancelled, and the tag of an older image is as it was.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    build_oci::{args, build, sandbox},
    harness::{OciRegistry, Run, Sandbox},
    oci_faults::step,
};

/// One point in this many is tried, or as BUILD_IMAGE_SOAK_OCI sets.
const STEP: usize = 41;
/// What happens at a line of the journal, in the syntax of the crash points of debug builds, and whether the run is
/// resumed afterwards or collected.
const DISTURBANCES: [(&str, bool); 5] =
    [("after", true), ("after", false), ("before", true), ("int", true), ("term", true)];
/// Further arguments, and whether the tag belongs to an older image before.
const BUILDS: [(&[&str], bool); 3] = [
    (&["--oci-chunk-size", "512KiB", "--oci-tags", "[extra]"], false),
    (
        &[
            "--oci-chunk-size",
            "1MiB",
            "--oci-layer-compression",
            "gzip",
            "--oci-if-exists",
            "replace",
        ],
        true,
    ),
    (&["--oci-chunk-size", "0", "--oci-kind", "artifact", "--oci-if-exists", "replace"], true),
];

/// One point.
struct Point<'a> {
    registry: &'a OciRegistry,
    more: &'static [&'static str],
    replaces: bool,
    what: &'static str,
    line: u64,
    resume: bool,
    number: usize,
}

impl Point<'_> {
    fn repository(&self) -> String {
        format!("kills/disk-{}", self.number)
    }

    fn reference(&self) -> String {
        format!("{}/{}:1", self.registry.address(), self.repository())
    }

    /// The outcome, or what is wrong.
    fn judge(&self) -> Result<&'static str, String> {
        let (sandbox, reference) = (sandbox(), self.reference());
        if self.replaces {
            let older = Sandbox::new();
            older.disk("disk.raw", 16, 1);
            build(&older, &reference, &[]).succeeded();
        }
        let before = self.registry.tags(&self.repository());
        let mut command = sandbox.command(&args(&reference, self.more));
        command.env("BUILD_IMAGE_FAILPOINT", format!("{}:{}", self.what, self.line));
        let run = Run::of(&command.output().unwrap(), None);
        if run.code == 0 {
            return self.is_complete(&sandbox).map(|()| "done");
        }
        let Some(left) = runs(&sandbox).into_iter().next() else {
            return self.is_untouched(&before).map(|()| "undone");
        };
        let (id, reached) =
            (left["id"].as_str().unwrap(), left["reached"].as_str().unwrap_or_default());
        let finish = |words: &[&str]| {
            let run = Run::of(&sandbox.command(words).output().unwrap(), None);
            if run.code == 0 {
                Ok(())
            } else {
                Err(format!("{words:?}: {}\n{}", run.code, run.stderr))
            }
        };
        if self.resume && left["platform"] != "" && left["state"] != "done" {
            finish(&["resume", id])?;
            return self.is_complete(&sandbox).map(|()| "resumed");
        }
        finish(&["gc", "--yes"])?;
        if ["released", "notified"].contains(&reached) {
            return self.is_complete(&sandbox).map(|()| "finished");
        }
        self.is_untouched(&before).map(|()| "collected")
    }

    /// All tags refer to one manifest of the run, which holds the disk.
    fn is_complete(&self, sandbox: &Sandbox) -> Result<(), String> {
        let (registry, repository) = (self.registry, self.repository());
        let tags = registry.tags(&repository);
        let digests: BTreeSet<&String> = tags.values().collect();
        let wanted = if self.more.contains(&"[extra]") { 2 } else { 1 };
        let manifests = registry.manifests(&repository).len();
        let older = usize::from(self.replaces);
        if tags.len() != wanted || digests.len() != 1 || manifests != 1 + older {
            return Err(format!("{tags:?}, {manifests} manifests"));
        }
        registry.holds(&self.reference(), "qcow2", &sandbox.path().join("disk.raw"));
        self.has_no_upload()
    }

    fn is_untouched(&self, before: &BTreeMap<String, String>) -> Result<(), String> {
        let (registry, repository) = (self.registry, self.repository());
        let (tags, manifests) = (registry.tags(&repository), registry.manifests(&repository));
        if tags != *before || manifests.len() != before.len() {
            return Err(format!("{tags:?} in place of {before:?}, manifests {manifests:?}"));
        }
        self.has_no_upload()
    }

    /// No upload is left, but one whose last answer was not recorded: Distribution refuses its older URL, and ends it by
    /// itself.
    fn has_no_upload(&self) -> Result<(), String> {
        match self.registry.uploads(&self.repository()) {
            0 => Ok(()),
            1 if self.what == "before" => Ok(()),
            count => Err(format!("{count} uploads are left")),
        }
    }
}

fn runs(sandbox: &Sandbox) -> Vec<Value> {
    let listed = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    listed["runs"].as_array().unwrap().clone()
}

#[test]
fn a_push_killed_at_any_line_is_completed_or_leaves_no_trace() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let registry = &registry;
    let step = step(STEP);
    let (mut all, mut tried, mut violations) = (0, 0, Vec::new());
    let mut tally = BTreeMap::new();
    for (more, replaces) in BUILDS {
        let first = Point {
            registry,
            more,
            replaces,
            what: "none",
            line: 0,
            resume: false,
            number: 1_000_000 + all,
        };
        let (sandbox, reference) = (sandbox(), first.reference());
        if replaces {
            build(&sandbox, &reference, &[]).succeeded();
            sandbox.disk("disk.raw", 16, 1);
        }
        let lines = sandbox.journal_lines(&mut sandbox.command(&args(&reference, more)));
        for line in 1..=lines {
            for (what, resume) in DISTURBANCES {
                all += 1;
                if all % step != 0 {
                    continue;
                }
                tried += 1;
                let point = Point { registry, more, replaces, what, line, resume, number: all };
                match point.judge() {
                    Ok(end) => *tally.entry((what, end)).or_insert(0_u64) += 1,
                    Err(wrong) => {
                        let violation = format!("{more:?} {what}:{line} {resume}: {wrong}");
                        // At once: the whole matrix needs much time.
                        eprintln!("violation: {violation}");
                        violations.push(violation);
                    }
                }
            }
        }
    }
    println!("{tried} of {all} points, {} violations: {tally:?}", violations.len());
    assert!(violations.is_empty(), "{} violations\n{}", violations.len(), violations.join("\n\n"));
    assert!(tally.len() >= 2, "{tally:?}");
}

#[test]
fn a_resumed_upload_continues_where_it_was_unless_the_settings_make_another_layer() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    for (number, (more, continues)) in
        [(&[][..], true), (&["--oci-layer-compression", "gzip"], false)].into_iter().enumerate()
    {
        let sandbox = sandbox();
        let repository = format!("team/disk-{number}");
        let reference = format!("{}/{repository}:1", registry.address());
        let chunks = ["--oci-chunk-size", "1MiB"];
        let mut command = sandbox.command(&args(&reference, &chunks));
        // Two of the four chunks have arrived.
        let killed =
            command.env("BUILD_IMAGE_FAILPOINT", r#"after:"offset":2097152"#).output().unwrap();
        assert!(!killed.status.success());
        assert_eq!(registry.uploads(&repository), 1);
        let id = runs(&sandbox)[0]["id"].as_str().unwrap().to_owned();
        let resumed = sandbox.run(&[&["resume", &id], more].concat());
        resumed.succeeded();
        let sent = resumed.member("bytes_sent").as_u64().unwrap();
        assert_eq!(sent < 2 << 20, continues, "{sent}");
        registry.holds(&reference, "qcow2", &sandbox.path().join("disk.raw"));
        assert_eq!(registry.uploads(&repository), 0);
    }
}

#[test]
fn another_repository_neither_resumes_nor_collects_a_run() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let sandbox = sandbox();
    let config = |repository: &str| {
        let reference = format!("{}/{repository}:1", registry.address());
        sandbox.write("config.yml", &format!("OCI_REFERENCE: {reference}\n"));
    };
    config("team/disk");
    let mut command = sandbox.command(&["--disk", "disk.raw", "-p", "oci", "-c", "config.yml"]);
    let killed = command.env("BUILD_IMAGE_FAILPOINT", "after:upload_session").output().unwrap();
    assert!(!killed.status.success());
    let id = runs(&sandbox)[0]["id"].as_str().unwrap().to_owned();
    let mut command = sandbox.command(&["resume", &id]);
    let killed = command.env("BUILD_IMAGE_FAILPOINT", "after:offset").output().unwrap();
    assert!(!killed.status.success());
    assert_eq!(registry.uploads("team/disk"), 1);
    config("other/disk");
    let gc = Run::of(&sandbox.command(&["gc", "--yes"]).output().unwrap(), None);
    let shown = format!("{}{}", gc.stdout, gc.stderr);
    assert!(
        gc.code == 5 && shown.contains("belongs to `") && shown.contains("team/disk`"),
        "{shown}"
    );
    let resume = Run::of(&sandbox.command(&["resume", &id]).output().unwrap(), None);
    assert_ne!(resume.code, 0, "{}", resume.stderr);
    assert_eq!(registry.uploads("team/disk"), 1);
    config("team/disk");
    let gc = Run::of(&sandbox.command(&["gc", "--yes"]).output().unwrap(), None);
    assert_eq!((gc.code, registry.uploads("team/disk")), (0, 0), "{}{}", gc.stdout, gc.stderr);
}

#[test]
fn a_registry_that_forbids_deletion_keeps_what_is_listed_with_a_command() {
    let Some(registry) = OciRegistry::start("fixed", &[]) else { return };
    let older = Sandbox::new();
    older.disk("disk.raw", 16, 1);
    let reference = format!("{}/team/disk:1", registry.address());
    build(&older, &reference, &[]).succeeded();
    let before = registry.tags("team/disk");
    let sandbox = sandbox();
    let more = ["--oci-if-exists", "replace", "--oci-tags", "[extra]"];
    let mut command = sandbox.command(&args(&reference, &more));
    let run = Run::of(
        &command.env("BUILD_IMAGE_FAILPOINT", r#"int:"name":"extra""#).output().unwrap(),
        None,
    );
    assert_ne!(run.code, 0, "{}", run.stderr);
    let after = registry.tags("team/disk");
    // The tag of the older image was moved back; the manifest cannot be deleted.
    assert_eq!(after.get("1"), before.get("1"), "{}", run.stderr);
    assert_eq!(registry.manifests("team/disk").len(), 2);
    assert!(
        run.stderr.contains("skopeo delete docker://")
            && run.stderr.contains("storage.delete.enabled"),
        "{}",
        run.stderr
    );
}

#[test]
fn builds_of_one_tag_at_once_are_right_or_name_the_other_one() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    for (repository, differ) in [("at-once/equal", false), ("at-once/different", true)] {
        let reference = format!("{}/{repository}:1", registry.address());
        let sandboxes: Vec<Sandbox> = (1..=4)
            .map(|data| {
                let sandbox = Sandbox::new();
                sandbox.disk("disk.raw", 16, if differ { data } else { 3 });
                sandbox
            })
            .collect();
        let started: Vec<_> = sandboxes
            .iter()
            .map(|sandbox| {
                let mut command = sandbox.command(&args(&reference, &["--oci-chunk-size", "1MiB"]));
                command
                    .stdout(std::process::Stdio::piped())
                    .stderr(std::process::Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let runs: Vec<Run> = started
            .into_iter()
            .map(|child| Run::of(&child.wait_with_output().unwrap(), None))
            .collect();
        let done: Vec<usize> = (0..runs.len()).filter(|&number| runs[number].code == 0).collect();
        for run in runs.iter().filter(|run| run.code != 0) {
            run.failed(6, &["tag `1`"]);
        }
        let tags = registry.tags(repository);
        assert!(!done.is_empty() && tags.len() == 1, "{tags:?}");
        assert!(differ || (done.len() == 4 && registry.manifests(repository).len() == 1));
        // The tag is that of a build that succeeded.
        let owner = done.iter().find(|&&number| runs[number].stdout.contains(tags["1"].as_str()));
        let owner = &sandboxes[*owner.unwrap()];
        registry.holds(&reference, "qcow2", &owner.path().join("disk.raw"));
        assert_eq!(registry.uploads(repository), 0);
    }
}
