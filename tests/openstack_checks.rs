//! Runs the preflight check and the conformance suite against a real Keystone and a real Glance.

use std::fs;

use crate::{
    build_openstack::{build, disk, sandbox},
    harness::{OpenStack, Sandbox, plugin_directory},
    provider_check::{report, unchecked, with_verdict},
};

#[test]
fn what_would_fail_late_is_refused_by_the_check() {
    let Some(cloud) = OpenStack::shared() else { return };
    for (user, project, more, texts) in [
        ("reader", "builders", &[][..], &["permit reading only", "`member`"][..]),
        (
            "builder",
            "limited",
            &[("OPENSTACK_DISK_FORMAT", "raw")],
            &["4 MiB are left of the quota `image_size_total`"],
        ),
        ("builder", "builders", &[("OPENSTACK_STORE", "tape")], &["store `tape`", "fast, slow"]),
        (
            "builder",
            "builders",
            &[("OPENSTACK_SECURE_BOOT", "required")],
            &["the firmware is BIOS"],
        ),
        (
            "builder",
            "builders",
            &[("OPENSTACK_INTERFACE", "admin"), ("OPENSTACK_REGION", "Nowhere")],
            &["RegionOne"],
        ),
    ] {
        let sandbox = sandbox(cloud, &[]);
        sandbox.write("config.yml", &cloud.config(user, project, more));
        let run = build(&sandbox, "refused", &[]);
        assert_ne!(run.code, 0, "{}", run.stderr);
        for text in texts {
            assert!(run.stderr.contains(text), "`{text}` is missing in\n{}", run.stderr);
        }
        assert!(cloud.images("refused", project).is_empty());
    }
    // The quota counts what is sent, which is not known before.
    let sandbox = sandbox(cloud, &[("OPENSTACK_PROJECT_NAME", "limited")]);
    disk(&sandbox, 16, 6);
    let first = build(&sandbox, "first-of-two", &["--openstack-upload-method", "put"]);
    assert!(first.stderr.contains("before its free space is left out"), "{}", first.stderr);
    first.failed(6, &["quota"]);
    assert!(cloud.images("first-of-two", "limited").is_empty());
}

/// A command that lists the images of the suite.
pub(crate) fn inventory(sandbox: &Sandbox, cloud: &OpenStack) -> String {
    fs::write(sandbox.path().join("cloud.json"), cloud.described.to_string()).unwrap();
    let script = sandbox.write(
        "inventory.py",
        &format!(
            "import json, subprocess\n\
             for hidden in ('true', 'false'):\n    \
             path = '/v2/images?limit=500&os_hidden=' + hidden\n    \
             answer = subprocess.check_output(['{}', '{}', 'builder', 'builders', 'GET', path])\n    \
             for image in json.loads(answer)['body']['images']:\n        \
             if image['name'].startswith('conformance-'): print(image['id'], image['name'], image['status'])\n",
            crate::harness::root().join("tests/openstack/call").display(),
            sandbox.path().join("cloud.json").display()
        ),
    );
    format!("python3 '{}'", script.display())
}

#[test]
fn the_provider_keeps_the_contract_with_a_real_cloud() {
    let Some(cloud) = OpenStack::shared() else { return };
    let sandbox = sandbox(cloud, &[("OPENSTACK_RETRY_TIME", "0")]);
    let file = plugin_directory().join(build_image_plugin_api::plugin_file_name("openstack"));
    let file = file.to_str().unwrap();
    let inventory = inventory(&sandbox, cloud);
    let listed = ["--inventory", inventory.as_str()];
    let mut ways: Vec<&[&str]> = vec![&listed];
    let variable = std::env::var_os("BUILD_IMAGE_SOAK_OPENSTACK");
    ways.extend(variable.is_some().then_some(&["--isolate"][..]));
    for more in ways {
        let args = [&[file, "--config", "config.yml"], more].concat();
        let (code, report) = report(&sandbox, &args, &[]);
        assert!(with_verdict(&report, "fail").is_empty(), "{report:#}");
        let skipped: &[&str] =
            if more.contains(&"--isolate") { &["stub", "taken", "unrecorded"] } else { &["stub"] };
        assert_eq!(
            (code, unchecked(&report)),
            (0, skipped.iter().map(|id| (*id).to_owned()).collect()),
            "{report:#}"
        );
    }
    let output = std::process::Command::new("sh").args(["-c", &inventory]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "images of the suite are left");
}
