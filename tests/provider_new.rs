//! Runs `build-image providers new` as an author does, from nothing to a working provider.

use std::{fs, time::Instant};

use build_image_plugin_api::plugin_file_name;

use crate::harness::{Sandbox, built, cargo, names, root};

fn succeeded(what: &str, output: &std::process::Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{what}:\n{out}\n{err}");
    out
}

#[test]
fn a_new_provider_builds_passes_its_tests_and_publishes_a_disk() {
    let sandbox = Sandbox::new();
    let sdk = root().join("plugin-api");
    let args = ["providers", "new", "acme", "--path", "made", "--sdk", sdk.to_str().unwrap()];
    let stdout = succeeded("new", &sandbox.command(&args).output().unwrap());
    assert!(stdout.contains("cargo build --release"), "{stdout}");
    let directory = sandbox.path().join("made/build-image-provider-acme");
    let mut lap = Instant::now();
    let mut took = |what: &str| {
        eprintln!("{what}: {:.1} s", lap.elapsed().as_secs_f32());
        lap = Instant::now();
    };
    let tests = succeeded("cargo test", &cargo(&directory, &["test"]));
    took("cargo test");
    for test in [
        "an_image_has_the_disk_and_the_tags_and_can_be_removed",
        "a_name_that_another_run_took_is_kept",
        "a_resumed_upload_sends_the_rest",
        "keeps_the_contract",
    ] {
        assert!(tests.contains(&format!("{test} ... ok")), "{tests}");
    }
    succeeded("cargo fmt", &cargo(&directory, &["fmt", "--check"]));
    // Without --release: reuses what the tests were built from.
    succeeded("cargo build", &cargo(&directory, &["build", "--quiet"]));
    took("cargo build");
    let plugins = sandbox.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    let file = plugin_file_name("acme");
    fs::copy(built("debug", &file), plugins.join(&file)).unwrap();
    let disk = sandbox.disk("disk.raw", 4, 1);
    let args = ["--disk", disk.to_str().unwrap(), "-p", "acme", "--provider-dir", "plugins"];
    let chosen = ["--cloud-image-name", "web", "--image-tags", "[{owner: us}]"];
    let run = sandbox.run(&[&args[..], &chosen].concat());
    took("build-image");
    run.succeeded();
    assert_eq!(run.member("image_id"), "web");
    let image = sandbox.path().join("acme-images/web");
    assert!(fs::read(image.join("disk")).unwrap() == fs::read(&disk).unwrap(), "the bytes differ");
    let properties = fs::read_to_string(image.join("image.json")).unwrap();
    assert!(properties.contains(r#""owner":"us""#), "{properties}");
    // The name is taken: the second build leaves the image as it is.
    sandbox.run(&[&args[..], &chosen].concat()).failed(6, &["an image `web` exists already"]);
    assert_eq!(fs::read_to_string(image.join("image.json")).unwrap(), properties);
    assert_eq!(names(image.parent().unwrap()), ["web"]);
}

#[test]
fn names_that_cannot_be_and_directories_that_are_there_are_refused() {
    let sandbox = Sandbox::new();
    let run = |args: &[&str]| {
        let output = sandbox.command(&[&["providers", "new"], args].concat()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&["acme"]).0, Some(0));
    for (args, text) in [
        (&["My-Cloud"][..], "hint: build-image providers new my_cloud"),
        (&["acme"], "`./build-image-provider-acme` exists already"),
        (&["other", "--sdk", "images"], "`images` is not the directory of build-image-plugin-api"),
    ] {
        let (code, errors) = run(args);
        assert!(code == Some(2) && errors.contains(text), "{args:?}: {errors}");
    }
    assert!(!sandbox.path().join("build-image-provider-other").exists());
    let manifest = fs::read_to_string(sandbox.path().join("build-image-provider-acme/Cargo.toml"));
    let version = build_image_plugin_api::ABI_VERSION;
    let dependency = format!("build-image-plugin-api = {{ version = \"{version}\" }}");
    assert!(manifest.unwrap().contains(&dependency));
}
