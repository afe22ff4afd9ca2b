//! Parses the parameters of a call: flat names such as `Tag.1.Key`, read from query and form alike. Empty
//! counts as not given; booleans are `true` or `True`.

use sha2::{Digest, Sha256};

use super::error::AcsError;
use crate::ids;

/// Parameters of the protocol rather than of the call.
const PROTOCOL: [&str; 11] = [
    "AccessKeyId",
    "Action",
    "Format",
    "SecurityToken",
    "Signature",
    "SignatureMethod",
    "SignatureNonce",
    "SignatureType",
    "SignatureVersion",
    "Timestamp",
    "Version",
];

/// The parameters of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    /// Builds the parameters from decoded pairs.
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Self {
        Self { pairs }
    }

    /// All pairs as they were received.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// A value that is given and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A value that must be given.
    pub(crate) fn need(&self, name: &str) -> Result<&str, AcsError> {
        self.get(name).ok_or_else(|| AcsError::missing(name))
    }

    /// Whether a boolean is given and true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Indexes in use below a list's name, ascending.
    pub(crate) fn indexes(&self, list: &str) -> Vec<u32> {
        let index = |key: &str| -> Option<u32> {
            let rest = key.strip_prefix(list)?.strip_prefix('.')?;
            rest.split('.').next()?.parse().ok()
        };
        let mut found: Vec<u32> = self
            .pairs
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(key, _)| index(key))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Values of a flat list: `AddAccount.1`, `AddAccount.2`, …
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.indexes(name)
            .into_iter()
            .filter_map(|index| self.get(&format!("{name}.{index}")))
            .collect()
    }

    /// Pairs of `Tag.N.Key` and `Tag.N.Value`.
    pub(crate) fn tags(&self) -> Vec<(String, String)> {
        let field = |index: u32, name: &str| {
            self.get(&format!("Tag.{index}.{name}")).unwrap_or_default().to_owned()
        };
        self.indexes("Tag").into_iter().map(|n| (field(n, "Key"), field(n, "Value"))).collect()
    }

    /// `PageNumber` from 1 and `PageSize` from 1 to 100.
    pub(crate) fn page(&self) -> Result<(usize, usize), AcsError> {
        let number = |name: &str, default: usize, most: usize| match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (1..=most).contains(number))
                .ok_or_else(|| AcsError::invalid("InvalidParameter", name)),
        };
        Ok((number("PageNumber", 1, 1_000_000)?, number("PageSize", 10, 100)?))
    }

    /// Hash of the call's parameters, the same for each attempt.
    pub(crate) fn fingerprint(&self) -> String {
        let mut parameters: Vec<&(String, String)> =
            self.pairs.iter().filter(|(key, _)| !PROTOCOL.contains(&key.as_str())).collect();
        parameters.sort_unstable();
        let mut hash = Sha256::new();
        for (key, value) in parameters {
            hash.update(key.as_bytes());
            hash.update([0]);
            hash.update(value.as_bytes());
            hash.update([0]);
        }
        ids::hex(&hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::Params;
    use crate::auth::encode;

    fn read(text: &str) -> Params {
        Params::new(encode::pairs(text).unwrap())
    }

    #[test]
    fn lists_flags_and_pages_are_read() {
        let params =
            read("Tag.2.Key=b&Tag.10.Key=j&Tag.2.Value=x&DryRun=True&PageSize=100&A.2=&A.1=q");
        assert_eq!(params.tags(), [("b".into(), "x".into()), ("j".into(), String::new())]);
        assert_eq!(params.list("A"), ["q"]);
        assert!(params.flag("DryRun") && !params.flag("Force"));
        assert_eq!(params.page().unwrap(), (1, 100));
        assert!(read("PageSize=101").page().is_err());
        assert_eq!(read("A=").need("A").unwrap_err().code, "MissingParameter");
    }

    #[test]
    fn the_fingerprint_ignores_protocol_and_order() {
        let first = read("A=1&B=2&SignatureNonce=x");
        assert_eq!(first.fingerprint(), read("B=2&A=1&SignatureNonce=y").fingerprint());
        assert_ne!(first.fingerprint(), read("A=1&B=3").fingerprint());
    }
}
