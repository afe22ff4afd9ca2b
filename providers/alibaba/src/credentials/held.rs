//! Holds the keys in use and keeps them fresh. Every attempt of every request asks for them. They are held
//! until three minutes before they expire, keys without an expiry for a minute, for all steps of a provider's
//! instance.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use build_image_plugin_api::{Context, retry::Failure};
use jiff::{SignedDuration, Timestamp};

use super::{
    Identity, Keys,
    chain::Chain,
    source::{Named, Source},
};

/// Keys that expire earlier than this are fetched again.
const LEFT: SignedDuration = SignedDuration::from_secs(180);
/// Keys without an expiry are looked up again after this time: the user may have changed a file.
const WITHOUT_END: SignedDuration = SignedDuration::from_secs(60);

/// Keys from the first source that has them.
pub(crate) struct Credentials {
    pub(super) chain: Chain,
    fixed: Option<Keys>,
    held: Mutex<Option<Held>>,
    /// One caller fetches, the others wait.
    fetching: tokio::sync::Mutex<()>,
    source_name: Mutex<Option<String>>,
    /// Account the keys belong to, once STS reported it.
    account: Mutex<Option<String>>,
    /// A service issued the last keys and can issue others.
    temporary: AtomicBool,
}

/// Keys and the time until which they are used.
struct Held {
    keys: Keys,
    until: Timestamp,
}

impl Credentials {
    /// The chain for all steps of a provider's instance.
    pub(crate) fn open(context: &Context, identity: &Identity) -> Self {
        Self { chain: Chain::new(context, identity), ..Self::anonymous() }
    }

    /// Always uses these keys.
    pub(crate) fn fixed(keys: Keys) -> Self {
        Self { fixed: Some(keys), ..Self::anonymous() }
    }

    /// No keys; for requests that are not signed.
    pub(crate) fn anonymous() -> Self {
        Self {
            chain: Chain::default(),
            fixed: None,
            held: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            source_name: Mutex::default(),
            account: Mutex::default(),
            temporary: AtomicBool::new(false),
        }
    }

    /// The keys to sign the next attempt with.
    ///
    /// # Errors
    /// `auth` when no source has keys, `config` for incomplete sources.
    pub(crate) async fn current(&self) -> Result<Keys, Failure> {
        if let Some(keys) = self.fixed.clone().or_else(|| self.fresh()) {
            return Ok(keys);
        }
        let _alone = self.fetching.lock().await;
        if let Some(keys) = self.fresh() {
            return Ok(keys);
        }
        let named = self.chain.choose().await?;
        let fetched = self.chain.fetch(&named.source).await?;
        self.log_source(named.name);
        let until = match fetched.ends {
            Some(ends) => ends.checked_sub(LEFT),
            None => Timestamp::now().checked_add(WITHOUT_END),
        };
        self.temporary.store(!matches!(named.source, Source::Here(_)), Ordering::Relaxed);
        let keys = fetched.keys;
        *self.lock() = until.ok().map(|until| Held { keys: keys.clone(), until });
        Ok(keys)
    }

    fn log_source(&self, name: String) {
        let mut source_name = self.source_name.lock().unwrap_or_else(PoisonError::into_inner);
        if source_name.as_deref() != Some(&name) {
            tracing::info!(source = name, "credentials");
            *source_name = Some(name);
        }
    }

    /// The account that the keys belong to, if STS reported it.
    pub(crate) fn account(&self) -> Option<String> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores the account that STS reported.
    pub(crate) fn belong_to(&self, account: &str) {
        *self.account.lock().unwrap_or_else(PoisonError::into_inner) = Some(account.to_owned());
    }

    /// Where the keys came from.
    pub(crate) fn source_name(&self) -> Option<String> {
        self.source_name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether keys other than the refused ones may be available.
    pub(crate) fn renew(&self, refused: &Keys) -> bool {
        if self.fixed.is_some() {
            return false;
        }
        let mut held = self.lock();
        // Another attempt may have fetched new ones in the meantime.
        if held.as_ref().is_some_and(|known| known.keys != *refused) {
            return true;
        }
        *held = None;
        drop(held);
        if self.temporary.load(Ordering::Relaxed) {
            return true;
        }
        match self.chain.without_network() {
            Ok(Some(Named { source: Source::Here(keys), .. })) => keys != *refused,
            _ => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> Option<Keys> {
        let held = self.lock();
        held.as_ref().filter(|held| Timestamp::now() < held.until).map(|held| held.keys.clone())
    }

    /// With the environment of a test.
    #[cfg(test)]
    pub(super) fn within(mut self, environment: super::Environment) -> Self {
        self.chain.environment = environment;
        self
    }
}
