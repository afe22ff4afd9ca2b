//! Checks `build-image images` and `gc --cloud` with a provider whose account is a directory: everything is found, changed
//! and removed without any file of the builds.

use std::{fs, path::PathBuf, process::Stdio};

use serde_json::Value;

use crate::{
    harness::{Run, Sandbox, names},
    optional_steps::account,
};

/// An account, and hosts that use it.
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
}

impl Bench {
    /// An account with the regions `home` and `other`.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for region in ["home", "other"] {
            fs::create_dir(directory.path().join(region)).unwrap();
        }
        Self { directory }
    }

    /// A host without any file of others.
    pub(crate) fn host(&self) -> Sandbox {
        let sandbox = Sandbox::new();
        let place = self.directory.path().display();
        sandbox.write("config.yml", &format!("ACCOUNT_DIR: {place}\n"));
        sandbox
    }

    /// Builds an image; its id.
    pub(crate) fn image(&self, name: &str) -> String {
        let sandbox = self.host();
        sandbox.disk("disk.raw", 2, 1);
        let run = run(&sandbox, &["--disk", "disk.raw", "--cloud-image-name", name]);
        run.succeeded();
        run.member("image_id").as_str().unwrap().to_owned()
    }

    pub(crate) fn files(&self, region: &str) -> Vec<String> {
        names(&self.directory.path().join(region))
    }

    /// Changes the properties of an image as another program does.
    pub(crate) fn edit(&self, region: &str, id: &str, change: impl FnOnce(&mut Value)) {
        let path = self.directory.path().join(region).join(format!("{id}.json"));
        let mut properties: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut properties);
        fs::write(path, properties.to_string()).unwrap();
    }

    /// Makes everything in a region older by so many hours.
    fn age(&self, region: &str, hours: u64) {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
        for name in self.files(region) {
            let path = self.directory.path().join(region).join(&name);
            fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
        }
    }
}

pub(crate) fn command(sandbox: &Sandbox, args: &[&str]) -> std::process::Command {
    let file = account().to_str().unwrap();
    let at = usize::from(args.first().is_some_and(|word| !word.starts_with('-')))
        * args.iter().take_while(|word| !word.starts_with('-')).count().min(2);
    let (verb, rest) = args.split_at(at);
    let given = ["-p", "account", "--provider-file", file, "-c", "config.yml"];
    sandbox.command(&[verb, &given[..], rest].concat())
}

pub(crate) fn run(sandbox: &Sandbox, args: &[&str]) -> Run {
    let result = sandbox.path().join("result.json");
    let output = command(sandbox, args).env("F5_OUTPUT_JSON_FILE", &result).output().unwrap();
    let document = fs::read(&result).ok().and_then(|text| serde_json::from_slice(&text).ok());
    Run::of(&output, document)
}

/// Runs `images`, and parses its document.
#[track_caller]
pub(crate) fn images(sandbox: &Sandbox, args: &[&str]) -> Value {
    let run = run(sandbox, &[&["images"], args, &["--json"]].concat());
    run.succeeded();
    serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stdout))
}

pub(crate) fn changes(document: &Value) -> Vec<&str> {
    let results = document["results"].as_array().unwrap();
    results.iter().map(|result| result["change"].as_str().unwrap()).collect()
}

#[test]
fn images_are_found_and_changed_from_a_host_that_never_saw_them() {
    let bench = Bench::new();
    let (one, two) = (bench.image("web-1"), bench.image("web-2"));
    let host = bench.host();
    let listed = images(&host, &["list"]);
    let ids: Vec<&str> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect();
    assert!(
        ids.contains(&one.as_str()) && ids.contains(&two.as_str()) && ids.len() == 2,
        "{ids:?}"
    );
    let all = images(&host, &["list", "--all"]);
    assert_eq!(all["items"].as_array().unwrap().len(), 4, "{all:#}");
    let named = images(&host, &["list", "--name", "web-2"]);
    assert_eq!(named["items"][0]["id"], two.as_str());
    let table = run(&host, &["images", "list"]);
    table.succeeded();
    assert!(table.stdout.starts_with("ID") && table.stdout.contains("web-1"), "{}", table.stdout);

    // Each change: the words, and a text of `show` afterwards. The second time nothing changes.
    let id = one.as_str();
    for (words, shown) in [
        (&["share", id, "--account", "42,43"][..], "shared with   42, 43"),
        (&["unshare", id, "--account", "43"], "shared with   42"),
        (&["publish", id], "audience      public"),
        (&["publish", id, "--audience", "private"], "audience      private"),
        (&["tag", id, "--tag", "owner=team"], "tag           owner: team"),
        (&["deprecate", id, "--at", "2100-01-01T00:00:00Z"], "deprecated    2100-01-01T00:00:00Z"),
        (&["copy", id, "--to", "other"], "tag           owner: team"),
    ] {
        let before = bench.files("other");
        let dry = images(&host, &[words, &["--dry-run"]].concat());
        assert_eq!(changes(&dry), ["done"], "{words:?}: {dry:#}");
        assert_eq!(bench.files("other"), before);
        assert_eq!(changes(&images(&host, words)), ["done"], "{words:?}");
        assert_eq!(changes(&images(&host, words)), ["unchanged"], "{words:?}");
        let text = run(&host, &["images", "show", id]);
        text.succeeded();
        assert!(text.stdout.contains(shown), "{words:?}:\n{}", text.stdout);
    }
    assert_eq!(changes(&images(&host, &["restore", id])), ["done"]);
    assert_eq!(changes(&images(&host, &["untag", id, "--key", "owner"])), ["done"]);
    // Deleting needs a separate word.
    assert_eq!(changes(&images(&host, &["delete", &two])), ["done"]);
    assert!(bench.files("home").contains(&format!("{two}.json")));
    assert_eq!(changes(&images(&host, &["delete", &two, "--yes"])), ["done"]);
    assert_eq!(bench.files("home"), [format!("{one}.img"), format!("{one}.json")]);
    assert!(!host.path().join("artifacts").exists(), "{:?}", host.files());
}

#[test]
fn mistakes_have_one_clear_error_and_change_nothing() {
    let bench = Bench::new();
    let id = bench.image("web-1");
    let host = bench.host();
    let id = id.as_str();
    for (words, code, texts) in [
        (&["images"][..], 2, &["images needs one of `list`"][..]),
        (&["images", "share", id], 2, &["--account"]),
        (&["images", "unshare", id], 2, &["no account is named", "--everyone"]),
        (&["images", "tag", id, "--tag", "owner"], 2, &["`owner` is not a tag", "KEY=VALUE"]),
        (&["images", "deprecate", id, "--at", "soon"], 2, &["`soon` is not a time", "30d"]),
        (&["images", "list", "--older-than", "old"], 2, &["`old` is not an age"]),
        (&["images", "prune", "--keep", "1"], 2, &["--family"]),
        (&["images", "prune", "--keep", "0", "--family", "", "--yes"], 2, &["--family is empty"]),
        (&["images", "prune", "--family", "web", "--keep", "x"], 2, &["`x`"]),
        (&["images", "show", "img-none"], 6, &["no image `img-none` is in", "images list"]),
        (&["images", "delete", "img-none", "--yes"], 6, &["no image `img-none`"]),
        (&["images", "untag", id, "--key", "run"], 2, &["1 image was not changed"]),
        (&["images", "publish", id, "--audience", "community"], 6, &["1 image was not changed"]),
        (&["images", "copy", id, "--to", "nowhere"], 6, &["1 image was not changed"]),
        (&["images", "lst"], 2, &["lst"]),
    ] {
        let run = run(&host, words);
        run.failed(code, texts);
        assert!(
            run.stderr.contains("hint: ") || !run.stdout.is_empty(),
            "{words:?}: {}",
            run.stderr
        );
    }
    let run = host.run(&["images", "list"]);
    run.failed(2, &["PLATFORM is not set"]);
    let run = host.run(&["images", "list", "-p", "qcow2"]);
    run.failed(6, &["provider `qcow2` cannot list what is in an account", "hint: "]);
    assert_eq!(bench.files("home"), [format!("{id}.img"), format!("{id}.json")]);
}

#[test]
fn old_images_of_a_family_are_deleted_and_others_stay() {
    let bench = Bench::new();
    let old: Vec<String> = ["web-1", "web-2", "web-3", "db-1"].map(|name| bench.image(name)).into();
    for (number, id) in old.iter().enumerate() {
        bench.edit("home", id, |properties| properties["created"] = (1_000_000 + number).into());
    }
    let host = bench.host();
    let words = ["prune", "--family", "web-", "--keep", "2", "--older-than", "90d"];
    let planned = images(&host, &words);
    assert_eq!(changes(&planned), ["done"]);
    assert_eq!(
        (planned["dry_run"].as_bool(), planned["items"][0]["id"].as_str()),
        (Some(true), Some(old[0].as_str()))
    );
    assert_eq!(bench.files("home").len(), 8);
    images(&host, &[&words[..], &["--yes"]].concat());
    assert_eq!(bench.files("home").len(), 6);
    let again = images(&host, &[&words[..], &["--yes"]].concat());
    assert_eq!(again["items"].as_array().unwrap().len(), 0);
    assert_eq!(bench.files("home").len(), 6);
}

#[test]
fn copies_that_differ_are_named_and_repaired_once() {
    let bench = Bench::new();
    let id = bench.image("web-1");
    let host = bench.host();
    images(&host, &["share", &id, "--account", "42"]);
    images(&host, &["tag", &id, "--tag", "owner=team"]);
    let words = ["drift", &id, "--expect", "other"];
    let missing = images(&host, &words);
    assert_eq!(
        (missing["copies"][0]["copy"].is_null(), missing["copies"][0]["region"].as_str()),
        (true, Some("other"))
    );
    images(&host, &[&words[..], &["--repair"]].concat());
    let copy = format!("{id}-other");
    bench.edit("other", &copy, |properties| {
        properties["tags"]["owner"] = "x".into();
        properties["tags"]["extra"] = "y".into();
        properties["shared_with"] = serde_json::json!(["7"]);
        properties["audience"] = "public".into();
        properties["deprecated_at"] = 1.into();
    });
    let text = run(&host, &["images", "drift", &id]);
    text.succeeded();
    for part in ["tag owner: `x`", "tag extra", "audience: `public`", "accounts: ", "deprecated: "]
    {
        assert!(text.stdout.contains(part), "{part}: {}", text.stdout);
    }
    let repaired = images(&host, &[&words[..], &["--repair"]].concat());
    assert_eq!(changes(&repaired).len(), 6, "{repaired:#}");
    let state =
        fs::read(bench.directory.path().join("other").join(format!("{copy}.json"))).unwrap();
    let again = images(&host, &[&words[..], &["--repair"]].concat());
    assert!(changes(&again).is_empty(), "{again:#}");
    assert_eq!(again["copies"][0]["differences"], serde_json::json!([]), "{again:#}");
    let after =
        fs::read(bench.directory.path().join("other").join(format!("{copy}.json"))).unwrap();
    assert_eq!(state, after);
}

#[test]
fn a_copy_is_not_what_others_must_be_like() {
    let bench = Bench::new();
    let id = bench.image("web-1");
    let host = bench.host();
    images(&host, &["copy", &id, "--to", "other"]);
    let copy = format!("{id}-other");
    let run = run(&host, &["images", "drift", &copy, "--repair"]);
    run.failed(2, &["is a copy of", &id, "name the image"]);
}

#[test]
fn an_answer_without_results_is_a_failure() {
    let bench = Bench::new();
    let id = bench.image("web-1");
    let host = bench.host();
    let config = fs::read_to_string(host.path().join("config.yml")).unwrap();
    host.write("config.yml", &(config + "ACCOUNT_FAULT: has-no-results\n"));
    let run = run(&host, &["images", "share", &id, "--account", "42"]);
    assert_ne!(run.code, 0, "{}", run.stdout);
    assert!(run.stdout.contains("refused") && run.stderr.contains("1 image was not changed"));
}

#[test]
fn a_secret_that_an_account_contains_is_not_printed() {
    const KEY: &str = "hunter2-hunter2";
    let bench = Bench::new();
    let id = bench.image("web-1");
    bench.edit("home", &id, |properties| properties["tags"]["note"] = format!("key {KEY}").into());
    let host = bench.host();
    let config = fs::read_to_string(host.path().join("config.yml")).unwrap();
    host.write("config.yml", &format!("{config}ACCOUNT_KEY: {KEY}\n"));
    for words in [&["images", "show", &id][..], &["images", "list", "--json"]] {
        let run = run(&host, words);
        run.succeeded();
        assert!(run.stdout.contains("key ") && !run.stdout.contains(KEY), "{}", run.stdout);
    }
}

#[test]
fn nothing_is_removed_while_a_region_cannot_be_read() {
    let bench = Bench::new();
    assert!(killed(&bench, "after:resource_created", "lost"));
    bench.age("home", 25);
    let host = bench.host();
    let swept = run(&host, &["gc", "--cloud", "--yes", "--region", "home,gone"]);
    swept.failed(6, &["nothing was removed, because gone could not be read", "--region"]);
    assert_eq!(bench.files("home").len(), 1);
    let planned = run(&host, &["gc", "--cloud", "--json"]);
    let planned: Value = serde_json::from_str(&planned.stdout).unwrap();
    assert_eq!(
        (planned["dry_run"].as_bool(), planned["left"].as_array().unwrap().len()),
        (Some(true), 0)
    );
    assert_eq!(planned["remove"].as_object().unwrap().len(), 1, "{planned:#}");
    run(&host, &["gc", "--cloud", "--yes", "--region", "home"]).succeeded();
    assert_eq!(bench.files("home").len(), 0);
}

/// Kills a build at a point; the directory of its host is gone afterwards. Whether it was killed.
fn killed(bench: &Bench, point: &str, name: &str) -> bool {
    let sandbox = bench.host();
    sandbox.disk("disk.raw", 2, 1);
    let mut build = command(&sandbox, &["--disk", "disk.raw", "--cloud-image-name", name]);
    build.stdout(Stdio::null()).stderr(Stdio::null()).env("BUILD_IMAGE_FAILPOINT", point);
    build.status().unwrap().code().is_none()
}

#[test]
fn what_killed_builds_of_lost_hosts_left_is_removed_and_nothing_else() {
    let bench = Bench::new();
    let kept = bench.image("kept");
    // What others have, with names that look alike.
    let foreign: Vec<PathBuf> = ["img.img", "img-.txt", "image-1.img", "run-img-1.img"]
        .iter()
        .map(|name| bench.directory.path().join("home").join(name))
        .collect();
    foreign.iter().for_each(|path| fs::write(path, "foreign").unwrap());
    let mut kills = 0;
    for number in 1.. {
        let points = ["before", "after"].map(|when| format!("{when}:{number}"));
        let all =
            points.iter().filter(|point| killed(&bench, point, &format!("lost-{point}"))).count();
        kills += all;
        if all == 0 {
            break;
        }
    }
    assert!(kills >= 20, "{kills}");
    println!("{kills} kills");
    let host = bench.host();
    // Young ones may be at work.
    let run_now = run(&host, &["gc", "--cloud", "--yes"]);
    run_now.succeeded();
    assert!(run_now.stdout.contains("not old enough"), "{}", run_now.stdout);
    let before = bench.files("home");
    bench.age("home", 25);
    let dry = run(&host, &["gc", "--cloud"]);
    dry.succeeded();
    assert!(dry.stdout.contains("nothing was removed; give --yes"), "{}", dry.stdout);
    assert_eq!(bench.files("home"), before);
    run(&host, &["gc", "--cloud", "--yes"]).succeeded();
    let left = bench.files("home");
    assert!(foreign.iter().all(|path| path.exists()), "{left:?}");
    assert!(left.contains(&format!("{kept}.json")), "{left:?}");
    // An image is complete once it has properties: no data without them is left.
    let is_upload = |name: &&String| {
        name.starts_with("img-")
            && name.ends_with(".img")
            && !left.contains(&name.replace(".img", ".json"))
    };
    let uploads: Vec<&String> = left.iter().filter(is_upload).collect();
    assert!(uploads.is_empty(), "{uploads:?}");
    let again = run(&host, &["gc", "--cloud", "--yes"]);
    assert!(again.stdout.contains("no unfinished build left anything"), "{}", again.stdout);
}

#[test]
fn a_run_that_this_host_knows_is_left_to_the_commands_for_runs() {
    let bench = Bench::new();
    let host = bench.host();
    host.disk("disk.raw", 2, 1);
    let mut build = command(&host, &["--disk", "disk.raw", "--cloud-image-name", "web-1"]);
    build
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env("BUILD_IMAGE_FAILPOINT", "after:resource_created");
    assert!(build.status().unwrap().code().is_none());
    bench.age("home", 25);
    let swept = run(&host, &["gc", "--cloud", "--yes"]);
    swept.succeeded();
    assert!(swept.stdout.contains("it is known here"), "{}", swept.stdout);
    assert_eq!(bench.files("home").len(), 1);
    host.run(&["gc", "--yes"]).succeeded();
    assert_eq!(bench.files("home").len(), 0);
}
