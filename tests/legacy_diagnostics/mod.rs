//! Repeats every mistake that the old tool handled, or should have handled: what it printed or did, and what is
//! reported now. Contains only those that need neither a guest nor keys; docs/internals/parity.md names the tests of the
//! others.

mod downloads;
mod files;
mod isos;
mod settings;

use crate::harness::Sandbox;

/// A mistake and its expected outcome.
struct Mistake {
    /// What the old tool printed or did.
    old: &'static str,
    /// Makes the mistake; returns the arguments of the command line.
    made: fn(&Sandbox) -> Vec<String>,
    /// The exit code.
    code: i32,
    /// Texts that the user must see, besides a hint.
    says: &'static [&'static str],
}

/// Arguments of a command line.
fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Makes each mistake in a separate directory; reports all wrong answers together.
fn check(mistakes: &[Mistake]) {
    let judged = mistakes.iter().map(|Mistake { old, made, code, says }| {
        let sandbox = Sandbox::new();
        judge(&sandbox, old, &made(&sandbox), *code, says)
    });
    let wrong: String = judged.collect();
    assert!(wrong.is_empty(), "{wrong}");
}

/// Whether the file may remain: the result, logs, and the records of an installation that failed.
fn may_stay(name: &str) -> bool {
    let record = [".json", ".txt", ".log"].iter().any(|ending| name.ends_with(ending));
    name == "result.json" || name.starts_with("logs/") || name.starts_with("artifacts/") && record
}

/// What is wrong with the answer, empty for a good one: one error with a hint, a result of FAILURE, and nothing
/// left but that and records.
fn judge(sandbox: &Sandbox, old: &str, words: &[String], code: i32, says: &[&str]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let before = sandbox.files();
    let run = sandbox.run(&words);
    let text = &run.stderr;
    let mut wrong: Vec<String> = says
        .iter()
        .chain(&["hint:"])
        .filter(|part| !text.contains(*part))
        .map(|part| format!("`{part}` is missing"))
        .collect();
    let errors = text.lines().filter(|line| line.starts_with("error: ")).count();
    let after = sandbox.files().into_iter();
    let left: Vec<String> = after
        .filter(|name| !before.contains(name) && !may_stay(name))
        .filter(|name| !sandbox.path().join(name).is_dir())
        .collect();
    for (good, what) in [
        (run.code == code, format!("code {}, not {code}", run.code)),
        (errors == 1, format!("{errors} errors")),
        (!text.contains("panicked at"), "a panic".to_owned()),
        (!text.contains('\u{1b}'), "escape sequences".to_owned()),
        (left.is_empty(), format!("left behind: {left:?}")),
        // Unknown arguments are refused before the path of the result is known.
        (code == 2 || run.result.is_some(), "no result".to_owned()),
        (
            run.result.as_ref().is_none_or(|result| result["result"] == "FAILURE"),
            "success".to_owned(),
        ),
    ] {
        if !good {
            wrong.push(what);
        }
    }
    if wrong.is_empty() { String::new() } else { format!("\n{words:?} ({old}): {wrong:?}\n{text}") }
}
