//! Fits lines to the width of a terminal.

use std::os::fd::AsFd;

/// Narrowest room for a text, columns: below it, an indent is given up.
const NARROWEST: usize = 20;

/// Units that stay in the line of their number.
const UNITS: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "MiB/s", "s", "min", "h"];

/// Returns the columns of a terminal; `None` when it is not one.
pub(crate) fn columns(terminal: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Breaks a text between words into lines of at most `room` columns; a longer word has a line for itself.
pub(crate) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words(text) {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(word);
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    lines
}

/// Returns the words of a text; a number and its unit are one.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let is_unit = UNITS.contains(&word.trim_end_matches([')', ',', '.', ';', ':']));
        let is_number = |last: &&mut String| last.ends_with(|end: char| end.is_ascii_digit());
        match words.last_mut().filter(|last| is_unit && is_number(last)) {
            Some(number) => *number = format!("{number} {word}"),
            None => words.push(word.to_owned()),
        }
    }
    words
}

/// Breaks a line that starts with `start`; the lines that follow are indented by its length.
pub(crate) fn hung(start: &str, text: &str, width: Option<usize>) -> String {
    let indent = start.chars().count();
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(NARROWEST));
    let lines = wrapped(text, room);
    format!("{start}{}", lines.join(&format!("\n{}", " ".repeat(indent))))
}

/// Breaks each line of a text; what follows in a line is indented by four columns more than its start.
pub(crate) fn folded(text: &str, width: Option<usize>) -> String {
    const MORE: usize = 4;
    if width.is_none() {
        return text.to_owned();
    }
    let lines = text.split('\n').map(|line| {
        let words = line.trim_start_matches(' ');
        let indent = line.len() - words.len();
        let room =
            width.map_or(usize::MAX, |width| width.saturating_sub(indent + MORE).max(NARROWEST));
        let lines = wrapped(words, room);
        format!("{:indent$}{}", "", lines.join(&format!("\n{:1$}", "", indent + MORE)))
    });
    lines.collect::<Vec<String>>().join("\n")
}

/// Breaks each line of a report. What follows the label of a step, or the indent of another line, hangs below it.
pub(super) fn fitted(text: &str, width: Option<usize>) -> String {
    if width.is_none() {
        return text.to_owned();
    }
    let lines = text.split('\n').map(|line| {
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        // Labels of steps are followed by two spaces.
        let label =
            text.find("  ").filter(|&label| indent + label < 12).map_or(0, |label| label + 2);
        let (start, text) = line.split_at(indent + label);
        hung(start, text, width)
    });
    lines.collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words_and_hang() {
        for (line, expected) in [
            (
                "  prepare  one two three four five six seven",
                "  prepare  one two three four\n           five six seven",
            ),
            (
                "     hint: one two three four five six",
                "     hint: one two three four\n     five six",
            ),
            ("error: https://example.org/a/long/word", "error:\nhttps://example.org/a/long/word"),
            ("  done  it was written in (2.9 s)", "  done  it was written in\n        (2.9 s)"),
            ("short", "short"),
            ("", ""),
        ] {
            assert_eq!(fitted(line, Some(30)), expected);
            assert_eq!(fitted(line, None), line);
        }
        let list = "20261130-x  acme  dead at upload\n    object `a/b` in north\n";
        let expected =
            "20261130-x  acme  dead\n    at upload\n    object `a/b` in\n        north\n";
        assert_eq!(
            (folded(list, Some(26)).as_str(), folded(list, None).as_str()),
            (expected, list)
        );
        assert_eq!(hung("checks    ", "one two three four", Some(30)).lines().count(), 1);
    }
}
