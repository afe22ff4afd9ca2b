//! Lists, changes, and removes images of builds in moto behind the strict front without any local file, beside images of
//! others.

use std::process::Stdio;

use build_image_plugin_api::Step;
use serde_json::{Value, json};

use crate::{
    build_aws::{BUILD, HOME, build, foreign, id_of, sandbox},
    harness::{Account, Aws, AwsAccount, account_call_of_child, account_child, until},
};

/// Region of copies.
const AWAY: &str = "eu-west-1";
/// Mark with the run.
const RUN: &str = "build-image-run";
/// An account that images are shared with.
const PARTNER: &str = "123456789012";

fn settings(account: &AwsAccount) -> Value {
    json!({
        "AWS_REGION": HOME,
        "AWS_ENDPOINT_URL": account.server.url(),
        "AWS_BUCKET": account.bucket(),
        "AWS_CREATE_IMAGE_RETRY_DELAY": 1,
        "AWS_IMPORT_SNAPSHOT_TASK_RETRY_DELAY": 1,
    })
}

fn secrets(account: &AwsAccount) -> [(&str, &str); 2] {
    let (id, secret) = account.key("builder");
    [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)]
}

/// The provider with the settings of an account, as another machine has them.
fn open(account: &AwsAccount) -> Account {
    Account::with_secrets("aws", &settings(account), &secrets(account))
}

/// Number of requests that changed something.
pub(crate) fn changing(account: &AwsAccount) -> usize {
    let reads = ["Describe", "Get", "List", "Head"];
    let changes = account.requests().into_iter().filter(|request| {
        let name = request["operation"].as_str().unwrap_or_default();
        let is_read = reads.iter().any(|start| name.starts_with(start));
        !is_read && request["status"].as_u64().is_some_and(|status| status < 300)
    });
    changes.count()
}

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// What looks like that of a build and is not: images of other programs, a copy that has inherited the tags, objects, and
/// an upload.
pub(crate) fn look_alikes(account: &AwsAccount, id: &str) {
    foreign(account, "account-look-alike");
    let copy = json!({"Name": "inherited", "SourceImageId": id, "SourceRegion": HOME, "CopyImageTags": true});
    let copied = account.call("ec2", "CopyImage", &copy, "us-west-2");
    assert!(copied["ImageId"].is_string(), "{copied}");
    let bucket = account.bucket();
    // Of the name of a run, and without its mark.
    for key in ["build-image-mine.vmdk", "build-image-20261122-073000-kqzxyw.vmdk", "other/x"] {
        let put = json!({"Bucket": bucket, "Key": key, "Body": "x"});
        assert!(account.call("s3", "PutObject", &put, HOME)["error"].is_null());
    }
    let begin = json!({"Bucket": bucket, "Key": "build-image-mine.vmdk"});
    let begun = account.call("s3", "CreateMultipartUpload", &begin, HOME);
    assert!(begun["UploadId"].is_string(), "{begun}");
    // The copy becomes available.
    for _ in 0..4 {
        account.image(copied["ImageId"].as_str().unwrap(), "us-west-2");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn objects_of_builds_are_listed_in_all_regions_and_removed_and_no_others() {
    let Some(server) = Aws::shared() else { return };
    let (account, other) = (server.account(&json!({"polls": 1})), server.account(&json!({})));
    let sandbox = sandbox(&account, &[("AWS_IMAGE_COPY_REGIONS", "[eu-west-1]")]);
    let run = build(&sandbox, "account-listed", &["--image-tags", "[{team: images}]"]);
    run.succeeded();
    let (id, run_id) = (id_of(&run), run.member("run_id").as_str().unwrap().to_owned());
    look_alikes(&account, &id);
    // Killed runs have left a snapshot and an upload; nothing of them is on the next machine.
    for (way, point) in [("ebs", r#"after:"blocks""#), ("s3", "after:resource_created")] {
        let more = [("AWS_UPLOAD", way), ("AWS_BUCKET", account.bucket())];
        sandbox.write("config.yml", &account.config(&more));
        let name = format!("account-{way}");
        let mut killed = sandbox.command(&[&BUILD[..], &["--cloud-image-name", &name]].concat());
        let killed = killed.env("BUILD_IMAGE_FAILPOINT", point).output().unwrap();
        assert_eq!(killed.status.code(), None, "{way}");
    }
    let host = open(&account);
    // Pages, and first pages without objects.
    for (page, empty_pages) in [(1000, false), (1, true)] {
        account.control("POST", "settings", json!({"page": page, "empty_pages": empty_pages}));
        let found = host.call(Step::Inventory, &json!({"details": true}));
        let kinds: Vec<&str> = found["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["kind"].as_str().unwrap())
            .collect();
        // In the order of regions, and of kinds in a region.
        let expected = ["image", "snapshot", "image", "snapshot", "snapshot", "upload"];
        assert_eq!(kinds, expected, "{page}: {found:#}");
        assert_eq!(found["regions"].as_array().unwrap().len(), 5, "{found:#}");
        assert_eq!(found["findings"], json!([]));
    }
    account.control("POST", "settings", json!({"page": 1000, "empty_pages": false}));
    let images = host.items(&json!({"run_id": run_id, "kinds": ["image"], "details": true}));
    let item = images.iter().find(|item| item["id"] == id).unwrap();
    for (pointer, value) in [
        ("/kind", json!("image")),
        ("/run_id", json!(run_id)),
        ("/name", json!("account-listed")),
        ("/region", json!(HOME)),
        ("/state", json!("available")),
        ("/size_bytes", json!(1 << 30)),
        ("/tags/team", json!("images")),
        ("/audience", json!("private")),
        ("/shared_with", json!([])),
        ("/attributes/architecture", json!("x86_64")),
        ("/attributes/volume_type", json!("gp2")),
        ("/resource/product", json!(true)),
        ("/resource/attributes/account", json!(account.id())),
    ] {
        assert_eq!(item.pointer(pointer), Some(&value), "{pointer} of {item:#}");
    }
    assert!(item.get("leased_until").is_none() && item["created"].is_u64(), "{item:#}");
    let copy = images.iter().find(|item| item["id"] != id).unwrap();
    assert_eq!(copy["copied_from"], json!({"kind": "image", "id": id, "region": HOME}));
    assert_eq!(copy["attributes"], item["attributes"]);
    let all = host.items(&json!({}));
    let left: Vec<&Value> = all.iter().filter(|item| item["run_id"] != run_id.as_str()).collect();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for item in &left {
        assert_eq!(item["resource"]["product"], false, "{item:#}");
        assert_eq!(item["state"], "pending", "{item:#}");
        assert!(item["leased_until"].as_u64().unwrap() > now, "{item:#}");
    }
    // Filters, pages, and the other account.
    let created = item["created"].as_u64().unwrap();
    let home = |more: Value| {
        let mut filter = json!({"run_id": run_id, "regions": [HOME], "kinds": ["image"]});
        filter.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        filter
    };
    let stranger = account.owned("images");
    let stranger = stranger.iter().find(|image| image["name"] == "account-look-alike").unwrap();
    let stranger = stranger["id"].as_str().unwrap();
    for (filter, expected) in [
        (home(json!({})), vec![&*id]),
        (home(json!({"names": ["account-listed"], "tags": {"team": "images"}})), vec![&*id]),
        (home(json!({"names": ["account"]})), vec![]),
        (home(json!({"tags": {"team": "*"}})), vec![]),
        (home(json!({"created_before": created})), vec![]),
        (home(json!({"created_since": created})), vec![&*id]),
        (json!({"run_id": "no-such-run"}), vec![]),
        (json!({"items": [{"kind": "image", "id": stranger}]}), vec![stranger]),
        (
            json!({"items": [{"kind": "image", "id": "../../x"}, {"kind": "task", "id": "ami-0"}]}),
            vec![],
        ),
    ] {
        assert_eq!(ids(&host.items(&filter)), expected, "{filter}");
    }
    let first = host.call(Step::Inventory, &json!({"limit": 1}));
    let second = host.call(Step::Inventory, &json!({"limit": 5, "after": first["next"]}));
    assert_eq!((&first["truncated"], &second["truncated"]), (&json!(true), &json!(false)));
    assert_eq!(second["items"].as_array().unwrap().len(), 5);
    let nowhere = host.call(Step::Inventory, &json!({"regions": ["af-south-1", HOME]}));
    assert_eq!(nowhere["findings"][0]["subject"], "region af-south-1", "{nowhere:#}");
    assert_eq!(nowhere["regions"], json!([HOME]));
    let elsewhere = open(&other);
    let theirs = elsewhere.call(Step::Inventory, &json!({}));
    assert_eq!(theirs["items"], json!([]), "{theirs:#}");
    // What is listed can be discarded as it is; with credentials of another account it cannot.
    let resources: Vec<Value> = all.iter().map(|item| item["resource"].clone()).collect();
    let request = json!({"run_id": run_id, "reason": "leftover", "resources": resources});
    let refused = elsewhere.call(Step::Discard, &request);
    assert_eq!(refused["remaining"].as_array().unwrap().len(), resources.len(), "{refused:#}");
    let removed = host.call(Step::Discard, &request);
    assert_eq!(removed["remaining"], json!([]), "{removed:#}");
    assert!(host.items(&json!({})).is_empty());
    let kept = |kind: &str| account.owned(kind).len();
    assert_eq!(["images", "snapshots", "objects", "uploads"].map(kept), [2, 2, 3, 1]);
}

/// Actions in an order in which each changes the image, and what the inventory shows then.
fn actions() -> Vec<(Value, &'static str, Value)> {
    let organization = "arn:aws:organizations::123456789012:organization/o-0123456789";
    let replacement = json!({"kind": "image", "id": "ami-2", "region": HOME});
    vec![
        (
            json!({"type": "share", "accounts": [PARTNER, organization]}),
            "/shared_with",
            json!([PARTNER, organization]),
        ),
        (json!({"type": "unshare", "accounts": [organization]}), "/shared_with", json!([PARTNER])),
        (json!({"type": "unshare", "everyone": true}), "/shared_with", json!([])),
        (json!({"type": "publish", "audience": "public"}), "/audience", json!("public")),
        (json!({"type": "publish", "audience": "private"}), "/audience", json!("private")),
        (
            json!({"type": "tag", "tags": {"team": "others", "new": ""}}),
            "/tags/team",
            json!("others"),
        ),
        (json!({"type": "untag", "keys": ["new", "absent"]}), "/tags/new", Value::Null),
        (
            json!({"type": "deprecate", "at": 5, "replacement": replacement}),
            "/replacement",
            replacement,
        ),
        (json!({"type": "deprecate", "at": 6}), "/deprecated_at", json!(6)),
        (json!({"type": "deprecate", "at": 1_900_000_050}), "/deprecated_at", json!(1_900_000_080)),
        (json!({"type": "deprecate"}), "/state", json!("deprecated")),
        (json!({"type": "restore"}), "/state", json!("available")),
    ]
}

#[test]
fn an_action_changes_its_image_once_and_nothing_in_a_dry_run() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({"polls": 1}));
    let sandbox = sandbox(&account, &[]);
    let run = build(&sandbox, "account-changed", &["--image-tags", "[{team: images}]"]);
    run.succeeded();
    let (id, run_id) = (id_of(&run), run.member("run_id").clone());
    look_alikes(&account, &id);
    let others = || {
        let mut all = account.owned("images");
        all.retain(|image| image["id"] != id.as_str());
        all
    };
    let before = others();
    let host = open(&account);
    let image = json!({"kind": "image", "id": id});
    let whole = || (account.owned("images"), account.owned("snapshots"));
    for (action, pointer, value) in actions() {
        let (unchanged, mut sent) = (whole(), changing(&account));
        for (time, dry_run, change) in
            [("dry run", true, "done"), ("first", false, "done"), ("second", false, "unchanged")]
        {
            let results = host.change(&image, &action, dry_run);
            assert_eq!(results[0]["change"], change, "{action} {time}: {results:#?}");
            let now = changing(&account);
            assert_eq!(now > sent, time == "first", "{action} {time}: {sent} and then {now}");
            sent = now;
            if dry_run {
                assert_eq!(whole(), unchanged, "{action}");
            }
        }
        let request = json!({"run_id": run_id, "kinds": ["image"], "details": true});
        let item = host.items(&request).pop().unwrap();
        assert_eq!(item.pointer(pointer).unwrap_or(&Value::Null), &value, "{action}");
        // Accounts may copy what they may start.
        let snapshots = account.owned("snapshots");
        let snapshot = snapshots.iter().find(|one| one["tags"]["build-image-image"] == id.as_str());
        let has_partner = item["shared_with"].to_string().contains(&format!("\"{PARTNER}\""));
        assert_eq!(snapshot.unwrap()["users"] == json!([PARTNER]), has_partner, "{action}");
    }
    let disabled = account.call("ec2", "DisableImage", &json!({"ImageId": id}), HOME);
    assert_eq!(disabled["Return"], true);
    let item =
        |id: &str| host.items(&json!({"items": [{"kind": "image", "id": id}]})).pop().unwrap();
    assert_eq!(item(&id)["state"], "disabled");
    assert_eq!(host.change(&image, &json!({"type": "restore"}), false)[0]["change"], "done");
    assert_eq!(item(&id)["state"], "available");
    assert_eq!(others(), before);
}

#[test]
fn what_is_refused_names_why_and_what_to_do_and_changes_nothing() {
    let Some(server) = Aws::shared() else { return };
    let (account, other) = (server.account(&json!({"polls": 1})), server.account(&json!({})));
    let sandbox = sandbox(&account, &[]);
    let run = build(&sandbox, "account-refused", &[]);
    run.succeeded();
    let id = id_of(&run);
    let host = open(&account);
    account.control("POST", "settings", json!({"block_public": true}));
    let theirs = json!({"name": "theirs", "users": [account.id()]});
    let theirs = other.control("POST", "images", theirs)["ImageId"].as_str().unwrap().to_owned();
    let sent = changing(&account);
    for (of, action, kind, text) in [
        (&id, json!({"type": "share", "accounts": [account.id()]}), "config", "itself"),
        (&id, json!({"type": "share", "accounts": ["a/b"]}), "config", "`a/b`"),
        (&id, json!({"type": "publish", "audience": "public"}), "conflict", "blocks public images"),
        (
            &id,
            json!({"type": "publish", "audience": "community"}),
            "unsupported",
            "private or public",
        ),
        (&id, json!({"type": "untag", "keys": [RUN]}), "config", RUN),
        (&id, json!({"type": "tag", "tags": {"aws:x": "y"}}), "config", "aws:x"),
        (&id, json!({"type": "deprecate", "disabled_at": 7}), "unsupported", "disable"),
        (&id, json!({"type": "copy", "regions": ["af-south-1"]}), "auth", "not enabled"),
        (&id, json!({"type": "copy", "regions": ["eu-nowhere-9"]}), "not_found", "eu-nowhere-9"),
        (&theirs, json!({"type": "tag", "tags": {"a": "b"}}), "config", other.id()),
        (&theirs, json!({"type": "delete", "force": true}), "config", other.id()),
        (&"ami-0".to_owned(), json!({"type": "restore"}), "not_found", "ami-0"),
    ] {
        for dry_run in [true, false] {
            let results = host.change(&json!({"id": of}), &action, dry_run);
            let (result, error) = (&results[0], &results[0]["error"]);
            assert_eq!(
                (&result["change"], &error["kind"]),
                (&json!("refused"), &json!(kind)),
                "{action}: {error}"
            );
            assert!(error["message"].as_str().unwrap().contains(text), "{action}: {error}");
            assert!(error["hint"].is_string(), "{action}: {error}");
        }
    }
    let wrong = json!({"images": [{"id": id}], "action": {"type": "paint"}});
    assert!(host.refused(Step::Manage, &wrong).starts_with("unsupported"));
    assert_eq!(changing(&account), sent);
    assert!(host.resources().is_empty(), "{:?}", host.resources());
    deletion(&account, &host, &id);
}

/// A shared, public, or protected image is deleted only with force, and one with a cool-down not at once.
fn deletion(account: &AwsAccount, host: &Account, id: &str) {
    let image = json!({"id": id});
    let delete = |force: bool| {
        let results = host.change(&image, &json!({"type": "delete", "force": force}), false);
        let kind = results[0]["error"]["kind"].as_str().unwrap_or_default();
        format!("{} {kind}", results[0]["change"].as_str().unwrap())
    };
    host.change(&image, &json!({"type": "share", "accounts": [PARTNER]}), false);
    assert_eq!(delete(false), "refused conflict");
    host.change(&image, &json!({"type": "unshare", "accounts": [PARTNER]}), false);
    let protect = |cooldown: bool| {
        let given = json!({"ImageId": id, "WithCooldown": cooldown});
        account.call("ec2", "EnableImageDeregistrationProtection", &given, HOME)
    };
    assert_eq!(protect(false)["Return"], "true");
    assert_eq!(delete(false), "refused conflict");
    assert_eq!(protect(true)["Return"], "true");
    let results = host.change(&image, &json!({"type": "delete", "force": true}), false);
    assert!(results[0]["error"]["hint"].as_str().unwrap().contains("24 hours"), "{results:#?}");
    // The cool-down has passed; for some seconds the service holds the snapshot to be in use.
    assert_eq!(protect(false)["Return"], "true");
    account.rules(&json!([{"operation": "DeleteSnapshot", "nth": 1, "count": 2,
        "code": "InvalidSnapshot.InUse"}]));
    assert_eq!(delete(true), "done ");
    assert_eq!(account.struck(), [2]);
    account.rules(&json!([]));
    assert_eq!(delete(true), "unchanged ");
    account.has_only(0);
}

#[test]
fn a_deletion_spares_what_others_use_and_is_finished_by_a_second_one() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({"polls": 1}));
    let sandbox = sandbox(&account, &[]);
    let host = open(&account);
    let built = |name: &str| {
        id_of(&{
            let run = build(&sandbox, name, &[]);
            run.succeeded();
            run
        })
    };
    // Another image of the account uses the snapshot.
    let shared = built("account-shared");
    let snapshot = account.owned("snapshots")[0]["id"].clone();
    let device = json!({"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}});
    let more = json!({"Name": "of-others", "RootDeviceName": "/dev/xvda", "VirtualizationType": "hvm",
        "Architecture": "x86_64", "BlockDeviceMappings": [device]});
    let user = account.call("ec2", "RegisterImage", &more, HOME)["ImageId"].clone();
    let delete = |id: &str, keep: bool| {
        let action = json!({"type": "delete", "keep_data": keep});
        host.change(&json!({"id": id}), &action, false)[0].clone()
    };
    let deleted = delete(&shared, false);
    assert_eq!(deleted["summary"], "deleted, kept 1 snapshot that others use", "{deleted:#}");
    assert_eq!(delete(&shared, false)["change"], "unchanged");
    let items = host.items(&json!({}));
    // It is nothing that an unfinished build left.
    assert_eq!((items.len(), &items[0]["resource"]["product"]), (1, &json!(true)), "{items:#?}");
    let gone = account.call("ec2", "DeregisterImage", &json!({"ImageId": user}), HOME);
    assert_eq!(gone["Return"], true, "{gone}");
    assert_eq!(delete(&shared, false)["change"], "done");
    account.has_only(0);
    // A snapshot that is kept stays, also for gc and a second deletion.
    let kept = built("account-kept");
    assert_eq!(delete(&kept, true)["change"], "done");
    assert_eq!(delete(&kept, false)["change"], "unchanged");
    let items = host.items(&json!({}));
    assert_eq!((items.len(), &items[0]["resource"]["product"]), (1, &json!(true)), "{items:#?}");
    // A deletion that ended between its two calls is finished by the next one.
    let halved = built("account-halved");
    account.rules(&json!([{"operation": "DeleteSnapshot", "code": "UnauthorizedOperation"}]));
    assert_eq!(delete(&halved, false)["error"]["kind"], "auth");
    account.rules(&json!([]));
    assert_eq!(delete(&halved, false)["change"], "done");
    assert_eq!((account.owned("images").len(), account.owned("snapshots").len()), (0, 1));
}

/// The child of the test below.
#[test]
fn one_call() {
    account_call_of_child();
}

#[test]
fn a_copy_that_was_killed_is_finished_by_the_same_call() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({"polls": 1}));
    let sandbox = sandbox(&account, &[("AWS_IMAGE_SHARE_ACCOUNT_IDS", "['123456789012']")]);
    let run = build(&sandbox, "account-copied", &["--image-tags", "[{team: images}]"]);
    run.succeeded();
    let id = id_of(&run);
    let host = open(&account);
    let image = json!({"kind": "image", "id": id, "region": HOME});
    host.change(&image, &json!({"type": "deprecate", "at": 5}), false);
    let copy = json!({"type": "copy", "regions": [AWAY, HOME], "with_access": true});
    let [id_pair, secret_pair] = secrets(&account);
    let call = json!({
        "provider": "aws",
        "settings": settings(&account),
        "secret": [id_pair.0, id_pair.1, secret_pair.0, secret_pair.1],
        "step": "manage",
        "request": {"run_id": "manage-1", "images": [image], "action": copy},
    });
    account.control("POST", "settings", json!({"polls": 6}));
    let mut child = account_child("account_aws::one_call", &call);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the copy", || account.owned("images").len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let item = host.items(&json!({"run_id": "manage-1", "kinds": ["image"]})).pop().unwrap();
    assert_eq!((&item["resource"]["product"], &item["state"]), (&json!(false), &json!("pending")));
    for (dry_run, change) in [(true, "done"), (false, "done"), (false, "unchanged")] {
        let results = host.change(&image, &copy, dry_run);
        let changes = [&results[0]["change"], &results[1]["change"]];
        assert_eq!(changes, [change, "unchanged"], "{results:#?}");
    }
    assert_eq!((account.owned("images").len(), account.owned("snapshots").len()), (2, 2));
    let items = host.items(&json!({"kinds": ["image"], "details": true}));
    let (away, home) = (&items[0], &items[1]);
    for member in ["name", "attributes", "shared_with", "deprecated_at", "audience"] {
        assert_eq!(away[member], home[member], "{member}");
    }
    assert_eq!(
        (&away["tags"]["team"], &away["resource"]["product"]),
        (&json!("images"), &json!(true))
    );
    account.holds(away["id"].as_str().unwrap(), AWAY, &sandbox.path().join("disk.raw"));
    // A copy of the copy is a copy of the original.
    let from = json!({"kind": "image", "id": away["id"], "region": AWAY});
    let again = json!({"type": "copy", "regions": [HOME, "eu-central-1"]});
    let results = host.change(&from, &again, false);
    assert_eq!(results[0]["copy"]["id"], json!(id), "{results:#?}");
    let third = results[1]["copy"]["id"].clone();
    let third = host.items(&json!({"items": [{"kind": "image", "id": third}]})).pop().unwrap();
    assert_eq!((&third["copied_from"], &third["run_id"]), (&image, &json!("manage-1")));
}
