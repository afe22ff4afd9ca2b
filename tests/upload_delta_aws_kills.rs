//! Kills and disturbs builds for AWS that send only what changed: each ends with one right image and its manifest, or leaves
//! the base as it was.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    aws_faults::{ALWAYS_FAILS, faults, operations, step},
    build_aws::{BLOCK, BUILD, build},
    harness::Aws,
    upload_delta_aws::Bench,
};

/// One line of a journal in this many is tried, or as BUILD_IMAGE_SOAK_AWS sets.
const STEP: usize = 13;
/// One fault in this many.
const STEP_FAULTS: usize = 17;

/// A second build that is killed at a line; how it ended afterwards.
fn try_line(server: &'static Aws, point: &str, line: usize) -> Option<&'static str> {
    let bench = Bench::new(server, &[]);
    for block in [0, 3, 20] {
        bench.change(block * BLOCK + 9, b"changed");
    }
    if !bench.killed(point) {
        return None;
    }
    let unfinished = bench.first_run();
    if line % 4 == 1 {
        // Removed as a user would: the base and its manifest stay.
        bench.run(&["gc", "--yes"]).succeeded();
        let images = bench.account.owned("images").len();
        bench.has(images, images);
        return Some("removed");
    }
    let run = match &unfinished {
        Some(run) => bench.run(&["resume", run]),
        None => {
            bench.run(&["gc", "--yes"]).succeeded();
            if bench.account.owned("images").len() == 2 {
                bench.has(2, 2);
                return Some("done");
            }
            build(&bench.sandbox, "second", &[])
        }
    };
    bench.is_right(&run, 0);
    bench.has(2, 2);
    // The blocks in flight are repeated: at most all three, and that of the manifest.
    assert!(bench.sent() <= 2 * (3 + 1), "{point}: {}", bench.sent());
    Some(if unfinished.is_some() { "resumed" } else { "built again" })
}

#[test]
fn a_build_killed_at_a_line_of_its_journal_makes_one_right_image_or_leaves_the_base_alone() {
    let Some(server) = Aws::shared() else { return };
    let reference = Bench::new(server, &[]);
    let words = [&BUILD[..], &["--cloud-image-name", "second"]].concat();
    let lines = reference.sandbox.journal_lines(&mut reference.sandbox.command(&words));
    let places = ["before", "torn", "after"].into_iter().flat_map(|when| {
        (1..=usize::try_from(lines).unwrap()).map(move |line| (format!("{when}:{line}"), line))
    });
    let places: Vec<(String, usize)> = places.step_by(step(STEP)).collect();
    let mut tally = BTreeMap::<&str, usize>::new();
    for (point, line) in &places {
        let end = try_line(server, point, *line).unwrap_or("not killed");
        *tally.entry(end).or_default() += 1;
    }
    println!("{lines} lines, {} places: {tally:?}", places.len());
    assert!(tally.get("resumed").copied().unwrap_or(0) * 3 >= places.len(), "{tally:?}");
}

#[test]
fn a_fault_of_any_call_of_a_delta_upload_ends_in_right_images_or_in_one_error() {
    let Some(server) = Aws::shared() else { return };
    let bench = Bench::new(server, &[]);
    bench.change(0, b"changed");
    build(&bench.sandbox, "second", &[]).succeeded();
    let called = operations(&bench.account);
    let points = called.iter().flat_map(|(service, operation)| {
        faults(service, operation).into_iter().map(move |fault| (operation, fault))
    });
    let points = points.filter(|(_, fault)| step(STEP) < STEP || fault.0 != ALWAYS_FAILS);
    let points: Vec<_> = points.collect();
    let mut violations = Vec::new();
    for (operation, (what, rules, succeeds)) in points.iter().step_by(step(STEP_FAULTS)) {
        let bench = Bench::new(server, &[("AWS_CREATE_IMAGE_RETRY_COUNT", "20")]);
        bench.change(0, b"changed");
        bench.account.rules(rules);
        let run = build(&bench.sandbox, "second", &[]);
        bench.account.rules(&json!([]));
        println!("{operation} {what}\t{}", run.code);
        let (disks, manifests) = bench.snapshots();
        let images = bench.account.owned("images").len();
        let expected = 1 + usize::from(run.code == 0);
        let is_listed = run.stderr.contains("left behind: ");
        let is_right = images == expected && disks.len() == images && manifests.len() <= images;
        if (*succeeds && run.code != 0) || !(is_right || is_listed) {
            violations.push(format!(
                "{operation} {what}: {images} images, {} and {} snapshots\n{}",
                disks.len(),
                manifests.len(),
                run.stderr
            ));
        }
        if run.code == 0 {
            bench.is_right(&run, 0);
        }
    }
    assert!(violations.is_empty(), "{} violations\n{}", violations.len(), violations.join("\n\n"));
}
