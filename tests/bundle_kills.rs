//! Kills and interrupts builds of bundles and their publication, moves and replaces bundles in between, publishes one
//! twice at once, and lets two users without each other's rights play builder and publisher.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, lchown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    bundles::{BUNDLE, Bench},
    full_disk,
    harness::{Run, Sandbox, needs, plugin_directory, sandbox_walk, tool},
};

const BUILD: [&str; 9] = [
    "--disk",
    "web.raw",
    "-p",
    "alibaba",
    "--no-upload",
    "--bundle",
    BUNDLE,
    "--cloud-image-name",
    "web-1",
];
const PUBLISH: [&str; 6] = ["publish", BUNDLE, "-p", "alibaba", "-c", "config.yml"];
/// Two user ids that own nothing.
const BUILDER: u32 = 65_533;
const PUBLISHER: u32 = 65_534;

/// Runs a command that a crash point kills; whether it was killed.
fn killed(sandbox: &Sandbox, args: &[&str], point: &str) -> bool {
    let mut command = sandbox.command(args);
    command.stdout(Stdio::null()).stderr(Stdio::null()).env("BUILD_IMAGE_FAILPOINT", point);
    command.status().unwrap().code().is_none()
}

/// Names below the sandbox, without its inputs.
fn left(sandbox: &Sandbox) -> Vec<String> {
    let inputs = ["config.yml", "web.raw", "result.json", "other.raw"];
    let mut files = sandbox.files();
    files.retain(|name| !inputs.contains(&name.as_str()) && !name.starts_with("logs"));
    files
}

/// The only run that left something; its id, and whether it can be resumed.
fn run_of(sandbox: &Sandbox) -> Option<(String, bool)> {
    let output = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let runs = listed["runs"].as_array().unwrap();
    assert!(runs.len() <= 1, "{runs:#?}");
    let run = runs.first()?;
    Some((run["id"].as_str().unwrap().to_owned(), run["state"] != "done" && run["platform"] != ""))
}

#[test]
fn a_killed_build_leaves_the_older_bundle_or_a_whole_one() {
    let whole = {
        let bench = Bench::new();
        bench.sandbox.run(&BUILD).succeeded();
        fs::read(bench.path()).unwrap()
    };
    let (mut points, mut resumed) = (0, 0);
    for number in 1.. {
        for when in ["before", "torn", "after"] {
            let bench = Bench::new();
            let sandbox = &bench.sandbox;
            let has_older = number % 2 == 0;
            if has_older {
                sandbox.write(BUNDLE, "older");
            }
            if !killed(sandbox, &BUILD, &format!("{when}:{number}")) {
                assert!(number > 6 && resumed > 3, "{number} {resumed}");
                println!("{points} kills, {resumed} resumed");
                return;
            }
            points += 1;
            let found = fs::read(bench.path()).ok();
            let is_older = found.as_deref() == has_older.then_some(&b"older"[..]);
            let is_whole = found.as_ref() == Some(&whole);
            assert!(is_older || is_whole, "{when}:{number}");
            match run_of(sandbox).filter(|(_, can_resume)| *can_resume && when != "torn") {
                Some((id, _)) => {
                    sandbox.run(&["resume", &id]).succeeded();
                    resumed += 1;
                    assert!(fs::read(bench.path()).unwrap() == whole, "{when}:{number}");
                }
                None => drop(sandbox.run(&["gc", "--yes"]).succeeded()),
            }
            let rest = left(sandbox);
            let expected = if bench.path().exists() { vec![BUNDLE] } else { vec![] };
            assert_eq!(rest, expected, "{when}:{number}");
            if bench.path().exists() {
                let found = fs::read(bench.path()).unwrap();
                assert!(found == whole || has_older && found == b"older", "{when}:{number}");
            }
        }
    }
}

#[test]
fn an_interrupted_build_keeps_the_older_bundle() {
    for point in ["int:3", "term:5", "int:publish", "full:6"] {
        let bench = Bench::new();
        bench.sandbox.write(BUNDLE, "older");
        let mut command = bench.sandbox.command(&BUILD);
        let run = Run::of(&command.env("BUILD_IMAGE_FAILPOINT", point).output().unwrap(), None);
        assert!([5, 130].contains(&run.code), "{point}: {}", run.stderr);
        assert_eq!(fs::read_to_string(bench.path()).unwrap(), "older", "{point}");
        if run.code == 5 {
            bench.sandbox.run(&["gc", "--yes"]).succeeded();
        }
        assert_eq!(left(&bench.sandbox), [BUNDLE], "{point}");
    }
}

#[test]
fn a_full_file_system_holds_the_older_bundle_or_none_and_the_error_names_the_setting() {
    if !full_disk::can_mount() || !needs(&["qemu-img"]) {
        return;
    }
    let sandbox = Sandbox::new();
    // Much smaller than its content.
    fs::write(sandbox.path().join("plain"), vec![b'A'; 64 << 20]).unwrap();
    let convert = ["qemu-img", "convert", "-c", "-O", "qcow2", "plain", "web.qcow2"];
    tool(sandbox.path(), &convert);
    let args = ["--disk", "web.qcow2", "-p", "alibaba", "--no-upload", "--bundle", "small/x.tar"];
    let (run, left) = full_disk::run(&sandbox, "8m", &args);
    run.failed(5, &["cannot write `", "No space left on device", "set BUNDLE to a larger"]);
    assert_eq!(left, Vec::<String>::new());
    // What is known beforehand is found before anything is written.
    sandbox.disk("web.raw", 16, 12);
    let args = [&["--disk", "web.raw"], &args[2..]].concat();
    let (run, left) = full_disk::run(&sandbox, "8m", &args);
    run.failed(5, &["too little free space", "set BUNDLE to a larger"]);
    assert_eq!(left, Vec::<String>::new());
}

/// What becomes of the bundle before its publication is resumed or collected.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Kept,
    Moved,
    Replaced,
    Removed,
}

/// Ends a killed publication; returns whether it was resumed.
fn end(bench: &Bench, fate: Fate, point: &str) -> bool {
    let sandbox = &bench.sandbox;
    let released = sandbox.emulator.as_ref().unwrap().status()["images"] == 1;
    let run = run_of(sandbox).filter(|(_, can_resume)| *can_resume);
    let moved = sandbox.path().join("moved.tar");
    match (fate, run) {
        (Fate::Kept, Some((id, _))) => drop(sandbox.run(&["resume", &id]).succeeded()),
        (Fate::Moved, Some((id, _))) => {
            fs::rename(bench.path(), &moved).unwrap();
            let lost = sandbox.run(&["resume", &id]);
            assert!(lost.stderr.contains("cannot open"), "{point}: {}", lost.stderr);
            sandbox.run(&["resume", &id, "--from-bundle", "moved.tar"]).succeeded();
        }
        (Fate::Replaced, Some((id, _))) => {
            sandbox.disk("other.raw", 8, 2);
            let mut other = BUILD;
            other[1] = "other.raw";
            sandbox.run(&[&other[..], &["--artifacts-dir", "elsewhere"]].concat()).succeeded();
            let run = sandbox.run(&["resume", &id]);
            run.failed(2, &["cannot be resumed", "FROM_BUNDLE was `sha256:"]);
            sandbox.run(&["gc", "--yes"]).succeeded();
            return false;
        }
        (Fate::Removed, _) => {
            fs::remove_file(bench.path()).unwrap();
            sandbox.run(&["gc", "--yes"]).succeeded();
            return false;
        }
        (_, None) => {
            sandbox.run(&["gc", "--yes"]).succeeded();
            if !released {
                sandbox.run(&PUBLISH).succeeded();
            }
            return false;
        }
    }
    true
}

#[test]
fn a_killed_publication_is_resumed_with_its_bundle_wherever_it_is_and_with_no_other() {
    let fates = [Fate::Kept, Fate::Moved, Fate::Replaced, Fate::Removed];
    let (mut points, mut resumed) = (0, 0);
    // Two of three lines, each with another fate: all pairs of a place and a fate occur over the lines of a journal.
    for number in (1..).filter(|number| number % 3 != 0) {
        let fate = fates[number % 4];
        let point = format!("after:{number}");
        let bench = Bench::new();
        bench.sandbox.run(&BUILD).succeeded();
        if !killed(&bench.sandbox, &PUBLISH, &point) {
            break;
        }
        points += 1;
        let is_resumed = end(&bench, fate, &point);
        resumed += usize::from(is_resumed);
        if is_resumed || fate == Fate::Kept || fate == Fate::Moved {
            bench.is_published();
        } else {
            let images = bench.sandbox.emulator.as_ref().unwrap().status()["images"].clone();
            bench.sandbox.cloud_has_only(images.as_u64().unwrap());
        }
        let rest = left(&bench.sandbox);
        assert!(rest.iter().all(|name| name == BUNDLE || name == "moved.tar"), "{point} {rest:?}");
    }
    assert!(points > 10 && resumed > 4, "{points} {resumed}");
    println!("{points} kills, {resumed} resumed");
}

#[test]
fn an_interrupted_publication_leaves_the_bundle_and_nothing_else() {
    for point in ["int:2", "term:4", "int:upload", "int:register"] {
        let bench = Bench::new();
        bench.sandbox.run(&BUILD).succeeded();
        let before = fs::read(bench.path()).unwrap();
        let mut command = bench.sandbox.command(&PUBLISH);
        let run = Run::of(&command.env("BUILD_IMAGE_FAILPOINT", point).output().unwrap(), None);
        assert_eq!(run.code, 130, "{point}: {}", run.stderr);
        bench.sandbox.cloud_has_only(0);
        assert_eq!(left(&bench.sandbox), [BUNDLE], "{point}");
        assert!(fs::read(bench.path()).unwrap() == before);
    }
}

#[test]
fn a_bundle_that_changes_while_it_is_sent_becomes_no_image() {
    let bench = Bench::new();
    bench.sandbox.disk("web.raw", 32, 24);
    bench.sandbox.run(&BUILD).succeeded();
    let emulator = bench.sandbox.emulator.as_ref().unwrap();
    let hold = r#"[{"operation":"UploadPart","nth":2,"action":{"stall_ms":2000}}]"#;
    emulator.set_faults(hold).unwrap();
    let mut command =
        bench.sandbox.command(&[&PUBLISH[..], &["--alibaba-thread-count", "1"]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(emulator.wait_for_fault(Duration::from_secs(60)), "no second part was sent");
    // The whole image was verified before the first part; this byte is read after it changed.
    let file = fs::File::options().write(true).open(bench.path()).unwrap();
    let before = file.metadata().unwrap();
    file.write_all_at(b"x", before.len() - (2 << 20)).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    let run = Run::of(&child.wait_with_output().unwrap(), None);
    run.failed(5, &["web.bundle.tar` changed while it was read", "hint: publish a copy"]);
    bench.sandbox.cloud_has_only(0);
    assert_eq!(left(&bench.sandbox), [BUNDLE]);
    let run = bench.sandbox.run(&PUBLISH);
    run.failed(4, &["`image.qcow2` in", "its SHA-256 is another"]);
}

#[test]
fn a_bundle_that_is_published_twice_at_once_becomes_one_image() {
    let bench = Bench::new();
    bench.sandbox.run(&BUILD).succeeded();
    let start = || {
        let mut command = bench.sandbox.command(&PUBLISH);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let runs: Vec<Run> =
        [start(), start()].map(|child| Run::of(&child.wait_with_output().unwrap(), None)).into();
    let (done, refused): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(|run| run.code == 0);
    assert_eq!((done.len(), refused.len()), (1, 1), "{}", refused[0].stderr);
    assert!(refused[0].stderr.contains("web-1"), "{}", refused[0].stderr);
    bench.is_published();
}

/// Runs the program as another user, in a directory, with these variables and no other.
fn run_as(user: u32, base: &Path, directory: &str, more: &[(&str, &Path)], args: &[&str]) -> Run {
    let mut command = Command::new("setpriv");
    let id = user.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"]);
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(base.join("bin/build-image"));
    command.args(args).current_dir(base.join(directory)).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("BUILD_IMAGE_PROVIDER_PATH", base.join("bin"));
    command.env("HOME", base.join(directory)).envs(more.iter().map(|(name, path)| (name, path)));
    Run::of(&command.output().unwrap(), None)
}

/// Returns whether a user can read a file.
fn can_read(user: u32, path: &Path) -> bool {
    let id = user.to_string();
    let args = ["--reuid", &id, "--regid", &id, "--clear-groups", "cat"];
    Command::new("setpriv").args(args).arg(path).output().unwrap().status.success()
}

/// A directory in which each of two users has a directory that the other one cannot enter, and one for the bundle.
fn two_users(bench: &Bench) -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { base.path().join(name) };
    for name in ["bin", "builder", "publisher", "exchange"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::copy(env!("CARGO_BIN_EXE_build-image"), at("bin/build-image")).unwrap();
    let plugin = "libbuild_image_provider_alibaba.so";
    fs::copy(plugin_directory().join(plugin), at("bin").join(plugin)).unwrap();
    fs::copy(bench.sandbox.path().join("web.raw"), at("builder/web.raw")).unwrap();
    fs::copy(bench.sandbox.path().join("config.yml"), at("publisher/keys.yml")).unwrap();
    let key = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
    tool(base.path(), &[&["openssl"][..], &key, &["builder/key.pem"]].concat());
    let public = ["-pubout", "-out", "publisher/builder.pub"];
    tool(base.path(), &[&["openssl", "pkey", "-in", "builder/key.pem"][..], &public].concat());
    for (name, user) in [("builder", BUILDER), ("publisher", PUBLISHER), ("exchange", BUILDER)] {
        sandbox_walk(&at(name), &mut |path| lchown(path, Some(user), Some(user)).unwrap());
        lchown(at(name), Some(user), Some(user)).unwrap();
        let mode = if name == "exchange" { 0o755 } else { 0o700 };
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    for open in [at("bin"), base.path().to_owned()] {
        fs::set_permissions(open, Permissions::from_mode(0o755)).unwrap();
    }
    assert!(!can_read(BUILDER, &at("publisher/keys.yml")));
    assert!(!can_read(PUBLISHER, &at("builder/web.raw")));
    base
}

#[test]
fn a_user_without_credentials_builds_and_one_without_the_disk_publishes() {
    if !needs(&["setpriv", "openssl"]) {
        return;
    }
    let bench = Bench::new();
    if fs::metadata(bench.sandbox.path()).unwrap().uid() != 0 {
        eprintln!("SKIPPED: only root can become two other users");
        return;
    }
    let base = two_users(&bench);
    let mut build = BUILD;
    build[6] = "../exchange/web.bundle.tar";
    let more = ["--image-sig-private-key", "key.pem", "--bundle-expires", "30d"];
    let run = run_as(BUILDER, base.path(), "builder", &[], &[&build[..], &more].concat());
    run.succeeded();
    let authority = bench.sandbox.emulator.as_ref().unwrap().ca_file().unwrap().to_owned();
    let environment = [("SSL_CERT_FILE", authority.as_path())];
    let publish = |more: &[&str]| {
        let args = ["publish", build[6], "-p", "alibaba", "-c", "keys.yml"];
        run_as(PUBLISHER, base.path(), "publisher", &environment, &[&args[..], more].concat())
    };
    publish(&["--bundle-keys", "[builder.pub]"]).succeeded();
    bench.is_published();
    let bundle = base.path().join("exchange/web.bundle.tar");
    let found = fs::metadata(&bundle).unwrap();
    assert_eq!((found.uid(), found.permissions().mode() & 0o777), (BUILDER, 0o644));
    sandbox_walk(&base.path().join("publisher"), &mut |path| {
        assert_eq!(fs::symlink_metadata(path).unwrap().uid(), PUBLISHER, "{}", path.display());
    });
    // A bundle that the publisher may not read is refused with the reason.
    fs::set_permissions(&bundle, Permissions::from_mode(0o600)).unwrap();
    publish(&[]).failed(4, &["cannot open `../exchange/web.bundle.tar`", "ermission denied"]);
}
