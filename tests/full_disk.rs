//! Fills file systems for real: a few MiB of memory that only the program under test sees. Each failure is one
//! clear error with the right exit code, and nothing half-written.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::harness::{Answer, Iso, Run, Sandbox, TinyIso, Turn, Web, needs, needs_qemu, tool};

/// Mounts `small`, runs the program, and lists in `left` the files that the file system holds afterwards.
const SCRIPT: &str = r#"
mount -t tmpfs -o size="$1" none small || exit 99
shift
"$@"
code=$?
(cd small && find . -type f | LC_ALL=C sort) >left || exit 98
exit $code
"#;

/// Whether file systems can be mounted here by a user who is root only in a user namespace.
pub(crate) fn can_mount() -> bool {
    if !needs(&["unshare", "mount"]) {
        return false;
    }
    let tried = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"])
        .stderr(Stdio::null())
        .status();
    let can = tried.is_ok_and(|status| status.success());
    if !can {
        eprintln!("SKIPPED: no file system can be mounted here, so none is filled");
    }
    can
}

/// Runs the program where `small` is a file system of this size; returns its output and the files left there.
pub(crate) fn run(sandbox: &Sandbox, size: &str, args: &[&str]) -> (Run, Vec<String>) {
    let small = sandbox.path().join("small");
    fs::create_dir_all(&small).unwrap();
    let inner = sandbox.command(args);
    let mut outer = Command::new("unshare");
    outer.args(["-rm", "sh", "-c", SCRIPT, "sh", size]);
    outer.arg(inner.get_program()).args(inner.get_args()).current_dir(sandbox.path());
    outer.env_clear().stdin(Stdio::null());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let run = Run::of(&outer.output().unwrap(), None);
    assert!(run.code < 98, "the script itself failed: {}", run.stderr);
    let left = fs::read_to_string(sandbox.path().join("left")).unwrap();
    (run, left.lines().map(str::to_owned).collect())
}

/// A qcow2 file that is much smaller than its content: 64 MiB in a few hundred KiB.
fn compressed(sandbox: &Sandbox) {
    fs::write(sandbox.path().join("plain"), vec![b'A'; 64 << 20]).unwrap();
    tool(sandbox.path(), &["qemu-img", "convert", "-c", "-O", "qcow2", "plain", "d.qcow2"]);
    fs::remove_file(sandbox.path().join("plain")).unwrap();
}

const SPACE: &str = "No space left on device";

#[test]
fn an_image_that_does_not_fit_is_not_half_published() {
    if !can_mount() || !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    compressed(&sandbox);
    let args = ["--disk", "d.qcow2", "-p", "qcow2", "--package", "none", "--image-dir"];
    let (run, left) = run(&sandbox, "8m", &[&args[..], &["small/images"]].concat());
    run.failed(5, &["cannot write", "small/images/", SPACE, "hint: free some space", "IMAGE_DIR"]);
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_download_of_unknown_length_that_does_not_fit_leaves_nothing() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let web = Web::start(|request| Answer::file(request, &vec![1; 32 << 20]).chunked());
    let url = web.url("/d.raw");
    let args = ["--disk", &url, "-p", "qcow2", "--artifacts-dir", "small/builds"];
    let (run, left) = run(&sandbox, "8m", &args);
    run.failed(5, &["cannot write", "small/builds/downloads/", SPACE, "set ARTIFACTS_DIR"]);
    assert_eq!(left, [""; 0]);
    assert_eq!(web.requests().len(), 1, "it is not tried again");
}

#[test]
fn a_packed_disk_that_does_not_fit_leaves_nothing() {
    if !can_mount() || !needs(&["xz"]) {
        return;
    }
    let sandbox = Sandbox::new();
    fs::write(sandbox.path().join("d.raw"), vec![b'A'; 64 << 20]).unwrap();
    tool(sandbox.path(), &["xz", "-0", "d.raw"]);
    let args = ["--disk", "d.raw.xz", "-p", "qcow2", "--artifacts-dir", "small/builds"];
    // 256 MiB are left to other programs.
    let (run, left) = run(&sandbox, "290m", &args);
    run.failed(5, &["free space of", "does not hold the content of", "d.raw.xz", "ARTIFACTS_DIR"]);
    assert_eq!(left, [""; 0]);
}

/// Builds an ISO whose disk is on a small file system, regardless of the space that is free there.
const INSTALL: [&str; 10] = [
    "-p",
    "qcow2",
    "-m",
    "ltm",
    "-b",
    "1",
    "--artifacts-dir",
    "small/builds",
    "--min-free-disk-storage-mb",
    "0",
];

/// All that a failed installation leaves: its records, and the guest's log.
fn only_records(left: &[String]) {
    let log = |name: &&String| name.ends_with(".log");
    let record = |name: &&String| name.ends_with(".json") || name.ends_with("/files.txt");
    let other: Vec<_> = left.iter().filter(|name| !log(name) && !record(name)).collect();
    assert!(other.is_empty(), "{other:?}");
}

#[test]
fn an_installer_that_does_not_fit_is_not_started() {
    if !can_mount() || !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let kernel = "no kernel ".repeat(900_000);
    let iso = TinyIso::base().with("isolinux/vmlinuz", &kernel);
    iso.write(&sandbox.path().join("x.iso"));
    let (run, left) = run(&sandbox, "4m", &[&["-i", "x.iso"], &INSTALL[..]].concat());
    run.failed(5, &["cannot write", "vmlinuz", SPACE, "set ARTIFACTS_DIR"]);
    only_records(&left);
}

/// Puts files of an earlier build into the full file system, and lists the checksums of its files before and
/// after.
const EARLIER_SCRIPT: &str = r#"
mount -t tmpfs -o size="$1" none small || exit 99
mkdir small/images
for name in $2; do printf {} >"small/$name" || exit 99; done
shift 2
(cd small && find . -type f -exec sha256sum {} + | LC_ALL=C sort) >before || exit 98
"$@"
code=$?
(cd small && find . -type f -exec sha256sum {} + | LC_ALL=C sort) >after || exit 98
(cd small/images && for sum in *.sha256; do sha256sum --quiet -c "$sum"; done) >sums 2>&1 && echo valid >sums
exit $code
"#;

#[test]
fn a_disk_of_any_size_holds_the_whole_new_set_or_the_earlier_one() {
    if !can_mount() || !needs(&["sha256sum"]) {
        return;
    }
    let (mut fits, mut full) = (0, 0);
    for (platform, image) in [
        (&["qcow2", "--package", "none"][..], "disk.qcow2"),
        (&["vhd"], "disk.vhd.zip"),
        (&["vmware"], "disk.vmware.ova"),
        (&["azure", "--no-upload"], "disk.azure.vhd.tar.gz"),
        (&["alibaba", "-c", "config.yml"], "disk.alibaba.tar.gz"),
    ] {
        let is_cloud = platform[0] == "alibaba";
        let names = ["", ".md5", ".sha256", ".384.sig"].map(|end| format!("images/{image}{end}"));
        let names = [names.join(" "), "statement.json".to_owned()].join(" ");
        for kib in (64..2200).step_by(178) {
            let sandbox = if is_cloud { Sandbox::with_cloud() } else { Sandbox::new() };
            sandbox.disk("disk.raw", 2, 1);
            fs::create_dir(sandbox.path().join("small")).unwrap();
            let own = ["--disk", "disk.raw", "--image-dir", "small/images", "-p"];
            let more = ["--provenance-file", "small/statement.json"];
            let inner = sandbox.command(&[&own[..], platform, &more].concat());
            let mut outer = Command::new("unshare");
            outer.args(["-rm", "sh", "-c", EARLIER_SCRIPT, "sh", &format!("{kib}k"), &names]);
            outer.arg(inner.get_program()).args(inner.get_args()).current_dir(sandbox.path());
            outer.env_clear().stdin(Stdio::null());
            outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let run = Run::of(&outer.output().unwrap(), None);
            let text = |name: &str| fs::read_to_string(sandbox.path().join(name)).unwrap();
            let case = format!("{platform:?}, {kib} KiB, exit {}: {}", run.code, run.stderr);
            assert!(run.code < 98, "the script itself failed: {case}");
            // A build into a cloud may lack only the statement: the image stays then.
            let is_there = run.code == 0 || is_cloud && run.code == 9;
            if is_cloud {
                sandbox.cloud_has_only(u64::from(is_there));
            }
            if is_there {
                fits += 1;
                assert_eq!(text("sums"), "valid\n", "{case}");
                assert!(!text("after").contains(".384.sig"), "{case}");
                continue;
            }
            full += 1;
            run.failed(5, &["hint:"]);
            assert_eq!(text("after"), text("before"), "{case}");
            assert!(!sandbox.path().join("artifacts").exists(), "{case}: {:?}", sandbox.files());
        }
    }
    println!("{fits} builds had room, {full} had not");
    assert!(fits >= 8 && full >= 12, "{fits} {full}");
}

#[test]
fn a_guest_whose_disk_does_not_fit_is_stopped() {
    if !can_mount() || !needs_qemu() {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    let iso = Iso::of("ok");
    let (run, left) = run(&sandbox, "80m", &[&["-i", iso.word()], &INSTALL[..]].concat());
    run.failed(5, &["the guest was stopped, only", "bytes are free for its disk", "hint:"]);
    only_records(&left);
    assert!(!sandbox.path().join("images").exists(), "it was made by this build");
}
