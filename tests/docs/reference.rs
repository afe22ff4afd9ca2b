//! Compares the pages of reference with the tables in the code.

use std::{collections::BTreeSet, fs};

use regex::Regex;

use serde_json::Value;

use super::{
    PROVIDERS,
    pages::{Page, pages},
};
use crate::harness::{Sandbox, root};

/// The first cells of the tables of a page that are a single word of code.
fn rows(page: &Page) -> BTreeSet<String> {
    let first = Regex::new(r"^\| `([^`]+)` \|").unwrap();
    let cells = page.prose().into_iter();
    cells.filter_map(|(_, line)| first.captures(line).map(|cell| cell[1].to_owned())).collect()
}

fn source(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn the_page_of_exit_codes_is_the_table_in_the_code() {
    let constant = Regex::new(r"pub const [A-Z_]+: u8 = (\d+);").unwrap();
    let code = source("core/src/exit.rs");
    let codes: BTreeSet<String> =
        constant.captures_iter(&code).map(|found| found[1].to_owned()).collect();
    assert!(codes.len() > 10, "{codes:?}");
    let page = Page::read("docs/exit-codes.md");
    let numbers = rows(&page).into_iter().filter(|cell| cell.parse::<u8>().is_ok());
    assert_eq!(numbers.collect::<BTreeSet<_>>(), codes);
    // The words of `error.kind`: those of the stages, and those of a provider's errors.
    let word = Regex::new(r#"(?:Stage|Self)::[A-Za-z]+ => "([a-z_]+)""#).unwrap();
    for path in ["core/src/error.rs", "plugin-api/src/error.rs"] {
        for found in word.captures_iter(&source(path)) {
            assert!(page.text.contains(&format!("`{}`", &found[1])), "`{}`, {path}", &found[1]);
        }
    }
}

#[test]
fn the_page_of_the_result_names_every_member() {
    let code = source("core/src/report/result.rs");
    let list = code.split("const MEMBERS: [&str; ").nth(1).unwrap().split("];").next().unwrap();
    let members: BTreeSet<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(members.contains("image_id") && members.len() > 20, "{members:?}");
    let found = rows(&Page::read("docs/result.md"));
    for name in &members {
        assert!(found.contains(name), "docs/result.md has no row for `{name}`");
    }
    let top = |name: &&String| name.chars().all(|one| one.is_ascii_lowercase() || one == '_');
    for name in found.iter().filter(top) {
        assert!(members.contains(name), "no document has the member `{name}`");
    }
}

/// The drivers of disks and networks, and the agents, that a provider declares for its machines.
fn declared(machines: &Value) -> BTreeSet<String> {
    let devices = ["disks", "networks"].iter().filter_map(|kind| machines[kind].as_array());
    let drivers = devices.flatten().filter_map(|device| device["one_of"].as_array());
    let words = drivers.flatten().chain(machines["agents"].as_array().into_iter().flatten());
    words.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[test]
fn the_table_of_drivers_is_what_the_providers_declare() {
    let page = Page::read("docs/clouds.md");
    let table = page.text.split("### Drivers\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let word = Regex::new("`([a-z0-9_-]+)`").unwrap();
    let sandbox = Sandbox::new();
    let mut rows = 0;
    for name in PROVIDERS {
        let run = sandbox.run(&["providers", "inspect", name, "--json"]);
        let document: Value = serde_json::from_str(&run.succeeded().stdout).unwrap();
        let expected = declared(&document["guest"]["machines"]);
        let row = table.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let words = word.captures_iter(row.unwrap_or_default()).skip(1);
        let found: BTreeSet<String> = words.map(|one| one[1].to_owned()).collect();
        assert_eq!(found, expected, "{name}");
        rows += usize::from(row.is_some());
    }
    assert_eq!(rows, 7);
}

/// What the page of symptoms quotes is what the program prints: `…` stands for what differs.
#[test]
fn every_message_that_troubleshooting_quotes_is_printed_somewhere() {
    let mut printed = source("docs/internals/mistakes.md");
    for directory in ["core", "plugin-api", "providers"] {
        crate::harness::sandbox_walk(&root().join(directory), &mut |path| {
            let built = path.components().any(|part| part.as_os_str() == "target");
            if !built && path.extension().is_some_and(|kind| kind == "rs") {
                printed.push_str(&fs::read_to_string(path).unwrap());
            }
        });
    }
    // A literal may be continued on the next line.
    let printed = Regex::new(r"\\\n\s*").unwrap().replace_all(&printed, "").replace("\\\"", "\"");
    let page = Page::read("docs/troubleshooting.md");
    let mut quoted = 0;
    for block in page.blocks().iter().filter(|block| block.info == "text") {
        for line in &block.lines {
            let line = line.trim_start();
            let line = ["error: ", "warning: ", "guest: ", "hint: ", "because: ", "- "]
                .iter()
                .fold(line, |line, prefix| line.strip_prefix(prefix).unwrap_or(line));
            let parts = line.split('…').map(|part| part.trim_matches([' ', ':', '`', '(', ')']));
            for part in parts.filter(|part| part.len() > 3) {
                quoted += 1;
                assert!(printed.contains(part), "line {}: `{part}` is not printed", block.line);
            }
        }
    }
    assert!(quoted > 30, "only {quoted} texts");
}

/// Pages for users have the words of the glossary; quoted output and code are exempt.
#[test]
fn pages_use_the_words_of_the_style() {
    let code = Regex::new("`[^`]*`").unwrap();
    let words = Regex::new(
        r"(?i)\b(tells?|told|nobody|somebody|folders?|anew|no longer|go on with|of its own|there is no)\b",
    )
    .unwrap();
    let mut wrong = Vec::new();
    for page in pages() {
        let name = page.name();
        if !name.starts_with("docs/")
            || name == "docs/glossary.md"
            || name.contains("/contributing/")
        {
            continue;
        }
        for (number, line) in page.prose() {
            let line = code.replace_all(line, "");
            for found in words.find_iter(&line) {
                wrong.push(format!("{name}:{number}: `{}`", found.as_str()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
