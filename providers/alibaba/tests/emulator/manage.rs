//! Tests the changes of registered images.

use build_image_emulator_alibaba::{Config, Running};
use build_image_plugin_api::{
    Error, Provider,
    document::{Action, Audience, Change, ManageRequest, Managed, Reference},
};
use serde_json::{Value, json};

use crate::{
    ecs::{ecs, images},
    harness::{Run, calls, count, emulator, emulator_with, host},
};

/// Calls that change something.
const CHANGING: [&str; 7] = [
    "CopyImage",
    "DeleteImage",
    "DeleteSnapshot",
    "ModifyImageAttribute",
    "ModifyImageSharePermission",
    "TagResources",
    "UntagResources",
];
const HERE: &str = "cn-hangzhou";
const ACCOUNT: &str = "2000000000000001";

/// A cloud with one image, and the call that changes it.
struct Cloud {
    emulator: Running,
    run: Run,
    image: Reference,
    log: tempfile::TempDir,
}

impl Cloud {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log_requests = Some(directory.path().join("log"));
        let emulator = emulator_with(Config { log_requests, ..Config::default() });
        let settings =
            [("ALIBABA_NVME_SUPPORT", json!("supported")), ("ALIBABA_IMAGE_FAMILY", json!("web"))];
        let run = Run::new(&emulator, host(), &settings);
        let registered = run.register(run.upload().unwrap()).unwrap();
        let image = Reference::image(&registered.images[0].id).in_region(HERE);
        Self { emulator, run, image, log: directory }
    }

    fn request(&self, action: Value, dry_run: bool) -> ManageRequest {
        let action: Action = serde_json::from_value(action).unwrap();
        ManageRequest::new(action, [self.image.clone()]).run_id("manage-1").dry_run(dry_run)
    }

    fn manage(&self, request: &ManageRequest) -> Vec<Managed> {
        self.run.provider.manage(&self.run.context, request).unwrap().results
    }

    fn change(&self, action: Value) -> Managed {
        let results = self.manage(&self.request(action, false));
        assert_eq!(results.len(), 1, "{results:?}");
        results.into_iter().next().unwrap()
    }

    /// Number of changing requests so far.
    fn changes(&self) -> usize {
        let log = self.log.path().join("log");
        CHANGING.iter().map(|operation| calls(&log, operation)).sum()
    }

    /// Everything of the account that actions change.
    fn state(&self) -> Vec<Value> {
        let regions = [HERE, "cn-shanghai", "eu-central-1"];
        let of = |region: &str| {
            let shares = |image: &Value| {
                let id = image["ImageId"].as_str().unwrap();
                let at = [("RegionId", region), ("ImageId", id)];
                ecs(&self.emulator, "DescribeImageSharePermission", &at)["Accounts"].clone()
            };
            let images = images(&self.emulator, region);
            let shares: Vec<Value> = images.iter().map(shares).collect();
            let found = ecs(&self.emulator, "DescribeSnapshots", &[("RegionId", region)]);
            json!([images, shares, found["Snapshots"]])
        };
        regions.into_iter().map(of).collect()
    }
}

fn tag_of<'a>(image: &'a Value, key: &str) -> Option<&'a str> {
    let mut tags = image["Tags"]["Tag"].as_array().unwrap().iter();
    tags.find(|tag| tag["TagKey"] == key)?["TagValue"].as_str()
}

/// Actions in an order in which each changes the image.
fn actions() -> Vec<Value> {
    let replacement = json!({"kind": "image", "id": "m-other"});
    vec![
        json!({"type": "share", "accounts": [ACCOUNT, "2000000000000002"]}),
        json!({"type": "unshare", "accounts": [ACCOUNT, "7"]}),
        json!({"type": "unshare", "everyone": true}),
        json!({"type": "publish", "audience": "community"}),
        json!({"type": "publish", "audience": "private"}),
        json!({"type": "deprecate", "reason": "old"}),
        json!({"type": "deprecate", "at": 5, "replacement": replacement}),
        json!({"type": "restore"}),
        json!({"type": "tag", "tags": {"team": "us", "stage": "beta"}}),
        json!({"type": "untag", "keys": ["stage", "none"]}),
        json!({"type": "copy", "regions": ["eu-central-1"]}),
        json!({"type": "delete", "keep_data": true}),
    ]
}

#[test]
fn an_action_changes_nothing_in_a_dry_run_and_nothing_for_the_second_time() {
    let cloud = Cloud::new();
    for action in actions() {
        let before = cloud.state();
        let tried = cloud.manage(&cloud.request(action.clone(), true));
        assert_eq!((tried.len(), tried[0].change), (1, Change::Done), "{action}: {tried:?}");
        assert!(!tried[0].summary.is_empty(), "{action}");
        assert_eq!(cloud.state(), before, "{action}");
        let done = cloud.change(action.clone());
        assert_eq!((done.change, done.error), (Change::Done, None), "{action}");
        assert_ne!(cloud.state(), before, "{action}");
        let (changed, sent) = (cloud.state(), cloud.changes());
        assert_eq!(cloud.change(action.clone()).change, Change::Unchanged, "{action}");
        assert_eq!((cloud.state(), cloud.changes()), (changed, sent), "{action}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let cloud = Cloud::new();
    let far = u64::try_from(jiff::Timestamp::now().as_second()).unwrap() + 1000;
    cloud.change(json!({"type": "share", "accounts": [ACCOUNT]}));
    let before = cloud.state();
    for (action, kind, word) in [
        (json!({"type": "publish", "audience": "public"}), "unsupported", "community"),
        (json!({"type": "deprecate", "at": far}), "unsupported", "at once"),
        (json!({"type": "deprecate", "disabled_at": 5}), "unsupported", "disable"),
        (json!({"type": "untag", "keys": ["build-image-run"]}), "config", "mark of a build"),
        (json!({"type": "tag", "tags": {"Build-Image-Run": "x"}}), "config", "mark of a build"),
        (json!({"type": "tag", "tags": {"acs:x": "x"}}), "config", "acs:"),
        (json!({"type": "share", "accounts": ["someone"]}), "config", "someone"),
        (json!({"type": "share", "accounts": ["1000000000000001"]}), "config", "own account"),
        (json!({"type": "delete"}), "conflict", "shared with 1 account"),
        (json!({"type": "copy", "regions": ["nowhere"]}), "config", "region"),
    ] {
        let refused = cloud.change(action.clone());
        assert_eq!(refused.change, Change::Refused, "{action}");
        let error = refused.error.unwrap();
        assert_eq!(error.kind, kind, "{action}: {error:?}");
        assert!(error.message.contains(word) && error.hint.is_some(), "{action}: {error:?}");
    }
    assert_eq!(cloud.state(), before);
    let unknown = cloud.request(json!({"type": "paint"}), false);
    let error = cloud.run.provider.manage(&cloud.run.context, &unknown).unwrap_err();
    assert_eq!(error.kind.code(), "unsupported");
}

#[test]
fn an_image_of_another_region_or_without_an_identity_is_not_found() {
    let cloud = Cloud::new();
    let id = cloud.image.id.clone();
    for (image, kind) in [
        (Reference::image(&id).in_region("cn-shanghai"), "not_found"),
        (Reference::image(&cloud.run.build.image_name).in_region(HERE), "not_found"),
        (Reference::image(&id).in_region("nowhere"), "config"),
    ] {
        let action = Action::Publish { audience: Audience::Private };
        let request = ManageRequest::new(action, [image.clone(), cloud.image.clone()]);
        let results = cloud.manage(&request);
        assert_eq!(results[0].error.as_ref().unwrap().kind, kind, "{image:?}");
        // The images after it are changed all the same.
        assert_eq!((results[1].change, &results[1].image), (Change::Unchanged, &cloud.image));
    }
}

#[test]
fn copies_have_the_attributes_tags_and_access_of_the_original() {
    let cloud = Cloud::new();
    cloud.change(json!({"type": "share", "accounts": [ACCOUNT]}));
    cloud.change(json!({"type": "tag", "tags": {"team": "us"}}));
    let action = json!({"type": "copy", "regions": ["cn-shanghai", HERE, "eu-central-1"],
        "name": "web-copy", "with_access": true, "keys": {}});
    let results = cloud.manage(&cloud.request(action.clone(), false));
    let changes: Vec<Change> = results.iter().map(|result| result.change).collect();
    assert_eq!(changes, [Change::Done, Change::Unchanged, Change::Done], "{results:?}");
    assert_eq!(results[1].copy.as_ref().unwrap().id, cloud.image.id);
    let resources = cloud.run.host.resources();
    for result in [&results[0], &results[2]] {
        let made = result.copy.as_ref().unwrap();
        let region = made.region.as_deref().unwrap();
        let found = images(&cloud.emulator, region);
        assert_eq!(found.len(), 1, "{region}");
        let image = &found[0];
        assert_eq!((&image["ImageId"], &image["ImageName"]), (&json!(made.id), &json!("web-copy")));
        assert_eq!(image["Features"]["NvmeSupport"], "supported");
        assert_eq!(image["ImageFamily"], "web");
        for (key, value) in [
            ("platform", "alibaba"),
            ("team", "us"),
            ("build-image-run", "manage-1"),
            ("build-image-copy-of", &*format!("{HERE}/{}", cloud.image.id)),
        ] {
            assert_eq!(tag_of(image, key), Some(value), "{region}: {key}");
        }
        let listed = ecs(&cloud.emulator, "DescribeSnapshots", &[("RegionId", region)]);
        let snapshot = &listed["Snapshots"]["Snapshot"][0];
        for (key, value) in
            [("team", "us"), ("build-image-run", "manage-1"), ("build-image-image", &*made.id)]
        {
            assert_eq!(tag_of(snapshot, key), Some(value), "{region}: {key}");
        }
        let at = [("RegionId", region), ("ImageId", &*made.id)];
        let shares = ecs(&cloud.emulator, "DescribeImageSharePermission", &at);
        assert_eq!(shares["Accounts"]["Account"][0]["AliyunId"], ACCOUNT);
        let recorded = resources.iter().find(|one| one.id.as_deref() == Some(&*made.id));
        assert!(recorded.is_some_and(|one| one.deliverable), "{resources:?}");
    }
    // A copy of a copy is a copy of the original: every region has one already.
    let copy = results[0].copy.as_ref().unwrap();
    let copy = Reference::image(&copy.id).in_region("cn-shanghai");
    let action = serde_json::from_value(json!({"type": "copy", "regions": [HERE, "eu-central-1"]}));
    let request = ManageRequest::new(action.unwrap(), [copy]).run_id("manage-2");
    let results = cloud.manage(&request);
    assert!(results.iter().all(|result| result.change == Change::Unchanged), "{results:?}");
    assert_eq!(results[0].copy.as_ref().unwrap().id, cloud.image.id);
    assert_eq!(count(&cloud.emulator, "images"), 3);
}

#[test]
fn a_copy_is_encrypted_with_the_key_of_its_region() {
    let cloud = Cloud::new();
    let action = json!({"type": "copy", "regions": ["cn-shanghai", "eu-central-1"],
        "keys": {"cn-shanghai": "key-1"}});
    let results = cloud.manage(&cloud.request(action, false));
    assert!(results.iter().all(|result| result.change == Change::Done), "{results:?}");
    for (region, encrypted, key) in [("cn-shanghai", true, "key-1"), ("eu-central-1", false, "")] {
        let found = ecs(&cloud.emulator, "DescribeSnapshots", &[("RegionId", region)]);
        let snapshot = &found["Snapshots"]["Snapshot"][0];
        assert_eq!(
            (&snapshot["Encrypted"], &snapshot["KMSKeyId"]),
            (&json!(encrypted), &json!(key))
        );
    }
    // What an encrypted image cannot do is the service's word.
    let copy = results[0].copy.as_ref().unwrap();
    let image = Reference::image(&copy.id).in_region("cn-shanghai");
    let share = Action::Share { accounts: vec![ACCOUNT.to_owned()] };
    let shared = cloud.manage(&ManageRequest::new(share, [image.clone()]));
    assert_eq!(shared[0].change, Change::Done, "{shared:?}");
    let publish = Action::Publish { audience: Audience::Community };
    let refused = cloud.manage(&ManageRequest::new(publish, [image]));
    assert!(refused[0].error.as_ref().unwrap().message.contains("encrypted"), "{refused:?}");
}

/// The answers of `CopyImage` are lost, or a later call of the copy is refused: the next call finishes the same copy.
#[test]
fn a_copy_that_was_interrupted_is_finished_by_the_next_call() {
    let refused = json!({"status": 403, "code": "Forbidden.RAM"});
    for (faults, change) in [
        (json!([{"operation": "CopyImage", "nth": 1, "action": "reset_after"}]), Change::Done),
        (
            json!([{"operation": "CopyImage", "nth": 1, "action": "truncate_answer"}, {"operation": "CopyImage", "nth": 2, "action": refused}]),
            Change::Refused,
        ),
        (json!([{"operation": "TagResources", "nth": 1, "action": refused}]), Change::Refused),
        (json!([{"operation": "TagResources", "nth": 2, "action": refused}]), Change::Refused),
        (
            json!([{"operation": "ModifyImageAttribute", "nth": 1, "action": refused}]),
            Change::Refused,
        ),
        (
            json!([{"operation": "ModifyImageSharePermission", "nth": 1, "action": refused}]),
            Change::Refused,
        ),
    ] {
        let cloud = Cloud::new();
        cloud.change(json!({"type": "share", "accounts": [ACCOUNT]}));
        cloud.emulator.set_faults(&faults.to_string()).unwrap();
        let action = json!({"type": "copy", "regions": ["cn-shanghai"], "with_access": true});
        let first = cloud.change(action.clone());
        assert_eq!(first.change, change, "{faults}: {first:?}");
        cloud.emulator.set_faults("[]").unwrap();
        if change == Change::Refused {
            let second = cloud.change(action.clone());
            assert_eq!(second.change, Change::Done, "{faults}: {second:?}");
        }
        let sent = cloud.changes();
        assert_eq!(cloud.change(action).change, Change::Unchanged, "{faults}");
        assert_eq!(cloud.changes(), sent, "{faults}");
        let there = images(&cloud.emulator, "cn-shanghai");
        assert_eq!(there.len(), 1, "{faults}");
        assert_eq!(there[0]["Features"]["NvmeSupport"], "supported", "{faults}");
        assert!(!tag_of(&there[0], "build-image-copy-of").unwrap().contains('+'), "{faults}");
        let at = [("RegionId", "cn-shanghai"), ("ImageId", there[0]["ImageId"].as_str().unwrap())];
        let shares = ecs(&cloud.emulator, "DescribeImageSharePermission", &at);
        assert_eq!(shares["Accounts"]["Account"][0]["AliyunId"], ACCOUNT, "{faults}");
    }
}

#[test]
fn an_image_is_deleted_with_its_snapshots_also_after_an_interruption() {
    let cloud = Cloud::new();
    cloud.change(json!({"type": "share", "accounts": [ACCOUNT]}));
    cloud.change(json!({"type": "publish", "audience": "community"}));
    let refused = json!([{"operation": "DeleteSnapshot", "action": {"status": 403, "code": "Forbidden.RAM"}}]);
    cloud.emulator.set_faults(&refused.to_string()).unwrap();
    let forced = json!({"type": "delete", "force": true});
    assert_eq!(cloud.change(forced.clone()).change, Change::Refused);
    cloud.emulator.set_faults("[]").unwrap();
    assert_eq!((count(&cloud.emulator, "images"), count(&cloud.emulator, "snapshots")), (0, 1));
    // The snapshot is found by its mark; with `keep_data`, it stays.
    let kept = cloud.change(json!({"type": "delete", "keep_data": true}));
    assert_eq!((kept.change, count(&cloud.emulator, "snapshots")), (Change::Unchanged, 1));
    for change in [Change::Done, Change::Unchanged] {
        assert_eq!(cloud.change(forced.clone()).change, change);
        assert_eq!(count(&cloud.emulator, "snapshots"), 0);
    }
}

#[test]
fn the_name_of_a_copy_that_another_image_has_is_a_conflict() {
    let cloud = Cloud::new();
    let mut other = Run::new(&cloud.emulator, host(), &[]).called("run-2");
    other.build.image_name = "taken".to_owned();
    let registered = other.register(other.upload().unwrap()).unwrap();
    let image = Reference::image(&registered.images[0].id).in_region(HERE);
    let copy = |image: &Reference, name: &str| {
        let action = json!({"type": "copy", "regions": ["cn-shanghai"], "name": name});
        let action: Action = serde_json::from_value(action).unwrap();
        let request = ManageRequest::new(action, [image.clone()]).run_id("manage-1");
        cloud.manage(&request).into_iter().next().unwrap()
    };
    assert_eq!(copy(&image, "taken").change, Change::Done);
    let refused = copy(&cloud.image, "taken");
    assert_eq!(refused.error.unwrap().kind, "conflict");
    assert_eq!(images(&cloud.emulator, "cn-shanghai").len(), 1);
}

#[test]
fn a_stop_ends_the_changes() {
    let emulator = emulator();
    let run = Run::new(&emulator, host(), &[]);
    run.host.cancel();
    for action in [json!({"type": "restore"}), json!({"type": "copy", "regions": ["cn-shanghai"]})]
    {
        let action: Action = serde_json::from_value(action).unwrap();
        let request = ManageRequest::new(action, [Reference::image("m-1")]).run_id("manage-1");
        let error: Error = run.provider.manage(&run.context, &request).unwrap_err();
        assert_eq!(error.kind.code(), "cancelled");
    }
}
