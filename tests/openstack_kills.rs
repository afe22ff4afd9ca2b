//! Kills and interrupts builds for a real Glance at every line of their journals, then resumes or collects them.
//!
//! After each: a finished build has one visible image that holds the disk; any other end leaves no image of the run, and
//! an older image of the same name is as it was.

use std::process::Stdio;

use serde_json::json;

use crate::{
    build_openstack::{BUILDER, build, foreign, sandbox},
    harness::{OpenStack, Run, Sandbox, until},
    openstack_faults::step,
};

/// One point in this many is tried, or as BUILD_IMAGE_SOAK_OPENSTACK sets.
const STEP: usize = 37;
/// What happens at a line of the journal, in the syntax of the crash points of debug builds, and what follows.
const DISTURBANCES: [(&str, After); 6] = [
    ("after", After::Resume),
    ("after", After::Collect),
    ("int", After::Resume),
    ("term", After::Resume),
    ("full", After::Resume),
    ("after", After::ResumeWithOthers),
];
/// A setting that a resumed run does not take.
const OTHER: [&str; 2] = ["--cloud-image-name", "another-name"];

/// What is done with the run that a disturbed build leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    Resume,
    Collect,
    /// First with another name, which is refused, then as it was.
    ResumeWithOthers,
}

/// Upload method and what happens to older images.
const BUILDS: [(&str, &str); 3] = [("put", "keep"), ("import", "replace"), ("put", "hide")];

/// A build, without the name of its image.
const WORDS: [&str; 7] =
    ["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack", "--cloud-image-name"];

/// One point.
struct Point<'a> {
    cloud: &'a OpenStack,
    method: &'static str,
    if_exists: &'static str,
    what: &'static str,
    line: u64,
    after: After,
}

impl Point<'_> {
    fn name(&self) -> String {
        let Self { method, if_exists, what, line, after, .. } = self;
        format!("kill-{method}-{if_exists}-{what}-{line}-{after:?}")
    }

    fn sandbox(&self) -> Sandbox {
        sandbox(
            self.cloud,
            &[
                ("OPENSTACK_UPLOAD_METHOD", self.method),
                ("OPENSTACK_IF_EXISTS", self.if_exists),
                ("OPENSTACK_PROTECTED", "true"),
            ],
        )
    }

    /// The outcome, or what is wrong.
    fn judge(&self) -> Result<&'static str, String> {
        let (cloud, name, sandbox) = (self.cloud, self.name(), self.sandbox());
        let older = foreign(cloud, BUILDER, &name, &json!({}));
        let mut command = sandbox.command(&[&WORDS[..], &[&name]].concat());
        command.env("BUILD_IMAGE_FAILPOINT", format!("{}:{}", self.what, self.line));
        let run = Run::of(&command.output().unwrap(), None);
        if run.code == 0 {
            return self.is_complete(&sandbox, &older).map(|()| "done");
        }
        let listed = sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        let Some(left) = listed["runs"].as_array().and_then(|runs| runs.first()) else {
            return self.is_untouched(&older).map(|()| "undone");
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
        if self.after != After::Collect && left["platform"] != "" && left["state"] != "done" {
            if self.after == After::ResumeWithOthers
                && finish(&[&["resume", id][..], &OTHER].concat()).is_ok()
            {
                return Err("another name was accepted".to_owned());
            }
            finish(&["resume", id])?;
            return self.is_complete(&sandbox, &older).map(|()| "resumed");
        }
        finish(&["gc", "--yes"])?;
        if ["released", "notified"].contains(&reached) {
            return self.is_complete(&sandbox, &older).map(|()| "finished");
        }
        self.is_untouched(&older).map(|()| "collected")
    }

    /// One visible image of the run holds the disk; the older one is what the settings make of it.
    fn is_complete(&self, sandbox: &Sandbox, older: &str) -> Result<(), String> {
        let mut images = self.cloud.images(&self.name(), "builders");
        let old =
            images.iter().position(|image| image["id"] == older).map(|place| images.remove(place));
        let [new] = images.as_slice() else {
            return Err(format!("{} images of the run", images.len()));
        };
        if new["status"] != "active" || new["os_hidden"] != false || new["protected"] != true {
            return Err(format!("the image is {new:#}"));
        }
        self.cloud.holds(new["id"].as_str().unwrap(), &sandbox.path().join("disk.raw"));
        let hidden = old.map(|old| old["os_hidden"].as_bool().unwrap());
        let expected = match self.if_exists {
            "keep" => Some(false),
            "hide" => Some(true),
            _ => None,
        };
        if hidden == expected {
            Ok(())
        } else {
            Err(format!("the older image is hidden: {hidden:?}"))
        }
    }

    fn is_untouched(&self, older: &str) -> Result<(), String> {
        match self.cloud.images(&self.name(), "builders").as_slice() {
            [image] if image["id"] == older && image["os_hidden"] == false => Ok(()),
            other => Err(format!("the project has {other:#?}")),
        }
    }
}

#[test]
fn a_build_that_is_killed_at_any_line_is_completed_or_leaves_no_trace() {
    let Some(cloud) = OpenStack::shared() else { return };
    let step = step(STEP);
    let (mut all, mut tried, mut violations) = (0, 0, Vec::new());
    let mut tally = std::collections::BTreeMap::new();
    for (method, if_exists) in BUILDS {
        let first =
            Point { cloud, method, if_exists, what: "none", line: 0, after: After::Collect };
        let (sandbox, name) = (first.sandbox(), first.name());
        foreign(cloud, BUILDER, &name, &json!({}));
        let lines = sandbox.journal_lines(&mut sandbox.command(&[&WORDS[..], &[&name]].concat()));
        for line in 1..=lines {
            for (what, after) in DISTURBANCES {
                all += 1;
                if all % step != 0 {
                    continue;
                }
                tried += 1;
                let point = Point { cloud, method, if_exists, what, line, after };
                match point.judge() {
                    Ok(end) => *tally.entry((what, end)).or_insert(0_u64) += 1,
                    Err(what) => {
                        let violation = format!("{}: {what}", point.name());
                        // In parallel: the whole matrix needs much time.
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
fn builds_of_one_name_at_once_leave_a_visible_image_and_no_older_one() {
    let Some(cloud) = OpenStack::shared() else { return };
    for if_exists in ["hide", "replace"] {
        let name = format!("at-once-{if_exists}");
        let older = foreign(cloud, BUILDER, &name, &json!({}));
        let sandboxes = [(); 3].map(|()| sandbox(cloud, &[("OPENSTACK_IF_EXISTS", if_exists)]));
        let children = sandboxes.each_ref().map(|sandbox| {
            let words = ["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack"];
            let mut command =
                sandbox.command(&[&words[..], &["--cloud-image-name", &name]].concat());
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        });
        for child in children {
            let run = Run::of(&child.wait_with_output().unwrap(), None);
            assert_eq!(run.code, 0, "{if_exists}: {}", run.stderr);
        }
        let images = cloud.images(&name, "builders");
        let visible: Vec<_> = images.iter().filter(|image| image["os_hidden"] == false).collect();
        assert!(!visible.is_empty(), "{if_exists}: {images:#?}");
        assert!(visible.iter().all(|image| image["id"] != older), "{if_exists}: {images:#?}");
        for image in visible {
            cloud.holds(image["id"].as_str().unwrap(), &sandboxes[0].path().join("disk.raw"));
        }
        for sandbox in &sandboxes {
            assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
        }
    }
}

#[test]
fn an_image_that_was_created_later_stays_visible() {
    let Some(cloud) = OpenStack::shared() else { return };
    let sandbox = sandbox(cloud, &[("OPENSTACK_IF_EXISTS", "replace")]);
    let name = "created-later";
    let words = ["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack"];
    let mut command = sandbox.command(&[&words[..], &["--cloud-image-name", name]].concat());
    let killed = command.env("BUILD_IMAGE_FAILPOINT", "after:resource_created").output().unwrap();
    assert!(!killed.status.success());
    // The service shows whole seconds.
    let second = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let begun = second();
    until("the next second", || second() > begun);
    let later = foreign(cloud, BUILDER, name, &json!({}));
    let before = cloud.image(&later);
    let listed = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let run = sandbox.run(&["resume", listed["runs"][0]["id"].as_str().unwrap()]);
    run.succeeded();
    let text = format!("image `{later}` of the same name was created later");
    assert!(run.stderr.contains(&text), "{}", run.stderr);
    assert_eq!(cloud.image(&later), before);
}

#[test]
fn another_projects_credentials_neither_resume_nor_collect_a_run() {
    let Some(cloud) = OpenStack::shared() else { return };
    let sandbox = sandbox(cloud, &[]);
    let name = "of-a-project";
    let mut command = sandbox.command(&[
        "--disk",
        "disk.raw",
        "-c",
        "config.yml",
        "-p",
        "openstack",
        "--cloud-image-name",
        name,
    ]);
    let killed = command.env("BUILD_IMAGE_FAILPOINT", "after:checkpoint").output().unwrap();
    assert!(!killed.status.success());
    let listed = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let id = listed["runs"][0]["id"].as_str().unwrap().to_owned();
    // The run itself is unknown to another configuration; only its resources remain.
    let images = cloud.images(name, "builders");
    sandbox.write("config.yml", &cloud.config("builder", "partners", &[]));
    let gc = Run::of(&sandbox.command(&["gc", "--yes"]).output().unwrap(), None);
    assert_eq!(gc.code, 5, "{}{}", gc.stdout, gc.stderr);
    let shown = format!("{}{}", gc.stdout, gc.stderr);
    assert!(shown.contains("belongs to project"), "{shown}");
    let resume = Run::of(&sandbox.command(&["resume", &id]).output().unwrap(), None);
    assert_ne!(resume.code, 0, "{}", resume.stderr);
    assert_eq!(cloud.images(name, "builders"), images);
    // With the right project it is collected.
    sandbox.write("config.yml", &cloud.config("builder", "builders", &[]));
    let gc = Run::of(&sandbox.command(&["gc", "--yes"]).output().unwrap(), None);
    assert_eq!(gc.code, 0, "{}{}", gc.stdout, gc.stderr);
    assert!(cloud.images(name, "builders").is_empty());
}

#[test]
fn a_build_that_fails_after_it_has_hidden_an_image_shows_it_again() {
    let Some(cloud) = OpenStack::shared() else { return };
    let name = "hidden-and-shown";
    let older = foreign(cloud, BUILDER, name, &json!({}));
    let sandbox = sandbox(cloud, &[("OPENSTACK_IF_EXISTS", "replace")]);
    // What follows the hiding fails: the hidden image is in the journal, the disk of the journal is full then.
    let mut command = sandbox.command(&[
        "--disk",
        "disk.raw",
        "-c",
        "config.yml",
        "-p",
        "openstack",
        "--cloud-image-name",
        name,
    ]);
    let run =
        Run::of(&command.env("BUILD_IMAGE_FAILPOINT", "int:hidden_image").output().unwrap(), None);
    assert_eq!(run.code, 130, "{}", run.stderr);
    let images = cloud.images(name, "builders");
    assert_eq!(images.len(), 1, "{images:#?}");
    assert_eq!(
        (images[0]["id"].as_str(), &images[0]["os_hidden"]),
        (Some(older.as_str()), &json!(false))
    );
    build(&sandbox, name, &[]).succeeded();
    let images = cloud.images(name, "builders");
    assert!(images.len() == 1 && images[0]["id"] != older.as_str(), "{images:#?}");
}
