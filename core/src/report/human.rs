//! Writes lines for people to standard error.

use std::io::Write as _;

use super::{
    layout::{columns, fitted},
    plain::plain,
};
use crate::error::Error;

/// Words at the start of a line that are coloured, and the colour (ECMA-48, select graphic rendition).
const COLORS: [(&str, &str); 7] = [
    ("error:", "1;31"),
    ("warning:", "1;33"),
    ("left behind:", "1;33"),
    ("hint:", "36"),
    ("ok  ", "32"),
    ("warning ", "1;33"),
    ("error  ", "1;31"),
];

/// Writes lines to standard error, without control characters for a terminal; `fits` breaks them between words. A
/// closed standard error is not a
/// failure.
pub(super) fn write_lines(text: &str, color: bool, fits: bool) {
    let text = fitted(&plain(text), columns(std::io::stderr()).filter(|_| fits));
    let text = if color { colored(&text) } else { text };
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes lines as [`write_lines`], each with a name before it.
pub(super) fn write_labelled(name: &str, text: &str, color: bool) {
    let text = labelled(name, &plain(text), color);
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn labelled(name: &str, text: &str, color: bool) -> String {
    let text = if color { colored(text) } else { text.to_owned() };
    text.split('\n').map(|line| format!("{name}: {line}")).collect::<Vec<_>>().join("\n")
}

pub(crate) fn colored(text: &str) -> String {
    let color_line = |line: &str| {
        let rest = line.trim_start_matches(' ');
        let blanks = &line[..line.len() - rest.len()];
        let keyword = COLORS.iter().find(|(keyword, _)| rest.starts_with(keyword));
        keyword.map_or_else(
            || line.to_owned(),
            |(keyword, color)| {
                format!("{blanks}\u{1b}[{color}m{keyword}\u{1b}[0m{}", &rest[keyword.len()..])
            },
        )
    };
    text.split('\n').map(color_line).collect::<Vec<_>>().join("\n")
}

/// Writes a line to standard error, for callers that do not know the output mode.
pub fn print_line(text: &str) {
    write_lines(text, false, false);
}

/// Formats an error in lines: the message, every problem, the causes, the context, at most one hint.
#[must_use]
pub(super) fn error_text(error: &Error) -> String {
    let mut text = format!("error: {}\n", error.message);
    for problem in &error.problems {
        text.push_str(&format!("  - {}\n", problem.message));
        if let Some(hint) = &problem.hint {
            text.push_str(&format!("      hint: {hint}\n"));
        }
    }
    for cause in &error.causes {
        text.push_str(&format!("  because: {cause}\n"));
    }
    for (name, value) in &error.context {
        let indented = value.trim_end().replace('\n', "\n    ");
        text.push_str(&format!("  {name}: {indented}\n"));
    }
    if let Some(hint) = error.advice() {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_word_is_coloured_and_nothing_is_lost() {
        let text = "error: no hint: here\n  because: x\n  hint: do y\n  - warning: z";
        let colored = colored(text);
        let lines: Vec<&str> = colored.lines().collect();
        assert_eq!(lines[0], "\u{1b}[1;31merror:\u{1b}[0m no hint: here");
        assert_eq!(lines[1], "  because: x");
        assert_eq!(lines[2], "  \u{1b}[36mhint:\u{1b}[0m do y");
        assert_eq!(lines[3], "  - warning: z");
        assert_eq!(plain(&colored), text);
        let named = labelled("far-away", "error: a\n  hint: b", true);
        assert_eq!(plain(&named), "far-away: error: a\nfar-away:   hint: b");
        assert!(named.contains("far-away: \u{1b}[1;31merror:"), "{named:?}");
    }
}
