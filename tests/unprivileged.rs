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
    run_as(sandbox, is_root.then_some(NOBODY), &[], args)
}

/// Runs the program as another user, by way of further programs.
fn run_as(sandbox: &Sandbox, user: Option<u32>, by: &[&str], args: &[&str]) -> Run {
    let plain = sandbox.command(args);
    let mut command = if let Some(user) = user {
        let mut command = Command::new("setpriv");
        let id = user.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"]);
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
        command.args(by).arg("./build-image");
        command
    } else {
        Command::new(plain.get_program())
    };
    command.args(plain.get_args()).current_dir(sandbox.path()).env_clear().stdin(Stdio::null());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env_remove("HOME");
    if user.is_some() {
        command.env("BUILD_IMAGE_PROVIDER_PATH", sandbox.path().join("providers"));
    }
    Run::of(&command.output().unwrap(), None)
}

/// Gives the directory to an unprivileged user, with a program and a plugin, because that user may have no access
/// to the originals.
fn give_away(sandbox: &Sandbox, user: u32) {
    let directory = sandbox.path();
    let built = Path::new(env!("CARGO_BIN_EXE_build-image"));
    fs::copy(built, directory.join("build-image")).unwrap();
    fs::create_dir(directory.join("providers")).unwrap();
    for name in ["alibaba", "qcow2"] {
        let plugin = format!("libbuild_image_provider_{name}.so");
        fs::copy(plugin_directory().join(&plugin), directory.join("providers").join(plugin))
            .unwrap();
    }
    sandbox_walk(directory, &mut |path| lchown(path, Some(user), Some(user)).unwrap());
    lchown(directory, Some(user), Some(user)).unwrap();
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
            give_away(&sandbox, NOBODY);
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

#[test]
fn a_limit_on_threads_slows_a_build_or_ends_it_with_an_error() {
    if !needs(&["setpriv", "prlimit"]) {
        return;
    }
    // The limit counts all threads of a user, so the user must be one that nothing else runs as.
    const USER: u32 = 1_987_654_321;
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 16, 4);
    if fs::metadata(sandbox.path()).unwrap().uid() != 0 {
        eprintln!("SKIPPED: only root can run programs as another user");
        return;
    }
    give_away(&sandbox, USER);
    let mut codes = Vec::new();
    for limit in 1..=12 {
        let limit = format!("--nproc={limit}");
        let words = ["--disk", "disk.raw", "-p", "qcow2", "--package", "none"];
        let run = run_as(&sandbox, Some(USER), &["prlimit", &limit], &words);
        let about = format!("{limit}: {}", run.stderr);
        assert!(!run.stderr.contains("panic"), "{about}");
        assert!(run.code == 0 || run.stderr.contains("error: "), "{about}");
        assert!(!sandbox.path().join("artifacts").exists(), "{about}");
        codes.push(run.code);
    }
    assert!(codes.contains(&0), "{codes:?}");
}
