//! Kills, interrupts, and refuses uploads that are not registered, and registrations of objects that are there already,
//! at every place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    bundles::Bench,
    harness::{Run, Sandbox, sandbox_walk},
    upload_register::{UPLOAD, Uploaded, cloud_has, count, machine_is_clean, requests},
};

/// Runs a command that a crash point kills; whether it was killed.
fn killed(mut command: Command, point: &str) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).env("BUILD_IMAGE_FAILPOINT", point);
    command.status().unwrap().code().is_none()
}

/// The text of the only journal, if there is one.
fn journal(sandbox: &Sandbox) -> Option<String> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut take = |path: &Path| {
        if path.ends_with("journal.jsonl") {
            found.push(path.to_owned());
        }
    };
    sandbox_walk(sandbox.path(), &mut take);
    assert!(found.len() <= 1, "{found:?}");
    found.first().map(|path| fs::read_to_string(path).unwrap())
}

/// The run that can be resumed.
fn resumable(sandbox: &Sandbox) -> Option<String> {
    let output = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = listed["runs"].as_array().unwrap().first()?;
    let can_resume = run["state"] != "done" && run["platform"] != "";
    can_resume.then(|| run["id"].as_str().unwrap().to_owned())
}

/// What ends a killed run.
const ENDS: [&str; 2] = ["resume", "gc"];

#[test]
fn a_killed_upload_is_finished_or_removed_and_its_object_stays_only_if_it_finished() {
    let (mut points, mut released) = (0, 0);
    for number in 1.. {
        for (when, end) in
            [("before", ENDS[number % 2]), ("torn", "gc"), ("after", ENDS[1 - number % 2])]
        {
            let bench = Bench::new();
            let (sandbox, place) = (&bench.sandbox, format!("{when}:{number} {end}"));
            if !killed(sandbox.command(&UPLOAD), &format!("{when}:{number}")) {
                assert!(points > 30 && released > 2, "{points} {released}");
                println!("{points} kills, {released} of them after the release");
                return;
            }
            points += 1;
            let is_released = journal(sandbox).is_some_and(|text| {
                text.lines().any(|line| {
                    serde_json::from_str::<Value>(line)
                        .is_ok_and(|line| line.to_string().contains("products_released"))
                })
            });
            released += u64::from(is_released);
            let run = resumable(sandbox).filter(|_| end == "resume");
            match &run {
                Some(id) => {
                    let run = sandbox.run(&["resume", id]);
                    run.succeeded();
                    assert!(run.member("uploaded")["id"].is_string(), "{place}");
                }
                None => drop(sandbox.run(&["gc", "--yes"]).succeeded()),
            }
            cloud_has(sandbox, u64::from(is_released || run.is_some()), 0, &place);
            machine_is_clean(sandbox, &place);
        }
    }
}

#[test]
fn a_killed_registration_leaves_its_object_and_at_most_one_image() {
    let (mut points, mut images) = (0, 0);
    for number in 1.. {
        for (when, end) in
            [("before", ENDS[number % 2]), ("torn", "gc"), ("after", ENDS[1 - number % 2])]
        {
            let uploaded = Uploaded::new();
            let (sandbox, place) = (&uploaded.bench.sandbox, format!("{when}:{number} {end}"));
            if !killed(uploaded.command(&[]), &format!("{when}:{number}")) {
                assert!(points > 20 && images > 5, "{points} {images}");
                println!("{points} kills, {images} images");
                return;
            }
            points += 1;
            match resumable(sandbox).filter(|_| end == "resume") {
                Some(id) => {
                    sandbox.run(&["resume", &id]).succeeded();
                    uploaded.is_untouched(1, &place);
                }
                None => drop(sandbox.run(&["gc", "--yes"]).succeeded()),
            }
            let made = count(sandbox, "images");
            assert!(made <= 1, "{place}");
            images += made;
            uploaded.is_untouched(made, &place);
            machine_is_clean(sandbox, &place);
        }
    }
}

#[test]
fn an_interrupted_or_refused_registration_leaves_its_object_and_no_image() {
    for point in ["int:2", "term:3", "int:5", "int:register", "full:4", "full:register"] {
        let uploaded = Uploaded::new();
        let mut command = uploaded.command(&[]);
        let run = Run::of(&command.env("BUILD_IMAGE_FAILPOINT", point).output().unwrap(), None);
        assert!([5, 6, 130].contains(&run.code), "{point}: {}", run.stderr);
        uploaded.bench.sandbox.run(&["gc", "--yes"]).succeeded();
        uploaded.is_untouched(0, point);
    }
    let mut refused = 0;
    for nth in 1.. {
        let uploaded = Uploaded::new();
        let action = json!({"status": 403, "code": "Forbidden.RAM"});
        let rules = json!([{"operation": "*", "nth": nth, "action": action}]).to_string();
        uploaded.bench.sandbox.emulator.as_ref().unwrap().set_faults(&rules).unwrap();
        let run = uploaded.run(&[]);
        uploaded.bench.sandbox.emulator.as_ref().unwrap().set_faults("[]").unwrap();
        let is_past = requests(&uploaded.bench) - uploaded.from < nth;
        let images = u64::from(run.code == 0);
        refused += usize::from(run.code != 0);
        uploaded.bench.sandbox.run(&["gc", "--yes"]).succeeded();
        uploaded.is_untouched(images, &format!("request {nth}: {}", run.stderr));
        if is_past {
            run.succeeded();
            assert!(refused > 5, "{refused}");
            break;
        }
    }
}

#[test]
fn an_interrupted_upload_leaves_nothing() {
    for point in ["int:3", "term:6", "int:upload", "int:14", "full:9"] {
        let bench = Bench::new();
        let mut command = bench.sandbox.command(&UPLOAD);
        let run = Run::of(&command.env("BUILD_IMAGE_FAILPOINT", point).output().unwrap(), None);
        assert!([5, 6, 130].contains(&run.code), "{point}: {}", run.stderr);
        bench.sandbox.run(&["gc", "--yes"]).succeeded();
        cloud_has(&bench.sandbox, 0, 0, point);
    }
}

#[test]
fn a_run_is_not_resumed_with_another_object_or_bucket() {
    let uploaded = Uploaded::new();
    let sandbox = &uploaded.bench.sandbox;
    assert!(killed(uploaded.command(&[]), "after:register"));
    let id = resumable(sandbox).unwrap();
    let run = sandbox.run(&["resume", &id, "--from-object", "oss://demo/other.qcow2"]);
    run.failed(2, &["cannot be resumed", "FROM_OBJECT was `oss://demo/"]);
    sandbox.run(&["resume", &id, "--upload-only"]).failed(2, &["UPLOAD_ONLY"]);
    let far = ["--alibaba-bucket", "far-away", "--alibaba-region", "cn-beijing"];
    let run = sandbox.run(&[&["resume", &id][..], &far].concat());
    run.failed(2, &["ALIBABA_BUCKET is `far-away`"]);
    sandbox.run(&["resume", &id]).succeeded();
    uploaded.is_untouched(1, "resumed");
}
