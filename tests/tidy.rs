//! Checks the rules of this repository, as far as a program can.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use build_image::settings::core_rows;
use regex::Regex;

use crate::harness::{root, sandbox_walk};

/// Files of the repository with an extension, without build outputs.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in ["core", "plugin-api", "providers", "tests"] {
        sandbox_walk(&root().join(directory), &mut |path| {
            let built = path.components().any(|part| part.as_os_str() == "target");
            if !built && path.is_file() && path.to_string_lossy().ends_with(ending) {
                found.push(path.to_owned());
            }
        });
    }
    found
}

#[test]
fn crates_import_lower_layers_only() {
    let allowed: BTreeMap<&str, &[&str]> = [
        ("core/files", &[][..]),
        ("plugin-api", &["build-image-files"]),
        ("core/disk", &["build-image-files"]),
        ("core/bigip", &["build-image-disk", "build-image-files", "build-image-plugin-api"]),
        ("core/guest", &["build-image-disk"]),
        ("core/generic", &["build-image-disk", "build-image-files", "build-image-plugin-api"]),
        ("core/guest", &["build-image-disk"]),
        (
            "core",
            &[
                "build-image-bigip",
                "build-image-disk",
                "build-image-files",
                "build-image-generic",
                "build-image-guest",
                "build-image-plugin-api",
            ],
        ),
        ("providers/alibaba/emulator", &["build-image-disk", "build-image-loopback-tls"]),
    ]
    .into();
    for manifest in files("Cargo.toml") {
        let directory =
            manifest.parent().unwrap().strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        if directory.starts_with("tests/") {
            continue;
        }
        let text = fs::read_to_string(&manifest).unwrap();
        let dependencies = text.split("\n[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        let ours = dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        let provider = directory.strip_prefix("providers/").is_some_and(|name| !name.contains('/'));
        let known = if provider {
            &["build-image-plugin-api"][..]
        } else {
            let named = allowed.get(directory.as_str());
            named.unwrap_or_else(|| panic!("{directory} has no floor; name it here"))
        };
        for name in ours.filter(|name| name.starts_with("build-image")) {
            assert!(known.contains(&name), "{directory} must not import {name}");
        }
    }
}

#[test]
fn the_core_knows_no_cloud_by_name() {
    for file in files(".rs") {
        if !file.starts_with(root().join("core/src")) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            // The schemes and media types of artefacts in container registries.
            let words = line.to_lowercase().replace("oci://", "").replace("vnd.oci.", "");
            for cloud in ["alibaba", "aliyun", "azure", "gce", "aws", "oci", "openstack"] {
                let named =
                    words.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == cloud);
                assert!(!named, "{}:{}: {line}", file.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_engine_knows_no_installer_by_name() {
    let engine = root().join("core/src");
    let (mut found, mut registered) = (Vec::new(), false);
    for file in files(".rs").into_iter().filter(|file| file.starts_with(&engine)) {
        for (number, line) in fs::read_to_string(&file).unwrap().to_lowercase().lines().enumerate()
        {
            let mut words = line.split(|letter: char| !letter.is_alphanumeric());
            // Some of them are also parts of names, such as `bigip_iso`.
            let is_named = ["bigip", "big-ip", "bigiq", "big-iq", "tmos"]
                .iter()
                .any(|name| line.contains(name))
                || words.any(|word| word == "ltm");
            if is_named && file == engine.join("main.rs") {
                registered = true;
            } else if is_named {
                found.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(registered, "main.rs registers no installer");
}

#[test]
fn the_core_uses_the_public_contract_only() {
    for file in files(".rs").iter().filter(|file| file.starts_with(root().join("core"))) {
        let text = fs::read_to_string(file).unwrap();
        assert!(!text.contains("build_image_plugin_api::wire"), "{} uses the wire", file.display());
    }
}

#[test]
fn a_synchronous_provider_links_no_runtime() {
    for (provider, runtime) in [("qcow2", false), ("alibaba", true)] {
        let package = format!("build-image-provider-{provider}");
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "-p"])
            .arg(package)
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8_lossy(&output.stdout).into_owned();
        let links = |name: &str| tree.lines().any(|line| line.starts_with(&format!("{name} v")));
        assert!(links("serde_json") && !links("tracing-subscriber"), "{provider}: {tree}");
        assert_eq!(links("tokio"), runtime, "{provider}: {tree}");
    }
}

#[test]
fn files_stay_small_and_unsafe_code_stays_in_the_wire() {
    for file in files(".rs") {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.split("#[cfg(test)]\nmod tests").next().unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines; split it", file.display());
        let name = file.file_name().unwrap().to_string_lossy();
        for drawer in
            ["util", "utils", "common", "helper", "helpers", "misc", "types", "manager", "base"]
        {
            assert_ne!(name, format!("{drawer}.rs"), "{} says nothing", file.display());
        }
    }
    for manifest in files("Cargo.toml") {
        let directory = manifest.parent().unwrap();
        if directory.starts_with(root().join("tests")) || directory.ends_with("plugin-api") {
            continue;
        }
        let text = fs::read_to_string(directory.join("src/lib.rs")).unwrap();
        let display = directory.display();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{display} must forbid unsafe code");
    }
}

#[test]
fn the_readme_shows_what_a_user_types() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    for line in [
        "make demo",
        "make test",
        "build-image -i /var/tmp/BIGIP-15.0.0-0.0.39.iso -c config.yml -p alibaba -m ltm -b 1",
    ] {
        assert!(text.contains(line), "README.md does not show `{line}`");
    }
}

/// Reads the tables of a page whose last column is called "proven by": every row must name a test, and every test
/// it names must exist. Returns the number of rows.
fn proven_rows(page: &str, code: &str) -> usize {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let (mut rows, mut proven) = (0, false);
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|').filter(|row| !row.starts_with("---")) else {
            continue;
        };
        let proof = row.trim_end_matches('|').rsplit('|').next().unwrap();
        if proof.trim() == "proven by" {
            proven = true;
            continue;
        }
        assert!(proven, "{page}: the table of `{line}` has no column \"proven by\"");
        let names: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{page}: nothing proves {line}");
        for name in names {
            assert!(code.contains(&format!("fn {name}()")), "{page}: there is no test `{name}`");
        }
        rows += 1;
    }
    rows
}

#[test]
fn pages_that_claim_something_name_tests_that_exist() {
    let code: String = files(".rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for (page, least) in [
        ("docs/internals/parity.md", 60),
        ("docs/internals/platforms.md", 18),
        ("docs/internals/reliability.md", 25),
    ] {
        let rows = proven_rows(page, &code);
        assert!(rows >= least, "only {rows} rows of {page} were read");
    }
}

/// Words of comments that the glossary (docs/glossary.md) replaces, and what is written instead.
const REPLACED: [(&str, &str); 14] = [
    ("told", "reported, printed, returned"),
    ("tells", "reports, prints, returns"),
    ("telling", "reporting"),
    ("nobody", "the actor: no other process, no user"),
    ("somebody", "the actor: another process, another user"),
    ("anybody", "the actor"),
    ("goes on", "continues, resumes"),
    ("go on with", "continue, resume"),
    ("gone on with", "continued, resumed"),
    ("of its own", "separate"),
    ("anew", "again, from the start"),
    ("folder", "directory"),
    ("folders", "directories"),
    ("mend", "fix"),
];

/// The comment of a line of Rust, in lower case and without code in backticks.
fn comment(line: &str) -> Option<String> {
    let line = line.trim_start();
    let text = line.strip_prefix("//")?;
    let outside_of_code = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    Some(outside_of_code.to_lowercase())
}

#[test]
fn comments_use_the_words_of_the_glossary() {
    let mut found = Vec::new();
    for file in files(".rs") {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        if name.starts_with("tests/abi/") || name.starts_with("tests/hostile/") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let Some(comment) = comment(line) else { continue };
            let words: Vec<&str> = comment
                .split(|letter: char| !letter.is_alphanumeric())
                .filter(|word| !word.is_empty())
                .collect();
            let text = format!(" {} ", words.join(" "));
            for (word, instead) in REPLACED {
                if text.contains(&format!(" {word} ")) {
                    found.push(format!("{name}:{}: `{word}`; write {instead}", number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Words that are spelled like settings: variables of the environment, members of files of the system, and endings of
/// the names of providers' settings.
const SPELLED_LIKE_SETTINGS: [&str; 30] = [
    "ALL_PROXY",
    "BUILD_IMAGE_FAILPOINT",
    "BUILD_IMAGE_PROVIDER_FILE",
    "BUILD_IMAGE_PROVIDER_PATH",
    "BUILD_IMAGE_TRACE_PROTOCOL",
    "CARGO_PKG_VERSION",
    "CLICOLOR_FORCE",
    "DEBIAN_FRONTEND",
    "DISK_COMPRESSION",
    "DOCKER_CONFIG",
    "F5_KEY",
    "FAILPOINT_CLOCK",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ID_LIKE",
    "NO_COLOR",
    "NO_PROXY",
    "PRETTY_NAME",
    "REGISTRY_AUTH_FILE",
    "REQUEST_METHOD",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SYSTEMD_OS_RELEASE",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// Returns the string literals of a file with their lines, without those of its unit tests.
fn literals(text: &str) -> Vec<(usize, String)> {
    let token =
        Regex::new(r##"(?s)//[^\n]*|r#"(.*?)"#|"((?:[^"\\]|\\.)*)"|'(?:[^'\\]|\\.)'"##).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let found = token.captures_iter(code).filter_map(|token| {
        let literal = token.get(1).or_else(|| token.get(2))?;
        Some((code[..literal.start()].lines().count().max(1), literal.as_str().to_owned()))
    });
    found.collect()
}

#[test]
fn settings_are_named_by_their_keys() {
    // No installer is registered here: these are the rows of the core's table.
    let rows = core_rows();
    let typed = |word: &str| rows.iter().any(|row| row.key() == word);
    let installed = [build_image_bigip::rows(), build_image_generic::rows()].concat();
    // A word in braces is a constant.
    let word = Regex::new(r"\{?[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+").unwrap();
    let mut wrong = Vec::new();
    for file in files(".rs") {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        let is_test = name.ends_with("/tests.rs") || name.ends_with("/testing.rs");
        // The table itself declares settings with texts.
        let exempt = name.starts_with("core/src/settings/");
        if !name.starts_with("core/src/") || is_test || exempt {
            continue;
        }
        for (line, literal) in literals(&fs::read_to_string(&file).unwrap()) {
            if typed(&literal) {
                wrong.push(format!("{name}:{line}: \"{literal}\"; use settings::keys::{literal}"));
            }
            for word in word.find_iter(&literal).map(|found| found.as_str()) {
                let known = typed(word) || installed.iter().any(|(setting, _)| setting.key == word);
                let constant = word.starts_with('{');
                if !known && !constant && !SPELLED_LIKE_SETTINGS.contains(&word) {
                    wrong.push(format!("{name}:{line}: unknown setting {word}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
