//! Tests the list of what builds left in the account.

use std::{sync::Arc, time::Duration};

use build_image_emulator_alibaba::{Account, Config, Running};
use build_image_plugin_api::{
    Provider, Resource,
    document::{
        DiscardReason, DiscardRequest, Inventory, InventoryRequest, Item, ItemKind, ItemState,
        Reference,
    },
    testing::MockHost,
};
use serde_json::{Value, json};

use crate::{
    ecs::{ecs, images},
    harness::{Run, count, emulator, emulator_with, host},
    oss::{begin_upload, put},
};

/// Identifiers of runs, in the form of the host.
const RUN: &str = "20261129-120000-aaaaaa";
const OTHER: &str = "20261129-120000-bbbbbb";
/// Metadata with the run of an object.
const MARK: &str = "x-oss-meta-build-image-run";

fn run_of(emulator: &Running, run_id: &str, extra: &[(&str, Value)]) -> Run {
    let mut run = Run::new(emulator, host(), extra).called(run_id);
    run.build.image_name = format!("web-{run_id}");
    run
}

fn list(run: &Run, request: &InventoryRequest) -> Inventory {
    run.provider.inventory(&run.context, request).unwrap()
}

fn all() -> InventoryRequest {
    InventoryRequest::default()
}

/// Removes what a list contains, as the host does; returns what remains.
fn discard(run: &Run, items: Vec<Item>) -> usize {
    let resources: Vec<Resource> = items.into_iter().map(|item| item.resource).collect();
    let request = DiscardRequest::new(DiscardReason::Leftover, resources);
    run.provider.discard(&run.context, &request).unwrap().remaining.len()
}

/// What a list contains, read two items at a time.
fn pages(run: &Run, request: &InventoryRequest) -> Vec<Item> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let mut request = request.clone().limit(2);
        request.after = after;
        let page = list(run, &request);
        items.extend(page.items);
        after = page.next;
        if !page.truncated {
            return items;
        }
    }
}

fn kinds(found: &Inventory) -> Vec<(ItemKind, &str)> {
    let items = found.items.iter();
    items.map(|item| (item.kind, item.region.as_deref().unwrap())).collect()
}

#[test]
fn everything_that_a_build_made_is_listed_with_its_facts_and_can_be_removed() {
    use ItemKind::{Image, Object, Snapshot};
    let emulator = emulator();
    let settings = [
        ("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-shanghai"])),
        ("ALIBABA_KEEP_OSS_OBJECT", json!(true)),
        ("ALIBABA_NVME_SUPPORT", json!("supported")),
        ("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", json!([2_000_000_000_000_001_u64])),
    ];
    let run = run_of(&emulator, RUN, &settings);
    let registered = run.register(run.upload().unwrap()).unwrap();
    let other = run_of(&emulator, OTHER, &[]);
    other.register(other.upload().unwrap()).unwrap();
    let found = list(&run, &all().run_id(RUN).details(true));
    let (here, there) = ("cn-hangzhou", "cn-shanghai");
    assert_eq!(
        kinds(&found),
        // The second object is the manifest of the first.
        [
            (Image, here),
            (Snapshot, here),
            (Object, here),
            (Object, here),
            (Image, there),
            (Snapshot, there)
        ]
    );
    assert!(found.findings.is_empty() && found.regions.len() > 20, "{found:?}");
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    for item in &found.items {
        assert_eq!(item.run_id.as_deref(), Some(RUN), "{item:?}");
        assert!(item.resource.deliverable && item.size_bytes.unwrap() > 0, "{item:?}");
        assert!(item.created.unwrap().abs_diff(now) < 600, "{item:?}");
        assert_eq!(item.state, ItemState::Available, "{item:?}");
    }
    let (image, copy) = (&found.items[0], &found.items[4]);
    assert_eq!((&image.id, &copy.id), (&registered.images[0].id, &registered.images[1].id));
    assert_eq!(copy.copied_from.as_ref(), Some(&image.reference()));
    assert_eq!(
        (image.tags["platform"].as_str(), image.name.as_str()),
        ("alibaba", &*run.build.image_name)
    );
    for image in [image, copy] {
        assert_eq!(image.shared_with.as_deref(), Some(&["2000000000000001".to_owned()][..]));
        for (name, value) in [
            ("architecture", "x86_64"),
            ("boot_mode", "BIOS"),
            ("nvme_support", "supported"),
            ("encrypted", "no"),
        ] {
            assert_eq!(image.attributes[name], value, "{name}");
        }
    }
    assert_eq!(found.items[1].belongs_to.as_ref(), Some(&image.reference()));
    // The object may still be used by the build; the images are finished.
    assert!(found.items[2].leased_until.unwrap() > now && image.leased_until.is_none());
    // Page by page, the list is the same.
    assert_eq!(pages(&run, &all().run_id(RUN).details(true)), found.items);
    assert_eq!(discard(&run, found.items), 0);
    assert!(list(&run, &all().run_id(RUN)).items.is_empty());
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (1, 1));
}

#[test]
fn what_only_looks_like_a_leftover_is_neither_listed_nor_removed() {
    let emulator = emulator();
    let of = |key: &str| format!("build-image-{key}");
    for (key, metadata) in [
        (of("mine.raw"), &[][..]),
        (of(&format!("{RUN}.raw")), &[]),
        (of(&format!("{RUN}-web.qcow2")), &[(MARK, OTHER)]),
        (of(&format!("{OTHER}/disk.raw")), &[(MARK, OTHER)]),
        (format!("copy/{}", of(&format!("{RUN}.raw"))), &[(MARK, RUN)]),
        ("disk.raw".to_owned(), &[(MARK, RUN)]),
        (format!("my-{}", of(&format!("{RUN}.raw"))), &[(MARK, RUN)]),
    ] {
        put(&emulator, &key, metadata);
    }
    for number in 0..40 {
        put(&emulator, &of(&format!("{number}.raw")), &[]);
    }
    begin_upload(&emulator, &of("mine.raw"));
    begin_upload(&emulator, &format!("copy/{}", of(&format!("{RUN}.raw"))));
    let foreign = |name: &str, tag: (&str, &str)| {
        let disk = "DiskDeviceMapping.1.OSSObject";
        let parameters = [
            ("RegionId", "cn-hangzhou"),
            ("ImageName", name),
            ("DiskDeviceMapping.1.OSSBucket", "demo"),
            (disk, "disk.raw"),
            ("Tag.1.Key", tag.0),
            ("Tag.1.Value", tag.1),
        ];
        ecs(&emulator, "ImportImage", &parameters)["ImageId"].as_str().unwrap().to_owned()
    };
    let image = foreign("build-image-web", ("build-image", RUN));
    foreign(&format!("web-{RUN}"), ("run", RUN));
    let counts = || ["objects", "open_uploads", "images"].map(|kind| count(&emulator, kind));
    let before = counts();
    let run = run_of(&emulator, RUN, &[]);
    run.upload().unwrap();
    for request in [all(), all().run_id(RUN)] {
        let found = list(&run, &request);
        assert_eq!(kinds(&found), [(ItemKind::Object, "cn-hangzhou")], "{found:?}");
        assert!(!found.items[0].resource.deliverable);
    }
    // A user who names a thing means it.
    let named = all().items([
        Reference::image(&image).in_region("cn-hangzhou"),
        Reference::new(ItemKind::Object, "demo/build-image-mine.raw").in_region("cn-hangzhou"),
    ]);
    let found = list(&run, &named);
    assert_eq!(found.regions, ["cn-hangzhou"]);
    assert_eq!(found.items.len(), 2, "{found:?}");
    assert!(found.items.iter().all(|item| item.run_id.is_none() && item.leased_until.is_none()));
    assert_eq!(discard(&run, list(&run, &all()).items), 0);
    assert_eq!(counts(), before);
}

#[test]
fn an_upload_is_claimed_for_an_hour_after_its_newest_part() {
    let emulator = emulator();
    let refused = json!([{"operation": "UploadPart", "part_number": 5, "action": {"status": 403, "code": "AccessDenied"}}]);
    emulator.set_faults(&refused.to_string()).unwrap();
    let run = run_of(&emulator, RUN, &[]);
    run.upload().unwrap_err();
    let uploads = || all().kinds([ItemKind::Upload]);
    let found = list(&run, &uploads());
    assert_eq!(kinds(&found), [(ItemKind::Upload, "cn-hangzhou")]);
    let upload = &found.items[0];
    assert_eq!((upload.run_id.as_deref(), upload.state), (Some(RUN), ItemState::Pending));
    assert!(upload.size_bytes.unwrap() > 0 && !upload.resource.deliverable, "{upload:?}");
    let until = upload.leased_until.unwrap();
    assert!(until > upload.created.unwrap() + 3500, "{upload:?}");
    // Two hours later by the service's clock, whatever this machine's says.
    let late = json!([{"operation": "*", "action": {"skew_seconds": 7200}}]);
    emulator.set_faults(&late.to_string()).unwrap();
    let late = run_of(&emulator, OTHER, &[]);
    let found = list(&late, &uploads().regions(["cn-hangzhou"]));
    assert_eq!(found.items.len(), 1, "{found:?}");
    assert_eq!(found.items[0].leased_until, None);
    assert_eq!(discard(&late, found.items), 0);
    assert_eq!(count(&emulator, "open_uploads"), 0);
}

#[test]
fn a_running_import_is_listed_with_its_image_and_can_be_cancelled() {
    let emulator =
        emulator_with(Config { import_time: Duration::from_secs(600), ..Config::default() });
    let timeout = ("ALIBABA_IMPORT_TIMEOUT", json!(1));
    let run = run_of(&emulator, RUN, &[timeout]);
    assert_eq!(run.register(run.upload().unwrap()).unwrap_err().kind.code(), "timeout");
    let request = all().kinds([ItemKind::Task, ItemKind::Image]).regions(["cn-hangzhou"]);
    let found = list(&run, &request);
    let [task, image] = &found.items[..] else { panic!("{found:?}") };
    assert_eq!((task.kind, image.kind), (ItemKind::Task, ItemKind::Image));
    assert_eq!(task.belongs_to.as_ref(), Some(&image.reference()));
    for item in [task, image] {
        assert_eq!((item.run_id.as_deref(), item.state), (Some(RUN), ItemState::Pending));
        assert!(item.percent.is_some() && item.leased_until.is_some(), "{item:?}");
    }
    assert_eq!(discard(&run, vec![image.clone()]), 0);
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (0, 0));
    assert!(list(&run, &request).items.is_empty());
}

#[test]
fn a_snapshot_that_outlived_its_image_is_found_by_its_mark() {
    let emulator = emulator();
    let run = run_of(&emulator, RUN, &[]);
    let registered = run.register(run.upload().unwrap()).unwrap();
    let image = &registered.images[0].id;
    let listed = || list(&run, &all().kinds([ItemKind::Image, ItemKind::Snapshot]));
    let refused = json!([{"operation": "DeleteSnapshot", "action": {"status": 403, "code": "Forbidden.RAM"}}]);
    emulator.set_faults(&refused.to_string()).unwrap();
    // The image is removed and its snapshot is not, as by a process that is killed in between.
    assert_eq!(discard(&run, vec![listed().items[0].clone()]), 1);
    emulator.set_faults("[]").unwrap();
    let found = listed();
    let [snapshot] = &found.items[..] else { panic!("{found:?}") };
    assert_eq!((snapshot.kind, snapshot.run_id.as_deref()), (ItemKind::Snapshot, Some(RUN)));
    assert!(!snapshot.resource.deliverable);
    let former = Reference::image(image).in_region("cn-hangzhou");
    assert_eq!(snapshot.belongs_to.as_ref(), Some(&former));
    assert_eq!(discard(&run, found.items), 0);
    assert_eq!(count(&emulator, "snapshots"), 0);
}

#[test]
fn a_region_that_cannot_be_read_is_a_finding_and_the_others_are_read() {
    let emulator = emulator();
    let run = run_of(&emulator, RUN, &[("ALIBABA_IMAGE_COPY_REGIONS", json!(["eu-central-1"]))]);
    let found = list(&run, &all().regions(["cn-hangzhou", "nowhere"]));
    assert_eq!(found.regions, ["cn-hangzhou"]);
    let subjects: Vec<&str> = found.findings.iter().map(|one| one.subject.as_str()).collect();
    assert_eq!(subjects, ["region nowhere"]);
    let refused = |operation: &str| {
        let rule =
            json!([{"operation": operation, "action": {"status": 403, "code": "Forbidden.RAM"}}]);
        emulator.set_faults(&rule.to_string()).unwrap();
    };
    refused("ListObjectsV2");
    let found = list(&run, &all().regions(["cn-hangzhou", "cn-shanghai"]));
    assert_eq!(
        (found.regions, found.findings[0].subject.as_str()),
        (vec!["cn-shanghai".to_owned()], "bucket demo")
    );
    // Without the list of regions, those of the settings are read.
    refused("DescribeRegions");
    let found = list(&run, &all());
    assert_eq!(found.regions, ["cn-hangzhou", "eu-central-1"]);
    assert_eq!(found.findings[0].subject, "regions");
}

#[test]
fn another_account_lists_and_removes_nothing_of_this_one() {
    let other_accounts = vec![Account::parse("other-id:other-secret").unwrap()];
    let emulator = emulator_with(Config { other_accounts, ..Config::default() });
    let run = run_of(&emulator, RUN, &[]);
    let registered = run.register(run.upload().unwrap()).unwrap();
    let stranger = MockHost::new()
        .with_secret("ALIBABA_ACCESS_KEY_ID", "other-id")
        .with_secret("ALIBABA_ACCESS_KEY_SECRET", "other-secret");
    let stranger = Run::new(&emulator, stranger, &[]);
    let image = Reference::image(&registered.images[0].id).in_region("cn-hangzhou");
    assert!(list(&stranger, &all().items([image])).items.is_empty());
    for request in [all(), all().run_id(RUN)] {
        let found = list(&stranger, &request);
        assert!(found.items.is_empty(), "{found:?}");
        // The bucket is not theirs, hence its region is not read completely.
        assert_eq!(found.findings[0].subject, "bucket demo");
        assert!(!found.regions.contains(&"cn-hangzhou".to_owned()));
    }
    let counts = || ["images", "snapshots", "objects"].map(|kind| count(&emulator, kind));
    let (before, ours) = (counts(), list(&run, &all()).items);
    assert_eq!(ours.len(), 3);
    // What they do not see, they must not report as removed.
    assert_eq!(discard(&stranger, ours.clone()), 3);
    assert_eq!(counts(), before);
    assert_eq!(discard(&run, ours), 0);
    assert_eq!(counts(), [0, 0, 0]);
}

#[test]
fn a_listing_only_reads() {
    let emulator = emulator();
    let run = run_of(&emulator, RUN, &[]);
    run.register(run.upload().unwrap()).unwrap();
    let quiet = Arc::new(host());
    let reader = Run::over(&emulator, Arc::clone(&quiet), quiet.context(), &[]);
    let before = images(&emulator, "cn-hangzhou");
    assert_eq!(list(&reader, &all().details(true)).items.len(), 3);
    assert_eq!(images(&emulator, "cn-hangzhou"), before);
    assert!(quiet.events().is_empty() && quiet.checkpoints().is_empty());
}
