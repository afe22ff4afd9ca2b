//! Builds with a name (`--once`): killed at every line of their journals and started again with the same command, they end
//! as one image; once done, they are reported without a request.

use std::process::{Command, Stdio};

use crate::{
    bundles::Bench,
    harness::Run,
    upload_register::{cloud_has, requests},
};

const BUILD: [&str; 8] =
    ["--once", "nightly-1", "--disk", "web.raw", "-p", "alibaba", "-c", "config.yml"];
/// One in this many lines is tried, all of them with BUILD_IMAGE_SOAK_KILLS=1.
const STEP: usize = 5;

/// Runs a command that a crash point kills; whether it was killed.
fn killed(mut command: Command, point: &str) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).env("BUILD_IMAGE_FAILPOINT", point);
    command.status().unwrap().code().is_none()
}

/// The same command again succeeds with one image, and once more it reports that image without a request.
#[track_caller]
fn ends_as_one_image(bench: &Bench, place: &str) {
    let sandbox = &bench.sandbox;
    let run = sandbox.run(&BUILD);
    assert_eq!(run.code, 0, "{place}: {}", run.stderr);
    cloud_has(sandbox, 0, 1, place);
    let (image, before) = (run.member("image_id").clone(), requests(bench));
    let again = sandbox.run(&BUILD);
    assert_eq!(again.code, 0, "{place}: {}", again.stderr);
    assert_eq!((again.member("image_id"), requests(bench)), (&image, before), "{place}");
    assert_eq!(again.member("repeated"), true, "{place}");
    assert_eq!(again.stdout, run.stdout, "{place}");
    // One line says it; sizes and durations are those of the earlier build.
    let done: Vec<&str> = again.stderr.lines().filter(|line| line.contains("done  ")).collect();
    assert_eq!(done.len(), 1, "{place}: {}", again.stderr);
    assert!(done[0].contains("done  before, by run "), "{place}: {}", again.stderr);
    sandbox.run(&["gc", "--yes"]).succeeded();
    cloud_has(sandbox, 0, 1, place);
    assert!(!sandbox.path().join("artifacts/runs").exists(), "{place}");
}

#[test]
fn a_killed_build_with_a_name_ends_as_one_image_when_its_command_is_repeated() {
    let step = if std::env::var_os("BUILD_IMAGE_SOAK_KILLS").is_some() { 1 } else { STEP };
    let named = ["name_taken", "name_done", "\"what\":\"run_done\""];
    let named = named.map(|line| ["before", "torn", "after"].map(|when| format!("{when}:{line}")));
    let mut points = 0;
    for place in named.as_flattened() {
        let bench = Bench::new();
        assert!(killed(bench.sandbox.command(&BUILD), place), "{place}");
        ends_as_one_image(&bench, place);
        points += 1;
    }
    for number in (2..).step_by(step) {
        let place = format!("{}:{number}", ["before", "torn", "after"][number % 3]);
        let bench = Bench::new();
        if !killed(bench.sandbox.command(&BUILD), &place) {
            break;
        }
        // A second kill, of the process that resumes.
        let _ = killed(bench.sandbox.command(&BUILD), "after:2");
        ends_as_one_image(&bench, &place);
        points += 1;
    }
    assert!(points > 12, "{points}");
    println!("{points} kills");
}

#[test]
fn an_interrupted_or_refused_build_with_a_name_begins_again() {
    for point in ["int:3", "term:register", "full:4"] {
        let bench = Bench::new();
        let mut command = bench.sandbox.command(&BUILD);
        let run = Run::of(&command.env("BUILD_IMAGE_FAILPOINT", point).output().unwrap(), None);
        assert!([5, 130].contains(&run.code), "{point}: {}", run.stderr);
        ends_as_one_image(&bench, point);
    }
}

#[test]
fn a_name_stands_for_one_build() {
    let bench = Bench::new();
    let sandbox = &bench.sandbox;
    sandbox.run(&BUILD).succeeded();
    let before = requests(&bench);
    for change in [
        &["--cloud-image-name", "other"][..],
        &["--alibaba-region", "cn-beijing"],
        &["--image-tags", "[{a: b}]"],
    ] {
        let run = sandbox.run(&[&BUILD[..], change].concat());
        run.failed(2, &["build `nightly-1` is done already, with other settings", "--once"]);
    }
    // Settings that change nothing of the image are free.
    sandbox.run(&[&BUILD[..], &["--log-level", "debug"]].concat()).succeeded();
    assert_eq!(requests(&bench), before);
    let words: Vec<&str> =
        BUILD.iter().map(|word| if *word == "nightly-1" { "nightly-2" } else { word }).collect();
    sandbox.run(&[&words[..], &["--cloud-image-name", "second"]].concat()).succeeded();
    cloud_has(sandbox, 0, 2, "two names");
    for bad in ["a b", "../x", ".x", ""] {
        let words: Vec<&str> =
            BUILD.iter().map(|word| if *word == "nightly-1" { bad } else { word }).collect();
        let run = sandbox.run(&words);
        assert_eq!(run.code, if bad.is_empty() { 0 } else { 2 }, "{bad}: {}", run.stderr);
    }
}

#[test]
fn a_name_is_refused_for_several_targets() {
    let bench = Bench::new();
    let words = ["--once", "n", "--disk", "web.raw", "-p", "alibaba,qcow2", "-c", "config.yml"];
    let run = bench.sandbox.run(&words);
    run.failed(2, &["ONCE names one build with one target", "build-image matrix"]);
    assert_eq!(requests(&bench), 0);
    assert!(!bench.sandbox.path().join("artifacts").exists());
}

#[test]
fn a_killed_build_with_a_name_can_be_resumed_by_hand_and_then_counts_as_done() {
    let bench = Bench::new();
    let sandbox = &bench.sandbox;
    assert!(killed(sandbox.command(&BUILD), "after:resource_created"));
    let run = sandbox.run(&["resume"]);
    run.succeeded();
    let before = requests(&bench);
    let again = sandbox.run(&BUILD);
    again.succeeded();
    assert_eq!((again.member("image_id"), requests(&bench)), (run.member("image_id"), before));
    cloud_has(sandbox, 0, 1, "resumed by hand");
}

/// Without its run the name would be built again, and nothing would list the first image.
#[test]
fn a_clean_up_leaves_a_run_with_a_name_whose_image_exists() {
    let bench = Bench::new();
    let sandbox = &bench.sandbox;
    assert!(killed(sandbox.command(&BUILD), "after:products_released"));
    let refused = sandbox.run(&["gc", "--yes"]);
    assert_eq!(refused.code, 8, "{}", refused.stderr);
    for text in ["build `nightly-1` does not have its result yet", "build-image resume 2"] {
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
    ends_as_one_image(&bench, "released");
}

#[test]
fn a_run_whose_name_was_in_the_environment_keeps_it_when_it_is_resumed() {
    let bench = Bench::new();
    let sandbox = &bench.sandbox;
    let mut command = sandbox.command(&BUILD[2..]);
    command.env("F5_ONCE", "nightly-1");
    assert!(killed(command, "after:multipart_upload"));
    let resumed = sandbox.run(&["resume"]);
    resumed.succeeded();
    let again = sandbox.run(&BUILD);
    again.succeeded();
    assert_eq!(again.member("repeated"), true, "{}", again.stderr);
    assert_eq!(again.member("image_id"), resumed.member("image_id"));
    cloud_has(sandbox, 0, 1, "resumed");
}
