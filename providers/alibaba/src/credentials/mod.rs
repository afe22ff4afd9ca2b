//! Finds key pairs and tokens, and keeps them fresh.

mod assume;
mod chain;
#[cfg(test)]
mod chain_tests;
mod environment;
mod fetch;
mod held;
mod identity;
mod ini;
mod keys;
mod metadata;
mod profile;
mod source;
mod temporary;

pub(crate) use environment::Environment;
pub(crate) use held::Credentials;
pub(crate) use identity::Identity;
pub(crate) use keys::Keys;
pub(crate) use metadata::Metadata;
