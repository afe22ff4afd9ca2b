//! Reads the pages of the documentation: their blocks of code, headings, and links.

use std::{collections::BTreeSet, fs, path::PathBuf};

use regex::Regex;

use crate::harness::{root, sandbox_walk};

/// A page in Markdown.
pub(super) struct Page {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A fenced block: the words behind the fence, the number of its first line, and its lines.
pub(super) struct Block<'a> {
    pub(super) info: &'a str,
    pub(super) line: usize,
    pub(super) lines: Vec<&'a str>,
}

impl Page {
    /// Reads a page; the path begins at the root of the repository.
    pub(super) fn read(path: &str) -> Self {
        let path = root().join(path);
        let text = fs::read_to_string(&path).unwrap();
        Self { path, text }
    }

    /// The path from the root of the repository.
    pub(super) fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }

    /// The fenced blocks.
    pub(super) fn blocks(&self) -> Vec<Block<'_>> {
        let mut found: Vec<Block<'_>> = Vec::new();
        let mut fence: Option<&str> = None;
        for (number, line) in self.text.lines().enumerate() {
            let bare = line.trim_start();
            match fence {
                Some(end) if bare.trim_end() == end => fence = None,
                Some(_) => found.last_mut().unwrap().lines.push(line),
                None if bare.starts_with("```") => {
                    let length = bare.bytes().take_while(|byte| *byte == b'`').count();
                    fence = Some(&bare[..length]);
                    let info = bare[length..].trim();
                    found.push(Block { info, line: number + 2, lines: Vec::new() });
                }
                None => {}
            }
        }
        assert!(fence.is_none(), "{}: a block does not end", self.name());
        found
    }

    /// The lines outside of blocks, with their numbers.
    pub(super) fn prose(&self) -> Vec<(usize, &str)> {
        let blocks = self.blocks();
        let is_code = |number: usize| {
            blocks.iter().any(|one| (one.line - 1..=one.line + one.lines.len()).contains(&number))
        };
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(number, _)| !is_code(*number)).collect()
    }

    /// The anchors of the headings, as GitHub and mdBook make them.
    pub(super) fn anchors(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap();
        for (_, line) in self.prose() {
            let Some(heading) = line.strip_prefix('#') else { continue };
            let heading = heading.trim_start_matches('#').strip_prefix(' ').unwrap_or_default();
            let heading = link.replace_all(heading, "$1").to_lowercase();
            let kept = heading.chars().filter(|one| one.is_alphanumeric() || " -_".contains(*one));
            let anchor: String = kept.map(|one| if one == ' ' { '-' } else { one }).collect();
            let again = (1..).map(|number| format!("{anchor}-{number}"));
            let mut free = std::iter::once(anchor.clone()).chain(again);
            found.insert(free.find(|name| !found.contains(name)).unwrap());
        }
        found
    }

    /// The links, with their lines, without those in code.
    pub(super) fn links(&self) -> Vec<(usize, String)> {
        let code = Regex::new("`[^`]*`").unwrap();
        let link = Regex::new(r#"\]\(([^)\s]+)\)|(?:href|src)="([^"]+)""#).unwrap();
        let mut found = Vec::new();
        for (number, line) in self.prose() {
            let line = code.replace_all(line, "``");
            for all in link.captures_iter(&line) {
                let target = all.get(1).or_else(|| all.get(2)).unwrap().as_str();
                found.push((number, target.to_owned()));
            }
        }
        found
    }
}

/// All pages of the repository, without those that are fixtures of tests.
pub(super) fn pages() -> Vec<Page> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "CHANGELOG.md"].map(|name| root().join(name)).into();
    for directory in [".github", "docs", "plugin-api", "providers"] {
        sandbox_walk(&root().join(directory), &mut |path| {
            let built = path.components().any(|part| part.as_os_str() == "target");
            if !built && path.extension().is_some_and(|kind| kind == "md") {
                paths.push(path.to_owned());
            }
        });
    }
    paths.sort();
    let read = |path: PathBuf| Page { text: fs::read_to_string(&path).unwrap(), path };
    paths.into_iter().map(read).collect()
}

#[test]
fn headings_become_anchors_as_on_github() {
    let text = "# A page\n## … act on exit codes\n## `-p` and *more* [links](x.md)\n## A page\n```sh\n# no\n```\n";
    let page = Page { path: root().join("x.md"), text: text.to_owned() };
    let anchors: Vec<String> = page.anchors().into_iter().collect();
    assert_eq!(anchors, ["-act-on-exit-codes", "-p-and-more-links", "a-page", "a-page-1"]);
    assert_eq!(page.blocks()[0].lines, ["# no"]);
}
