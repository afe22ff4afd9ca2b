//! Uses openssl as the oracle: it creates the keys, verifies our signatures, and we verify its signatures.

use std::{fs, io::Cursor, path::Path, process::Command};

use super::*;

/// Runs openssl in a directory; `None` when it is not installed.
#[expect(clippy::disallowed_methods, reason = "an oracle in a test")]
fn openssl(directory: &Path, args: &str) -> Option<bool> {
    let output = Command::new("openssl").args(args.split(' ')).current_dir(directory).output();
    match output {
        Ok(output) => Some(output.status.success()),
        Err(_) => {
            let text = "SKIPPED: openssl not found; run tests/install-tools";
            assert!(std::env::var_os("BUILD_IMAGE_NO_SKIP").is_none(), "{text}");
            eprintln!("{text}");
            None
        }
    }
}

/// Creates a directory with a file and, per row, a key from an openssl command.
fn keys(rows: &[(&str, &str)]) -> Option<tempfile::TempDir> {
    let directory = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..1_100_001_u32).map(|number| number.to_le_bytes()[1]).collect();
    fs::write(directory.path().join("file"), content).unwrap();
    for (name, args) in rows {
        let made = openssl(directory.path(), args)?;
        assert!(made, "openssl {args}");
        let public = format!("pkey -in {name} -pubout -out {name}.pub");
        assert!(openssl(directory.path(), &public)?, "{public}");
    }
    Some(directory)
}

fn stream(directory: &Path) -> fs::File {
    fs::File::open(directory.join("file")).unwrap()
}

const KEYS: [(&str, &str); 7] = [
    ("rsa", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa"),
    ("rsa1", "genrsa -traditional -out rsa1 3072"),
    ("p256", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256"),
    ("p384", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384"),
    ("p521", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521"),
    // These two have their parameters before the key, in a separate block.
    ("sec1", "ecparam -name prime256v1 -genkey -out sec1"),
    ("sec1l", "ecparam -name secp521r1 -genkey -out sec1l"),
];
const DIGESTS: [&str; 8] =
    ["sha224", "sha256", "sha384", "sha512", "sha3-224", "sha3-256", "sha3-384", "sha3-512"];

#[test]
fn openssl_and_we_agree_on_every_key_and_digest() {
    let Some(directory) = keys(&KEYS) else { return };
    let directory = directory.path();
    for ((name, _), digest) in KEYS.iter().flat_map(|key| DIGESTS.map(|digest| (key, digest))) {
        let what = format!("{name} {digest}");
        let ours = sign(digest, &directory.join(name), &mut stream(directory)).unwrap();
        fs::write(directory.join("sig"), &ours).unwrap();
        let args = format!("dgst -{digest} -verify {name}.pub -signature sig file");
        assert_eq!(openssl(directory, &args), Some(true), "{what}");
        let args = format!("dgst -{digest} -sign {name} -out sig file");
        assert_eq!(openssl(directory, &args), Some(true), "{what}");
        let theirs = fs::read(directory.join("sig")).unwrap();
        let public = directory.join(format!("{name}.pub"));
        assert!(verify(digest, &public, &theirs, &mut stream(directory)).unwrap(), "{what}");
        // Other bytes, another digest, one byte of the signature more or less: the signature does not match.
        assert!(!verify(digest, &public, &theirs, &mut Cursor::new("x")).unwrap(), "{what}");
        let key = PublicKey::read(&public).unwrap();
        let algorithm = Algorithm::named(digest).unwrap();
        let digest = of_stream(algorithm, &mut stream(directory)).unwrap();
        assert!(key.verifies(algorithm, &digest, &theirs), "{what}");
        let longer = [&theirs[..], &[0]].concat();
        for wrong in [&theirs[1..], &theirs[..theirs.len() - 1], &longer, b"", &[0; 5000]] {
            assert!(!key.verifies(algorithm, &digest, wrong), "{what}");
        }
        let other = [&[digest[0] ^ 1], &digest[1..]].concat();
        assert!(!key.verifies(algorithm, &other, &theirs), "{what}");
    }
}

#[test]
fn large_keys_and_the_old_form_of_public_keys_work() {
    let large = [("large", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:5120 -out large")];
    // More than the 4096 bits that the library accepts by default.
    let Some(directory) = keys(&large) else { return };
    let directory = directory.path();
    let ours = sign("sha3-512", &directory.join("large"), &mut stream(directory)).unwrap();
    assert!(
        verify("SHA3-512", &directory.join("large.pub"), &ours, &mut stream(directory)).unwrap(),
        "a key of 5120 bits"
    );
    let args = "rsa -in large -RSAPublicKey_out -out old.pub";
    assert_eq!(openssl(directory, args), Some(true));
    assert!(verify("sha3-512", &directory.join("old.pub"), &ours, &mut stream(directory)).unwrap());
}

/// Reads a key as public or private and returns the error's text.
fn refusal(path: &Path, private: bool) -> String {
    let error = if private {
        PrivateKey::read(path).err().unwrap()
    } else {
        PublicKey::read(path).err().unwrap()
    };
    format!("{}: {}: {}", error.message, error.causes.join(": "), error.hint.unwrap_or_default())
}

#[test]
fn errors_of_unusable_keys_have_hints() {
    let rows = [
        ("ok", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ok"),
        ("ed", "genpkey -algorithm ED25519 -out ed"),
        ("k1", "ecparam -name secp256k1 -genkey -out k1"),
        ("rsa", "genrsa -out rsa 2048"),
    ];
    let Some(directory) = keys(&rows) else { return };
    let directory = directory.path();
    for args in [
        "pkcs8 -topk8 -in ok -out locked -passout pass:x",
        "ec -in ok -aes128 -out locked1 -passout pass:x",
        "req -x509 -new -key rsa -subj /CN=x -out cert",
    ] {
        assert_eq!(openssl(directory, args), Some(true), "{args}");
    }
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
    write("text", "hello");
    write("half", "-----BEGIN PUBLIC KEY-----\nAAAA\n");
    write("wrong", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    write("letters", "-----BEGIN PUBLIC KEY-----\n*\n-----END PUBLIC KEY-----\n");
    for (name, private, texts) in [
        ("locked", true, &["encrypted", "openssl pkey -in"][..]),
        ("locked1", true, &["encrypted", "openssl pkey -in"]),
        ("ok.pub", true, &["holds a public key"]),
        ("ok", false, &["holds a private key", "-pubout"]),
        ("locked", false, &["holds a private key"]),
        ("cert", false, &["holds a certificate", "openssl x509"]),
        ("ed", true, &["its algorithm is 1.3.101.112"]),
        ("ed.pub", false, &["its algorithm is 1.3.101.112"]),
        ("k1", true, &["its curve is 1.3.132.0.10"]),
        ("k1.pub", false, &["its curve is 1.3.132.0.10"]),
        ("text", false, &["no `-----BEGIN …` line"]),
        ("half", true, &["`-----END …` line is missing"]),
        ("wrong", false, &["it is broken"]),
        ("letters", false, &["base64"]),
        ("absent", false, &["cannot read", "No such file"]),
        ("", true, &["cannot read"]),
    ] {
        let text = refusal(&directory.join(name), private);
        for part in texts {
            assert!(text.contains(part), "{name}: {text}");
        }
    }
}

#[test]
fn several_digests_are_made_in_one_pass() {
    let algorithms = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha3_256, Algorithm::Sha256];
    let mut seen = 0;
    let mut count = |done| {
        seen = done;
        ControlFlow::Continue(())
    };
    let digests = digests_of(&mut Cursor::new("abc"), &algorithms, &mut count).unwrap();
    // RFC 1321 A.5, FIPS 180-4 and FIPS 202 examples.
    assert_eq!(digests.hex(Algorithm::Md5).unwrap(), "900150983cd24fb0d6963f7d28e17f72");
    assert!(digests.hex(Algorithm::Sha256).unwrap().starts_with("ba7816bf8f01cfea"));
    assert!(digests.hex(Algorithm::Sha3_256).unwrap().starts_with("3a985da74fe225b2"));
    assert_eq!(digests.hex(Algorithm::Sha512), None);
    assert_eq!(seen, 3);
    let mut stop = |_| ControlFlow::Break(());
    let stopped = digests_of(&mut Cursor::new("abc"), &algorithms, &mut stop).unwrap_err();
    assert_eq!(stopped.stage, Stage::Interrupted);
}

#[test]
fn names_of_digests_and_signatures_are_those_of_openssl() {
    for (name, suffix) in
        [("sha384", ".384.sig"), ("SHA3-512", ".3512.sig"), ("sha512", ".512.sig")]
    {
        assert_eq!(Algorithm::named(name).unwrap().signature_suffix(), suffix);
    }
    for name in ["md5", "sha1", "", "sha385"] {
        let error = Algorithm::named(name).unwrap_err();
        assert!(error.hint.is_some_and(|hint| hint.contains("sha3-512")), "{name}");
    }
}
