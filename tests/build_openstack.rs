//! Builds images for a real Keystone and a real Glance, and compares what they hold with the disk.

use std::{fs, os::unix::fs::FileExt as _, path::Path};

use serde_json::{Value, json};

use crate::harness::{OpenStack, Run, Sandbox, tool};

/// Arguments of a build of `disk.raw`.
const BUILD: [&str; 6] = ["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack"];
/// A user who may create images, in a project.
pub(crate) const BUILDER: (&str, &str) = ("builder", "builders");

/// A sandbox with a disk and a configuration file for the builder.
pub(crate) fn sandbox(cloud: &OpenStack, more: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new();
    disk(&sandbox, 16, 3);
    sandbox.write("config.yml", &cloud.config("builder", "builders", more));
    sandbox
}

/// A raw disk as [`Sandbox::disk`] makes it, with a partition table: Glance inspects raw disks that have a boot
/// signature.
pub(crate) fn disk(sandbox: &Sandbox, mib: u64, data: u64) {
    let path = sandbox.disk("disk.raw", mib, data);
    let sectors = u32::try_from((mib - 1) << 11).unwrap();
    let mut table = vec![0; 64];
    table[..5].copy_from_slice(&[0x80, 0, 2, 0, 0x83]);
    table[8..12].copy_from_slice(&2048_u32.to_le_bytes());
    table[12..16].copy_from_slice(&sectors.to_le_bytes());
    fs::File::options().write(true).open(path).unwrap().write_all_at(&table, 446).unwrap();
}

/// Runs a build under a name.
pub(crate) fn build(sandbox: &Sandbox, name: &str, more: &[&str]) -> Run {
    sandbox.run(&[&BUILD[..], &["--cloud-image-name", name], more].concat())
}

/// Creates an active image of a few bytes, as another program does.
pub(crate) fn foreign(cloud: &OpenStack, owner: (&str, &str), name: &str, more: &Value) -> String {
    let mut record = json!({"name": name, "disk_format": "raw", "container_format": "bare"});
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, image) = cloud.call(owner, "POST", "/v2/images", &record.to_string());
    assert_eq!(status, 201, "{image}");
    let id = image["id"].as_str().unwrap().to_owned();
    let (status, answer) =
        cloud.call(owner, "PUT", &format!("/v2/images/{id}/file"), "the bytes of another image");
    assert_eq!(status, 204, "{answer}");
    id
}

fn id_of(run: &Run) -> String {
    run.member("image_id").as_str().unwrap().to_owned()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_disk_becomes_an_active_image_that_the_openstack_command_downloads() {
    let Some(cloud) = OpenStack::shared() else { return };
    let sandbox = sandbox(cloud, &[]);
    // The files of the openstack command: the secret is in a separate one.
    sandbox.write(
        ".config/openstack/clouds.yaml",
        &format!(
            "clouds:\n  mine: {{region_name: RegionOne, auth_type: v3applicationcredential, auth: {{auth_url: '{}', application_credential_id: {}}}}}\n  other: {{}}\n",
            cloud.text("/auth_url"),
            cloud.text("/application_credential/id")
        ),
    );
    let secret = cloud.text("/application_credential/secret");
    let text = format!("clouds: {{mine: {{auth: {{application_credential_secret: {secret}}}}}}}\n");
    sandbox.write(".config/openstack/secure.yaml", &text);
    let name = "downloaded";
    let args = [
        "--disk",
        "disk.raw",
        "-p",
        "openstack",
        "--openstack-cloud",
        "mine",
        "--cloud-image-name",
        name,
    ];
    let wanted = [
        "--openstack-machine-type",
        "q35",
        "--openstack-disk-bus",
        "virtio",
        "--openstack-vif-model",
        "virtio",
        "--openstack-os-distro",
        "debian",
        "--openstack-os-version",
        "13",
        "--openstack-min-ram",
        "512",
        "--openstack-qemu-guest-agent",
        "yes",
        "--openstack-properties",
        "{hw_scsi_model: virtio-scsi}",
        "--image-tags",
        "[{team: images}]",
    ];
    let run = sandbox.run(&[&args[..], &wanted].concat());
    run.succeeded();
    assert!(!run.stderr.contains(secret) && !run.stdout.contains(secret), "{}", run.stderr);
    let image = cloud.image(&id_of(&run));
    for (member, value) in [
        ("name", json!(name)),
        ("status", json!("active")),
        ("visibility", json!("private")),
        ("os_hidden", json!(false)),
        ("protected", json!(false)),
        ("disk_format", json!("qcow2")),
        ("virtual_size", json!(16 << 20)),
        ("owner", json!(cloud.text("/projects/builders"))),
        ("hw_firmware_type", json!("bios")),
        ("hw_machine_type", json!("q35")),
        ("hw_disk_bus", json!("virtio")),
        ("hw_vif_model", json!("virtio")),
        ("hw_qemu_guest_agent", json!("yes")),
        ("hw_scsi_model", json!("virtio-scsi")),
        ("architecture", json!("x86_64")),
        ("os_distro", json!("debian")),
        ("os_version", json!("13")),
        ("min_disk", json!(1)),
        ("min_ram", json!(512)),
        ("build_image_run", run.member("run_id").clone()),
    ] {
        assert_eq!(image[member], value, "{member} of {image:#}");
    }
    assert!(image["tags"].as_array().unwrap().contains(&json!("team=images")), "{image:#}");
    assert_eq!(run.member("openstack_hash"), &image["os_hash_value"]);
    // The command itself downloads the image.
    let mut save = std::process::Command::new(Path::new(cloud.text("/programs")).join("openstack"));
    save.env_clear().env("HOME", sandbox.path()).args([
        "--os-cloud",
        "mine",
        "image",
        "save",
        "--file",
        "saved.qcow2",
        name,
    ]);
    let output = save.current_dir(sandbox.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    tool(sandbox.path(), &["qemu-img", "check", "saved.qcow2"]);
    tool(
        sandbox.path(),
        &["qemu-img", "compare", "-f", "raw", "-F", "qcow2", "disk.raw", "saved.qcow2"],
    );
}

#[test]
fn every_format_and_method_arrives_as_the_same_disk() {
    let Some(cloud) = OpenStack::shared() else { return };
    let sandbox = sandbox(cloud, &[]);
    tool(
        sandbox.path(),
        &["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2"],
    );
    for (number, (disk, format, more)) in [
        ("disk.raw", "raw", &["--openstack-upload-method", "put"][..]),
        ("disk.qcow2", "qcow2", &["--openstack-upload-method", "put"]),
        ("disk.qcow2", "raw", &[]),
        ("disk.raw", "qcow2", &["--openstack-disk-compression", "zlib"]),
        ("disk.raw", "vmdk", &["--openstack-upload-method", "put", "--openstack-store", "slow"]),
        (
            "disk.qcow2",
            "vmdk",
            &["--openstack-upload-method", "import", "--openstack-store", "slow"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("format-{number}");
        let args =
            ["--disk", disk, "-c", "config.yml", "-p", "openstack", "--cloud-image-name", &name];
        let run = sandbox.run(&[&args[..], &["--openstack-disk-format", format], more].concat());
        run.succeeded();
        let id = id_of(&run);
        let image = cloud.image(&id);
        assert_eq!(image["disk_format"], format);
        let store = if more.contains(&"slow") { "slow" } else { "fast" };
        assert_eq!(image["stores"], store);
        if format == "vmdk" {
            assert_eq!(image["vmware_disktype"], "streamOptimized");
        }
        cloud.holds(&id, &sandbox.path().join("disk.raw"));
        assert_eq!(cloud.images(&name, "builders").len(), 1);
    }
    sandbox
        .run(&[&BUILD[..], &["--openstack-disk-format", "vhd"]].concat())
        .failed(6, &["`vhd`", "takes a fixed VHD"]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn credentials_come_from_where_the_openstack_command_has_them() {
    let Some(cloud) = OpenStack::shared() else { return };
    let sandbox = sandbox(cloud, &[]);
    let auth_url = cloud.text("/auth_url").to_owned();
    let password = cloud.text("/passwords/builder").to_owned();
    let (_, token) = cloud.call(BUILDER, "TOKEN", "-", "");
    let token = token.as_str().unwrap().to_owned();
    let ids =
        (cloud.text("/application_credential/id"), cloud.text("/application_credential/secret"));
    let user = [
        ("OS_USERNAME", "builder"),
        ("OS_PROJECT_NAME", "builders"),
        ("OS_USER_DOMAIN_ID", "default"),
        ("OS_PROJECT_DOMAIN_NAME", "Default"),
    ];
    let with = |more: &[(&'static str, String)]| {
        let mut variables: Vec<(&str, String)> =
            user.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        variables.push(("OS_AUTH_URL", auth_url.clone()));
        variables.extend(more.iter().cloned());
        variables
    };
    let credential = vec![
        ("OS_AUTH_URL", auth_url.clone()),
        ("OS_AUTH_TYPE", "v3applicationcredential".to_owned()),
        ("OS_APPLICATION_CREDENTIAL_ID", ids.0.to_owned()),
        ("OS_APPLICATION_CREDENTIAL_SECRET", ids.1.to_owned()),
    ];
    let wrong_credential: Vec<_> = credential
        .iter()
        .map(|(name, value)| {
            (
                *name,
                if name.ends_with("SECRET") {
                    "wrong-secret-value".to_owned()
                } else {
                    value.clone()
                },
            )
        })
        .collect();
    let refused = "the credentials are refused";
    for (variables, code, texts) in [
        (
            with(&[("OS_PASSWORD", password.clone())]),
            0,
            &["user `builder`", "from the environment"][..],
        ),
        (credential, 0, &["in project `builders`"]),
        (
            vec![("OS_AUTH_URL", auth_url.clone()), ("OS_TOKEN", token.clone())],
            0,
            &["in project `builders`"],
        ),
        (
            with(&[("OS_TOKEN", token.clone()), ("OS_AUTH_TYPE", "v3token".to_owned())]),
            0,
            &["in project `builders`"],
        ),
        (
            with(&[("OS_PASSWORD", "wrong-password-value".to_owned())]),
            6,
            &[refused, "check user, password"],
        ),
        (wrong_credential, 6, &[refused, "whether it has expired"]),
        (
            vec![("OS_AUTH_URL", auth_url.clone()), ("OS_TOKEN", "wrong-token-value".to_owned())],
            6,
            &["request another one"],
        ),
        (
            with(&[("OS_PASSWORD", password.clone()), ("OS_PROJECT_NAME", "strangers".to_owned())]),
            6,
            &[refused],
        ),
        (
            with(&[("OS_PASSWORD", password.clone()), ("OS_INSECURE", "true".to_owned())]),
            2,
            &["sets `insecure`", "OPENSTACK_CA_FILE"],
        ),
        (
            with(&[("OS_PASSWORD", password.clone()), ("OS_REGION_NAME", "Nowhere".to_owned())]),
            2,
            &["RegionOne"],
        ),
        (
            with(&[("OS_PASSWORD", password.clone()), ("OS_AUTH_TYPE", "v3totp".to_owned())]),
            6,
            &["`v3totp`", "application credential"],
        ),
        (
            with(&[
                ("OS_PASSWORD", password.clone()),
                ("OS_AUTH_URL", "http://127.0.0.1:9/v3".to_owned()),
            ]),
            7,
            &["no connection to `127.0.0.1:9`"],
        ),
        (vec![("OS_CLOUD", "nowhere".to_owned())], 2, &["cloud `nowhere`"]),
        (vec![], 2, &["no OpenStack cloud is configured", "openrc"]),
    ] {
        let mut command =
            sandbox.command(&["plan", "--check", "--disk", "disk.raw", "-p", "openstack"]);
        command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
        let run = Run::of(&command.output().unwrap(), None);
        let shown = format!("{}{}", run.stdout, run.stderr);
        assert_eq!(run.code, code, "{variables:?}\n{shown}");
        for text in texts {
            assert!(shown.contains(text), "`{text}` is missing for {variables:?} in\n{shown}");
        }
        for secret in [
            &password,
            &token,
            &"wrong-password-value".to_owned(),
            &"wrong-secret-value".to_owned(),
            &"wrong-token-value".to_owned(),
        ] {
            assert!(!shown.contains(secret.as_str()), "{shown}");
        }
    }
}

#[test]
fn an_image_of_the_same_name_that_belongs_to_others_is_never_touched() {
    let Some(cloud) = OpenStack::shared() else { return };
    let name = "crowded";
    let community =
        foreign(cloud, ("other", "strangers"), name, &json!({"visibility": "community"}));
    let shared = foreign(cloud, ("other", "partners"), name, &json!({"visibility": "shared"}));
    let member = json!({"member": cloud.text("/projects/builders")}).to_string();
    assert_eq!(
        cloud
            .call(("other", "partners"), "POST", &format!("/v2/images/{shared}/members"), &member)
            .0,
        200
    );
    let path = format!("/v2/images/{shared}/members/{}", cloud.text("/projects/builders"));
    assert_eq!(cloud.call(BUILDER, "PUT", &path, r#"{"status": "accepted"}"#).0, 200);
    let own = foreign(cloud, BUILDER, name, &json!({}));
    let before = [&community, &shared].map(|id| cloud.image(id));
    for if_exists in ["keep", "hide", "replace"] {
        let sandbox = sandbox(cloud, &[("OPENSTACK_IF_EXISTS", if_exists)]);
        let run = build(&sandbox, name, &[]);
        run.succeeded();
        let new = id_of(&run);
        assert_eq!([&community, &shared].map(|id| cloud.image(id)), before, "{if_exists}");
        let images = cloud.images(name, "builders");
        let visible: Vec<&str> = images
            .iter()
            .filter(|image| image["os_hidden"] == false)
            .filter_map(|image| image["id"].as_str())
            .collect();
        match if_exists {
            "keep" => assert_eq!(visible, [own.as_str(), &new], "{images:#?}"),
            "hide" => assert_eq!((images.len(), visible), (3, vec![new.as_str()]), "{images:#?}"),
            // Only what this build has hidden is deleted: that of the build before.
            _ => assert_eq!((images.len(), visible), (3, vec![new.as_str()]), "{images:#?}"),
        }
    }
    let sandbox = sandbox(cloud, &[("OPENSTACK_IF_EXISTS", "fail")]);
    build(&sandbox, name, &[]).failed(6, &["exists already"]);
    assert_eq!([&community, &shared].map(|id| cloud.image(id)), before);
}

#[test]
fn an_image_is_shared_accepted_and_protected_as_requested() {
    let Some(cloud) = OpenStack::shared() else { return };
    let (partners, strangers) =
        (cloud.text("/projects/partners"), cloud.text("/projects/strangers"));
    let members = format!("[{partners}, {strangers}]");
    let sandbox = sandbox(
        cloud,
        &[
            ("OPENSTACK_VISIBILITY", "shared"),
            ("OPENSTACK_MEMBERS", &members),
            ("OPENSTACK_ACCEPT_MEMBERS", "true"),
            ("OPENSTACK_PROTECTED", "true"),
        ],
    );
    let run = build(&sandbox, "shared", &[]);
    run.succeeded();
    let id = id_of(&run);
    let (_, listed) = cloud.call(BUILDER, "GET", &format!("/v2/images/{id}/members"), "");
    let status = |project: &str| {
        let found =
            listed["members"].as_array().unwrap().iter().find(|one| one["member_id"] == project);
        found.unwrap()["status"].as_str().unwrap().to_owned()
    };
    // The builder has a role in one of the projects only; the other is named with what to do.
    assert_eq!((status(partners).as_str(), status(strangers).as_str()), ("accepted", "pending"));
    assert!(
        run.stderr.contains("not accepted there") && run.stderr.contains(&format!("--accept {id}")),
        "{}",
        run.stderr
    );
    let (_, seen) = cloud.call(("other", "partners"), "GET", "/v2/images?name=shared", "");
    assert_eq!(seen["images"][0]["id"], id.as_str(), "{seen}");
    assert_eq!(cloud.image(&id)["protected"], true);
    assert_eq!(cloud.call(BUILDER, "DELETE", &format!("/v2/images/{id}"), "").0, 403);
    // What the role does not permit fails, and leaves nothing, protection or not.
    for (more, text) in [
        (
            &[("OPENSTACK_VISIBILITY", "public"), ("OPENSTACK_PROTECTED", "true")][..],
            "permission is denied",
        ),
        (&[("OPENSTACK_COPY_STORES", "[slow]")], "permission is denied"),
    ] {
        let sandbox = self::sandbox(cloud, more);
        let run = build(&sandbox, "forbidden", &[]);
        run.failed(6, &[text]);
        assert!(run.stderr.contains("unless the cloud has another policy"), "{}", run.stderr);
        assert!(cloud.images("forbidden", "builders").is_empty());
    }
    // An administrator may.
    let more = [
        ("OPENSTACK_VISIBILITY", "public"),
        ("OPENSTACK_COPY_STORES", "[slow]"),
        ("OPENSTACK_HIDDEN", "true"),
    ];
    sandbox.write("config.yml", &cloud.config("admin", "admin", &more));
    let run = build(&sandbox, "for-all", &[]);
    run.succeeded();
    let image = cloud.image(&id_of(&run));
    assert_eq!((&image["visibility"], &image["os_hidden"]), (&json!("public"), &json!(true)));
    assert_eq!(image["stores"], "fast,slow");
}
