//! Tests ECS beyond importing, STS, and RAM: images, snapshots, tags, sharing, copies, signatures.

use crate::client::{Client, emulator};
use crate::disks;
use crate::import::{images, import, params};

fn with_images(names: &[&str]) -> (build_image_emulator_alibaba::Running, Client, Vec<String>) {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("disk.raw", &disks::raw(1 << 20));
    let ids =
        names.iter().map(|name| import(&client, &params(name, "disk.raw", "RAW")).0).collect();
    (running, client, ids)
}

fn snapshot_of(client: &Client, image: &str) -> String {
    let found = &images(client, &[("ImageId", image)])[0];
    let disk = &found["DiskDeviceMappings"]["DiskDeviceMapping"][0];
    disk["SnapshotId"].as_str().unwrap().to_owned()
}

#[test]
fn names_match_in_part_and_lists_come_in_pages() {
    let (_running, client, _) = with_images(&["img-a", "img-b", "other"]);
    let found = client.ecs("DescribeImages", &[("ImageName", "img"), ("PageSize", "1")]).json();
    assert_eq!((&found["TotalCount"], &found["PageSize"]), (&2.into(), &1.into()));
    assert_eq!(found["Images"]["Image"].as_array().unwrap().len(), 1);
    let second = client
        .ecs("DescribeImages", &[("ImageName", "img"), ("PageSize", "1"), ("PageNumber", "2")])
        .json();
    let name = |value: &serde_json::Value| value["Images"]["Image"][0]["ImageName"].to_string();
    assert_ne!(name(&found), name(&second));
    assert_eq!(images(&client, &[("ImageOwnerAlias", "system")]).as_array().unwrap().len(), 0);
    assert_eq!(client.ecs("DescribeImages", &[("PageSize", "101")]).status, 400);
}

#[test]
fn a_snapshot_is_deleted_only_after_its_image() {
    let (running, client, ids) = with_images(&["img"]);
    let snapshot = snapshot_of(&client, &ids[0]);
    let delete = || client.ecs("DeleteSnapshot", &[("SnapshotId", &snapshot), ("Force", "true")]);
    assert_eq!(delete().error(), (403, "SnapshotCreatedImage".to_owned()));
    assert_eq!(client.ecs("DeleteImage", &[("ImageId", &ids[0])]).status, 200);
    assert_eq!(running.status()["snapshots"], 1);
    assert_eq!(delete().status, 200);
    assert_eq!(delete().error(), (404, "InvalidSnapshotId.NotFound".to_owned()));
    let gone = client.ecs("DeleteImage", &[("ImageId", &ids[0])]);
    assert_eq!(gone.error(), (404, "InvalidImageId.NotFound".to_owned()));
    assert_eq!(running.status()["snapshots"], 0);
}

#[test]
fn snapshots_are_found_by_name_and_use() {
    let (_running, client, ids) = with_images(&["img-a", "img-b"]);
    let found = |more: &[(&str, &str)]| {
        let listed = client.ecs("DescribeSnapshots", more).json();
        let list = listed["Snapshots"]["Snapshot"].as_array().unwrap().clone();
        list.iter().map(|row| row["SnapshotId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let own = snapshot_of(&client, &ids[0]);
    assert_eq!(found(&[("SnapshotName", "SnapshotForImage-img-a")]), [own.as_str()]);
    assert!(found(&[("SnapshotName", "SnapshotForImage-img")]).is_empty());
    assert!(found(&[("Usage", "none")]).is_empty());
    assert_eq!(client.ecs("DeleteImage", &[("ImageId", &ids[0])]).status, 200);
    assert_eq!(found(&[("Usage", "none")]), [own]);
}

#[test]
fn an_image_check_reports_the_injected_findings() {
    let (running, client, _) = with_images(&[]);
    let order = r#"[{"operation":"ImportImage","action":{"image_check":[
        {"name":"GUESTOS.Virtio","value":"no","risk_level":"High","risk_code":"R1"},
        {"name":"GUESTOS.Dhcp","value":"yes"}]}}]"#;
    running.set_faults(order).unwrap();
    let mut call = params("img", "disk.raw", "RAW");
    let unchecked = import(&client, &call).0;
    call = params("img-2", "disk.raw", "RAW");
    call.push(("DetectionStrategy", "Standard"));
    let checked = import(&client, &call).0;
    let options = |id: &str| images(&client, &[("ImageId", id)])[0]["DetectionOptions"].clone();
    assert!(options(&unchecked).is_null());
    let report = options(&checked);
    assert_eq!(report["Status"], "Finished");
    let items = report["Items"]["Item"].as_array().unwrap();
    assert_eq!((&items[0]["RiskLevel"], &items[0]["RiskCode"]), (&"High".into(), &"R1".into()));
    assert!(items[1].get("RiskLevel").is_none());
    let typo = r#"[{"operation":"ImportImage","action":{"image_check":[{"nam":"x"}]}}]"#;
    assert!(running.set_faults(typo).is_err());
}

#[test]
fn images_and_snapshots_are_tagged() {
    let (_running, client, ids) = with_images(&["img"]);
    let snapshot = snapshot_of(&client, &ids[0]);
    for (kind, id) in [("image", ids[0].as_str()), ("snapshot", &snapshot)] {
        let resource = [("ResourceType", kind), ("ResourceId.1", id)];
        let mut add = resource.to_vec();
        add.extend([("Tag.1.Key", "a"), ("Tag.1.Value", "1"), ("Tag.2.Key", "b")]);
        assert_eq!(client.ecs("TagResources", &add).status, 200);
        let list = || {
            let reply = client.ecs("ListTagResources", &resource).json();
            reply["TagResources"]["TagResource"].as_array().unwrap().len()
        };
        assert_eq!(list(), 2);
        let mut remove = resource.to_vec();
        remove.push(("TagKey.1", "b"));
        assert_eq!(client.ecs("UntagResources", &remove).status, 200);
        assert_eq!(list(), 1);
    }
    assert_eq!(images(&client, &[("Tag.1.Key", "a")]).as_array().unwrap().len(), 1);
    assert_eq!(images(&client, &[("Tag.1.Key", "b")]).as_array().unwrap().len(), 0);
    let missing = [("ResourceType", "image"), ("ResourceId.1", "m-none"), ("Tag.1.Key", "a")];
    let error = client.ecs("TagResources", &missing).error();
    assert_eq!(error, (404, "InvalidResourceId.NotFound".to_owned()));
}

#[test]
fn sharing_takes_ten_accounts_at_once_and_drops_more() {
    let (_running, client, ids) = with_images(&["img"]);
    let names: Vec<String> = (1..=12).map(|n| format!("AddAccount.{n}")).collect();
    let accounts: Vec<String> = (1..=12).map(|n| format!("{}", 5000 + n)).collect();
    let mut share = vec![("ImageId", ids[0].as_str())];
    share.extend(names.iter().map(String::as_str).zip(accounts.iter().map(String::as_str)));
    assert_eq!(client.ecs("ModifyImageSharePermission", &share).status, 200);
    let permissions = || {
        let params = [("ImageId", ids[0].as_str()), ("PageSize", "100")];
        client.ecs("DescribeImageSharePermission", &params).json()
    };
    assert_eq!(permissions()["TotalCount"], 10);
    assert_eq!(permissions()["Accounts"]["Account"][9]["AliyunId"], "5010");
    let one = |name: &str, account: &str| {
        let params = [("ImageId", ids[0].as_str()), (name, account)];
        client.ecs("ModifyImageSharePermission", &params).error()
    };
    assert_eq!(one("RemoveAccount.1", "5001").0, 200);
    assert_eq!(permissions()["TotalCount"], 9);
    let own = (403, "InvalidAccount.Forbbiden".to_owned());
    assert_eq!(one("AddAccount.1", "1000000000000001"), own);
    assert_eq!(one("AddAccount.1", "x"), (404, "InvalidAccount.NotFound".to_owned()));
    let error = client.ecs("DeleteImage", &[("ImageId", &ids[0])]).error();
    assert_eq!(error, (403, "ImageUseShared".to_owned()));
    assert_eq!(client.ecs("DeleteImage", &[("ImageId", &ids[0]), ("Force", "true")]).status, 200);
}

#[test]
fn attributes_change_within_the_rules() {
    let (_running, client, ids) = with_images(&["img", "taken"]);
    let modify = |name: &str, value: &str| {
        let params = [("ImageId", ids[0].as_str()), (name, value)];
        client.ecs("ModifyImageAttribute", &params).error()
    };
    assert_eq!(modify("ImageFamily", "family-1").0, 200);
    assert_eq!(modify("BootMode", "UEFI-Preferred").0, 200);
    assert_eq!(modify("Features.ImdsSupport", "v2").0, 200);
    assert_eq!(modify("Features.ImdsSupport", "v1").1, "InvalidParameter.FeaturesImdsSupport");
    assert_eq!(modify("ImageName", "taken").1, "InvalidImageName.Duplicated");
    assert_eq!(modify("Status", "Deprecated").0, 200);
    let found = &images(&client, &[("ImageFamily", "family-1")])[0];
    assert_eq!(
        (&found["Status"], &found["BootMode"]),
        (&"Deprecated".into(), &"UEFI-Preferred".into())
    );
    assert_eq!(client.ecs("DescribeImages", &[]).json()["TotalCount"], 1);
}

#[test]
fn a_copy_is_a_separate_image() {
    let (running, client, ids) = with_images(&["img"]);
    let modify = [("ImageId", ids[0].as_str()), ("Features.NvmeSupport", "supported")];
    assert_eq!(client.ecs("ModifyImageAttribute", &modify).status, 200);
    let copy = |region: &str| {
        let params = [("ImageId", ids[0].as_str()), ("DestinationRegionId", region)];
        client.ecs("CopyImage", &params)
    };
    assert_eq!(copy("cn-hangzhou").error().1, "IncorrectDestinationRegion");
    let made = copy("cn-beijing").json()["ImageId"].as_str().unwrap().to_owned();
    let found = &images(&client, &[("RegionId", "cn-beijing"), ("ImageId", &made)])[0];
    assert_eq!(found["Features"]["NvmeSupport"], "unsupported");
    assert_eq!(found["Status"], "Available");
    assert_ne!(
        snapshot_of(&client, &ids[0]),
        found["DiskDeviceMappings"]["DiskDeviceMapping"][0]["SnapshotId"]
    );
    assert_eq!(copy("cn-beijing").error().1, "InvalidImageName.Duplicated");
    assert_eq!(client.ecs("DeleteImage", &[("ImageId", &ids[0])]).status, 200);
    assert_eq!(running.status()["images"], 1);
}

#[test]
fn an_image_that_is_being_copied_is_not_deleted() {
    let (running, client, ids) = with_images(&["img"]);
    let params = [("ImageId", ids[0].as_str()), ("DestinationRegionId", "cn-beijing")];
    running
        .set_faults(r#"[{"operation":"CopyImage","action":{"keep_creating":4294967295}}]"#)
        .unwrap();
    let copy = client.ecs("CopyImage", &params).json()["ImageId"].as_str().unwrap().to_owned();
    let refused = client.ecs("DeleteImage", &[("ImageId", &ids[0]), ("Force", "true")]);
    assert_eq!(refused.error(), (403, "OperationDenied.ImageCopying".to_owned()));
    let cancel = [("RegionId", "cn-beijing"), ("ImageId", copy.as_str())];
    assert_eq!(client.ecs("CancelCopyImage", &cancel).status, 200);
    assert_eq!(client.ecs("DeleteImage", &[("ImageId", &ids[0])]).status, 200);
}

#[test]
fn tasks_are_listed_and_filtered() {
    let (_running, client, _) = with_images(&["img-a", "img-b"]);
    let count = |params: &[(&str, &str)]| {
        client.ecs("DescribeTasks", params).json()["TotalCount"].as_u64().unwrap()
    };
    assert_eq!(count(&[]), 2);
    assert_eq!(count(&[("TaskStatus", "Finished"), ("TaskAction", "ImportImage")]), 2);
    assert_eq!(count(&[("TaskStatus", "Processing")]), 0);
    assert_eq!(count(&[("TaskIds", "t-none")]), 0);
    assert_eq!(count(&[("StartTime", "2200-01-01T00:00Z")]), 0);
}

#[test]
fn calls_are_authenticated_and_nonces_count_once() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let regions = client.ecs("DescribeRegions", &[]);
    assert_eq!(regions.json()["Regions"]["Region"][0]["RegionId"], "cn-hangzhou");
    assert_eq!(regions.header("x-acs-request-id"), regions.json()["RequestId"]);
    let call = ("2014-05-26", "DescribeRegions");
    assert_eq!(client.acs_with_nonce(call, &[], "once").status, 200);
    let again = client.acs_with_nonce(call, &[], "once");
    assert_eq!(again.error(), (400, "SignatureNonceUsed".to_owned()));
    assert!(again.json()["HostId"].is_string() && again.json()["Recommend"].is_string());
    let wrong = Client { secret: "wrong".to_owned(), ..client.clone() };
    assert_eq!(
        wrong.ecs("DescribeRegions", &[]).error(),
        (400, "SignatureDoesNotMatch".to_owned())
    );
    let nobody = Client { id: "nobody".to_owned(), ..client.clone() };
    let error = nobody.ecs("DescribeRegions", &[]).error();
    assert_eq!(error, (404, "InvalidAccessKeyId.NotFound".to_owned()));
    assert_eq!(client.ecs("RunInstances", &[]).error(), (404, "InvalidAction.NotFound".to_owned()));
}

#[test]
fn sts_and_ram_report_the_caller_and_whether_the_role_exists() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let who = client.acs_with_nonce(("2015-04-01", "GetCallerIdentity"), &[], "1").json();
    assert_eq!(who["AccountId"], "1000000000000001");
    let role = |nonce: &str, name: &str| {
        client.acs_with_nonce(("2015-05-01", "GetRole"), &[("RoleName", name)], nonce)
    };
    let found = role("2", "AliyunECSImageImportDefaultRole").json();
    let trust = found["Role"]["AssumeRolePolicyDocument"].as_str().unwrap();
    assert!(trust.contains("ecs.aliyuncs.com"));
    assert_eq!(role("3", "Other").error(), (404, "EntityNotExist.Role".to_owned()));
    let policies = client.acs_with_nonce(
        ("2015-05-01", "ListPoliciesForRole"),
        &[("RoleName", "AliyunECSImageImportDefaultRole")],
        "4",
    );
    let name = &policies.json()["Policies"]["Policy"][0]["PolicyName"];
    assert_eq!(name, "AliyunECSImageImportRolePolicy");
}
