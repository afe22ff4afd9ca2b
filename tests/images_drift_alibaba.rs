//! Checks `images drift` with the emulated Alibaba Cloud: what others changed in the account is named with its place, and
//! repaired once.

use std::fs;

use build_image_emulator_alibaba::{Account as KeyPair, Config, StateDir};
use serde_json::{Value, json};

use crate::harness::{Account, Run, SECRET, Sandbox};

const HERE: &str = "cn-hangzhou";
const BEIJING: &str = "cn-beijing";
const EUROPE: &str = "eu-central-1";
const OURS: [&str; 2] = ["1234567890123456", "2234567890123456"];
const THEIRS: &str = "9234567890123456";
/// Operations that change something.
const CHANGING: [&str; 8] = [
    "CopyImage",
    "DeleteImage",
    "DeleteSnapshot",
    "JoinResourceGroup",
    "ModifyImageAttribute",
    "ModifyImageSharePermission",
    "TagResources",
    "UntagResources",
];
const FILE: &str = "version: 1
images:
  - name: web-*
    newest: 3
    regions: [cn-hangzhou, cn-beijing, eu-central-1]
    accounts: [1234567890123456, 2234567890123456]
    tags: {owner: team, stage: live}
    audience: private
    deprecated: false
    keys: {eu-central-1: key-e}
";
const SECOND: (&str, &str) = ("second-id", "second-secret");

/// A cloud, and what changes it as other programs do.
struct Bench {
    sandbox: Sandbox,
    kept: tempfile::TempDir,
    account: Account,
}

impl Bench {
    fn new() -> Self {
        let kept = tempfile::tempdir().unwrap();
        let second = KeyPair { id: SECOND.0.into(), secret: SECOND.1.into(), token: None };
        let sandbox = Sandbox::with_plain_cloud_of(Config {
            state: StateDir::Kept(kept.path().join("cloud")),
            log_requests: Some(kept.path().join("requests.jsonl")),
            other_accounts: vec![second],
            ..Config::default()
        });
        sandbox.disk("disk.raw", 4, 1);
        sandbox.write("images.yml", FILE);
        let accounts = format!("[{}]", OURS.join(", "));
        let config = sandbox.config(&[
            ("ALIBABA_IMAGE_COPY_REGIONS", "[cn-beijing, eu-central-1]"),
            ("ALIBABA_IMAGE_COPY_KEYS", "[eu-central-1=key-e]"),
            ("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", &accounts),
            ("ALIBABA_IMAGE_FAMILY", "web"),
            ("ALIBABA_RESOURCE_GROUP_ID", "rg-1"),
            ("ALIBABA_NVME_SUPPORT", "supported"),
            ("ALIBABA_IMPORT_TIMEOUT", "20"),
        ]);
        sandbox.write("config.yml", &config);
        let url = sandbox.emulator.as_ref().unwrap().url();
        let settings = json!({"ALIBABA_BUCKET": "demo", "ALIBABA_REGION": HERE,
            "ALIBABA_OSS_ENDPOINT": url, "ALIBABA_ECS_ENDPOINT": url, "ALIBABA_STS_ENDPOINT": url});
        let secrets =
            [("ALIBABA_ACCESS_KEY_ID", "emulator-id"), ("ALIBABA_ACCESS_KEY_SECRET", SECRET)];
        let account = Account::with_secrets("alibaba", &settings, &secrets);
        Self { sandbox, kept, account }
    }

    fn run(&self, args: &[&str]) -> Run {
        self.sandbox.run(&[args, &["-p", "alibaba", "-c", "config.yml"]].concat())
    }

    /// Builds an image; the identifiers of the image and its copies by region.
    fn build(&self, name: &str) -> [String; 3] {
        let tags = "[{owner: team}, {stage: live}]";
        let words = ["--disk", "disk.raw", "--cloud-image-name", name, "--image-tags", tags];
        let built = self.run(&words);
        built.succeeded();
        let images = built.member("images").as_array().unwrap();
        [HERE, BEIJING, EUROPE].map(|region| {
            let image = images.iter().find(|image| image["region"] == region).unwrap();
            image["id"].as_str().unwrap().to_owned()
        })
    }

    /// Changes an image as another program does.
    fn change(&self, (id, region): (&str, &str), action: &Value) {
        let image = json!({"kind": "image", "id": id, "region": region});
        let results = self.account.change(&image, action, false);
        assert_eq!(results[0]["change"], "done", "{action}: {results:?}");
    }

    fn faults(&self, rules: &Value) {
        self.sandbox.emulator.as_ref().unwrap().set_faults(&rules.to_string()).unwrap();
    }

    /// Number of changing requests that the cloud carried out.
    fn changes(&self) -> usize {
        let log = fs::read_to_string(self.kept.path().join("requests.jsonl")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let is_change = |line: &Value| CHANGING.iter().any(|name| line["operation"] == *name);
        lines.filter(is_change).count()
    }

    fn drift(&self, repair: bool) -> (Run, Value) {
        let repair = &["--repair"][..usize::from(repair)];
        let run =
            self.run(&[&["images", "drift", "--file", "images.yml", "--json"], repair].concat());
        let document = serde_json::from_str(&run.stdout).unwrap_or_default();
        (run, document)
    }
}

/// All differences: identifier, region, subject, found, wanted; a missing copy has the subject `missing`.
fn differences(document: &Value) -> Vec<[String; 5]> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all = Vec::new();
    for one in document["copies"].as_array().unwrap() {
        let region = text(&one["region"]);
        if one["copy"].is_null() {
            let none = String::new();
            all.push([text(&one["image"]["id"]), region, "missing".into(), none.clone(), none]);
            continue;
        }
        for difference in one["differences"].as_array().unwrap() {
            all.push([
                text(&one["copy"]["id"]),
                region.clone(),
                text(&difference["subject"]),
                text(&difference["found"]),
                text(&difference["wanted"]),
            ]);
        }
    }
    all.sort();
    all
}

#[track_caller]
fn assert_named(bench: &Bench, document: &Value, wanted: &[[String; 5]]) {
    assert_eq!(differences(document), wanted, "{document:#}");
    let text = bench.run(&["images", "drift", "--file", "images.yml"]).stdout;
    for [id, region, subject, found, wanted] in wanted {
        if subject == "missing" {
            let line = format!("{id}: no copy is in {region}");
            assert!(text.contains(&line), "{line}\n{text}");
            continue;
        }
        let (_, rest) = text.split_once(&format!("{id} in {region}: ")).unwrap();
        let own: Vec<&str> =
            rest.lines().skip(1).take_while(|line| line.starts_with("    ")).collect();
        let line = format!("    {subject}: `{found}` instead of `{wanted}`");
        assert!(own.contains(&line.as_str()), "{line}\n{text}");
    }
}

/// Changes that others made, and what differs by them.
fn plant(bench: &Bench, one: &[String; 3], two: &[String; 3]) -> Vec<[String; 5]> {
    let [home, _, europe] = one.each_ref().map(String::as_str);
    let [second, beijing, _] = two.each_ref().map(String::as_str);
    let items = json!({"items": [{"kind": "image", "id": home, "region": HERE}]});
    let description = bench.account.items(&items)[0]["attributes"]["description"].clone();
    let description = description.as_str().unwrap();
    let modify =
        |attribute: &str, value: &str| json!({"type": "modify", "attributes": {attribute: value}});
    let tag = |key: &str, value: &str| json!({"type": "tag", "tags": {key: value}});
    let unshare = json!({"type": "unshare", "everyone": true});
    for (image, action) in [
        ((one[1].as_str(), BEIJING), json!({"type": "delete", "force": true})),
        ((europe, EUROPE), json!({"type": "modify", "name": "other-name"})),
        ((europe, EUROPE), modify("description", "another text")),
        ((europe, EUROPE), modify("family", "other-family")),
        ((europe, EUROPE), modify("resource_group", "rg-2")),
        ((europe, EUROPE), modify("nvme_support", "unsupported")),
        ((europe, EUROPE), tag("extra", "x")),
        ((home, HERE), tag("owner", "others")),
        ((home, HERE), json!({"type": "untag", "keys": ["stage"]})),
        ((home, HERE), json!({"type": "unshare", "accounts": [OURS[0]]})),
        ((second, HERE), json!({"type": "share", "accounts": [THEIRS]})),
        ((second, HERE), json!({"type": "deprecate", "at": 5})),
        ((beijing, BEIJING), unshare),
        ((beijing, BEIJING), json!({"type": "publish", "audience": "community"})),
        ((beijing, BEIJING), tag("owner", "")),
    ] {
        bench.change(image, &action);
    }
    let mut expected = [
        [home, BEIJING, "missing", "", ""],
        [europe, EUROPE, "name", "other-name", "web-1"],
        [europe, EUROPE, "attribute description", "another text", description],
        [europe, EUROPE, "attribute family", "other-family", "web"],
        [europe, EUROPE, "attribute resource_group", "rg-2", "rg-1"],
        [europe, EUROPE, "attribute nvme_support", "unsupported", "supported"],
        [europe, EUROPE, "tag extra", "x", ""],
        [home, HERE, "tag owner", "others", "team"],
        [home, HERE, "tag stage", "", "live"],
        [home, HERE, "accounts", "", OURS[0]],
        [second, HERE, "accounts", THEIRS, ""],
        [second, HERE, "deprecated", "from 5", "no"],
        [beijing, BEIJING, "accounts", "", "1234567890123456, 2234567890123456"],
        [beijing, BEIJING, "audience", "community", "private"],
        [beijing, BEIJING, "tag owner", "", "team"],
    ]
    .map(|one| one.map(str::to_owned))
    .to_vec();
    expected.sort();
    expected
}

#[test]
fn what_others_changed_is_named_with_its_place_and_repaired_once() {
    let bench = Bench::new();
    let (one, two) = (bench.build("web-1"), bench.build("web-2"));
    let (_, equal) = bench.drift(false);
    assert_eq!(differences(&equal), [] as [[String; 5]; 0], "{equal:#}");
    let expected = plant(&bench, &one, &two);
    assert!(expected.len() >= 12);
    let before = bench.changes();
    let (_, found) = bench.drift(false);
    assert_named(&bench, &found, &expected);
    assert_eq!(bench.changes(), before, "a comparison changed something");
    let (repaired, document) = bench.drift(true);
    repaired.succeeded();
    let results = document["results"].as_array().unwrap();
    assert!(results.len() >= expected.len(), "{results:#?}");
    let after = bench.changes();
    let (again, document) = bench.drift(true);
    again.succeeded();
    assert_eq!((&document["results"], differences(&document).len()), (&json!([]), 0));
    assert_eq!(bench.changes(), after, "the second repair changed something");
    // The copy that was made again has its key, and the tag of others stays where no file declares it.
    bench.change((&one[0], HERE), &json!({"type": "tag", "tags": {"foreign": "kept"}}));
    bench.drift(true).0.succeeded();
    let shown = bench.run(&["images", "show", &one[0], "--json"]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["items"][0]["tags"]["foreign"], "kept");
}

#[test]
fn what_needs_another_copy_is_named_with_what_to_do() {
    let bench = Bench::new();
    let (one, two) = (bench.build("web-1"), bench.build("web-2"));
    let [_, beijing, europe] = &one;
    // A copy that is not encrypted, one that failed, one that is not complete, and one in a region too many.
    for (image, region) in [(europe, EUROPE), (beijing, BEIJING), (&two[1], BEIJING)] {
        bench.change((image, region), &json!({"type": "delete", "force": true}));
    }
    let copy = |id: &str, region: &str| {
        bench.run(&["images", "copy", id, "--to", region, "--with-access"])
    };
    copy(&one[0], EUROPE).succeeded();
    copy(&two[0], "us-west-1").succeeded();
    let broken = json!({"fail_task": {"code": "E", "message": "m", "finished": true}});
    bench.faults(&json!([{"operation": "CopyImage", "action": broken}]));
    assert!(copy(&one[0], BEIJING).code != 0);
    bench.faults(&json!([{"operation": "CopyImage", "action": {"keep_creating": 3600}}]));
    let text = fs::read_to_string(bench.sandbox.path().join("config.yml")).unwrap();
    let text = text.replace("ALIBABA_IMPORT_TIMEOUT: 20", "ALIBABA_IMPORT_TIMEOUT: 1");
    bench.sandbox.write("config.yml", &text);
    assert!(copy(&two[0], BEIJING).code != 0);
    bench.faults(&json!([]));
    let (_, found) = bench.drift(false);
    let named: Vec<(String, String)> =
        differences(&found).into_iter().map(|[_, region, subject, ..]| (region, subject)).collect();
    let named: Vec<(&str, &str)> =
        named.iter().map(|(region, subject)| (region.as_str(), subject.as_str())).collect();
    for expected in [
        (BEIJING, "state"),
        (EUROPE, "attribute encrypted"),
        (EUROPE, "attribute kms_key"),
        ("us-west-1", "region"),
    ] {
        assert!(named.contains(&expected), "{expected:?}: {found:#}");
    }
    let states = named.iter().filter(|one| one.1 == "state").count();
    assert_eq!((states, named.len()), (2, 5), "{found:#}");
    let all = found["copies"].as_array().unwrap().iter();
    let advice = all.flat_map(|one| one["differences"].as_array().unwrap());
    assert!(advice.into_iter().all(|one| one["advice"].is_string()), "{found:#}");
    let before = bench.changes();
    bench.drift(true).0.failed(6, &["has a difference that cannot be repaired", "hint: "]);
    assert_eq!(bench.changes(), before, "nothing of it is repaired by itself");
    follow_advice(&bench, &found);
}

/// Does what the differences advise, and repairs the rest.
fn follow_advice(bench: &Bench, found: &Value) {
    for one in found["copies"].as_array().unwrap() {
        let differences = one["differences"].as_array().unwrap().iter();
        let advice: Vec<&str> =
            differences.filter_map(|difference| difference["advice"].as_str()).collect();
        let Some(advice) = advice.first() else { continue };
        let id = one["copy"]["id"].as_str().unwrap();
        if advice.starts_with("wait") {
            // The copy never ends here: it is cancelled as another program does.
            bench.faults(&json!([]));
            let items = json!({"items": [{"kind": "image", "id": id}]});
            let item = &bench.account.items(&items)[0];
            let request = json!({"reason": "leftover", "resources": [item["resource"]]});
            bench.account.call(build_image_plugin_api::Step::Discard, &request);
            continue;
        }
        assert!(advice.contains(&format!("build-image images delete {id} --yes")), "{advice}");
        bench.run(&["images", "delete", id, "--yes", "--force"]).succeeded();
    }
    bench.drift(true).0.succeeded();
    let (again, document) = bench.drift(true);
    again.succeeded();
    assert_eq!((&document["results"], differences(&document).len()), (&json!([]), 0));
}

#[test]
fn an_image_that_a_second_account_lacks_is_an_error_of_the_repair() {
    let bench = Bench::new();
    bench.build("web-1");
    bench.drift(true).0.succeeded();
    let text = fs::read_to_string(bench.sandbox.path().join("config.yml")).unwrap();
    let text = text.replace("emulator-id", SECOND.0).replace(SECRET, SECOND.1);
    bench.sandbox.write("config.yml", &text);
    let (run, document) = bench.drift(false);
    run.succeeded();
    assert_eq!(document["missing"][0]["name"], "web-*", "{document:#}");
    bench.drift(true).0.failed(6, &["no complete image `web-*` exists (line 3)"]);
}
