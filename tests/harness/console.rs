//! Runs the commands of a documentation page in one session of bash, and compares their output.
//!
//! A block ```` ```sh ```` is run as a whole, and must end with exit code 0. A block ```` ```text ```` that follows it
//! is its expected output, both streams together; ```` ```text exit=2 ```` also names its exit code. In a block
//! ```` ```console ```` each line `$ command` is run, lines `> …` continue it, and the lines that follow are its expected
//! output; `[exit 2]` is the exit code. In an expected line `…` stands for any text; a line that is only `…` stands for
//! any number of lines.

use std::{fmt::Write as _, path::PathBuf, process::Stdio};

use super::{Sandbox, plugin_directory, root};

/// Separates the output of two commands.
const MARK: &str = "\u{1}next\u{1}";

struct Command {
    line: usize,
    text: String,
    /// `None`: only the exit code is compared.
    expected: Option<Vec<String>>,
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
        let failed = lines.last().is_some_and(|last| last.starts_with("[exit "));
        let as_expected = command.expected.as_ref().map_or(!failed, |all| fits(all, &lines));
        assert!(
            as_expected,
            "{page}, line {}: $ {}\nexpected:\n{}\nprinted:\n{part}",
            command.line,
            command.text,
            command.expected.as_ref().map_or("exit code 0".to_owned(), |all| all.join("\n"))
        );
    }
    commands.len()
}

/// Reads the blocks of a page, line by line.
#[derive(Default)]
struct Reader<'a> {
    found: Vec<Command>,
    /// The words behind the fence of the block that is read.
    block: Option<&'a str>,
    /// Whether only empty lines are between the last command and this line.
    is_next: bool,
}

impl<'a> Reader<'a> {
    fn line(&mut self, number: usize, line: &'a str) {
        match (line.strip_prefix("```"), self.block) {
            (Some(_), Some(block)) => self.end(block),
            (Some(info), None) => self.begin(number, info),
            (None, Some("sh")) => {
                let last = self.found.last_mut().unwrap();
                last.text.push_str(line);
                last.text.push('\n');
            }
            (None, Some("console")) => self.console(number, line),
            (None, Some(info)) if self.is_output(info) => self.expect(line),
            (None, Some(_)) => {}
            (None, None) => self.is_next &= line.is_empty(),
        }
    }

    fn begin(&mut self, number: usize, info: &'a str) {
        self.block = Some(info);
        if info == "sh" {
            self.found.push(Command { line: number + 1, text: String::new(), expected: None });
        } else if self.is_output(info) {
            self.found.last_mut().unwrap().expected = Some(Vec::new());
        }
    }

    fn end(&mut self, info: &str) {
        self.block = None;
        if let Some(code) = info.strip_prefix("text exit=").filter(|_| self.is_next) {
            self.expect(&format!("[exit {code}]"));
        }
        self.is_next = info == "sh";
    }

    fn is_output(&self, info: &str) -> bool {
        self.is_next && info.split(' ').next() == Some("text")
    }

    fn expect(&mut self, line: &str) {
        self.found.last_mut().unwrap().expected.get_or_insert_default().push(line.to_owned());
    }

    fn console(&mut self, number: usize, line: &str) {
        if let Some(text) = line.strip_prefix("$ ") {
            let (text, expected) = (text.to_owned(), Some(Vec::new()));
            self.found.push(Command { line: number, text, expected });
        } else if let (Some(more), Some(last)) = (line.strip_prefix("> "), self.found.last_mut()) {
            last.text.push('\n');
            last.text.push_str(more);
        } else if !self.found.is_empty() {
            self.expect(line);
        }
    }
}

fn commands(page: &str) -> Vec<Command> {
    let mut reader = Reader::default();
    for (at, line) in page.lines().enumerate() {
        reader.line(at + 1, line);
    }
    reader.found
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
    let page = "```console\n$ a \\\n> b\nx … z\n…\nend\n```\n";
    let parsed = commands(page);
    assert_eq!((parsed.len(), parsed[0].text.as_str()), (1, "a \\\nb"));
    let expected = parsed[0].expected.as_ref().unwrap();
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

#[test]
fn a_block_of_output_belongs_to_the_block_of_commands_before_it() {
    let page = "```sh\na\nb\n```\n\n```text exit=6\nx\n```\n```sh\nc\n```\nwords\n```text\ny\n```\n```yaml\nz\n```\n";
    let parsed = commands(page);
    let all: Vec<_> = parsed.iter().map(|one| (one.text.as_str(), one.expected.clone())).collect();
    let output = ["x", "[exit 6]"].map(str::to_owned).to_vec();
    assert_eq!(all, [("a\nb\n", Some(output)), ("c\n", None)]);
    assert_eq!(parsed.iter().map(|one| one.line).collect::<Vec<_>>(), [2, 10]);
}
