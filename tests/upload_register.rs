//! Uploads images that are not registered, and registers objects that are there already: the object belongs to the run
//! that uploaded it until that run ends, then to the user, and never to a run that registers it.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    bundles::Bench,
    harness::{Run, Sandbox},
};

pub(crate) const UPLOAD: [&str; 7] =
    ["upload", "--disk", "web.raw", "-p", "alibaba", "-c", "config.yml"];
const NAME: [&str; 2] = ["--cloud-image-name", "web-1"];
/// Requests that create, change or remove an object or an upload.
const CHANGES: [&str; 8] = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CopyObject",
    "DeleteMultipleObjects",
    "DeleteObject",
    "InitiateMultipartUpload",
    "PutObject",
    "UploadPart",
];

/// Arguments that register an object.
pub(crate) fn register(object: &str) -> Vec<&str> {
    [&["register", object, "-p", "alibaba", "-c", "config.yml"][..], &NAME].concat()
}

/// Number of things of a kind in the cloud.
pub(crate) fn count(sandbox: &Sandbox, kind: &str) -> u64 {
    sandbox.emulator.as_ref().unwrap().status()[kind].as_u64().unwrap()
}

/// The cloud has these objects and images, and no upload in progress.
#[track_caller]
pub(crate) fn cloud_has(sandbox: &Sandbox, objects: u64, images: u64, place: &str) {
    let status = sandbox.emulator.as_ref().unwrap().status();
    let found =
        ["objects", "images", "snapshots", "open_uploads", "parts"].map(|kind| &status[kind]);
    let expected = [objects, images, images, 0, 0].map(|number| json!(number));
    assert_eq!(found, expected.each_ref(), "{place}: {status}");
}

/// Requests on objects that changed something, since `from`.
pub(crate) fn changes(bench: &Bench, from: usize) -> Vec<String> {
    let log = fs::read_to_string(bench.state.path().join("requests.jsonl")).unwrap_or_default();
    let lines = log.lines().skip(from).map(|line| serde_json::from_str::<Value>(line).unwrap());
    let operations = lines.map(|line| line["operation"].as_str().unwrap_or_default().to_owned());
    operations.filter(|operation| CHANGES.contains(&operation.as_str())).collect()
}

pub(crate) fn requests(bench: &Bench) -> usize {
    let log = fs::read_to_string(bench.state.path().join("requests.jsonl")).unwrap_or_default();
    log.lines().count()
}

/// A cloud with an uploaded object, and the directory of another machine that has neither the disk nor a journal.
pub(crate) struct Uploaded {
    pub(crate) bench: Bench,
    pub(crate) object: String,
    /// Requests before.
    pub(crate) from: usize,
}

impl Uploaded {
    pub(crate) fn new() -> Self {
        let bench = Bench::new();
        let run = bench.sandbox.run(&UPLOAD);
        run.succeeded();
        let object = run.member("uploaded")["id"].as_str().unwrap().to_owned();
        cloud_has(&bench.sandbox, 1, 0, "upload");
        let sandbox = &bench.sandbox;
        assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
        for file in ["web.raw", "result.json"] {
            fs::remove_file(sandbox.path().join(file)).unwrap();
        }
        fs::remove_dir_all(sandbox.path().join("logs")).unwrap();
        let from = requests(&bench);
        Self { bench, object, from }
    }

    pub(crate) fn run(&self, more: &[&str]) -> Run {
        self.bench.sandbox.run(&[&register(&self.object)[..], more].concat())
    }

    pub(crate) fn command(&self, more: &[&str]) -> Command {
        self.bench.sandbox.command(&[&register(&self.object)[..], more].concat())
    }

    /// The object is as it was, and no request was sent that could have changed it.
    #[track_caller]
    pub(crate) fn is_untouched(&self, images: u64, place: &str) {
        cloud_has(&self.bench.sandbox, 1, images, place);
        assert_eq!(changes(&self.bench, self.from), Vec::<String>::new(), "{place}");
    }
}

/// Nothing of a run is left on this machine.
#[track_caller]
pub(crate) fn machine_is_clean(sandbox: &Sandbox, place: &str) {
    assert!(!sandbox.path().join("artifacts").exists(), "{place}: {:?}", sandbox.files());
}

#[test]
fn an_object_is_registered_on_another_machine_with_what_the_upload_knew() {
    let disk = {
        let bench = Bench::new();
        fs::read(bench.sandbox.path().join("web.raw")).unwrap()
    };
    let uploaded = Uploaded::new();
    let run = uploaded.run(&[]);
    run.succeeded();
    assert_eq!(run.member("image_name"), "web-1");
    assert_eq!(run.member("virtual_size"), disk.len() as u64);
    assert!(run.result.as_ref().unwrap().get("uploaded").is_none());
    uploaded.is_untouched(1, "register");
    machine_is_clean(&uploaded.bench.sandbox, "register");
    let state = uploaded.bench.state.path();
    let stored = build_image_emulator_alibaba::Stored::open(&state.join("cloud")).unwrap();
    let exported = state.join("exported.raw");
    stored.export(run.member("image_id").as_str().unwrap(), &exported).unwrap();
    assert!(fs::read(exported).unwrap() == disk, "the image is another disk");
}

#[test]
fn the_result_of_an_upload_has_its_own_section() {
    let bench = Bench::new();
    let run = bench.sandbox.run(&UPLOAD);
    run.succeeded();
    let schema = crate::harness::root().join("docs/schemas/uploaded-1.json");
    let schema: Value = serde_json::from_slice(&fs::read(schema).unwrap()).unwrap();
    let section = run.member("uploaded").as_object().unwrap();
    let sorted = |names: Vec<&str>| -> Vec<String> {
        let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        names.sort();
        names
    };
    let members = |object: &serde_json::Map<String, Value>| -> Vec<String> {
        sorted(object.keys().map(String::as_str).collect())
    };
    let required = schema["required"].as_array().unwrap().iter();
    assert_eq!(members(section), members(schema["properties"].as_object().unwrap()));
    assert_eq!(members(section), sorted(required.map(|name| name.as_str().unwrap()).collect()));
    for (name, value) in section {
        let expected = schema["properties"][name]["type"].as_str();
        let kind = if value.is_string() { "string" } else { "integer" };
        assert!(expected.is_none_or(|expected| expected == kind), "{name}: {value}");
    }
    assert_eq!(section["version"], schema["properties"]["version"]["const"]);
    let id = section["id"].as_str().unwrap();
    assert!(run.stdout.contains(&format!("uploaded {id}\n")), "{}", run.stdout);
    assert_eq!((run.member("images"), run.member("image_name")), (&json!([]), &json!("")));
}

#[test]
fn a_registered_object_stays_whatever_the_settings_say_and_is_registered_again() {
    let uploaded = Uploaded::new();
    let sandbox = &uploaded.bench.sandbox;
    for (name, keep) in [("web-1", "no"), ("web-2", "yes")] {
        let more = ["--alibaba-keep-oss-object", keep, "--cloud-image-name", name];
        uploaded.run(&more).succeeded();
    }
    uploaded.is_untouched(2, "twice");
    // The name is taken: nothing changes, and the earlier image stays.
    uploaded.run(&[]).failed(6, &["image `web-1` exists already"]);
    uploaded.is_untouched(2, "name taken");
    let before = uploaded.bench.state.path().join("cloud");
    let ids = |path: &Path| -> Vec<String> {
        let stored = build_image_emulator_alibaba::Stored::open(path).unwrap();
        stored.images().into_iter().map(|image| image.id).collect()
    };
    let old = ids(&before);
    let run = uploaded.run(&["--alibaba-if-exists", "replace"]);
    run.succeeded();
    uploaded.is_untouched(2, "replaced");
    let new = ids(&before);
    assert_eq!(new.iter().filter(|id| !old.contains(id)).count(), 1, "{old:?} {new:?}");
    assert_eq!(old.iter().filter(|id| new.contains(id)).count(), 1, "{old:?} {new:?}");
    machine_is_clean(sandbox, "replaced");
}

#[test]
fn an_upload_stays_whatever_the_setting_for_builds_says() {
    for keep in ["no", "yes"] {
        let bench = Bench::new();
        let run = bench.sandbox.run(&[&UPLOAD[..], &["--alibaba-keep-oss-object", keep]].concat());
        run.succeeded();
        cloud_has(&bench.sandbox, 1, 0, keep);
    }
}

#[test]
fn a_bundle_is_uploaded_without_being_registered() {
    let bench = Bench::new();
    bench.build(&["--bundle-regions", "[cn-hangzhou]"]).succeeded();
    fs::remove_file(bench.sandbox.path().join("web.raw")).unwrap();
    let args =
        ["upload", "--from-bundle", crate::bundles::BUNDLE, "-p", "alibaba", "-c", "config.yml"];
    let run = bench.sandbox.run(&args);
    run.succeeded();
    cloud_has(&bench.sandbox, 1, 0, "bundle");
    let object = run.member("uploaded")["id"].as_str().unwrap();
    bench.sandbox.run(&register(object)).succeeded();
    cloud_has(&bench.sandbox, 1, 1, "bundle");
    let mut other = args.to_vec();
    other.extend(["--alibaba-bucket", "far-away", "--alibaba-region", "cn-beijing"]);
    bench.sandbox.run(&other).failed(4, &["cn-beijing"]);
    cloud_has(&bench.sandbox, 1, 1, "another region");
}

#[test]
fn an_object_that_cannot_be_registered_is_refused_with_what_to_do() {
    let uploaded = Uploaded::new();
    let sandbox = &uploaded.bench.sandbox;
    let missing = format!("{}x", uploaded.object);
    let far = uploaded.object.replace("demo", "far-away");
    for (object, more, code, parts) in [
        (
            missing.as_str(),
            &[][..],
            6,
            &["object `oss://demo/", "x` does not exist", "aliyun oss ls"][..],
        ),
        ("build-image-x.qcow2", &[], 2, &["does not begin with `oss://`", "oss://BUCKET/KEY"]),
        (&far, &[], 2, &["is in bucket `far-away`", "set ALIBABA_BUCKET=far-away"]),
        (
            &far,
            &["--alibaba-bucket", "far-away"],
            2,
            &["is in another region", "set ALIBABA_REGION"],
        ),
        (
            &far,
            &["--alibaba-bucket", "far-away", "--alibaba-region", "cn-beijing"],
            6,
            &["does not exist"],
        ),
    ] {
        let run = sandbox.run(&[&register(object)[..], more].concat());
        assert_eq!(run.code, code, "{object}: {}", run.stderr);
        run.failed(code, parts);
        machine_is_clean(sandbox, object);
    }
    uploaded.is_untouched(0, "refused");
}

#[test]
fn settings_that_make_no_sense_for_a_verb_are_refused_with_what_to_do() {
    let bench = Bench::new();
    let sandbox = &bench.sandbox;
    let upload = |more: &[&str]| {
        [&UPLOAD[..], more].concat().iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()
    };
    let register = |more: &[&str]| {
        [&register("oss://demo/x.qcow2")[..], more]
            .concat()
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    for (args, code, parts) in [
        (upload(&["--no-upload"]), 2, &["NO_UPLOAD is set", "leave NO_UPLOAD out"][..]),
        (upload(&["--bundle", "x.tar"]), 2, &["BUNDLE is set", "leave BUNDLE out"]),
        (upload(&["--from-bundle", "x.tar"]), 2, &["DISK is set"]),
        (upload(&["-p", "qcow2"]), 6, &["`qcow2` writes files", "copy the file"]),
        (upload(&["-p", "openstack"]), 6, &["does not keep an upload", "build-image publish"]),
        (register(&["--disk", "web.raw"]), 2, &["DISK is set", "leave DISK out"]),
        (register(&["-i", "x.iso"]), 2, &["ISO is set"]),
        (upload(&["--if-same", "skip"]), 2, &["IF_SAME is `skip`", "leave IF_SAME out"]),
        (register(&["--if-same", "skip"]), 2, &["IF_SAME is `skip`", "leave IF_SAME out"]),
        (register(&["--no-upload"]), 2, &["NO_UPLOAD is set"]),
        (register(&["--bundle", "x.tar"]), 2, &["BUNDLE is set"]),
        (register(&["--from-bundle", "x.tar"]), 2, &["FROM_BUNDLE is set"]),
        (register(&["--upload-only"]), 2, &["UPLOAD_ONLY is set"]),
        (register(&["--provenance-file", "p.json"]), 2, &["PROVENANCE_FILE is set"]),
        (register(&["--boot-test"]), 2, &["BOOT_TEST is set"]),
        (register(&["--disk-format", "raw"]), 2, &["DISK_FORMAT is set"]),
        (register(&["-p", "vmware"]), 6, &["`vmware` writes files"]),
        (register(&["-p", "openstack"]), 6, &["does not register objects", "build-image publish"]),
        (register(&["-p", "aws"]), 6, &["does not register objects"]),
        (vec!["upload".into(), "web.raw".into()], 2, &["`web.raw` is not one", "--disk"]),
        (vec!["register".into(), "-p".into(), "alibaba".into()], 2, &["register OBJECT"]),
        (vec!["register".into()], 2, &["needs an object"]),
    ] {
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = sandbox.run(&words);
        assert_eq!(run.code, code, "{args:?}: {}", run.stderr);
        run.failed(code, parts);
    }
    cloud_has(sandbox, 0, 0, "refused");
    assert_eq!(requests(&bench), 0);
}

#[test]
fn a_statement_names_the_uploaded_object() {
    let bench = Bench::new();
    let run = bench.sandbox.run(&[&UPLOAD[..], &["--provenance-file", "p.json"]].concat());
    run.succeeded();
    let text = fs::read(bench.sandbox.path().join("p.json")).unwrap();
    let statement: Value = serde_json::from_slice(&text).unwrap();
    let id = run.member("uploaded")["id"].as_str().unwrap();
    assert_eq!(statement["subject"][0]["name"], id.rsplit('/').next().unwrap());
    assert_eq!(statement["subject"][0]["annotations"]["images"], json!([]));
}

#[test]
fn an_object_that_is_registered_twice_at_once_becomes_one_image_of_the_name() {
    let uploaded = Uploaded::new();
    let start = || {
        let mut command = uploaded.command(&[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let runs: Vec<Run> =
        [start(), start()].map(|child| Run::of(&child.wait_with_output().unwrap(), None)).into();
    let (done, refused): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(|run| run.code == 0);
    assert_eq!((done.len(), refused.len()), (1, 1), "{}", runs[0].stderr);
    assert!(refused[0].stderr.contains("web-1"), "{}", refused[0].stderr);
    uploaded.is_untouched(1, "twice at once");
}

#[test]
fn a_plan_of_a_half_prints_what_it_would_make_and_makes_nothing() {
    let uploaded = Uploaded::new();
    let bench = &uploaded.bench;
    bench.sandbox.disk("web.raw", 8, 3);
    let (upload, register) = (UPLOAD.to_vec(), register(&uploaded.object));
    for (words, steps, made, not_made) in [
        (upload, "check → disk → upload", "oss_object `demo/", "image `"),
        (register, "check → locate → register", "image `web-1`", "oss_object"),
    ] {
        let output = bench
            .sandbox
            .command(&[&words[..], &["--check", "--verbose"]].concat())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        assert!(text.contains(steps) && text.contains(made), "{text}");
        let line = text.lines().find(|line| line.contains(made)).unwrap();
        assert!(line.starts_with("creates"), "{line}");
        assert!(!text.contains(not_made), "{text}");
    }
    uploaded.is_untouched(0, "plans");
}

/// A provider that reports the object as its own when it looks it up: the host refuses that, so that neither the failed
/// run nor a clean-up removes the object.
#[test]
fn a_provider_that_claims_what_it_finds_cannot_make_it_part_of_the_run() {
    for transport in [&[][..], &["--isolate"]] {
        let sandbox = Sandbox::new();
        sandbox.disk("web.raw", 4, 1);
        let file = crate::optional_steps::account().to_str().unwrap();
        let account = ["-p", "account", "--provider-file", file, "--account-dir", "cloud"];
        let run =
            |verb: &[&str], more: &[&str]| sandbox.run(&[verb, &account, transport, more].concat());
        let uploaded = run(&["upload", "--disk", "web.raw"], &[]);
        uploaded.succeeded();
        let id = uploaded.member("uploaded")["id"].as_str().unwrap().to_owned();
        let data = sandbox.path().join(format!("cloud/home/{id}.img"));
        let before = fs::read(&data).unwrap();
        let failed = run(&["register", &id], &["--account-fault", "owns-what-it-finds"]);
        failed.failed(1, &["looks something up reported a resource"]);
        sandbox.run(&["gc", "--yes"]).succeeded();
        assert!(fs::read(&data).unwrap() == before, "{transport:?}");
        run(&["register", "nothing"], &[]).failed(6, &["image `nothing` does not exist"]);
        let registered = run(&["register", &id], &["--cloud-image-name", "web"]);
        registered.succeeded();
        assert_eq!(registered.member("image_id"), id.as_str(), "{transport:?}");
        assert!(fs::read(&data).unwrap() == before, "{transport:?}");
        machine_is_clean(&sandbox, id.as_str());
    }
}
