//! Writes XML documents element by element. XML is parsed where it is needed.

/// Escapes text for an element; control characters that are invalid in XML 1.0 become `?`.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#13;"),
            '\n' | '\t' => escaped.push(character),
            control if control < ' ' => escaped.push('?'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A document under construction.
#[derive(Debug)]
pub(crate) struct Xml {
    text: String,
    root: &'static str,
}

impl Xml {
    /// Starts a document with this root element.
    pub(crate) fn new(root: &'static str) -> Self {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}>");
        Self { text, root }
    }

    /// Adds an element with text.
    pub(crate) fn leaf(&mut self, name: &str, value: &str) -> &mut Self {
        self.text.push_str(&format!("<{name}>{}</{name}>", escape(value)));
        self
    }

    /// Adds text to the root itself.
    pub(crate) fn content(&mut self, value: &str) -> &mut Self {
        self.text.push_str(&escape(value));
        self
    }

    /// Adds an element whose content `fill` adds.
    pub(crate) fn node(&mut self, name: &str, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.text.push_str(&format!("<{name}>"));
        fill(self);
        self.text.push_str(&format!("</{name}>"));
        self
    }

    /// Ends the document.
    pub(crate) fn finish(mut self) -> String {
        self.text.push_str(&format!("</{}>\n", self.root));
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::Xml;

    #[test]
    fn text_is_escaped_and_elements_nest() {
        let mut xml = Xml::new("R");
        xml.leaf("K", "a<b>&\"\u{1}").node("N", |inner| {
            inner.leaf("V", "1");
        });
        let body = "<R><K>a&lt;b&gt;&amp;&quot;?</K><N><V>1</V></N></R>\n";
        assert!(xml.finish().ends_with(body));
    }
}
