//! Checks that what the inspection finds on a disk reaches the record of the image in the cloud, and that settings
//! precede it.

use std::{fs, path::Path};

use build_image_emulator_alibaba::{Stored, StoredImage};
use serde_json::json;

use crate::{
    build_debian::{TOOLS, debian},
    harness::{OpenStack, Sandbox, needs, tool},
};

/// Makes a disk that is one ext4 file system, with files of a distribution.
pub(crate) fn system(sandbox: &Sandbox, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = sandbox.path().join("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    tool(sandbox.path(), &["mke2fs", "-q", "-t", "ext4", "-d", "tree", "disk.raw", "16M"]);
    fs::remove_dir_all(sandbox.path().join("tree")).unwrap();
}

pub(crate) const DEBIAN: (&str, &str) = (
    "etc/os-release",
    "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n",
);
pub(crate) const SHELL: (&str, &str) = ("bin/sh", "");
const AGENT: (&str, &str) = ("usr/sbin/qemu-ga", "");

fn image(state: &Path, id: &str) -> StoredImage {
    let images = Stored::open(&state.join("cloud")).unwrap().images();
    images.into_iter().find(|image| image.id == id).unwrap()
}

#[test]
fn a_cloud_records_distribution_and_nvme_support_unless_settings_have_them() {
    if !needs(&TOOLS) {
        return;
    }
    let (sandbox, state) = Sandbox::with_kept_cloud();
    let disk = debian();
    let args = ["--disk", disk.to_str().unwrap(), "-c", "config.yml", "-p", "alibaba"];
    for (name, more, platform, nvme) in [
        ("found", &[][..], "Debian", "supported"),
        ("off", &["--guest-check", "off"], "Others Linux", "unsupported"),
        (
            "set",
            &["--alibaba-platform", "Others Linux", "--alibaba-nvme-support", "unsupported"],
            "Others Linux",
            "unsupported",
        ),
    ] {
        let run = sandbox.run(&[&args[..], &["--cloud-image-name", name], more].concat());
        run.succeeded();
        let found = image(state.path(), run.member("image_id").as_str().unwrap());
        assert_eq!((found.platform.as_str(), found.nvme.as_str()), (platform, nvme), "{name}");
    }
}

/// What was found before the run ended is what its image gets, also when the disk is not inspected again.
#[test]
fn a_resumed_run_registers_what_its_first_process_found() {
    if !needs(&["mke2fs"]) {
        return;
    }
    let build = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
    let refuse = r#"[{"operation":"ImportImage","nth":2,"action":{"status":403,"code":"QuotaExceed.Image"}}]"#;
    for (first, second, platform) in
        [("warn", "off", "Debian"), ("warn", "warn", "Debian"), ("off", "warn", "Others Linux")]
    {
        let (sandbox, state) = Sandbox::with_kept_cloud();
        system(&sandbox, &[DEBIAN, SHELL]);
        sandbox.emulator.as_ref().unwrap().set_faults(refuse).unwrap();
        let more = ["--on-failure", "keep", "--guest-check", first];
        let run = sandbox.run(&[&build[..], &more].concat());
        assert_ne!(run.code, 0, "{}", run.stderr);
        sandbox.emulator.as_ref().unwrap().set_faults("[]").unwrap();
        let run = sandbox.run(&["resume", "--guest-check", second]);
        run.succeeded();
        let found = image(state.path(), run.member("image_id").as_str().unwrap());
        assert_eq!(found.platform, platform, "{first}, {second}: {}", run.stderr);
    }
}

#[test]
fn glance_records_distribution_and_agent_unless_settings_have_them() {
    if !needs(&["mke2fs"]) {
        return;
    }
    let Some(cloud) = OpenStack::shared() else { return };
    let none = json!(null);
    for (name, agent, more, expected) in [
        ("attributes-found", true, &[][..], [json!("debian"), json!("12"), json!("yes")]),
        ("attributes-bare", false, &[], [json!("debian"), json!("12"), none.clone()]),
        ("attributes-off", true, &["--guest-check", "off"], [none.clone(), none.clone(), none]),
        (
            "attributes-set",
            true,
            &[
                "--openstack-os-distro",
                "mine",
                "--openstack-os-version",
                "7",
                "--openstack-qemu-guest-agent",
                "no",
            ],
            [json!("mine"), json!("7"), json!("no")],
        ),
    ] {
        let sandbox = Sandbox::new();
        let files = [DEBIAN, SHELL, AGENT];
        system(&sandbox, &files[..if agent { 3 } else { 2 }]);
        sandbox.write("config.yml", &cloud.config("builder", "builders", &[]));
        let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack"];
        let run = sandbox.run(&[&args[..], &["--cloud-image-name", name], more].concat());
        run.succeeded();
        let image = cloud.image(run.member("image_id").as_str().unwrap());
        let found = ["os_distro", "os_version", "hw_qemu_guest_agent"];
        assert_eq!(found.map(|member| image[member].clone()), expected, "{name}: {image:#}");
    }
}
