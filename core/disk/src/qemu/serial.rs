//! Processes the serial console of the guest: every byte is written to the log, markers are found in the raw
//! bytes wherever they are split, and lines are made readable for people.

use std::collections::VecDeque;

/// Maximum length of a line for people, in bytes; a longer line is split into several.
const MAX_LINE: usize = 4096;
/// Number of lines kept for an error report.
const TAIL_LINES: usize = 60;

/// Finds texts in a stream that may be split anywhere.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Each text, and whether it was found.
    markers: Vec<(String, bool)>,
    /// The end of the processed bytes, in which a marker may start.
    carry: Vec<u8>,
    longest: usize,
}

impl Scanner {
    pub(super) fn new<'a>(markers: impl IntoIterator<Item = &'a str>) -> Self {
        let markers: Vec<_> =
            markers.into_iter().map(|marker| (marker.to_owned(), false)).collect();
        let longest = markers.iter().map(|(marker, _)| marker.len()).max().unwrap_or(0);
        Self { markers, carry: Vec::new(), longest }
    }

    /// Returns the markers that were found for the first time in this piece.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Vec<String> {
        self.carry.extend_from_slice(piece);
        let mut found = Vec::new();
        for (marker, seen) in self.markers.iter_mut().filter(|(_, seen)| !seen) {
            if contains(&self.carry, marker.as_bytes()) {
                *seen = true;
                found.push(marker.clone());
            }
        }
        let keep = self.longest.saturating_sub(1).min(self.carry.len());
        self.carry.drain(..self.carry.len() - keep);
        found
    }

    /// Returns the markers that were not found so far.
    pub(super) fn missing(&self) -> impl Iterator<Item = &str> {
        self.markers.iter().filter(|(_, seen)| !seen).map(|(marker, _)| marker.as_str())
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    let Some(first) = text.first() else { return true };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        if rest[at..].starts_with(text) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Splits a stream into lines without escape sequences and control characters, which are always valid text.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    state: Escape,
    tail: VecDeque<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    Text,
    /// After ESC.
    Begun,
    /// After `ESC [`: ends with a byte from `@` to `~`.
    Control,
    /// After `ESC ]`: ends with BEL or ESC \.
    Title,
    /// After `ESC (` and similar sequences: one more byte.
    One,
}

impl Lines {
    pub(super) fn feed(&mut self, piece: &[u8], on_line: &mut dyn FnMut(&str)) {
        for byte in piece {
            if self.is_text(*byte) {
                match byte {
                    b'\n' => self.end_line(on_line),
                    b'\t' | b' '..=b'~' | 0x80.. => self.line.push(*byte),
                    _ => {}
                }
                if self.line.len() >= MAX_LINE {
                    self.end_line(on_line);
                }
            }
        }
    }

    /// Returns the line that has not ended yet, such as a prompt.
    pub(super) fn partial(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }

    /// Passes on a last line without a line end.
    pub(super) fn finish(&mut self, on_line: &mut dyn FnMut(&str)) {
        if !self.line.is_empty() {
            self.end_line(on_line);
        }
    }

    /// Returns the last lines that are not empty.
    pub(super) fn tail(&self) -> String {
        self.tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn end_line(&mut self, on_line: &mut dyn FnMut(&str)) {
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        on_line(&line);
        if !line.is_empty() {
            self.tail.push_back(line);
            if self.tail.len() > TAIL_LINES {
                self.tail.pop_front();
            }
        }
    }

    fn is_text(&mut self, byte: u8) -> bool {
        let (next, text) = match (self.state, byte) {
            // A newline ends every sequence: a broken sequence must not swallow the log.
            (_, b'\n') => (Escape::Text, true),
            (_, 0x1b) => (Escape::Begun, false),
            (Escape::Text, _) => (Escape::Text, true),
            (Escape::Begun, b'[') => (Escape::Control, false),
            (Escape::Begun, b']') => (Escape::Title, false),
            (Escape::Begun, b'('..=b'/' | b'#' | b'%') => (Escape::One, false),
            (Escape::Begun | Escape::One, _) => (Escape::Text, false),
            (Escape::Control, b'@'..=b'~') | (Escape::Title, 0x07) => (Escape::Text, false),
            (Escape::Control | Escape::Title, _) => (self.state, false),
        };
        self.state = next;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_wherever_the_pieces_are_cut() {
        let text = b"noise FINAL STATUS = SUCCESS\r\nMore of it";
        for cut in 0..text.len() {
            for second in cut..text.len() {
                let mut scanner = Scanner::new(["STATUS = SUCCESS", "of it", "never"]);
                let mut found = scanner.feed(&text[..cut]);
                found.extend(scanner.feed(&text[cut..second]));
                found.extend(scanner.feed(&text[second..]));
                assert_eq!(found, ["STATUS = SUCCESS", "of it"], "{cut} {second}");
                assert_eq!(scanner.missing().collect::<Vec<_>>(), ["never"]);
            }
        }
    }

    #[test]
    fn lines_lose_their_escapes_however_they_are_cut() {
        let raw =
            b"\x1bc\x1b[2J\x1b[1;31mBooting\x1b[0m it\r\n\x1b]0;title\x07x\x1b(By\0\n\nlast\xff";
        let want = ["Booting it", "xy", "", "last\u{fffd}"];
        for cut in 0..raw.len() {
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            lines.feed(&raw[..cut], &mut |line| got.push(line.to_owned()));
            lines.feed(&raw[cut..], &mut |line| got.push(line.to_owned()));
            lines.finish(&mut |line| got.push(line.to_owned()));
            assert_eq!(got, want, "{cut}");
            assert_eq!(lines.tail(), "Booting it\nxy\nlast\u{fffd}");
        }
    }

    #[test]
    fn a_line_without_end_does_not_grow_without_end() {
        let (mut lines, mut longest) = (Lines::default(), 0);
        lines.feed(&[b'x'; 50_000], &mut |line| longest = longest.max(line.len()));
        assert_eq!(longest, MAX_LINE);
    }
}
