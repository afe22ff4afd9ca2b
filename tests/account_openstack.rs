//! Lists, changes, and removes images of builds in a real Glance without any local file, beside images of others.

use std::process::Stdio;

use build_image_fault_proxy::{Options, Running, start};
use build_image_plugin_api::Step;
use serde_json::{Value, json};

use crate::{
    build_openstack::{BUILDER, build, foreign, sandbox},
    harness::{Account, OpenStack, account_call_of_child, account_child, until},
};

/// Key of the password.
const PASSWORD: &str = "OPENSTACK_PASSWORD";
/// Mark with the run of an image.
const RUN: &str = "build_image_run";

/// The settings of a user in a project.
fn settings(cloud: &OpenStack, (user, project): (&str, &str), proxy: Option<&Running>) -> Value {
    let mut settings = json!({
        "OPENSTACK_AUTH_URL": cloud.text("/auth_url"),
        "OPENSTACK_USERNAME": user,
        "OPENSTACK_PROJECT_NAME": project,
        "OPENSTACK_RETRY_TIME": 0,
        "OPENSTACK_IMPORT_TIMEOUT": 120,
    });
    if let Some(proxy) = proxy {
        settings["OPENSTACK_IMAGE_ENDPOINT"] = proxy.url().into();
    }
    settings
}

fn account(cloud: &OpenStack, owner: (&str, &str), proxy: Option<&Running>) -> Account {
    let password = cloud.text(&format!("/passwords/{}", owner.0));
    Account::open("openstack", &settings(cloud, owner, proxy), Some((PASSWORD, password)))
}

fn proxy(cloud: &OpenStack) -> Running {
    let mut options = Options::new(cloud.text("/image_url"));
    options.plain = true;
    start(&options).unwrap()
}

/// Number of requests that change something.
fn changing(proxy: &Running) -> usize {
    let reads = ["GET", "HEAD"];
    proxy.requests().iter().filter(|request| !reads.contains(&request.method.as_str())).count()
}

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// Images that look like that of a run and are not: of the same name, with copied properties, of another project.
fn look_alikes(cloud: &OpenStack, name: &str, id: &str, run: &str) -> Vec<String> {
    let inherited = json!({RUN: run, "build_image_id": id, "image_type": "snapshot"});
    let spoofed = "5e000000-0000-4000-8000-000000000000".to_owned();
    let spoofed = format!("{}{}", &spoofed[..24], &id[24..]);
    let marks =
        json!({"id": spoofed, "visibility": "community", RUN: run, "build_image_id": spoofed});
    vec![
        foreign(cloud, BUILDER, name, &json!({})),
        foreign(cloud, BUILDER, name, &json!({RUN: run})),
        foreign(cloud, BUILDER, name, &inherited),
        foreign(cloud, ("other", "partners"), name, &marks),
    ]
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn images_of_builds_are_listed_and_removed_and_no_others() {
    let Some(cloud) = OpenStack::shared() else { return };
    let name = "account-listed";
    let sandbox = sandbox(cloud, &[("OPENSTACK_DISK_BUS", "virtio")]);
    let run = build(&sandbox, name, &["--image-tags", "[{team: images}]"]);
    run.succeeded();
    let (id, run_id) = (run.member("image_id"), run.member("run_id"));
    let (id, run_id) = (id.as_str().unwrap(), run_id.as_str().unwrap());
    let others = look_alikes(cloud, name, id, run_id);
    let before: Vec<Value> = others.iter().map(|other| cloud.image(other)).collect();
    // A killed run has left an image without data; nothing of it is on the next machine.
    let words = ["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack"];
    let mut killed = sandbox.command(&[&words[..], &["--cloud-image-name", name]].concat());
    killed.env("BUILD_IMAGE_FAILPOINT", "after:resource_created");
    assert!(!killed.output().unwrap().status.success());
    let account = account(cloud, BUILDER, None);
    let items = account.items(&json!({"names": [name]}));
    assert_eq!(items.len(), 2, "{items:#?}");
    let item = items.iter().find(|item| item["id"] == id).unwrap();
    let image = cloud.image(id);
    for (pointer, value) in [
        ("/kind", json!("image")),
        ("/run_id", json!(run_id)),
        ("/name", json!(name)),
        ("/region", json!("RegionOne")),
        ("/state", json!("available")),
        ("/size_bytes", image["size"].clone()),
        ("/tags/team", json!("images")),
        ("/audience", json!("private")),
        ("/shared_with", json!([])),
        ("/attributes/hw_disk_bus", json!("virtio")),
        ("/attributes/architecture", json!("x86_64")),
        ("/resource/product", json!(true)),
    ] {
        assert_eq!(item.pointer(pointer), Some(&value), "{pointer} of {item:#}");
    }
    assert!(item.get("leased_until").is_none() && item["created"].is_u64(), "{item:#}");
    let left = items.iter().find(|item| item["id"] != id).unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert_eq!(left["state"], "pending");
    assert!(left["leased_until"].as_u64().unwrap() > now, "{left:#}");
    // Filters, pages, and the other project.
    let created = item["created"].as_u64().unwrap();
    for (filter, expected) in [
        (json!({"run_id": run_id}), vec![id]),
        (json!({"run_id": run_id, "kinds": ["snapshot"]}), vec![]),
        (json!({"run_id": "no-such-run"}), vec![]),
        (json!({"names": [name], "tags": {"team": "images"}}), vec![id]),
        (json!({"run_id": run_id, "created_before": created}), vec![]),
        (json!({"run_id": run_id, "created_since": created}), vec![id]),
        (json!({"run_id": run_id, "regions": ["RegionOne"]}), vec![id]),
        (json!({"items": [{"id": others[0]}]}), vec![others[0].as_str()]),
        (json!({"items": [{"id": "../../v3"}, {"id": "absent"}]}), vec![]),
    ] {
        assert_eq!(ids(&account.items(&filter)), expected, "{filter}");
    }
    let first = account.call(Step::Inventory, &json!({"names": [name], "limit": 1}));
    let next = json!({"names": [name], "limit": 1, "after": first["next"]});
    let second = account.call(Step::Inventory, &next);
    assert_eq!((&first["truncated"], &second["truncated"]), (&json!(true), &json!(false)));
    assert_ne!(first["items"][0]["id"], second["items"][0]["id"]);
    let partner = self::account(cloud, ("builder", "partners"), None);
    // The other project has made an image with marks itself.
    assert_eq!(ids(&partner.items(&json!({"names": [name]}))), [others[3].as_str()]);
    let nowhere = account.call(Step::Inventory, &json!({"regions": ["Nowhere"]}));
    assert_eq!(nowhere["findings"][0]["subject"], "Nowhere", "{nowhere:#}");
    assert_eq!((&nowhere["items"], &nowhere["regions"]), (&json!([]), &json!([])));
    // What is listed can be discarded as it is; another project cannot.
    let resources = json!([left["resource"], item["resource"]]);
    let request = json!({"run_id": run_id, "reason": "leftover", "resources": resources});
    let refused = partner.call(Step::Discard, &request);
    assert_eq!(refused["remaining"].as_array().unwrap().len(), 2, "{refused:#}");
    let removed = account.call(Step::Discard, &request);
    assert_eq!(removed["removed"].as_array().unwrap().len(), 2, "{removed:#}");
    assert!(account.items(&json!({"names": [name]})).is_empty());
    let after: Vec<Value> = others.iter().map(|other| cloud.image(other)).collect();
    assert_eq!(after, before);
}

#[test]
fn a_region_that_does_not_answer_is_a_finding_and_the_others_are_read() {
    let Some(cloud) = OpenStack::shared() else { return };
    let name = "account-regions";
    let sandbox = sandbox(cloud, &[]);
    let run = build(&sandbox, name, &[]);
    run.succeeded();
    let mut settings = settings(cloud, BUILDER, None);
    settings["OPENSTACK_INTERFACE"] = "internal".into();
    let secret = (PASSWORD, cloud.text("/passwords/builder"));
    let account = Account::open("openstack", &settings, Some(secret));
    let request = json!({"run_id": run.member("run_id")});
    let found = account.call(Step::Inventory, &request);
    assert_eq!(ids(found["items"].as_array().unwrap()), [run.member("image_id")], "{found:#}");
    assert_eq!(found["regions"], json!(["RegionOne"]));
    let finding = &found["findings"][0];
    assert_eq!((&finding["subject"], &finding["kind"]), (&json!("RegionTwo"), &json!("network")));
    assert!(finding["hint"].as_str().unwrap().contains("may exist there"), "{finding}");
    // An image is changed in the region that the reference names.
    let image = |region| json!({"id": run.member("image_id"), "region": region});
    let tag = json!({"type": "tag", "tags": {"seen": "yes"}});
    for (region, change, kind) in [
        ("RegionOne", "done", Value::Null),
        ("RegionTwo", "refused", json!("network")),
        ("Nowhere", "refused", json!("config")),
    ] {
        let results = account.change(&image(region), &tag, false);
        assert_eq!((&results[0]["change"], &results[0]["error"]["kind"]), (&json!(change), &kind));
    }
}

/// Actions in an order in which each changes the image, and what the inventory shows then.
fn actions(partners: &str) -> Vec<(Value, &'static str, Value)> {
    let replacement = json!({"kind": "image", "id": "other", "region": "RegionOne"});
    vec![
        (json!({"type": "share", "accounts": [partners]}), "/shared_with", json!([partners])),
        (json!({"type": "unshare", "everyone": true}), "/shared_with", json!([])),
        (json!({"type": "publish", "audience": "community"}), "/audience", json!("community")),
        (json!({"type": "publish", "audience": "private"}), "/audience", json!("private")),
        (
            json!({"type": "tag", "tags": {"team": "others", "new": ""}}),
            "/tags/team",
            json!("others"),
        ),
        (json!({"type": "untag", "keys": ["new"]}), "/tags/new", Value::Null),
        (
            json!({"type": "deprecate", "at": 5, "replacement": replacement}),
            "/replacement",
            replacement,
        ),
        (json!({"type": "deprecate", "at": 6}), "/deprecated_at", json!(6)),
        (json!({"type": "deprecate", "disabled_at": 7}), "/state", json!("disabled")),
        (json!({"type": "restore"}), "/state", json!("available")),
    ]
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn an_action_changes_its_image_once_and_nothing_in_a_dry_run() {
    let Some(cloud) = OpenStack::shared() else { return };
    let name = "account-changed";
    let sandbox = sandbox(cloud, &[]);
    let run = build(&sandbox, name, &["--image-tags", "[{team: images}]"]);
    run.succeeded();
    let id = run.member("image_id").as_str().unwrap();
    let run_id = run.member("run_id").as_str().unwrap();
    let others = look_alikes(cloud, name, id, run_id);
    let before: Vec<Value> = others.iter().map(|other| cloud.image(other)).collect();
    let proxy = proxy(cloud);
    let account = account(cloud, BUILDER, Some(&proxy));
    let image = json!({"kind": "image", "id": id});
    let item = || account.items(&json!({"run_id": run_id, "details": true})).pop();
    for (action, pointer, value) in actions(cloud.text("/projects/partners")) {
        let whole = cloud.image(id);
        let mut sent = changing(&proxy);
        let mut times = vec![("in a dry run", true, "done", 0), ("first", false, "done", 1)];
        times.push(("second", false, "unchanged", 0));
        for (time, dry_run, change, least) in times {
            let results = account.change(&image, &action, dry_run);
            assert_eq!(results[0]["change"], change, "{action} {time}: {results:#?}");
            let now = changing(&proxy);
            let expected = if least == 0 { now == sent } else { now > sent };
            assert!(expected, "{action} {time}: {sent} and then {now} changing requests");
            sent = now;
            if dry_run {
                assert_eq!(cloud.image(id), whole, "{action}");
            }
        }
        let item = item().unwrap();
        assert_eq!(item.pointer(pointer).unwrap_or(&Value::Null), &value, "{action}");
    }
    // What is refused, names why and what to do, and changes nothing.
    let (strangers, builders) =
        (cloud.text("/projects/strangers"), cloud.text("/projects/builders"));
    let sent = changing(&proxy);
    for (action, kind) in [
        (json!({"type": "share", "accounts": [builders]}), "config"),
        (json!({"type": "share", "accounts": ["a/b"]}), "config"),
        (json!({"type": "untag", "keys": [RUN]}), "config"),
        (json!({"type": "deprecate", "at": 9_999_999_999_u64}), "unsupported"),
        (json!({"type": "copy", "regions": ["tape"]}), "not_found"),
        (json!({"type": "delete", "keep_data": true}), "unsupported"),
    ] {
        let results = account.change(&image, &action, false);
        let error = &results[0]["error"];
        assert_eq!(
            (&results[0]["change"], &error["kind"]),
            (&json!("refused"), &json!(kind)),
            "{action}"
        );
        assert!(error["hint"].is_string(), "{action}: {error}");
    }
    assert_eq!(changing(&proxy), sent);
    // The copy is refused by the service, and is not announced any more.
    let results = account.change(&image, &json!({"type": "copy", "regions": ["slow"]}), false);
    assert_eq!(results[0]["error"]["kind"], "auth", "{results:#?}");
    assert!(account.resources().is_empty(), "{:?}", account.resources());
    let sent = changing(&proxy);
    let wrong = json!({"images": [image], "action": {"type": "paint"}});
    assert!(account.refused(Step::Manage, &wrong).starts_with("unsupported"));
    // The image of another project, which this one can see.
    let results =
        account.change(&json!({"id": others[3]}), &json!({"type": "delete", "force": true}), false);
    assert_eq!(results[0]["error"]["kind"], "config", "{results:#?}");
    assert_eq!(changing(&proxy), sent);
    deletion(cloud, &account, id, strangers);
    let after: Vec<Value> = others.iter().map(|other| cloud.image(other)).collect();
    assert_eq!(after, before);
}

/// A shared or protected image is deleted only with force.
fn deletion(cloud: &OpenStack, account: &Account, id: &str, strangers: &str) {
    let image = json!({"id": id});
    let delete = |force: bool| {
        let results = account.change(&image, &json!({"type": "delete", "force": force}), false);
        let kind = results[0]["error"]["kind"].as_str().unwrap_or_default();
        format!("{} {kind}", results[0]["change"].as_str().unwrap())
    };
    account.change(&image, &json!({"type": "share", "accounts": [strangers]}), false);
    assert_eq!(delete(false), "refused conflict");
    account.change(&image, &json!({"type": "unshare", "accounts": [strangers]}), false);
    let protect = r#"[{"op": "replace", "path": "/protected", "value": true}]"#;
    assert_eq!(cloud.call(BUILDER, "PATCH", &format!("/v2/images/{id}"), protect).0, 200);
    assert_eq!(delete(false), "refused conflict");
    assert_eq!(delete(true), "done ");
    assert_eq!(delete(true), "unchanged ");
    assert_eq!(cloud.call(BUILDER, "GET", &format!("/v2/images/{id}"), "").0, 404);
}

/// The child of the test below.
#[test]
fn one_call() {
    account_call_of_child();
}

#[test]
fn a_copy_that_was_killed_is_made_once() {
    let Some(cloud) = OpenStack::shared() else { return };
    let admin = ("admin", "admin");
    let name = "account-copied";
    let sandbox = sandbox(cloud, &[]);
    sandbox.write("config.yml", &cloud.config(admin.0, admin.1, &[]));
    let run = build(&sandbox, name, &[]);
    run.succeeded();
    let id = run.member("image_id").as_str().unwrap();
    let proxy = proxy(cloud);
    // The service copies, and the answer never arrives.
    let rule = json!([{"method": "POST", "path": "*/import", "nth": 1, "fault": {"delay_answer_ms": 30_000}}]);
    proxy.set_rules(&rule.to_string()).unwrap();
    let copy = json!({"type": "copy", "regions": ["slow"]});
    let image = json!({"kind": "image", "id": id});
    let call = json!({
        "provider": "openstack",
        "settings": settings(cloud, admin, Some(&proxy)),
        "secret": [PASSWORD, cloud.text("/passwords/admin")],
        "step": "manage",
        "request": {"run_id": "manage-1", "images": [image], "action": copy},
    });
    let mut child = account_child("account_openstack::one_call", &call);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the copy", || cloud.image(id)["stores"] == "fast,slow");
    child.kill().unwrap();
    child.wait().unwrap();
    proxy.set_rules("[]").unwrap();
    let account = account(cloud, admin, Some(&proxy));
    let sent = changing(&proxy);
    for dry_run in [true, false, false] {
        let results = account.change(&image, &copy, dry_run);
        assert_eq!(results[0]["change"], "unchanged", "{results:#?}");
        assert_eq!(results[0]["copy"]["id"], id);
    }
    assert_eq!((changing(&proxy), cloud.image(id)["stores"].as_str()), (sent, Some("fast,slow")));
    cloud.holds(id, &sandbox.path().join("disk.raw"));
    // Another region is another image.
    let region = account.change(&image, &json!({"type": "copy", "regions": ["tape"]}), false);
    assert_eq!(region[0]["error"]["kind"], "not_found");
    // A copy is announced, and discarded without its image.
    assert_eq!(cloud.call(admin, "DELETE", &format!("/v2/stores/slow/{id}"), "").0, 204);
    assert_eq!(account.change(&image, &copy, false)[0]["change"], "done");
    let resources = json!(account.resources());
    assert_eq!(resources.as_array().unwrap().len(), 1, "{resources:#}");
    let request = json!({"run_id": "manage-1", "reason": "failed", "resources": resources});
    let discarded = account.call(Step::Discard, &request);
    assert_eq!(discarded["remaining"], json!([]), "{discarded:#}");
    assert_eq!(cloud.image(id)["stores"], "fast");
}
