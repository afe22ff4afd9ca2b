//! Defines the order in which sources of keys are tried.
//!
//! The first source that has keys is used: the settings, the profile that the settings name, the environment
//! (of the vendor's libraries, then of the OSS tools), an identity provider's token, the profile of the
//! vendor's command line, the INI file, a credentials service, the role of the instance.

use std::sync::atomic::{AtomicBool, Ordering};

use build_image_plugin_api::{Context, Error, ErrorKind, Result, Secret, retry::Failure};

use super::{
    Environment, Identity, Keys, Metadata, ini, profile,
    source::{Named, Role, Source},
};

/// Secret settings that hold a key pair and optionally a token.
const SETTINGS: [&str; 3] =
    ["ALIBABA_ACCESS_KEY_ID", "ALIBABA_ACCESS_KEY_SECRET", "ALIBABA_SECURITY_TOKEN"];
/// Environment variables that hold a key pair and optionally a token.
const ENVIRONMENT: [[&str; 3]; 2] = [
    [
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_SECURITY_TOKEN",
    ],
    ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"],
];

/// All places that keys may come from.
#[derive(Default)]
pub(super) struct Chain {
    pub(super) context: Option<Context>,
    pub(super) identity: Identity,
    pub(super) environment: Environment,
    /// This machine is not an instance; asking again would cost a second each time.
    no_instance: AtomicBool,
}

impl Chain {
    /// The chain of one provider instance.
    pub(super) fn new(context: &Context, identity: &Identity) -> Self {
        Self { context: Some(context.clone()), identity: identity.clone(), ..Self::default() }
    }

    /// The first source that has keys.
    ///
    /// # Errors
    /// `auth` when no source has keys, `config` for incomplete sources.
    pub(super) async fn choose(&self) -> Result<Named, Failure> {
        if let Some(named) = self.without_network()? {
            return Ok(named);
        }
        if !self.no_instance.load(Ordering::Relaxed)
            && let Some(metadata) = self.metadata()?
        {
            match metadata.role().await {
                Ok(Some(role)) => {
                    let name = format!("role `{role}` of this instance");
                    return Ok(Named::new(name, Source::Instance(Some(role))));
                }
                Ok(None) => {}
                Err(failure) => tracing::debug!(error = %failure.error, "no metadata service"),
            }
            self.no_instance.store(true, Ordering::Relaxed);
        }
        Err(Failure::stop(Error::new(ErrorKind::Auth, "no access key was found").with_hint(
            "set ALIBABA_ACCESS_KEY_ID and ALIBABA_ACCESS_KEY_SECRET, or ALIBABA_PROFILE to a profile \
             of the vendor's command line, or the environment variables ALIBABA_CLOUD_ACCESS_KEY_ID and \
             ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        )))
    }

    /// The metadata service of the instance this may run on.
    pub(super) fn metadata(&self) -> Result<Option<Metadata>> {
        Metadata::open(self.identity.metadata.as_deref(), &self.environment)
    }

    /// The first source that can be determined without the network.
    pub(super) fn without_network(&self) -> Result<Option<Named>> {
        let get = |name: &str| self.environment.get(name);
        if let Some(context) = &self.context {
            let read = |key: &str| -> Result<Option<Secret>> {
                Ok(context.secret(key)?.filter(|text| !text.reveal().is_empty()))
            };
            let [id, secret, token] = SETTINGS;
            if let Some(keys) = Keys::pair([id, secret], read(id)?, read(secret)?, read(token)?)? {
                return Ok(Some(Named::new("the settings", Source::Here(keys))));
            }
        }
        if let Some(profile) = self.identity.profile.as_deref() {
            return self.profile(Some(profile)).map(Some);
        }
        for [id, secret, token] in ENVIRONMENT {
            let read = |name| get(name).map(Secret::new);
            if let Some(keys) = Keys::pair([id, secret], read(id), read(secret), read(token))? {
                let name = format!("environment variable `{id}`");
                return Ok(Some(Named::new(name, Source::Here(keys))));
            }
        }
        let oidc = (get("ALIBABA_CLOUD_OIDC_TOKEN_FILE"), get("ALIBABA_CLOUD_OIDC_PROVIDER_ARN"));
        if let ((Some(file), Some(provider)), Some(arn)) = (oidc, get("ALIBABA_CLOUD_ROLE_ARN")) {
            let session = get("ALIBABA_CLOUD_ROLE_SESSION_NAME");
            let role = Role { arn, session, ..Role::default() };
            let source = Source::Oidc { provider, token_file: file.into(), role };
            return Ok(Some(Named::new("identity provider token file", source)));
        }
        if let Some(named) = self.files()? {
            return Ok(Some(named));
        }
        let uri = get("ALIBABA_CLOUD_CREDENTIALS_URI").map(Source::Uri);
        Ok(uri.map(|source| Named::new("credentials service", source)))
    }

    /// The source that the files in the user's home directory describe.
    fn files(&self) -> Result<Option<Named>> {
        let chosen = self.environment.get("ALIBABA_CLOUD_PROFILE");
        if !self.environment.is_true("ALIBABA_CLOUD_CLI_PROFILE_DISABLED")
            && let Some((path, text)) = self.config_file()?
            && let Some((name, source)) = profile::source(&text, chosen.as_deref(), &path)?
        {
            return Ok(Some(Named::new(format!("profile `{name}` of `{path}`"), source)));
        }
        let path = self.environment.get("ALIBABA_CLOUD_CREDENTIALS_FILE").map(Into::into);
        let Some(path) = path.or_else(|| self.environment.in_home(".alibabacloud/credentials"))
        else {
            return Ok(None);
        };
        let Some((path, text)) = read(&path)? else { return Ok(None) };
        let section = chosen.as_deref().unwrap_or("default");
        let source = ini::source(&text, section, &path)?;
        Ok(source.map(|source| Named::new(format!("section `{section}` of `{path}`"), source)))
    }

    fn profile(&self, wanted: Option<&str>) -> Result<Named> {
        let missing_error = || {
            let name = wanted.unwrap_or_default();
            Error::config(format!("there is no file with profile `{name}`")).with_hint(
                "write it with: aliyun configure, or name the file in ALIBABA_CONFIG_FILE",
            )
        };
        let (path, text) = self.config_file()?.ok_or_else(missing_error)?;
        let (name, source) = profile::source(&text, wanted, &path)?.ok_or_else(missing_error)?;
        Ok(Named::new(format!("profile `{name}` of `{path}`"), source))
    }

    fn config_file(&self) -> Result<Option<(String, String)>> {
        let chosen = self.identity.config_file.clone().map(Into::into);
        let path = chosen
            .or_else(|| self.environment.get("ALIBABA_CLOUD_CONFIG_FILE").map(Into::into))
            .or_else(|| self.environment.in_home(".aliyun/config.json"));
        path.map_or(Ok(None), |path: std::path::PathBuf| read(&path))
    }
}

/// A file's name and text; `None` when it does not exist.
fn read(path: &std::path::Path) -> Result<Option<(String, String)>> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((name, text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(ErrorKind::Auth, format!("cannot read `{name}`"))
            .caused_by(&error)
            .with_hint("check the file's permissions")),
    }
}
