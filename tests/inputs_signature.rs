//! Tests signatures and checksums of ISOs: what verifies, what stops the build, and what is a warning.

use std::{fs, path::Path, process::Command};

use crate::harness::{Answer, Run, Sandbox, TinyIso, Web, needs, stand_in_qemu, tool};

fn openssl(directory: &Path, args: &str) {
    let output =
        Command::new("openssl").args(args.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A base ISO, a hotfix, two keys with their public parts, and the vendor's signatures beside the ISOs.
fn signed() -> Sandbox {
    let sandbox = Sandbox::new();
    let directory = sandbox.path();
    fs::create_dir(directory.join("images")).unwrap();
    stand_in_qemu(&sandbox);
    TinyIso::base().write(&directory.join("base.iso"));
    TinyIso::hotfix().write(&directory.join("fix.iso"));
    for args in [
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out vendor",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out house",
        "pkey -in vendor -pubout -out vendor.pub",
        "pkey -in house -pubout -out house.pub",
        "dgst -sha384 -sign vendor -out base.iso.384.sig base.iso",
        "dgst -sha384 -sign vendor -out fix.iso.384.sig fix.iso",
        "dgst -sha3-512 -sign house -out house.sig base.iso",
    ] {
        openssl(directory, args);
    }
    sandbox
}

/// Settings common to all builds here; a program stands in for qemu.
const BUILD: [&str; 9] =
    ["-p", "qcow2", "-m", "ltm", "-b", "1", "--package=none", "--qemu", "./qemu"];

fn build(sandbox: &Sandbox, more: &[&str]) -> Run {
    // The system of the stand-in has no boot loader.
    let given = ["-i", "base.iso", "--guest-check", "off"];
    sandbox.run(&[&given, &BUILD[..], more].concat())
}

const VENDOR: &[&str] = &["--iso-sig-verification-public-key", "vendor.pub"];
const HOUSE: &[&str] = &["--image-sig-public-key", "house.pub"];

#[test]
fn a_good_signature_under_one_of_the_keys_is_enough() {
    if !needs(&["xorriso", "openssl", "dd", "mkfifo"]) {
        return;
    }
    let sandbox = signed();
    let verified = "signature verified with vendor.pub (sha384)";
    let house = "signature verified with house.pub (sha3-512)";
    let sig = ["-s", "house.sig"];
    for (more, text) in [
        (&[VENDOR][..], verified),
        (&[VENDOR, HOUSE], verified),
        (&[VENDOR, &["-s", "base.iso.384.sig"]], verified),
        // One signature is tried with both keys, each with its own digest algorithm.
        (&[VENDOR, HOUSE, &sig], house),
        (&[HOUSE, &sig], house),
        (&[HOUSE, &sig, &["--image-sig-encryption-type", "SHA3-512"]], house),
    ] {
        let run = build(&sandbox, &more.concat());
        run.succeeded();
        assert!(run.stderr.contains(text), "{more:?}: {}", run.stderr);
        assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    }
    fs::copy(sandbox.path().join("house.sig"), sandbox.path().join("base.iso.3512.sig")).unwrap();
    assert!(build(&sandbox, HOUSE).succeeded().stderr.contains(house));
    // Both are verified before the installation, in which the tiny hotfix fails.
    let run = build(&sandbox, &[VENDOR, &["-e", "fix.iso"]].concat());
    run.failed(4, &["initrd.img"]);
    assert_eq!(run.stderr.matches(verified).count(), 2, "{}", run.stderr);
}

#[test]
fn a_failed_or_missing_signature_stops_the_build() {
    if !needs(&["xorriso", "openssl", "dd", "mkfifo"]) {
        return;
    }
    let sandbox = signed();
    sandbox.write("junk", "not a signature");
    sandbox.write("text.pub", "not a key");
    let wrong = "is not the file that was signed";
    let no_signature = "has no signature";
    for (more, code, texts) in [
        (&[VENDOR, &["-s", "house.sig"]][..], 4, &[wrong, "RSA key `vendor.pub` (sha384"][..]),
        (&[VENDOR, &["-s", "fix.iso.384.sig"]], 4, &[wrong, "hint: fetch"]),
        (&[VENDOR, &["-s", "junk"]], 4, &[wrong]),
        (&[VENDOR, &["-s", "base.iso"]], 4, &["no signature", "hint:"]),
        (&[VENDOR, &["-s", "absent"]], 4, &["ISO_SIG", "absent` is not there"]),
        (&[VENDOR, HOUSE, &["-s", "junk"]], 4, &[wrong, "`vendor.pub`", "EC key `house.pub`"]),
        (&[HOUSE], 4, &[no_signature, "base.iso.3512.sig", "leave IMAGE_SIG_PUBLIC_KEY out"]),
        (
            &[VENDOR, &["--iso-sig-verification-encryption-type", "sha256"]],
            4,
            &[no_signature, "base.iso.256.sig"],
        ),
        (
            &[VENDOR, &["--iso-sig-verification-encryption-type", "md5"]],
            2,
            &["ISO_SIG_VERIFICATION_ENCRYPTION_TYPE", "sha3-512"],
        ),
        (&[&["-s", "base.iso.384.sig"]], 2, &["ISO_SIG names a signature, but no key"]),
        (&[&["--iso-sig-verification-public-key", "text.pub"]], 2, &["text.pub` is no PEM key"]),
        (&[&["--iso-sig-verification-public-key", "vendor"]], 2, &["holds a private key"]),
        (&[VENDOR, &["-e", "fix.iso", "-x", "base.iso.384.sig"]], 4, &[wrong, "fix.iso"]),
    ] {
        let run = build(&sandbox, &more.concat());
        run.failed(code, texts);
    }
    // The build does not start.
    assert!(!sandbox.path().join("artifacts").exists());
    fs::remove_file(sandbox.path().join("fix.iso.384.sig")).unwrap();
    build(&sandbox, &[VENDOR, &["-e", "fix.iso"]].concat())
        .failed(4, &[no_signature, "EHF_ISO_SIG"]);
    let changed = TinyIso::base().with("more", "x");
    changed.write(&sandbox.path().join("base.iso"));
    build(&sandbox, VENDOR).failed(4, &[wrong]);
}

#[test]
fn without_keys_and_digests_the_missing_verification_is_reported() {
    if !needs(&["xorriso", "openssl", "dd", "mkfifo"]) {
        return;
    }
    let sandbox = signed();
    let run = build(&sandbox, &[]);
    let notice = "nothing proves where the ISO comes from";
    assert_eq!(run.succeeded().stderr.matches(notice).count(), 1, "{}", run.stderr);
    let iso = fs::read(sandbox.path().join("base.iso")).unwrap();
    let digest = sha256(&iso);
    let run = build(&sandbox, &["--iso-sha256", &digest.to_uppercase()]);
    assert!(run.succeeded().stderr.contains("ISO_SHA256 as expected"), "{}", run.stderr);
    assert!(!run.stderr.contains(notice));
    let both = [VENDOR, &["--iso-sha256", &digest]].concat();
    assert!(build(&sandbox, &both).succeeded().stderr.contains("as expected, signature verified"));
    let zeros = "0".repeat(64);
    build(&sandbox, &["--iso-sha256", &zeros])
        .failed(4, &["is not the file ISO_SHA256 names", &digest, &zeros]);
    build(&sandbox, &["--iso-sha256", "abc"]).failed(2, &["ISO_SHA256"]);
    let wrong = ["-e", "fix.iso", "--iso-sha256", &digest, "--ehf-iso-sha256", &digest];
    build(&sandbox, &wrong).failed(4, &["is not the file EHF_ISO_SHA256 names", "fix.iso"]);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn downloads_are_verified_too_and_a_bad_one_is_not_kept() {
    if !needs(&["xorriso", "openssl", "dd", "mkfifo"]) {
        return;
    }
    let sandbox = signed();
    let read = |name: &str| fs::read(sandbox.path().join(name)).unwrap();
    let (iso, signature, other) =
        (read("base.iso"), read("base.iso.384.sig"), read("fix.iso.384.sig"));
    let digest = sha256(&iso);
    let web = Web::start(move |request| match request.path.as_str() {
        "/a/base.iso" | "/b/base.iso" | "/c/base.iso" => Answer::file(request, &iso),
        "/a/base.iso.384.sig" => Answer::file(request, &signature),
        "/b/base.iso.384.sig" => Answer::file(request, &other),
        _ => Answer::status(404),
    });
    let build = |path: &str, more: &[&str]| {
        sandbox.run(&[&["-i", &web.url(path)], &BUILD[..], VENDOR, more].concat())
    };
    for more in [
        &[][..],
        &["-s", &web.url("/a/base.iso.384.sig")],
        &["-s", "base.iso.384.sig"],
        &["--iso-sha256", &digest],
    ] {
        assert!(build("/a/base.iso", more).succeeded().stderr.contains("signature verified"));
    }
    build("/b/base.iso", &[]).failed(4, &["is not the file that was signed", "/b/base.iso"]);
    build("/c/base.iso", &[]).failed(4, &["has no signature", "/c/base.iso.384.sig"]);
    build("/c/base.iso", &["-s", &web.url("/absent")])
        .failed(4, &["ISO_SIG", "/absent` is not there"]);
    assert!(
        !sandbox.files().iter().any(|name| name.contains("downloads/")),
        "{:?}",
        sandbox.files()
    );
}

#[test]
fn disks_are_checked_against_signatures_and_published_lists() {
    if !needs(&["openssl", "sha256sum", "tar", "gzip"]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    let shell = |line: &str| tool(sandbox.path(), &["sh", "-c", line]);
    shell("tar -cf disk.tar disk.raw && gzip -k disk.raw && mkdir other && cp disk.raw other/");
    shell("openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out a.pem");
    shell("openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out b.pem");
    for key in ["a", "b"] {
        shell(&format!("openssl pkey -in {key}.pem -pubout -out {key}.pub"));
    }
    for name in ["disk.raw", "disk.raw.gz", "disk.tar"] {
        shell(&format!("openssl dgst -sha512 -sign a.pem -out {name}.sig {name}"));
    }
    shell("sha256sum disk.raw disk.raw.gz disk.tar > SHA256SUMS");
    shell("sha256sum --tag *disk.raw > BSD; sed 's/^..../0000/' SHA256SUMS > WRONG");
    let key = ["--disk-sig-digest", "sha512", "--disk-sig-public-key"];
    for name in ["disk.raw", "disk.raw.gz", "disk.tar"] {
        let signature = format!("{name}.sig");
        let sig = ["--disk-sig", &signature];
        for (more, code, text) in [
            (vec!["--disk-sha256sums", "SHA256SUMS"], 0, "SHA256SUMS as expected"),
            (vec!["--disk-sha256sums", "WRONG"], 4, "WRONG names"),
            (vec!["--disk-sha256sums", "a.pub"], 4, "has no SHA-256 for"),
            (vec!["--disk-sha256sums", "none"], 4, "cannot read"),
            ([&key[..], &["a.pub"], &sig].concat(), 0, "signature verified with"),
            ([&key[..], &["b.pub"], &sig].concat(), 4, "is not the file that was signed"),
            (
                [&key[..], &["a.pub", "--disk-sig", "a.pub"]].concat(),
                4,
                "is not the file that was signed",
            ),
            ([&key[..], &["a.pub"]].concat(), 4, "has no signature"),
            (sig.to_vec(), 2, "no key is set that verifies it"),
        ] {
            let words = ["--disk", name, "-p", "qcow2", "--package", "none"];
            let run = sandbox.run(&[&words[..], &more].concat());
            assert_eq!(run.code, code, "{name} {more:?}: {}", run.stderr);
            assert!(run.stderr.contains(text), "{name} {more:?}: {}", run.stderr);
        }
    }
    let words = ["--disk", "other/disk.raw", "-p", "qcow2", "--package", "none"];
    sandbox.run(&[&words[..], &["--disk-sha256sums", "BSD"]].concat()).succeeded();
}
