//! Writes tables as HTML; all text is escaped here.

use crate::oss::xml::escape;

/// Maximum length of a table; omitted rows are counted.
const MAX_ROWS: usize = 200;

/// One cell: its text, and how it looks.
#[derive(Debug, Default)]
pub(super) struct Cell {
    text: String,
    /// Class of the cell, for the style.
    class: &'static str,
    /// Shown when the pointer is on the cell.
    title: String,
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A name that may be long, which wraps at any character.
    pub(super) fn name(text: impl Into<String>) -> Self {
        Self { class: "name", ..Self::text(text) }
    }

    pub(super) fn number(text: impl Into<String>) -> Self {
        Self { class: "num", ..Self::text(text) }
    }

    /// A number of bytes with a unit; the exact number is its title.
    pub(super) fn bytes(bytes: u64) -> Self {
        Self { title: format!("{bytes} bytes"), ..Self::number(with_unit(bytes)) }
    }

    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self { class: "bad", ..Self::text(text) }
    }

    pub(super) fn dry_run(text: impl Into<String>) -> Self {
        Self { class: "dry", ..Self::text(text) }
    }

    fn write(&self, label: &str, page: &mut String) {
        page.push_str(&format!("<td data-label=\"{label}\""));
        for (name, value) in [("class", self.class), ("title", &self.title)] {
            if !value.is_empty() {
                page.push_str(&format!(" {name}=\"{}\"", escape(value)));
            }
        }
        page.push_str(&format!(">{}</td>", escape(&self.text)));
    }
}

/// A number of bytes in the largest binary unit that is not greater.
fn with_unit(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() / 10).min(4);
    let name = UNITS[unit as usize];
    if unit == 0 {
        return format!("{bytes} {name}");
    }
    // Rounded down, so that only what is complete looks complete.
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// One table under a heading.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// Names of the columns; `>` before a name aligns the heading as numbers.
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Vec<Cell>>,
    /// Number of rows before they were filtered, if they were.
    pub(super) of: Option<usize>,
}

impl Table {
    pub(super) fn write(&self, page: &mut String) {
        let Self { id, title, columns, rows, of } = self;
        let of = of.map(|all| format!(" of {all}")).unwrap_or_default();
        page.push_str(&format!(
            "<section id=\"{id}\" data-part><h2>{title} ({}{of})</h2>\n",
            rows.len()
        ));
        if rows.is_empty() {
            page.push_str("<p class=\"none\">none</p></section>\n");
            return;
        }
        page.push_str("<div class=\"wrap\"><table><thead><tr>");
        for column in *columns {
            let class = if column.starts_with('>') { " class=\"num\"" } else { "" };
            let name = column.trim_start_matches('>');
            page.push_str(&format!("<th scope=\"col\"{class}>{name}</th>"));
        }
        page.push_str("</tr></thead><tbody>\n");
        for row in rows.iter().take(MAX_ROWS) {
            page.push_str("<tr>");
            for (cell, column) in row.iter().zip(*columns) {
                cell.write(column.trim_start_matches('>'), page);
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table></div>\n");
        if rows.len() > MAX_ROWS {
            page.push_str(&format!("<p class=\"none\">and {} more</p>\n", rows.len() - MAX_ROWS));
        }
        page.push_str("</section>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::with_unit;

    #[test]
    fn bytes_have_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 29, "2.5 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(with_unit(bytes), text);
        }
    }
}
