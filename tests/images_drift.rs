//! Checks `images drift` with a file that declares how images must be.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use crate::images::{Bench, changes, images, run};

/// Declarations of the account that is a directory.
const FILE: &str = "version: 1
images:
  - name: web-*
    regions: [home, other]
    accounts: [42, '43']
    tags: {owner: team, stage: live}
    audience: private
    deprecated: false
  - name: db-1
    audience: public
    deprecated: true
";

/// Everything that is in the account.
fn state(bench: &Bench) -> BTreeMap<String, Vec<u8>> {
    let read = |region: &'static str| {
        let path = bench.directory.path().join(region);
        bench.files(region).into_iter().map(move |name| {
            let content = fs::read(path.join(&name)).unwrap();
            (format!("{region}/{name}"), content)
        })
    };
    read("home").chain(read("other")).collect()
}

/// Number of differences, and of copies that are missing.
fn count(document: &Value) -> (usize, usize) {
    let copies = document["copies"].as_array().unwrap();
    let differences = copies.iter().map(|one| one["differences"].as_array().unwrap().len()).sum();
    (differences, copies.iter().filter(|one| one["copy"].is_null()).count())
}

#[test]
fn what_differs_from_a_declaration_is_named_and_repaired_once() {
    let bench = Bench::new();
    let ids = ["web-1", "web-2", "db-1"].map(|name| bench.image(name));
    bench.image("other-1");
    let host = bench.host();
    host.write("images.yml", FILE);
    let drift = ["drift", "--file", "images.yml"];
    let repair = ["drift", "--file", "images.yml", "--repair"];
    let first = images(&host, &drift);
    // Of each web image: two tags and two accounts in one difference, and a copy.
    assert_eq!(count(&first), (8, 2), "{first:#}");
    images(&host, &repair);
    let repaired = state(&bench);
    let again = images(&host, &repair);
    assert_eq!((count(&again), changes(&again).len()), ((0, 0), 0), "{again:#}");
    assert!(repaired == state(&bench), "the second repair changed something");

    let [web, second, db] = &ids;
    bench.edit("home", web, |image| {
        image["tags"]["owner"] = "x".into();
        image["tags"].as_object_mut().unwrap().remove("stage");
        image["shared_with"] = json!([]);
    });
    bench.edit("other", &format!("{web}-other"), |copy| {
        copy["audience"] = "public".into();
        copy["deprecated_at"] = 1.into();
        copy["tags"]["extra"] = "y".into();
        copy["tags"]["stage"] = "test".into();
        copy["shared_with"] = json!(["42", "43", "9"]);
    });
    bench.edit("home", second, |image| {
        image["audience"] = "public".into();
        image["deprecated_at"] = 1.into();
        image["shared_with"] = json!(["43", "8"]);
    });
    for suffix in ["json", "img"] {
        let name = format!("{second}-other.{suffix}");
        fs::remove_file(bench.directory.path().join("other").join(name)).unwrap();
    }
    bench.edit("home", db, |image| {
        image["deprecated_at"] = Value::Null;
        image["audience"] = "private".into();
    });
    let found = images(&host, &drift);
    assert_eq!(count(&found), (14, 1), "{found:#}");
    let text = run(&host, &[&["images"], &drift[..]].concat()).stdout;
    for part in
        ["tag owner: `x` instead of `team`", "tag extra: `y` instead of ``", "no copy is in"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let done = images(&host, &repair);
    assert!(changes(&done).len() >= 15, "{done:#}");
    let after = state(&bench);
    let again = images(&host, &repair);
    assert_eq!((count(&again), changes(&again).len()), ((0, 0), 0), "{again:#}");
    assert!(after == state(&bench), "the second repair changed something");
}

#[test]
fn a_declaration_that_cannot_be_met_is_an_error_of_the_repair() {
    let bench = Bench::new();
    let id = bench.image("web-1");
    let host = bench.host();
    for (text, code, part) in [
        ("version: 1\nimages:\n  - name: db-*\n", 6, "no complete image `db-*` exists (line 3)"),
        ("version: 1\nimages:\n  - name: web-1\n    regions: [other]\n", 6, "cannot be repaired"),
        ("version: 1\nimages:\n  - name: web-1\n  - name: web-*\n", 2, "in line 3 and in line 4"),
        ("version: 1\nimages:\n  - names: web-1\n", 2, "images.yml, line 3: `names` is not known"),
        (
            "version: 1\nimages:\n  - name: web-1\n    regions: [gone]\n",
            6,
            "1 image was not changed",
        ),
    ] {
        host.write("images.yml", text);
        let repaired = run(&host, &["images", "drift", "--file", "images.yml", "--repair"]);
        repaired.failed(code, &[part, "hint: "]);
    }
    run(&host, &["images", "drift", "--file", "none.yml"]).failed(2, &["cannot read `none.yml`"]);
    run(&host, &["images", "drift", &id, "--file", "images.yml"]).failed(2, &["--file"]);
    run(&host, &["images", "drift"]).failed(2, &["<IMAGE>"]);
}
