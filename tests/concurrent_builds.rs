//! Runs builds of one name in one IMAGE_DIR at the same time: each either succeeds or names the other build.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use crate::harness::{Sandbox, names, needs, tool, until};

/// Number of concurrent builds.
const BUILDS: u64 = 8;
/// Suffixes of the files that belong to an image.
const COMPANIONS: [&str; 3] = [".md5", ".sha256", ".upload.sh"];

/// Starts a build of each disk at once and waits for all of them.
fn build_all(sandbox: &Sandbox, disks: &[PathBuf], args: &[&str]) -> Vec<Output> {
    let start = |disk: &PathBuf| {
        let directory = disk.parent().unwrap();
        let own = ["--disk", "disk.raw", "--image-dir", "../images"];
        let mut command: Command = sandbox.command(&[&own[..], args].concat());
        command.current_dir(directory).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let children: Vec<_> = disks.iter().map(start).collect();
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

/// The disk in a published file, unpacked into `directory`, and its format as qemu names it.
pub(crate) fn unpacked(image: &Path, directory: &Path) -> (PathBuf, &'static str) {
    let name = image.to_str().unwrap();
    fs::create_dir(directory).unwrap();
    if name.ends_with(".zip") {
        tool(directory, &["unzip", "-q", name]);
    } else if name.ends_with(".ova") || name.ends_with(".tar.gz") {
        tool(directory, &["tar", "-xf", name]);
    } else {
        fs::copy(image, directory.join(image.file_name().unwrap())).unwrap();
    }
    let formats = [("qcow2", "qcow2"), ("vhd", "vpc"), ("vmdk", "vmdk"), ("raw", "raw")];
    let found = names(directory).into_iter().find_map(|name| {
        let (_, format) = formats.iter().find(|(ending, _)| name.ends_with(ending))?;
        Some((directory.join(name), *format))
    });
    found.unwrap_or_else(|| panic!("no disk in {name}: {:?}", names(directory)))
}

/// Whether qemu finds the disk in an image equal to a raw disk.
pub(crate) fn is_equal(raw: &Path, (disk, format): &(PathBuf, &str)) -> bool {
    let mut command = Command::new("qemu-img");
    command.args(["compare", "-q", "-f", "raw", "-F", format]).arg(raw).arg(disk);
    command.status().unwrap().success()
}

/// Checks that the set of files in IMAGE_DIR is complete and comes from one of the builds that succeeded.
#[track_caller]
fn judge(sandbox: &Sandbox, disks: &[PathBuf], outputs: &[Output], args: &[&str]) {
    let mut succeeded = Vec::new();
    for (disk, output) in disks.iter().zip(outputs) {
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            succeeded.push(disk);
        } else {
            assert!(errors.contains("error: build `"), "{args:?}: {errors}");
            assert!(errors.contains("is writing `disk"), "{args:?}: {errors}");
        }
    }
    assert!(!succeeded.is_empty(), "{args:?}: all were refused");
    let images = sandbox.path().join("images");
    let all = names(&images);
    let is_image = |name: &&String| !COMPANIONS.iter().any(|ending| name.ends_with(ending));
    let found: Vec<&String> = all.iter().filter(is_image).collect();
    let [image] = found[..] else { panic!("{args:?}: {all:?}") };
    for (check, ending) in [("md5sum", ".md5"), ("sha256sum", ".sha256")] {
        tool(&images, &[check, "--quiet", "-c", &format!("{image}{ending}")]);
    }
    let disk = unpacked(&images.join(image), &sandbox.path().join("unpacked"));
    let right = succeeded.iter().any(|raw| is_equal(raw, &disk));
    assert!(right, "{args:?}: the image is none of the {} that succeeded", succeeded.len());
    let left: Vec<String> =
        sandbox.files().into_iter().filter(|name| name.contains("artifacts")).collect();
    assert!(left.is_empty(), "{args:?}: {left:?}");
}

#[test]
fn builds_of_one_name_at_once_are_right_or_name_the_other_one() {
    if !needs(&["qemu-img", "tar", "unzip", "md5sum", "sha256sum"]) {
        return;
    }
    for args in [
        &["-p", "qcow2", "--package", "none"][..],
        &["-p", "vhd"],
        &["-p", "vmware"],
        &["-p", "aws", "--no-upload"],
        &["-p", "azure", "--no-upload"],
        // This cloud accepts whole GiB only.
        &["-p", "gce", "--no-upload", "--disk-size", "1GiB"],
    ] {
        let sandbox = Sandbox::new();
        // Equal in name and length; the contents differ.
        let disk = |number: u64| {
            fs::create_dir(sandbox.path().join(format!("{number}"))).unwrap();
            sandbox.disk(&format!("{number}/disk.raw"), 24, 2 * number + 1)
        };
        let disks: Vec<PathBuf> = (0..BUILDS).map(disk).collect();
        // An older image of this name is replaced as a whole.
        build_all(&sandbox, &disks[..1], args);
        let outputs = build_all(&sandbox, &disks, args);
        judge(&sandbox, &disks, &outputs, args);
    }
}

#[test]
fn a_packed_disk_is_not_unpacked_while_another_build_writes_its_image() {
    if !needs(&["gzip"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 8, 3);
    tool(sandbox.path(), &["gzip", "-k", "disk.raw"]);
    let emulator = sandbox.emulator.as_ref().unwrap();
    let part = r#"[{"operation":"UploadPart","action":{"stall_ms":600000}}]"#;
    emulator.set_faults(part).unwrap();
    let args = ["-c", "config.yml", "-p", "alibaba", "--image-dir", "images", "--disk"];
    let first = [&args[..], &["disk.raw"]].concat();
    let mut first = sandbox.command(&first).stdout(Stdio::null()).spawn().unwrap();
    until("its upload", || emulator.wait_for_fault(Duration::from_millis(1)));
    let run = sandbox.run(&[&args[..], &["disk.raw.gz"]].concat());
    run.failed(7, &["error: build `", "is writing `disk"]);
    assert!(!run.stderr.contains("unpack"), "{}", run.stderr);
    emulator.set_faults("[]").unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn builds_of_one_name_in_the_cloud_make_one_image_and_leave_nothing_else() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 8, 3);
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
    let start = |_| {
        let mut command = sandbox.command(&[&args[..], &["--cloud-image-name", "one"]].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..BUILDS).map(start).collect();
    let outputs: Vec<Output> =
        children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let succeeded = outputs.iter().filter(|output| output.status.success()).count();
    for output in outputs.iter().filter(|output| !output.status.success()) {
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{errors}");
        assert!(errors.contains("name"), "{errors}");
    }
    assert_eq!(succeeded, 1, "one name, one image");
    sandbox.cloud_has_only(1);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}
