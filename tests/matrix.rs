//! Matrices (`build-image matrix`): expanded into commands for shells, CI systems and batch systems, and run here, several
//! at once, again after a kill, and interrupted.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    bundles::Bench,
    harness::{Run, root},
    upload_register::{cloud_has, count, requests},
};

const FILE: &str = "\
name: nightly
config: config.yml
results: results
settings: {PLATFORM: alibaba, LOG_FILE: logs/}
axes:
  product:
    - {id: web, DISK: web.raw}
    - {id: db, DISK: db.raw}
  size:
    - {id: small, DISK_SIZE: 8MiB}
    - {id: large, DISK_SIZE: 16MiB}
    - {id: huge, DISK_SIZE: 24MiB}
exclude:
  - {product: db, size: huge}
";

/// Builds of [`FILE`].
const BUILDS: usize = 5;

fn bench() -> Bench {
    let bench = Bench::new();
    bench.sandbox.disk("db.raw", 8, 2);
    bench.sandbox.write("m.yml", FILE);
    bench
}

fn document(bench: &Bench, words: &[&str]) -> Value {
    let all = [&["matrix", "-c", "m.yml", "--json"][..], words].concat();
    let output = bench.sandbox.command(&all).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn states(document: &Value) -> Vec<&str> {
    let builds = document["builds"].as_array().unwrap();
    builds.iter().map(|build| build["state"].as_str().unwrap()).collect()
}

#[test]
fn the_commands_of_a_matrix_are_independent_builds() {
    let bench = bench();
    let sandbox = &bench.sandbox;
    let run = sandbox.run(&["matrix", "-c", "m.yml", "--format", "commands"]);
    run.succeeded();
    assert_eq!(run.stdout.lines().count(), BUILDS);
    let program = env!("CARGO_BIN_EXE_build-image");
    for line in run.stdout.lines().take(2) {
        let plain = sandbox.command(&[]);
        let mut shell = Command::new("sh");
        shell.args(["-c", &line.replacen("build-image", program, 1)]);
        shell.current_dir(sandbox.path()).env_clear().stderr(Stdio::null());
        shell.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
        assert!(shell.status().unwrap().success(), "{line}");
    }
    cloud_has(sandbox, 0, 2, "two commands");
    assert_eq!(states(&document(&bench, &[])), ["done", "done", "waiting", "waiting", "waiting"]);
    let result = std::fs::read(sandbox.path().join("results/nightly-web-small.json")).unwrap();
    let result: Value = serde_json::from_slice(&result).unwrap();
    assert_eq!(result["result"], "SUCCESS");
}

/// An object has the members that its schema requires, and only those that it describes.
#[track_caller]
fn fits(object: &Value, schema: &Value) {
    let members: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    let required = schema["required"].as_array().unwrap().iter();
    let required: BTreeSet<&str> = required.map(|name| name.as_str().unwrap()).collect();
    let known = schema["properties"].as_object().unwrap();
    assert!(required.is_subset(&members), "{object}");
    assert!(members.iter().all(|name| known.contains_key(*name)), "{object}");
    for (name, value) in object.as_object().unwrap() {
        let allowed = known[name]["enum"].as_array();
        assert!(allowed.is_none_or(|allowed| allowed.contains(value)), "{name}: {value}");
    }
}

#[test]
fn the_document_has_the_published_form() {
    let bench = bench();
    let schema = std::fs::read(root().join("docs/schemas/matrix-1.json")).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    for words in [&[][..], &["--jobs", "2"]] {
        let document = document(&bench, words);
        fits(&document, &schema);
        assert_eq!(document["version"], schema["properties"]["version"]["const"]);
        for build in document["builds"].as_array().unwrap() {
            let item = &schema["properties"]["builds"]["items"];
            fits(build, item);
            assert_eq!(build["exit_code"].is_null(), words.is_empty());
            for image in build["images"].as_array().unwrap() {
                fits(image, &item["properties"]["images"]["items"]);
            }
        }
    }
}

#[test]
fn a_matrix_runs_here_and_does_only_what_is_missing() {
    let bench = bench();
    let sandbox = &bench.sandbox;
    let ran = document(&bench, &["--jobs", "3"]);
    assert_eq!(states(&ran), ["done"; BUILDS]);
    assert!(ran["builds"].as_array().unwrap().iter().all(|build| build["exit_code"] == 0), "{ran}");
    cloud_has(sandbox, 0, BUILDS as u64, "first");
    let before = requests(&bench);
    let again = sandbox.run(&["matrix", "-c", "m.yml", "--jobs", "2"]);
    again.succeeded();
    assert_eq!(again.stdout.lines().filter(|line| line.contains(" done ")).count(), BUILDS);
    assert_eq!(requests(&bench), before);
}

#[test]
fn builds_that_sign_with_their_key_are_listed_as_done() {
    let bench = bench();
    let sandbox = &bench.sandbox;
    sandbox.write("m.yml", &FILE.replace("LOG_FILE: logs/", "JOURNAL_KEY_FILE: own.key"));
    assert_eq!(states(&document(&bench, &["--jobs", "2"])), ["done"; BUILDS]);
    assert!(sandbox.path().join("own.key").is_file());
    assert_eq!(states(&document(&bench, &[])), ["done"; BUILDS]);
}

#[test]
fn a_part_that_fails_does_not_touch_the_others_and_is_repeated() {
    let bench = bench();
    let sandbox = &bench.sandbox;
    std::fs::rename(sandbox.path().join("db.raw"), sandbox.path().join("away")).unwrap();
    let run = sandbox.run(&["matrix", "-c", "m.yml", "--jobs", "2"]);
    assert_eq!(run.code, 10, "{}", run.stderr);
    assert!(run.stdout.contains("failed     exit code 4"), "{}", run.stdout);
    cloud_has(sandbox, 0, 3, "without db");
    std::fs::rename(sandbox.path().join("away"), sandbox.path().join("db.raw")).unwrap();
    let before = requests(&bench);
    sandbox
        .run(&["matrix", "-c", "m.yml", "--jobs", "2", "--only", "nightly-web-small"])
        .succeeded();
    assert_eq!(requests(&bench), before);
    sandbox.run(&["matrix", "-c", "m.yml", "--jobs", "2"]).succeeded();
    cloud_has(sandbox, 0, BUILDS as u64, "all");
    std::fs::remove_dir_all(sandbox.path().join("artifacts/once")).unwrap();
    std::fs::remove_file(sandbox.path().join("web.raw")).unwrap();
    std::fs::remove_file(sandbox.path().join("db.raw")).unwrap();
    let run = sandbox.run(&["matrix", "-c", "m.yml", "--jobs", "2"]);
    assert_eq!(run.code, 4, "all failed: {}", run.stderr);
}

#[test]
fn killed_builds_of_a_matrix_are_finished_by_the_next_run() {
    let bench = bench();
    let sandbox = &bench.sandbox;
    let matrix = ["matrix", "-c", "m.yml", "--jobs", "2"];
    // Every build is killed there: the point counts in each process.
    let mut command = sandbox.command(&matrix);
    command.env("BUILD_IMAGE_FAILPOINT", "after:resource_created");
    let run = Run::of(&command.output().unwrap(), None);
    assert_ne!(run.code, 0);
    assert_eq!(states(&document(&bench, &[])), ["unfinished"; BUILDS]);
    sandbox.run(&matrix).succeeded();
    cloud_has(sandbox, 0, BUILDS as u64, "after the kill");
}

#[test]
fn an_interrupted_matrix_ends_every_build_and_leaves_nothing() {
    let bench = bench();
    let sandbox = &bench.sandbox;
    let slow = json!([{"operation": "UploadPart", "action": {"stall_ms": 600_000}}]);
    sandbox.emulator.as_ref().unwrap().set_faults(&slow.to_string()).unwrap();
    let mut command = sandbox.command(&["matrix", "-c", "m.yml", "--jobs", "2"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut uploading = 0;
    let mut text = String::new();
    while uploading < 2 {
        let line = lines.next().unwrap().unwrap();
        uploading += u32::from(line.contains("upload"));
        text.push_str(&line);
    }
    let pid = i32::try_from(child.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{text}\n{rest:?}");
    sandbox.emulator.as_ref().unwrap().set_faults("[]").unwrap();
    cloud_has(sandbox, 0, 0, "interrupted");
    assert_eq!(count(sandbox, "images"), 0);
    assert_eq!(states(&document(&bench, &[])), ["waiting"; BUILDS]);
}

#[test]
fn a_matrix_that_is_not_acceptable_starts_nothing() {
    let bench = bench();
    let sandbox = &bench.sandbox;
    for (from, to, texts) in [
        (
            "DISK: db.raw",
            "DSIK: db.raw",
            &["line 8: DSIK is not a setting", "did you mean `DISK`"][..],
        ),
        ("DISK_SIZE: 16MiB", "DISK_SIZE: big", &["build `nightly-web-large`: DISK_SIZE"]),
        ("LOG_FILE: logs/", "ONCE: x", &["line 4: ONCE cannot be set", "the id of the build"]),
        (
            "LOG_FILE: logs/",
            "ALIBABA_ACCESS_KEY_SECRET: hunter2",
            &["line 4: ALIBABA_ACCESS_KEY_SECRET is a secret", "environment of the jobs"],
        ),
        ("PLATFORM: alibaba", "PLATFORM: alibba", &["alibba"]),
        ("config: config.yml", "config: other.yml", &["other.yml"]),
    ] {
        sandbox.write("bad.yml", &FILE.replace(from, to));
        let run = sandbox.run(&["matrix", "-c", "bad.yml", "--jobs", "2"]);
        assert!([2, 3].contains(&run.code), "{}", run.stderr);
        for text in texts {
            assert!(run.stderr.contains(text), "`{text}` is missing in {}", run.stderr);
        }
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    }
    let run = sandbox.run(&["matrix", "-c", "m.yml", "--only", "nightly-web-smal"]);
    run.failed(2, &["has no build `nightly-web-smal`"]);
    let run = sandbox.run(&["matrix", "-c", "m.yml", "--jobs", "2", "--format", "github"]);
    run.failed(2, &["--jobs runs the builds"]);
    assert_eq!(requests(&bench), 0);
}
