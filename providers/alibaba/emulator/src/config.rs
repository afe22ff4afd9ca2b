//! Defines the configuration of the emulator. Defaults are suitable for tests: loopback, a port chosen by the
//! kernel, one account, imports that finish at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// One key pair that may call the emulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Access key id.
    pub id: String,
    /// Access key secret.
    pub secret: String,
    /// Security token which must accompany a temporary key; `None` for a permanent key.
    pub token: Option<String>,
}

impl Account {
    /// Parses `ID:SECRET` or `ID:SECRET:TOKEN`; the token may contain further colons.
    ///
    /// # Errors
    /// States which part is missing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields = text.splitn(3, ':');
        let id = fields.next().filter(|id| !id.is_empty());
        let secret = fields.next().filter(|secret| !secret.is_empty());
        match (id, secret) {
            (Some(id), Some(secret)) => Ok(Self {
                id: id.to_owned(),
                secret: secret.to_owned(),
                token: fields.next().filter(|token| !token.is_empty()).map(str::to_owned),
            }),
            (None, _) => Err("the access key id is empty; write `ID:SECRET[:TOKEN]`".to_owned()),
            (_, None) => Err("the secret is missing; write `ID:SECRET[:TOKEN]`".to_owned()),
        }
    }
}

/// The directory of objects, images, and tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateDir {
    /// A directory that survives the emulator; created when missing.
    Kept(PathBuf),
    /// A fresh directory below the system's temporary directory, removed at the end.
    Temporary,
}

/// A bucket that exists from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSeed {
    /// Bucket name.
    pub name: String,
    /// Region id such as `cn-hangzhou`; `None` means the emulator's default region.
    pub region: Option<String>,
}

impl BucketSeed {
    /// Parses `NAME` or `NAME:REGION`.
    ///
    /// # Errors
    /// States why the name is invalid.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, region) = match text.split_once(':') {
            Some((name, region)) => (name, Some(region.to_owned())),
            None => (text, None),
        };
        if crate::oss::names::is_bucket_name(name) {
            Ok(Self { name: name.to_owned(), region })
        } else {
            Err(format!(
                "`{name}` is no bucket name: 3 to 63 of a-z, 0-9 and `-`, no `-` at the ends"
            ))
        }
    }
}

/// TLS parameters of the emulator. The default has certificates for `localhost`, 127.0.0.1, `::1` and every
/// name below `localhost`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// File to write the CA certificate to; `None` writes `ca.pem` into the state directory.
    pub ca_file: Option<PathBuf>,
    /// Additional DNS names to have certificates for, each with all names below it.
    pub names: Vec<String>,
}

/// The configuration of the emulator.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Permits an address that is not loopback. Anyone who knows a key pair has full access there.
    pub listen_anywhere: bool,
    /// Serves HTTPS with a generated CA; `None` serves plain HTTP.
    pub tls: Option<Tls>,
    /// The state directory.
    pub state: StateDir,
    /// Region of buckets without an explicit one, and of the first answers of DescribeRegions.
    pub region: String,
    /// Buckets that exist from the start.
    pub buckets: Vec<BucketSeed>,
    /// Key pairs that may call. All of them belong to one account.
    pub accounts: Vec<Account>,
    /// Key pairs of a second account, which sees neither images nor buckets of the first.
    pub other_accounts: Vec<Account>,
    /// Duration of an image import; zero: finished when ImportImage answers.
    pub import_time: Duration,
    /// Whether the role with which ECS reads buckets exists from the start.
    pub import_role: bool,
    /// Delay until a policy attached to a role is in force.
    pub role_time: Duration,
    /// Maximum validity of temporary keys, whatever was requested; `None` leaves it to the call.
    pub session_time: Option<Duration>,
    /// Whether the metadata service answers without a token (its version 1).
    pub metadata_v1: bool,
    /// Maximum number of images per region.
    pub image_quota: usize,
    /// Whether OSS V1 signatures are accepted; new accounts of the real service refuse them.
    pub allow_v1: bool,
    /// Gives parts an ETag made of CRC-64 and length instead of MD5. Saves the slowest step of receiving a
    /// part; the real service's part ETag is the MD5.
    pub fast_etags: bool,
    /// File to append one JSON line per request to.
    pub log_requests: Option<PathBuf>,
    /// Fault rules to start with (the JSON text of a rule list).
    pub faults: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            listen_anywhere: false,
            tls: None,
            state: StateDir::Temporary,
            region: "cn-hangzhou".to_owned(),
            buckets: Vec::new(),
            accounts: vec![Account {
                id: "emulator-id".to_owned(),
                secret: "emulator-secret".to_owned(),
                token: None,
            }],
            other_accounts: Vec::new(),
            import_time: Duration::ZERO,
            import_role: true,
            role_time: Duration::ZERO,
            session_time: None,
            metadata_v1: true,
            image_quota: 100,
            allow_v1: true,
            fast_etags: false,
            log_requests: None,
            faults: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, BucketSeed};

    #[test]
    fn accounts_and_buckets_are_read_from_one_word() {
        let account = Account::parse("id:secret:to:ken").unwrap();
        assert_eq!(account.token.as_deref(), Some("to:ken"));
        assert_eq!(Account::parse("id:secret").unwrap().token, None);
        assert!(Account::parse("id").is_err());
        assert!(Account::parse(":secret").is_err());
        assert_eq!(BucketSeed::parse("demo:cn-x").unwrap().region.as_deref(), Some("cn-x"));
        assert!(BucketSeed::parse("-demo").is_err());
    }
}
