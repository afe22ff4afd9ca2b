//! Kills the process of a build before and after everything it does to names and lengths of files: each mkdir,
//! create, rename, unlink, rmdir and truncate below the directory it works in. Each build is resumed, and ends as
//! one right image with nothing else left.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    harness::{can_follow, needs},
    kill_points::{Bench, Build, Place},
};

/// One in this many points is tried, all of them with BUILD_IMAGE_SOAK_KILLS=1; odd, so that points before and
/// after effects alternate.
const STEP: usize = 5;

/// A build that is not killed: its effects, and the files it leaves, including the user's own.
fn undisturbed(build: Build) -> (Vec<String>, BTreeSet<String>) {
    let bench = Bench::new(build);
    let (killed, effects) = bench.killed_at_effect("count", 0);
    let place = Place::Effect("never", 0);
    assert!(!killed && !bench.finish(&place));
    bench.is_done(&place);
    (effects, bench.sandbox.files().into_iter().collect())
}

/// The kind of an effect: its first word.
fn kind(effect: &str) -> String {
    effect.split(' ').next().unwrap().to_owned()
}

/// A point that is tried.
struct Point<'a> {
    build: Build,
    when: &'static str,
    number: u64,
    /// The files that an undisturbed build leaves.
    files: &'a BTreeSet<String>,
}

impl Point<'_> {
    /// Kills a build here and completes it, every other time by removing what is left of it and building again.
    /// Returns the kind of the last effect, and whether the run was resumed; `None` when the build ended earlier.
    fn try_it(&self) -> Option<(String, bool)> {
        let (bench, place) = (Bench::new(self.build), Place::Effect(self.when, self.number));
        let (killed, effects) = bench.killed_at_effect(self.when, self.number);
        if !killed {
            return None;
        }
        if (self.number % 4 < 2) == (self.when == "after") {
            bench.forget(&place);
        }
        let resumed = bench.finish(&place);
        bench.is_done(&place);
        let mut left = bench.sandbox.files();
        // Every run has its log, and an installation also has a snapshot beside it.
        let is_log = |name: &str| name.starts_with("logs/") && name.contains(".log");
        left.retain(|name| !self.files.contains(name) && name != "result.json" && !is_log(name));
        assert!(left.is_empty(), "{:?} {place:?}: {left:?}", self.build);
        Some((effects.last().map_or_else(|| "nothing".to_owned(), |last| kind(last)), resumed))
    }
}

#[test]
fn a_build_killed_at_any_change_of_files_becomes_one_right_image_and_leaves_nothing() {
    if !needs(&["xorriso", "sha256sum", "mkfifo", "dd"]) || !can_follow() {
        return;
    }
    let builds = [Build::Upload, Build::Package, Build::Appliance, Build::Install];
    let references = builds.map(|build| (build, undisturbed(build)));
    let mut points = Vec::new();
    for (build, (effects, files)) in &references {
        println!("{build:?}: {} effects", effects.len());
        for number in 1..=effects.len() as u64 {
            let point = |when| Point { build: *build, when, number, files };
            points.extend(["before", "after"].map(point));
        }
    }
    let step = if std::env::var_os("BUILD_IMAGE_SOAK_KILLS").is_some() { 1 } else { STEP };
    let (count, next) = (points.len(), AtomicUsize::new(0));
    let tally = Mutex::new(BTreeMap::<(Build, &str, String), (u64, u64)>::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(step, Ordering::Relaxed)) {
                    let Some((kind, resumed)) = point.try_it() else { continue };
                    let mut tally = tally.lock().unwrap();
                    let row = tally.entry((point.build, point.when, kind)).or_default();
                    row.0 += 1;
                    row.1 += u64::from(resumed);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    for ((build, when, kind), (killed, resumed)) in &tally {
        println!("{build:?}: {when}, last {kind}: {killed} killed, {resumed} resumed");
    }
    let killed: u64 = tally.values().map(|row| row.0).sum();
    println!("{killed} of {count} points at changes of files, 0 wrong images, 0 leftovers");
    assert!(killed >= 200 / step as u64, "only {killed} points");
}
