//! A provider that does whatever a provider must not do: the check that finds it, and what a build does.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    harness::{Run, Sandbox, hostile, root, sandbox_walk, until},
    provider_check::{report, unchecked, with_verdict},
};

/// Deeds and the checks that fail for them, no others.
const DEEDS: [(&str, &[&str]); 56] = [
    ("", &[]),
    ("many-threads", &[]),
    ("describe-panic", &["loads"]),
    ("describe-exit", &["loads"]),
    ("describe-abort", &["loads"]),
    ("describe-segfault", &["loads"]),
    ("describe-huge", &["loads"]),
    ("describe-large", &["size"]),
    ("describe-prints", &["output"]),
    ("describe-complains", &["output"]),
    ("describe-differs", &["pure"]),
    ("many-settings", &["size"]),
    ("bad-settings", &["loads"]),
    ("secret-default", &["settings"]),
    ("no-summary", &["description"]),
    ("wrong-name", &["name"]),
    ("bad-name", &["name"]),
    ("needs-newer", &["loads"]),
    ("lies-about-abi", &["abi"]),
    ("create-panic", &["create", "build", "panics"]),
    ("create-segfault", &["create"]),
    ("create-refuses", &["create", "build"]),
    ("create-thread", &["cycles"]),
    ("create-file", &["cycles"]),
    // The types of its settings were checked before its code ran.
    ("unwraps", &[]),
    ("refuses-unknown", &["later"]),
    ("check-panic", &["create", "build", "cancel-before", "panics"]),
    ("check-prints", &["output"]),
    ("changes-variable", &["process"]),
    ("changes-folder", &["process"]),
    ("secret-log", &["secrets"]),
    ("secret-error", &["build", "secrets"]),
    ("upload-panic", &["build", "panics"]),
    ("upload-exit", &["build"]),
    ("upload-abort", &["build"]),
    ("task-panic", &["build", "panics"]),
    ("block-on-panic", &["build", "panics"]),
    ("tells-late", &["ledger"]),
    ("progress-back", &["progress"]),
    ("progress-beyond", &["progress"]),
    ("late-event", &["quiet"]),
    ("one-file", &["concurrent"]),
    ("register-panic", &["build", "panics"]),
    ("drop-panic", &["panics"]),
    ("no-image", &["build"]),
    ("removes-nothing", &["discard"]),
    ("removes-once", &["discard"]),
    ("huge-answer", &["build"]),
    ("in-place", &["taken"]),
    ("undo-by-name", &["taken"]),
    ("forgets-the-inode", &["unrecorded"]),
    ("one-identity", &["identity"]),
    ("removes-silently", &["gone"]),
    ("begins-after-stop", &["cancel-clean"]),
    ("hides-after-stop", &["cancel-clean"]),
    ("answers-undeclared", &["undeclared"]),
];

/// Deeds that take long to find.
const SLOW: [(&str, &[&str]); 9] = [
    ("describe-hang", &["loads"]),
    ("create-hang", &["create"]),
    ("check-hang", &["create"]),
    ("upload-hang", &["build"]),
    ("register-hang", &["build"]),
    ("discard-hang", &["discard"]),
    ("drop-hang", &["cycles"]),
    ("ignores-cancel", &["cancel-before", "cancel-during", "cancel-clean"]),
    ("slow-to-stop", &["cancel-during"]),
];

fn found(deeds: &[(&str, &[&str])], more: &[&str]) {
    let sandbox = Sandbox::new();
    let file = hostile().to_str().unwrap();
    for (deed, expected) in deeds {
        let (code, report) = report(
            &sandbox,
            &[&[file], more].concat(),
            &[("HOSTILE", deed), ("LANG", &format!("hostile.{deed}"))],
        );
        assert_eq!(with_verdict(&report, "fail"), *expected, "{deed}: {report:#}");
        assert_eq!(code, if expected.is_empty() { 0 } else { 3 }, "{deed}");
        let rows = report["checks"].as_array().unwrap();
        for row in rows.iter().filter(|row| row["verdict"] == "fail") {
            assert!(row["remedy"].as_str().is_some_and(|text| !text.is_empty()), "{deed}: {row}");
        }
    }
}

#[test]
fn every_deed_fails_its_check_and_no_other() {
    found(&DEEDS[..DEEDS.len() / 2], &[]);
}

#[test]
fn every_later_deed_fails_its_check_and_no_other() {
    found(&DEEDS[DEEDS.len() / 2..], &[]);
}

#[test]
fn deeds_that_take_long_fail_their_checks() {
    // One at a time would take as long as all limits together.
    std::thread::scope(|scope| {
        for deed in &SLOW {
            scope.spawn(move || found(std::slice::from_ref(deed), &["--time-limit", "9"]));
        }
    });
}

/// What is wrong in a cloud: the check that finds it with an inventory. Without one nothing can be seen.
const IN_A_CLOUD: [(&str, &[&str]); 4] = [
    ("", &[]),
    ("asks-for-a-look", &[]),
    ("undo-by-name", &["taken"]),
    ("forgets-the-inode", &["unrecorded"]),
];

#[test]
fn an_inventory_shows_what_undo_leaves_and_takes_in_a_cloud() {
    for (deed, expected) in IN_A_CLOUD {
        let sandbox = Sandbox::new();
        let cloud = sandbox.path().join("cloud");
        let empty = || {
            let _ = fs::remove_dir_all(&cloud);
            fs::create_dir(&cloud).unwrap();
        };
        let display = cloud.display();
        let config = sandbox.write("c.yml", &format!("HOSTILE_CLOUD: {display}\n"));
        empty();
        let args = [hostile().to_str().unwrap(), "--config", config.to_str().unwrap()];
        let (_, blind) = report(&sandbox, &args, &[("HOSTILE", deed)]);
        assert_eq!(with_verdict(&blind, "fail"), [""; 0], "{deed}: {blind:#}");
        // A name that `check` reports as taken shows an image without an inventory.
        let unseen: &[&str] = match deed {
            "asks-for-a-look" => &["stub", "unrecorded", "cancel-clean"],
            _ => &["stub", "taken", "unrecorded", "cancel-clean"],
        };
        assert_eq!(unchecked(&blind), unseen, "{deed}");
        // A command that lists nothing shows as little as none; one that fails is a mistake.
        for (command, verdict, rows) in [("true", "skip", unseen), ("false", "fail", &["build"])] {
            empty();
            let args = [&args[..], &["--inventory", command]].concat();
            let (_, report) = report(&sandbox, &args, &[("HOSTILE", deed)]);
            let found =
                if verdict == "skip" { unchecked(&report) } else { with_verdict(&report, verdict) };
            assert_eq!(found, rows, "{deed} {command}: {report:#}");
        }
        empty();
        let listing = format!("ls '{display}'");
        let args = [&args[..], &["--inventory", &listing]].concat();
        // The second time beside what the first one has left.
        for time in 1..=2 {
            let (_, seen) = report(&sandbox, &args, &[("HOSTILE", deed)]);
            assert_eq!(with_verdict(&seen, "fail"), *expected, "{deed}, time {time}: {seen:#}");
            assert_eq!(unchecked(&seen), ["stub"], "{deed}, time {time}");
        }
    }
}

/// An inventory command that fails after some calls does not count as an empty list: what undo leaves would pass, and what
/// it keeps would be missed.
#[test]
fn an_inventory_that_fails_later_fails_the_rows_that_compare() {
    for (deed, call) in
        [("", 3), ("", 5), ("", 8), ("forgets-the-inode", 3), ("forgets-the-inode", 8)]
    {
        let sandbox = Sandbox::new();
        let cloud = sandbox.path().join("cloud");
        fs::create_dir(&cloud).unwrap();
        let (cloud, count) = (cloud.display(), sandbox.path().join("count"));
        let config = sandbox.write("c.yml", &format!("HOSTILE_CLOUD: {cloud}\n"));
        let count = count.display();
        let listing = format!(
            "n=$(cat '{count}' || echo 0); echo $((n + 1)) >'{count}'; [ $n -lt {call} ] || {{ echo gone >&2; exit 7; }}; ls '{cloud}'"
        );
        let args = [hostile().to_str().unwrap(), "--config", config.to_str().unwrap()];
        let more = ["--only", "taken,unrecorded", "--inventory", &listing];
        let (code, report) = report(&sandbox, &[&args[..], &more].concat(), &[("HOSTILE", deed)]);
        let failed = with_verdict(&report, "fail");
        assert_eq!(
            (code, failed),
            (3, vec!["taken".to_owned(), "unrecorded".to_owned()]),
            "{deed} {call}: {report:#}"
        );
        for row in report["checks"].as_array().unwrap() {
            let detail = row["detail"].as_str().unwrap();
            assert!(detail.ends_with("(exit status: 7): gone"), "{deed} {call}: {detail}");
        }
    }
}

/// Libraries made without the SDK: the macro that makes them, and what `loads` says.
const FORGED: [(&str, &str); 4] = [
    ("OTHER_GENERATION", "another generation of the ABI library"),
    ("GARBAGE", "the process was ended by SIGSEGV while `load` ran"),
    ("A_FUNCTION", "another generation of the ABI library"),
    ("A_STRING_ONLY", "exports no build-image provider"),
];

/// What stands at the beginning of every header of the ABI library.
const MAGIC: &str = "abi stable library for Rust     ";

fn forged(sandbox: &Sandbox, what: &str) -> PathBuf {
    let file = sandbox.path().join(build_image_plugin_api::plugin_file_name("forged"));
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", &format!("-D{what}"), &format!("-DMAGIC=\"{MAGIC}\"")])
        .arg(root().join("tests/hostile/no_sdk.c"))
        .arg("-o")
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

#[test]
fn libraries_that_only_look_like_plugins_do_not_load() {
    for (what, text) in FORGED {
        let sandbox = Sandbox::new();
        let file = forged(&sandbox, what);
        let (code, report) = report(&sandbox, &[file.to_str().unwrap()], &[]);
        assert_eq!(code, 3, "{what}");
        let loads = &report["checks"][0];
        assert!(loads["detail"].as_str().unwrap().contains(text), "{what}: {loads:#}");
    }
}

/// A build with the hostile provider, to be started.
fn command(sandbox: &Sandbox, deed: &str, more: &[&str]) -> Command {
    let disk = sandbox.disk("disk.raw", 4, 1);
    let result = sandbox.path().join("result.json");
    let file = hostile().to_str().unwrap();
    let args = ["--disk", disk.to_str().unwrap(), "-p", "hostile", "--provider-file", file];
    let mut command = sandbox.command(&[&args[..], more].concat());
    command.env("HOSTILE", deed).env("LANG", format!("hostile.{deed}"));
    command.env("F5_HOSTILE_KEY", SECRET).env("F5_OUTPUT_JSON_FILE", &result);
    command
}

fn build(sandbox: &Sandbox, deed: &str, more: &[&str]) -> Run {
    let output = command(sandbox, deed, more).output().unwrap();
    let result = sandbox.path().join("result.json");
    let document = fs::read(&result).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let run = Run::of(&output, document);
    Run { code: output.status.signal().map_or(run.code, |signal| 128 + signal), ..run }
}

/// Names of files in IMAGE_DIR.
fn images(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.path().join("images")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Starts a build that hangs, and sends it this many signals.
fn interrupted(sandbox: &Sandbox, deed: &str, more: &[&str], signals: &[&str]) -> Run {
    let mut command = command(sandbox, deed, more);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("it hangs", || sandbox.path().join("hanging").exists());
    let id = child.id().to_string();
    // Signals of one kind that follow each other closely may count as one; those of two kinds do not.
    for signal in signals {
        assert!(Command::new("kill").args([*signal, &id]).status().unwrap().success());
    }
    Run::of(&child.wait_with_output().unwrap(), None)
}

const SECRET: &str = "a-hostile-secret";

/// Deeds that a build survives in its own process: exit code and what it says.
const SURVIVED: [(&str, i32, &str); 19] = [
    ("", 0, ""),
    ("many-threads", 0, ""),
    ("many-settings", 0, ""),
    ("late-event", 0, ""),
    ("drop-panic", 0, ""),
    ("create-thread", 0, ""),
    ("describe-panic", 3, "panic in describe: on purpose, in describe"),
    ("describe-huge", 3, "its description has 10485"),
    ("wrong-name", 3, "it calls itself `innocent`"),
    ("needs-newer", 3, "it needs plugin ABI 1.9, this build-image has 1.1"),
    ("create-panic", 1, "panic in create: on purpose, in create"),
    ("check-panic", 1, "panic in check: on purpose, in check"),
    ("upload-panic", 1, "panic in upload: on purpose, in upload"),
    ("task-panic", 1, "the task ended"),
    ("register-panic", 1, "panic in register: on purpose, in register"),
    ("secret-error", 6, "the cloud refuses the key <protected>"),
    ("secret-checkpoint", 1, "checkpoint `session` holds the value of a secret setting"),
    ("secret-fact", 1, "put a secret into the answer of step upload"),
    ("secret-resource", 1, "a resource holds the value of a secret setting"),
];

#[test]
fn a_build_survives_panics_lies_and_threads() {
    for (deed, code, text) in SURVIVED {
        let sandbox = Sandbox::new();
        ends_well(&sandbox, deed, &build(&sandbox, deed, &[]), code, text);
    }
}

/// With the right exit code and words, without the secret. A success leaves the image and its digests, a
/// failure nothing.
#[track_caller]
fn ends_well(sandbox: &Sandbox, deed: &str, run: &Run, code: i32, text: &str) {
    if code == 0 {
        run.succeeded();
    } else {
        run.failed(code, &[text]);
    }
    assert!(!run.stderr.contains(SECRET), "{deed}: {}", run.stderr);
    sandbox_walk(sandbox.path(), &mut |path| {
        let small = path.is_file() && path.metadata().unwrap().len() < 1 << 20;
        let content = if small { fs::read(path).unwrap() } else { Vec::new() };
        let found = content.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "{deed}: the secret is in {}", path.display());
    });
    assert_eq!(!images(sandbox).is_empty(), code == 0, "{deed}");
    assert!(code == 0 || !sandbox.path().join("artifacts/runs").exists(), "{deed}");
}

/// Deeds that end the host with the plugin, as documented: native code in one process. What the build
/// created is in its journal all the same.
const FATAL: [(&str, i32, &str); 5] = [
    ("register-vanish", 0, ""),
    ("register-abort", 134, ""),
    ("register-segfault", 139, ""),
    ("register-exit", 1, "error: provider `hostile` ended this process in the middle of the build"),
    ("register-hang", 130, "interrupted twice, leaving at once"),
];

#[test]
fn a_build_dies_with_a_plugin_that_dies_but_its_journal_stays() {
    for (deed, code, text) in FATAL {
        let sandbox = Sandbox::new();
        let run = match deed {
            "register-hang" => interrupted(&sandbox, deed, &[], &["-INT", "-TERM"]),
            _ => build(&sandbox, deed, &[]),
        };
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{deed}: {}", run.stderr);
        assert!(run.stderr.contains(text), "{deed}: {}", run.stderr);
        assert!(run.result.is_none(), "{deed}: nobody is told of a success");
        assert_eq!(images(&sandbox).len(), 1, "{deed}: what the plugin wrote is still there");
        let gc = sandbox.command(&["gc", "--yes"]).output().unwrap();
        let listing = String::from_utf8_lossy(&gc.stdout).into_owned();
        assert!(gc.status.success() && listing.contains("hostile"), "{deed}: {listing}");
        assert_eq!(images(&sandbox).len(), 0, "{deed}: gc knew of it and removed it");
    }
}

/// The same and more in a process of the plugin's own: one clear error, and nothing is left.
const APART: [(&str, i32, &str); 24] = [
    ("register-vanish", 1, "step register: its process ended with exit status 0"),
    ("", 0, ""),
    ("many-threads", 0, ""),
    ("create-thread", 0, ""),
    ("late-event", 0, ""),
    ("upload-prints", 0, ""),
    ("check-complains", 0, ""),
    ("drop-panic", 0, ""),
    ("drop-segfault", 0, ""),
    ("describe-exit", 3, "its process ended with exit status 0 before it answered"),
    ("describe-segfault", 3, "its process was killed by SIGSEGV"),
    ("describe-hang", 3, "it did not answer `describe` in time and was killed"),
    ("create-abort", 1, "its process was killed by SIGABRT"),
    ("check-exit", 1, "step check: its process ended with exit status 0"),
    ("upload-panic", 1, "panic in upload: on purpose, in upload"),
    ("upload-segfault", 1, "step upload: its process was killed by SIGSEGV"),
    ("register-exit", 1, "step register: its process ended with exit status 0"),
    ("register-abort", 1, "step register: its process was killed by SIGABRT"),
    ("register-segfault", 1, "step register: its process was killed by SIGSEGV"),
    ("register-hang", 130, "the provider did not stop within 5 s and was killed"),
    ("secret-error", 6, "the cloud refuses the key <protected>"),
    ("secret-checkpoint", 1, "checkpoint `session` holds the value of a secret setting"),
    ("secret-fact", 1, "put a secret into the answer of step upload"),
    ("secret-resource", 1, "a resource holds the value of a secret setting"),
];

#[test]
fn an_isolated_plugin_that_dies_costs_the_build_and_nothing_else() {
    for (deed, code, text) in APART {
        let sandbox = Sandbox::new();
        let run = match deed {
            "register-hang" => interrupted(&sandbox, deed, &["--isolate"], &["-INT"]),
            _ => build(&sandbox, deed, &["--isolate"]),
        };
        ends_well(&sandbox, deed, &run, code, text);
    }
}
