//! Writes bundles and publishes them; refuses bundles that were altered, expired, or are meant for others.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use build_image_disk::pack::plain_tar;
use build_image_emulator_alibaba::Stored;
use serde_json::{Value, json};

use crate::harness::{Run, SECRET, Sandbox, names, needs, tool};

/// Requests that send something or create something.
const SENDING: [&str; 5] =
    ["PutObject", "InitiateMultipartUpload", "UploadPart", "ImportImage", "TagResources"];
const BUNDLE: &str = "web.bundle.tar";

/// A member with its content.
type Part = (String, Vec<u8>);

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
    fn sent(&self) -> Vec<String> {
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
fn parts_of(path: &Path) -> Vec<Part> {
    let bytes = fs::read(path).unwrap();
    let members = plain_tar::members(&File::open(path).unwrap(), path, 9).unwrap();
    let content = |member: &plain_tar::Member| {
        let start = usize::try_from(member.offset).unwrap();
        bytes[start..start + usize::try_from(member.length).unwrap()].to_vec()
    };
    members.iter().map(|member| (member.name.clone(), content(member))).collect()
}

/// Makes an archive of members.
fn archive(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in parts {
        bytes.extend(plain_tar::header(name, content.len() as u64).unwrap());
        bytes.extend(content);
        bytes.resize(usize::try_from(plain_tar::next(0, bytes.len() as u64)).unwrap(), 0);
    }
    bytes.resize(usize::try_from(plain_tar::length(bytes.len() as u64)).unwrap(), 0);
    bytes
}

/// Changes a header and makes its checksum right again.
fn patched(bytes: &mut [u8], at: usize, place: usize, patch: &[u8]) {
    let header = &mut bytes[at..at + 512];
    header[place..place + patch.len()].copy_from_slice(patch);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Changes a member of the document.
fn document(parts: &[Part], pointer: &str, value: Value) -> Vec<u8> {
    let mut parts = parts.to_vec();
    let mut document: Value = serde_json::from_slice(&parts[0].1).unwrap();
    let (object, name) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(object).unwrap()[name] = value;
    parts[0].1 = format!("{document:#}\n").into_bytes();
    archive(&parts)
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
    tool(directory, &["tar", "-xf", BUNDLE, "image.qcow2", "provenance.json"]);
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
    let run = bench.publish(BUNDLE, &[]);
    run.succeeded();
    bench.is_published();
    assert_eq!(run.member("image_name"), "web-1");
    let stored = Stored::open(&bench.state.path().join("cloud")).unwrap().images();
    assert_eq!((stored[0].name.as_str(), stored[0].tags["owner"].as_str()), ("web-1", "web-team"));
    assert!(stored[0].tags.contains_key("build_host"));
    // The publisher may choose another name and more tags, as in any build.
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

/// An altered bundle, and the texts of its refusal.
type Case = (&'static str, Vec<u8>, Vec<&'static str>);

/// Bundles whose members were altered.
fn altered(parts: &[Part]) -> Vec<Case> {
    let changed = |change: &dyn Fn(&mut Vec<Part>)| {
        let mut parts = parts.to_vec();
        change(&mut parts);
        archive(&parts)
    };
    let extra = ("extra".to_owned(), b"x".to_vec());
    vec![
        (
            "a byte of the image",
            changed(&|parts| parts[2].1[200_000] ^= 1),
            vec!["`image.qcow2` in", "its SHA-256 is another", "hint: the bundle is damaged"],
        ),
        (
            "a byte of the statement",
            changed(&|parts| parts[1].1[10] ^= 1),
            vec!["`provenance.json` in"],
        ),
        (
            "a shorter image",
            changed(&|parts| parts[2].1.truncate(4096)),
            vec!["`image.qcow2` has 4096 bytes, but bundle.json lists"],
        ),
        (
            "a further member",
            changed(&|parts| parts.push(extra.clone())),
            vec!["does not list its member `extra`"],
        ),
        (
            "two further members",
            changed(&|parts| parts.extend([extra.clone(), extra.clone()])),
            vec!["more than 4 members"],
        ),
        (
            "no statement",
            changed(&|parts| drop(parts.remove(1))),
            vec!["its member `provenance.json` is missing"],
        ),
        ("no image", changed(&|parts| drop(parts.pop())), vec!["`image.qcow2` is missing"]),
        (
            "a renamed image",
            changed(&|parts| "image.raw".clone_into(&mut parts[2].0)),
            vec!["does not list its member `image.raw`"],
        ),
        (
            "an image twice",
            changed(&|parts| parts.push(parts[2].clone())),
            vec!["two members `image.qcow2`"],
        ),
        ("another order", changed(&|parts| parts.swap(1, 2)), vec!["another order"]),
        ("another first member", changed(&|parts| parts.swap(0, 1)), vec!["its first member is"]),
        ("no member", archive(&[]), vec!["it is empty"]),
        ("not an archive", b"image".repeat(1000), vec!["is not a whole bundle"]),
    ]
}

/// Bundles whose archive was altered.
fn broken(parts: &[Part]) -> Vec<Case> {
    let whole = archive(parts);
    let at = usize::try_from(plain_tar::next(512, parts[0].1.len() as u64)).unwrap();
    let header = |place: usize, patch: &[u8]| {
        let mut bytes = whole.clone();
        patched(&mut bytes, at, place, patch);
        bytes
    };
    vec![
        ("a name that leaves the directory", header(0, b"../"), vec!["is no name for a member"]),
        ("an absolute name", header(0, b"/etc/passwd\0"), vec!["`/etc/passwd` is no name"]),
        ("a link", header(156, b"2"), vec!["`provenance.json` is of another form"]),
        ("another owner", header(108, b"0001000\0"), vec!["is of another form"]),
        ("a prefix", header(345, b"etc\0"), vec!["is of another form"]),
        ("half of it", whole[..whole.len() / 2].to_vec(), vec!["`image.qcow2` is incomplete"]),
        ("no end", whole[..whole.len() - 512].to_vec(), vec!["the end is missing"]),
        ("more bytes", [&whole[..], b"more"].concat(), vec!["4 bytes follow the end"]),
        ("nothing", Vec::new(), vec!["bytes are missing"]),
    ]
}

/// Bundles whose document was altered.
fn other_documents(parts: &[Part]) -> Vec<Case> {
    let past = json!("2020-01-01T00:00:00Z");
    vec![
        (
            "a newer version",
            document(parts, "/version", json!(2)),
            vec!["format version 2, but this build-image reads version 1", "hint: publish it with"],
        ),
        (
            "another provider",
            document(parts, "/provider", json!("qcow2")),
            vec!["for provider `qcow2`"],
        ),
        (
            "expired",
            document(parts, "/expires", past),
            vec!["expired at 2020", "hint: build it again"],
        ),
        ("no time", document(parts, "/expires", json!("soon")), vec!["`soon` is not a time"]),
        (
            "other regions",
            document(parts, "/regions", json!(["cn-beijing"])),
            vec!["for the regions cn-beijing, not for cn-hangzhou"],
        ),
        (
            "an unknown member",
            document(parts, "/x", json!(1)),
            vec!["is invalid", "unknown field `x`"],
        ),
        (
            "a path as stem",
            document(parts, "/register/file_stem", json!("../x")),
            vec!["file_stem"],
        ),
        (
            "another image",
            document(parts, "/image/member", json!("bundle.json")),
            vec!["it lists the members provenance.json, image.qcow2"],
        ),
        (
            "a larger disk",
            document(parts, "/register/virtual_size", json!(1_u64 << 60)),
            vec!["GiB"],
        ),
    ]
}

#[test]
fn altered_bundles_are_refused_with_the_reason_before_anything_is_sent() {
    let bench = Bench::new();
    bench.build(&[]).succeeded();
    let parts = parts_of(&bench.path());
    assert!(archive(&parts) == fs::read(bench.path()).unwrap(), "the trial does not try anything");
    let cases = [altered(&parts), broken(&parts), other_documents(&parts)].concat();
    assert!(cases.len() > 30, "{}", cases.len());
    let other = bench.sandbox.path().join("other.tar");
    for (what, bytes, texts) in cases {
        fs::write(&other, bytes).unwrap();
        let run = bench.publish("other.tar", &[]);
        assert_eq!(run.code, 4, "{what}: {}", run.stderr);
        run.failed(4, &[&texts[..], &["other.tar"]].concat());
        assert_eq!(bench.sent(), Vec::<String>::new(), "{what}");
        bench.sandbox.cloud_has_only(0);
        assert!(!bench.sandbox.path().join("artifacts").exists(), "{what}");
    }
    fs::remove_file(&other).unwrap();
    bench.publish("other.tar", &[]).failed(4, &["cannot open `other.tar`", "No such file"]);
    bench.publish(".", &[]).failed(4, &["`.` is not a regular file"]);
    // The original is still one.
    bench.publish(BUNDLE, &[]).succeeded();
    bench.is_published();
}

#[test]
fn once_keys_are_set_only_bundles_that_one_of_them_signed_are_published() {
    if !needs(&["openssl", "tar"]) {
        return;
    }
    let bench = Bench::new();
    let directory = bench.sandbox.path();
    for (name, args) in [
        ("ours", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("curve", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        ("theirs", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        tool(directory, &[&["openssl"][..], &args, &["-out", &format!("{name}.pem")]].concat());
        let public = ["-pubout", "-out", &format!("{name}.pub")];
        let key = format!("{name}.pem");
        tool(directory, &[&["openssl", "pkey", "-in", &key][..], &public].concat());
    }
    let trusts = ["--bundle-keys", "[ours.pub, curve.pub]"];
    bench.build(&[]).succeeded();
    bench.publish(BUNDLE, &trusts).failed(4, &["is not signed, but BUNDLE_KEYS is set"]);
    bench.build(&["--image-sig-private-key", "theirs.pem"]).succeeded();
    let run = bench.publish(BUNDLE, &trusts);
    run.failed(4, &["is not signed by a key", "`ours.pub` did not sign it", "`curve.pub`"]);
    for (number, (key, digest)) in
        [("ours", "sha3-512"), ("curve", "sha384"), ("ours", "sha256")].iter().enumerate()
    {
        let private = format!("{key}.pem");
        let sign = ["--image-sig-private-key", &private, "--image-sig-encryption-type", digest];
        bench.build(&sign).succeeded();
        // Whoever alters the document cannot sign it again.
        let mut parts = parts_of(&bench.path());
        assert_eq!(parts.len(), 4);
        fs::write(directory.join("altered.tar"), document(&parts, "/tool", json!("9"))).unwrap();
        bench.publish("altered.tar", &trusts).failed(4, &["is not signed by a key"]);
        // The signature of another document, and one under the name of another digest.
        let signature = parts[1].clone();
        parts[1].1[8] ^= 1;
        fs::write(directory.join("altered.tar"), archive(&parts)).unwrap();
        bench.publish("altered.tar", &trusts).failed(4, &["is not signed by a key"]);
        parts[1] = ("bundle.json.224.sig".to_owned(), signature.1.clone());
        fs::write(directory.join("altered.tar"), archive(&parts)).unwrap();
        bench.publish("altered.tar", &trusts).failed(4, &["is not signed by a key", "sha224"]);
        parts[1] = ("bundle.json.md5.sig".to_owned(), signature.1.clone());
        fs::write(directory.join("altered.tar"), archive(&parts)).unwrap();
        bench.publish("altered.tar", &trusts).failed(4, &["is not signed, but"]);
        // openssl agrees.
        tool(directory, &["tar", "-xf", BUNDLE, "bundle.json", &signature.0]);
        let verify = format!("openssl dgst -{digest} -verify {key}.pub -signature {}", signature.0);
        let mut verify: Vec<&str> = verify.split(' ').collect();
        verify.push("bundle.json");
        tool(directory, &verify);
        assert_eq!(bench.sent().is_empty(), number == 0);
        bench.publish(BUNDLE, &trusts).succeeded();
        bench.sandbox.cloud_has_only(number as u64 + 1);
    }
    let errors = [
        (&["--bundle-keys", "[]"][..], 2, "empty list"),
        (&["--bundle-keys", "[absent.pub]"], 2, "absent.pub"),
        (&["--bundle-keys", "[ours.pem]"], 2, "holds a private key"),
    ];
    bench.build(&["--image-sig-private-key", "theirs.pem"]).succeeded();
    for (more, code, text) in errors {
        bench.publish(BUNDLE, more).failed(code, &[text]);
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
        (&["aws", "--bundle", "x.tar", "--no-upload"], &["`aws` registers no images"]),
        (&["alibaba", "--bundle", "x.tar"], &["BUNDLE is set without NO_UPLOAD", "publish"]),
        (&["alibaba", "--no-upload", "--bundle-expires", "30d"], &["without BUNDLE"]),
        (&["alibaba", "--no-upload", "--bundle-regions", "[x]"], &["without BUNDLE"]),
        (&["alibaba", "--no-upload", "--bundle", "directory"], &["not the path of a file"]),
        (&["alibaba", "--no-upload", "--bundle", "web.raw"], &["would replace the input"]),
        (&["alibaba", "--no-upload", "--bundle", "x.tar", "--bundle-regions", "[1]"], &["`1`"]),
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
