//! Tests roles, temporary keys, the metadata service, and quotas.

use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, Reply, emulator};
use crate::disks;
use crate::import::{import, params};

const STS: &str = "2015-04-01";
const RAM: &str = "2015-05-01";
const TRUST: &str = r#"{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole",
    "Principal":{"Service":["ecs.aliyuncs.com"]}}]}"#;

fn call(client: &Client, version: &str, action: &str, params: &[(&str, &str)]) -> Reply {
    let nonce = format!("{action}-{}", jiff::Timestamp::now().as_nanosecond());
    client.acs_with_nonce((version, action), params, &nonce)
}

/// Whether these keys may call; they are used with their token.
fn may_call(client: &Client, keys: &Value) -> bool {
    let text = |name: &str| keys[name].as_str().unwrap().to_owned();
    let who = Client { id: text("AccessKeyId"), secret: text("AccessKeySecret"), ..client.clone() };
    let call = crate::client::Call {
        method: "PUT",
        bucket: "demo",
        key: "k",
        headers: &[("x-oss-security-token", &text("SecurityToken"))],
        body: b"x",
        ..crate::client::Call::default()
    };
    who.oss(&call).status == 200
}

#[test]
fn a_created_role_permits_ecs_to_read_once_its_policy_is_in_force() {
    let running = emulator(|config| {
        config.import_role = false;
        config.role_time = Duration::from_secs(60);
    });
    let client = Client::of(&running);
    client.put("disk.raw", &disks::raw(1 << 20));
    let name = ("RoleName", "AliyunECSImageImportDefaultRole");
    let refused = (403, "NoSetRoletoECSServiceAcount".to_owned());
    let import = || client.ecs("ImportImage", &params("img", "disk.raw", "RAW"));
    assert_eq!(import().error(), refused);
    let made = call(&client, RAM, "CreateRole", &[name, ("AssumeRolePolicyDocument", TRUST)]);
    assert_eq!(made.status, 200);
    assert_eq!(import().error(), refused);
    let policy = [name, ("PolicyType", "System"), ("PolicyName", "AliyunECSImageImportRolePolicy")];
    assert_eq!(call(&client, RAM, "AttachPolicyToRole", &policy).status, 200);
    assert_eq!(import().error(), refused);
    let later = r#"[{"operation":"ImportImage","action":{"skew_seconds":61}}]"#;
    running.set_faults(later).unwrap();
    assert_eq!(import().status, 200);
    running.set_faults("[]").unwrap();
    let conflict = call(&client, RAM, "DeleteRole", &[name]).error();
    assert_eq!(conflict, (409, "DeleteConflict.Role.Policy".to_owned()));
    assert_eq!(call(&client, RAM, "DetachPolicyFromRole", &policy).status, 200);
    assert_eq!(call(&client, RAM, "DeleteRole", &[name]).status, 200);
    assert_eq!(call(&client, RAM, "GetRole", &[name]).status, 404);
}

#[test]
fn temporary_keys_work_until_they_expire() {
    let running = emulator(|config| config.session_time = Some(Duration::from_secs(300)));
    let client = Client::of(&running);
    let params = [
        ("RoleArn", "acs:ram::1000000000000001:role/emulator-role"),
        ("RoleSessionName", "test"),
        ("DurationSeconds", "3600"),
    ];
    let answer = call(&client, STS, "AssumeRole", &params).json();
    let uri = client.plain("GET", "/_emulator/credentials", b"").json();
    assert_eq!(uri["Code"], "Success");
    let metadata =
        client.plain("GET", "/latest/meta-data/ram/security-credentials/emulator-role", b"").json();
    for keys in [&answer["Credentials"], &uri, &metadata] {
        assert!(may_call(&client, keys));
        let late = r#"[{"operation":"PutObject","action":{"skew_seconds":301}}]"#;
        running.set_faults(late).unwrap();
        assert!(!may_call(&client, keys));
        running.set_faults("[]").unwrap();
    }
    // Half of its time is left: the same key again.
    let again = client.plain("GET", "/_emulator/credentials", b"").json();
    assert_eq!(again["AccessKeyId"], uri["AccessKeyId"]);
    let missing = [("RoleArn", "acs:ram::1:role/x"), ("RoleSessionName", "test")];
    assert_eq!(call(&client, STS, "AssumeRole", &missing).status, 404);
}

#[test]
fn the_metadata_service_can_insist_on_tokens() {
    let running = emulator(|config| config.metadata_v1 = false);
    let client = Client::of(&running);
    assert_eq!(client.plain("GET", "/latest/meta-data/region-id", b"").status, 403);
    assert_eq!(client.plain("PUT", "/latest/api/token", b"").status, 400);
    // For a signed request, a bucket of that name is still a bucket.
    let signed = crate::client::Call {
        method: "GET",
        bucket: "latest",
        key: "meta-data/x",
        ..crate::client::Call::default()
    };
    assert_eq!(client.oss(&signed).error(), (404, "NoSuchBucket".to_owned()));
}

#[test]
fn images_have_a_quota_and_copies_wait_their_turn() {
    let running = emulator(|config| config.image_quota = 8);
    let client = Client::of(&running);
    client.put("disk.raw", &disks::raw(1 << 20));
    let (image, _) = import(&client, &params("img", "disk.raw", "RAW"));
    running.set_faults(r#"[{"operation":"CopyImage","action":{"keep_creating":1000}}]"#).unwrap();
    let copy = |name: &str| {
        let params = [
            ("ImageId", image.as_str()),
            ("DestinationRegionId", "cn-beijing"),
            ("DestinationImageName", name),
        ];
        client.ecs("CopyImage", &params)
    };
    for number in 0..8 {
        assert_eq!(copy(&format!("copy-{number}")).status, 200);
    }
    assert_eq!(copy("copy-9").error(), (403, "QuotaExceed.Image".to_owned()));
    let count = |status: &str| {
        let params = [("RegionId", "cn-beijing"), ("Status", status)];
        client.ecs("DescribeImages", &params).json()["TotalCount"].as_u64().unwrap()
    };
    assert_eq!((count("Creating"), count("Waiting")), (5, 3));
}

#[test]
fn this_crate_and_the_provider_share_no_signer() {
    for (manifest, other) in [
        (include_str!("../../Cargo.toml"), "build-image-provider-alibaba"),
        (include_str!("../../../Cargo.toml"), "build-image-emulator-alibaba"),
    ] {
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
        let dependencies = dependencies.split("\n[").next().unwrap();
        assert!(!dependencies.contains(other), "{other}");
    }
    assert!(!include_str!("../../Cargo.toml").contains("build-image-provider-alibaba"));
}
