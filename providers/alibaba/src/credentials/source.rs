//! A source of keys, as far as it can be told without the network.

use std::path::PathBuf;

use super::Keys;

/// Where keys come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// They are here.
    Here(Keys),
    /// Keys of another source assume a role.
    Role(Box<Source>, Role),
    /// A token file of an identity provider stands for a role.
    Oidc { provider: String, token_file: PathBuf, role: Role },
    /// The role of the instance this runs on; its name if it is known.
    Instance(Option<String>),
    /// A service that hands them out.
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

/// A source with the name it is shown by.
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
