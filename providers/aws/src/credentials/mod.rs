//! Provides the keys that sign requests: those of the settings, or those of the vendor's chain (environment, profiles,
//! SSO, web identity, container, process, instance), which is `aws-config`. Keys that end are renewed while an upload is
//! running.

mod connector;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_credential_types::{
    Credentials as Keys,
    provider::{ProvideCredentials as _, SharedCredentialsProvider, error::CredentialsError},
};
use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    retry::{Failure, RetryAction},
};

pub(crate) use connector::Connector;

/// Keys that end earlier than this are fetched again.
const LEFT: Duration = Duration::from_secs(180);
/// Keys without an end are looked up again after this time: the user may have changed a file.
const WITHOUT_END: Duration = Duration::from_secs(60);
/// Longest time of one look-up; a tool that asks the user (`credential_process`) needs some.
const FETCH_LIMIT: Duration = Duration::from_secs(60);
/// The settings that hold keys.
const ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";

/// Where keys come from.
enum Source {
    Fixed(Keys),
    Chain(SharedCredentialsProvider),
}

/// Keys in use, shared by all steps of an instance.
pub(crate) struct Credentials {
    source: Source,
    held: Mutex<Option<(Keys, SystemTime)>>,
    /// One caller fetches, the others wait.
    fetching: tokio::sync::Mutex<()>,
    /// Whether keys were fetched before.
    worked: AtomicBool,
}

/// Returns the keys of the settings.
///
/// # Errors
/// Config error when only one half of the pair is set.
pub(crate) fn of_settings(context: &Context) -> Result<Option<Keys>> {
    let secret = |key: &str| {
        let value = context.secret(key)?;
        Ok::<_, Error>(value.filter(|value| !value.reveal().is_empty()))
    };
    let missing = |absent: &str, present: &str| {
        Err(Error::config(format!("{present} is set, and {absent} is not"))
            .with_hint(format!("set both, or unset {present} to use the vendor's chain")))
    };
    match (secret(ID)?, secret(SECRET)?) {
        (Some(id), Some(key)) => {
            let token = secret(TOKEN)?.map(|token| token.reveal().trim().to_owned());
            let (id, key) = (id.reveal().trim(), key.reveal().trim());
            Ok(Some(Keys::new(id, key, token, None, "settings")))
        }
        (None, None) if secret(TOKEN)?.is_some() => missing(ID, TOKEN),
        (None, None) => Ok(None),
        (Some(_), None) => missing(SECRET, ID),
        (None, Some(_)) => missing(ID, SECRET),
    }
}

impl Credentials {
    /// Always uses these keys.
    pub(crate) fn fixed(keys: Keys) -> Self {
        Self::of(Source::Fixed(keys))
    }

    /// Uses the vendor's chain.
    pub(crate) fn chain(provider: SharedCredentialsProvider) -> Self {
        Self::of(Source::Chain(provider))
    }

    fn of(source: Source) -> Self {
        let (held, fetching) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { source, held, fetching, worked: AtomicBool::new(false) }
    }

    /// Describes where the keys come from.
    pub(crate) const fn source_name(&self) -> &'static str {
        match self.source {
            Source::Fixed(_) => "settings",
            Source::Chain(_) => "the vendor's chain",
        }
    }

    /// Returns the keys to sign the next attempt with.
    ///
    /// # Errors
    /// `auth` when the chain has none; `config` for files that are invalid.
    pub(crate) async fn current(&self) -> Result<Keys, Failure> {
        let provider = match &self.source {
            Source::Fixed(keys) => return Ok(keys.clone()),
            Source::Chain(provider) => provider,
        };
        if let Some(keys) = self.fresh() {
            return Ok(keys);
        }
        let _alone = self.fetching.lock().await;
        if let Some(keys) = self.fresh() {
            return Ok(keys);
        }
        let fetched = tokio::time::timeout(FETCH_LIMIT, provider.provide_credentials()).await;
        let timed_out = |_| Err(CredentialsError::provider_timed_out(FETCH_LIMIT));
        let keys = fetched.unwrap_or_else(timed_out).map_err(|error| {
            let mut failure = not_provided(&error);
            // What worked before may work again soon; what never did is explained by its first error only.
            if !self.worked.load(Ordering::Relaxed) {
                failure.action = RetryAction::GiveUp;
            }
            failure
        })?;
        self.worked.store(true, Ordering::Relaxed);
        let now = SystemTime::now();
        let until = keys.expiry().map_or(now + WITHOUT_END, |end| end - LEFT);
        *self.lock() = Some((keys.clone(), until));
        Ok(keys)
    }

    /// Whether other keys than the refused ones may be had.
    pub(crate) fn renew(&self, refused: &Keys) -> bool {
        if matches!(self.source, Source::Fixed(_)) {
            return false;
        }
        let mut held = self.lock();
        let is_refused = |held: &(Keys, SystemTime)| {
            held.0.access_key_id() == refused.access_key_id()
                && held.0.session_token() == refused.session_token()
        };
        if held.as_ref().is_some_and(is_refused) {
            *held = None;
        }
        true
    }

    fn fresh(&self) -> Option<Keys> {
        let held = self.lock();
        held.as_ref().filter(|held| held.1 > SystemTime::now()).map(|held| held.0.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Keys, SystemTime)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failure of a look-up in the chain.
fn not_provided(error: &CredentialsError) -> Failure {
    const HINT: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or log in with: aws sso login";
    let failed = |kind, message: &str| Error::new(kind, message).caused_by(error).with_hint(HINT);
    match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            Failure::stop(failed(ErrorKind::Auth, "no credentials were found"))
        }
        CredentialsError::InvalidConfiguration(_) => {
            Failure::stop(failed(ErrorKind::Config, "the source of the credentials is invalid"))
        }
        CredentialsError::ProviderTimedOut(_) => Failure::network(failed(
            ErrorKind::Timeout,
            "the source of the credentials did not answer in time",
        )),
        _ => Failure::network(failed(ErrorKind::Auth, "the credentials could not be fetched")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use aws_credential_types::provider::future;
    use build_image_plugin_api::testing::MockHost;

    use super::*;

    /// Provides keys that end after the given time, another pair each time.
    #[derive(Debug)]
    struct Counting(Arc<AtomicUsize>, Duration);

    impl aws_credential_types::provider::ProvideCredentials for Counting {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            let end = SystemTime::now() + self.1;
            let keys = Keys::new(format!("AKIA{number}"), "s", None, Some(end), "test");
            future::ProvideCredentials::ready(Ok(keys))
        }
    }

    fn keys_of(credentials: &Credentials) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(credentials.current()).unwrap().access_key_id().to_owned()
    }

    #[test]
    fn keys_are_kept_until_shortly_before_their_end_and_fetched_again_after_a_refusal() {
        for (lifetime, again) in [(3600, "AKIA0"), (100, "AKIA1")] {
            let count = Arc::new(AtomicUsize::new(0));
            let provider = Counting(Arc::clone(&count), Duration::from_secs(lifetime));
            let credentials = Credentials::chain(SharedCredentialsProvider::new(provider));
            assert_eq!(keys_of(&credentials), "AKIA0");
            assert_eq!(keys_of(&credentials), again);
            let last = Keys::new(again, "s", None, None, "test");
            assert!(credentials.renew(&last));
            assert_ne!(keys_of(&credentials), again);
        }
    }

    #[test]
    fn keys_of_the_settings_cannot_be_renewed() {
        let keys = Keys::new("AKIA", "s", None, None, "settings");
        let credentials = Credentials::fixed(keys.clone());
        assert!(!credentials.renew(&keys));
        assert_eq!(keys_of(&credentials), "AKIA");
    }

    #[test]
    fn half_a_key_pair_names_the_other_half() {
        for (present, absent) in [(ID, SECRET), (SECRET, ID), (TOKEN, ID)] {
            let host = [ID, SECRET, TOKEN].iter().fold(MockHost::new(), |host, key| {
                host.with_secret(key, if *key == present { "value-1" } else { "" })
            });
            let host = Arc::new(host);
            let error = of_settings(&host.context()).unwrap_err();
            assert_eq!(error.message, format!("{present} is set, and {absent} is not"));
        }
    }
}
