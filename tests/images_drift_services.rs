//! Checks `images drift` with a real Glance and a real docker-registry: planted differences are named, repaired once where the
//! service can do it, and reported as what cannot be repaired otherwise.

use std::fs;

use build_image_fault_proxy::{Options, Running, start};
use serde_json::{Value, json};

use crate::{
    build_oci, build_openstack,
    build_openstack::{BUILDER, foreign},
    harness::{OciRegistry, OpenStack, Run, Sandbox},
    images_same::id,
};

/// A proxy that counts the requests to a service.
fn proxy(url: &str) -> Running {
    let mut options = Options::new(url);
    options.plain = true;
    start(&options).unwrap()
}

/// Requests that change something.
fn changing(proxy: &Running) -> usize {
    let is_read = |method: &str| ["GET", "HEAD"].contains(&method);
    proxy.requests().iter().filter(|request| !is_read(&request.method)).count()
}

/// Runs `images drift` with an account; the document that it prints.
fn drift(sandbox: &Sandbox, account: &[&str], more: &[&str]) -> (Run, Value) {
    let run = sandbox.run(&[&["images", "drift"], more, &["--json"], account].concat());
    let document = serde_json::from_str(&run.stdout).unwrap_or_default();
    (run, document)
}

/// What differs, each with whether it can be repaired.
fn differences(document: &Value) -> Vec<(String, bool)> {
    let copies = document["copies"].as_array().unwrap().iter();
    let all = copies.flat_map(|copy| copy["differences"].as_array().unwrap());
    let mut found: Vec<(String, bool)> = all
        .map(|one| (one["subject"].as_str().unwrap().to_owned(), one.get("repair").is_some()))
        .collect();
    found.sort();
    found
}

fn patch(cloud: &OpenStack, id: &str, operations: &Value) {
    let path = format!("/v2/images/{id}");
    let (status, answer) = cloud.call(BUILDER, "PATCH", &path, &operations.to_string());
    assert_eq!(status, 200, "{operations}: {answer}");
}

fn replace(name: &str, value: impl Into<Value>) -> Value {
    json!({"op": "replace", "path": format!("/{name}"), "value": value.into()})
}

#[test]
fn differences_of_an_image_in_glance_are_repaired_once() {
    let Some(cloud) = OpenStack::shared() else { return };
    let name = "drift-declared";
    let proxy = proxy(cloud.text("/image_url"));
    let url = proxy.url();
    let sandbox = build_openstack::sandbox(cloud, &[("OPENSTACK_IMAGE_ENDPOINT", &url)]);
    let partners = cloud.text("/projects/partners");
    let members = format!("[{partners}]");
    let shared = ["--openstack-visibility", "shared", "--openstack-members", &members];
    let tagged = ["--image-tags", "[{team: images}, {stage: live}]"];
    let built = build_openstack::build(&sandbox, name, &[&shared[..], &tagged].concat());
    built.succeeded();
    let id = id(&built);
    let _ = fs::remove_dir_all(sandbox.path().join("artifacts"));
    let declared = format!(
        "version: 1\nimages:\n  - name: {name}\n    accounts: [{partners}]\n    tags: {{team: images, stage: live}}\n    audience: private\n    deprecated: false\n"
    );
    sandbox.write("images.yml", &declared);
    let account = ["-p", "openstack", "-c", "config.yml"];
    let file = ["--file", "images.yml"];
    let repair = [&file[..], &["--repair"]].concat();
    let (run, document) = drift(&sandbox, &account, &repair);
    run.succeeded();
    assert_eq!(differences(&document), [], "{document:#}");
    let sent = changing(&proxy);
    // What others changed: tags, members, deprecation.
    patch(
        cloud,
        &id,
        &json!([replace("tags", json!(["team=others", "more"])), replace("os_hidden", true)]),
    );
    let path = format!("/v2/images/{id}/members/{partners}");
    assert_eq!(cloud.call(BUILDER, "DELETE", &path, "").0, 204);
    let (run, document) = drift(&sandbox, &account, &file);
    run.succeeded();
    let expected = ["accounts", "deprecated", "tag stage", "tag team"];
    assert_eq!(differences(&document), expected.map(|subject| (subject.to_owned(), true)));
    assert_eq!(changing(&proxy), sent, "a comparison changed something");
    let (run, document) = drift(&sandbox, &account, &repair);
    run.succeeded();
    let results = document["results"].as_array().unwrap();
    assert!(
        !results.is_empty() && results.iter().all(|one| one["change"] == "done"),
        "{document:#}"
    );
    let (image, repaired) = (cloud.image(&id), changing(&proxy));
    assert!(repaired > sent && image["os_hidden"] == false, "{image:#}");
    let (run, document) = drift(&sandbox, &account, &repair);
    run.succeeded();
    assert_eq!((differences(&document).len(), &document["results"]), (0, &json!([])));
    assert_eq!((changing(&proxy), cloud.image(&id)), (repaired, image));
}

#[test]
fn what_glance_cannot_repair_is_named() {
    let Some(cloud) = OpenStack::shared() else { return };
    let name = "drift-unrepaired";
    let sandbox = build_openstack::sandbox(cloud, &[("OPENSTACK_DISK_BUS", "virtio")]);
    let built = build_openstack::build(&sandbox, name, &["--image-tags", "[{team: images}]"]);
    built.succeeded();
    let (id, run_id) = (id(&built), built.member("run_id").as_str().unwrap());
    // A second image of the run, as a user makes one of the data and the marks.
    let copy = format!("5e000000-0000-4000-8000-{}", &id[24..]);
    let marks = json!({
        "id": copy, "build_image_run": run_id, "build_image_id": copy, "hw_disk_bus": "scsi", "tags": ["team=images"],
    });
    foreign(cloud, BUILDER, name, &marks);
    let account = ["-p", "openstack", "-c", "config.yml"];
    let (run, document) = drift(&sandbox, &account, &[&id, "--expect", "RegionTwo"]);
    run.succeeded();
    let found = differences(&document);
    assert!(found.contains(&("attribute hw_disk_bus".to_owned(), false)), "{document:#}");
    let missing: Vec<&Value> = document["copies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|copy| copy["copy"].is_null())
        .collect();
    assert_eq!((missing.len(), &missing[0]["region"]), (1, &json!("RegionTwo")), "{document:#}");
    let (run, _) = drift(&sandbox, &account, &[&id, "--repair"]);
    run.failed(6, &["has a difference that cannot be repaired", "hint: "]);
    let before = cloud.images(name, BUILDER.1);
    let (run, document) = drift(&sandbox, &account, &[&id, "--expect", "RegionTwo", "--repair"]);
    run.failed(6, &["1 image was not changed"]);
    let error = &document["results"][0]["error"];
    assert!(error["message"].as_str().unwrap().contains("RegionTwo"), "{document:#}");
    assert!(error["hint"].is_string(), "{document:#}");
    assert_eq!(cloud.images(name, BUILDER.1), before);
}

#[test]
fn what_a_registry_cannot_repair_is_named() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let proxy = proxy(&registry.url());
    let sandbox = build_oci::sandbox();
    let repository = format!("{}/team/disk", proxy.url().trim_start_matches("http://"));
    let built = build_oci::build(&sandbox, &format!("{repository}:13"), &[]);
    built.succeeded();
    let id = id(&built);
    let account = ["-p", "oci", "--oci-reference", &repository];
    sandbox.write(
        "images.yml",
        "version: 1\nimages:\n  - name: disk-13\n    tags: {'13': '', latest: ''}\n",
    );
    let sent = changing(&proxy);
    for (more, subject) in [
        (&[id.as_str(), "--expect", "registry-2.example.com"][..], "registry-2.example.com"),
        (&["--file", "images.yml"], "tag latest"),
    ] {
        let (run, document) = drift(&sandbox, &account, more);
        run.succeeded();
        assert!(document.to_string().contains(subject), "{document:#}");
        let (run, _) = drift(&sandbox, &account, &[more, &["--repair"]].concat());
        run.failed(6, &["provider `oci` cannot do `manage.", "hint: "]);
    }
    assert_eq!(changing(&proxy), sent);
}
