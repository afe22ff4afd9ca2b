//! Defines the sources of keys, as far as they can be determined without the network.

use std::path::PathBuf;

use super::Keys;

/// Where keys come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Keys that are given directly.
    Here(Keys),
    /// Assumes a role with the keys of another source.
    Role(Box<Source>, Role),
    /// Assumes a role with a token file of an identity provider.
    Oidc { provider: String, token_file: PathBuf, role: Role },
    /// The role of the instance this runs on; its name if it is known.
    Instance(Option<String>),
    /// A service that issues keys.
    Uri(String),
}

/// A role and how it is assumed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Role {
    pub(crate) arn: String,
    pub(crate) session: Option<String>,
    pub(crate) seconds: Option<u64>,
    pub(crate) policy: Option<String>,
    pub(crate) external_id: Option<String>,
    /// Region of the STS endpoint.
    pub(crate) region: Option<String>,
}

/// A source with its display name.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) source: Source,
}

impl Named {
    pub(crate) fn new(name: impl Into<String>, source: Source) -> Self {
        Self { name: name.into(), source }
    }
}
