//! Checks IF_SAME: what a build does whose image the account has already, with a provider whose account is a directory and
//! with the emulated Alibaba Cloud.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use crate::{
    harness::{Run, Sandbox, names, needs_python, root},
    optional_steps::account,
};

/// An account that is a directory, and hosts that use it.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("home")).unwrap();
        Self(directory)
    }

    fn home(&self) -> PathBuf {
        self.0.path().join("home")
    }

    /// A host with a disk whose first MiB is filled, and no file of others.
    fn host(&self) -> Sandbox {
        let sandbox = Sandbox::new();
        sandbox.write("config.yml", &format!("ACCOUNT_DIR: {}\n", self.0.path().display()));
        sandbox.disk("disk.raw", 2, 1);
        sandbox
    }

    /// Builds from a new host.
    fn build(&self, args: &[&str]) -> Run {
        self.build_on(&self.host(), args)
    }

    fn build_on(&self, host: &Sandbox, args: &[&str]) -> Run {
        let result = host.path().join("result.json");
        let _ = fs::remove_file(&result);
        let output = command(host, args).env("F5_OUTPUT_JSON_FILE", &result).output().unwrap();
        let document = fs::read(&result).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Run::of(&output, document)
    }

    /// Number of images.
    fn images(&self) -> usize {
        names(&self.home()).iter().filter(|name| name.ends_with(".json")).count()
    }
}

fn command(host: &Sandbox, args: &[&str]) -> std::process::Command {
    let given = ["--disk", "disk.raw", "-p", "account", "-c", "config.yml", "--provider-file"];
    let file = account().to_str().unwrap();
    host.command(&[&given[..], &[file], args].concat())
}

/// Returns the identifier of the image of a build.
pub(crate) fn id(run: &Run) -> String {
    run.member("image_id").as_str().unwrap().to_owned()
}

/// Whether a build that succeeded has sent nothing, because the account has its image.
pub(crate) fn was_skipped(run: &Run) -> bool {
    run.succeeded();
    let document = run.result.as_ref().unwrap();
    document.get("skipped").and_then(Value::as_bool) == Some(true)
}

const WEB: [&str; 2] = ["--cloud-image-name", "web"];

#[test]
fn a_second_build_of_the_same_disk_sends_nothing() {
    let bench = Bench::new();
    let plain = bench.build(&["--cloud-image-name", "plain"]);
    assert!(!was_skipped(&plain));
    // Without a mark, nothing is known of its disk.
    let first = bench.build(&[&WEB[..], &["--if-same", "skip"]].concat());
    assert!(!was_skipped(&first), "{}", first.stderr);
    let before = names(&bench.home());
    for args in [&WEB[..], &[]] {
        let second = bench.build(&[args, &["--if-same", "skip"]].concat());
        assert!(was_skipped(&second), "{args:?}: {}", second.stderr);
        assert_eq!((id(&second), second.member("bytes_sent")), (id(&first), &Value::from(0)));
        assert_eq!(second.member("image_name"), "web");
        assert!(second.stderr.contains("was made from the same disk, nothing is sent"));
        assert_eq!(names(&bench.home()), before);
    }
}

/// When that build is collected, its image is removed.
#[test]
fn an_image_whose_build_is_not_finished_is_not_taken() {
    let bench = Bench::new();
    let host = bench.host();
    let mut first = command(&host, &["--if-same", "new"]);
    first.env("BUILD_IMAGE_FAILPOINT", "before:products_released");
    assert_eq!(first.output().unwrap().status.code(), None);
    assert_eq!(bench.images(), 1);
    let second = bench.build_on(&host, &["--if-same", "skip"]);
    assert!(!was_skipped(&second), "{}", second.stderr);
    assert!(second.stderr.contains("its build is not finished"), "{}", second.stderr);
    assert_eq!(bench.images(), 2);
    host.run(&["gc", "--yes"]).succeeded();
    let left = names(&bench.home());
    assert!(left.iter().any(|name| name.contains(&id(&second))), "{left:?}");
    assert_eq!(bench.images(), 1);
}

#[test]
fn another_build_is_made_where_the_image_is_not_what_was_requested() {
    let bench = Bench::new();
    bench.build(&[&WEB[..], &["--if-same", "new"]].concat()).succeeded();
    // More arguments, the exit code, and what is printed.
    let tagged = ["--image-tags", "[{owner: team}]", "--if-same", "skip"];
    for (args, code, texts) in [
        (&["--cloud-image-name", "db", "--if-same", "skip"][..], 0, &["its name is `web`"][..]),
        (
            &[&tagged[..], &["--cloud-image-name", "c"]].concat(),
            0,
            &["tag `owner` differs", "hint: build-image images tag img-"],
        ),
        (&[&tagged[..], &WEB].concat(), 6, &["tag `owner` differs", "an image `web` exists"]),
        (&[&WEB[..], &["--if-same", "new"]].concat(), 6, &["an image `web` exists already"]),
        (&[&WEB[..], &["--if-same", "maybe"]].concat(), 2, &["IF_SAME", "skip"]),
    ] {
        let before = bench.images();
        let run = bench.build(args);
        if code == 0 {
            assert!(!was_skipped(&run), "{args:?}");
        } else {
            run.failed(code, &[]);
        }
        for text in texts {
            assert!(run.stderr.contains(text), "{args:?}: {}", run.stderr);
        }
        assert_eq!(bench.images(), before + usize::from(code == 0), "{args:?}");
    }
    // Another disk has another digest.
    let host = bench.host();
    host.disk("disk.raw", 3, 2);
    assert!(!was_skipped(&bench.build_on(&host, &["--if-same", "skip"])));
}

#[test]
fn an_image_from_the_same_disk_is_named_in_other_builds() {
    let bench = Bench::new();
    let first = bench.build(&["--if-same", "new"]);
    first.succeeded();
    assert!(!first.stderr.contains("same disk"), "{}", first.stderr);
    let second = bench.build(&["--if-same", "new"]);
    assert!(!was_skipped(&second));
    let text = format!("image {} (", id(&first));
    assert!(second.stderr.contains(&text), "{}", second.stderr);
    assert!(second.stderr.contains("IF_SAME=skip does not upload it again"), "{}", second.stderr);
    // The digest is known for the statement.
    let third = bench.build(&["--provenance-file", "statement.json"]);
    assert!(third.stderr.contains(&text), "{}", third.stderr);
    let fourth = bench.build(&[]);
    assert!(!fourth.stderr.contains("same disk"), "{}", fourth.stderr);
    assert_eq!(bench.images(), 4);
}

#[test]
fn an_image_that_is_deprecated_is_not_the_result() {
    let bench = Bench::new();
    let first = bench.build(&["--if-same", "new"]);
    let path = bench.home().join(format!("{}.json", id(&first)));
    let mut properties: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    properties["deprecated_at"] = 1.into();
    fs::write(&path, properties.to_string()).unwrap();
    let second = bench.build(&["--if-same", "skip"]);
    assert!(!was_skipped(&second));
    assert!(second.stderr.contains("is deprecated or disabled"), "{}", second.stderr);
}

/// Writes a provider `plain`, the Python example with uploads, and returns its directory.
fn plain_provider(sandbox: &Sandbox) -> PathBuf {
    let example = root().join("providers/example-python/build-image-provider-pydir");
    let script = format!(
        r#"#!/usr/bin/env python3
import importlib.machinery, importlib.util, sys
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("pydir", "{}")
pydir = importlib.util.module_from_spec(importlib.util.spec_from_loader("pydir", loader))
loader.exec_module(pydir)
class Plain(pydir.PyDir):
    @staticmethod
    def describe():
        return {{**pydir.PyDir.describe(), "name": "plain", "uploads": True}}
pydir.serve(Plain)
"#,
        example.display()
    );
    let path = sandbox.write("plugins/build-image-provider-plain", &script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.path().join("plugins")
}

#[test]
fn a_provider_without_marks_refuses_to_skip_and_a_package_ignores_it() {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 2, 1);
    if needs_python() {
        let directory = plain_provider(&sandbox);
        let args = ["--disk", "disk.raw", "-p", "plain", "--provider-dir"];
        let args = [&args[..], &[directory.to_str().unwrap()]].concat();
        for verb in [&[][..], &["plan"]] {
            let run = sandbox.run(&[verb, &args[..], &["--if-same", "skip"]].concat());
            let text = "IF_SAME is `skip`, but provider `plain` cannot find images";
            run.failed(6, &[text, "leave IF_SAME"]);
        }
    }
    let args = ["--disk", "disk.raw", "-p", "oci", "--oci-reference", "localhost:1/web:1"];
    sandbox.run(&[&args[..], &["--if-same", "skip", "--no-upload"]].concat()).succeeded();
}

#[test]
fn a_plan_is_not_refused_for_an_image_that_may_be_the_result() {
    let bench = Bench::new();
    bench.build(&[&WEB[..], &["--if-same", "new"]].concat()).succeeded();
    let host = bench.host();
    let file = account().to_str().unwrap();
    let plan = ["plan", "--check", "--disk", "disk.raw", "-p", "account", "-c", "config.yml"];
    let plan = [&plan[..], &["--provider-file", file], &WEB].concat();
    host.run(&plan).failed(6, &["would refuse the build"]);
    let run = host.run(&[&plan[..], &["--if-same", "skip"]].concat());
    run.succeeded();
    assert!(run.stdout.contains("an image `web` exists already"), "{}", run.stdout);
}

/// Kills a build at a line of its journal; whether it came that far.
fn killed(host: &Sandbox, point: &str, args: &[&str]) -> bool {
    let mut build = command(host, args);
    build.stdout(Stdio::null()).stderr(Stdio::null()).env("BUILD_IMAGE_FAILPOINT", point);
    build.status().unwrap().code().is_none()
}

/// The run that a host has.
fn run_of(host: &Sandbox) -> String {
    let runs: Vec<String> = names(&host.path().join("artifacts/runs"));
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs[0].clone()
}

fn resumed(host: &Sandbox, run: &str) -> Run {
    let file = account().to_str().unwrap();
    host.run(&["resume", run, "--provider-file", file])
}

#[test]
fn a_build_that_is_killed_while_it_skips_is_resumed_without_an_upload() {
    let bench = Bench::new();
    let first = id(&bench.build(&[&WEB[..], &["--if-same", "new"]].concat()));
    let before = names(&bench.home());
    let args = [&WEB[..], &["--if-same", "skip"]].concat();
    let mut kills = 0;
    for number in 1.. {
        let mut all = 0;
        for when in ["before", "after"] {
            let host = bench.host();
            if !killed(&host, &format!("{when}:{number}"), &args) {
                continue;
            }
            all += 1;
            assert_eq!(names(&bench.home()), before, "{when}:{number}");
            // A run without a line in its journal is none.
            if number > 1 || when == "after" {
                let run = resumed(&host, &run_of(&host));
                if !run.stderr.contains("cannot be resumed: it is done") {
                    run.succeeded();
                    assert_eq!(id(&run), first, "{when}:{number}");
                }
            }
            assert_eq!(names(&bench.home()), before, "{when}:{number}");
        }
        kills += all;
        if all == 0 {
            break;
        }
    }
    assert!(kills >= 12, "{kills}");
}

#[test]
fn an_upload_that_was_begun_is_finished() {
    let bench = Bench::new();
    let host = bench.host();
    assert!(killed(&host, "after:resource_created", &["--if-same", "skip"]));
    let run = run_of(&host);
    let first = bench.build(&["--if-same", "new"]);
    let resumed = resumed(&host, &run);
    assert!(!was_skipped(&resumed), "{}", resumed.stderr);
    assert_ne!(id(&resumed), id(&first));
    assert_eq!((bench.images(), names(&bench.home()).len()), (2, 4));
}

/// Requests of the emulator that change something.
fn changes(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let operation = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        // Dry runs, and the import of a check, are answered with an error.
        let is_done = line["status"].as_u64().is_some_and(|status| status < 400);
        is_done.then(|| line["operation"].as_str().unwrap_or_default().to_owned())
    };
    let reads =
        |name: &String| ["Describe", "Get", "List", "Head"].iter().any(|at| name.starts_with(at));
    text.lines().filter_map(operation).filter(|name| !reads(name)).collect()
}

#[test]
fn the_images_of_all_regions_must_be_there() {
    let (sandbox, kept) = Sandbox::with_kept_cloud();
    let log = kept.path().join("requests.jsonl");
    sandbox.disk("disk.raw", 24, 8);
    let config = [
        ("ALIBABA_IMAGE_COPY_REGIONS", "[cn-beijing]"),
        ("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", "['1234567890123456']"),
    ];
    sandbox.write("config.yml", &sandbox.config(&config));
    let cloud = ["-p", "alibaba", "-c", "config.yml"];
    let build = |args: &[&str]| {
        let given = ["--disk", "disk.raw", "--cloud-image-name", "web", "--if-same"];
        sandbox.run(&[&given[..], args, &cloud].concat())
    };
    let first = build(&["new"]);
    assert!(!was_skipped(&first));
    let sent = changes(&log);
    assert!(sent.contains(&"UploadPart".to_owned()) && sent.contains(&"CopyImage".to_owned()));
    let second = build(&["skip"]);
    assert!(was_skipped(&second), "{}", second.stderr);
    assert_eq!(second.member("images"), first.member("images"));
    for name in ["alibaba_region", "alibaba_regions", "alibaba_snapshot_ids"] {
        assert_eq!(second.member(name), first.member(name));
    }
    assert_eq!(changes(&log), sent, "the second build changed something");
    // Without the copy it is not what was requested; the name is taken.
    let copy = first.member("images")[1]["id"].as_str().unwrap().to_owned();
    let delete = ["images", "delete", &copy, "--force", "--yes"];
    sandbox.run(&[&delete[..], &cloud].concat()).succeeded();
    let third = build(&["skip"]);
    let hint = format!("build-image images copy {} --to cn-beijing --with-access", id(&first));
    third.failed(6, &["region cn-beijing: no complete image", &hint, "exists already"]);
    // The hint is the repair.
    let words: Vec<&str> = hint.split(' ').skip(1).collect();
    sandbox.run(&[&words[..], &cloud].concat()).succeeded();
    assert!(was_skipped(&build(&["skip"])));
    let share = [("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", "['1234567890123456', '1234567890123457']")];
    sandbox.write("config.yml", &sandbox.config(&[&config[..1], &share].concat()));
    let fourth = build(&["skip"]);
    fourth.failed(6, &["is not shared with 1234567890123457", "images share"]);
    sandbox.cloud_has_only(2);
}
