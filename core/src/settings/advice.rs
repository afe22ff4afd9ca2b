//! Suggests the correct syntax for an invalid setting, in the form (flag, file, environment) that the user used.

use build_image_plugin_api::SettingKind;

use super::{parse::parse_text, resolve::Origin, row::Row};

/// Returns a hint for a text that would fit its row in lower case.
pub(super) fn lower_case(row: &Row, text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let fits = !row.setting.secret
        && lower != text
        && matches!(parse_text(&row.setting, &lower), Ok(Some(_)));
    fits.then(|| format!("did you mean `{lower}`?"))
}

/// Returns a hint for a value that does not fit its row: an example where one is available, otherwise the kind of the
/// setting. A hint for a secret has no example and never suggests the command line.
pub(super) fn advice(row: &Row, origin: &Origin) -> String {
    let key = row.key();
    if row.setting.kind == SettingKind::Path {
        return "write the whole path, or `~/…` for one in your home directory".to_owned();
    }
    let Some(value) = example(row) else { return format!("{key}: {}", row.setting.summary) };
    match origin {
        Origin::CommandLine if value.contains(' ') || value.contains('{') => {
            format!("for example --{}='{value}'", row.long())
        }
        Origin::CommandLine => format!("for example --{}={value}", row.long()),
        Origin::Environment(name) => format!("for example {name}={value}"),
        Origin::File(..) | Origin::Default => format!("for example {key}: {value}"),
    }
}

/// Returns a valid value, where one is known. Secrets have none.
pub(crate) fn example(row: &Row) -> Option<&str> {
    let setting = &row.setting;
    let stated = stated(row);
    if setting.secret || stated.is_some() || !setting.pattern.is_empty() {
        return stated;
    }
    match setting.kind {
        SettingKind::Boolean | SettingKind::Switch => Some("yes"),
        SettingKind::Integer => Some("4"),
        SettingKind::Size => Some("20GiB"),
        SettingKind::Duration => Some("90m"),
        SettingKind::List => Some("[one, two]"),
        SettingKind::Map => Some("{name: value}"),
        _ => None,
    }
}

/// Returns a value that the row itself contains: an example, the default, a choice.
pub(crate) fn stated(row: &Row) -> Option<&str> {
    let setting = &row.setting;
    if setting.secret {
        return None;
    }
    let own = row.example.or_else(|| in_summary(row)).or(setting.default.as_deref());
    own.or_else(|| setting.choices.first().map(String::as_str))
}

/// Returns the example in a summary, when it fits the row.
fn in_summary(row: &Row) -> Option<&str> {
    let (_, rest) = row.setting.summary.split_once("for example `")?;
    let (text, _) = rest.split_once('`')?;
    matches!(parse_text(&row.setting, text), Ok(Some(_))).then_some(text)
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Setting;

    use super::*;

    #[test]
    fn advice_is_an_example_in_the_syntax_of_its_origin() {
        let list = Row::new(Setting::new("SOME_LIST", SettingKind::List, "words"));
        let level = Row::new(Setting::new("LEVEL", SettingKind::Text, "x").choices(&["a", "b"]));
        let secret = Row::new(Setting::new("PIN", SettingKind::Integer, "the pin").secret());
        let variable = Origin::Environment("F5_LEVEL".to_owned());
        let file = Origin::File("c.yml".into(), 3);
        let place = Setting::new("PLACE", SettingKind::Text, "x, for example `up-there`; or not");
        let place = Row::new(place.pattern("[a-z-]+"));
        for (row, origin, text) in [
            (&list, &Origin::CommandLine, "for example --some-list='[one, two]'"),
            (&list, &file, "for example SOME_LIST: [one, two]"),
            (&level, &variable, "for example F5_LEVEL=a"),
            (&level, &Origin::CommandLine, "for example --level=a"),
            (&secret, &Origin::CommandLine, "PIN: the pin"),
            (&place, &file, "for example PLACE: up-there"),
        ] {
            assert_eq!(advice(row, origin), text);
        }
    }

    #[test]
    fn a_text_that_fits_in_lower_case_is_suggested() {
        let name = Setting::new("NAME", SettingKind::Text, "x").pattern("[a-z]+");
        let secret = Row::new(name.clone().secret());
        let name = Row::new(name);
        assert_eq!(lower_case(&name, "Acme").as_deref(), Some("did you mean `acme`?"));
        for (row, text) in [(&name, "acme"), (&name, "A-B"), (&secret, "Hunter")] {
            assert_eq!(lower_case(row, text), None, "{text}");
        }
    }

    #[test]
    fn every_example_of_the_core_fits_its_own_row() {
        for row in crate::settings::core_rows() {
            if let Some(text) = example(&row) {
                let parsed = parse_text(&row.setting, text);
                assert!(matches!(parsed, Ok(Some(_))), "{}: {parsed:?}", row.key());
            }
        }
    }
}
