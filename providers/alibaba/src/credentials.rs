//! Who signs. Asked anew for every attempt of every request, so that a source with expiring keys can
//! hand out fresh ones in the middle of a long upload.
//!
//! Sources, first hit wins: the settings (`ALIBABA_ACCESS_KEY_ID`, …), the environment variables of
//! the vendor's SDKs (`ALIBABA_CLOUD_ACCESS_KEY_ID`, …), those of the OSS tools (`OSS_ACCESS_KEY_ID`, …).

use build_image_plugin_api::{Context, Error, ErrorKind, Result, Secret};

/// Secret settings that hold a key pair and perhaps a token.
const SETTINGS: [&str; 3] =
    ["ALIBABA_ACCESS_KEY_ID", "ALIBABA_ACCESS_KEY_SECRET", "ALIBABA_SECURITY_TOKEN"];
/// Environment variables that hold a key pair and perhaps a token.
const ENVIRONMENT: [[&str; 3]; 2] = [
    [
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_SECURITY_TOKEN",
    ],
    ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"],
];

/// A key pair, with the token that temporary ones need.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) id: Secret,
    pub(crate) secret: Secret,
    pub(crate) token: Option<Secret>,
}

impl Keys {
    /// The text with every part of the keys made unreadable; for what servers echo.
    pub(crate) fn hide(&self, text: &str) -> String {
        let parts = [Some(&self.secret), self.token.as_ref(), Some(&self.id)];
        parts
            .into_iter()
            .flatten()
            .map(Secret::reveal)
            .filter(|part| part.len() > 3)
            .fold(text.to_owned(), |text, part| text.replace(part, "…"))
    }
}

/// Where keys come from.
pub(crate) enum Credentials {
    /// The provider's secret settings.
    Settings(Context),
}

impl Credentials {
    /// The keys to sign the next attempt with.
    ///
    /// # Errors
    /// `auth` when no source has any, `config` when one half of a pair is missing.
    pub(crate) fn current(&self) -> Result<Keys> {
        match self {
            Self::Settings(context) => from_settings(context),
        }
    }

    /// Whether there are other keys now than those that were refused.
    pub(crate) fn renew(&self, refused: &Keys) -> bool {
        self.current().is_ok_and(|now| (&now.id, &now.token) != (&refused.id, &refused.token))
    }
}

fn from_settings(context: &Context) -> Result<Keys> {
    let read = |key: &str| Ok(context.secret(key)?.filter(|text| !text.reveal().is_empty()));
    let [id, secret, token] = SETTINGS;
    if let Some(keys) = pair([id, secret], read(id)?, read(secret)?, || read(token))? {
        return Ok(keys);
    }
    for [id, secret, token] in ENVIRONMENT {
        let found = pair([id, secret], variable(id), variable(secret), || Ok(variable(token)))?;
        if let Some(keys) = found {
            return Ok(keys);
        }
    }
    Err(Error::new(ErrorKind::Auth, "no access key was found").with_hint(
        "set ALIBABA_ACCESS_KEY_ID and ALIBABA_ACCESS_KEY_SECRET, or the environment variables \
         ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    ))
}

fn pair(
    names: [&str; 2],
    id: Option<Secret>,
    secret: Option<Secret>,
    token: impl FnOnce() -> Result<Option<Secret>>,
) -> Result<Option<Keys>> {
    let half = |have: &str, lack: &str| {
        Error::config(format!("`{have}` is set but `{lack}` is not"))
            .with_hint(format!("set {lack} too, or neither"))
    };
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Some(Keys { id, secret, token: token()? })),
        (Some(_), None) => Err(half(names[0], names[1])),
        (None, Some(_)) => Err(half(names[1], names[0])),
        (None, None) => Ok(None),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one door")]
fn variable(name: &str) -> Option<Secret> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use build_image_plugin_api::testing::MockHost;

    use super::*;

    #[test]
    fn settings_win_and_bring_their_token() {
        let host = MockHost::new()
            .with_secret("ALIBABA_ACCESS_KEY_ID", "an-id")
            .with_secret("ALIBABA_ACCESS_KEY_SECRET", "a-secret")
            .with_secret("ALIBABA_SECURITY_TOKEN", "a-token");
        let keys = Credentials::Settings(Arc::new(host).context()).current().unwrap();
        assert_eq!(keys.id.reveal(), "an-id");
        assert_eq!(keys.secret.reveal(), "a-secret");
        assert_eq!(keys.token.unwrap().reveal(), "a-token");
    }

    #[test]
    fn half_a_pair_names_the_other_half() {
        let host = MockHost::new().with_secret("ALIBABA_ACCESS_KEY_ID", "an-id");
        let error = Credentials::Settings(Arc::new(host).context()).current().unwrap_err();
        assert!(error.message.contains("`ALIBABA_ACCESS_KEY_SECRET` is not"), "{error}");
        assert!(!error.message.contains("an-id"), "{error}");
    }

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
}
