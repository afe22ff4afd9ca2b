//! What a caller can set before the emulator starts. Defaults serve tests: loopback, a port chosen
//! by the kernel, one account, imports that are finished at once.

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
    /// Reads `ID:SECRET` or `ID:SECRET:TOKEN`; the token may hold further colons.
    ///
    /// # Errors
    /// Tells which part is missing.
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

/// Where objects, images and tasks are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateDir {
    /// A directory that survives the emulator; made when missing.
    Kept(PathBuf),
    /// A fresh directory below the system's temporary directory, removed at the end.
    Temporary,
}

/// A bucket to have from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSeed {
    /// Bucket name.
    pub name: String,
    /// Region id such as `cn-hangzhou`; `None` takes the emulator's default region.
    pub region: Option<String>,
}

impl BucketSeed {
    /// Reads `NAME` or `NAME:REGION`.
    ///
    /// # Errors
    /// Tells what is wrong with the name.
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
    /// DNS names to have certificates for as well, each with all names below it.
    pub names: Vec<String>,
}

/// Everything the emulator needs to know to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Permits an address that is not loopback. Whoever knows a key pair may do everything there.
    pub listen_anywhere: bool,
    /// Serves HTTPS with a CA of its own; `None` serves plain HTTP.
    pub tls: Option<Tls>,
    /// Where state is kept.
    pub state: StateDir,
    /// Region of buckets that name none, and of the first answers of DescribeRegions.
    pub region: String,
    /// Buckets to have from the start.
    pub buckets: Vec<BucketSeed>,
    /// Key pairs that may call. All of them belong to one account.
    pub accounts: Vec<Account>,
    /// How long an image import takes; zero: finished when ImportImage answers.
    pub import_time: Duration,
    /// Whether the role exists from the start that lets ECS read buckets.
    pub import_role: bool,
    /// How long a policy attached to a role takes to be in force.
    pub role_time: Duration,
    /// Longest time temporary keys are good for, whatever was asked; `None` leaves it to the call.
    pub session_time: Option<Duration>,
    /// Whether the metadata service answers without a token (its version 1).
    pub metadata_v1: bool,
    /// Most images per region.
    pub image_quota: usize,
    /// Whether OSS V1 signatures are accepted; new accounts of the real service refuse them.
    pub allow_v1: bool,
    /// Gives parts an ETag made of CRC-64 and length instead of MD5. Saves the slowest step of
    /// receiving a part; the real service's part ETag is the MD5.
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
