//! Checks IF_SAME with a real Glance and a real docker-registry: an image from the same disk is the result only while it is
//! what the build would publish.

use build_image_fault_proxy::{Options, Running, start};
use serde_json::{Value, json};

use crate::{
    account_oci::foreign as foreign_tag,
    build_oci, build_openstack,
    build_openstack::{BUILDER, sandbox},
    harness::{OciRegistry, OpenStack, Run, Sandbox},
    images_same::{id, was_skipped},
};

const NEW: [&str; 2] = ["--if-same", "new"];
const SKIP: [&str; 2] = ["--if-same", "skip"];

/// A proxy that counts the requests to a service.
fn proxy(url: &str) -> Running {
    let mut options = Options::new(url);
    options.plain = true;
    start(&options).unwrap()
}

/// Number of requests that change something.
fn changing(proxy: &Running) -> usize {
    let is_read = |method: &str| ["GET", "HEAD"].contains(&method);
    proxy.requests().iter().filter(|request| !is_read(&request.method)).count()
}

/// A change of an image of Glance, the change back, and what a build prints meanwhile; whether its name stays taken.
type Change = (Value, Value, &'static str, bool);

fn patch(op: &str, name: &str, value: impl Into<Value>) -> Value {
    json!([{"op": op, "path": format!("/{name}"), "value": value.into()}])
}

fn changes(id: &str, digest: &str, run: &str) -> Vec<Change> {
    let of = |name, to: Value, from: Value, text, taken| {
        (patch("replace", name, to), patch("replace", name, from), text, taken)
    };
    let added = |name, value: &str, text| {
        (
            patch("add", name, value),
            json!([{"op": "remove", "path": format!("/{name}")}]),
            text,
            true,
        )
    };
    let (other, nothing) = (digest.replace("sha256:", "sha256:0"), "");
    vec![
        of("visibility", "community".into(), "private".into(), "its `visibility` is", true),
        of("protected", true.into(), false.into(), "image set --unprotected", true),
        of("min_ram", 5.into(), 0.into(), "--min-ram 0", true),
        of("hw_disk_bus", "scsi".into(), "virtio".into(), "property `hw_disk_bus` is `scsi`", true),
        of("tags", json!([]), json!(["team=images"]), "images tag", true),
        added("hw_machine_type", "q35", "unset --property hw_machine_type"),
        // Marks: another run is at work, the disk is another one, no run has made the image.
        added("build_image_lease", "5", "is not complete yet"),
        of("build_image_disk", other.into(), digest.into(), nothing, true),
        of("build_image_id", "another".into(), id.into(), nothing, true),
        of("build_image_run", "".into(), run.into(), nothing, true),
        // A hidden image does not take its name.
        of("os_hidden", true.into(), false.into(), "is deprecated or disabled", false),
    ]
}

fn apply(cloud: &OpenStack, id: &str, operations: &Value) {
    let path = format!("/v2/images/{id}");
    let (status, answer) = cloud.call(BUILDER, "PATCH", &path, &operations.to_string());
    assert_eq!(status, 200, "{operations}: {answer}");
}

#[test]
fn glance_has_the_same_image_only_while_it_is_as_requested() {
    let Some(cloud) = OpenStack::shared() else { return };
    let name = "same-in-glance";
    let proxy = proxy(cloud.text("/image_url"));
    let url = proxy.url();
    let settings = [
        ("OPENSTACK_IMAGE_ENDPOINT", url.as_str()),
        ("OPENSTACK_DISK_BUS", "virtio"),
        ("OPENSTACK_IF_EXISTS", "fail"),
    ];
    let sandbox = sandbox(cloud, &settings);
    // No other test has this disk.
    build_openstack::disk(&sandbox, 17, 3);
    let build = |more: &[&str]| {
        let tags = ["--image-tags", "[{team: images}]"];
        build_openstack::build(&sandbox, name, &[&tags[..], more].concat())
    };
    let first = build(&NEW);
    assert!(!was_skipped(&first), "{}", first.stderr);
    let image = cloud.image(&id(&first));
    let digest = image["build_image_disk"].as_str().unwrap();
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest}");
    let sent = changing(&proxy);
    let skipped = |build: &dyn Fn() -> Run| {
        let before = cloud.images(name, BUILDER.1);
        let run = build();
        assert!(was_skipped(&run), "{}", run.stderr);
        assert_eq!((id(&run), run.member("bytes_sent")), (id(&first), &json!(0)));
        assert_eq!(cloud.images(name, BUILDER.1), before);
    };
    skipped(&|| build(&SKIP));
    assert_eq!(changing(&proxy), sent);
    for name in ["images", "openstack_hash", "openstack_stores", "openstack_visibility"] {
        assert_eq!(build(&SKIP).member(name), first.member(name), "{name}");
    }
    let run = first.member("run_id").as_str().unwrap();
    for (change, back, text, taken) in changes(&id(&first), digest, run) {
        apply(cloud, &id(&first), &change);
        let differs = build(&SKIP);
        assert!(differs.stderr.contains(text), "{change}: {}", differs.stderr);
        if taken {
            differs.failed(6, &["exists already"]);
        } else {
            assert!(!was_skipped(&differs), "{change}");
            let path = format!("/v2/images/{}", id(&differs));
            assert_eq!(cloud.call(BUILDER, "DELETE", &path, "").0, 204);
        }
        apply(cloud, &id(&first), &back);
        skipped(&|| build(&SKIP));
    }
}

#[test]
fn other_settings_than_those_of_the_image_in_glance_make_another_one() {
    let Some(cloud) = OpenStack::shared() else { return };
    let name = "same-with-settings";
    let sandbox = sandbox(cloud, &[]);
    let first = build_openstack::build(&sandbox, name, &NEW);
    let other = build_openstack::build(&sandbox, name, &NEW);
    let text = format!("image {} (`{name}`) in RegionOne was made from the same disk", id(&first));
    assert!(other.stderr.contains(&text), "{}", other.stderr);
    let partners = cloud.text("/projects/partners");
    let members = format!("[{partners}]");
    let shared = ["--openstack-visibility", "shared", "--openstack-members", &members];
    for (more, text) in [
        (&["--openstack-secure-boot", "optional"][..], "`os_secure_boot`"),
        (&["--openstack-properties", "{hw_scsi_model: virtio-scsi}"], "`hw_scsi_model`"),
        (&["--openstack-store", "slow"], "images copy"),
        (&shared, "images share"),
        (&["--openstack-disk-format", "raw"], ""),
        (&["--cloud-image-name", "same-with-name"], "its `name` is"),
        (&["--openstack-if-exists", "hide"], "is visible"),
    ] {
        let mut plain = vec!["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack"];
        if !more.contains(&"--cloud-image-name") {
            plain.extend(["--cloud-image-name", name]);
        }
        let run = sandbox.run(&[&plain[..], more, &SKIP].concat());
        assert!(!was_skipped(&run) && run.stderr.contains(text), "{more:?}: {}", run.stderr);
        let path = format!("/v2/images/{}", id(&run));
        assert_eq!(cloud.call(BUILDER, "DELETE", &path, "").0, 204, "{more:?}");
    }
    // Another project does not have it.
    sandbox.write("config.yml", &cloud.config("builder", "partners", &[]));
    let partner = build_openstack::build(&sandbox, name, &SKIP);
    assert!(!was_skipped(&partner), "{}", partner.stderr);
}

#[test]
fn a_registry_has_the_same_image_only_while_it_is_as_requested() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let proxy = proxy(&registry.url());
    let address = proxy.url().trim_start_matches("http://").to_owned();
    let sandbox = build_oci::sandbox();
    let repository = "team/disk";
    let reference = format!("{address}/{repository}:13");
    let build = |more: &[&str]| build_oci::build(&sandbox, &reference, more);
    let latest = ["--oci-tags", "[latest]"];
    let first = build(&[&latest[..], &NEW].concat());
    assert!(!was_skipped(&first), "{}", first.stderr);
    let before = (registry.tags(repository), registry.manifests(repository));
    let sent = changing(&proxy);
    let second = build(&[&latest[..], &SKIP].concat());
    assert!(was_skipped(&second), "{}", second.stderr);
    for name in ["images", "oci_digest", "oci_tags", "oci_layer", "oci_media_type"] {
        assert_eq!(second.member(name), first.member(name), "{name}");
    }
    assert_eq!(second.member("bytes_sent"), &json!(0));
    assert_eq!(changing(&proxy), sent, "the second build changed something");
    for (more, text, code) in [
        (&["--oci-layer-compression", "gzip"][..], "its layer's mediaType is", 6),
        (&["--oci-annotations", "{team: a}"], "its annotation `team` is ``, not `a`", 6),
        (&["--oci-kind", "artifact"], "its artifact type is", 6),
        (&["--oci-disk-format", "raw"], "", 6),
        (&["--oci-tags", "[other]"], "it has no tag `other`", 0),
    ] {
        let run = build(&[more, &SKIP].concat());
        assert!(run.stderr.contains(text), "{more:?}: {}", run.stderr);
        if code == 0 {
            assert!(!was_skipped(&run) && id(&run) == id(&first), "{more:?}");
        } else {
            run.failed(code, &["belongs to another image"]);
            assert_eq!((registry.tags(repository), registry.manifests(repository)), before);
        }
    }
    // A tag that another program moves is not the image's any more.
    foreign_tag(&registry, repository);
    let moved = build(&[&["--oci-tags", "[foreign]"][..], &SKIP].concat());
    moved.failed(6, &["tag `foreign` refers to `sha256:", "belongs to another image"]);
}

#[test]
fn every_kind_of_image_in_a_registry_is_found_again() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let sandbox = build_oci::sandbox();
    for (number, (more, first)) in [
        (&["--oci-layer-compression", "gzip"][..], &NEW[..]),
        (&["--oci-kind", "artifact"], &NEW),
        // The digest of an artifact is known without IF_SAME.
        (&["--oci-kind", "artifact", "--oci-layer-compression", "zstd"], &[]),
    ]
    .into_iter()
    .enumerate()
    {
        for tag in ["", ":1"] {
            let reference = format!("{}/kind-{number}/disk{tag}", registry.address());
            let build =
                |same: &[&str]| build_oci::build(&sandbox, &reference, &[more, same].concat());
            let made = build(first);
            assert!(!was_skipped(&made));
            let found = build(&SKIP);
            assert!(was_skipped(&found), "{more:?} `{tag}`: {}", found.stderr);
            assert_eq!(id(&found), id(&made), "{more:?} `{tag}`");
        }
    }
    // A build without the mark, and one that was killed before its tags were set, are not the result.
    let plain = |repository: &str, more: &[&str]| {
        let reference = format!("{}/{repository}/disk:1", registry.address());
        build_oci::build(&sandbox, &reference, more)
    };
    plain("plain", &[]).succeeded();
    let again = plain("plain", &SKIP);
    assert!(!was_skipped(&again));
    assert_eq!(again.member("bytes_sent"), &json!(0));
    let killed = Sandbox::new();
    killed.disk("disk.raw", 16, 3);
    let reference = format!("{}/killed/disk:1", registry.address());
    let mut command = killed.command(&build_oci::args(&reference, &NEW));
    command.env("BUILD_IMAGE_FAILPOINT", r#"after:"name":"1""#);
    assert!(!command.output().unwrap().status.success());
    let made = plain("killed", &SKIP);
    assert!(!was_skipped(&made), "{}", made.stderr);
    registry.holds(&reference, "qcow2", &sandbox.path().join("disk.raw"));
    assert!(was_skipped(&plain("killed", &SKIP)));
}
