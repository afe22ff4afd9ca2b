//! Follows the links of all pages, and compares the table of contents with the pages.

use std::{collections::BTreeSet, fs};

use super::pages::{Page, pages};
use crate::harness::root;

/// What a link leads to: nothing, or why it leads nowhere.
fn broken(page: &Page, link: &str, all: &[Page]) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path =
        if file.is_empty() { page.path.clone() } else { page.path.parent().unwrap().join(file) };
    let Ok(path) = path.canonicalize() else { return Some("the file does not exist".to_owned()) };
    if !path.starts_with(root()) {
        return Some("the file is outside of the repository".to_owned());
    }
    let target = all.iter().find(|one| one.path == path);
    let known = target.is_none_or(|target| anchor.is_empty() || target.anchors().contains(anchor));
    (!known).then(|| format!("the page has no heading `{anchor}`"))
}

#[test]
fn every_relative_link_and_anchor_leads_somewhere() {
    let all = pages();
    let (mut wrong, mut followed) = (Vec::new(), 0);
    for page in &all {
        for (number, link) in page.links() {
            followed += 1;
            if let Some(why) = broken(page, &link, &all) {
                wrong.push(format!("{}:{number}: `{link}`: {why}", page.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(followed > 150, "only {followed} links");
    for (link, found) in
        [("README.md#install", true), ("README.md#nowhere", false), ("x.md", false)]
    {
        let page = Page::read("README.md");
        assert_eq!(broken(&page, link, &all).is_none(), found, "{link}");
    }
}

/// `docs/SUMMARY.md` as mdBook reads it: parts, and a nested list whose entries are links only.
#[test]
fn the_table_of_contents_lists_every_page_once() {
    let summary = Page::read("docs/SUMMARY.md");
    let entry = regex::Regex::new(r"^( *)- \[([^\]]+)\]\(([^)#]+\.md)\)$").unwrap();
    let (mut listed, mut depth) = (Vec::new(), 0);
    for (number, line) in summary.text.lines().enumerate() {
        let first = line.starts_with("[Documentation](");
        if line.is_empty() || line.starts_with("# ") || first {
            listed.extend(first.then(|| "README.md".to_owned()));
            continue;
        }
        let parts = entry.captures(line);
        let parts = parts.unwrap_or_else(|| panic!("line {} is not an entry: {line}", number + 1));
        let spaces = parts[1].len();
        assert!(spaces.is_multiple_of(2) && spaces <= depth + 2, "line {}: {line}", number + 1);
        depth = spaces;
        listed.push(parts[3].to_owned());
    }
    let pages = pages().into_iter().map(|page| page.name());
    let expected: BTreeSet<String> = pages
        .filter_map(|name| name.strip_prefix("docs/").map(str::to_owned))
        .filter(|name| name != "SUMMARY.md")
        .collect();
    let once: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(once.len(), listed.len(), "a page is listed twice: {listed:?}");
    assert_eq!(once, expected);
    let book = fs::read_to_string(root().join("docs/book.toml")).unwrap();
    assert!(book.contains("src = \".\""), "{book}");
}

/// The index is by task: every page for users is one step away from it.
#[test]
fn the_index_names_every_page() {
    let index = Page::read("docs/README.md");
    let linked: BTreeSet<String> = index.links().into_iter().map(|(_, link)| link).collect();
    for page in pages() {
        let name = page.name();
        let Some(name) = name.strip_prefix("docs/") else { continue };
        if name.contains("internals/") || ["README.md", "SUMMARY.md"].contains(&name) {
            continue;
        }
        assert!(linked.contains(name), "docs/README.md does not link to {name}");
    }
    let internals = Page::read("docs/internals/README.md");
    let linked: BTreeSet<String> = internals.links().into_iter().map(|(_, link)| link).collect();
    for entry in fs::read_dir(root().join("docs/internals")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name != "README.md" {
            assert!(linked.contains(&name), "docs/internals/README.md does not link to {name}");
        }
    }
}
