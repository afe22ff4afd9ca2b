//! Uploads a disk of which the account has an earlier snapshot, with moto behind the strict front: counts the blocks that
//! are sent, and spoils the base and its manifest before, between, and in builds.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::Stdio,
};

use serde_json::{Value, json};

use crate::{
    build_aws::{BLOCK, BUILD, HOME, build, id_of, sandbox},
    harness::{Aws, AwsAccount, Clock, Run, Sandbox, needs, until},
};

/// Makes a build send only what changed.
const DELTA: (&str, &str) = ("AWS_UPLOAD_DELTA", "yes");
/// Tag of a manifest: the snapshot that it describes.
const MANIFEST_OF: &str = "build-image-manifest-of";
/// Tag of a manifest: its SHA-256.
const DIGEST: &str = "build-image-manifest";
/// Blocks with data of a small disk.
const DATA: usize = 6;
const CLOUD: [&str; 4] = ["-p", "aws", "-c", "config.yml"];

/// An account with the image and the manifest of a first build, and the disk of that.
pub(crate) struct Bench {
    pub(crate) account: AwsAccount,
    pub(crate) sandbox: Sandbox,
}

impl Bench {
    /// A disk of 16 MiB, the first 3 of them data.
    pub(crate) fn new(server: &'static Aws, settings: &[(&str, &str)]) -> Self {
        let account = server.account(&json!({"polls": 1}));
        let sandbox = sandbox(&account, &[&[DELTA][..], settings].concat());
        build(&sandbox, "first", &[]).succeeded();
        let bench = Self { account, sandbox };
        bench.has(1, 1);
        bench.forget_requests();
        bench
    }

    fn forget_requests(&self) {
        self.account.control("DELETE", "requests", json!({}));
    }

    fn disk(&self) -> PathBuf {
        self.sandbox.path().join("disk.raw")
    }

    /// Writes into the disk.
    pub(crate) fn change(&self, offset: u64, bytes: &[u8]) {
        let disk = OpenOptions::new().write(true).open(self.disk()).unwrap();
        disk.write_all_at(bytes, offset).unwrap();
    }

    fn settings(&self, more: &[(&str, &str)]) {
        let delta = Some(DELTA).filter(|(key, _)| more.iter().all(|(other, _)| other != key));
        let all: Vec<_> = delta.into_iter().chain(more.iter().copied()).collect();
        self.sandbox.write("config.yml", &self.account.config(&all));
    }

    /// Blocks that were sent, those of manifests included.
    pub(crate) fn sent(&self) -> usize {
        let requests = self.account.requests().into_iter();
        let is_put = |one: &Value| one["operation"] == "PutSnapshotBlock" && one["status"] == 201;
        requests.filter(is_put).count()
    }

    pub(crate) fn snapshots(&self) -> (Vec<Value>, Vec<Value>) {
        let all = self.account.owned("snapshots").into_iter();
        all.partition(|one| one["tags"][MANIFEST_OF].is_null())
    }

    /// Checks the number of images and of manifests; each image has one snapshot, and nothing else is there.
    #[track_caller]
    pub(crate) fn has(&self, images: usize, manifests: usize) {
        let (disks, found) = self.snapshots();
        let numbers = (self.account.owned("images").len(), disks.len(), found.len());
        assert_eq!(numbers, (images, images, manifests), "{found:#?}");
    }

    /// Checks that the image of a run is the disk.
    #[track_caller]
    pub(crate) fn is_right(&self, run: &Run, zeros: usize) {
        run.succeeded();
        self.account.holds_with_zeros(&id_of(run), HOME, &self.disk(), zeros);
    }

    pub(crate) fn first_run(&self) -> Option<String> {
        let output = self.sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let runs = listed["runs"].as_array().unwrap().iter();
        let mut open = runs.filter(|run| run["state"] != "done" && run["platform"] != "");
        open.next().map(|run| run["id"].as_str().unwrap().to_owned())
    }

    pub(crate) fn run(&self, words: &[&str]) -> Run {
        self.sandbox.run(words)
    }

    /// Kills a second build at a point of its journal; whether it came that far.
    pub(crate) fn killed(&self, point: &str) -> bool {
        let words = [&BUILD[..], &["--cloud-image-name", "second"]].concat();
        let mut command = self.sandbox.command(&words);
        command.env("BUILD_IMAGE_FAILPOINT", point);
        command.output().unwrap().status.code().is_none()
    }
}

#[test]
fn a_disk_of_which_a_hundredth_has_changed_is_sent_to_three_hundredths_at_most() {
    let Some(server) = Aws::shared() else { return };
    let mib = 512_u64;
    let account = server.account(&json!({"polls": 1}));
    let sandbox = sandbox(&account, &[DELTA]);
    sandbox.disk("disk.raw", mib, mib);
    let bench = Bench { account, sandbox };
    build(&bench.sandbox, "first", &[]).succeeded();
    bench.forget_requests();
    let length = mib << 20;
    let bytes = vec![0x5a; usize::try_from(length / 500).unwrap()];
    for run in 0..5 {
        bench.change(length / 5 * run + 7777, &bytes);
    }
    let plan = bench.run(&[&["plan", "--check", "--verbose"], &BUILD[..]].concat());
    assert!(plan.stdout.contains("only what differs from `snap-"), "{}", plan.stdout);
    assert!(plan.stdout.contains("manifest_snapshot"), "{}", plan.stdout);
    let run = build(&bench.sandbox, "second", &[]);
    bench.is_right(&run, 0);
    assert!(run.stderr.contains(" of 1024 blocks of snapshot"), "{}", run.stderr);
    let (sent, all) = (bench.sent() as u64, length / BLOCK);
    println!("{sent} of {all} blocks were sent, with that of the manifest");
    assert!(sent > 5 && sent * 100 <= all * 3, "{sent} of {all}");
    bench.has(2, 2);
    // Manifests belong to complete builds: nothing sweeps them, and no list of images has them.
    bench
        .run(&[&["gc", "--cloud", "--older-than", "0s", "--yes"], &CLOUD[..]].concat())
        .succeeded();
    bench.has(2, 2);
    let listed = bench.run(&[&["images", "list"], &CLOUD[..]].concat());
    assert!(!listed.stdout.contains("snap-"), "{}", listed.stdout);
}

/// How a disk changes: what it is called, its size in MiB, what is written, and how many blocks are sent and are zeros.
type Change = (&'static str, u64, &'static [(u64, u8)], usize, usize);

#[test]
fn what_is_sent_is_what_changed_and_the_result_is_the_disk() {
    let Some(server) = Aws::shared() else { return };
    let cases: [Change; 6] = [
        ("nothing", 16, &[], 0, 0),
        ("two blocks", 16, &[(0, 7), (5, 9)], 2, 0),
        ("a block that was zeros", 16, &[(20, 1)], 1, 0),
        ("a block becomes zeros", 16, &[(2, 0)], 1, 1),
        ("a larger volume", 1500, &[(2999, 3)], 1, 0),
        ("the end is cut off", 2, &[], 2, 2),
    ];
    for (what, mib, blocks, sent, zeros) in cases {
        let bench = Bench::new(server, &[]);
        OpenOptions::new().write(true).open(bench.disk()).unwrap().set_len(mib << 20).unwrap();
        for (block, byte) in blocks {
            bench.change(block * BLOCK, &vec![*byte; usize::try_from(BLOCK).unwrap()]);
        }
        // Something must recognize the disk.
        let words = ["--disk-format", "raw"];
        let run = build(&bench.sandbox, "second", &words);
        bench.is_right(&run, zeros);
        assert_eq!(bench.sent(), sent + 1, "{what}: {}", run.stderr);
        bench.has(2, 2);
        if zeros == 0 {
            continue;
        }
        // An increment is the base of the next one, blocks of zeros included.
        bench.forget_requests();
        bench.change(3 * BLOCK, b"third");
        let third = build(&bench.sandbox, "third", &words);
        bench.account.holds_with_zeros(&id_of(&third), HOME, &bench.disk(), zeros);
        assert!(bench.sent() <= 2, "{what}: {}", third.stderr);
    }
}

/// Spoils the base or its manifest.
type Spoil = fn(&Bench, &Value, &Value);

#[test]
fn a_base_that_does_not_fit_is_refused_with_the_reason_and_the_whole_disk_is_sent() {
    let Some(server) = Aws::shared() else { return };
    let cases: [(&str, &str, Spoil); 6] = [
        ("another digest", "not what its tag says", |bench, _, manifest| {
            spoil(bench, manifest, DIGEST, &format!("sha256:{}", "0".repeat(64)));
        }),
        ("another content", "not what its tag says", |_, _, manifest| {
            let file = OpenOptions::new().write(true).open(manifest["file"].as_str().unwrap());
            file.unwrap().write_all_at(b"0", 300).unwrap();
        }),
        ("another snapshot", "does not exist", |bench, _, manifest| {
            spoil(bench, manifest, MANIFEST_OF, "snap-0123456789abcdef0");
        }),
        ("another run", "not of the same run", |bench, base, _| {
            spoil(bench, base, "build-image-run", "another-run");
        }),
        ("no manifest", "", |bench, _, manifest| {
            let given = json!({"SnapshotId": manifest["id"]});
            bench.account.call("ec2", "DeleteSnapshot", &given, HOME);
        }),
        ("encryption by default", "refused as a base", |bench, _, _| {
            bench.account.control("POST", "settings", json!({"encrypted": true}));
        }),
    ];
    for (what, text, change) in cases {
        let bench = Bench::new(server, &[]);
        let (disks, manifests) = bench.snapshots();
        change(&bench, &disks[0], &manifests[0]);
        let run = build(&bench.sandbox, "second", &[]);
        bench.is_right(&run, 0);
        assert!(run.stderr.contains(text), "{what}: {}", run.stderr);
        let says_why = run.stderr.contains("the whole disk is sent");
        assert_eq!(says_why, !text.is_empty(), "{what}: {}", run.stderr);
        assert_eq!(bench.sent(), DATA + 1, "{what}: {}", run.stderr);
    }
}

fn spoil(bench: &Bench, of: &Value, key: &str, value: &str) {
    let given = json!({"Resources": [of["id"]], "Tags": [{"Key": key, "Value": value}]});
    let done = bench.account.call("ec2", "CreateTags", &given, HOME);
    assert!(done["error"].is_null(), "{done}");
}

#[test]
fn settings_decide_about_the_base() {
    let Some(server) = Aws::shared() else { return };
    let bench = Bench::new(server, &[]);
    let (disks, _) = bench.snapshots();
    let base = disks[0]["id"].as_str().unwrap().to_owned();
    let key = bench.account.kms_key(HOME).to_owned();
    let other = server.account(&json!({}));
    let theirs = build(&sandbox(&other, &[DELTA]), "theirs", &[]);
    let theirs = other.image(&id_of(&theirs), HOME)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        .as_str()
        .unwrap()
        .to_owned();
    // Settings, how many blocks are sent, and what is printed.
    for (settings, sent, text) in [
        (&[("AWS_UPLOAD_DELTA_BASE", base.as_str())][..], 1, "the others are those of"),
        (&[("AWS_UPLOAD_DELTA_BASE", &theirs)], DATA + 1, "has no complete manifest"),
        (&[("AWS_KMS_KEY_ID", &key)], DATA + 1, "it is not encrypted"),
        (&[("AWS_KMS_KEY_ID", &key)], 1, "the others are those of"),
        (&[("AWS_UPLOAD_DELTA", "no"), ("AWS_UPLOAD_DELTA_BASE", &base)], DATA, "is not used"),
    ] {
        bench.forget_requests();
        bench.settings(settings);
        let name = format!("decided-{}", bench.account.owned("images").len());
        let run = build(&bench.sandbox, &name, &[]);
        bench.is_right(&run, 0);
        assert!(run.stderr.contains(text), "{settings:?}: {}", run.stderr);
        assert_eq!(bench.sent(), sent, "{settings:?}: {}", run.stderr);
    }
    // A disk of a smaller volume has no base of a larger one.
    let large = Bench::new(server, &[]);
    let resize = |mib: u64| {
        OpenOptions::new().write(true).open(large.disk()).unwrap().set_len(mib << 20).unwrap();
    };
    resize(1500);
    build(&large.sandbox, "large", &[]).succeeded();
    let run_of = |image: &str| {
        let images = large.account.owned("images");
        let image = images.iter().find(|one| one["name"] == image).unwrap();
        image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].as_str().unwrap().to_owned()
    };
    large.settings(&[("AWS_UPLOAD_DELTA_BASE", &run_of("large"))]);
    resize(16);
    let small = build(&large.sandbox, "small", &[]);
    large.is_right(&small, 0);
    assert!(small.stderr.contains("it has 2 GiB, and the disk 1 GiB"), "{}", small.stderr);
}

#[test]
fn a_manifest_that_cannot_be_written_is_a_warning_and_leaves_nothing() {
    let Some(server) = Aws::shared() else { return };
    // The call that is refused, and how many of it precede.
    for (operation, nth) in [("StartSnapshot", 2), ("PutSnapshotBlock", 2), ("CompleteSnapshot", 2)]
    {
        let bench = Bench::new(server, &[]);
        bench.change(0, b"changed");
        let rule = json!({"operation": operation, "nth": nth, "count": 1000, "cause": "denied"});
        bench.account.rules(&json!([rule]));
        let run = build(&bench.sandbox, "second", &[]);
        assert_ne!(bench.account.struck(), [0], "{operation}");
        bench.account.rules(&json!([]));
        bench.is_right(&run, 0);
        assert!(run.stderr.contains("the next build has to send"), "{operation}: {}", run.stderr);
        bench.has(2, 1);
    }
}

#[test]
fn a_manifest_ends_with_its_image() {
    let Some(server) = Aws::shared().filter(|_| needs(&["cc"])) else { return };
    let bench = Bench::new(server, &[]);
    // Later than every lease.
    let clock = Clock::new(bench.sandbox.path().join("clock"));
    clock.jump(25 * 3600);
    let sweep = || {
        let mut command =
            bench.sandbox.command(&[&["gc", "--cloud", "--yes"], &CLOUD[..]].concat());
        Run::of(&clock.rules(&mut command).output().unwrap(), None).succeeded();
    };
    let delete = |id: &str, more: &[&str]| {
        let words = [&["images", "delete", id, "--yes"], more, &CLOUD[..]].concat();
        bench.run(&words).succeeded();
    };
    // An image that is replaced takes its manifest along.
    bench.change(0, b"changed");
    let second = build(&bench.sandbox, "first", &["--aws-if-exists", "replace"]);
    bench.is_right(&second, 0);
    bench.has(1, 1);
    delete(&id_of(&second), &[]);
    bench.account.has_only(0);
    let third = build(&bench.sandbox, "third", &[]);
    third.succeeded();
    delete(&id_of(&third), &["--keep-data"]);
    let (disks, manifests) = bench.snapshots();
    assert_eq!((disks.len(), manifests.len()), (1, 1));
    sweep();
    assert_eq!(bench.account.owned("snapshots").len(), 2, "kept data is not swept");
    // What a console deletes leaves a manifest, which is swept.
    let fourth = build(&bench.sandbox, "fourth", &[]);
    fourth.succeeded();
    let image = bench.account.image(&id_of(&fourth), HOME);
    let snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].clone();
    let deregister = json!({"ImageId": id_of(&fourth)});
    bench.account.call("ec2", "DeregisterImage", &deregister, HOME);
    bench.account.call("ec2", "DeleteSnapshot", &json!({"SnapshotId": snapshot}), HOME);
    sweep();
    assert_eq!(bench.account.owned("snapshots").len(), 2);
}

#[test]
fn a_resumed_upload_keeps_its_base_or_begins_again_without_one() {
    let Some(server) = Aws::shared() else { return };
    // What happens after the kill, and how many blocks are sent in all, that of the manifest included.
    let cases: [(&str, Spoil, usize); 4] = [
        ("nothing", |_, _, _| {}, 2 + 2 + 1),
        (
            "the setting is removed",
            |bench, _, _| {
                bench.settings(&[("AWS_UPLOAD_DELTA", "no")]);
            },
            2 + 2 + DATA,
        ),
        (
            "the base is deleted",
            |bench, base, _| {
                let image = bench.account.owned("images")[0]["id"].clone();
                bench.account.call("ec2", "DeregisterImage", &json!({"ImageId": image}), HOME);
                bench.account.call(
                    "ec2",
                    "DeleteSnapshot",
                    &json!({"SnapshotId": base["id"]}),
                    HOME,
                );
            },
            2 + 2 + DATA + 1,
        ),
        (
            "the manifest is deleted",
            |bench, _, manifest| {
                bench.account.call(
                    "ec2",
                    "DeleteSnapshot",
                    &json!({"SnapshotId": manifest["id"]}),
                    HOME,
                );
            },
            2 + 2 + DATA + 1,
        ),
    ];
    for (what, change, sent) in cases {
        let bench = Bench::new(server, &[]);
        bench.change(0, b"changed");
        bench.change(5 * BLOCK, b"changed");
        let (disks, manifests) = bench.snapshots();
        assert!(bench.killed(r#"after:"blocks""#), "{what}");
        change(&bench, &disks[0], &manifests[0]);
        let run = bench.run(&["resume", &bench.first_run().unwrap()]);
        bench.is_right(&run, 0);
        assert!(bench.sent() <= sent, "{what}: {} of {sent}: {}", bench.sent(), run.stderr);
        let (disks, manifests) = bench.snapshots();
        let left = (bench.account.owned("images").len(), disks.len(), manifests.len());
        let expected = match what {
            "nothing" => (2, 2, 2),
            "the setting is removed" => (2, 2, 1),
            "the base is deleted" => (1, 1, 2),
            _ => (2, 2, 1),
        };
        assert_eq!(left, expected, "{what}");
    }
}

#[test]
fn a_base_that_vanishes_in_the_middle_ends_in_a_whole_upload() {
    let Some(server) = Aws::shared() else { return };
    for operation in ["StartSnapshot", "CompleteSnapshot"] {
        let bench = Bench::new(server, &[]);
        bench.change(0, b"changed");
        let (disks, _) = bench.snapshots();
        let image = bench.account.owned("images")[0]["id"].clone();
        // The call is served, or refused, when the base has gone.
        let wait = json!({"operation": operation, "nth": 1, "count": 1, "until": "DeleteSnapshot"});
        let refusal = json!({"operation": "CompleteSnapshot", "nth": 1, "count": 1, "status": 400,
            "code": "ValidationException", "reason": "INVALID_SNAPSHOT_ID"});
        let all = if operation == "StartSnapshot" { json!([wait]) } else { json!([wait, refusal]) };
        bench.account.rules(&all);
        let mut command =
            bench.sandbox.command(&[&BUILD[..], &["--cloud-image-name", "second"]].concat());
        let result = bench.sandbox.path().join("vanished.json");
        command.env("F5_OUTPUT_JSON_FILE", &result);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        until("the call", || bench.account.struck()[0] == 1 || child.try_wait().unwrap().is_some());
        bench.account.call("ec2", "DeregisterImage", &json!({"ImageId": image}), HOME);
        let base = json!({"SnapshotId": disks[0]["id"]});
        bench.account.call("ec2", "DeleteSnapshot", &base, HOME);
        let output = child.wait_with_output().unwrap();
        bench.account.rules(&json!([]));
        let document = fs::read(result).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let run = Run::of(&output, document);
        bench.is_right(&run, 0);
        assert!(run.stderr.contains("the whole disk is sent"), "{operation}: {}", run.stderr);
        bench.has(1, 2);
    }
}
