//! Checks `gc --cloud` with the emulated Alibaba Cloud after kills at every line of a journal, from a host without any file:
//! nothing of the killed builds is left, and what others have there is unchanged, also beside a build that is at work.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use build_image_emulator_alibaba::{Account, Config};

use crate::harness::{Clock, Run, Sandbox, needs, until};

const CLOUD: [&str; 2] = ["-p", "alibaba"];
/// Least number of kills.
const KILLS: usize = 30;

/// Kills a build at a point of its journal, and removes every file of its host; whether it came that far.
fn killed(sandbox: &Sandbox, config: &str, point: &str) -> bool {
    let name = format!("lost-{}", point.replace(':', "-"));
    let words = ["--disk", "disk.raw", "--cloud-image-name", &name, "-c", config];
    let mut build = sandbox.command(&[&words[..], &CLOUD].concat());
    build.stdout(Stdio::null()).stderr(Stdio::null()).env("BUILD_IMAGE_FAILPOINT", point);
    let was_killed = build.status().unwrap().code().is_none();
    for directory in ["artifacts", "logs"] {
        let _ = fs::remove_dir_all(sandbox.path().join(directory));
    }
    was_killed
}

#[test]
fn what_lost_hosts_left_is_removed_beside_what_others_have() {
    let other = Account { id: "other-id".into(), secret: "other-secret".into(), token: None };
    let sandbox =
        Sandbox::with_cloud_of(Config { other_accounts: vec![other], ..Config::default() });
    let emulator = sandbox.emulator.as_ref().unwrap();
    let config = |name: &str, changes: &[(&str, &str)]| {
        sandbox.write(name, &sandbox.config(changes));
    };
    config("config.yml", &[]);
    config("team.yml", &[("ALIBABA_OSS_PREFIX", "team/")]);
    config("keep.yml", &[("ALIBABA_KEEP_OSS_OBJECT", "true")]);
    let keys =
        [("ALIBABA_ACCESS_KEY_ID", "other-id"), ("ALIBABA_ACCESS_KEY_SECRET", "other-secret")];
    config("other.yml", &keys);
    sandbox.disk("disk.raw", 24, 8);
    // What must stay: an image with its object, and objects and uploads of the same names below another prefix.
    let kept = ["--disk", "disk.raw", "--cloud-image-name", "kept", "-c", "keep.yml"];
    sandbox.run(&[&kept[..], &CLOUD].concat()).succeeded();
    assert!(killed(&sandbox, "team.yml", "after:resource_created"));
    assert!(killed(&sandbox, "team.yml", "after:14"));
    let before = emulator.status();
    let mut kills = 0;
    for number in 1.. {
        let points = ["before", "after"].map(|when| format!("{when}:{number}"));
        let all = points.iter().filter(|point| killed(&sandbox, "config.yml", point)).count();
        kills += all;
        if all == 0 {
            break;
        }
    }
    assert!(kills >= KILLS, "{kills}");
    let left = emulator.status();
    assert!(left["open_uploads"].as_u64() > before["open_uploads"].as_u64(), "{left}");
    let clock = Clock::new(sandbox.path().join("clock"));
    clock.jump(25 * 3600);
    let sweep = |config: &str| {
        let words = ["gc", "--cloud", "--yes", "-c", config];
        let mut command = sandbox.command(&[&words[..], &CLOUD].concat());
        Run::of(&clock.rules(&mut command).output().unwrap(), None)
    };
    // Another account does not see them; its bucket is not this one.
    let other = sweep("other.yml");
    assert_ne!(other.code, 0, "{}", other.stdout);
    assert!(other.stderr.contains("nothing was removed"), "{}", other.stderr);
    for kind in ["objects", "open_uploads", "images", "snapshots"] {
        assert_eq!(emulator.status()[kind], left[kind], "{kind}");
    }
    sweep("config.yml").succeeded();
    let after = emulator.status();
    for kind in ["objects", "open_uploads", "parts"] {
        assert_eq!(after[kind], before[kind], "{kind}: {after} instead of {before}");
    }
    // Complete images stay: they are deliverables, and other commands delete them.
    assert!(after["images"].as_u64() >= before["images"].as_u64(), "{after}");
    assert_eq!(after["images"], after["snapshots"], "{after}");
    let again = sweep("config.yml");
    again.succeeded();
    assert!(again.stdout.contains("no unfinished build left anything"), "{}", again.stdout);
    println!("{kills} kills");
}

/// Starts a build whose parts are stored slowly, and waits until it has begun its upload.
fn uploading(sandbox: &Sandbox, name: &str) -> Child {
    let emulator = sandbox.emulator.as_ref().unwrap();
    emulator.set_faults(r#"[{"operation":"UploadPart","action":{"stall_ms":200}}]"#).unwrap();
    let before = emulator.status()["open_uploads"].as_u64();
    let words = ["--disk", "disk.raw", "--cloud-image-name", name, "-c", "config.yml"];
    let mut build = sandbox.command(&[&words[..], &CLOUD].concat());
    let child = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the upload", || emulator.status()["open_uploads"].as_u64() > before);
    child
}

/// Collects from another machine, which has no file of any build.
fn collecting(sandbox: &Sandbox, elsewhere: &Path) -> Command {
    let config = sandbox.path().join("config.yml");
    let words = ["gc", "--cloud", "--yes", "--older-than", "0s", "-c", config.to_str().unwrap()];
    let mut gc = sandbox.command(&[&words[..], &CLOUD].concat());
    gc.current_dir(elsewhere).env("HOME", elsewhere).env("XDG_STATE_HOME", elsewhere);
    gc
}

#[test]
fn what_a_build_at_work_has_there_stays_until_its_claim_ends() {
    if !needs(&["cc"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    let slow = [("ALIBABA_UPLOAD_PART_SIZE", "1MiB"), ("ALIBABA_THREAD_COUNT", "1")];
    sandbox.write("config.yml", &sandbox.config(&slow));
    sandbox.disk("disk.raw", 24, 8);
    let elsewhere = tempfile::tempdir().unwrap();
    let clock = Clock::new(elsewhere.path().join("clock"));
    let collect = |ahead: i64| {
        clock.jump(ahead);
        let mut gc = collecting(&sandbox, elsewhere.path());
        let run = Run::of(&clock.rules(&mut gc).output().unwrap(), None);
        run.succeeded();
        run
    };
    let mut live = uploading(&sandbox, "live");
    let mut times = 0;
    while live.try_wait().unwrap().is_none() {
        let run = collect(0);
        times += usize::from(run.stdout.contains("a build is at work with it"));
    }
    assert!(times > 0 && live.wait().unwrap().success(), "collected {times} times beside it");
    sandbox.cloud_has_only(1);
    let mut killed = uploading(&sandbox, "killed");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let emulator = sandbox.emulator.as_ref().unwrap();
    let left = emulator.status();
    for ahead in [0, 1800] {
        let run = collect(ahead);
        assert!(run.stdout.contains("a build is at work with it"), "{ahead}: {}", run.stdout);
        assert_eq!(emulator.status()["open_uploads"], left["open_uploads"], "{ahead}");
    }
    collect(2 * 3600);
    sandbox.cloud_has_only(1);
}
