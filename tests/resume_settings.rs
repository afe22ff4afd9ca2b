//! Tests resuming with other settings, from another directory, and after the image is registered: what was
//! requested is delivered or refused by name, never ignored.

use std::{fs, path::Path, process::Stdio};

use build_image_emulator_alibaba::Stored;
use serde_json::Value;

use crate::harness::{Run, Sandbox, TinyIso, needs, stand_in_qemu};

const WORDS: [&str; 6] = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];

/// A sandbox with a cloud that keeps its state, and a run that is killed at a line of its journal.
struct Killed {
    sandbox: Sandbox,
    state: tempfile::TempDir,
}

impl Killed {
    fn new() -> Self {
        let (sandbox, state) = Sandbox::with_kept_cloud();
        sandbox.disk("disk.raw", 4, 2);
        Self { sandbox, state }
    }

    /// Runs a build that is killed right after the journal records that `step` is done.
    #[track_caller]
    fn after(self, step: &str, more: &[&str]) -> Self {
        self.at(&format!(r#""what":"step_done","step":"{step}""#), more)
    }

    /// Runs a build that is killed right after the first line of its journal with this text.
    #[track_caller]
    fn at(self, text: &str, more: &[&str]) -> Self {
        let mut command = self.sandbox.command(&[&WORDS[..], more].concat());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.env("BUILD_IMAGE_FAILPOINT", format!("after:{text}")).status();
        assert!(status.unwrap().code().is_none(), "the build ended without {text}");
        assert!(self.journal().contains(text));
        self
    }

    fn journal(&self) -> String {
        let runs = fs::read_dir(self.sandbox.path().join("artifacts/runs")).into_iter().flatten();
        let read = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("journal.jsonl"));
        runs.flatten().filter_map(|entry| read(entry).ok()).collect()
    }

    fn id(&self) -> String {
        let output = self.sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        listed["runs"][0]["id"].as_str().unwrap().to_owned()
    }

    /// The image is the disk, and nothing else is left.
    #[track_caller]
    fn is_done(&self, run: &Run) {
        run.succeeded();
        self.sandbox.cloud_has_only(1);
        assert!(!self.sandbox.path().join("artifacts").exists(), "{:?}", self.sandbox.files());
        let exported = self.state.path().join("exported.raw");
        let stored = Stored::open(&self.state.path().join("cloud")).unwrap();
        stored.export(run.member("image_id").as_str().unwrap(), &exported).unwrap();
        let disk = fs::read(self.sandbox.path().join("disk.raw")).unwrap();
        assert!(fs::read(&exported).unwrap() == disk, "the image is another disk");
    }
}

#[test]
fn settings_that_change_what_is_built_are_refused_by_name() {
    let killed = Killed::new().after("upload", &["--cloud-image-name", "one"]);
    let other = killed.sandbox.disk("other.raw", 4, 1);
    for (more, texts) in [
        (&["--cloud-image-name", "two"][..], &["CLOUD_IMAGE_NAME was `one`, now it is `two`"][..]),
        (&["--image-tags", "[{team: x}]"], &["IMAGE_TAGS was not set"]),
        (&["--image-dir", "elsewhere"], &["IMAGE_DIR was not set, now it is `/"]),
        (&["--disk-size", "8MiB"], &["DISK_SIZE was not set, now it is `8388608`"]),
        (&["--disk", other.to_str().unwrap()], &["DISK was `/", "other.raw`"]),
        (&["--no-upload"], &["NO_UPLOAD was not set"]),
    ] {
        let run = killed.sandbox.run(&[&["resume"], more].concat());
        run.failed(2, texts).failed(2, &["cannot be resumed", "hint:"]);
    }
    // The refusals have removed nothing; the same value is not a change.
    let run = killed.sandbox.run(&["resume", "--cloud-image-name", "one"]);
    killed.is_done(&run);
    assert_eq!(run.member("image_name"), "one");
    assert_eq!(run.member("bytes_sent"), 0);
}

#[test]
fn settings_of_an_import_that_was_started_are_refused_by_name() {
    let killed = Killed::new().at(r#"["Platform","CentOS"]"#, &["--alibaba-platform", "CentOS"]);
    for (more, text) in [
        (["--alibaba-platform", "Ubuntu"], "ALIBABA_PLATFORM was `CentOS`; now it is `Ubuntu`"),
        (["--alibaba-license-type", "BYOL"], "ALIBABA_LICENSE_TYPE was not set; now it is `BYOL`"),
        (["--alibaba-resource-group-id", "rg-1"], "ALIBABA_RESOURCE_GROUP_ID was not set"),
        (["--alibaba-boot-mode", "UEFI"], "ALIBABA_BOOT_MODE was not set; now it is `UEFI`"),
    ] {
        let run = killed.sandbox.run(&[&["resume"][..], &more].concat());
        run.failed(2, &[text, "the import was started", "hint:"]);
    }
    let run = killed.sandbox.run(&["resume"]);
    killed.is_done(&run);
    assert_eq!(run.member("bytes_sent"), 0);
}

#[test]
fn settings_that_change_before_the_release_are_used_and_later_ones_are_named() {
    let objects =
        |killed: &Killed| killed.sandbox.emulator.as_ref().unwrap().status()["objects"].clone();
    for step in ["upload", "register", "attest"] {
        let killed = Killed::new().after(step, &[]);
        let regions = ["resume", "--alibaba-image-copy-regions", "[cn-shanghai]"];
        let run = killed.sandbox.run(&regions);
        run.succeeded();
        assert_eq!(run.member("images").as_array().unwrap().len(), 2, "{step}");
        assert_eq!(run.member("bytes_sent"), 0, "{step}");
        killed.sandbox.cloud_has_only(2);
        let killed = Killed::new().after(step, &[]);
        killed.sandbox.run(&["resume", "--alibaba-keep-oss-object", "true"]).succeeded();
        assert_eq!(objects(&killed), 1, "{step}");
        assert!(!killed.sandbox.path().join("artifacts").exists(), "{step}");
        let killed = Killed::new().after(step, &["--alibaba-keep-oss-object", "true"]);
        let run = killed.sandbox.run(&["resume", "--alibaba-keep-oss-object", "false"]);
        killed.is_done(&run);
    }
    let killed = Killed::new().after("register", &[]);
    let run = killed.sandbox.run(&["resume", "--alibaba-platform", "CentOS"]);
    run.failed(2, &["ALIBABA_PLATFORM was `Others Linux`; now it is `CentOS`"]);
    let digest = "0".repeat(64);
    let run = killed.sandbox.run(&["resume", "--disk-sha256", &digest]);
    run.failed(2, &["DISK_SHA256 was not set", "cannot be resumed", "hint:"]);
    killed.is_done(&killed.sandbox.run(&["resume"]));

    let killed = Killed::new().at("products_released", &[]);
    let run = killed.sandbox.run(&["resume", "--image-sig-private-key", "key.pem"]);
    run.failed(2, &["IMAGE_SIG_PRIVATE_KEY was not set", "cannot be resumed", "hint:"]);
    let run = killed.sandbox.run(&["resume", "--alibaba-keep-oss-object", "true"]);
    killed.is_done(&run);
    let warning = "the image is released already; these settings do not change it any more: ALIBABA_KEEP_OSS_OBJECT";
    assert!(run.stderr.contains(warning), "{}", run.stderr);
}

#[test]
fn paths_mean_what_they_meant_where_they_were_typed() {
    let killed = Killed::new().after("check", &[]);
    let (id, base) = (killed.id(), killed.sandbox.path().join("artifacts"));
    let elsewhere = killed.sandbox.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    // Paths typed now are relative to this directory; paths the run was started with are relative to its
    // directory.
    let config = fs::read_to_string(killed.sandbox.path().join("config.yml")).unwrap();
    fs::write(elsewhere.join("new.yml"), config).unwrap();
    let args = ["resume", &id, "--artifacts-dir", base.to_str().unwrap(), "-c", "new.yml"];
    let result = killed.sandbox.path().join("result.json");
    let mut command = killed.sandbox.command(&args);
    command.current_dir(&elsewhere).env("F5_OUTPUT_JSON_FILE", &result);
    let output = command.output().unwrap();
    let document = serde_json::from_slice(&fs::read(&result).unwrap()).unwrap();
    killed.is_done(&Run::of(&output, Some(document)));
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1, "logs go where the run was started");
}

#[test]
fn a_run_whose_working_directory_is_gone_is_resumed_or_removed() {
    for (resume, logged) in [(true, true), (false, true), (true, false), (false, false)] {
        let sandbox = Sandbox::with_cloud();
        let disk = sandbox.disk("disk.raw", 4, 2).display().to_string();
        let path = |name: &str| sandbox.path().join(name).display().to_string();
        let above = sandbox.path().join("above");
        let gone = above.join("gone");
        fs::create_dir_all(&gone).unwrap();
        let (base, log) = (path("kept"), path("build.log"));
        let config = path("config.yml");
        let args = ["--disk", &disk, "-c", &config, "-p", "alibaba", "--artifacts-dir", &base];
        let more = if logged { vec!["--log-file", &log] } else { vec![] };
        let mut command = sandbox.command(&[&args[..], &more].concat());
        command.current_dir(&gone).env("BUILD_IMAGE_FAILPOINT", "after:12");
        assert!(command.status().unwrap().code().is_none());
        fs::remove_dir_all(&above).unwrap();
        // Nothing can be created in its place, not even by root.
        fs::write(&above, "").unwrap();
        if resume {
            let run = sandbox.run(&["resume", "--artifacts-dir", &base]);
            run.succeeded();
            sandbox.cloud_has_only(1);
            let log = run.member("log_file").as_str().unwrap().to_owned();
            assert!(fs::read_to_string(&log).unwrap().contains("INFO"), "{log}");
            assert_eq!(Path::new(&log).starts_with(&base), !logged, "{log}");
        } else {
            sandbox.run(&["gc", "--yes", "--artifacts-dir", &base]).succeeded();
            sandbox.cloud_has_only(0);
        }
        let left =
            fs::read_dir(&base).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        let logs = if resume && !logged { vec!["logs"] } else { vec![] };
        assert_eq!(left.collect::<Vec<_>>(), logs, "{:?}", sandbox.files());
        assert!(!gone.exists());
    }
}

#[test]
fn a_statement_is_written_by_whatever_process_ends_the_run() {
    let provenance = ["--provenance-file", "made/statement.json"];
    for (step, more) in [
        ("upload", &provenance[..]),
        ("register", &provenance),
        // Requested when the image was registered already: the image is created again for its checksum.
        ("register", &[]),
    ] {
        let killed = Killed::new().after(step, more);
        let disk = fs::read(killed.sandbox.path().join("disk.raw")).unwrap();
        let run = killed.sandbox.run(&[&["resume"], &provenance[..]].concat());
        killed.is_done(&run);
        let text = fs::read(killed.sandbox.path().join("made/statement.json")).unwrap();
        let statement: Value = serde_json::from_slice(&text).unwrap();
        let subject = &statement["subject"][0];
        assert_eq!(subject["annotations"]["images"][0], *run.member("image_id"));
        let inputs = statement["predicate"]["buildDefinition"]["resolvedDependencies"].clone();
        let digest = |input: &Value| input["digest"]["sha256"].as_str().unwrap().to_owned();
        let found = inputs.as_array().unwrap().iter().find(|input| input["name"] == "disk");
        assert_eq!(digest(found.unwrap()), sha256(&disk), "{step} {more:?}");
        // The same build without a kill has the same subject.
        let whole = ["--cloud-image-name", "whole", "--provenance-file", "whole.json"];
        killed.sandbox.run(&[&WORDS[..], &whole].concat()).succeeded();
        let text = fs::read(killed.sandbox.path().join("whole.json")).unwrap();
        let uninterrupted: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(digest(subject), digest(&uninterrupted["subject"][0]), "{step} {more:?}");
    }
}

#[test]
fn a_statement_that_cannot_be_written_leaves_the_image_and_is_made_up_for() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 2);
    // The directory can be created; a directory in place of the file is found only when the file is written.
    fs::create_dir_all(sandbox.path().join("made/statement.json/x")).unwrap();
    let args = [&WORDS[..], &["--provenance-file", "made/statement.json"]].concat();
    let run = sandbox.run(&args);
    run.failed(9, &["is registered in the cloud, but its statement was not written", "resume"]);
    let image = run.member("image_id").as_str().unwrap().to_owned();
    assert!(image.starts_with("m-"));
    sandbox.cloud_has_only(1);
    fs::remove_dir_all(sandbox.path().join("made/statement.json")).unwrap();
    let run = sandbox.run(&["resume"]);
    run.succeeded();
    assert_eq!(run.member("image_id"), image.as_str());
    assert!(sandbox.path().join("made/statement.json").is_file());
    sandbox.cloud_has_only(1);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

#[test]
fn a_statement_does_not_name_a_disk_that_took_the_place_of_the_one_that_was_sent() {
    let provenance = ["--provenance-file", "statement.json"];
    for (step, code) in [("register", 9), ("upload", 0)] {
        let killed = Killed::new().after(step, &provenance);
        let other = killed.sandbox.disk("other.raw", 4, 3);
        let disk = killed.sandbox.path().join("disk.raw");
        let modified = fs::metadata(&disk).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_modified(modified).unwrap();
        fs::rename(other, &disk).unwrap();
        let run = killed.sandbox.run(&["resume"]);
        let statement = killed.sandbox.path().join("statement.json");
        if code == 0 {
            // Before the image is registered, the other disk is sent.
            killed.is_done(&run);
            assert!(statement.is_file());
            continue;
        }
        let message = "disk.raw` changed since the image was made from it";
        run.failed(code, &["its statement was not written", message, "hint:"]);
        killed.sandbox.cloud_has_only(1);
        assert!(!statement.exists());
    }
}

#[test]
fn an_iso_that_took_the_place_of_the_installed_one_is_installed() {
    if !needs(&["xorriso", "mkfifo", "dd"]) {
        return;
    }
    let installed = "done before";
    for (change, reused) in [(false, true), (true, false)] {
        let sandbox = Sandbox::new();
        let iso = TinyIso::base().write(&sandbox.path().join("base.iso"));
        stand_in_qemu(&sandbox);
        let args = ["-i", "base.iso", "-m", "ltm", "-b", "1", "--qemu", "./qemu", "-p", "qcow2"];
        let mut command = sandbox.command(&args);
        let trial = r#"after:"what":"step_done","step":"install""#;
        assert!(command.env("BUILD_IMAGE_FAILPOINT", trial).status().unwrap().code().is_none());
        if change {
            fs::remove_file(&iso).unwrap();
            TinyIso::base().with("another", "file").write(&iso);
        }
        let run = sandbox.run(&["resume"]);
        run.succeeded();
        assert_eq!(run.stderr.contains(installed), reused, "{change}: {}", run.stderr);
    }
}

#[test]
fn what_could_not_be_removed_after_the_release_is_removed_by_a_resume() {
    let (sandbox, state) = Sandbox::with_kept_cloud();
    sandbox.disk("disk.raw", 4, 2);
    let emulator = sandbox.emulator.as_ref().unwrap();
    let refuse = r#"[{"operation":"DeleteObject","action":{"status":403,"code":"AccessDenied"}}]"#;
    emulator.set_faults(refuse).unwrap();
    let run = sandbox.run(&WORDS);
    let message = "the image is there, but 1 resource without further use could not be removed";
    run.failed(9, &[message, "left behind: ", "oss_object", "hint: build-image resume"]);
    let image = run.member("image_id").clone();
    assert_eq!(run.member("leftovers").as_array().unwrap().len(), 1);
    assert_eq!(emulator.status()["objects"], 1);
    emulator.set_faults("[]").unwrap();
    let killed = Killed { sandbox, state };
    let run = killed.sandbox.run(&["resume"]);
    assert_eq!(*run.member("image_id"), image);
    killed.is_done(&run);
}

#[test]
fn a_check_that_fails_during_resume_keeps_what_is_there() {
    let killed = Killed::new().after("upload", &[]);
    let emulator = killed.sandbox.emulator.as_ref().unwrap();
    let refuse = r#"[{"operation":"GetCallerIdentity","nth":1,"action":{"status":403,"code":"InvalidAccessKeyId.NotFound"}}]"#;
    emulator.set_faults(refuse).unwrap();
    let run = killed.sandbox.run(&["resume"]);
    run.failed(run.code, &["InvalidAccessKeyId", "kept"]);
    assert_eq!(emulator.status()["objects"], 1, "the upload was kept");
    emulator.set_faults("[]").unwrap();
    let run = killed.sandbox.run(&["resume"]);
    killed.is_done(&run);
    assert_eq!(run.member("bytes_sent"), 0);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
