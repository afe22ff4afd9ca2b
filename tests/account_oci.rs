//! Lists and deletes images of builds in a real docker-registry without any local file, beside images of others.

use build_image_plugin_api::Step;
use serde_json::{Value, json};

use crate::{
    build_oci::{args, build, sandbox},
    harness::{Account, OciRegistry, Sandbox},
};

fn account(reference: &str) -> Account {
    Account::open("oci", &json!({"OCI_REFERENCE": reference, "OCI_RETRY_TIME": 0}), None)
}

/// Puts the image of another disk under a tag of a repository, as another program does; returns its digest.
pub(crate) fn foreign(registry: &OciRegistry, repository: &str) -> String {
    let other = Sandbox::new();
    other.disk("disk.raw", 16, 1);
    let from = format!("{}/elsewhere/disk:1", registry.address());
    build(&other, &from, &[]).succeeded();
    let to = format!("docker://{}/{repository}:foreign", registry.address());
    let source = format!("docker://{from}");
    let options = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    registry.skopeo(other.path(), &[&options[..], &[&source, &to]].concat());
    registry.tags(repository)["foreign"].clone()
}

#[test]
fn images_of_builds_are_listed_and_deleted_and_no_others() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let repository = "team/disk";
    let name = format!("{}/{repository}", registry.address());
    let empty = account(&name);
    assert_eq!(empty.items(&json!({})), Vec::<Value>::new());
    let other = foreign(&registry, repository);
    let sandbox = sandbox();
    let run = build(&sandbox, &format!("{name}:13"), &["--oci-tags", "[latest]"]);
    run.succeeded();
    let (id, run_id) = (run.member("image_id"), run.member("run_id"));
    let digest = run.member("oci_digest").as_str().unwrap();
    assert_eq!(registry.marks(repository), [digest]);
    let account = account(&name);
    let found = account.call(Step::Inventory, &json!({"details": true}));
    assert_eq!(found["items"].as_array().unwrap().len(), 1, "{found:#}");
    assert!(found["findings"].to_string().contains("unfinished uploads"), "{found:#}");
    for (pointer, value) in [
        ("/id", id.clone()),
        ("/run_id", run_id.clone()),
        ("/state", json!("available")),
        ("/tags", json!({"13": "", "latest": ""})),
        ("/resource/product", json!(true)),
    ] {
        assert_eq!(found["items"][0].pointer(pointer), Some(&value), "{pointer} of {found:#}");
    }
    let layer = run.member("oci_layer")["size"].as_u64().unwrap();
    assert!(found["items"][0]["size_bytes"].as_u64().unwrap() >= layer);
    let foreign_id = format!("{name}@{other}");
    for (filter, expected) in [
        (json!({"run_id": run_id}), vec![id.clone()]),
        (json!({"run_id": "no-such-run"}), vec![]),
        (json!({"regions": ["somewhere"]}), vec![]),
        (json!({"items": [{"id": foreign_id}]}), vec![json!(foreign_id)]),
        (json!({"items": [{"id": "foreign"}, {"id": format!("other/disk@{other}")}]}), vec![]),
    ] {
        let items = account.items(&filter);
        let ids: Vec<Value> = items.iter().map(|item| item["id"].clone()).collect();
        assert_eq!(ids, expected, "{filter}");
    }
    let id = id.as_str().unwrap();
    deletion(&registry, &account, id, digest);
    assert_eq!(registry.tags(repository), [("foreign".to_owned(), other)].into());
    assert!(registry.marks(repository).is_empty());
    for action in
        [json!({"type": "tag", "tags": {"a": "b"}}), json!({"type": "copy", "regions": []})]
    {
        let request = json!({"images": [{"id": id}], "action": action});
        assert!(account.refused(Step::Manage, &request).starts_with("unsupported"), "{action}");
    }
}

/// An image is deleted by its digest only.
fn deletion(registry: &OciRegistry, account: &Account, id: &str, digest: &str) {
    let delete = |image: &str, dry_run| {
        let results = account.change(&json!({"id": image}), &json!({"type": "delete"}), dry_run);
        let kind = results[0]["error"]["kind"].as_str().unwrap_or_default();
        format!("{} {kind}", results[0]["change"].as_str().unwrap())
    };
    assert_eq!(delete("13", false), "refused config");
    assert_eq!(delete(&format!("other/disk@{digest}"), false), "refused config");
    assert_eq!(delete("no-such-tag", false), "unchanged ");
    assert_eq!(delete(id, true), "done ");
    assert_eq!(registry.manifests("team/disk").len(), 2);
    assert_eq!(delete(id, false), "done ");
    assert_eq!(delete(id, false), "unchanged ");
}

#[test]
fn an_image_whose_run_was_killed_before_its_tags_is_found_and_discarded() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let repository = "killed/disk";
    let name = format!("{}/{repository}", registry.address());
    let other = foreign(&registry, repository);
    let sandbox = sandbox();
    let reference = format!("{name}:13");
    let mut command = sandbox.command(&args(&reference, &[]));
    let killed = command.env("BUILD_IMAGE_FAILPOINT", r#"after:"name":"13""#).output().unwrap();
    assert!(!killed.status.success());
    let account = account(&name);
    let items = account.items(&json!({"details": true}));
    assert_eq!(items.len(), 1, "{items:#?}");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert_eq!((&items[0]["state"], &items[0]["tags"]), (&json!("pending"), &json!({})));
    assert!(items[0]["leased_until"].as_u64().unwrap() > now);
    let resources = json!([items[0]["resource"]]);
    let request =
        json!({"run_id": items[0]["run_id"], "reason": "leftover", "resources": resources});
    let elsewhere = self::account(&format!("{}/elsewhere/disk", registry.address()));
    let refused = elsewhere.call(Step::Discard, &request);
    assert_eq!(refused["remaining"].as_array().unwrap().len(), 1, "{refused:#}");
    let removed = account.call(Step::Discard, &request);
    assert_eq!(removed["remaining"], json!([]), "{removed:#}");
    assert_eq!(registry.manifests(repository), [other]);
    assert!(account.items(&json!({})).is_empty() && registry.marks(repository).is_empty());
}

#[test]
fn a_registry_that_forbids_deletion_is_named() {
    let Some(registry) = OciRegistry::start("fixed", &[]) else { return };
    let name = format!("{}/team/disk", registry.address());
    let sandbox = sandbox();
    let run = build(&sandbox, &format!("{name}:13"), &[]);
    run.succeeded();
    let image = json!({"id": run.member("image_id")});
    let results = account(&name).change(&image, &json!({"type": "delete"}), false);
    let error = &results[0]["error"];
    assert_eq!(error["kind"], "unsupported", "{results:#?}");
    assert!(error["hint"].as_str().unwrap().contains("storage.delete.enabled"), "{error}");
    assert_eq!(registry.manifests("team/disk").len(), 1);
}
