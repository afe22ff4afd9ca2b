//! Removes control characters from text of guests, clouds and files before it is written to a terminal.

/// Makes a text safe for standard output: as [`plain`]; in JSON, which keeps its meaning, such characters are
/// escaped.
pub(crate) fn harmless(text: &str) -> String {
    if !text.starts_with(['{', '[']) {
        return plain(text);
    }
    let mut made = String::with_capacity(text.len());
    for letter in text.chars() {
        let turns = matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns || letter.is_control() && letter != '\n' {
            made.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            made.push(letter);
        }
    }
    made
}

/// The text without escape sequences and control characters; line ends are kept, tabs become spaces.
pub(super) fn plain(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\n' => kept.push('\n'),
            '\t' => kept.push(' '),
            '\u{1b}' => match letters.next_if(|next| ('\u{20}'..='\u{7e}').contains(next)) {
                Some('[') => skip_to_final(&mut letters),
                Some(']' | 'P' | 'X' | '^' | '_') => skip_string(&mut letters),
                // Character sets and the like: intermediate characters, then one final character.
                Some(' '..='/') => {
                    while letters.next_if(|next| (' '..='/').contains(next)).is_some() {}
                    letters.next_if(|next| ('0'..='~').contains(next));
                }
                _ => {}
            },
            '\u{9b}' => skip_to_final(&mut letters),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut letters),
            // Marks that change the direction of text can make a line read differently.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            _ if letter.is_control() => {}
            _ => kept.push(letter),
        }
    }
    kept
}

type Letters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Skips the rest of a control sequence: parameters, then one final character.
fn skip_to_final(letters: &mut Letters<'_>) {
    while letters.next_if(|next| (' '..='?').contains(next)).is_some() {}
    letters.next_if(|next| ('@'..='~').contains(next));
}

/// Skips the rest of a control string, which ends at BEL, at ST, or at the end of the line.
fn skip_string(letters: &mut Letters<'_>) {
    while let Some(letter) = letters.next_if(|next| *next != '\n') {
        match letter {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                letters.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_text_does_not_control_a_terminal_and_json_keeps_its_meaning() {
        let odd = "a\u{1b}]0;title\u{7}b\u{9b}31m\u{7f}\u{202e}c";
        assert_eq!(harmless(odd), "abc");
        let document = serde_json::json!({"k": [odd]});
        for text in [document.to_string(), format!("{document:#}\n")] {
            let made = harmless(&text);
            let sound = |letter: char| letter == '\n' || !letter.is_control();
            assert!(made.chars().all(sound) && !made.contains('\u{202e}'), "{made:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&made).unwrap(), document);
        }
    }

    #[test]
    fn nothing_that_controls_a_terminal_is_kept() {
        for (text, kept) in [
            ("\u{1b}[1;31mred\u{1b}[0m é", "red é"),
            ("a\u{1b}]0;title\u{7}b", "ab"),
            ("a\u{1b}]0;title\u{1b}\\b", "ab"),
            ("a\u{1b}]unfinished\nb", "a\nb"),
            ("\u{1b}(Bx\u{1b}cy\u{1b}7z", "xyz"),
            ("a\u{9b}2Jb\u{90}q\u{9c}c", "abc"),
            ("a\u{8}\u{8}\rb\tc\u{0}\u{7f}", "ab c"),
            ("\u{202e}evil\u{202c}", "evil"),
            ("end\u{1b}", "end"),
            ("end\u{1b}[", "end"),
            ("two\nlines", "two\nlines"),
        ] {
            assert_eq!(plain(text), kept, "{text:?}");
        }
    }
}
