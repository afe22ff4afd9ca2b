//! Runs builds as a user who owns only a directory: no privileges, no home, no kvm.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, lchown},
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::{Run, Sandbox, TinyIso, needs, plugin_directory, sandbox_walk, stand_in_qemu};

/// A user id that owns nothing: `nobody` on most systems.
const NOBODY: u32 = 65_534;

/// Runs the program as an unprivileged user. If the test is unprivileged itself, the user does not change.
fn run(sandbox: &Sandbox, is_root: bool, args: &[&str]) -> Run {
    let plain = sandbox.command(args);
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"]);
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg("./build-image");
        command
    } else {
        Command::new(plain.get_program())
    };
    command.args(plain.get_args()).current_dir(sandbox.path()).env_clear().stdin(Stdio::null());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env_remove("HOME");
    if is_root {
        command.env("BUILD_IMAGE_PROVIDER_PATH", sandbox.path().join("providers"));
    }
    Run::of(&command.output().unwrap(), None)
}

/// Gives the directory to an unprivileged user, with a program and a plugin, because that user may have no access
/// to the originals.
fn give_away(sandbox: &Sandbox) {
    let directory = sandbox.path();
    let built = Path::new(env!("CARGO_BIN_EXE_build-image"));
    fs::copy(built, directory.join("build-image")).unwrap();
    fs::create_dir(directory.join("providers")).unwrap();
    let plugin = "libbuild_image_provider_alibaba.so";
    fs::copy(plugin_directory().join(plugin), directory.join("providers").join(plugin)).unwrap();
    sandbox_walk(directory, &mut |path| lchown(path, Some(NOBODY), Some(NOBODY)).unwrap());
    lchown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
}

#[test]
fn a_user_who_owns_nothing_but_a_directory_builds_disks_and_isos() {
    if !needs(&["setpriv", "xorriso", "mkfifo", "dd"]) {
        return;
    }
    let cloud = ["-c", "config.yml", "-p", "alibaba"];
    let iso = ["-i", "base.iso", "-m", "ltm", "-b", "1", "--qemu", "./qemu"];
    for args in [&["--disk", "disk.raw"][..], &iso] {
        let sandbox = Sandbox::with_cloud();
        sandbox.disk("disk.raw", 16, 4);
        TinyIso::base().write(&sandbox.path().join("base.iso"));
        stand_in_qemu(&sandbox);
        let is_root = fs::metadata(sandbox.path()).unwrap().uid() == 0;
        if is_root {
            give_away(&sandbox);
        }
        run(&sandbox, is_root, &[args, &cloud].concat()).succeeded();
        sandbox.cloud_has_only(1);
        assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
        let owner = if is_root { NOBODY } else { fs::metadata(sandbox.path()).unwrap().uid() };
        sandbox_walk(sandbox.path(), &mut |path| {
            assert_eq!(fs::symlink_metadata(path).unwrap().uid(), owner, "{}", path.display());
        });
    }
}
