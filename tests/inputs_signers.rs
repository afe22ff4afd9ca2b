//! Checks signatures of disks that minisign and `ssh-keygen -Y sign` make: what verifies, and what is refused with which
//! reason.

use crate::harness::{Run, Sandbox, needs, tool};

fn shell(sandbox: &Sandbox, line: &str) {
    tool(sandbox.path(), &["sh", "-ec", line]);
}

fn build(sandbox: &Sandbox, disk: &str, more: &[&str]) -> Run {
    let _ = std::fs::remove_dir_all(sandbox.path().join("images"));
    sandbox.run(&[&["--disk", disk, "-p", "qcow2", "--package", "none"], more].concat())
}

/// Keys of OpenSSH by the arguments of `ssh-keygen`.
const KEYS: [(&str, &str); 5] = [
    ("ed25519", "-t ed25519"),
    ("p256", "-t ecdsa -b 256"),
    ("p384", "-t ecdsa -b 384"),
    ("p521", "-t ecdsa -b 521"),
    ("rsa", "-t rsa -b 2048"),
];

#[test]
fn signatures_of_openssh_verify_disks() {
    if !needs(&["ssh-keygen", "sh", "gzip"]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    sandbox.disk("other.raw", 4, 2);
    shell(&sandbox, "gzip -k disk.raw");
    for (name, arguments) in KEYS {
        shell(&sandbox, &format!("ssh-keygen -q -N '' -C me -f {name} {arguments}"));
        for disk in ["disk.raw", "disk.raw.gz"] {
            for hash in ["sha256", "sha512"] {
                let sign =
                    format!("ssh-keygen -q -Y sign -f {name} -n file -O hashalg={hash} {disk}");
                shell(&sandbox, &format!("rm -f {disk}.sig; {sign}"));
                let key = format!("{name}.pub");
                // It is found beside the disk.
                let run = build(&sandbox, disk, &["--disk-sig-public-key", &key]);
                let verified = format!("signature verified with {key} (ssh-keygen)");
                assert!(run.succeeded().stderr.contains(&verified), "{}", run.stderr);
                let signature = format!("{disk}.sig");
                let named = ["--disk-sig-public-key", &key, "--disk-sig", &signature];
                build(&sandbox, "other.raw", &named)
                    .failed(4, &["it is of another file", &key, "DISK_SIG_PUBLIC_KEY"]);
            }
        }
    }
    shell(&sandbox, "cat p256.pub rsa.pub >several; echo ssh-ed25519 AAAA >broken");
    shell(&sandbox, "rm -f *.sig");
    shell(&sandbox, "ssh-keygen -q -Y sign -f p256 -n git disk.raw && mv disk.raw.sig git.sig");
    shell(&sandbox, "ssh-keygen -q -Y sign -f p256 -n file disk.raw && mv disk.raw.sig p256.sig");
    shell(&sandbox, "sed '3s/./A/;3s/.$/A/' p256.sig >changed.sig; head -3 p256.sig >cut.sig");
    shell(&sandbox, "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out k");
    shell(
        &sandbox,
        "openssl pkey -in k -pubout -out k.pub && openssl dgst -sha256 -sign k -out k.sig disk.raw",
    );
    for (key, signature, code, texts) in [
        ("p256.pub", "git.sig", 4, &["its namespace is `git`, not `file`"][..]),
        ("rsa.pub", "p256.sig", 4, &["it was made with another key", "ssh-rsa key `rsa.pub`"]),
        ("p256.pub", "changed.sig", 4, &["is not its signature by the ecdsa-sha2-nistp256 key"]),
        ("p256.pub", "cut.sig", 4, &["is not its signature"]),
        ("p256.pub", "disk.raw", 4, &["no signature"]),
        ("p256.pub", "k.sig", 4, &["is not its signature"]),
        ("k.pub", "p256.sig", 4, &["RSA key `k.pub`", "ssh-keygen made it"]),
        ("p256", "p256.sig", 2, &["holds a private key", "hint: give its public part, `"]),
        ("several", "p256.sig", 2, &["several` has several SSH keys"]),
        ("broken", "p256.sig", 2, &["broken` is not a usable SSH key"]),
    ] {
        build(&sandbox, "disk.raw", &["--disk-sig-public-key", key, "--disk-sig", signature])
            .failed(code, texts);
    }
    build(&sandbox, "other.raw", &["--disk-sig-public-key", "p256.pub"])
        .failed(4, &["other.raw` has no signature", "other.raw.sig` is not there"]);
}

#[test]
fn signatures_of_minisign_verify_disks() {
    if !needs(&["minisign", "sh", "xz"]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    sandbox.disk("other.raw", 4, 2);
    shell(&sandbox, "xz -0 -k disk.raw");
    for name in ["me", "foe"] {
        shell(&sandbox, &format!("minisign -G -W -f -p {name}.pub -s {name}.key >/dev/null"));
    }
    for disk in ["disk.raw", "disk.raw.xz"] {
        shell(&sandbox, &format!("minisign -S -s me.key -t 'made today' -m {disk}"));
        let run = build(&sandbox, disk, &["--disk-sig-public-key", "me.pub"]);
        let verified = "signature verified with me.pub (minisign)";
        assert!(run.succeeded().stderr.contains(verified), "{}", run.stderr);
    }
    shell(&sandbox, "minisign -S -l -s me.key -m disk.raw -x legacy");
    shell(&sandbox, "minisign -S -s foe.key -m disk.raw -x foe.minisig");
    shell(&sandbox, "sed 's/made today/made never/' disk.raw.minisig >comment");
    shell(
        &sandbox,
        "sed '2s/A/B/;2s/a/b/;2s/c/d/' disk.raw.minisig >changed; head -2 comment >cut",
    );
    shell(&sandbox, "sed 2s/^R/x/ me.pub >broken.pub");
    for (disk, key, signature, code, texts) in [
        ("other.raw", "me.pub", "disk.raw.minisig", 4, &["it is of another file"][..]),
        ("disk.raw", "me.pub", "legacy", 4, &["it signs the whole file (minisign -l)"]),
        ("disk.raw", "me.pub", "foe.minisig", 4, &["it was made with key "]),
        ("disk.raw", "me.pub", "comment", 4, &["its trusted comment was changed"]),
        ("disk.raw", "me.pub", "changed", 4, &["is not its signature by the minisign key"]),
        ("disk.raw", "me.pub", "cut", 4, &["a line is missing"]),
        ("disk.raw", "me.pub", "disk.raw", 4, &["no signature"]),
        ("disk.raw", "me.key", "disk.raw.minisig", 2, &["is not a public key of minisign"]),
        ("disk.raw", "broken.pub", "disk.raw.minisig", 2, &["is not a public key of minisign"]),
    ] {
        build(&sandbox, disk, &["--disk-sig-public-key", key, "--disk-sig", signature])
            .failed(code, texts);
    }
}
