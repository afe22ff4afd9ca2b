//! Parses temporary keys as STS, the metadata service, and credential services return them.

use build_image_plugin_api::{Error, ErrorKind, Secret, retry::Failure};
use jiff::Timestamp;
use serde::Deserialize;

use super::Keys;

/// Keys and their expiry.
#[derive(Clone, Debug)]
pub(crate) struct Temporary {
    pub(crate) keys: Keys,
    pub(crate) ends: Option<Timestamp>,
}

/// The members all of these services use.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Written {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: String,
    /// `Success`, if present.
    code: String,
}

impl Written {
    /// The keys.
    ///
    /// # Errors
    /// When the answer contains no keys; `what` names the service that returned it.
    pub(crate) fn keys(self, what: &str) -> Result<Temporary, Failure> {
        let whole = !self.access_key_id.is_empty() && !self.access_key_secret.is_empty();
        if !whole || !matches!(self.code.as_str(), "" | "Success") {
            let message = format!("{what} has no keys in its answer");
            let error = Error::new(ErrorKind::Auth, message).with_context("code", self.code);
            return Err(Failure::stop(error.with_hint(
                "check the role, or set ALIBABA_ACCESS_KEY_ID and ALIBABA_ACCESS_KEY_SECRET",
            )));
        }
        let token = Some(self.security_token).filter(|token| !token.is_empty()).map(Secret::new);
        let keys = Keys {
            id: Secret::new(self.access_key_id),
            secret: Secret::new(self.access_key_secret),
            token,
        };
        Ok(Temporary { keys, ends: self.expiration.parse().ok() })
    }
}
