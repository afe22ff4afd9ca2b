//! Parses arguments that are not settings: lists, tags, ages, and times.

use std::{collections::BTreeMap, time::Duration};

use build_image_plugin_api::SettingKind;
use clap::{Arg, ArgAction, ArgMatches};

use crate::{
    clock,
    error::{Error, Result},
};

/// An argument that may be repeated, and whose values may be separated by commas.
pub(super) fn list(name: &'static str, long: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(long).action(ArgAction::Append).value_delimiter(',').help(help)
}

/// An argument with a value.
pub(super) fn value(
    name: &'static str,
    long: &'static str,
    kind: &'static str,
    help: &'static str,
) -> Arg {
    Arg::new(name).long(long).value_name(kind).help(help)
}

/// Returns the texts of an argument, each once.
pub(super) fn texts(words: &ArgMatches, name: &str) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for text in words.get_many::<String>(name).into_iter().flatten() {
        if !text.is_empty() && !texts.contains(text) {
            texts.push(text.clone());
        }
    }
    texts
}

/// Returns the text of an argument.
pub(super) fn text<'a>(words: &'a ArgMatches, name: &str) -> Option<&'a str> {
    words.get_one::<String>(name).map(String::as_str)
}

/// Parses tags: `KEY=VALUE`.
///
/// # Errors
/// For a tag without a key or without `=`.
pub(super) fn tags(words: &ArgMatches, name: &str) -> Result<BTreeMap<String, String>> {
    let parse = |text: String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!("`{text}` is not a tag")).hint("write KEY=VALUE")),
    };
    texts(words, name).into_iter().map(parse).collect()
}

/// Parses an age, such as `30d` or `12h`.
///
/// # Errors
/// For another text.
pub(super) fn age(words: &ArgMatches, name: &str) -> Result<Option<Duration>> {
    let Some(text) = text(words, name) else { return Ok(None) };
    let seconds = SettingKind::Duration.parse_scalar(text);
    match seconds.and_then(Result::ok).and_then(|value| value.as_u64()) {
        Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
        None => {
            Err(Error::usage(format!("`{text}` is not an age"))
                .hint("write for example 30d or 12h"))
        }
    }
}

/// Parses a time of RFC 3339, or an age counted from now on; returns seconds since 1970-01-01 UTC.
///
/// # Errors
/// For another text.
pub(super) fn time(words: &ArgMatches, name: &str) -> Result<Option<u64>> {
    let Some(text) = text(words, name) else { return Ok(None) };
    if let Some(time) = clock::parse(text) {
        return Ok(Some(time));
    }
    match age(words, name) {
        Ok(Some(later)) => Ok(Some(clock::seconds().saturating_add(later.as_secs()))),
        _ => Err(Error::usage(format!("`{text}` is not a time"))
            .hint("write for example 2027-01-31T00:00:00Z, or 30d for in 30 days")),
    }
}
