//! Identifies the user and the machine of a build, for tags and records.

use super::env::Environment;

/// The user and the machine of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Builder {
    /// Name of this machine.
    pub host: String,
    /// Name of the user, or the numeric user id.
    pub user: String,
    /// Timestamp of archives, seconds since 1970: `SOURCE_DATE_EPOCH`, else 0.
    pub date: u64,
    /// `pipeline` where the variable `CI` is set, else `local`.
    pub kind: &'static str,
}

impl Builder {
    /// Reads them from this machine and the environment.
    #[must_use]
    pub fn of(environment: &Environment) -> Self {
        let user = environment.get("USER").filter(|name| !name.is_empty());
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            user: user
                .map_or_else(|| rustix::process::getuid().as_raw().to_string(), str::to_owned),
            date: environment
                .get("SOURCE_DATE_EPOCH")
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or_default(),
            kind: if environment.get("CI").is_some() { "pipeline" } else { "local" },
        }
    }
}
