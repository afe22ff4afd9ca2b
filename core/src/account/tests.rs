//! Tests the decisions about what an account contains.

use std::time::Duration;

use build_image_plugin_api::{
    Resource,
    document::{
        Action, Audience, Change, Item, ItemKind, ItemState, ManageRequest, Managed, Reference,
    },
};

use super::{Difference, Retention, check, compare, complete, outdated, superseded, sweep};

const NOW: u64 = 2_000_000_000;
const HOUR: u64 = 3600;
const DAY: Duration = Duration::from_secs(24 * HOUR);

/// An object of run `run`, so many hours old.
fn object(kind: ItemKind, id: &str, run: &str, hours: u64) -> Item {
    let resource = Resource::new("object", id);
    let resource = if kind == ItemKind::Image { resource.as_deliverable() } else { resource };
    let item = Item::new(kind, id, resource).created(NOW - hours * HOUR);
    let item = item.state(ItemState::Available);
    if run.is_empty() { item } else { item.run_id(run) }
}

fn image(id: &str, name: &str, region: &str, run: &str, hours: u64) -> Item {
    object(ItemKind::Image, id, run, hours).name(name).region(region)
}

#[test]
fn only_what_no_build_uses_and_none_finished_is_removed() {
    use ItemKind::{Image, Object, Snapshot, Task, Upload};
    let pending = |item: Item| item.state(ItemState::Pending);
    let leased = |mut item: Item, until: u64| {
        item.leased_until = Some(until);
        item
    };
    let ageless = |mut item: Item| {
        item.created = None;
        item
    };
    let failed = |item: Item| item.state(ItemState::Failed);
    // Objects, what is removed, and a part of the reason for what stays.
    let cases: Vec<(Vec<Item>, &[&str], &str)> = vec![
        (vec![object(Object, "a", "r", 30)], &["a"], ""),
        (vec![object(Upload, "a", "r", 30), object(Object, "b", "r", 25)], &["a", "b"], ""),
        (vec![object(Object, "a", "r", 23)], &[], "not old enough"),
        // One object of a run that is young protects all of it.
        (vec![object(Object, "a", "r", 30), object(Upload, "b", "r", 1)], &[], "not old enough"),
        (vec![leased(object(Upload, "a", "r", 30), NOW + 1)], &[], "at work"),
        (vec![leased(object(Upload, "a", "r", 30), NOW)], &["a"], ""),
        (
            vec![object(Object, "a", "r", 30), leased(object(Image, "i", "r", 30), NOW + 1)],
            &[],
            "at work",
        ),
        (vec![ageless(object(Object, "a", "r", 30))], &[], "age"),
        // An image that is complete stays, also beside what is removed.
        (vec![object(Image, "i", "r", 30)], &[], ""),
        (vec![object(Image, "i", "r", 30), object(Object, "a", "r", 30)], &["a"], ""),
        (vec![pending(object(Image, "i", "r", 30))], &["i"], ""),
        (vec![failed(object(Image, "i", "r", 30)), object(Task, "t", "r", 30)], &["i", "t"], ""),
        // A snapshot without a mark, and one of another run.
        (vec![object(Snapshot, "a", "", 90)], &[], ""),
        (vec![object(Object, "a", "r", 30), object(Object, "b", "s", 1)], &["a"], "not old enough"),
        (vec![object(Object, "a", "known", 30)], &[], "known here"),
    ];
    let here = |run: &str| (run == "known").then(|| "it is known here".to_owned());
    for (items, wanted, reason) in cases {
        let shown = format!("{items:?}");
        let decided = sweep(items, NOW, DAY, &here);
        let removed: Vec<&str> =
            decided.remove.values().flatten().map(|item| item.id.as_str()).collect();
        assert_eq!(removed, wanted, "{shown}");
        let reasons: Vec<&str> = decided.kept.iter().map(|kept| kept.reason.as_str()).collect();
        assert_eq!(reasons.is_empty(), reason.is_empty(), "{shown}: {reasons:?}");
        assert!(reasons.iter().all(|text| text.contains(reason)), "{shown}: {reasons:?}");
    }
}

#[test]
fn the_newest_images_of_a_family_stay_in_each_region() {
    let all = vec![
        image("a1", "web-1", "a", "r1", 400),
        image("a2", "web-2", "a", "r2", 300),
        image("a3", "web-3", "a", "r3", 200),
        image("b1", "web-1", "b", "r1", 399),
        image("b2", "web-2", "b", "r2", 299),
        // Of another family, of others, not complete, without an age: none counts, and none is removed.
        image("d1", "db-1", "a", "r4", 900),
        image("x1", "web-0", "a", "", 900),
        image("p1", "web-4", "a", "r5", 1).state(ItemState::Pending),
        image("p2", "web-5", "a", "r6", 900).state(ItemState::Failed),
        {
            let mut image = image("n1", "web-6", "a", "r7", 1);
            image.created = None;
            image
        },
        object(ItemKind::Snapshot, "s1", "r1", 400).name("web-1").region("a"),
    ];
    let ids = |keep: usize, older_than: Option<u64>, family: &str| {
        let older_than = older_than.map(|hours| Duration::from_secs(hours * HOUR));
        let rule = Retention { family: family.to_owned(), keep, older_than };
        let removed = superseded(&all, &rule, NOW);
        removed.into_iter().map(|item| item.id).collect::<Vec<String>>()
    };
    assert_eq!(ids(1, None, "web-"), ["a1", "b1", "a2"]);
    assert_eq!(ids(2, None, "web-"), ["a1"]);
    assert_eq!(ids(3, None, "web-"), Vec::<String>::new());
    assert_eq!(ids(0, None, "web-"), ["a1", "b1", "a2", "b2", "a3"]);
    assert_eq!(ids(0, Some(300), "web-"), ["a1", "b1", "a2"]);
    assert_eq!(ids(1, Some(400), "web-"), ["a1"]);
    assert_eq!(ids(0, None, "db-"), ["d1"]);
    assert_eq!(ids(0, None, "none"), Vec::<String>::new());
}

#[test]
fn images_of_one_run_and_region_count_as_one() {
    let all = [
        image("a1", "web-1", "a", "r1", 9),
        image("a2", "web-1b", "a", "r1", 8),
        image("a3", "web-0", "a", "r0", 20),
    ];
    let rule = Retention { family: "web".to_owned(), keep: 1, older_than: None };
    let removed: Vec<String> =
        superseded(&all, &rule, NOW).into_iter().map(|item| item.id).collect();
    assert_eq!(removed, ["a3"]);
}

#[test]
fn only_active_images_that_are_older_than_the_own_one_are_outdated() {
    let own = image("n", "web-9", "a", "own", 5);
    let deprecated = |mut item: Item| {
        item.deprecated_at = Some(NOW);
        item
    };
    let intermediate = |mut item: Item| {
        item.resource.deliverable = false;
        item
    };
    let all = [
        own.clone(),
        image("n2", "web-9b", "a", "own", 6),
        image("newer", "web-8", "a", "r8", 1),
        image("a", "web-1", "a", "r1", 30),
        image("a2", "web-1b", "a", "r1", 31),
        image("b", "web-2", "a", "r2", 20),
        image("far", "web-2", "b", "r2", 20),
        image("db", "db-1", "a", "r3", 90),
        image("foreign", "web-3", "a", "", 90),
        image("pending", "web-4", "a", "r4", 90).state(ItemState::Pending),
        deprecated(image("old", "web-5", "a", "r5", 10)),
        intermediate(image("plain", "web-6", "a", "r6", 90)),
        object(ItemKind::Snapshot, "s", "r1", 400).name("web-1").region("a"),
    ];
    let ids = |keep: usize, own: &Item| -> Vec<&str> {
        outdated(&all, "web-", keep, own).into_iter().map(|item| item.id.as_str()).collect()
    };
    assert_eq!(ids(1, &own), ["b", "a", "a2"]);
    assert_eq!(ids(2, &own), ["b", "a", "a2"]);
    assert_eq!(ids(3, &own), ["a", "a2"]);
    assert_eq!(ids(4, &own), [""; 0]);
    // Of two images of the same second, exactly one is older.
    let twin = image("m", "web-7", "a", "r7", 5);
    let both = [own.clone(), twin.clone()];
    let counts = [&own, &twin].map(|one| outdated(&both, "web-", 1, one).len());
    assert_eq!(counts, [0, 1]);
}

/// An image with everything that is compared.
fn whole() -> Item {
    let mut item = image("i", "web-1", "a", "r1", 9)
        .audience(Audience::Private)
        .shared_with(vec!["1".to_owned(), "2".to_owned()]);
    item.tags = [("owner", "team"), ("build-image-run", "r1")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    item.attributes = [("architecture", "x86_64"), ("boot_mode", "uefi")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    item
}

/// What is changed in a copy, the differences, and what repairs them.
type Planted = (&'static str, fn(&mut Item), &'static [&'static str], Option<&'static str>);

fn encrypt(item: &mut Item, word: &str, key: &str) {
    item.attributes.insert("encrypted".to_owned(), word.to_owned());
    if !key.is_empty() {
        item.attributes.insert("kms_key".to_owned(), key.to_owned());
    }
}

const DIFFERENCES: [Planted; 18] = [
    ("nothing", |_| (), &[], None),
    (
        "another mark",
        |item| drop(item.tags.insert("build-image-run".into(), "r2".into())),
        &[],
        None,
    ),
    ("another name", |item| item.name = "web-x".into(), &["name"], Some("manage.modify")),
    (
        "a tag is missing",
        |item| drop(item.tags.remove("owner")),
        &["tag owner"],
        Some("manage.tag"),
    ),
    (
        "a tag differs",
        |item| drop(item.tags.insert("owner".into(), "x".into())),
        &["tag owner"],
        Some("manage.tag"),
    ),
    (
        "a tag too many",
        |item| drop(item.tags.insert("extra".into(), "x".into())),
        &["tag extra"],
        Some("manage.untag"),
    ),
    (
        "not shared with one",
        |item| item.shared_with = Some(vec!["1".into()]),
        &["accounts"],
        Some("manage.share"),
    ),
    (
        "shared with one more",
        |item| item.shared_with = Some(vec!["1".into(), "2".into(), "3".into()]),
        &["accounts"],
        Some("manage.unshare"),
    ),
    (
        "access is not known",
        |item| (item.shared_with, item.audience) = (None, Audience::Unknown),
        &[],
        None,
    ),
    ("public", |item| item.audience = Audience::Public, &["audience"], Some("manage.publish")),
    (
        "another architecture",
        |item| drop(item.attributes.insert("architecture".into(), "aarch64".into())),
        &["attribute architecture"],
        Some("manage.modify"),
    ),
    (
        "an attribute is missing",
        |item| drop(item.attributes.remove("boot_mode")),
        &["attribute boot_mode"],
        Some("manage.modify"),
    ),
    (
        "deprecated",
        |item| item.state = ItemState::Deprecated,
        &["deprecated"],
        Some("manage.restore"),
    ),
    (
        "deprecated later",
        |item| item.deprecated_at = Some(NOW),
        &["deprecated"],
        Some("manage.restore"),
    ),
    ("not complete", |item| item.state = ItemState::Pending, &["state"], None),
    ("failed", |item| item.state = ItemState::Failed, &["state"], None),
    ("encrypted", |item| encrypt(item, "yes", "k"), &[], None),
    (
        "not encrypted, and known to be",
        |item| encrypt(item, "no", ""),
        &["attribute encrypted"],
        None,
    ),
];

#[test]
fn every_difference_is_named_with_what_repairs_it() {
    for (what, plant, subjects, repair) in DIFFERENCES {
        let mut copy = whole();
        (copy.id, copy.region) = ("c".to_owned(), Some("b".to_owned()));
        plant(&mut copy);
        let found = compare(&whole(), &copy);
        let names: Vec<&str> = found.iter().map(|one| one.subject.as_str()).collect();
        assert_eq!(names, subjects, "{what}");
        let repairs: Vec<&str> =
            found.iter().filter_map(|one| one.repair.as_ref()).map(Action::capability).collect();
        assert_eq!(repairs, Vec::from_iter(repair), "{what}");
        assert!(found.iter().all(|one| one.repair.is_some() || one.advice.is_some()), "{what}");
        let rest = found.into_iter().map(|one| one.without_modify("c"));
        let is_told = |one: &Difference| one.repair.is_some() || one.advice.is_some();
        assert!(rest.into_iter().all(|one| is_told(&one)), "{what}");
    }
    let mut deprecated = whole();
    deprecated.deprecated_at = Some(NOW + 5);
    let found = compare(&deprecated, &whole());
    let Some(Action::Deprecate { at, .. }) = &found[0].repair else { panic!("{found:?}") };
    assert_eq!(*at, Some(NOW + 5));
}

#[test]
fn an_image_counts_as_changed_only_with_a_result_that_says_so() {
    let (one, two) = (Reference::image("i"), Reference::image("j"));
    let request = |action: Action| {
        let mut request = ManageRequest::default();
        (request.images, request.action) = (vec![one.clone(), two.clone()], action);
        request
    };
    let copy = Action::Copy {
        regions: vec!["a".to_owned(), "b".to_owned()],
        name: None,
        with_access: false,
        keys: Default::default(),
    };
    let (done, unchanged) = (Managed::done(&one, "done"), Managed::unchanged(&two));
    let mut unknown = Managed::unchanged(&two);
    unknown.change = Change::Refused;
    // Action, results of the provider, number of results, and of images that count as not changed.
    for (action, results, all, refused) in [
        (Action::Restore, vec![done.clone(), unchanged.clone()], 2, 0),
        (Action::Restore, vec![done.clone()], 2, 1),
        (Action::Restore, vec![], 2, 2),
        // Without an error, which a provider may forget.
        (Action::Restore, vec![done.clone(), unknown], 2, 1),
        (copy.clone(), vec![done.clone(), done.clone(), unchanged.clone()], 4, 1),
        (copy, vec![done.clone(), done, unchanged.clone(), unchanged], 4, 0),
    ] {
        let results = complete(results, &request(action));
        assert_eq!(results.len(), all, "{results:?}");
        let checked = check(&results).map_err(|error| error.message);
        match refused {
            0 => assert_eq!(checked, Ok(())),
            1 => assert_eq!(checked.unwrap_err(), "1 image was not changed"),
            count => assert_eq!(checked.unwrap_err(), format!("{count} images were not changed")),
        }
    }
}
