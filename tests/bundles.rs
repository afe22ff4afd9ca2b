//! Writes bundles and publishes them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use build_image_disk::pack::plain_tar;
use build_image_emulator_alibaba::Stored;
use serde_json::{Value, json};

use crate::{
    boot_test::prints,
    harness::{
        OciRegistry, Run, SECRET, Sandbox, TinyIso, Turn, names, needs, stand_in_qemu, tool,
    },
};

/// Requests that send something or create something.
const SENDING: [&str; 5] =
    ["PutObject", "InitiateMultipartUpload", "UploadPart", "ImportImage", "TagResources"];
pub(crate) const BUNDLE: &str = "web.bundle.tar";

/// A member with its content.
pub(crate) type Part = (String, Vec<u8>);

/// A builder without credentials, a publisher, and the publisher's cloud.
pub(crate) struct Bench {
    pub(crate) sandbox: Sandbox,
    pub(crate) state: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let (sandbox, state) = Sandbox::with_kept_cloud();
        let config = sandbox.config(&[("ALIBABA_UPLOAD_PART_SIZE", "131072")]);
        sandbox.write("config.yml", &config);
        sandbox.disk("web.raw", 8, 3);
        Self { sandbox, state }
    }

    /// Writes a bundle without any credential.
    pub(crate) fn build(&self, more: &[&str]) -> Run {
        let args = ["--disk", "web.raw", "-p", "alibaba", "--no-upload", "--bundle", BUNDLE];
        self.sandbox.run(&[&args[..], more].concat())
    }

    pub(crate) fn publish(&self, file: &str, more: &[&str]) -> Run {
        let args = ["publish", file, "-p", "alibaba", "-c", "config.yml"];
        self.sandbox.run(&[&args[..], more].concat())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.sandbox.path().join(BUNDLE)
    }

    /// Requests that sent or created something.
    pub(crate) fn sent(&self) -> Vec<String> {
        let log = fs::read_to_string(self.state.path().join("requests.jsonl")).unwrap_or_default();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        // The dry run of a check is answered with an error.
        let lines = lines.filter(|line| line["status"] == 200);
        let operations =
            lines.map(|line| line["operation"].as_str().unwrap_or_default().to_owned());
        operations.filter(|operation| SENDING.contains(&operation.as_str())).collect()
    }

    /// The image in the cloud has the content of the disk; nothing else is left anywhere.
    #[track_caller]
    pub(crate) fn is_published(&self) {
        self.sandbox.cloud_has_only(1);
        let exported = self.state.path().join("exported.raw");
        let stored = Stored::open(&self.state.path().join("cloud")).unwrap();
        stored.export(&stored.images()[0].id, &exported).unwrap();
        let disk = fs::read(self.sandbox.path().join("web.raw")).unwrap();
        assert!(fs::read(exported).unwrap() == disk, "the image is another disk");
        assert!(!self.sandbox.path().join("artifacts").exists(), "{:?}", self.sandbox.files());
    }
}

/// Reads the members of a bundle.
pub(crate) fn parts_of(path: &Path) -> Vec<Part> {
    let bytes = fs::read(path).unwrap();
    let members = plain_tar::members(&File::open(path).unwrap(), path, 9).unwrap();
    let content = |member: &plain_tar::Member| {
        let start = usize::try_from(member.offset).unwrap();
        bytes[start..start + usize::try_from(member.length).unwrap()].to_vec()
    };
    members.iter().map(|member| (member.name.clone(), content(member))).collect()
}

/// Makes an archive of members.
pub(crate) fn archive(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in parts {
        bytes.extend(plain_tar::header(name, content.len() as u64).unwrap());
        bytes.extend(content);
        bytes.resize(usize::try_from(plain_tar::next(0, bytes.len() as u64)).unwrap(), 0);
    }
    bytes.resize(usize::try_from(plain_tar::length(bytes.len() as u64)).unwrap(), 0);
    bytes
}

#[test]
fn a_bundle_holds_the_image_as_it_is_sent_and_is_published_as_its_builder_named_it() {
    if !needs(&["tar", "sha256sum"]) {
        return;
    }
    let bench = Bench::new();
    let directory = bench.sandbox.path();
    let more = ["--image-tags", "[{owner: web-team}]", "--cloud-image-name", "web-1"];
    let built = bench.build(&[&more[..], &["--bundle-regions", "[cn-hangzhou]"]].concat());
    built.succeeded();
    assert_eq!(built.member("file"), &json!(bench.path().display().to_string()));
    assert!(!directory.join("artifacts").exists() && !directory.join("images").exists());
    assert_eq!(bench.sent(), Vec::<String>::new());
    // Any tar program reads it, and finds the image that a build without a bundle publishes.
    let listed = tool(directory, &["tar", "-tf", BUNDLE]);
    assert_eq!(listed, "bundle.json\nprovenance.json\nimage.qcow2\n");
    let plain = ["--disk", "web.raw", "-p", "alibaba", "--no-upload", "--package", "none"];
    bench.sandbox.run(&plain).succeeded();
    let parts = parts_of(&bench.path());
    assert!(parts[2].1 == fs::read(directory.join("images/web.alibaba.qcow2")).unwrap());
    let about: Value = serde_json::from_slice(&parts[0].1).unwrap();
    assert_eq!(about["register"]["tags"]["owner"], "web-team");
    tool(directory, &["tar", "-xf", BUNDLE]);
    // GNU tar writes the same bytes.
    let tar =
        "tar --format=ustar --owner=root:0 --group=root:0 --mtime=@0 --mode=0644 -cf again.tar";
    let members = ["bundle.json", "provenance.json", "image.qcow2"];
    tool(directory, &[&tar.split(' ').collect::<Vec<_>>()[..], &members].concat());
    let again = fs::read(directory.join("again.tar")).unwrap();
    assert!(again == fs::read(bench.path()).unwrap());
    let sum = tool(directory, &["sha256sum", "image.qcow2"]);
    assert_eq!(about["members"][1]["sha256"], sum.split(' ').next().unwrap());
    let statement: Value = serde_json::from_slice(&parts[1].1).unwrap();
    let digest = &statement["subject"][0]["digest"]["sha256"];
    assert_eq!(digest, &about["members"][1]["sha256"]);
    // Equal inputs give equal bundles, also at another path.
    let first = fs::read(bench.path()).unwrap();
    let elsewhere = ["--bundle", "out/other.tar", "--bundle-regions", "[cn-hangzhou]"];
    bench.build(&[&more[..], &elsewhere].concat()).succeeded();
    assert!(first == fs::read(directory.join("out/other.tar")).unwrap());
    assert_eq!(names(&directory.join("out")), ["other.tar"]);
    // A look sends nothing.
    let look = bench.publish(BUNDLE, &["--check"]);
    look.succeeded();
    assert!(look.stdout.contains("(bundle, signature not checked)"), "{}", look.stdout);
    assert_eq!(bench.sent(), Vec::<String>::new());
    let run = bench.publish(BUNDLE, &["--provenance-file", "published.json"]);
    run.succeeded();
    bench.is_published();
    assert_eq!(run.member("image_name"), "web-1");
    let text = fs::read(directory.join("published.json")).unwrap();
    let published: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(&published["subject"][0]["digest"]["sha256"], digest);
    let bundle = &published["predicate"]["buildDefinition"]["resolvedDependencies"][0];
    let sum = tool(directory, &["sha256sum", BUNDLE]);
    assert_eq!((&bundle["name"], &bundle["uri"]), (&json!("bundle"), &json!(BUNDLE)));
    assert_eq!(bundle["digest"]["sha256"], sum.split(' ').next().unwrap());
    let stored = Stored::open(&bench.state.path().join("cloud")).unwrap().images();
    assert_eq!((stored[0].name.as_str(), stored[0].tags["owner"].as_str()), ("web-1", "web-team"));
    assert!(stored[0].tags.contains_key("build_host"));
}

#[test]
fn an_older_bundle_is_replaced_or_kept_as_requested() {
    for (mode, is_kept) in [("fail", true), ("replace", false)] {
        let bench = Bench::new();
        bench.sandbox.write(BUNDLE, "older");
        let words = ["--file-if-exists", mode];
        let args =
            ["plan", "--disk", "web.raw", "-p", "alibaba", "--no-upload", "--bundle", BUNDLE];
        let plan = bench.sandbox.run(&[&args[..], &words].concat());
        assert_eq!(plan.code, if is_kept { 6 } else { 0 }, "{}", plan.stderr);
        let run = bench.build(&words);
        let _ = match is_kept {
            true => run.failed(6, &[&format!("{BUNDLE}` exists already")]),
            false => run.succeeded(),
        };
        assert_eq!(fs::read(bench.path()).unwrap() == b"older", is_kept, "{mode}");
    }
}

#[test]
fn a_publisher_may_choose_another_name_and_more_tags() {
    let bench = Bench::new();
    let named = ["--image-tags", "[{owner: web-team}]", "--cloud-image-name", "web-1"];
    bench.build(&named).succeeded();
    let renamed = ["--cloud-image-name", "web-2", "--image-tags", "[{stage: live}]"];
    bench.publish(BUNDLE, &renamed).succeeded();
    let stored = Stored::open(&bench.state.path().join("cloud")).unwrap().images();
    let second = stored.iter().find(|image| image.name == "web-2").unwrap();
    assert_eq!(
        (second.tags["owner"].as_str(), second.tags["stage"].as_str()),
        ("web-team", "live")
    );
}

#[test]
fn compressed_fixed_and_raw_images_are_published_too() {
    for settings in [
        &["--alibaba-disk-compression", "zlib"][..],
        &["--alibaba-disk-format", "raw"],
        &["--alibaba-disk-format", "vhd"],
    ] {
        let bench = Bench::new();
        bench.build(settings).succeeded();
        // The compression is the builder's; another format would be another image.
        let same = if settings[1] == "zlib" { &[][..] } else { settings };
        if settings[1] != "zlib" {
            bench
                .publish(BUNDLE, &[])
                .failed(2, &["has a ", "asks for qcow2", "hint: set the format"]);
        }
        // The image also reaches a plugin in another process.
        bench.publish(BUNDLE, &[same, &["--isolate"]].concat()).succeeded();
        bench.is_published();
    }
}

#[test]
fn an_installed_disk_becomes_a_bundle_with_the_facts_of_its_product() {
    if !needs(&["xorriso", "mkfifo", "dd"]) {
        return;
    }
    let bench = Bench::new();
    TinyIso::base().write(&bench.sandbox.path().join("base.iso"));
    stand_in_qemu(&bench.sandbox);
    let iso = ["-i", "base.iso", "-m", "ltm", "-b", "1", "--qemu", "./qemu", "-p", "alibaba"];
    let bundle = ["--no-upload", "--bundle", BUNDLE];
    bench.sandbox.run(&[&iso[..], &bundle].concat()).succeeded();
    let parts = parts_of(&bench.path());
    let about: Value = serde_json::from_slice(&parts[0].1).unwrap();
    assert!(!about["register"]["product"].as_object().unwrap().is_empty(), "{about:#}");
    let statement: Value = serde_json::from_slice(&parts[1].1).unwrap();
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(definition["resolvedDependencies"][0]["name"], "iso");
    assert_eq!(definition["externalParameters"]["settings"]["ISO"], "base.iso");
    let run = bench.publish(BUNDLE, &[]);
    run.succeeded();
    bench.sandbox.cloud_has_only(1);
    assert_eq!(run.member("image_name"), &about["register"]["image_name"]);
    let stored = Stored::open(&bench.state.path().join("cloud")).unwrap().images();
    let tags: BTreeMap<String, String> =
        serde_json::from_value(about["register"]["tags"].clone()).unwrap();
    assert!(tags.iter().all(|(key, value)| stored[0].tags.get(key) == Some(value)), "{tags:?}");
    assert!(!bench.sandbox.path().join("artifacts").exists());
}

#[test]
fn an_image_that_does_not_boot_is_not_put_into_a_bundle() {
    if !needs(&["qemu-system-x86_64"]) {
        return;
    }
    let _turn = Turn::take();
    let bench = Bench::new();
    let args = ["--disk", "disk.raw", "-p", "alibaba", "--no-upload", "--bundle", BUNDLE];
    let args = [&args[..], &["--boot-test"]].concat();
    prints(
        &bench.sandbox,
        "error: unknown filesystem.\r\nEntering rescue mode...\r\ngrub rescue> ",
    );
    bench.sandbox.run(&args).failed(5, &["the image does not boot"]);
    assert!(!bench.path().exists() && !bench.sandbox.path().join("artifacts").exists());
    prints(&bench.sandbox, "stand-in login: ");
    let run = bench.sandbox.run(&args);
    run.succeeded();
    let tested = run.member("boot_test");
    assert_eq!((&tested["ready"], &tested["format"]), (&true.into(), &"qcow2".into()), "{tested}");
    assert_eq!(parts_of(&bench.path()).len(), 3);
}

#[test]
fn every_provider_that_uploads_has_bundles() {
    for provider in ["alibaba", "openstack", "oci"] {
        let bench = Bench::new();
        let args = ["--disk", "web.raw", "-p", provider, "--no-upload", "--bundle", BUNDLE];
        let more: &[&str] =
            if provider == "oci" { &["--oci-reference", "registry.example/web:1"] } else { &[] };
        bench.sandbox.run(&[&args[..], more].concat()).succeeded();
        let parts = parts_of(&bench.path());
        let about: Value = serde_json::from_slice(&parts[0].1).unwrap();
        assert_eq!(about["provider"], provider);
        let format = about["image"]["spec"]["format"].as_str().unwrap();
        assert_eq!(parts[2].0, format!("image.{format}"));
        if provider != "alibaba" {
            let text = format!("for provider `{provider}`, not for `alibaba`");
            bench.publish(BUNDLE, &[]).failed(4, &[&text, &format!("hint: give -p {provider}")]);
        }
    }
}

#[test]
fn a_registry_gets_the_image_of_a_bundle() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let bench = Bench::new();
    let args = ["--disk", "web.raw", "-p", "oci", "--no-upload", "--bundle", BUNDLE];
    let draft = ["--oci-reference", "registry.example/draft:1"];
    bench.sandbox.run(&[&args[..], &draft].concat()).succeeded();
    for (tag, more) in [("1", &[][..]), ("2", &["--oci-layer-compression", "zstd"])] {
        let reference = format!("{}/team/web:{tag}", registry.address());
        let publish = ["publish", BUNDLE, "-p", "oci", "--oci-reference", &reference];
        let run = bench.sandbox.run(&[&publish[..], more].concat());
        run.succeeded();
        let id = run.member("image_id").as_str().unwrap();
        registry.holds(id, "qcow2", &bench.sandbox.path().join("web.raw"));
    }
}

#[test]
fn contradictions_are_found_before_anything_is_made() {
    let bench = Bench::new();
    let disk = ["--disk", "web.raw", "-p"];
    fs::create_dir(bench.sandbox.path().join("directory")).unwrap();
    for (args, texts) in [
        (&["qcow2", "--bundle", "x.tar"][..], &["BUNDLE is set", "registers no images"][..]),
        (&["vhd", "--bundle", "x.tar", "--no-upload"], &["`vhd` registers no images"]),
        (&["azure", "--bundle", "x.tar", "--no-upload"], &["`azure` registers no images"]),
        (&["alibaba", "--bundle", "x.tar"], &["BUNDLE is set without NO_UPLOAD", "publish"]),
        (&["alibaba", "--no-upload", "--bundle-expires", "30d"], &["without BUNDLE"]),
        (&["alibaba", "--no-upload", "--bundle-regions", "[x]"], &["without BUNDLE"]),
        (&["alibaba", "--no-upload", "--bundle", "directory"], &["not the path of a file"]),
        (&["alibaba", "--no-upload", "--bundle", "web.raw"], &["BUNDLE and DISK name one file"]),
        (&["alibaba", "--no-upload", "--bundle", "x.tar", "--bundle-regions", "[1]"], &["`1`"]),
        (
            &["alibaba", "--no-upload", "--bundle", "x.tar", "--bundle-expires", "9999999999d"],
            &["BUNDLE_EXPIRES", "does not exist"],
        ),
    ] {
        bench.sandbox.run(&[&disk[..], args].concat()).failed(2, texts);
    }
    bench.build(&[]).succeeded();
    let from = ["publish", BUNDLE];
    for (args, texts) in [
        (&["-p", "qcow2"][..], &["FROM_BUNDLE is set", "registers no images"][..]),
        (&["-p", "alibaba", "--disk", "web.raw"], &["DISK is set, but a bundle"]),
        (&["-p", "alibaba", "-i", "x.iso"], &["ISO is set, but a bundle"]),
        (&["-p", "alibaba", "--no-upload"], &["NO_UPLOAD is set, but a bundle"]),
        (&["-p", "alibaba", "--boot-test"], &["BOOT_TEST is set, but a bundle"]),
        (&["-p", "alibaba", "--disk-size", "1GiB"], &["DISK_SIZE is set"]),
    ] {
        let config = ["-c", "config.yml"];
        bench.sandbox.run(&[&from[..], args, &config].concat()).failed(2, texts);
    }
    bench.sandbox.run(&["publish", "-p", "alibaba"]).failed(2, &["needs a bundle", "publish FILE"]);
    // An IMAGE_DIR of the publisher's other builds has no effect.
    let run = bench.publish(BUNDLE, &["--image-dir", "images"]);
    run.succeeded();
    assert!(!bench.sandbox.path().join("images").exists());
    bench.is_published();
    bench.sandbox.keeps_the_secret(&run);
    assert!(!fs::read(bench.path()).unwrap().windows(SECRET.len()).any(|w| w == SECRET.as_bytes()));
}
