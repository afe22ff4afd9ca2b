//! Decides whether a bundle may be published: by which provider, in which regions, until when, and signed by whom.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Document;
use crate::{
    clock,
    error::{Error, Problem, Result, Stage},
    settings::{Resolved, keys},
    signature::{Algorithm, PublicKey, digests_of},
};

/// What the publisher demands of a bundle.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The provider that publishes it.
    pub provider: String,
    /// PEM files of keys, one of which must have signed it; empty = no signature is needed.
    pub keys: Vec<PathBuf>,
}

impl Policy {
    /// Reads it from the settings.
    ///
    /// # Errors
    /// When BUNDLE_KEYS is not a list of paths, or is empty.
    pub fn of(settings: &Resolved) -> Result<Self> {
        let set = settings.core();
        let provider = set.plugins.platform.clone().unwrap_or_default();
        let Some(list) = &set.bundle.keys else { return Ok(Self { provider, keys: Vec::new() }) };
        let setting = keys::BUNDLE_KEYS;
        let keys = texts(list, &setting.to_string())?;
        if keys.is_empty() {
            let text = format!("{setting} is an empty list: no bundle could be published");
            return Err(Error::new(Stage::Settings, text).hint("leave it out, or name a key"));
        }
        let resolve = |text: String| {
            settings
                .resolve_path(&text)
                .map(PathBuf::from)
                .map_err(|what| Error::new(Stage::Settings, format!("{setting}: `{text}` {what}")))
        };
        Ok(Self { provider, keys: keys.into_iter().map(resolve).collect::<Result<_>>()? })
    }

    /// Checks the provider and the expiry.
    ///
    /// # Errors
    /// The first rule that the bundle at `path` breaks.
    pub fn check(&self, document: &Document, path: &Path) -> Result<()> {
        let display = path.display();
        if document.provider != self.provider {
            let (has, wants) = (&document.provider, &self.provider);
            let text = format!("`{display}` is for provider `{has}`, not for `{wants}`");
            return Err(Error::new(Stage::Source, text).hint(format!("give -p {has}")));
        }
        let Some(expires) = &document.expires else { return Ok(()) };
        match clock::is_past(expires) {
            Some(false) => Ok(()),
            Some(true) => {
                let text = format!("`{display}` expired at {expires}");
                Err(Error::new(Stage::Source, text).hint("build it again"))
            }
            None => {
                let text =
                    format!("bundle.json in `{display}` is invalid: `{expires}` is not a time");
                Err(Error::new(Stage::Source, text))
            }
        }
    }

    /// Verifies the signature of `bundle.json`; `signature` is its digest and its bytes. Returns a description of the
    /// result.
    ///
    /// # Errors
    /// When keys are demanded and none of them signed the document, or a key cannot be used.
    pub fn verify(
        &self,
        document: &[u8],
        signature: Option<&(Algorithm, Vec<u8>)>,
        path: &Path,
    ) -> Result<String> {
        let display = path.display();
        if self.keys.is_empty() {
            return Ok("signature not checked".to_owned());
        }
        let Some((algorithm, signature)) = signature else {
            let text = format!("`{display}` is not signed, but {} is set", keys::BUNDLE_KEYS);
            return Err(Error::new(Stage::Source, text).hint(format!(
                "build it with {}, or ask its builder to",
                keys::IMAGE_SIG_PRIVATE_KEY
            )));
        };
        let digests = digests_of(&mut &document[..], &[*algorithm], &mut |_| {
            std::ops::ControlFlow::Continue(())
        })?;
        let digest = digests.get(*algorithm).unwrap_or_default();
        let mut problems = Vec::new();
        for key in &self.keys {
            let shown = key.display();
            let public = PublicKey::read(key)?;
            if public.verifies(*algorithm, digest, signature) {
                return Ok(format!("signature verified with {shown} ({algorithm})"));
            }
            let kind = public.kind();
            problems.push(Problem::new(format!(
                "the {kind} key `{shown}` did not sign it ({algorithm})"
            )));
        }
        let text = format!("`{display}` is not signed by a key of {}", keys::BUNDLE_KEYS);
        Err(Error::several(Stage::Source, text, problems)
            .hint("publish it only if you trust its builder; then add the builder's public key"))
    }
}

/// Checks the regions in which a publisher would create something.
///
/// # Errors
/// When one of them is not among those of the document, or none is known though the document has regions.
pub fn check_regions<'a>(
    document: &Document,
    regions: impl IntoIterator<Item = &'a str>,
    path: &Path,
) -> Result<()> {
    let Some(allowed) = &document.regions else { return Ok(()) };
    let (display, list) = (path.display(), allowed.join(", "));
    let error = |text: String| Err(Error::new(Stage::Source, text));
    let mut is_known = false;
    for region in regions {
        is_known = true;
        if !allowed.iter().any(|one| one == region) {
            return error(format!("`{display}` is for the regions {list}, not for {region}"));
        }
    }
    if is_known {
        return Ok(());
    }
    error(format!(
        "`{display}` is for the regions {list}, and the provider does not report where it registers images"
    ))
}

/// Returns the texts of a list.
///
/// # Errors
/// When an element is not a text; `setting` names the list.
pub(crate) fn texts(list: &Value, setting: &str) -> Result<Vec<String>> {
    let text = |item: &Value| item.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let items = list.as_array().into_iter().flatten();
    items
        .map(|item| {
            text(item).ok_or_else(|| {
                Error::new(Stage::Settings, format!("{setting}: `{item}` is not a text"))
            })
        })
        .collect()
}

/// Returns the time at which a bundle made now expires, for `document.expires`.
///
/// # Errors
/// When that time cannot be represented.
pub fn expiry(after: std::time::Duration) -> Result<String> {
    let setting = keys::BUNDLE_EXPIRES;
    clock::after(after).ok_or_else(|| {
        let text = format!("{setting}: the time after {} seconds does not exist", after.as_secs());
        Error::new(Stage::Settings, text)
    })
}
