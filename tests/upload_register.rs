//! Uploads images that are not registered, registers objects that are there already, and kills, interrupts and refuses
//! both: the object belongs to the run that uploaded it until that run ends, then to the user, and never to a run that
//! registers it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    bundles::Bench,
    harness::{Run, Sandbox, sandbox_walk},
};

const UPLOAD: [&str; 7] = ["upload", "--disk", "web.raw", "-p", "alibaba", "-c", "config.yml"];
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
fn register(object: &str) -> Vec<&str> {
    [&["register", object, "-p", "alibaba", "-c", "config.yml"][..], &NAME].concat()
}

/// Number of things of a kind in the cloud.
fn count(sandbox: &Sandbox, kind: &str) -> u64 {
    sandbox.emulator.as_ref().unwrap().status()[kind].as_u64().unwrap()
}

/// The cloud has these objects and images, and no upload in progress.
#[track_caller]
fn cloud_has(sandbox: &Sandbox, objects: u64, images: u64, place: &str) {
    let status = sandbox.emulator.as_ref().unwrap().status();
    let found =
        ["objects", "images", "snapshots", "open_uploads", "parts"].map(|kind| &status[kind]);
    let expected = [objects, images, images, 0, 0].map(|number| json!(number));
    assert_eq!(found, expected.each_ref(), "{place}: {status}");
}

/// Requests on objects that changed something, since `from`.
fn changes(bench: &Bench, from: usize) -> Vec<String> {
    let log = fs::read_to_string(bench.state.path().join("requests.jsonl")).unwrap_or_default();
    let lines = log.lines().skip(from).map(|line| serde_json::from_str::<Value>(line).unwrap());
    let operations = lines.map(|line| line["operation"].as_str().unwrap_or_default().to_owned());
    operations.filter(|operation| CHANGES.contains(&operation.as_str())).collect()
}

fn requests(bench: &Bench) -> usize {
    let log = fs::read_to_string(bench.state.path().join("requests.jsonl")).unwrap_or_default();
    log.lines().count()
}

/// A cloud with an uploaded object, and the directory of another machine that has neither the disk nor a journal.
struct Uploaded {
    bench: Bench,
    object: String,
    /// Requests before.
    from: usize,
}

impl Uploaded {
    fn new() -> Self {
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

    fn run(&self, more: &[&str]) -> Run {
        self.bench.sandbox.run(&[&register(&self.object)[..], more].concat())
    }

    fn command(&self, more: &[&str]) -> Command {
        self.bench.sandbox.command(&[&register(&self.object)[..], more].concat())
    }

    /// The object is as it was, and no request was sent that could have changed it.
    #[track_caller]
    fn is_untouched(&self, images: u64, place: &str) {
        cloud_has(&self.bench.sandbox, 1, images, place);
        assert_eq!(changes(&self.bench, self.from), Vec::<String>::new(), "{place}");
    }
}

/// Runs a command that a crash point kills; whether it was killed.
fn killed(mut command: Command, point: &str) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).env("BUILD_IMAGE_FAILPOINT", point);
    command.status().unwrap().code().is_none()
}

/// The text of the only journal, if there is one.
fn journal(sandbox: &Sandbox) -> Option<String> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut take = |path: &Path| {
        if path.ends_with("journal.jsonl") {
            found.push(path.to_owned());
        }
    };
    sandbox_walk(sandbox.path(), &mut take);
    assert!(found.len() <= 1, "{found:?}");
    found.first().map(|path| fs::read_to_string(path).unwrap())
}

/// The run that can be resumed.
fn resumable(sandbox: &Sandbox) -> Option<String> {
    let output = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = listed["runs"].as_array().unwrap().first()?;
    let can_resume = run["state"] != "done" && run["platform"] != "";
    can_resume.then(|| run["id"].as_str().unwrap().to_owned())
}

/// Nothing of a run is left on this machine.
#[track_caller]
fn machine_is_clean(sandbox: &Sandbox, place: &str) {
    assert!(!sandbox.path().join("artifacts").exists(), "{place}: {:?}", sandbox.files());
}

/// What ends a killed run.
const ENDS: [&str; 2] = ["resume", "gc"];

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
    let members: Vec<&String> = section.keys().collect();
    assert_eq!(members, schema["properties"].as_object().unwrap().keys().collect::<Vec<_>>());
    assert_eq!(json!(members), {
        let mut required = schema["required"].as_array().unwrap().clone();
        required.sort_by_key(ToString::to_string);
        json!(required)
    });
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
fn a_killed_upload_is_finished_or_removed_and_its_object_stays_only_if_it_finished() {
    let (mut points, mut released) = (0, 0);
    for number in 1.. {
        for (when, end) in
            [("before", ENDS[number % 2]), ("torn", "gc"), ("after", ENDS[1 - number % 2])]
        {
            let bench = Bench::new();
            let (sandbox, place) = (&bench.sandbox, format!("{when}:{number} {end}"));
            if !killed(sandbox.command(&UPLOAD), &format!("{when}:{number}")) {
                assert!(points > 30 && released > 2, "{points} {released}");
                println!("{points} kills, {released} of them after the release");
                return;
            }
            points += 1;
            let is_released = journal(sandbox).is_some_and(|text| {
                text.lines().any(|line| {
                    serde_json::from_str::<Value>(line)
                        .is_ok_and(|line| line.to_string().contains("products_released"))
                })
            });
            released += u64::from(is_released);
            let run = resumable(sandbox).filter(|_| end == "resume");
            match &run {
                Some(id) => {
                    let run = sandbox.run(&["resume", id]);
                    run.succeeded();
                    assert!(run.member("uploaded")["id"].is_string(), "{place}");
                }
                None => drop(sandbox.run(&["gc", "--yes"]).succeeded()),
            }
            cloud_has(sandbox, u64::from(is_released || run.is_some()), 0, &place);
            machine_is_clean(sandbox, &place);
        }
    }
}

#[test]
fn a_killed_registration_leaves_its_object_and_at_most_one_image() {
    let (mut points, mut images) = (0, 0);
    for number in 1.. {
        for (when, end) in
            [("before", ENDS[number % 2]), ("torn", "gc"), ("after", ENDS[1 - number % 2])]
        {
            let uploaded = Uploaded::new();
            let (sandbox, place) = (&uploaded.bench.sandbox, format!("{when}:{number} {end}"));
            if !killed(uploaded.command(&[]), &format!("{when}:{number}")) {
                assert!(points > 20 && images > 5, "{points} {images}");
                println!("{points} kills, {images} images");
                return;
            }
            points += 1;
            match resumable(sandbox).filter(|_| end == "resume") {
                Some(id) => {
                    sandbox.run(&["resume", &id]).succeeded();
                    uploaded.is_untouched(1, &place);
                }
                None => drop(sandbox.run(&["gc", "--yes"]).succeeded()),
            }
            let made = count(sandbox, "images");
            assert!(made <= 1, "{place}");
            images += made;
            uploaded.is_untouched(made, &place);
            machine_is_clean(sandbox, &place);
        }
    }
}

#[test]
fn an_interrupted_or_refused_registration_leaves_its_object_and_no_image() {
    for point in ["int:2", "term:3", "int:5", "int:register", "full:4", "full:register"] {
        let uploaded = Uploaded::new();
        let mut command = uploaded.command(&[]);
        let run = Run::of(&command.env("BUILD_IMAGE_FAILPOINT", point).output().unwrap(), None);
        assert!([5, 6, 130].contains(&run.code), "{point}: {}", run.stderr);
        uploaded.bench.sandbox.run(&["gc", "--yes"]).succeeded();
        uploaded.is_untouched(0, point);
    }
    let mut refused = 0;
    for nth in 1.. {
        let uploaded = Uploaded::new();
        let action = json!({"status": 403, "code": "Forbidden.RAM"});
        let rules = json!([{"operation": "*", "nth": nth, "action": action}]).to_string();
        uploaded.bench.sandbox.emulator.as_ref().unwrap().set_faults(&rules).unwrap();
        let run = uploaded.run(&[]);
        uploaded.bench.sandbox.emulator.as_ref().unwrap().set_faults("[]").unwrap();
        let is_past = requests(&uploaded.bench) - uploaded.from < nth;
        let images = u64::from(run.code == 0);
        refused += usize::from(run.code != 0);
        uploaded.bench.sandbox.run(&["gc", "--yes"]).succeeded();
        uploaded.is_untouched(images, &format!("request {nth}: {}", run.stderr));
        if is_past {
            run.succeeded();
            assert!(refused > 5, "{refused}");
            break;
        }
    }
}

#[test]
fn an_interrupted_upload_leaves_nothing() {
    for point in ["int:3", "term:6", "int:upload", "int:attest", "full:9"] {
        let bench = Bench::new();
        let mut command = bench.sandbox.command(&UPLOAD);
        let run = Run::of(&command.env("BUILD_IMAGE_FAILPOINT", point).output().unwrap(), None);
        assert!([5, 6, 130].contains(&run.code), "{point}: {}", run.stderr);
        bench.sandbox.run(&["gc", "--yes"]).succeeded();
        cloud_has(&bench.sandbox, 0, 0, point);
    }
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
        (missing.as_str(), &[][..], 6, &["there is no object `oss://demo/", "aliyun oss ls"][..]),
        ("build-image-x.qcow2", &[], 2, &["does not begin with `oss://`", "oss://BUCKET/KEY"]),
        (&far, &[], 2, &["is in bucket `far-away`", "set ALIBABA_BUCKET=far-away"]),
        (&far, &["--alibaba-bucket", "far-away"], 6, &["far-away", "cn-beijing"]),
        (
            &far,
            &["--alibaba-bucket", "far-away", "--alibaba-region", "cn-beijing"],
            6,
            &["there is no object"],
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
        run(&["register", "nothing"], &[]).failed(6, &["there is no image `nothing`"]);
        let registered = run(&["register", &id], &["--cloud-image-name", "web"]);
        registered.succeeded();
        assert_eq!(registered.member("image_id"), id.as_str(), "{transport:?}");
        assert!(fs::read(&data).unwrap() == before, "{transport:?}");
        machine_is_clean(&sandbox, id.as_str());
    }
}
