//! Runs the ```` ```console ```` blocks of a documentation page and compares their output.
//!
//! Bash runs each line `$ command`, in one session for the whole page; lines `> …` continue it. The lines that
//! follow are its expected output, both streams together. In an expected line `…` stands for any text; a line that
//! is only `…` stands for any number of lines. `[exit 2]` is the exit code, 0 if not given.

use std::{fmt::Write as _, path::PathBuf, process::Stdio};

use super::{Sandbox, plugin_directory, root};

/// Separates the output of two commands.
const MARK: &str = "\u{1}next\u{1}";

struct Command {
    line: usize,
    text: String,
    expected: Vec<String>,
}

/// Runs a page in a sandbox; returns the number of commands that were compared.
#[track_caller]
pub(crate) fn run_page(page: &str, sandbox: &Sandbox) -> usize {
    let commands = commands(&std::fs::read_to_string(root().join(page)).unwrap());
    let mut script = String::from("trap 'kill $(jobs -p) 2>/dev/null' EXIT\nexec 2>&1\n");
    for command in &commands {
        write!(script, "{}\ncode=$?\n[ $code = 0 ] || printf '[exit %s]\\n' $code\n", command.text)
            .unwrap();
        writeln!(script, "printf '%s\\n' '{MARK}'").unwrap();
    }
    let script = sandbox.write("page.sh", &script);
    let built = PathBuf::from(env!("CARGO_BIN_EXE_build-image"));
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", built.parent().unwrap().display());
    let mut shell = std::process::Command::new("bash");
    shell.arg(&script).current_dir(sandbox.path()).env_clear().env("PATH", path);
    shell.env("HOME", sandbox.path()).env("BUILD_IMAGE_PROVIDER_PATH", plugin_directory());
    shell.env("LC_ALL", "C.UTF-8").env("COLUMNS", "100").stdin(Stdio::null());
    if let Some(file) = sandbox.emulator.as_ref().and_then(|emulator| emulator.ca_file()) {
        shell.env("SSL_CERT_FILE", file);
    }
    let output = shell.output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mark = format!("{MARK}\n");
    let mut parts = stdout.split(&mark);
    for command in &commands {
        let part = parts.next().unwrap_or_default();
        let lines: Vec<&str> = part.lines().collect();
        assert!(
            fits(&command.expected, &lines),
            "{page}, line {}: $ {}\nexpected:\n{}\nprinted:\n{part}",
            command.line,
            command.text,
            command.expected.join("\n")
        );
    }
    commands.len()
}

fn commands(page: &str) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    let mut inside = false;
    for (number, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if !inside {
        } else if let Some(text) = line.strip_prefix("$ ") {
            let text = text.to_owned();
            found.push(Command { line: number + 1, text, expected: Vec::new() });
        } else if let (Some(more), Some(last)) = (line.strip_prefix("> "), found.last_mut()) {
            last.text.push('\n');
            last.text.push_str(more);
        } else if let Some(last) = found.last_mut() {
            last.expected.push(line.to_owned());
        }
    }
    found
}

fn fits(expected: &[String], lines: &[&str]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "…" => {
            (0..=lines.len()).any(|skipped| fits(rest, &lines[skipped..]))
        }
        (Some((first, rest)), Some((line, others))) => line_fits(first, line) && fits(rest, others),
        _ => false,
    }
}

fn line_fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn dots_stand_for_anything() {
    let page = "```console\n$ a \\\n> b\nx … z\n…\nend\n```\n```sh\n$ no\n```\n";
    let parsed = commands(page);
    assert_eq!((parsed.len(), parsed[0].text.as_str()), (1, "a \\\nb"));
    let expected = &parsed[0].expected;
    for (lines, fit) in [
        (&["x y z", "end"][..], true),
        (&["x y z", "1", "2", "end"], true),
        (&["x  z", "end"], true),
        (&["x z", "end"], false),
        (&["x y z", "1"], false),
        (&["x y z", "end", "more"], false),
        (&["x y zz ", "end"], false),
    ] {
        assert_eq!(fits(expected, lines), fit, "{lines:?}");
    }
}
