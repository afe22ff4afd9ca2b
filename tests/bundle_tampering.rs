//! Refuses bundles that were altered, are expired, are meant for others, or were signed by others.

use std::fs;

use build_image_disk::pack::plain_tar;
use serde_json::{Value, json};

use crate::{
    bundles::{BUNDLE, Bench, Part, archive, parts_of},
    harness::{needs, tool},
};

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
        ("a name that leaves the directory", header(0, b"../"), vec!["is not a name for a member"]),
        ("an absolute name", header(0, b"/etc/passwd\0"), vec!["`/etc/passwd` is not a name"]),
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
