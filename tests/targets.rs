//! Builds for several targets at once: what they need is prepared once, each has its own result, and a failure of one
//! does not touch the others. `targets_kills` kills such builds.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use serde_json::Value;

use crate::harness::{
    Answer, Run, SECRET, Sandbox, TinyIso, Web, needs, needs_qemu, root, sandbox_walk,
    stand_in_qemu, tool, until,
};

/// A secret that no server accepts.
const OTHER_SECRET: &str = "the-other-secret-of-target-two";

/// A configuration file that lists two buckets of the emulator, with more lines for the second one.
pub(crate) fn two_buckets(sandbox: &Sandbox, second: &[(&str, &str)]) -> String {
    let mut text = sandbox.config(&[]);
    text.push_str("targets:\n- provider: alibaba\n- name: far\n  provider: alibaba\n");
    let far = [("ALIBABA_BUCKET", "far-away"), ("ALIBABA_REGION", "cn-beijing")];
    let kept = far.iter().filter(|(key, _)| !second.iter().any(|(changed, _)| changed == key));
    for (key, value) in kept.chain(second) {
        text.push_str(&format!("  {key}: {value}\n"));
    }
    text
}

/// The only unfinished build with several targets, as the tool lists it.
#[track_caller]
fn listed(sandbox: &Sandbox) -> Value {
    let output = sandbox.command(&["runs", "--json"]).output().unwrap();
    let mut listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let groups = listed["groups"].as_array_mut().unwrap();
    assert_eq!(groups.len(), 1, "{groups:#?}");
    groups.remove(0)
}

/// The section of a target in the result.
#[track_caller]
fn section<'a>(run: &'a Run, target: &str) -> &'a Value {
    let targets = run.member("targets");
    targets.get(target).unwrap_or_else(|| panic!("no `{target}` in {targets:#}"))
}

/// Checks that nothing but images, logs and what the test wrote is left.
#[track_caller]
fn is_clean(sandbox: &Sandbox) {
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

/// Checks that qemu finds the same disk in an image and in a raw file.
#[track_caller]
fn holds(image: &Path, format: &str, raw: &Path) {
    let compare = ["qemu-img", "compare", "-f", "raw", "-F", format];
    let files = [raw.to_str().unwrap(), image.to_str().unwrap()];
    tool(raw.parent().unwrap(), &[&compare[..], &files].concat());
}

/// Identity and time of the last change of a file.
fn stamp(path: &Path) -> (u64, i64, i64) {
    let found = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (found.ino(), found.mtime(), found.mtime_nsec())
}

#[test]
fn targets_share_one_download_and_one_inspection() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let raw = sandbox.disk("made.raw", 8, 3);
    let bytes = fs::read(&raw).unwrap();
    let web = Web::start(move |request| Answer::file(request, &bytes));
    let url = web.url("/disk.raw");
    let flags = ["--package", "none", "-p", "qcow2", "-p", "vhd"];
    let run = sandbox.run(&[&["--disk", &url], &flags[..]].concat());
    run.succeeded();
    assert_eq!(web.requests().len(), 1, "{:?}", web.requests());
    let prepared = run.member("prepared");
    assert_eq!((&prepared["sources"], &prepared["inspections"]), (&1.into(), &1.into()));
    for (target, format) in [("qcow2", "qcow2"), ("vhd", "vpc")] {
        let of_target = section(&run, target);
        assert_eq!((&of_target["result"], &of_target["exit_code"]), (&"SUCCESS".into(), &0.into()));
        let file = of_target["file"].as_str().unwrap();
        holds(Path::new(file), format, &raw);
        assert!(run.stdout.contains(&format!("{target}: image {file}")), "{}", run.stdout);
        assert!(run.stderr.contains(&format!("{target}:     check")), "{}", run.stderr);
    }
    is_clean(&sandbox);
}

#[test]
fn targets_that_want_the_same_disk_share_one_installation() {
    if !needs(&["xorriso", "mkfifo", "dd"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    TinyIso::base().write(&sandbox.path().join("base.iso"));
    stand_in_qemu(&sandbox);
    sandbox.write("config.yml", &two_buckets(&sandbox, &[]));
    let args = ["-i", "base.iso", "-m", "ltm", "-b", "1", "--qemu", "./qemu", "-c", "config.yml"];
    let run = sandbox.run(&args);
    run.succeeded();
    // Each start of a guest is recorded several times; a build for one target starts one.
    let guests = || {
        let children = fs::read_to_string(sandbox.path().join("children")).unwrap();
        children.lines().filter(|line| *line == "-kernel").count()
    };
    let started = guests();
    let prepared = run.member("prepared");
    let once = ["sources", "installations", "inspections"].map(|name| prepared[name].as_u64());
    assert_eq!(once, [Some(1); 3], "{prepared}");
    sandbox.cloud_has_only(2);
    fs::remove_file(sandbox.path().join("children")).unwrap();
    sandbox.run(&[&args[..], &["-p", "far"]].concat()).succeeded();
    assert!(started > 0 && started == guests(), "{started} and {}", guests());
    is_clean(&sandbox);
}

#[test]
fn a_target_that_fails_leaves_the_others_and_is_resumed_alone() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 2);
    sandbox.write("config.yml", &sandbox.config(&[("ALIBABA_BUCKET", "absent")]));
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba,qcow2"];
    let run = sandbox.run(&args);
    run.failed(10, &["alibaba: error: ", "NoSuchBucket", "1 of 2 targets have no image: alibaba"]);
    assert_eq!(run.member("result"), "PARTIAL");
    assert_eq!(
        (&section(&run, "alibaba")["exit_code"], &section(&run, "qcow2")["exit_code"]),
        (&6.into(), &0.into())
    );
    sandbox.cloud_has_only(0);
    let made = sandbox.path().join(section(&run, "qcow2")["file"].as_str().unwrap());
    let before = stamp(&made);
    let group = listed(&sandbox);
    assert_eq!(run.member("group_id"), &group["id"]);
    let codes: Vec<_> =
        group["targets"].as_array().unwrap().iter().map(|one| one["exit_code"].as_u64()).collect();
    assert_eq!(codes, [Some(6), Some(0)]);

    // The targets of a build stay; other settings may change until they have had their effect.
    let id = group["id"].as_str().unwrap();
    sandbox.run(&["resume", id, "-p", "vhd"]).failed(2, &["cannot be changed", "leave -p out"]);
    sandbox.write("config.yml", &sandbox.config(&[]));
    let resumed = sandbox.run(&["resume"]);
    resumed.succeeded();
    assert_eq!(section(&resumed, "qcow2"), section(&run, "qcow2"));
    assert_eq!(stamp(&made), before, "a target that is done was touched");
    sandbox.cloud_has_only(1);
    is_clean(&sandbox);
}

#[test]
fn a_build_that_left_only_a_part_is_listed_and_collected() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 2);
    sandbox.write("config.yml", &sandbox.config(&[("ALIBABA_BUCKET", "absent")]));
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "qcow2,alibaba"];
    assert_eq!(sandbox.run(&args).code, 10);
    let text = String::from_utf8(sandbox.command(&["runs"]).output().unwrap().stdout).unwrap();
    assert!(
        text.contains("2 targets  unfinished") && text.contains("qcow2 (qcow2)  done"),
        "{text}"
    );
    assert!(text.contains("alibaba (alibaba)  failed, exit code 6"), "{text}");
    sandbox.run(&["gc"]).succeeded();
    assert_eq!(listed(&sandbox)["state"], "dead");
    sandbox.run(&["gc", "--yes"]).succeeded();
    is_clean(&sandbox);
    assert!(
        sandbox.path().join("images/disk.qcow2.tar.gz").exists()
            || sandbox.path().join("images").read_dir().unwrap().count() > 0
    );
    sandbox.run(&["resume"]).failed(2, &["can be resumed"]);
}

#[test]
fn a_failure_stops_the_other_targets_if_that_is_wished() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 64, 40);
    let emulator = sandbox.emulator.as_ref().unwrap();
    let part = r#"[{"operation":"UploadPart","part_number":1,"action":{"stall_ms":600000}}]"#;
    emulator.set_faults(part).unwrap();
    // The other target's source is missing; the server says so when the upload has begun.
    let (begun, begins) = mpsc::channel::<()>();
    let begins = Arc::new(Mutex::new(begins));
    let web = Web::start(move |_| {
        let _ = begins.lock().unwrap().recv();
        Answer::status(404)
    });
    let targets = format!(
        "targets:\n- provider: alibaba\n  DISK: disk.raw\n- provider: qcow2\n  DISK: {}\n",
        web.url("/absent.raw")
    );
    sandbox.write("config.yml", &format!("{}{targets}", sandbox.config(&[])));
    let result = sandbox.path().join("result.json");
    let mut command = sandbox.command(&["-c", "config.yml", "--fail-fast"]);
    command.env("F5_OUTPUT_JSON_FILE", &result).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    until("a part of the upload", || emulator.wait_for_fault(Duration::from_millis(1)));
    drop(begun);
    let run = Run::of(&child.wait_with_output().unwrap(), None);
    run.failed(
        4,
        &[
            "alibaba: error: stopped, because another target failed",
            "qcow2: error: ",
            "no target has its image",
        ],
    );
    let document: Value = serde_json::from_slice(&fs::read(result).unwrap()).unwrap();
    assert_eq!(document["targets"]["alibaba"]["error"]["kind"], "interrupted");
    sandbox.cloud_has_only(0);
    is_clean(&sandbox);
}

/// A build for two buckets whose fifth part is not answered.
fn stuck(sandbox: &Sandbox) -> Child {
    sandbox.disk("disk.raw", 128, 100);
    sandbox.write("config.yml", &two_buckets(sandbox, &[]));
    let emulator = sandbox.emulator.as_ref().unwrap();
    let part = r#"[{"operation":"UploadPart","part_number":5,"action":{"stall_ms":600000}}]"#;
    emulator.set_faults(part).unwrap();
    let mut command = sandbox.command(&["--disk", "disk.raw", "-c", "config.yml"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("parts of both uploads", || {
        emulator.wait_for_fault(Duration::from_millis(1))
            && emulator.status()["open_uploads"].as_u64() == Some(2)
    });
    child
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}

#[test]
fn a_signal_cancels_and_undoes_all_targets() {
    let sandbox = Sandbox::with_cloud();
    let child = stuck(&sandbox);
    signal(&child, "-INT");
    let run = Run::of(&child.wait_with_output().unwrap(), None);
    run.failed(
        130,
        &["alibaba: error: interrupted", "far: error: interrupted", "error: interrupted"],
    );
    sandbox.cloud_has_only(0);
    is_clean(&sandbox);
}

#[test]
fn a_second_signal_ends_at_once_and_lists_what_all_targets_left() {
    let sandbox = Sandbox::with_cloud();
    let child = stuck(&sandbox);
    let emulator = sandbox.emulator.as_ref().unwrap();
    let abort = r#"[{"operation":"AbortMultipartUpload","action":{"stall_ms":600000}}]"#;
    emulator.set_faults(abort).unwrap();
    signal(&child, "-INT");
    until("the clean-up", || emulator.wait_for_fault(Duration::from_millis(1)));
    signal(&child, "-INT");
    let run = Run::of(&child.wait_with_output().unwrap(), None);
    assert_eq!(run.code, 130, "{}", run.stderr);
    assert!(
        run.stderr.contains("interrupted twice") && run.stderr.contains("multipart_upload"),
        "{}",
        run.stderr
    );
    emulator.set_faults("[]").unwrap();
    sandbox.run(&["gc", "--yes"]).succeeded();
    sandbox.cloud_has_only(0);
    is_clean(&sandbox);
}

#[test]
fn uploads_share_a_rate_and_a_signal_ends_the_wait() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 8, 6);
    sandbox.write("config.yml", &two_buckets(&sandbox, &[]));
    let args = ["--disk", "disk.raw", "-c", "config.yml", "--upload-rate", "1KiB"];
    let mut command = sandbox.command(&args);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let emulator = sandbox.emulator.as_ref().unwrap();
    // At this rate an upload takes hours: it does not end by itself.
    until("both uploads", || emulator.status()["open_uploads"].as_u64() == Some(2));
    signal(&child, "-TERM");
    let run = Run::of(&child.wait_with_output().unwrap(), None);
    run.failed(130, &["error: interrupted"]);
    sandbox.cloud_has_only(0);
    is_clean(&sandbox);
}

#[test]
fn a_list_of_targets_has_settings_for_each_and_is_chosen_from_by_name() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 2);
    let second = [("CLOUD_IMAGE_NAME", "far-image")];
    sandbox.write("config.yml", &two_buckets(&sandbox, &second));
    let args = ["--disk", "disk.raw", "-c", "config.yml"];
    let run = sandbox.run(&args);
    run.succeeded();
    let region = |target| section(&run, target)["images"][0]["region"].clone();
    assert_eq!((region("alibaba"), region("far")), ("cn-hangzhou".into(), "cn-beijing".into()));
    assert_eq!(section(&run, "far")["image_name"], "far-image");
    sandbox.cloud_has_only(2);
    // One target is an ordinary build.
    sandbox.write("config.yml", &two_buckets(&sandbox, &[("CLOUD_IMAGE_NAME", "far-2")]));
    let one = sandbox.run(&[&args[..], &["-p", "far"]].concat());
    assert_eq!(one.succeeded().member("images")[0]["region"], "cn-beijing");
    sandbox.cloud_has_only(3);
    sandbox
        .run(&[&args[..], &["-p", "other"]].concat())
        .failed(2, &["lists no target `other`", "alibaba, far"]);
    is_clean(&sandbox);
}

#[test]
fn nothing_is_touched_if_a_target_cannot_be_built() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 2);
    let args = ["--disk", "disk.raw", "-c", "config.yml"];
    let list = |entry: &str| {
        format!("{}targets:\n- provider: alibaba\n- provider: qcow2\n{entry}", sandbox.config(&[]))
    };
    for (config, more, code, texts) in [
        (sandbox.config(&[]), &["-p", "alibaba,absent"][..], 3, &["target `absent`"][..]),
        (list("  ALIBABA_BUCKET: x\n"), &[], 2, &["target `qcow2`", "no setting `ALIBABA_BUCKET`"]),
        (list("  JSON: yes\n"), &[], 2, &["JSON applies to all targets"]),
        (list("  DISK_SIZE: many\n"), &[], 2, &["target `qcow2`", "DISK_SIZE"]),
        (list(""), &["--fail-fast", "--keep-going"], 2, &["FAIL_FAST and KEEP_GOING"]),
        (list(""), &["--provenance-file", "s.json"], 2, &["would both write", "PROVENANCE_FILE"]),
        (sandbox.config(&[]), &["-p", "qcow2,alibaba", "--acme", "x"], 2, &["--acme"]),
    ] {
        sandbox.write("config.yml", &config);
        let before = sandbox.files();
        let run = Run::of(&sandbox.command(&[&args[..], more].concat()).output().unwrap(), None);
        run.failed(code, texts);
        assert_eq!(sandbox.files(), before, "{more:?}");
    }
    sandbox.cloud_has_only(0);
}

#[test]
fn the_secrets_of_a_target_stay_with_it() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 2);
    let second = [("ALIBABA_ACCESS_KEY_SECRET", OTHER_SECRET)];
    sandbox.write("config.yml", &two_buckets(&sandbox, &second));
    for isolate in ["--isolate=no", "--isolate=yes"] {
        let log = ["--log-level", "trace", isolate];
        let run = sandbox.run(&[&["--disk", "disk.raw", "-c", "config.yml"], &log[..]].concat());
        run.failed(10, &["far: error: ", "1 of 2 targets have no image: far"]);
        sandbox.keeps_the_secret(&run);
        assert!(!run.stderr.contains(OTHER_SECRET) && !run.stdout.contains(OTHER_SECRET));
        sandbox_walk(sandbox.path(), &mut |path| {
            let is_config = path.extension().is_some_and(|ending| ending == "yml");
            if path.is_file() && !is_config {
                let text = fs::read(path).unwrap();
                let found =
                    text.windows(OTHER_SECRET.len()).any(|part| part == OTHER_SECRET.as_bytes());
                assert!(!found && !SECRET.is_empty(), "the secret is in {}", path.display());
            }
        });
        sandbox.run(&["gc", "--yes"]).succeeded();
    }
}

#[test]
fn two_builds_at_once_do_not_mix() {
    let sandbox = Sandbox::new();
    let disks = ["one", "two"].map(|name| sandbox.disk(&format!("{name}.raw"), 4, 2));
    let start = |name: &str| {
        let args = ["--disk", &format!("{name}.raw"), "-p", "qcow2,vhd,alibaba", "--no-upload"];
        let mut command = sandbox.command(&args);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // Provider qcow2 uploads nothing, which the switch contradicts: no target is touched.
    for child in ["one", "two"].map(start) {
        let run = Run::of(&child.wait_with_output().unwrap(), None);
        run.failed(2, &["target `qcow2`", "uploads nothing anyway"]);
    }
    let start = |name: &str| {
        let args = ["--disk", &format!("{name}.raw"), "-p", "qcow2,vhd"];
        sandbox.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for child in ["one", "two"].map(start) {
        let run = Run::of(&child.wait_with_output().unwrap(), None);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    let images = fs::read_dir(sandbox.path().join("images")).unwrap().map(Result::unwrap);
    let names: Vec<String> = images.map(|entry| entry.file_name().into_string().unwrap()).collect();
    for disk in disks {
        let stem = disk.file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(names.iter().filter(|name| name.starts_with(&stem)).count(), 6, "{names:?}");
    }
    is_clean(&sandbox);
}

#[test]
fn the_result_is_as_its_schema_says_also_of_a_failure() {
    let schema = fs::read(root().join("docs/schemas/targets-1.json")).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 2);
    for (disk, code) in [("disk.raw", 0), ("absent.raw", 4)] {
        let run = sandbox.run(&["--disk", disk, "-p", "qcow2,vhd", "--json"]);
        assert_eq!(run.code, code, "{}", run.stderr);
        let document = run.result.as_ref().unwrap();
        let printed: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(&printed, document);
        let members = document.as_object().unwrap();
        for name in schema["required"].as_array().unwrap() {
            assert!(members.contains_key(name.as_str().unwrap()), "no {name} in {document:#}");
        }
        for (name, value) in members {
            let rule = &schema["properties"][name];
            let kind = match value {
                Value::String(_) => "string",
                Value::Number(_) => "integer",
                Value::Object(_) => "object",
                _ => panic!("{name}: {value}"),
            };
            assert_eq!(rule["type"], kind, "{name}");
            assert!(rule["enum"].as_array().is_none_or(|words| words.contains(value)), "{name}");
        }
        assert_eq!(members.contains_key("error"), code != 0);
        assert_eq!(document["targets"].as_object().unwrap().len(), 2);
    }
}

#[test]
fn a_plan_shows_every_target_and_leaves_nothing() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 2);
    sandbox.write("config.yml", &two_buckets(&sandbox, &[]));
    let before = sandbox.files();
    let args = ["plan", "--check", "--disk", "disk.raw", "-c", "config.yml"];
    let output = sandbox.command(&args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["targets   alibaba, far", "target    far", "ALIBABA_BUCKET=far-away"] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
    let output = sandbox.command(&[&args[..], &["--json"]].concat()).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["targets"]["far"]["platform"], "alibaba");
    assert_eq!(sandbox.files(), before);
}

#[test]
fn programs_see_which_target_an_event_belongs_to() {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 2);
    let run = sandbox.run(&["--disk", "disk.raw", "-p", "qcow2,vhd", "--progress", "json"]);
    run.succeeded();
    let events: Vec<Value> =
        run.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, others) = events.split_last().unwrap();
    assert_eq!((&last["event"], last.get("target")), (&"finished".into(), None));
    for target in ["qcow2", "vhd"] {
        let of_target = others.iter().filter(|event| event["target"] == target);
        let names: Vec<&str> = of_target.filter_map(|event| event["event"].as_str()).collect();
        assert_eq!(names.last(), Some(&"finished"), "{target}: {names:?}");
        assert!(names.contains(&"step_done"), "{names:?}");
    }
}
