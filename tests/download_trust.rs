//! Checks when downloads of earlier builds are trusted, how pipes in place of files are handled, and the warnings
//! about insecure choices.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::harness::{
    Answer, Run, Sandbox, TinyIso, Web, needs, plugin_directory, stand_in_qemu, tool,
};

/// The disk on the server, and one of the same length that an attacker would substitute.
fn disks() -> (Vec<u8>, Vec<u8>) {
    let sandbox = Sandbox::new();
    let real = fs::read(sandbox.disk("x", 4, 3)).unwrap();
    let mut evil = real.clone();
    evil[1 << 20] ^= 1;
    (real, evil)
}

/// Builds the disk at the URL and keeps the download.
fn build(sandbox: &Sandbox, url: &str) -> Run {
    sandbox.run(&["--disk", url, "-p", "qcow2", "--reuse"])
}

/// The directory of a URL's download.
fn slot(sandbox: &Sandbox, url: &str) -> PathBuf {
    let digest = Sha256::digest(url);
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    sandbox.path().join("artifacts/downloads").join(name)
}

#[test]
fn a_download_that_was_changed_or_planted_is_not_used() {
    let (real, evil) = disks();
    let content = real.clone();
    let web = Web::start(move |request| Answer::file(request, &content));
    let url = web.url("/disk.raw");
    let sandbox = Sandbox::new();
    build(&sandbox, &url).succeeded();
    let directory = slot(&sandbox, &url);
    let (file, about) = (directory.join("disk.raw"), directory.join("about.json"));
    assert!(fs::read(&file).unwrap() == real);
    // The content differs, although its length is right and the server does not detect it.
    fs::write(&file, &evil).unwrap();
    let again = build(&sandbox, &url);
    again.succeeded();
    assert!(again.stderr.contains("was changed here; fetching it again"), "{}", again.stderr);
    assert!(fs::read(&file).unwrap() == real);
    // Also where the description matches: it belongs to no user, or to another one.
    let text = fs::read_to_string(&about).unwrap();
    let digest = |content: &[u8]| -> String {
        Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    assert!(text.contains(&digest(&real)));
    fs::write(&file, &evil).unwrap();
    fs::write(&about, text.replace(&digest(&real), &digest(&evil))).unwrap();
    let again = build(&sandbox, &url);
    again.succeeded();
    assert!(again.stderr.contains("is not trusted: it is not signed"), "{}", again.stderr);
    assert!(fs::read(&file).unwrap() == real);
    let unchanged = build(&sandbox, &url);
    assert!(unchanged.stderr.contains("has not changed"), "{}", unchanged.stderr);
    // A directory of another user is not even written to.
    if fs::metadata(sandbox.path()).unwrap().uid() == 0 {
        lchown(&directory, Some(4242), Some(4242)).unwrap();
        let run = build(&sandbox, &url);
        run.failed(5, &["download is not used", "belongs to user id 4242", "ARTIFACTS_DIR"]);
    }
}

/// A pipe without a writer.
fn pipe(path: &Path) {
    tool(path.parent().unwrap(), &["mkfifo", path.to_str().unwrap()]);
}

#[test]
fn pipes_in_the_place_of_plugins_sums_and_journals_make_nothing_wait() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path().join("plugins");
    fs::create_dir(&directory).unwrap();
    pipe(&directory.join(build_image_plugin_api::plugin_file_name("pipe")));
    let sound = build_image_plugin_api::plugin_file_name("qcow2");
    fs::copy(plugin_directory().join(&sound), directory.join(&sound)).unwrap();
    pipe(&directory.join(format!("{sound}.sha256")));
    let runs = sandbox.path().join("artifacts/runs/r");
    fs::create_dir_all(&runs).unwrap();
    pipe(&runs.join("journal.jsonl"));
    let command = |args: &[&str]| Run::of(&sandbox.command(args).output().unwrap(), None);
    let listed = command(&["providers", "list", "--provider-dir", directory.to_str().unwrap()]);
    assert!(listed.stdout.contains("it is not a regular file"), "{}", listed.stdout);
    assert!(listed.stdout.contains(".sha256` cannot be read"), "{}", listed.stdout);
    command(&["runs"]).succeeded();
    command(&["gc", "--yes"]).succeeded();
    command(&["resume", "r"]).failed(2, &["cannot find run `r`", "not a regular file"]);
}

#[test]
fn a_provider_that_is_only_described_sees_no_secret() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path().join("plugins");
    fs::create_dir(&directory).unwrap();
    let seen = sandbox.path().join("seen");
    let program = directory.join("build-image-provider-acme");
    fs::write(&program, format!("#!/bin/sh\nenv >> '{}'\n", seen.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for args in [&["providers", "inspect", "acme"][..], &["providers", "list"]] {
        let mut command = sandbox.command(args);
        command.args(["--provider-dir", directory.to_str().unwrap()]);
        command.env("HTTPS_PROXY", "http://u:hunter22@proxy").env("F5_ACME_TOKEN", "hunter22");
        command.env("ACME_TOKEN", "hunter22").output().unwrap();
    }
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("PATH=") && !seen.contains("hunter22"), "{seen}");
}

#[test]
fn insecure_choices_are_warned_of_every_time() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 1);
    let config = sandbox.path().join("config.yml");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(sandbox.path(), 0o755);
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
    for (bits, warning) in [
        (0o644, "holds secrets, and others may read it"),
        (0o644, "holds secrets, and others may read it"),
        (0o606, "holds secrets, and others may change it"),
        (0o600, ""),
    ] {
        mode(&config, bits);
        let run = sandbox.run(&args);
        run.succeeded();
        assert_eq!(run.stderr.contains("holds secrets"), !warning.is_empty(), "{}", run.stderr);
        assert!(run.stderr.contains(warning), "{}", run.stderr);
    }
    // Where no other user has access, the mode of the file does not matter.
    mode(&config, 0o644);
    mode(sandbox.path(), 0o700);
    assert!(!sandbox.run(&args).stderr.contains("holds secrets"));
    let registry = ["--image-registration-url", "https://127.0.0.1:1/images"];
    let once = ["--image-registration-retry-count", "1", "--ignore-download-url-tls"];
    let run = sandbox.run(&[&args[..], &registry, &once].concat());
    let warning = "IGNORE_DOWNLOAD_URL_TLS is on: IMAGE_REGISTRATION_URL is sent to whoever";
    assert!(run.stderr.contains(warning), "{}", run.stderr);
}

/// The owner of the files that are not trusted.
const OTHER: u32 = 4242;

/// Whether tests may change the owner of files.
fn is_root() -> bool {
    Sandbox::new().path().metadata().unwrap().uid() == 0
}

#[test]
fn a_disk_of_another_user_is_not_used_again() {
    if !is_root() || !needs(&["xorriso"]) {
        return;
    }
    let sandbox = Sandbox::new();
    TinyIso::base().write(&sandbox.path().join("base.iso"));
    stand_in_qemu(&sandbox);
    let args =
        ["-i", "base.iso", "-m", "ltm", "-b", "1", "-p", "qcow2", "--qemu", "./qemu", "--reuse"];
    sandbox.run(&args).succeeded();
    let again = "the same was installed before";
    let unchanged = sandbox.run(&args);
    unchanged.succeeded();
    assert!(unchanged.stderr.contains(again), "{}", unchanged.stderr);
    let record = find(&sandbox, "reuse.json");
    let directory = record.parent().unwrap().to_owned();
    let disk = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let mut disk = disk.filter(|path| path.extension().is_some_and(|ending| ending == "raw"));
    for path in [record, disk.next().unwrap()] {
        lchown(&path, Some(OTHER), Some(OTHER)).unwrap();
        let run = sandbox.run(&args);
        run.succeeded();
        for part in ["is not trusted, installing again", "belongs to user id 4242"] {
            assert!(run.stderr.contains(part), "`{part}` is missing in\n{}", run.stderr);
        }
        assert!(!run.stderr.contains(again), "{}", run.stderr);
        // What exists now belongs to this user.
        assert_eq!(path.metadata().unwrap().uid(), 0);
        assert!(sandbox.run(&args).stderr.contains(again));
    }
    // Others may write to a directory on the path.
    let above = directory.parent().unwrap();
    fs::set_permissions(above, fs::Permissions::from_mode(0o777)).unwrap();
    let run = sandbox.run(&args);
    run.succeeded();
    assert!(run.stderr.contains("may be written by everybody"), "{}", run.stderr);
    fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap();
    // What is installed in the directory of another user belongs to that user.
    lchown(&directory, Some(OTHER), Some(OTHER)).unwrap();
    sandbox.run(&args).failed(5, &["belongs to user id 4242", "ARTIFACTS_DIR"]);
}

/// The only file of this name below the artifacts.
fn find(sandbox: &Sandbox, name: &str) -> PathBuf {
    let found = sandbox.files().into_iter().find(|path| path.ends_with(name));
    sandbox.path().join(found.unwrap_or_else(|| panic!("there is no {name}")))
}

#[test]
fn a_lock_file_of_another_user_locks_nothing() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    sandbox.write("c/config.yml", "PACKAGE: none\n");
    let args = ["--disk", "disk.raw", "-p", "qcow2", "-c", "c/config.yml"];
    let lock = ["providers", "lock", "-c", "c/config.yml"];
    Run::of(&sandbox.command(&lock).output().unwrap(), None).succeeded();
    sandbox.run(&args).succeeded();
    let file = sandbox.path().join("c/build-image.lock");
    for path in [file.as_path(), file.parent().unwrap()] {
        lchown(path, Some(OTHER), Some(OTHER)).unwrap();
        let run = sandbox.run(&args);
        run.failed(3, &["the lock file `", "is not used", "belongs to user id 4242", "hint:"]);
        lchown(path, Some(0), Some(0)).unwrap();
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    sandbox.run(&args).failed(3, &["is not used", "may be written by everybody", "chmod o-w"]);
}

#[test]
fn logs_are_written_through_no_link_of_another_user() {
    if !is_root() {
        return;
    }
    for what in ["the directory", "the log's links"] {
        let sandbox = Sandbox::new();
        sandbox.disk("disk.raw", 4, 1);
        let args = ["--disk", "disk.raw", "-p", "qcow2"];
        let precious = sandbox.write("precious/latest", "precious");
        let logs = sandbox.path().join("logs");
        let link = if what == "the directory" {
            logs.clone()
        } else {
            fs::create_dir(&logs).unwrap();
            fs::set_permissions(&logs, fs::Permissions::from_mode(0o1777)).unwrap();
            logs.join("latest")
        };
        let target = if what == "the directory" { precious.parent().unwrap() } else { &precious };
        std::os::unix::fs::symlink(target, &link).unwrap();
        lchown(&link, Some(OTHER), Some(OTHER)).unwrap();
        let run = sandbox.run(&args);
        if what == "the directory" {
            run.failed(2, &["cannot write the log file", "belongs to user id 4242"]);
        } else {
            run.succeeded();
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert_eq!(fs::read_dir(precious.parent().unwrap()).unwrap().count(), 1);
    }
}
