//! Prints `build-image help settings --example`: a configuration file with every setting, for copying. Required
//! settings come first; everything else is commented out, with its default or an example where one exists.

use build_image_plugin_api::SettingKind;

use crate::settings::{Key, PREFIX, Row, example, keys, parse_text, stated};

/// Has no effect in a configuration file: it names the file.
const LEFT_OUT: Key = keys::CONFIG_FILE;
/// Example values of required settings, tried in order.
const WORDS: [&str; 3] = ["example", "EXAMPLE", "1"];

/// Returns the file; `platform` is the provider whose rows are included.
pub(super) fn text(rows: &[Row], platform: Option<&str>) -> String {
    let mut text = head(platform);
    let (required, others): (Vec<&Row>, Vec<&Row>) = rows
        .iter()
        .filter(|row| LEFT_OUT != **row && (platform.is_none() || keys::PLATFORM != **row))
        .partition(|row| row.setting.required);
    if let Some(name) = platform {
        text.push_str(&format!("{}PLATFORM: {name}\n", heading("Required")));
    }
    for row in required {
        let value = value(row).or_else(|| fitting(row)).unwrap_or_default();
        text.push_str(&format!("\n{}{}: {value}\n", comment(row), row.key()));
    }
    let mut group = "";
    for row in others {
        if row.setting.group == group {
            text.push('\n');
        } else {
            group = &row.setting.group;
            text.push_str(&heading(group));
        }
        let line = format!("#{}: {}", row.key(), value(row).unwrap_or_default());
        text.push_str(&format!("{}{}\n", comment(row), line.trim_end()));
    }
    text
}

fn head(platform: Option<&str>) -> String {
    let more = platform.map(|name| format!(" -p {name}")).unwrap_or_default();
    format!(
        "# Made by `build-image help settings --example{more}`.\n\
         # A line that begins with #KEY is a setting that is not set; take the # away to set it.\n\
         # An empty value is none. Flags win over this file, this file over the environment ({PREFIX}KEY).\n"
    )
}

fn heading(group: &str) -> String {
    format!("\n# {group} {}\n\n", "-".repeat(90_usize.saturating_sub(group.len())))
}

/// Describes the setting and its possible values.
fn comment(row: &Row) -> String {
    let setting = &row.setting;
    let mut text = setting.summary.clone();
    if !setting.choices.is_empty() {
        text.push_str(&format!(" [{}]", setting.choices.join(", ")));
    }
    if let Some(default) = &setting.default {
        text.push_str(&format!(" [default: {default}]"));
    }
    if setting.secret {
        text.push_str(&format!(
            " (secret: give this file to nobody, or set {PREFIX}{} instead)",
            row.key()
        ));
    }
    format!("# {text}\n")
}

/// Returns its default or an example, as YAML. The element type of a list is known only to its row.
fn value(row: &Row) -> Option<String> {
    let kind = row.setting.kind;
    let holds_others = matches!(kind, SettingKind::List | SettingKind::Map);
    let text = if holds_others { stated(row) } else { example(row) };
    text.map(|text| yaml(kind, text))
}

/// Returns a value that matches its pattern.
fn fitting(row: &Row) -> Option<String> {
    let matches_pattern = |word: &&&str| matches!(parse_text(&row.setting, word), Ok(Some(_)));
    WORDS.iter().find(matches_pattern).map(|word| yaml(row.setting.kind, word))
}

/// Quotes text that YAML would read as another type.
fn yaml(kind: SettingKind, text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || " ._/-".contains(letter))
        && !["yes", "no", "on", "off", "true", "false", "null"]
            .contains(&text.to_lowercase().as_str());
    let is_text = matches!(kind, SettingKind::Text | SettingKind::Path);
    if is_plain || !is_text { text.to_owned() } else { serde_json::json!(text).to_string() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use build_image_plugin_api::Setting;

    use super::*;
    use crate::settings::{FileLayer, Layers, core_rows};

    fn read(text: &str) -> Layers {
        let file = FileLayer::parse(Path::new("c.yml"), text).unwrap();
        Layers { file: Some(file), ..Layers::default() }
    }

    fn rows() -> Vec<Row> {
        let is_listed = |row: &Row| !row.setting.hidden && row.unsupported.is_none();
        let own = [
            Setting::new("ACME_PLACE", SettingKind::Text, "where to, for example `up/there`")
                .pattern("[a-z/]+")
                .required(),
            Setting::new("ACME_ROOM", SettingKind::Text, "number of the room")
                .pattern("[0-9]+")
                .required(),
            Setting::new("ACME_PIN", SettingKind::Text, "pin").secret(),
            Setting::new("ACME_YEAR", SettingKind::Text, "which").choices(&["2001", "no"]),
        ];
        core_rows().into_iter().filter(is_listed).chain(own.map(Row::new)).collect()
    }

    #[test]
    fn the_file_parses_unchanged_and_with_every_setting_enabled() {
        let rows = rows();
        let text = text(&rows, Some("acme"));
        let resolved = read(&text).resolve(&rows).unwrap();
        assert_eq!(resolved.core().plugins.platform.as_deref(), Some("acme"));
        assert_eq!(resolved.by_name().text("ACME_PLACE"), Some("up/there"));
        assert_eq!(resolved.by_name().text("ACME_ROOM"), Some("1"));
        assert!(resolved.by_name().get("ACME_PIN").is_none() && !resolved.core().run.reuse);
        let set: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with(|first: char| first.is_ascii_uppercase()) => rest,
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let resolved = read(&set).resolve(&rows).unwrap();
        assert_eq!(resolved.by_name().text("ACME_YEAR"), Some("2001"));
        assert_eq!(resolved.core().machine.memory, 2 << 30);
        for row in rows.iter().filter(|row| LEFT_OUT != **row) {
            assert!(set.contains(&format!("\n{}:", row.key())), "{} is left out", row.key());
        }
    }

    #[test]
    fn required_settings_come_first() {
        let text = text(&rows(), Some("acme"));
        let first: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let first: Vec<&str> = first.into_iter().filter(|line| !line.is_empty()).collect();
        assert_eq!(first, ["PLATFORM: acme", "ACME_PLACE: up/there", "ACME_ROOM: \"1\""]);
        assert!(text.find("ACME_ROOM") < text.find("# Build ---"));
        assert!(text.contains("\n#ACME_PIN:\n"));
    }
}
