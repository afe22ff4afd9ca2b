//! Kills, interrupts and starves `providers install` and `remove` at every change of files: the provider directory then
//! has the old plugin or the new one, and the next command completes the work.

use std::{
    fs,
    process::{Child, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::json;

use crate::{
    full_disk,
    harness::{
        Answer, Published, Run, TRUST, can_follow, killed_at_effect, names, needs, script, until,
    },
};

/// One in this many points is tried, all of them with BUILD_IMAGE_SOAK_KILLS=1; odd, so that points before and after
/// effects alternate.
const STEP: usize = 5;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Install,
    Replace,
    Remove,
}

/// The state before the work, and its command line.
fn begun(work: Work) -> (Published, Vec<&'static str>) {
    let mut published = Published::new();
    let install = [&["install", "mirror"], &TRUST[..]].concat();
    if work == Work::Install {
        return (published, install);
    }
    published.run(&install).succeeded();
    if work == Work::Remove {
        return (published, vec!["remove", "acme"]);
    }
    published.add("acme", "2.0.0");
    published.index["serial"] = json!(2);
    published.sign();
    (published, vec!["update"])
}

/// Checks what a killed process left, repeats its work, and checks that nothing else remains.
#[track_caller]
fn completed(work: Work, published: &Published, args: &[&str], place: &str) {
    let plugin = published.directory().join("build-image-provider-acme");
    let content = fs::read_to_string(&plugin).ok();
    let (old, new) = (script("acme", "1.0.0"), script("acme", "2.0.0"));
    let whole = match &content {
        None => work != Work::Replace,
        Some(text) => *text == old || work == Work::Replace && *text == new,
    };
    assert!(whole, "{work:?}, {place}: {content:?}");
    if content.is_some() || work == Work::Install {
        published.run(&["verify"]).succeeded();
    }
    let run = published.run(args);
    if work == Work::Remove {
        assert!(
            run.code == 0 || run.stderr.contains("was not installed"),
            "{place}: {}",
            run.stderr
        );
        assert_eq!(names(&published.directory()), ["packages.json"], "{place}");
        return;
    }
    run.succeeded();
    assert_eq!(
        names(&published.directory()),
        ["build-image-provider-acme", "packages.json"],
        "{place}"
    );
    assert_eq!(
        names(published.directory().parent().unwrap().parent().unwrap()),
        ["providers", "publishers.json"]
    );
    let version = if work == Work::Replace { "2.0.0" } else { "1.0.0" };
    assert_eq!(published.version("acme"), version, "{place}");
    published.run(&["verify"]).succeeded();
}

fn points(work: Work) -> u64 {
    let (published, args) = begun(work);
    let log = published.sandbox.path().join("effects");
    let data = published.sandbox.path().join(".local");
    fs::create_dir_all(&data).unwrap();
    let (killed, effects) = killed_at_effect(&published.command(&args), &data, ("count", 0), &log);
    assert!(!killed);
    assert!(effects.len() > 5, "{work:?}: {effects:?}");
    effects.len() as u64
}

#[test]
fn an_installation_killed_at_any_change_of_files_is_whole_and_completed_by_the_next() {
    if !needs(&["minisign"]) || !can_follow() {
        return;
    }
    let mut all = Vec::new();
    for work in [Work::Install, Work::Replace, Work::Remove] {
        for number in 1..=points(work) {
            all.extend(["before", "after"].map(|when| (work, when, number)));
        }
    }
    let step = if std::env::var_os("BUILD_IMAGE_SOAK_KILLS").is_some() { 1 } else { STEP };
    let (next, killed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(&(work, when, number)) =
                    all.get(next.fetch_add(step, Ordering::Relaxed))
                {
                    let (published, args) = begun(work);
                    let log = published.sandbox.path().join("effects");
                    let data = published.sandbox.path().join(".local");
                    fs::create_dir_all(&data).unwrap();
                    let command = published.command(&args);
                    if killed_at_effect(&command, &data, (when, number), &log).0 {
                        killed.fetch_add(1, Ordering::Relaxed);
                    }
                    completed(work, &published, &args, &format!("{when} {number}"));
                }
            });
        }
    });
    let (killed, count) = (killed.into_inner(), all.len());
    println!("killed at {killed} of {count} points");
    assert!(killed >= count / step / 2, "only {killed} points of {count}");
}

#[test]
fn several_installations_at_once_are_one() {
    if !needs(&["minisign"]) {
        return;
    }
    let mut published = Published::new();
    published.add("zeta", "1.0.0");
    published.sign();
    let install = |name| [&["install", "mirror", name], &TRUST[..]].concat();
    let start = |name| {
        let mut command = published.command(&install(name));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let started: Vec<Child> =
        ["acme", "zeta", "acme", "zeta", "acme", "zeta"].map(start).into_iter().collect();
    let mut outcomes: Vec<String> = started
        .into_iter()
        .map(|child| {
            let run = Run::of(&child.wait_with_output().unwrap(), None);
            run.succeeded().stdout.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
        })
        .collect();
    outcomes.sort();
    let expected = ["installed acme", "installed zeta", "unchanged acme", "unchanged acme"];
    assert_eq!(outcomes, [&expected[..], &["unchanged zeta"; 2]].concat());
    published.run(&["verify"]).succeeded();
    let left = ["build-image-provider-acme", "build-image-provider-zeta", "packages.json"];
    assert_eq!(names(&published.directory()), left);
}

/// A package of this many bytes.
fn padded(published: &mut Published, bytes: usize) {
    let text = format!("{}# {}\n", script("acme", "1.0.0"), "x".repeat(bytes));
    fs::write(published.mirror().join("acme-1.0.0"), &text).unwrap();
    let target = &mut published.index["packages"][0]["targets"][0];
    target["sha256"] = json!(crate::harness::hex(text.as_bytes()));
    target["size"] = json!(text.len());
    published.sign();
}

#[test]
fn a_broken_download_is_resumed_or_leaves_nothing() {
    if !needs(&["minisign"]) {
        return;
    }
    for (breaks, cut, code) in [(1, 1 << 20, 0), (usize::MAX, 0, 7)] {
        let mut published = Published::new();
        padded(&mut published, 3 << 20);
        let count = AtomicUsize::new(0);
        let web = published.serve(move |request, path| {
            let is_package = path.ends_with("acme-1.0.0");
            if !is_package || count.fetch_add(1, Ordering::Relaxed) >= breaks {
                return None;
            }
            let answer = Answer::file(request, &fs::read(path).unwrap());
            Some(Answer { cut: Some(cut), ..answer })
        });
        let url = web.url("/index.json");
        let args = [&["install", &url, "--download-retries", "2"], &TRUST[..]].concat();
        let run = published.run(&args);
        assert_eq!(run.code, code, "{}", run.stderr);
        if code == 0 {
            assert!(web.requests().iter().any(|request| request.from() > 0), "it was not resumed");
            published.run(&["verify"]).succeeded();
            continue;
        }
        run.failed(7, &["the connection broke"]);
        assert!(published.installed().is_empty() && !published.ran());
        let args = [&["install", "mirror"], &TRUST[..]].concat();
        published.run(&args).succeeded();
    }
}

#[test]
fn an_interrupt_during_the_download_leaves_nothing() {
    if !needs(&["minisign"]) {
        return;
    }
    let mut published = Published::new();
    padded(&mut published, 3 << 20);
    let web = published.serve(|request, path| {
        let answer = Answer::file(request, &fs::read(path).ok()?);
        path.ends_with("acme-1.0.0").then_some(Answer { stall: Some(1 << 20), ..answer })
    });
    let url = web.url("/index.json");
    let mut command = published.command(&[&["install", &url], &TRUST[..]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the package is requested", || {
        web.requests().iter().any(|request| request.path.ends_with("acme-1.0.0"))
    });
    crate::harness::tool(published.sandbox.path(), &["kill", "-INT", &child.id().to_string()]);
    let run = Run::of(&child.wait_with_output().unwrap(), None);
    run.failed(130, &["interrupted"]);
    assert!(published.installed().is_empty() && !published.ran());
}

/// A provider directory that is full, and one that cannot be written.
#[test]
fn without_room_or_rights_nothing_is_half_written() {
    if !needs(&["minisign"]) || !full_disk::can_mount() {
        return;
    }
    let mut published = Published::new();
    padded(&mut published, 3 << 20);
    let args = ["providers", "install", "mirror", "--provider-dir", "small"];
    let args = [&args[..], &TRUST[..]].concat();
    // Room for the download, but not for it and the copy beside its target; and for neither.
    for size in ["1m", "4m"] {
        let (run, left) = full_disk::run(&published.sandbox, size, &args);
        run.failed(5, &["No space left on device"]);
        assert!(left.is_empty(), "{size}: {left:?}");
    }
    let (run, left) = full_disk::run(&published.sandbox, "64m,ro", &args);
    run.failed(5, &["cannot write to the provider directory", "Read-only file system"]);
    assert!(left.is_empty(), "{left:?}");
    let (run, left) = full_disk::run(&published.sandbox, "64m", &args);
    run.succeeded();
    assert_eq!(left, ["./build-image-provider-acme", "./packages.json"]);
}
