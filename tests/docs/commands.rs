//! Compares the command lines and settings in pages with what the program accepts.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::{
    PROVIDERS,
    pages::{Block, Page, pages},
};
use crate::harness::Sandbox;

const PROGRAM: &str = "build-image";

/// Variables in examples that other programs read. Those that begin with `BUILD_IMAGE_` belong to tests and templates.
const FOREIGN: [&str; 6] =
    ["ACME_URL", "GIT_CLEAN_FLAGS", "JOURNAL_KEY", "RUSTFLAGS", "SSL_CERT_FILE", "UPDATE_SCHEMAS"];

/// Settings of the example of a provider in Python, which is not installed with the others.
const EXAMPLE: [&str; 2] = ["PYDIR_DIRECTORY", "PYDIR_FORMAT"];

/// Mistakes that pages show on purpose.
const MISTAKES: [&str; 1] = ["--alibaba-buket"];

/// Help of commands and the settings that exist, asked for once.
struct Known {
    sandbox: Sandbox,
    help: BTreeMap<Vec<String>, Option<String>>,
    settings: BTreeSet<String>,
}

impl Known {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let mut settings = BTreeSet::new();
        for provider in PROVIDERS {
            let run = sandbox.run(&["help", "settings", "--markdown", "-p", provider]);
            let keys = run.succeeded().stdout.lines().filter_map(|line| line.strip_prefix("### `"));
            settings.extend(keys.map(|key| key.trim_end_matches('`').to_owned()));
        }
        assert!(settings.contains("ALIBABA_BUCKET") && settings.len() > 200, "{settings:?}");
        Self { sandbox, help: BTreeMap::new(), settings }
    }

    fn is_setting(&self, key: &str) -> bool {
        let key = key.strip_prefix("F5_").unwrap_or(key);
        // Lists leave out settings for tuning.
        self.settings.contains(key) || self.sandbox.run(&["help", "settings", key]).code == 0
    }

    /// The help of a command; `None` if it does not exist.
    fn help(&mut self, words: &[&str]) -> Option<&str> {
        let key: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let sandbox = &self.sandbox;
        let text = self.help.entry(key).or_insert_with(|| {
            let run = sandbox.run(&[words, &["--help"]].concat());
            (run.code == 0).then_some(run.stdout)
        });
        text.as_deref()
    }

    /// Whether a command has a flag; flags of settings may belong to any provider, and may be hidden.
    fn has_flag(&mut self, command: &[&str], flag: &str) -> bool {
        let flag = flag.split('=').next().unwrap();
        let written =
            Regex::new(&format!(r"(^|[ ,]){}($|[ ,=\[\n])", regex::escape(flag))).unwrap();
        let help = self.help(command).unwrap_or_default();
        let usual = ["-h", "--help", "-V", "--version"].contains(&flag);
        if usual || MISTAKES.contains(&flag) || written.is_match(help) {
            return true;
        }
        let takes_settings = help.contains("--disk") && help.contains("--image-dir");
        let key = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
        takes_settings && (EXAMPLE.contains(&key.as_str()) || self.is_setting(&key))
    }

    /// What is wrong with the words behind the program's name.
    fn judge(&mut self, words: &[String]) -> Option<String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command: Vec<&str> = Vec::new();
        loop {
            let open = command.is_empty() || self.help(&command)?.contains("<COMMAND>");
            let Some(next) = words.get(command.len()).filter(|word| open && is_name(word)) else {
                break;
            };
            command.push(next);
            if self.help(&command).is_none() {
                return Some(format!("unknown command `{}`", command.join(" ")));
            }
        }
        let flags = words[command.len()..].iter().filter(|word| word.starts_with('-'));
        for flag in flags.filter(|flag| flag.len() > 1 && !flag.contains('…')) {
            if !self.has_flag(&command, flag) {
                return Some(format!("`{}` has no flag `{flag}`", command.join(" ")));
            }
        }
        None
    }
}

/// Whether a word may name a command; others are placeholders and files.
fn is_name(word: &str) -> bool {
    word.chars().all(|one| one.is_ascii_lowercase() || one == '-') && !word.starts_with('-')
}

/// The words of a line of shell, as far as pages need it: quotes, comments, and operators, which are separate words.
fn words(line: &str) -> Vec<String> {
    let (mut found, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut end = |word: &mut String| {
        if !word.is_empty() {
            found.push(std::mem::take(word));
        }
    };
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, '#') if word.is_empty() => break,
            (None, '|' | ';' | '&' | '>' | '<' | '(' | ')') => {
                end(&mut word);
                end(&mut letter.to_string());
            }
            (None, ' ' | '\t' | '[' | ']' | ',') => end(&mut word),
            _ => word.push(letter),
        }
    }
    end(&mut word);
    found
}

/// The command lines of the program in a line.
fn command_lines(line: &str) -> Vec<Vec<String>> {
    let words = words(line);
    let starts = words.iter().enumerate().filter(|(_, word)| *word == PROGRAM).map(|(at, _)| at);
    let until = |at: usize| {
        let rest = words[at + 1..].iter();
        let own =
            rest.take_while(|word| !["|", ";", "&", ">", "<", "(", ")"].contains(&word.as_str()));
        own.cloned().collect()
    };
    // `cargo test -p build-image …` names the package, not the program.
    let is_package = |at: &usize| at.checked_sub(1).is_some_and(|before| words[before] == "-p");
    starts.filter(|at| !is_package(at)).map(until).collect()
}

/// The lines of a block, those that a backslash continues joined, without output.
fn joined(block: &Block<'_>) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (at, line) in block.lines.iter().enumerate() {
        let line = match block.info {
            "console" => line.strip_prefix("$ ").unwrap_or_default(),
            _ => line.trim_start(),
        };
        let (text, more) = line.strip_suffix('\\').map_or((line, false), |text| (text, true));
        match found.last_mut().filter(|_| continues) {
            Some((_, last)) => last.push_str(text),
            None => found.push((block.line + at, text.to_owned())),
        }
        continues = more;
    }
    found
}

/// What commands a page shows: in blocks of commands and configuration, and in code that begins with the program's name.
fn shown(page: &Page) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    for block in page.blocks() {
        let language = block.info.split(' ').next().unwrap_or_default();
        if ["sh", "bash", "console", "yaml", "groovy", "hcl", "ini"].contains(&language) {
            lines.extend(joined(&block));
        }
    }
    let code = Regex::new("`(build-image [^`]+)`").unwrap();
    for (number, line) in page.prose() {
        lines.extend(code.captures_iter(line).map(|found| (number, found[1].to_owned())));
    }
    lines
}

#[test]
fn every_command_in_a_page_names_commands_and_flags_that_exist() {
    let mut known = Known::new();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in pages() {
        // Mistakes are the subject of this page, and its commands are run; a changelog may name what is gone.
        if ["docs/internals/mistakes.md", "CHANGELOG.md"].contains(&page.name().as_str()) {
            continue;
        }
        for (number, line) in shown(&page) {
            for words in command_lines(&line) {
                count += 1;
                if let Some(why) = known.judge(&words) {
                    wrong.push(format!("{}:{number}: {line}\n    {why}", page.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(count > 200, "only {count} command lines");
    for (line, why) in [
        ("build-image --disk a -p alibaba --alibaba-thread-count 4", None),
        ("x=$(build-image images list -p aws --all | head -1)", None),
        ("build-image images lost", Some("unknown command `images lost`")),
        ("build-image runs --yes # --json", Some("`runs` has no flag `--yes`")),
        ("build-image --alibaba-buckt x", Some("`` has no flag `--alibaba-buckt`")),
    ] {
        let found = command_lines(line).iter().find_map(|words| known.judge(words));
        assert_eq!(found.as_deref(), why, "{line}");
    }
}

#[test]
fn every_setting_in_an_example_exists() {
    let known = Known::new();
    let key = Regex::new(r"(?:^|[\s{,])([A-Z][A-Z0-9]*_[A-Z0-9_]+)(?:: |=|:$)").unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in pages().into_iter().filter(|page| page.name() != "docs/internals/mistakes.md") {
        for block in page.blocks() {
            let language = block.info.split(' ').next().unwrap_or_default();
            if !["sh", "bash", "yaml", "console"].contains(&language) {
                continue;
            }
            for (at, line) in block.lines.iter().enumerate() {
                for found in key.captures_iter(line).map(|found| found[1].to_owned()) {
                    count += 1;
                    let foreign = FOREIGN.contains(&found.as_str());
                    if !known.is_setting(&found) && !foreign && !found.starts_with("BUILD_IMAGE_") {
                        wrong.push(format!("{}:{}: {found}", page.name(), block.line + at));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(count > 40, "only {count} settings");
    assert!(!known.is_setting("ALIBABA_BUKET") && known.is_setting("F5_ONCE"));
}
