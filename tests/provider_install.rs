//! Checks `providers install`, `update`, `remove` and `verify`: whose key is trusted, which index is used, and what may be
//! replaced or removed.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    harness::{Answer, PUBLISHER, Published, TRUST, at_terminal, hex, names, needs, script},
    provider_install_faults::target,
};

/// The key of a publisher is pinned when the user names it, and only then.
#[test]
fn a_key_is_trusted_with_a_word_of_the_user_and_stays() {
    if !needs(&["minisign"]) {
        return;
    }
    let mut published = Published::new();
    let web = published.serve(|_, _| None);
    let url = web.url("/");
    let refused = published.run(&["install", &url]);
    refused
        .failed(3, &["publisher `example.org`", "is not known here", "then add: --trust-key RW"]);
    assert!(published.installed().is_empty() && !published.ran());
    fs::remove_file(published.mirror().join("minisign.pub")).unwrap();
    published.run(&["install", &url, "--yes"]).failed(3, &["get its public key and name it"]);
    published.sign();
    let run = published.run(&["install", &url, "--yes"]);
    assert!(run.succeeded().stderr.contains("it is trusted from now on"), "{}", run.stderr);
    assert_eq!(published.version("acme"), "1.0.0");
    // From now on neither --yes nor the key beside the index counts.
    published.add("acme", "1.1.0");
    published.index["serial"] = json!(2);
    published.sign_with("other");
    let before = published.installed();
    for words in [&["update"][..], &["install", &url], &["install", &url, "--yes"]] {
        published.run(words).failed(3, &["it was made with key"]);
        assert_eq!(published.installed(), before);
    }
    // The user may name the publisher's new key.
    let words = ["install", &url, "--trust-key", "keys/other.pub"];
    let run = published.run(&words);
    assert!(run.succeeded().stdout.starts_with("replaced"));
    assert!(run.stderr.contains("the key of publisher `example.org` is"), "{}", run.stderr);
    published.run(&["update"]).succeeded();
    published.sign_with("example");
    published.run(&["update"]).failed(3, &["it was made with key"]);
}

/// At a terminal the user is asked; whatever is not agreement leaves everything as it was.
#[test]
fn a_user_at_a_terminal_is_asked_about_a_new_publisher() {
    if !needs(&["minisign", "script"]) {
        return;
    }
    for (typed, is_trusted) in
        [("y\n", true), ("yes\n", true), ("n\n", false), ("\n", false), ("yess\n", false)]
    {
        let published = Published::new();
        let web = published.serve(|_, _| None);
        let url = web.url("/");
        let output = at_terminal(&published.command(&["install", &url]), typed);
        let text = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
        let joined = text.split_whitespace().collect::<Vec<&str>>().join(" ");
        assert!(joined.contains("publisher `example.org` is new here"), "{typed:?}: {text}");
        assert!(joined.contains("trust it from now on? [y/N]"), "{typed:?}: {text}");
        assert_eq!(output.status.code(), Some(if is_trusted { 0 } else { 3 }), "{typed:?}: {text}");
        assert_eq!(published.installed().is_empty(), !is_trusted, "{typed:?}: {text}");
        assert_eq!(published.ran(), is_trusted, "{typed:?}: {text}");
        let is_pinned = published.run(&["install", &url]).code == 0;
        assert_eq!(is_pinned, is_trusted, "{typed:?}: the key is pinned by agreement only");
    }
}

#[test]
fn an_older_index_and_another_one_of_the_same_number_are_refused() {
    if !needs(&["minisign"]) {
        return;
    }
    let mut published = Published::new();
    published.index["serial"] = json!(7);
    published.sign();
    let install = [&["install", "mirror"], &TRUST[..]].concat();
    published.run(&install).succeeded();
    let before = published.installed();
    for (serial, texts) in [
        (6, &["has number 6, but number 7 was used before"][..]),
        (7, &["has number 7, but is not the index of that number"]),
    ] {
        published.add("acme", &format!("1.{serial}.0"));
        published.index["serial"] = json!(serial);
        published.sign();
        for words in [&install[..], &["update"], &["install", "mirror"]] {
            published.run(words).failed(3, texts);
            assert_eq!(published.installed(), before);
        }
    }
    published.index["serial"] = json!(8);
    published.sign();
    assert!(
        published.run(&["update"]).succeeded().stdout.starts_with("replaced  acme       1.7.0")
    );
}

/// A provider is replaced, removed and verified as what it was installed as, and as nothing else.
#[test]
fn an_update_a_removal_and_a_verification_know_what_was_installed() {
    if !needs(&["minisign"]) {
        return;
    }
    let mut published = Published::new();
    let install = [&["install", "mirror"], &TRUST[..]].concat();
    assert!(published.run(&install).succeeded().stdout.starts_with("installed acme       1.0.0"));
    assert!(published.run(&install).succeeded().stdout.starts_with("unchanged"));
    assert!(published.run(&["verify"]).succeeded().stdout.starts_with("intact   acme"));
    published.add("acme", "1.1.0");
    published.add("acme", "2.0.0-rc.1");
    published.index["serial"] = json!(2);
    published.sign();
    published.run(&["update", "acme"]).succeeded();
    assert_eq!(published.version("acme"), "1.1.0");
    let document: Value =
        serde_json::from_str(&published.run(&["verify", "--json"]).stdout).unwrap();
    let row = &document["providers"][0];
    assert_eq!((&row["state"], &row["publisher"]), (&json!("intact"), &json!(PUBLISHER)));
    // An older version is installed only when the user names it.
    published.run(&["install", "mirror", "acme@1.0.0"]).succeeded();
    assert_eq!(published.version("acme"), "1.0.0");
    published.run(&["install", "mirror", "acme@3.0.0"]).failed(3, &["offers no `acme` 3.0.0"]);
    published.run(&["install", "mirror", "zeta"]).failed(3, &["offers no `zeta`", "has: acme"]);
    let plugin = published.directory().join("build-image-provider-acme");
    fs::write(&plugin, "#!/bin/sh\n").unwrap();
    published.run(&["verify"]).failed(3, &["1 of 1 installed providers differ", "has SHA-256"]);
    for words in [&["remove", "acme"][..], &["update"], &["install", "mirror"]] {
        published.run(words).failed(3, &["was changed after it was installed"]);
        assert_eq!(fs::read_to_string(&plugin).unwrap(), "#!/bin/sh\n");
    }
    fs::remove_file(&plugin).unwrap();
    published.run(&["verify"]).failed(3, &["is missing"]);
    published.run(&["install", "mirror"]).succeeded();
    published.run(&["verify"]).succeeded();
    assert!(published.run(&["remove", "acme"]).succeeded().stdout.starts_with("removed"));
    assert_eq!(names(&published.directory()), ["packages.json"]);
    published.run(&["remove", "acme"]).failed(3, &["was not installed into"]);
}

/// Files and names that belong to others are left alone.
#[test]
fn what_another_installed_is_not_replaced_or_removed() {
    if !needs(&["minisign"]) {
        return;
    }
    let mut published = Published::new();
    let install = [&["install", "mirror"], &TRUST[..]].concat();
    for file in ["build-image-provider-acme", "libbuild_image_provider_acme.so"] {
        fs::create_dir_all(published.directory()).unwrap();
        fs::write(published.directory().join(file), "by hand").unwrap();
        let before = published.installed();
        published.run(&install).failed(3, &[file, "was not installed by this command"]);
        published.run(&["remove", "acme"]).failed(3, &["was copied there by hand"]);
        assert_eq!(published.installed(), before);
        fs::remove_file(published.directory().join(file)).unwrap();
    }
    published.run(&install).succeeded();
    published.index["publisher"] = json!("stranger.example");
    published.sign_with("other");
    let before = published.installed();
    let words = ["install", "mirror", "--trust-key", "keys/other.pub"];
    published.run(&words).failed(3, &["was installed from publisher `example.org`"]);
    assert_eq!(published.installed(), before);
    // A checksum of another file would keep the plugin from loading.
    published.run(&["remove", "acme"]).succeeded();
    let sum = published.directory().join("build-image-provider-acme.sha256");
    fs::write(&sum, "0".repeat(64)).unwrap();
    published.run(&words).failed(3, &["is the checksum of another file"]);
}

#[test]
fn a_single_plugin_file_is_installed_with_its_digest() {
    if !needs(&["minisign"]) {
        return;
    }
    let published = Published::new();
    let text = script("solo", "1.0.0");
    published.sandbox.write("build-image-provider-solo", &text);
    let digest = hex(text.as_bytes());
    let web = published.serve(|request, path| {
        let file = path.parent()?.parent()?.join("build-image-provider-solo");
        Some(Answer::file(request, &fs::read(file).ok()?))
    });
    let url = web.url("/build-image-provider-solo").replace("http://", "http://user:hunter2@");
    for source in ["build-image-provider-solo", url.as_str()] {
        let add = format!("then add: --sha256 {digest}");
        let run = published.run(&["install", source]);
        run.failed(3, &["is not signed; it has SHA-256", &add]);
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
        let wrong = hex(b"another file");
        published.run(&["install", source, "--sha256", &wrong]).failed(3, &["is not the file"]);
        assert!(!published.ran());
        assert!(published.installed().keys().all(|path| path.ends_with("packages.json")));
        let run = published.run(&["install", source, "--sha256", &digest.to_uppercase()]);
        assert!(!run.succeeded().stderr.contains("hunter2"), "{}", run.stderr);
        assert_eq!(published.version("solo"), "1.0.0");
        published.run(&["update", "solo"]).failed(3, &["was installed from a file"]);
        published.run(&["update"]).succeeded();
        published.run(&["remove", "solo"]).succeeded();
        published.forget_runs();
    }
    let all = published.sandbox.files();
    for file in all.iter().filter(|file| file.starts_with(".local")) {
        let content = fs::read(published.sandbox.path().join(file)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&content).contains("hunter2"), "{file}");
    }
}

/// Passwords and signatures in an address of an index reach its server, and nothing else.
#[test]
fn passwords_in_an_address_are_sent_and_not_shown() {
    if !needs(&["minisign"]) {
        return;
    }
    let published = Published::new();
    let web = published.serve(|request, _| {
        // `user:hunter2` in base64.
        let is_user = request.header("authorization") == Some("Basic dXNlcjpodW50ZXIy");
        let is_signed = request.path.ends_with("?sig=hunter3");
        (!is_user || !is_signed).then(|| Answer::status(403))
    });
    let plain = web.url("/index.json");
    let url = format!("{}?sig=hunter3", plain.replace("http://", "http://user:hunter2@"));
    let run = published.run(&[&["install", &url], &TRUST[..]].concat());
    run.succeeded();
    let record = fs::read_to_string(published.directory().join("packages.json")).unwrap();
    assert!(record.contains(&plain), "{record}");
    let refused = published.run(&["update"]);
    refused.failed(3, &["403"]);
    for text in [&run.stdout, &run.stderr, &record, &refused.stderr] {
        assert!(!text.contains("hunter"), "{text}");
    }
}

#[test]
fn a_lock_file_that_exists_gets_what_is_installed_and_with_locked_decides() {
    if !needs(&["minisign"]) {
        return;
    }
    let mut published = Published::new();
    published.sandbox.write("config.yml", "{}");
    let lock = published.sandbox.path().join("build-image.lock");
    let install = [&["install", "mirror", "-c", "config.yml"], &TRUST[..]].concat();
    published.run(&install).succeeded();
    assert!(!lock.exists(), "a lock file that was not asked for");
    fs::write(&lock, r#"{"version": 1, "providers": []}"#).unwrap();
    let before = published.installed();
    let locked = [&install[..], &["--locked"]].concat();
    published.run(&locked).failed(3, &["it is not in the lock file"]);
    assert_eq!(published.installed(), before);
    published.run(&install).succeeded();
    let text = fs::read_to_string(&lock).unwrap();
    assert!(text.contains(&hex(script("acme", "1.0.0").as_bytes())), "{text}");
    published.run(&locked).succeeded();
    published.add("acme", "1.1.0");
    published.index["serial"] = json!(2);
    published.sign();
    published.run(&locked).failed(3, &["it is not the one that is locked"]);
    published.run(&["update", "-c", "config.yml"]).succeeded();
    let text = fs::read_to_string(&lock).unwrap();
    assert!(text.contains(&hex(script("acme", "1.1.0").as_bytes())), "{text}");
}

/// Several providers of an index are installed together or not at all.
#[test]
fn of_several_providers_all_are_installed_or_none() {
    if !needs(&["minisign"]) {
        return;
    }
    let mut published = Published::new();
    published.add("zeta", "1.0.0");
    published.sign();
    let all = [&["install", "mirror", "acme", "zeta"], &TRUST[..]].concat();
    let one = [&["install", "mirror"], &TRUST[..]].concat();
    published.run(&one).failed(2, &["offers several providers", "acme, zeta"]);
    let twice = [&all[..], &["acme@1.0.0"]].concat();
    published.run(&twice).failed(2, &["provider `acme` is named twice"]);
    fs::write(published.mirror().join("zeta-1.0.0"), script("zeta", "1.0.1")).unwrap();
    published.run(&all).failed(3, &["`zeta-1.0.0`"]);
    assert!(published.installed().is_empty());
    fs::write(published.mirror().join("zeta-1.0.0"), script("zeta", "1.0.0")).unwrap();
    let run = published.run(&[&all[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&run.succeeded().stdout).unwrap();
    let outcomes: Vec<&Value> =
        document["providers"].as_array().unwrap().iter().map(|row| &row["outcome"]).collect();
    assert_eq!(outcomes, ["installed", "installed"]);
    published.run(&["remove", "acme", "zeta", "other"]).failed(3, &["`other` was not installed"]);
    published.run(&["verify"]).succeeded();
}

/// The package is what it is named, also in what it says itself.
#[test]
fn a_package_that_calls_itself_otherwise_is_refused() {
    if !needs(&["minisign"]) {
        return;
    }
    for (name, version, what) in [("other", "1.0.0", "name"), ("acme", "1.0.1", "version")] {
        let mut published = Published::new();
        let text = script(name, version);
        fs::write(published.mirror().join("acme-1.0.0"), &text).unwrap();
        let target = target(&mut published);
        (target["sha256"], target["size"]) = (json!(hex(text.as_bytes())), json!(text.len()));
        published.sign();
        let run = published.run(&[&["install", "mirror"], &TRUST[..]].concat());
        run.failed(3, &[&format!("the plugin calls its {what}")]);
        assert!(published.installed().is_empty());
    }
}

/// The members that the program reads are those of the schema.
#[test]
fn the_published_index_has_the_form_of_its_schema() {
    if !needs(&["minisign"]) {
        return;
    }
    let path: &Path = &crate::harness::root().join("docs/schemas/provider-index-1.json");
    let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let published = Published::new();
    let install = [&["install", "mirror"], &TRUST[..]].concat();
    published.run(&install).succeeded();
    for (object, place) in [
        ("", ""),
        ("/packages/0", "/properties/packages/items"),
        ("/packages/0/abi", "/properties/packages/items/properties/abi"),
        ("/packages/0/targets/0", "/properties/packages/items/properties/targets/items"),
    ] {
        let schema = schema.pointer(place).unwrap();
        let has = published.index.pointer(object).unwrap().as_object().unwrap();
        let required: Vec<&str> = schema["required"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap())
            .collect();
        let known: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(has.keys().collect::<Vec<_>>(), known, "{object}");
        // Without one of the required members the index is refused.
        for member in required {
            let mut published = Published::new();
            let found = published.index.pointer_mut(object).unwrap();
            found.as_object_mut().unwrap().remove(member);
            published.sign();
            published.run(&install).failed(3, &["missing field"]);
        }
    }
}
