//! Runs single steps of providers (`build-image providers run-step`), as their authors do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    harness::{Run, Sandbox, needs, needs_python, root},
    provider_check::plugin,
};

/// A provider of each transport, and the settings it gets.
fn providers(sandbox: &Sandbox) -> Vec<(PathBuf, &'static [&'static str])> {
    let python = root().join("providers/example-python/build-image-provider-pydir");
    let args = ["providers", "new", "tin", "--language", "bash"];
    assert!(sandbox.command(&args).output().unwrap().status.success());
    let bash = sandbox.path().join("build-image-provider-tin/build-image-provider-tin");
    sandbox.write("tin.yml", "TIN_DIRECTORY: state/images\n");
    vec![
        (plugin("qcow2"), &[]),
        (plugin("qcow2"), &["--isolate"]),
        (python, &["--config", "secret.yml"]),
        (bash, &["-c", "tin.yml"]),
    ]
}

/// Value of the secret setting of the Python example.
const SECRET: &str = "a-key-that-is-secret";

/// Runs a step that keeps its state in `state`.
fn step(sandbox: &Sandbox, file: &str, words: &[&str]) -> Run {
    step_with(sandbox, file, words, None)
}

fn step_with(sandbox: &Sandbox, file: &str, words: &[&str], failpoint: Option<&str>) -> Run {
    let mut command = sandbox.command(&["providers", "run-step", file]);
    command.args(words).args(["--state", "state"]);
    command.envs(failpoint.map(|point| ("BUILD_IMAGE_FAILPOINT", point)));
    Run::of(&command.output().unwrap(), None)
}

fn answer(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{}\n{}", run.stdout, run.stderr);
    assert!(!run.stderr.contains(SECRET) && !run.stdout.contains(SECRET));
    serde_json::from_str(&run.stdout).unwrap()
}

/// The messages that were printed, `DIRECTION METHOD` of each.
fn methods(run: &Run) -> Vec<String> {
    let lines = run.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let named = lines.filter_map(|line| {
        let method = line["message"]["method"].as_str()?;
        Some(format!("{} {method}", line["direction"].as_str()?))
    });
    named.collect()
}

fn images(sandbox: &Sandbox) -> Vec<PathBuf> {
    let all = fs::read_dir(sandbox.path().join("state/images")).unwrap();
    all.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_steps_of_every_kind_of_provider_run_one_by_one() {
    if !needs_python() || !needs(&["jq", "qemu-img"]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("secret.yml", &format!("PYDIR_SEAL_KEY: {SECRET}\n"));
    for (file, words) in providers(&sandbox) {
        let file = file.to_str().unwrap();
        let run = |step_name: &str| step(&sandbox, file, &[&[step_name][..], words].concat());
        let described = answer(&run("describe"));
        assert_eq!(described["abi"]["built"].as_str().unwrap().split('.').next(), Some("1"));
        assert_eq!(answer(&run("check"))["findings"][0]["severity"], "ok", "{file}");
        assert_eq!(answer(&run("create_disk"))["virtual_size"], 16 << 20);
        let early = run("register");
        early.failed(2, &["register needs what upload has returned", "run the step upload"]);
        let uploaded = run("upload");
        let mut location = answer(&uploaded)["location"].as_str().unwrap().to_owned();
        let seen = methods(&uploaded);
        // A library in the same process has the host write the disk.
        for expected in [
            &["to_provider create"][..],
            &["to_provider upload"],
            &["from_provider event"],
            &["from_provider disk_read_at", "from_provider disk_write"],
        ] {
            let is_there = seen.iter().any(|method| expected.contains(&method.as_str()));
            assert!(is_there, "{file}: {expected:?}: {seen:?}");
        }
        // The new program keeps each upload in a directory.
        let is_directory = Path::new(&location).is_dir();
        if is_directory {
            location.push_str("/disk");
        }
        let sample = sandbox.path().join("state/sample.raw");
        let same = ["compare", "-f", "qcow2", "-F", "raw", &location, sample.to_str().unwrap()];
        let compared = Command::new("qemu-img").args(same).output().unwrap();
        assert!(compared.status.success(), "{file}: the image is the disk");
        let id = answer(&run("register"))["images"][0]["id"].clone();
        assert!(is_directory || id == *location, "{file}: {id}");
        let discarded = answer(&run("discard"));
        assert_eq!(discarded["remaining"], json!([]), "{file}");
        assert_eq!(discarded["removed"].as_array().unwrap().len(), 1, "{file}");
        run("register").failed(2, &["register needs what upload has returned"]);
        assert!(images(&sandbox).is_empty(), "{file}");
        fs::remove_dir_all(sandbox.path().join("state")).unwrap();
    }
}

#[test]
fn a_step_that_was_killed_can_be_repeated_or_removed() {
    if !needs_python() || !needs(&["jq"]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("secret.yml", &format!("PYDIR_SEAL_KEY: {SECRET}\n"));
    for (file, words) in providers(&sandbox) {
        let file = file.to_str().unwrap();
        for point in ["after:checkpoint", "after:resource_planned", "after:resource_created"] {
            let upload = [&["upload"][..], words].concat();
            let killed = step_with(&sandbox, file, &upload, Some(point));
            // Only programs store checkpoints.
            assert_eq!(killed.code == 0, point == "after:checkpoint" && file.ends_with(".so"));
            let discard = || step(&sandbox, file, &[&["discard"][..], words].concat());
            if point == "after:resource_planned" {
                answer(&step(&sandbox, file, &upload));
                assert_eq!(images(&sandbox).len(), 1 + usize::from(file.contains("pydir")));
            }
            assert_eq!(answer(&discard())["remaining"], json!([]), "{file} {point}");
            assert!(images(&sandbox).is_empty(), "{file} {point}");
            fs::remove_dir_all(sandbox.path().join("state")).unwrap();
        }
    }
}

#[test]
fn the_members_of_a_request_replace_those_of_the_sample() {
    let sandbox = Sandbox::new();
    let file = plugin("qcow2");
    let file = file.to_str().unwrap();
    sandbox.write("request.json", r#"{"spec": {"format": "raw"}}"#);
    let made = step(&sandbox, file, &["create_disk", "--request", "request.json"]);
    assert_eq!(answer(&made)["spec"]["format"], "raw");
    sandbox.write("request.json", r#"{"build": {"image_name": "other"}, "online": true}"#);
    let checked = step(&sandbox, file, &["check", "--request", "request.json"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    for member in [r#""image_name":"other""#, r#""run_id":"run-step-"#, r#""online":true"#] {
        assert!(checked.stderr.contains(member), "{member}: {}", checked.stderr);
    }
    sandbox.write("array.json", "[]");
    let disk = sandbox.disk("disk.raw", 4, 1);
    let disk = disk.to_str().unwrap();
    for (words, code, texts) in [
        (&["upload"][..], 2, &["step upload needs --state", "add --state DIR"][..]),
        (&["upload", "--request", "array.json"], 2, &["`array.json` is not a JSON object"]),
        (&["check", "--request", "none.json"], 2, &["cannot read --request `none.json`"]),
        (&["check", "--raw", "none.raw"], 4, &["cannot read the raw disk `none.raw`"]),
        (&["publish"], 2, &["invalid value `publish` for `<STEP>`"]),
        (&["upload", "--raw", disk, "--state", "state"], 2, &["the disk has 4194304 bytes"]),
    ] {
        let mut command = sandbox.command(&["providers", "run-step", file]);
        if words.contains(&"array.json") {
            command.args(["--state", "other"]);
        }
        Run::of(&command.args(words).output().unwrap(), None).failed(code, texts);
    }
}

#[test]
fn unknown_members_of_a_request_cause_warnings() {
    let sandbox = Sandbox::new();
    let file = plugin("qcow2");
    let file = file.to_str().unwrap();
    sandbox.write("r.json", r#"{"build": {"image_nam": "x"}, "colour": false, "online": false}"#);
    let checked = step(&sandbox, file, &["check", "--request", "r.json"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    for text in [
        "step check knows no member `build.image_nam`",
        "did you mean `image_name`?",
        "step check knows no member `colour`",
        "the members here are build, host, online",
    ] {
        assert!(checked.stderr.contains(text), "{text}: {}", checked.stderr);
    }
    assert!(!checked.stderr.contains("`online`"), "{}", checked.stderr);
}

#[test]
fn the_name_and_the_tags_of_the_settings_are_those_of_the_sample() {
    if !needs(&["jq"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let (bash, _) = providers(&sandbox).pop().unwrap();
    let bash = bash.to_str().unwrap();
    let config = |name: &str, tags: &str| {
        let text = "TIN_DIRECTORY: state/images\nCLOUD_IMAGE_NAME: ";
        sandbox.write("c.yml", &format!("{text}{name}\nIMAGE_TAGS: [{{{tags}}}]\n"));
    };
    let run = |name: &str| step(&sandbox, bash, &[name, "-c", "c.yml"]);
    config("web", "owner: us");
    assert_eq!(run("upload").code, 0);
    assert_eq!(answer(&run("register"))["images"][0]["name"], "web");
    let properties =
        fs::read_to_string(sandbox.path().join("state/images/web/image.json")).unwrap();
    assert!(properties.contains(r#""owner":"us""#), "{properties}");
    for (name, tags, key) in
        [("db", "owner: us", "CLOUD_IMAGE_NAME"), ("web", "a: b", "IMAGE_TAGS")]
    {
        config(name, tags);
        let texts =
            [format!("{key} differs from that of the earlier steps"), "another --state".into()];
        run("discard").failed(2, &[&texts[0], &texts[1]]);
    }
    config("We b", "owner: us");
    run("check").failed(2, &["image name `We b`"]);
    config("web", "owner: us");
    assert_eq!(answer(&run("discard"))["remaining"], json!([]));
    // A provider that does not declare them: a build warns, and so does this.
    sandbox.write("c.yml", "CLOUD_IMAGE_NAME: web\n");
    let file = plugin("qcow2");
    let args = ["providers", "run-step", file.to_str().unwrap(), "check", "-c", "c.yml"];
    let warned = Run::of(&sandbox.command(&args).output().unwrap(), None);
    assert!(warned.stderr.contains("its description has no `image_name`"), "{}", warned.stderr);
}
