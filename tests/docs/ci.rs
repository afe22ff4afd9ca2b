//! Runs the script and the commands of the page about CI, with nothing in PATH but what the page names.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::pages::Page;
use crate::harness::{Run, Sandbox, plugin_directory};

/// What the script needs, as the page says: a POSIX shell, tar, build-image, and two programs that every system has.
const PROGRAMS: [&str; 5] = ["sh", "tar", "mkdir", "chmod", "date"];
/// 32 random bytes in hexadecimal, as `openssl rand -hex 32` prints them.
const KEY: &str = "5f2d1c8a9e7b40636fd0c1a2b3948576a1b2c3d4e5f60718293a4b5c6d7e8f90";

/// A checkout on runners that come and go: only the workspace's `state.tar` is kept.
struct Pipeline {
    sandbox: Sandbox,
    programs: PathBuf,
    /// The number of runners so far.
    runners: u32,
}

impl Pipeline {
    fn new(page: &Page) -> Self {
        let sandbox = Sandbox::with_plain_cloud();
        sandbox.disk("disk.qcow2", 24, 12);
        let script = page.blocks().into_iter().find(|block| block.lines[0] == "#!/bin/sh").unwrap();
        sandbox.write("ci/build-image.sh", &script.lines.join("\n"));
        // Settings in the repository are not secret.
        let config = fs::read_to_string(sandbox.path().join("config.yml")).unwrap();
        let public: Vec<&str> =
            config.lines().filter(|line| !line.contains("ACCESS_KEY")).collect();
        sandbox.write("config.yml", &format!("{}\nGUEST_CHECK: off\n", public.join("\n")));
        let programs = sandbox.path().join("programs");
        fs::create_dir(&programs).unwrap();
        for name in PROGRAMS {
            let found = ["/usr/bin", "/bin"].map(|path| Path::new(path).join(name));
            symlink(found.iter().find(|path| path.exists()).unwrap(), programs.join(name)).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_build-image"), programs.join("build-image")).unwrap();
        // As in the containers of some systems, others may write to the workspace.
        let workspace = fs::Permissions::from_mode(0o777);
        fs::set_permissions(sandbox.path(), workspace).unwrap();
        Self { sandbox, programs, runners: 0 }
    }

    /// Runs a command on a new runner, whose home directory is empty.
    fn job(&mut self, command: &str, variables: &[(&str, &str)]) -> Run {
        self.runners += 1;
        let home = tempfile::tempdir().unwrap();
        let mut shell = Command::new(self.programs.join("sh"));
        shell.args(["-c", command]).current_dir(self.sandbox.path()).env_clear();
        shell.env("PATH", &self.programs).env("HOME", home.path()).env("JOURNAL_KEY", KEY);
        shell.env("F5_ALIBABA_ACCESS_KEY_ID", "emulator-id");
        shell.env("F5_ALIBABA_ACCESS_KEY_SECRET", crate::harness::SECRET);
        shell.env("BUILD_IMAGE_PROVIDER_PATH", plugin_directory());
        for name in ["GITHUB_RUN_ID", "CI_PIPELINE_ID", "BUILD_TAG"] {
            shell.env(name, format!("{}-17", name.to_lowercase()));
        }
        shell.envs(variables.iter().copied()).stdin(Stdio::null());
        let output: Output = shell.output().unwrap();
        Run::of(&output, None)
    }

    fn image_id(&self) -> String {
        fs::read_to_string(self.sandbox.path().join("image-id")).unwrap().trim().to_owned()
    }
}

/// The lines of the page's pipelines that run the script.
fn jobs(page: &Page) -> Vec<String> {
    let blocks = page.blocks();
    let lines = blocks.iter().filter(|block| ["yaml", "groovy"].contains(&block.info));
    let lines = lines.flat_map(|block| &block.lines).filter_map(|line| {
        let from = line.find("sh ci/build-image.sh")?;
        Some(line[from..].trim_end_matches('\'').to_owned())
    });
    lines.collect()
}

#[test]
fn the_script_for_pipelines_resumes_on_another_runner_and_repeats_nothing() {
    let page = Page::read("docs/ci.md");
    let jobs = jobs(&page);
    assert_eq!(jobs.len(), 3, "{jobs:?}");
    for job in jobs {
        let mut pipeline = Pipeline::new(&page);
        // The runner is lost in the middle of the upload: what is left of it is state.tar.
        let killed = pipeline.job(&job, &[("BUILD_IMAGE_FAILPOINT", "after:resource_created")]);
        assert_ne!(killed.code, 0, "{job}: {}", killed.stderr);
        let open = pipeline.sandbox.emulator.as_ref().unwrap().status()["open_uploads"].clone();
        assert_eq!(open, 1, "{job}: {}", killed.stderr);
        pipeline.job(&job, &[]).succeeded();
        let image = pipeline.image_id();
        assert!(image.starts_with("m-"), "{image}");
        pipeline.sandbox.cloud_has_only(1);
        // "Run again" reports the image.
        pipeline.job(&job, &[]).succeeded();
        assert_eq!(pipeline.image_id(), image);
        pipeline.sandbox.cloud_has_only(1);
        assert_eq!(pipeline.runners, 3);
        let result = fs::read_to_string(pipeline.sandbox.path().join("result.json")).unwrap();
        assert!(result.contains(&image) && !result.contains(crate::harness::SECRET), "{result}");
    }
}

#[test]
fn the_script_for_pipelines_removes_what_a_lost_job_left() {
    let page = Page::read("docs/ci.md");
    let job = jobs(&page).remove(0);
    let mut pipeline = Pipeline::new(&page);
    let killed = pipeline.job(&job, &[("BUILD_IMAGE_FAILPOINT", "after:resource_created")]);
    assert_ne!(killed.code, 0, "{}", killed.stderr);
    // Another pipeline, which knows nothing of the lost one but its state.
    pipeline.job(&job, &[("GITHUB_RUN_ID", "18")]).succeeded();
    pipeline.sandbox.cloud_has_only(1);
    // A failure ends the job, and keeps the result document.
    let wrong = [("GITHUB_RUN_ID", "19"), ("F5_ALIBABA_ACCESS_KEY_SECRET", "wrong-secret")];
    let failed = pipeline.job(&job, &wrong);
    assert_eq!(failed.code, 6, "{}", failed.stderr);
    let result = fs::read_to_string(pipeline.sandbox.path().join("result.json")).unwrap();
    assert!(result.contains("\"FAILURE\""), "{result}");
    pipeline.sandbox.cloud_has_only(1);
}

#[test]
fn the_commands_for_a_machine_that_stays_work_as_written() {
    let page = Page::read("docs/ci.md");
    let mut pipeline = Pipeline::new(&page);
    let blocks = page.blocks();
    let cron = blocks.iter().find(|block| block.lines[0].contains("--artifacts-dir")).unwrap();
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(pipeline.sandbox.path(), private).unwrap();
    pipeline.job(&cron.lines.join("\n"), &[]).succeeded();
    pipeline.sandbox.cloud_has_only(1);
    let cloud = blocks.iter().find(|block| block.lines[0].contains("gc --cloud")).unwrap();
    pipeline.job(&cloud.lines.join("\n"), &[]).succeeded();
}
