//! The order in which keys are looked for, and how temporary ones stay fresh. Asked anew for every
//! attempt of every request; keys with an end are kept until three minutes before it.
//!
//! Order, first hit wins: the settings, the profile the settings name, the environment (of the vendor's
//! libraries, then of the OSS tools), an identity provider's token, the profile of the vendor's command
//! line, the INI file, a credentials service, the role of the instance.

use std::{
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use build_image_plugin_api::{Context, Error, ErrorKind, Result, Secret};
use jiff::{Timestamp, ToSpan as _};

use super::{
    Environment, Identity, Keys, Metadata, assume, ini, profile,
    source::{Named, Role, Source},
    temporary::Temporary,
};
use crate::{endpoint::Endpoint, error::Failure};

/// Keys that end earlier than this are fetched anew.
const LEFT: i64 = 180;
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

/// Keys from wherever there are some.
pub(crate) struct Credentials {
    context: Option<Context>,
    identity: Identity,
    pub(super) environment: Environment,
    fixed: Option<Keys>,
    held: Mutex<Option<Temporary>>,
    /// One fetches, the others wait.
    fetching: tokio::sync::Mutex<()>,
    shown: Mutex<Option<String>>,
    /// This is no instance; asking again would cost a second each time.
    no_instance: AtomicBool,
}

impl Credentials {
    /// The chain for a step.
    pub(crate) fn open(context: &Context, identity: &Identity) -> Self {
        Self { context: Some(context.clone()), identity: identity.clone(), ..Self::nobody() }
    }

    /// Always these keys.
    pub(crate) fn fixed(keys: Keys) -> Self {
        Self { fixed: Some(keys), ..Self::nobody() }
    }

    /// No keys; for requests that are not signed.
    pub(crate) fn nobody() -> Self {
        Self {
            context: None,
            identity: Identity::default(),
            environment: Environment::default(),
            fixed: None,
            held: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            shown: Mutex::default(),
            no_instance: AtomicBool::new(false),
        }
    }

    /// The keys to sign the next attempt with.
    ///
    /// # Errors
    /// `auth` when no source has any, `config` for sources that are not whole.
    pub(crate) async fn current(&self) -> Result<Keys, Failure> {
        if let Some(keys) = self.fixed.clone().or_else(|| self.fresh()) {
            return Ok(keys);
        }
        let _alone = self.fetching.lock().await;
        if let Some(keys) = self.fresh() {
            return Ok(keys);
        }
        let named = self.choose().await?;
        let fetched = self.fetch(&named.source).await?;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_deref() != Some(&named.name) {
            tracing::info!(source = named.name, "credentials");
            *shown = Some(named.name);
        }
        drop(shown);
        if fetched.ends.is_some() {
            *self.lock() = Some(fetched.clone());
        }
        Ok(fetched.keys)
    }

    /// Where the keys came from.
    pub(crate) fn shown(&self) -> Option<String> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there may be other keys than those that were refused.
    pub(crate) fn renew(&self, refused: &Keys) -> bool {
        let mut held = self.lock();
        if let Some(known) = held.as_ref() {
            // Somebody else may have fetched new ones meanwhile.
            if known.keys == *refused {
                *held = None;
            }
            return true;
        }
        drop(held);
        match self.without_network() {
            Ok(Some(Named { source: Source::Here(keys), .. })) => keys != *refused,
            _ => false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Temporary>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> Option<Keys> {
        let held = self.lock();
        let held = held.as_ref()?;
        let until = held.ends?.checked_sub(LEFT.seconds()).ok()?;
        (Timestamp::now() < until).then(|| held.keys.clone())
    }

    async fn choose(&self) -> Result<Named, Failure> {
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

    fn metadata(&self) -> Result<Option<Metadata>> {
        Metadata::open(self.identity.metadata.as_deref(), &self.environment)
    }

    /// The first source that can be told without asking anybody.
    fn without_network(&self) -> Result<Option<Named>> {
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

    /// What the files in the user's folder say.
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
        let missing = || {
            let name = wanted.unwrap_or_default();
            Error::config(format!("there is no file with profile `{name}`")).with_hint(
                "write it with: aliyun configure, or name the file in ALIBABA_CONFIG_FILE",
            )
        };
        let (path, text) = self.config_file()?.ok_or_else(missing)?;
        let (name, source) = profile::source(&text, wanted, &path)?.ok_or_else(missing)?;
        Ok(Named::new(format!("profile `{name}` of `{path}`"), source))
    }

    fn config_file(&self) -> Result<Option<(String, String)>> {
        let chosen = self.identity.config_file.clone().map(Into::into);
        let path = chosen
            .or_else(|| self.environment.get("ALIBABA_CLOUD_CONFIG_FILE").map(Into::into))
            .or_else(|| self.environment.in_home(".aliyun/config.json"));
        path.map_or(Ok(None), |path: std::path::PathBuf| read(&path))
    }

    async fn fetch(&self, source: &Source) -> Result<Temporary, Failure> {
        match source {
            Source::Here(keys) => Ok(Temporary { keys: keys.clone(), ends: None }),
            Source::Role(base, role) => {
                let base = Box::pin(self.fetch(base)).await?;
                let sts = self.sts(role)?;
                // A signed call asks for keys in its turn.
                let assumed: Pin<Box<dyn Future<Output = _> + '_>> =
                    Box::pin(assume::role(&sts, base.keys, role));
                assumed.await
            }
            Source::Oidc { provider, token_file, role } => {
                assume::oidc(&self.sts(role)?, provider, token_file, role).await
            }
            Source::Uri(address) => assume::uri(address).await,
            Source::Instance(role) => {
                let none = || {
                    Failure::stop(
                        Error::new(ErrorKind::Auth, "this instance has no role")
                            .with_hint("attach a RAM role to the instance"),
                    )
                };
                let metadata = self.metadata()?.ok_or_else(none)?;
                let role = match role {
                    Some(role) => role.clone(),
                    None => match self.environment.get("ALIBABA_CLOUD_ECS_METADATA") {
                        Some(role) => role,
                        None => metadata.role().await?.ok_or_else(none)?,
                    },
                };
                metadata.keys(&role).await
            }
        }
    }

    fn sts(&self, role: &Role) -> Result<Endpoint> {
        let region =
            role.region.clone().or_else(|| self.environment.get("ALIBABA_CLOUD_STS_REGION"));
        let vpc = self.environment.is_true("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED");
        Endpoint::sts_in(self.identity.sts.as_deref(), region.as_deref(), vpc)
    }

    /// With the environment of a test.
    #[cfg(test)]
    pub(super) fn within(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }
}

/// A file's name and text; nothing when it is not there.
fn read(path: &std::path::Path) -> Result<Option<(String, String)>> {
    let shown = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((shown, text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(ErrorKind::Auth, format!("cannot read `{shown}`"))
            .because(&error)
            .with_hint("check the file's permissions")),
    }
}
