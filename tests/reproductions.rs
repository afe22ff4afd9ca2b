//! Reproduces defects that were found by hand, where no other test does: an input that is also the output, access
//! control lists on plugins, secrets in the environment of a plugin that is inspected, escape sequences on
//! standard output, a refused build that leaves a run, a download that fills the file system.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::fs::{XattrFlags, setxattr};
use serde_json::Value;

use crate::{
    full_disk::{can_mount, run},
    harness::{Answer, Run, Sandbox, Web, names, plugin_directory},
    plugins_trust::{describes, library, program},
};

/// How the input leads to the file that the build would write.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The input has the name of the output; only where one follows from the other.
    Itself,
    Link,
    HardLink,
    LinkedDirectory,
}

#[test]
fn an_input_that_is_also_the_output_is_refused_and_stays_as_it_is() {
    for args in [
        &["-p", "qcow2", "--package", "none"][..],
        &["-p", "vhd", "--package", "none"],
        &["-p", "vmware"],
        &["-p", "aws", "--no-upload"],
        &["-p", "azure", "--no-upload"],
    ] {
        let tried = Sandbox::new();
        tried.disk("vm.raw", 4, 1);
        tried.run(&[&["--disk", "vm.raw"][..], args].concat()).succeeded();
        let published = names(&tried.path().join("images"));
        let image = published.iter().find_map(|name| name.strip_suffix(".sha256")).unwrap();
        for way in [Way::Itself, Way::Link, Way::HardLink, Way::LinkedDirectory] {
            if matches!(way, Way::Itself) && Path::new(image).file_stem().unwrap() != "vm" {
                continue;
            }
            let sandbox = Sandbox::new();
            fs::create_dir(sandbox.path().join("images")).unwrap();
            let disk = sandbox.disk(&format!("images/{image}"), 4, 1);
            let mut input = sandbox.path().join("vm.raw");
            match way {
                Way::Itself => input.clone_from(&disk),
                Way::Link => symlink(&disk, &input).unwrap(),
                Way::HardLink => fs::hard_link(&disk, &input).unwrap(),
                Way::LinkedDirectory => {
                    symlink("images", sandbox.path().join("also")).unwrap();
                    symlink(Path::new("also").join(image), &input).unwrap();
                }
            }
            let before = fs::read(&disk).unwrap();
            let run = sandbox.run(&[&["--disk", input.to_str().unwrap()][..], args].concat());
            let about = format!("{args:?}, {way:?}: {}", run.stderr);
            assert!((2..=5).contains(&run.code), "{about}");
            assert!(run.stderr.contains(image), "{about}");
            assert!(fs::read(&disk).unwrap() == before, "{about}");
            assert_eq!(names(&sandbox.path().join("images")), [image], "{about}");
            assert!(!sandbox.path().join("artifacts").exists(), "{about}");
        }
    }
}

/// An access control list that lets a user write: `include/uapi/linux/posix_acl_xattr.h`.
fn list_for(user: u32) -> Vec<u8> {
    let none = u32::MAX;
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (0x01_u16, 7_u16, none),
        (0x02, 7, user),
        (0x04, 5, none),
        (0x10, 7, none),
        (0x20, 5, none),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

/// Gives a user the right to write; returns false, with a printed note, where the file system has no access
/// control lists.
fn allow(path: &Path, user: u32) -> bool {
    match setxattr(path, "system.posix_acl_access", &list_for(user), XattrFlags::empty()) {
        Ok(()) => true,
        Err(rustix::io::Errno::NOTSUP) => {
            eprintln!("SKIPPED: {} has no access control lists", path.display());
            false
        }
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

#[test]
fn a_plugin_that_an_access_control_list_lets_others_write_is_refused() {
    for is_directory in [false, true] {
        let sandbox = Sandbox::new();
        let directory = sandbox.path().join("plugins");
        fs::create_dir(&directory).unwrap();
        let name = build_image_plugin_api::plugin_file_name("qcow2");
        let plugin = directory.join(&name);
        fs::copy(plugin_directory().join(&name), &plugin).unwrap();
        let args = ["providers", "inspect", "qcow2", "--provider-dir", "plugins"];
        let inspect = || Run::of(&sandbox.command(&args).output().unwrap(), None);
        inspect().succeeded();
        let path = if is_directory { &directory } else { &plugin };
        if !allow(path, 4242) {
            return;
        }
        inspect().failed(3, &["user id 4242, by its access control list"]);
        if !allow(path, 0) {
            return;
        }
        inspect().succeeded();
    }
}

#[test]
fn a_library_that_is_only_looked_at_sees_no_secret_of_the_environment() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path().join("plugins");
    fs::create_dir(&directory).unwrap();
    let seen = sandbox.path().join("seen");
    let body = format!("if (system(\"/usr/bin/env >>'{}'\")) abort();", seen.display());
    library(&directory, "acme", &body);
    for args in [&["providers", "inspect", "acme"][..], &["providers", "list"]] {
        let mut command = sandbox.command(&[args, &["--provider-dir", "plugins"]].concat());
        command.env("ALIBABA_ACCESS_KEY_SECRET", "env-secret");
        command.env("F5_ALIBABA_ACCESS_KEY_SECRET", "env-secret").output().unwrap();
        let text = fs::read_to_string(&seen).unwrap_or_else(|_| panic!("{args:?}: not opened"));
        assert!(!text.contains("env-secret"), "{args:?}: {text}");
        fs::remove_file(&seen).unwrap();
    }
}

#[test]
fn escape_sequences_of_journals_and_plugins_do_not_reach_standard_output() {
    let sandbox = Sandbox::new();
    let escape = "\u{1b}]0;owned\u{7}\u{1b}[2J";
    let disk = format!("disk{escape}.raw");
    sandbox.disk(&disk, 4, 1);
    let mut build = sandbox.command(&["--disk", &disk, "-p", "qcow2"]);
    build.env("BUILD_IMAGE_FAILPOINT", "after:4").output().unwrap();
    let directory = sandbox.path().join("plugins");
    fs::create_dir(&directory).unwrap();
    program(&directory, "acme", &describes("acme", "").replace("of acme", "harm\\u001b[2Jless"));
    for (args, printed) in [
        (&["runs"][..], "qcow2"),
        (&["providers", "list", "--provider-dir", "plugins"], "acme"),
        (&["providers", "inspect", "acme", "--provider-dir", "plugins"], "acme"),
    ] {
        let run = Run::of(&sandbox.command(args).output().unwrap(), None);
        run.succeeded();
        assert!(run.stdout.contains(printed), "{args:?}: {}", run.stdout);
        let controls = |letter: char| letter.is_control() && letter != '\n';
        assert!(!run.stdout.contains(controls), "{args:?}: {:?}", run.stdout);
    }
    // The journal does contain it.
    let output = sandbox.command(&["runs", "--json"]).output().unwrap();
    let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1);
    let journals = sandbox.files().into_iter().filter(|name| name.ends_with("journal.jsonl"));
    let journals: Vec<PathBuf> = journals.map(|name| sandbox.path().join(name)).collect();
    let text = fs::read_to_string(&journals[0]).unwrap();
    assert!(text.contains("\\u001b"), "{text}");
}

#[test]
fn a_build_that_keeps_its_files_and_is_refused_by_the_check_leaves_no_run() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 1);
    sandbox.write("config.yml", &sandbox.config(&[("ALIBABA_BUCKET", "absent")]));
    let run = sandbox.run(&["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--reuse"]);
    run.failed(6, &["NoSuchBucket"]);
    let output = sandbox.command(&["runs", "--json"]).output().unwrap();
    let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(runs["runs"], Value::Array(Vec::new()));
    assert!(!sandbox.path().join("artifacts/runs").exists(), "{:?}", sandbox.files());
    sandbox.cloud_has_only(0);
}

#[test]
fn a_download_of_unknown_length_leaves_room_for_others() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    // It would fit: 48 MiB of 96 MiB. 64 MiB are left to other programs.
    let web = Web::start(|request| Answer::file(request, &vec![1; 48 << 20]).chunked());
    let url = web.url("/d.raw");
    let args = ["--disk", &url, "-p", "qcow2", "--artifacts-dir", "small/builds"];
    let (run, left) = run(&sandbox, "96m", &args);
    run.failed(5, &["the server does not say how many there are", "set ARTIFACTS_DIR"]);
    assert_eq!(left, [""; 0]);
}
