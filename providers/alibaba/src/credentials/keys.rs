//! Defines a key pair, with the token that temporary keys need.

use build_image_plugin_api::{Error, Result, Secret};

/// A key pair, with the token that temporary keys need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) id: Secret,
    pub(crate) secret: Secret,
    pub(crate) token: Option<Secret>,
}

impl Keys {
    /// The text with every part of the keys redacted; for text that servers echo.
    pub(crate) fn hide(&self, text: &str) -> String {
        let parts = [Some(&self.secret), self.token.as_ref(), Some(&self.id)];
        parts
            .into_iter()
            .flatten()
            .map(Secret::reveal)
            .filter(|part| part.len() > 3)
            .fold(text.to_owned(), |text, part| text.replace(part, "…"))
    }

    /// Builds keys from their parts; `None` when both halves are missing.
    ///
    /// # Errors
    /// Config error when one half of the pair is missing; `names` are those of the two halves.
    pub(crate) fn pair(
        names: [&str; 2],
        id: Option<Secret>,
        secret: Option<Secret>,
        token: Option<Secret>,
    ) -> Result<Option<Self>> {
        let half = |have: &str, lack: &str| {
            Error::config(format!("`{have}` is set but `{lack}` is not"))
                .with_hint(format!("set {lack} too, or neither"))
        };
        match (id, secret) {
            (Some(id), Some(secret)) => Ok(Some(Self { id, secret, token })),
            (Some(_), None) => Err(half(names[0], names[1])),
            (None, Some(_)) => Err(half(names[1], names[0])),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cut_out_of_what_a_server_echoes() {
        let keys = Keys {
            id: Secret::new("LTAI0000"),
            secret: Secret::new("deep-secret"),
            token: Some(Secret::new("tok-en")),
        };
        let text = keys.hide("key LTAI0000 with deep-secret and tok-en");
        assert_eq!(text, "key … with … and …");
        assert!(!format!("{keys:?}").contains("deep-secret"));
    }

    #[test]
    fn half_a_pair_names_the_other_half() {
        let error = Keys::pair(["A", "B"], Some(Secret::new("an-id")), None, None).unwrap_err();
        assert!(error.message.contains("`B` is not"), "{error}");
        assert!(!error.message.contains("an-id"), "{error}");
    }
}
