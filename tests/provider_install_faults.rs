//! Checks `providers install` over a table of faults of what is published: each is one clear error with the right exit
//! code, nothing of the package runs, and the provider directory is as it was.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Published, TRUST, needs, script};

/// A fault of what is published, the error, and parts of the message.
struct Fault {
    name: &'static str,
    break_it: fn(&mut Published),
    code: i32,
    texts: &'static [&'static str],
}

/// The first target of the newest release.
pub(crate) fn target(published: &mut Published) -> &mut Value {
    let packages = published.index["packages"].as_array_mut().unwrap();
    &mut packages.last_mut().unwrap()["targets"][0]
}

fn signed(published: &mut Published, change: impl Fn(&mut Value)) {
    change(target(published));
    published.sign();
}

fn of_index(published: &mut Published, name: &str, value: Value) {
    published.index[name] = value;
    published.sign();
}

fn appended(published: &Published, name: &str) {
    let path = published.mirror().join(name);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push('\n');
    fs::write(path, text).unwrap();
}

/// What can be wrong with an index, a package, or their signature, for a user who names the right key.
const FAULTS: [Fault; 21] = [
    Fault {
        name: "tampered package",
        break_it: |published| {
            let text = script("acme", "1.0.0").replace("ran", "run");
            fs::write(published.mirror().join("acme-1.0.0"), text).unwrap();
        },
        code: 3,
        texts: &["`acme-1.0.0` is not the file that was published", "expected is"],
    },
    Fault {
        name: "tampered index",
        break_it: |published| appended(published, "index.json"),
        code: 3,
        texts: &["the signature of", "does not verify", "it is of another file"],
    },
    Fault {
        name: "tampered signature",
        break_it: |published| {
            let path = published.mirror().join("index.json.minisig");
            let text = fs::read_to_string(&path).unwrap().replace("timestamp:", "timestamp:9");
            fs::write(path, text).unwrap();
        },
        code: 3,
        texts: &["its trusted comment was changed"],
    },
    Fault {
        name: "wrong key",
        break_it: |published| published.sign_with("other"),
        code: 3,
        texts: &["does not verify with key", "it was made with key"],
    },
    Fault {
        name: "no signature",
        break_it: |published| {
            fs::remove_file(published.mirror().join("index.json.minisig")).unwrap();
        },
        code: 3,
        texts: &["has no signature (`index.json.minisig`)"],
    },
    Fault {
        name: "no index",
        break_it: |published| fs::remove_file(published.mirror().join("index.json")).unwrap(),
        code: 3,
        texts: &["no index was found at"],
    },
    Fault {
        name: "expired",
        break_it: |published| of_index(published, "expires", json!("2020-01-01T00:00:00Z")),
        code: 3,
        texts: &["expired at 2020-01-01T00:00:00Z"],
    },
    Fault {
        name: "no time",
        break_it: |published| of_index(published, "expires", json!("soon")),
        code: 3,
        texts: &["`soon` is not a time"],
    },
    Fault {
        name: "later form",
        break_it: |published| of_index(published, "version", json!(2)),
        code: 3,
        texts: &["it has version 2, this build-image reads 1"],
    },
    Fault {
        name: "another document",
        break_it: |published| of_index(published, "format", json!("something")),
        code: 3,
        texts: &["its format is `something`"],
    },
    Fault {
        name: "publisher with a path",
        break_it: |published| of_index(published, "publisher", json!("../x")),
        code: 3,
        texts: &["`../x` is not the name of a publisher"],
    },
    Fault {
        name: "provider with a path",
        break_it: |published| {
            published.index["packages"][0]["name"] = json!("../x");
            published.sign();
        },
        code: 3,
        texts: &["`../x` is not the name of a provider"],
    },
    Fault {
        name: "location with a path",
        break_it: |published| {
            signed(published, |target| target["url"] = json!("../keys/other.key"));
        },
        code: 3,
        texts: &["neither an http or https URL nor a relative path of plain names"],
    },
    Fault {
        name: "location of another scheme",
        break_it: |published| {
            signed(published, |target| target["url"] = json!("file:///etc/passwd"));
        },
        code: 3,
        texts: &["neither an http or https URL nor a relative path of plain names"],
    },
    Fault {
        name: "absent package",
        break_it: |published| fs::remove_file(published.mirror().join("acme-1.0.0")).unwrap(),
        code: 3,
        texts: &["acme-1.0.0"],
    },
    Fault {
        name: "wrong machine",
        break_it: |published| {
            signed(published, |target| {
                (target["arch"], target["libc"]) = (json!("riscv64"), json!("gnu"));
            });
        },
        code: 3,
        texts: &["offers no `acme` for this host (linux ", "1.0.0 for linux riscv64 gnu"],
    },
    Fault {
        name: "wrong system",
        break_it: |published| signed(published, |target| target["os"] = json!("freebsd")),
        code: 3,
        texts: &["1.0.0 for freebsd any any (ABI 1.1, needs 1.0)"],
    },
    Fault {
        name: "newer ABI",
        break_it: |published| {
            published.index["packages"][0]["abi"] = json!({"built": "1.9", "requires": "1.9"});
            published.sign();
        },
        code: 3,
        texts: &["offers no `acme` for this host", "(ABI 1.9)"],
    },
    Fault {
        name: "another ABI",
        break_it: |published| {
            published.index["packages"][0]["abi"] = json!({"built": "2.0", "requires": "1.0"});
            published.sign();
        },
        code: 3,
        texts: &["offers no `acme` for this host", "(ABI 2.0, needs 1.0)"],
    },
    Fault {
        name: "too small a size",
        break_it: |published| signed(published, |target| target["size"] = json!(10)),
        code: 3,
        texts: &["has more than 10 bytes"],
    },
    Fault {
        name: "too large a size",
        break_it: |published| signed(published, |target| target["size"] = json!(1_000_000)),
        code: 3,
        texts: &["but the index says 1000000"],
    },
];

/// What a user may start from.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// Nothing is installed.
    New,
    /// Version 0.9.0 is installed, and the publisher is known.
    Older,
}

fn started(start: Start) -> Published {
    let mut published = Published::new();
    if matches!(start, Start::Older) {
        published.index["packages"] = json!([]);
        published.add("acme", "0.9.0");
        published.sign();
        published.run(&[&["install", "mirror"], &TRUST[..]].concat()).succeeded();
        published.add("acme", "1.0.0");
        published.index["packages"].as_array_mut().unwrap().remove(0);
        published.index["serial"] = json!(2);
        published.sign();
    }
    published.forget_runs();
    published
}

#[test]
fn a_package_that_is_not_what_was_published_is_refused_and_changes_nothing() {
    if !needs(&["minisign"]) {
        return;
    }
    for start in [Start::New, Start::Older] {
        for fault in &FAULTS {
            for over_http in [true, false] {
                let mut published = started(start);
                (fault.break_it)(&mut published);
                let before = published.installed();
                let web = published.serve(|_, _| None);
                let url = web.url("/index.json");
                let source = if over_http { url.as_str() } else { "mirror" };
                let run = published.run(&[&["install", source], &TRUST[..]].concat());
                println!("{start:?}, {}: {}", fault.name, run.stderr);
                run.failed(fault.code, fault.texts);
                let left = names_in(&published);
                assert_eq!(left, before.keys().cloned().collect::<Vec<_>>(), "{}", fault.name);
                assert_eq!(published.installed(), before, "{start:?}, {}", fault.name);
                assert!(!published.ran(), "{}: the package was run", fault.name);
            }
        }
    }
}

fn names_in(published: &Published) -> Vec<std::path::PathBuf> {
    published.installed().into_keys().collect()
}
