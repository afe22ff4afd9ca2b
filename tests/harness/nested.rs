//! Builds crates that are not part of the workspace: plugins as third parties build them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use super::{root, target_directory};

/// Runs cargo on a crate outside the workspace, with the versions of the workspace: without network, because they
/// are here already; if one is missing, once more with network.
pub(crate) fn cargo(directory: &Path, args: &[&str]) -> Output {
    let _one = locked("nested-cargo");
    fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
    let run = |offline: &str| {
        let mut command = Command::new(env!("CARGO"));
        command.args(args).current_dir(directory).env("CARGO_NET_OFFLINE", offline);
        command.env("CARGO_TARGET_DIR", nested_target()).env("CARGO_PROFILE_DEV_DEBUG", "0");
        // A test run of cargo passes its own settings on.
        command.env_remove("RUSTFLAGS").output().unwrap()
    };
    let output = run("true");
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("--offline") { run("false") } else { output }
}

/// Takes a lock of this name; it is held until the file is dropped. Tests may be threads of one process or separate
/// processes.
pub(crate) fn locked(name: &str) -> File {
    let file = File::create(target_directory().join(format!("{name}.lock"))).unwrap();
    file.lock().unwrap();
    file
}

/// Allows one build at a time: builds of several versions have the same name.
pub(crate) fn alone() -> File {
    locked("nested")
}

/// Copies a directory.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Where such crates are built; kept between runs.
pub(crate) fn nested_target() -> PathBuf {
    target_directory().join("nested")
}

/// Puts what cargo built into a directory that is private to the caller.
pub(crate) fn built(profile: &str, file: &str) -> PathBuf {
    nested_target().join(profile).join(file)
}

/// The hostile plugin.
pub(crate) fn hostile() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        let output = cargo(&root().join("tests/hostile"), &["build", "--quiet"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        built("debug", &build_image_plugin_api::plugin_file_name("hostile"))
    })
}
