//! Resumes and collects killed builds for a real docker-registry where it matters which settings they get, and runs
//! builds at once. `seams` kills at every line of the journal.

use serde_json::Value;

use crate::{
    build_oci::{args, build, sandbox},
    harness::{OciRegistry, Run, Sandbox},
};

fn runs(sandbox: &Sandbox) -> Vec<Value> {
    let listed = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    listed["runs"].as_array().unwrap().clone()
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
fn an_upload_whose_newest_url_cannot_be_recorded_is_cancelled() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    // The disk of the journal is full when the registry has opened the upload, and when it has taken two chunks.
    for (number, line) in [r#""location""#, r#""offset":2097152"#].into_iter().enumerate() {
        let sandbox = sandbox();
        let repository = format!("unrecorded/{number}");
        let reference = format!("{}/{repository}:1", registry.address());
        let mut command = sandbox.command(&args(&reference, &["--oci-chunk-size", "1MiB"]));
        command.env("BUILD_IMAGE_FAILPOINT", format!("full:{line}"));
        Run::of(&command.output().unwrap(), None).failed(5, &["journal", "no storage space"]);
        assert_eq!(registry.uploads(&repository), 0, "{line}");
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
        gc.code == 8 && shown.contains("belongs to `") && shown.contains("team/disk`"),
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
