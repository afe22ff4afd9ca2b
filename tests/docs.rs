//! Checks the documentation against the program: runs its commands and compares its tables.

mod ci;
mod commands;
mod links;
mod pages;
mod reference;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

use crate::harness::{Sandbox, names, needs, root, run_page, tool};

/// All providers of this repository.
const PROVIDERS: [&str; 9] =
    ["alibaba", "aws", "azure", "gce", "oci", "openstack", "qcow2", "vhd", "vmware"];

#[test]
fn the_tutorial_works_as_written() {
    let emulator = built("build-image-emulator-alibaba");
    if needs(&["mkfs.ext4", "qemu-img", &emulator]) {
        assert!(run_page("docs/tutorial.md", &Sandbox::new()) >= 17);
    }
}

#[test]
fn frequent_mistakes_are_answered_as_written() {
    assert!(run_page("docs/internals/mistakes.md", &Sandbox::with_cloud()) >= 15);
}

/// The path of a program of this workspace; that program's own tests make cargo build it.
fn built(name: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_build-image")).with_file_name(name);
    program.display().to_string()
}

/// With BUILD_IMAGE_UPDATE_DOCS set, the page is written instead.
#[test]
fn the_reference_of_settings_is_the_table_itself() {
    let sandbox = Sandbox::new();
    let run = sandbox.run(&["help", "settings", "--markdown"]);
    let path = root().join("docs/settings.md");
    let head = "# Settings of every build\n\nMade by `build-image help settings --markdown`; with `-p NAME` it shows those of a provider too.\nThe order of precedence: command line, configuration file, environment, default.\n\n";
    let page = format!("{head}{}", run.stdout);
    if std::env::var_os("BUILD_IMAGE_UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == page, "run it with BUILD_IMAGE_UPDATE_DOCS=1");
}

/// What the provider `name` needs in addition to its example.
fn plans_with_the_example(name: &str) {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 1024, 1);
    let run = sandbox.run(&["help", "settings", "--example", "-p", name]);
    run.succeeded();
    sandbox.write("example.yml", &run.stdout);
    let args = ["plan", "--json", "--disk", "disk.raw", "-c"];
    let plan = sandbox.run(&[&args[..], &["example.yml"]].concat());
    plan.succeeded();
    assert!(!plan.stderr.contains("warning"), "{name}: {}", plan.stderr);
    let document: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(document["platform"], name);
    // Every setting of the provider that has a value there is set to it.
    let prefix = format!("{}_", name.to_uppercase());
    let own = run.stdout.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(&prefix) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    });
    sandbox.write("all.yml", &own.collect::<String>());
    sandbox.run(&[&args[..], &["all.yml"]].concat()).succeeded();
}

#[test]
fn every_providers_example_is_a_configuration_that_works() {
    for name in PROVIDERS {
        plans_with_the_example(name);
    }
}

#[test]
fn programs_can_watch_a_build() {
    let page = fs::read_to_string(root().join("docs/progress.md")).unwrap();
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 4, 2);
    let args = ["-c", "config.yml", "-p", "alibaba", "--progress", "json", "--disk"];
    let run = sandbox.run(&[&args[..], &[disk.to_str().unwrap()]].concat());
    let mut seen = events(&run.stderr);
    assert_eq!(seen.first().unwrap()["event"], "step_begun");
    let last = seen.last().unwrap();
    assert_eq!((&last["event"], &last["exit_code"]), (&"finished".into(), &0.into()));
    let image = last["image_ids"][0].as_str().unwrap();
    assert!(run.stdout.contains(image), "{}", run.stdout);
    // A failed build reports the reason in the same format.
    let run = sandbox.run(&[&args[..], &["missing.raw"]].concat());
    seen.extend(events(&run.stderr));
    let names: BTreeSet<&str> = seen.iter().filter_map(|event| event["event"].as_str()).collect();
    assert!(names.is_superset(&["step_done", "error", "finished"].into()), "{names:?}");
    for event in &seen {
        for member in event.as_object().unwrap().keys().chain([&event["event"].to_string()]) {
            let member = member.trim_matches('"');
            assert!(page.contains(&format!("`{member}`")), "{member} is not documented");
        }
    }
    assert_eq!(seen.last().unwrap()["exit_code"], i64::from(run.code));
}

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The text of a page, without its layout.
fn plain_page(directory: &Path, name: &str) -> String {
    let mut letters: Vec<char> = Vec::new();
    for letter in tool(directory, &["mandoc", "-T", "utf8", &format!("man/{name}.1")]).chars() {
        // Bold text is a letter, a backspace, and the letter again.
        if letter == '\u{8}' {
            letters.pop();
        } else {
            letters.push(letter);
        }
    }
    letters.into_iter().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every command has a page, also those below others; mandoc finds no error in any of them.
#[test]
fn manual_pages_are_written_for_every_command() {
    if !needs(&["mandoc"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = sandbox.path().join("man");
    fs::create_dir(&directory).unwrap();
    sandbox.run(&["man", "man"]).succeeded();
    for name in ["", "-plan", "-resume", "-gc", "-providers", "-providers-install", "-images-list"]
    {
        assert!(directory.join(format!("build-image{name}.1")).is_file(), "{name}");
    }
    let mut count = 0;
    for name in names(&directory) {
        let page = fs::read_to_string(directory.join(&name)).unwrap();
        for part in [".TH build", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", "OPTIONS]"] {
            assert!(page.contains(part), "{name}: {part} is missing");
        }
        assert!(!page.contains("EXTRA"), "{name}");
        let path = format!("man/{name}");
        let errors = Command::new("mandoc")
            .args(["-T", "lint", "-W", "error", &path])
            .current_dir(sandbox.path())
            .output()
            .unwrap();
        assert!(errors.status.success(), "{}", String::from_utf8_lossy(&errors.stdout));
        count += 1;
    }
    assert!(count > 30, "{count} pages");
    // Without a directory, the page of the program is printed.
    let printed = sandbox.run(&["man"]);
    let written = fs::read_to_string(directory.join("build-image.1")).unwrap();
    assert_eq!(printed.succeeded().stdout, written);
    let run = sandbox.run(&["man", "nowhere"]);
    run.failed(2, &["cannot write `nowhere/build-image-", "a directory that exists"]);
}

#[test]
fn manual_pages_have_synopsis_examples_and_references() {
    if !needs(&["mandoc"]) {
        return;
    }
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path().join("man")).unwrap();
    sandbox.run(&["man", "man"]).succeeded();
    let plain = |name: &str| plain_page(sandbox.path(), name);
    let main = plain("build-image");
    assert!(main.contains("build-image COMMAND [ARGUMENTS]"), "{main}");
    assert!(main.contains("EXAMPLES build-image --disk debian.qcow2"), "{main}");
    assert!(main.contains("build-image-plan(1)"), "{main}");
    // A setting lists what it may be once, and in one case.
    let level = main.split("--log-level").nth(1).unwrap().split("--").next().unwrap();
    assert_eq!(level.matches("critical").count() + level.matches("CRITICAL").count(), 1, "{level}");
    let resume = plain("build-image-resume");
    assert!(resume.contains("build-image resume [OPTIONS] [RUN]"), "{resume}");
    assert!(plain("build-image-providers").contains("build-image providers [OPTIONS] COMMAND"));
    let install = plain("build-image-providers-install");
    assert!(install.contains("build-image providers install [OPTIONS] SOURCE"), "{install}");
    // Inherited from `providers`.
    assert!(
        install.contains("--json") && install.contains("build-image-providers(1)"),
        "{install}"
    );
}

#[test]
fn a_plan_can_be_read_by_programs() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 4, 2);
    let args = ["plan", "-c", "config.yml", "-p", "alibaba", "--json", "--check", "--disk"];
    let run = sandbox.run(&[&args[..], &[disk.to_str().unwrap()]].concat());
    let plan: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(plan["virtual_size"], 4 << 20);
    assert_eq!(plan["steps"], serde_json::json!(["check", "disk", "upload", "register"]));
    assert_eq!(plan["settings"]["ALIBABA_BUCKET"]["value"], "demo");
    assert_eq!(plan["settings"]["ALIBABA_ACCESS_KEY_SECRET"]["value"], "<protected>");
    assert_eq!(plan["findings"].as_array().unwrap().len(), 6, "{plan:#}");
    let most = plan["estimate"]["sends_at_most"].as_u64().unwrap();
    assert!(plan["estimate"]["former_build"].is_null(), "{plan:#}");
    let kinds = plan["creates"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap());
    let kinds: Vec<&str> = kinds.collect();
    assert_eq!(kinds, ["multipart_upload", "oss_object", "image", "snapshot"]);
    assert!(plan["permissions"].as_array().unwrap().contains(&"ecs:ImportImage".into()));
    sandbox.cloud_has_only(0);
    // The plan after a build names that build in its estimate; the bytes it sent are within the bound.
    let build = [&args[1..5], &["--reuse", "--disk", disk.to_str().unwrap()]].concat();
    let built = sandbox.run(&build);
    assert!(built.succeeded().member("bytes_sent").as_u64().unwrap() <= most);
    let run = sandbox.run(&[&args[..6], &["--disk", disk.to_str().unwrap()]].concat());
    let plan: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(&plan["estimate"]["former_build"]["run"], built.member("run_id"), "{plan:#}");
}

#[test]
fn the_picture_of_a_session_is_valid_and_shows_nothing_private() {
    let text = fs::read_to_string(root().join("docs/session.svg")).unwrap();
    assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    for scene in
        ["build-image --disk", "Killed", "build-image resume", "image m-", "--alibaba-bucket"]
    {
        assert!(text.contains(scene), "{scene}");
    }
    let lines = text.matches("<text ").count();
    assert!(lines <= 26, "{lines} lines are too many to read");
    for private in ["/tmp", "/home", "/root", crate::harness::SECRET, "panicked"] {
        assert!(!text.contains(private), "{private}");
    }
}

/// Ignored advisories are reviewed: each has a number, a reason and a date, and its crate is still a dependency.
#[test]
fn every_ignored_advisory_has_a_reason_a_date_and_a_crate_in_the_lock() {
    let rules = fs::read_to_string(root().join("deny.toml")).unwrap();
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let shape = regex::Regex::new(
        r#"^  \{ id = "RUSTSEC-\d{4}-\d{4}", reason = "20\d\d-[01]\d-[0-3]\d: ([a-z0-9_-]+) .{20,}" \},$"#,
    )
    .unwrap();
    let advisories = rules.split("[advisories]").nth(1).unwrap().split("\n[").next().unwrap();
    let listed = advisories.split("ignore = [").nth(1).unwrap().split("\n]").next().unwrap();
    let mut count = 0;
    for line in listed.lines().filter(|line| !line.is_empty()) {
        let found = shape.captures(line).unwrap_or_else(|| panic!("not as agreed: {line}"));
        let name = format!("name = \"{}\"", &found[1]);
        assert!(lock.lines().any(|locked| locked == name), "no longer needed: {line}");
        count += 1;
    }
    assert!(count > 0);
}
