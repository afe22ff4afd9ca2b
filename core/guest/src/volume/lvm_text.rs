//! Parses the metadata text of LVM2. Source: lvm2, lib/config/config.c: sections in braces, `key = value`, values that
//! are numbers, strings, or lists, and comments. Depth and number of nodes are limited.

use std::collections::BTreeMap;

/// Maximum depth of sections; LVM uses four.
const MAX_DEPTH: usize = 8;
/// Maximum number of sections and values.
const MAX_NODES: usize = 50_000;

/// A value or a section.
#[derive(Debug)]
pub(super) enum Node {
    Number(u64),
    Text(String),
    List(Vec<Node>),
    Section(BTreeMap<String, Node>),
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Section(members) => members.get(key),
            _ => None,
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&String, &Self)> {
        let members = match self {
            Self::Section(members) => Some(members.iter()),
            _ => None,
        };
        members.into_iter().flatten()
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &str) -> Option<&[Self]> {
        match self.get(key)? {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}

/// Parses a text; `None` if it is malformed or too large.
pub(super) fn parse(text: &str) -> Option<Node> {
    let mut parser = Parser { rest: text, nodes: 0 };
    let root = parser.section(0)?;
    parser.rest.is_empty().then_some(root)
}

struct Parser<'a> {
    rest: &'a str,
    nodes: usize,
}

impl<'a> Parser<'a> {
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\0');
            let Some(comment) = self.rest.strip_prefix('#') else { return };
            self.rest = comment.split_once('\n').map_or("", |(_, after)| after);
        }
    }

    fn eat(&mut self, expected: char) -> bool {
        self.skip();
        let after = self.rest.strip_prefix(expected);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn word(&mut self) -> Option<&'a str> {
        self.skip();
        let inside = |c: char| c.is_ascii_alphanumeric() || "_-+./@".contains(c);
        let end = self.rest.find(|c| !inside(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// Parses members up to a closing brace, or to the end of the text at depth 0.
    fn section(&mut self, depth: usize) -> Option<Node> {
        let mut members = BTreeMap::new();
        loop {
            self.skip();
            if depth > 0 && self.eat('}') || depth == 0 && self.rest.is_empty() {
                return Some(Node::Section(members));
            }
            self.nodes += 1;
            if depth >= MAX_DEPTH || self.nodes > MAX_NODES {
                return None;
            }
            let key = self.word()?.to_owned();
            let node = if self.eat('{') {
                self.section(depth + 1)?
            } else if self.eat('=') {
                self.value()?
            } else {
                return None;
            };
            members.insert(key, node);
        }
    }

    fn value(&mut self) -> Option<Node> {
        if !self.eat('[') {
            return self.scalar();
        }
        let mut list = Vec::new();
        while !self.eat(']') {
            self.nodes += 1;
            if self.nodes > MAX_NODES {
                return None;
            }
            list.push(self.scalar()?);
            self.eat(',');
        }
        Some(Node::List(list))
    }

    fn scalar(&mut self) -> Option<Node> {
        if !self.eat('"') {
            let word = self.word()?;
            return Some(word.parse().map_or_else(|_| Node::Text(word.to_owned()), Node::Number));
        }
        let mut text = String::new();
        let mut letters = self.rest.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.rest = self.rest.get(at + 1..)?;
                    return Some(Node::Text(text));
                }
                '\\' => text.push(letters.next()?.1),
                other => text.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_texts_lists_and_sections_are_parsed() {
        let text =
            "# comment }\nvg { id = \"a\\\"b\"\n seq=7 # x\n flags = [\"A\", 3,]\n lv { } }\0";
        let root = parse(text).unwrap();
        let vg = root.get("vg").unwrap();
        assert_eq!((vg.text("id"), vg.number("seq")), (Some("a\"b"), Some(7)));
        assert_eq!(vg.list("flags").unwrap().len(), 2);
        assert!(vg.get("lv").unwrap().members().next().is_none());
    }

    #[test]
    fn malformed_texts_are_refused() {
        let deep = "a {".repeat(10_000);
        for text in ["a", "a {", "a = ", "a = [1", "a = \"x", "}", "a = 1 }", "= 1", &deep] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
