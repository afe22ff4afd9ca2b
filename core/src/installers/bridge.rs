//! Converts settings, paths, and errors between the engine and an installer.

use build_image_disk::installer::{Fault, Lookup, Refusal, Settings, Value};

use crate::{
    error::{Error, Stage},
    settings::{Resolved, core_rows},
    source::{Address, not_accepted, redacted},
};

/// Returns all settings that are set, without secrets.
pub(crate) fn values(settings: &Resolved) -> Settings {
    core_rows()
        .iter()
        .filter(|row| !row.setting.secret)
        .filter_map(|row| {
            let value = settings.of(row)?;
            let origin = value.origin.to_string();
            Some((row.key().to_owned(), Value { json: value.json.clone(), origin }))
        })
        .collect()
}

/// Interprets paths as settings that are paths.
pub(crate) struct Paths<'a>(pub(crate) &'a Resolved);

impl Lookup for Paths<'_> {
    fn resolve(&self, text: &str) -> Result<String, String> {
        self.0.resolve_path(text)
    }

    fn url(&self, text: &str) -> Result<Option<String>, String> {
        match Address::of("source", text).map_err(|error| error.message)? {
            Address::Url(url) => Ok(Some(url.to_string())),
            Address::File(_) => Ok(None),
        }
    }

    fn redacted(&self, text: &str) -> String {
        redacted(text)
    }
}

/// Converts the refusal of an installer.
pub(crate) fn refused(refusal: Refusal) -> Error {
    let Refusal { fault, message, problems, causes, hint } = refusal;
    let stage = match fault {
        Fault::Settings => Stage::Settings,
        Fault::Source => Stage::Source,
        Fault::Provider => Stage::Plugin,
        Fault::Unreadable(iso, error) => return not_accepted(&iso, *error),
    };
    Error { problems, causes, hint, ..Error::new(stage, message) }
}
