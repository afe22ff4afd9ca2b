//! Checks journals of other users: in a shared directory, or in a tree that was received. The resources they name
//! are listed; nothing of them is removed or started until the user adopts the run.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, lchown},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::harness::{Run, Sandbox, TinyIso, needs, sandbox_walk, stand_in_qemu};

/// The owner of planted files, who is not trusted.
const OTHER: u32 = 4242;
/// The planted run.
const RUN: &str = "planted";

/// Whether tests may change the owner of files.
fn is_root() -> bool {
    rustix_uid() == 0
}

fn rustix_uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    directory.path().metadata().unwrap().uid()
}

/// Who owns the planted files.
#[derive(Clone, Copy, Debug)]
enum Owner {
    /// Another user of the host.
    Other,
    /// The victim: the tree was copied or unpacked.
    Victim,
}

/// The owners that these tests can use here.
fn owners() -> Vec<Owner> {
    if is_root() { vec![Owner::Other, Owner::Victim] } else { vec![Owner::Victim] }
}

/// Writes a journal with these resources.
fn plant(sandbox: &Sandbox, owner: Owner, args: &[&str], resources: &[Value]) -> PathBuf {
    let line = |resource: &Value| json!({"what": "resource", "event": {"type": "resource_created", "resource": resource}});
    let lines: Vec<Value> = resources.iter().map(line).collect();
    plant_lines(sandbox, owner, args, &lines)
}

/// Writes a journal as an attacker who knows the format would: valid, but without checksums.
fn plant_lines(sandbox: &Sandbox, owner: Owner, args: &[&str], more: &[Value]) -> PathBuf {
    let directory = sandbox.path().join("artifacts/runs").join(RUN);
    fs::create_dir_all(&directory).unwrap();
    let args: Vec<&str> = args.to_vec();
    let platform = args[args.iter().position(|word| *word == "-p").unwrap() + 1];
    let images = sandbox.path().join("images");
    let mut lines = vec![json!({
        "what": "run_started", "run_id": RUN, "tool": "1.0.0", "platform": platform, "words": args,
        "folder": sandbox.path(), "settings": {},
        "build": {"run_id": RUN, "file_stem": "disk", "virtual_size": 4 << 20, "image_dir": images},
    })];
    lines.extend_from_slice(more);
    let mut text = String::new();
    for mut line in lines {
        line["time"] = "2026-11-22T07:30:00Z".into();
        text.push_str(&format!("{line}\n"));
    }
    fs::write(directory.join("journal.jsonl"), text).unwrap();
    if let Owner::Other = owner {
        let give = |path: &Path| lchown(path, Some(OTHER), Some(OTHER)).unwrap();
        sandbox_walk(&sandbox.path().join("artifacts"), &mut |path| give(path));
        give(&sandbox.path().join("artifacts"));
    }
    directory
}

/// A script that leaves evidence when it runs.
fn evil(sandbox: &Sandbox, name: &str) -> PathBuf {
    let ran = sandbox.path().join("it-ran");
    let path = sandbox.write(name, &format!("#!/bin/sh\ntouch '{}'\n", ran.display()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    ran
}

fn command(sandbox: &Sandbox, args: &[&str]) -> Run {
    Run::of(&sandbox.command(args).output().unwrap(), None)
}

/// Checks that `gc` reports what it refuses, then that something is left.
#[track_caller]
fn gc_failed(run: &Run, code: i32, parts: &[&str]) {
    assert_eq!(run.code, code, "{}", run.stderr);
    for part in parts.iter().chain(&["not everything could be removed"]) {
        assert!(run.stderr.contains(part), "`{part}` is missing in\n{}", run.stderr);
    }
}

/// Checks that the run is listed with the reason, and only there.
#[track_caller]
fn is_listed(sandbox: &Sandbox, owner: Owner) {
    let run = command(sandbox, &["runs", "--json"]);
    let listing: Value = serde_json::from_str(&run.stdout).unwrap();
    let listing = &listing["runs"][0];
    assert_eq!((&listing["id"], &listing["state"]), (&RUN.into(), &"untrusted".into()));
    let reason = listing["untrusted"].as_str().unwrap();
    let expected = match owner {
        Owner::Other => "belongs to user id 4242",
        Owner::Victim => "it is not signed",
    };
    assert!(reason.contains(expected), "{owner:?}: {reason}");
    assert!(command(sandbox, &["runs"]).stdout.contains(expected));
}

#[test]
fn gc_removes_nothing_in_the_cloud_that_a_planted_journal_names() {
    for owner in owners() {
        let sandbox = Sandbox::with_cloud();
        sandbox.disk("disk.raw", 4, 1);
        let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
        let built = sandbox.run(&args);
        built.succeeded();
        let image = built.member("image_id");
        let resource = json!({
            "kind": "image", "name": "disk", "id": image, "region": "cn-hangzhou", "product": true,
        });
        plant(&sandbox, owner, &args, &[resource]);
        is_listed(&sandbox, owner);
        let run = command(&sandbox, &["gc", "--yes"]);
        gc_failed(&run, 2, &["is not trusted", "gc --adopt planted"]);
        sandbox.cloud_has_only(1);
    }
}

#[test]
fn gc_removes_no_file_that_a_planted_journal_names() {
    for owner in owners() {
        let sandbox = Sandbox::new();
        let precious = sandbox.write("elsewhere/precious", "precious");
        let resource = json!({"kind": "file", "name": precious, "id": precious});
        plant(&sandbox, owner, &["--disk", "disk.raw", "-p", "qcow2"], &[resource]);
        is_listed(&sandbox, owner);
        gc_failed(&command(&sandbox, &["gc", "--yes"]), 2, &["is not trusted"]);
        assert!(precious.exists());
    }
}

#[test]
fn resume_starts_no_program_that_a_planted_journal_names() {
    if !needs(&["xorriso"]) {
        return;
    }
    for owner in owners() {
        let sandbox = Sandbox::new();
        TinyIso::base().write(&sandbox.path().join("base.iso"));
        let ran = evil(&sandbox, "evil");
        let args = ["-i", "base.iso", "-m", "ltm", "-b", "1", "-p", "qcow2", "--qemu", "./evil"];
        plant(&sandbox, owner, &args, &[]);
        command(&sandbox, &["resume"]).failed(2, &["no run in", "is trusted", RUN]);
        command(&sandbox, &["resume", RUN]).failed(2, &["is not trusted"]);
        assert!(!ran.exists(), "{owner:?}");
    }
}

#[test]
fn no_plugin_of_a_received_tree_is_started() {
    for owner in owners() {
        let sandbox = Sandbox::new();
        let ran = evil(&sandbox, "build-image-provider-helper");
        let args = ["--disk", "disk.raw", "-p", "helper", "--provider-dir", "."];
        plant(&sandbox, owner, &args, &[json!({"kind": "object", "name": "a"})]);
        gc_failed(&command(&sandbox, &["gc", "--yes"]), 2, &["is not trusted"]);
        command(&sandbox, &["resume"]).failed(2, &["is trusted"]);
        command(&sandbox, &["resume", RUN]).failed(2, &["is not trusted"]);
        // Listing it starts nothing, and shows what it would start.
        let preview = command(&sandbox, &["gc", "--adopt", RUN]);
        preview.succeeded();
        let directory = format!("PROVIDER_DIR: `{}", sandbox.path().display());
        for text in [
            directory.as_str(),
            "-p helper --provider-dir .",
            "would remove object `a`",
            "nothing was removed",
        ] {
            assert!(preview.stdout.contains(text), "`{text}` is missing in\n{}", preview.stdout);
        }
        assert!(!ran.exists(), "{owner:?}");
    }
}

#[test]
fn an_adopted_run_removes_its_own_files_and_no_others() {
    let sandbox = Sandbox::new();
    let precious = sandbox.write("elsewhere/precious", "precious");
    let image = sandbox.write("images/disk.qcow2", "half an image");
    let resources = [
        json!({"kind": "file", "name": precious, "id": precious}),
        json!({"kind": "file", "name": image, "id": image}),
    ];
    let directory = plant(&sandbox, Owner::Victim, &["--disk", "d", "-p", "qcow2"], &resources);
    let preview = command(&sandbox, &["gc", "--adopt", RUN]);
    preview.succeeded();
    let (kept, removed) = (
        format!("would leave file `{}`", precious.display()),
        format!("would remove file `{}`", image.display()),
    );
    assert!(
        preview.stdout.contains(&kept) && preview.stdout.contains(&removed),
        "{}",
        preview.stdout
    );
    assert!(image.exists() && directory.exists());
    let done = command(&sandbox, &["gc", "--adopt", RUN, "--yes"]);
    gc_failed(&done, 8, &["left behind", "precious", "is not below the directories of its run"]);
    assert!(precious.exists() && !image.exists());
    // It belongs to this user now; what is left is still listed, and still not touched.
    let listing = command(&sandbox, &["runs", "--json"]);
    let listing: Value = serde_json::from_str(&listing.stdout).unwrap();
    assert_eq!(listing["runs"][0]["state"], "dead");
    gc_failed(&command(&sandbox, &["gc", "--yes"]), 8, &["left behind", "precious"]);
    assert!(precious.exists());
}

/// The journal of a build with these arguments: an attacker who knows its inputs can plant the same.
fn known(sandbox: &Sandbox, args: &[&str]) -> Value {
    let built = command(sandbox, &[args, &["--reuse"]].concat());
    built.succeeded();
    let runs = fs::read_dir(sandbox.path().join("artifacts/runs")).unwrap();
    let journals: Vec<PathBuf> =
        runs.map(|run| run.unwrap().path().join("journal.jsonl")).collect();
    let text = fs::read_to_string(&journals[0]).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut build =
        lines.filter_map(|mut line| line.get_mut("build").map(Value::take)).next_back().unwrap();
    build["run_id"] = RUN.into();
    for directory in ["artifacts", "images", "logs"] {
        fs::remove_dir_all(sandbox.path().join(directory)).unwrap();
    }
    build
}

/// Writes a journal of a run that knows its inputs, with these additional lines.
fn plant_known(sandbox: &Sandbox, args: &[&str], build: &Value, more: &[Value]) {
    let directory = plant_lines(sandbox, Owner::Victim, args, more);
    let path = directory.join("journal.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines[0]["build"] = build.clone();
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

/// A build from a disk into a directory.
const DISK: [&str; 6] = ["--disk", "disk.raw", "-p", "qcow2", "--image-dir", "images"];

#[test]
fn an_adopted_run_that_is_resumed_removes_no_file_of_others() {
    for fails in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.disk("disk.raw", 4, 1);
        let precious = sandbox.write("elsewhere/precious", "precious");
        let resource = json!({"kind": "file", "name": precious, "id": precious});
        let args = [&DISK[..], &["--package", "none"]].concat();
        let build = known(&sandbox, &args);
        if fails {
            // The path of a checksum is a directory: found when all files are written.
            fs::create_dir_all(sandbox.path().join("images/disk.qcow2.md5")).unwrap();
        }
        let line = json!({"what": "resource",
            "event": {"type": "resource_created", "resource": resource}});
        plant_known(&sandbox, &args, &build, &[line]);
        let run = command(&sandbox, &["resume", "--adopt", RUN]);
        // A run with a leftover may end with a different exit code, so only the image is checked.
        let built = sandbox.path().join("images/disk.qcow2").is_file();
        assert_eq!(built, !fails, "{}", run.stderr);
        let kept = format!("would leave file `{}`", precious.display());
        for part in [kept.as_str(), "left behind", "is not below the directories of its run"] {
            assert!(run.stderr.contains(part), "`{part}` is missing in\n{}", run.stderr);
        }
        assert!(precious.exists(), "{}", run.stderr);
    }
}

#[test]
fn an_adopted_run_writes_its_statement_only_where_its_settings_say() {
    for named in [false, true] {
        let sandbox = Sandbox::new();
        let target = sandbox.write("elsewhere/authorized_keys", "mine");
        let path = target.to_str().unwrap();
        let mut args = DISK.to_vec();
        if named {
            args.extend(["--provenance-file", path]);
        }
        let lines = [
            json!({"what": "step_done", "step": "attest", "facts": {"statement": path}}),
            json!({"what": "products_released"}),
        ];
        let directory = plant_lines(&sandbox, Owner::Victim, &args, &lines);
        fs::write(directory.join("statement.json"), "theirs").unwrap();
        let preview = command(&sandbox, &["gc", "--adopt", RUN]);
        preview.succeeded();
        let fate = if named { "would write" } else { "would leave" };
        assert!(preview.stdout.contains(&format!("{fate} `{path}`")), "{}", preview.stdout);
        let done = command(&sandbox, &["gc", "--adopt", RUN, "--yes"]);
        if named {
            done.succeeded();
        } else {
            let refusal = ["would write its provenance statement to"];
            gc_failed(&done, 2, &refusal);
            // A refused resume has adopted the run: the journal belongs to this user now.
            command(&sandbox, &["resume", "--adopt", RUN, "--no-such-flag"]).failed(2, &[]);
            gc_failed(&command(&sandbox, &["gc", "--yes"]), 2, &refusal);
        }
        let text = fs::read_to_string(&target).unwrap();
        assert_eq!(text, if named { "theirs" } else { "mine" });
        assert_eq!(directory.exists(), !named);
    }
}

#[test]
fn an_adopted_run_takes_no_directory_of_another_build() {
    if !needs(&["xorriso"]) {
        return;
    }
    let sandbox = Sandbox::new();
    TinyIso::base().write(&sandbox.path().join("base.iso"));
    stand_in_qemu(&sandbox);
    // A directory of artifacts that another build keeps, hence marked as one.
    let precious = sandbox.write("elsewhere/precious", "precious");
    let mark = format!("{{\"VERSION\":\"{}\"}}\n", env!("CARGO_PKG_VERSION"));
    sandbox.write("elsewhere/generator-info.json", &mark);
    let args = ["-i", "base.iso", "-m", "ltm", "-b", "1", "-p", "qcow2", "--qemu", "./qemu"];
    let build = known(&sandbox, &args);
    let elsewhere = precious.parent().unwrap();
    let line = json!({"what": "inputs_known", "build": build, "artifacts": elsewhere});
    plant_known(&sandbox, &args, &build, &[line]);
    let run = command(&sandbox, &["resume", "--adopt", RUN]);
    run.succeeded();
    assert!(precious.exists(), "{}", run.stderr);
}

#[test]
fn a_journal_that_others_may_change_is_not_adopted() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let precious = sandbox.write("images/disk.qcow2", "precious");
    let resource = json!({"kind": "file", "name": precious, "id": precious});
    plant(&sandbox, Owner::Other, &["--disk", "d", "-p", "qcow2"], &[resource]);
    let run = command(&sandbox, &["gc", "--adopt", RUN, "--yes"]);
    gc_failed(&run, 2, &["cannot be adopted", "belongs to user id 4242", "copy `"]);
    assert!(precious.exists());
}

#[test]
fn a_run_is_resumed_by_the_user_who_signed_it_and_by_no_other() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 1);
    let refuse = r#"[{"operation":"ImportImage","nth":2,"action":{"status":403,"code":"QuotaExceed.Image"}}]"#;
    let emulator = sandbox.emulator.as_ref().unwrap();
    emulator.set_faults(refuse).unwrap();
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--on-failure", "keep"];
    sandbox.run(&args).failed(6, &["QuotaExceed.Image"]);
    emulator.set_faults("[]").unwrap();
    let other = tempfile::tempdir().unwrap();
    let as_other = |args: &[&str]| {
        let mut command = sandbox.command(args);
        command.env("XDG_STATE_HOME", other.path());
        Run::of(&command.output().unwrap(), None)
    };
    as_other(&["resume"]).failed(2, &["no run in", "is trusted"]);
    gc_failed(&as_other(&["gc", "--yes"]), 2, &["not signed with the key of this user"]);
    assert_eq!(emulator.status()["objects"], 1);
    // Without any place for a key nothing can be checked, and a build still works.
    let mut homeless = sandbox.command(&["runs"]);
    homeless.env_remove("XDG_STATE_HOME").env_remove("HOME");
    let listing = Run::of(&homeless.output().unwrap(), None);
    assert!(
        listing.stdout.contains("not trusted: its signature cannot be checked: the key is missing")
    );
    // Another user may adopt it; then it belongs to that user.
    let id = {
        let listing = command(&sandbox, &["runs", "--json"]);
        let listing: Value = serde_json::from_str(&listing.stdout).unwrap();
        listing["runs"][0]["id"].as_str().unwrap().to_owned()
    };
    let run = as_other(&["resume", "--adopt", &id]);
    run.succeeded();
    assert!(run.stderr.contains("it was started in `"), "{}", run.stderr);
    sandbox.cloud_has_only(1);
}

#[test]
fn workers_share_a_key_that_a_setting_names() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 1);
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("shared.key");
    let refuse = r#"[{"operation":"ImportImage","nth":2,"action":{"status":403,"code":"QuotaExceed.Image"}}]"#;
    let emulator = sandbox.emulator.as_ref().unwrap();
    emulator.set_faults(refuse).unwrap();
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--on-failure", "keep"];
    let worker = |args: &[&str]| {
        let mut command = sandbox.command(args);
        command.env_remove("XDG_STATE_HOME").env_remove("HOME").env("F5_JOURNAL_KEY_FILE", &key);
        Run::of(&command.output().unwrap(), None)
    };
    worker(&args).failed(6, &["QuotaExceed.Image"]);
    emulator.set_faults("[]").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    worker(&["resume"]).failed(2, &["shared.key` is not safe: others may read it", "hint:"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    command(&sandbox, &["resume"]).failed(2, &["is trusted"]);
    worker(&["resume"]).succeeded();
    sandbox.cloud_has_only(1);
}
