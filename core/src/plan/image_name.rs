//! Composes and checks the name of an image by the provider's rules.

use build_image_plugin_api::{LetterCase, NameRules};
use regex::Regex;

use crate::{
    error::{Error, Result, Stage},
    settings::keys::CLOUD_IMAGE_NAME,
};

/// Length of the random suffix of composed names.
const TAIL: usize = 9;

/// Composes a name from a seed and a random suffix by the provider's rules.
///
/// # Errors
/// When the seed cannot be made into a name that follows the rules.
pub fn compose_name(seed: &str, random: &str, rules: &NameRules) -> Result<String> {
    let tail: String = random.chars().take(TAIL).collect();
    let mut name = format!("{seed} {tail}");
    if rules.letter_case == LetterCase::Lower {
        name = name.to_lowercase();
    }
    if !rules.replace.is_empty() {
        name = regex(&rules.replace)?.replace_all(&name, "-").into_owned();
    }
    name = regex("-{2,}")?.replace_all(&name, "-").into_owned();
    let excess = name.chars().count().saturating_sub(limit(rules.maximum_length));
    if excess > TAIL + 1 {
        return Err(Error::new(
            Stage::Settings,
            format!(
                "no image name of at most {} characters can be made of `{seed}`",
                rules.maximum_length
            ),
        )
        .hint(format!("choose a name with {CLOUD_IMAGE_NAME}")));
    }
    if excess > 0 {
        let keep = name.chars().count() - excess;
        name = name.chars().take(keep).collect();
        name.truncate(name.trim_end_matches(['-', ' ']).len());
    }
    check_name(&name, rules)
        .map_err(|error| error.hint(format!("choose a name with {CLOUD_IMAGE_NAME}")))?;
    Ok(name)
}

/// The maximum length that a rule allows; zero means no limit.
fn limit(rule: usize) -> usize {
    if rule == 0 { usize::MAX } else { rule }
}

/// Checks a name against the provider's rules.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_name(name: &str, rules: &NameRules) -> Result<()> {
    let length = name.chars().count();
    let lower = name.to_lowercase();
    let prefix =
        rules.forbidden_prefixes.iter().find(|prefix| lower.starts_with(&prefix.to_lowercase()));
    let text = rules.forbidden_texts.iter().find(|text| lower.contains(&text.to_lowercase()));
    let wrong = if length < rules.minimum_length.max(1) {
        format!("has {length} characters, at least {} are needed", rules.minimum_length.max(1))
    } else if length > limit(rules.maximum_length) {
        format!("has {length} characters, allowed are {}", rules.maximum_length)
    } else if let Some(prefix) = prefix {
        format!("must not start with `{prefix}`")
    } else if let Some(text) = text {
        format!("must not contain `{text}`")
    } else if !rules.pattern.is_empty()
        && !regex(&format!("^(?:{})$", rules.pattern))?.is_match(name)
    {
        format!("breaks the rule: {}", rules.explanation)
    } else {
        return Ok(());
    };
    Err(Error::new(Stage::Settings, format!("image name `{name}` {wrong}"))
        .hint(format!("{CLOUD_IMAGE_NAME}: {}", rules.explanation)))
}

fn regex(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| {
        Error::new(Stage::Plugin, format!("the provider's name rule `{text}` is broken"))
            .caused_by(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> NameRules {
        NameRules::default()
            .minimum_length(2)
            .maximum_length(128)
            .pattern(r"[a-zA-Z][a-zA-Z0-9.\-_]+")
            .explanation("a letter, then letters, digits, `.`, `-`, `_`")
            .replace(r"[^a-zA-Z0-9\-_]")
            .forbidden_prefixes(["zeus"])
            .forbidden_texts(["http://"])
    }

    const SEED: &str = "ACME-System-15.0.0-0.0.39-full-1slot";

    #[test]
    fn composed_names_follow_the_rules() {
        let name = compose_name(SEED, "FNH6PZTR0", &rules()).unwrap();
        assert_eq!(name, "ACME-System-15-0-0-0-0-39-full-1slot-FNH6PZTR0");
        let lower = rules()
            .maximum_length(63)
            .pattern("[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
            .replace("[^a-z0-9-]")
            .letter_case(LetterCase::Lower);
        let name = compose_name(SEED, "6XP6LP603", &lower).unwrap();
        assert_eq!(name, "acme-system-15-0-0-0-0-39-full-1slot-6xp6lp603");
        let dots = rules().replace(r"[^a-zA-Z0-9\-._]");
        let name = compose_name(SEED, "AN52DHEC8", &dots).unwrap();
        assert_eq!(name, "ACME-System-15.0.0-0.0.39-full-1slot-AN52DHEC8");
    }

    #[test]
    fn a_long_name_loses_its_random_suffix_first() {
        let short = |maximum_length| rules().maximum_length(maximum_length);
        assert_eq!(compose_name("abcdefgh", "123456789", &short(12)).unwrap(), "abcdefgh-123");
        assert_eq!(compose_name("abcdefgh", "123456789", &short(9)).unwrap(), "abcdefgh");
        assert!(compose_name("abcdefgh", "123456789", &short(7)).is_err());
    }

    #[test]
    fn lengths_of_zero_are_no_limit() {
        let free = rules().minimum_length(0).maximum_length(0);
        let seed = "x".repeat(1000);
        assert_eq!(compose_name(&seed, "123456789", &free).unwrap().len(), 1010);
        assert!(check_name("ab", &free).is_ok());
        assert!(check_name("", &NameRules::default()).is_err());
        assert!(check_name("a", &NameRules::default()).is_ok());
    }

    #[test]
    fn chosen_names_are_checked_as_they_are() {
        for (name, part) in [
            ("x", "characters"),
            ("Zeus-x", "start with"),
            ("a-http://b", "contain"),
            ("1abc", "breaks the rule"),
            ("a b", "breaks the rule"),
        ] {
            let error = check_name(name, &rules()).unwrap_err();
            assert!(error.message.contains(part), "{name}: {error}");
        }
        assert!(check_name("my.image-1", &rules()).is_ok());
    }
}
