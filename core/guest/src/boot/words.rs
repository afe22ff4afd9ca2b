//! Splits lines of boot loader configurations into words, as a shell would, and replaces variables.

use std::collections::BTreeMap;

/// Values of variables.
pub(super) type Variables = BTreeMap<String, String>;

/// Maximum length of what variables add to a text, in bytes: a variable may refer to others.
const MAX_EXPANDED: usize = 4 << 10;

/// Splits a line into words. Quotes group, a backslash quotes one character, and `{` and `}` stand alone if they are
/// words. `#` at the start of a word begins a comment.
pub(super) fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut open) = (Vec::new(), String::new(), None);
    let mut is_word = false;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, open) {
            ('\'' | '"', None) => (open, is_word) = (Some(letter), true),
            (_, Some(quote)) if letter == quote => open = None,
            ('\\', None | Some('"')) => {
                word.extend(letters.next());
                is_word = true;
            }
            ('#', None) if !is_word => break,
            (_, None) if letter.is_whitespace() || letter == ';' => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            _ => {
                word.push(letter);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

/// Replaces `$name` and `${name}`; unknown variables become empty.
pub(super) fn expand(text: &str, variables: &Variables) -> String {
    let (mut out, mut added) = (String::new(), 0);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, behind) = name(after);
        if name.is_empty() {
            out.push('$');
        } else {
            let value = variables.get(name).map_or("", String::as_str);
            added += value.len();
            if added <= MAX_EXPANDED {
                out.push_str(value);
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

fn name(after: &str) -> (&str, &str) {
    if let Some((name, behind)) = after.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        return (name, behind);
    }
    let inside = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let end = after.find(|letter| !inside(letter)).unwrap_or(after.len());
    after.split_at(end)
}

/// Orders versions such as `6.1.0-9` and `6.1.0-18` by their numbers.
pub(super) fn version_key(version: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let mut rest = version;
    while !rest.is_empty() && parts.len() < 64 {
        let end = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let (text, numbers) = rest.split_at(end);
        let end = numbers.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(numbers.len());
        let (number, behind) = numbers.split_at(end);
        parts.push((number.parse().unwrap_or_default(), text.to_owned()));
        rest = behind;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_like_those_of_a_shell() {
        let words = split("menuentry 'Debian, with \"x\"' --id a\\ b {# no; \"c d\"e # comment");
        assert_eq!(words, ["menuentry", "Debian, with \"x\"", "--id", "a b", "{#", "no", "c de"]);
        assert_eq!(split("a ''; b"), ["a", "", "b"]);
    }

    #[test]
    fn variables_are_replaced_once() {
        let variables = [("a".to_owned(), "$b".to_owned()), ("b_1".to_owned(), "x".to_owned())];
        let variables = variables.into();
        assert_eq!(expand("$a ${b_1}/$b_1-$c $", &variables), "$b x/x- $");
    }

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let mut all = ["6.1.0-18", "6.1.0-9", "5.10", "6.1"];
        all.sort_by_key(|version| version_key(version));
        assert_eq!(all, ["5.10", "6.1", "6.1.0-9", "6.1.0-18"]);
    }
}
