//! Parses the settings into types. It makes no requests; `check` verifies the values against the cloud.

use std::{collections::BTreeMap, time::Duration};

use build_image_plugin_api::{Error, Result, Settings};
use serde_json::Value;

use crate::{
    attributes::Attributes,
    delta,
    partition::Api,
    settings::{COPIES, COPY_KEYS, SHARE, SHARE_ORGANIZATIONS, SHARE_UNITS},
};

/// How the disk reaches the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// EBS direct APIs.
    Ebs,
    /// A bucket and an import task.
    S3,
}

/// How often and how long a task is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Polls {
    /// Longest pause between two looks.
    pub(crate) delay: Duration,
    /// Longest time in all.
    pub(crate) limit: Duration,
    /// The middle of the settings' names.
    pub(crate) setting: &'static str,
}

/// Whom the image is shared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Audience {
    /// Account ids.
    pub(crate) accounts: Vec<String>,
    /// ARNs of organizations.
    pub(crate) organizations: Vec<String>,
    /// ARNs of organizational units.
    pub(crate) units: Vec<String>,
    /// Every account.
    pub(crate) public: bool,
}

impl Audience {
    /// Whether the owner alone may use the image.
    pub(crate) const fn is_empty(&self) -> bool {
        self.accounts.is_empty()
            && self.organizations.is_empty()
            && self.units.is_empty()
            && !self.public
    }
}

/// Everything that the user configured.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) region: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) ca_bundle: Option<String>,
    /// URL of every service, if the user chose one.
    endpoint: Option<String>,
    /// URLs of single services.
    endpoints: BTreeMap<Api, String>,
    pub(crate) way: Way,
    pub(crate) bucket: Option<String>,
    pub(crate) prefix: String,
    pub(crate) keep_object: bool,
    pub(crate) role: String,
    pub(crate) encrypted: bool,
    pub(crate) kms_key: Option<String>,
    /// Minutes without a block after which the vendor gives up a snapshot.
    pub(crate) snapshot_minutes: u64,
    pub(crate) concurrency: usize,
    pub(crate) delta: delta::Options,
    pub(crate) import: Polls,
    pub(crate) image: Polls,
    pub(crate) attributes: Attributes,
    pub(crate) audience: Audience,
    pub(crate) replace: bool,
    /// Regions of copies, each once.
    pub(crate) copy_regions: Vec<String>,
    pub(crate) copy_keys: BTreeMap<String, String>,
    pub(crate) deprecate_after: Option<Duration>,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Config errors naming the key.
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let text =
            |key: &str| settings.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
        let way = if settings.text("AWS_UPLOAD") == Some("s3") { Way::S3 } else { Way::Ebs };
        let kms_key = text("AWS_KMS_KEY_ID");
        check_key(way, kms_key.as_deref())?;
        let concurrency = settings.integer("AWS_UPLOAD_CONCURRENCY").unwrap_or(32).clamp(1, 999);
        Ok(Self {
            region: text("AWS_REGION"),
            profile: text("AWS_PROFILE"),
            ca_bundle: text("AWS_CA_BUNDLE"),
            endpoint: text("AWS_ENDPOINT_URL")
                .map(|url| endpoint("AWS_ENDPOINT_URL", &url))
                .transpose()?,
            endpoints: endpoints(settings)?,
            way,
            bucket: text("AWS_BUCKET"),
            prefix: prefix(text("AWS_S3_PREFIX").unwrap_or_default())?,
            keep_object: settings.boolean("AWS_KEEP_S3_OBJECT"),
            role: text("AWS_IMPORT_ROLE_NAME").unwrap_or_else(|| "vmimport".to_owned()),
            encrypted: settings.boolean("AWS_ENCRYPTED") || kms_key.is_some(),
            kms_key,
            snapshot_minutes: snapshot_minutes(settings)?,
            concurrency: usize::try_from(concurrency).unwrap_or(32),
            delta: delta::Options::read(settings),
            import: polls(settings, "IMPORT_SNAPSHOT_TASK", 120, 30),
            image: polls(settings, "CREATE_IMAGE", 40, 30),
            attributes: Attributes::read(settings)?,
            audience: Audience {
                accounts: accounts(settings)?,
                organizations: arns(settings, SHARE_ORGANIZATIONS, ":organization/")?,
                units: arns(settings, SHARE_UNITS, ":ou/")?,
                public: settings.text("AWS_IMAGE_VISIBILITY") == Some("public"),
            },
            replace: settings.text("AWS_IF_EXISTS") == Some("replace"),
            copy_regions: copy_regions(settings)?,
            copy_keys: settings.parsed(COPY_KEYS)?,
            deprecate_after: deprecate_after(settings)?,
        })
    }

    /// Returns the URL that the user chose for a service.
    pub(crate) fn endpoint_of(&self, api: Api) -> Option<&str> {
        self.endpoints.get(&api).or(self.endpoint.as_ref()).map(String::as_str)
    }

    /// Returns the bucket of the second way.
    ///
    /// # Errors
    /// Config error when none is set.
    pub(crate) fn bucket(&self) -> Result<&str> {
        self.bucket.as_deref().ok_or_else(|| {
            Error::config("`AWS_BUCKET` is not set, and AWS_UPLOAD is `s3`")
                .with_hint("set AWS_BUCKET, or unset AWS_UPLOAD: EBS direct needs no bucket")
        })
    }
}

/// EBS direct takes no alias and no id.
fn check_key(way: Way, key: Option<&str>) -> Result<()> {
    match key {
        Some(key) if way == Way::Ebs && !(key.starts_with("arn:") && key.contains(":key/")) => {
            Err(Error::config(format!("AWS_KMS_KEY_ID is `{key}`, not the ARN of a key"))
                .with_hint(format!("write what this prints: aws kms describe-key --key-id {key} --query KeyMetadata.Arn --output text")))
        }
        _ => Ok(()),
    }
}

/// Returns the age at which the image is deprecated; the vendor permits ten years, and two for public images.
fn deprecate_after(settings: &Settings) -> Result<Option<Duration>> {
    const YEAR: u64 = 365 * 86_400;
    let years = if settings.text("AWS_IMAGE_VISIBILITY") == Some("public") { 2 } else { 10 };
    match settings.integer("AWS_DEPRECATE_AFTER") {
        Some(seconds) if seconds > years * YEAR => Err(Error::config(format!(
            "AWS_DEPRECATE_AFTER is {} days, more than {years} years",
            seconds / 86_400
        ))
        .with_hint(format!("write at most `{}d`", years * 365))),
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

/// Returns the account ids to share the image with; the vendor's ids have twelve digits.
pub(crate) fn accounts(settings: &Settings) -> Result<Vec<String>> {
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let ids: Vec<String> = settings.parsed::<Vec<Value>>(SHARE)?.into_iter().map(text).collect();
    let is_id = |id: &String| id.len() == 12 && id.bytes().all(|digit| digit.is_ascii_digit());
    match ids.iter().find(|id| !is_id(id)) {
        Some(invalid) => Err(Error::config(format!("{SHARE}: `{invalid}` is not an account id"))
            .with_hint("account ids have twelve digits; quote those that start with 0")),
        None => Ok(once(ids)),
    }
}

/// Drops repeated texts.
fn once(texts: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(texts.len());
    for text in texts {
        if !kept.contains(&text) {
            kept.push(text);
        }
    }
    kept
}

fn arns(settings: &Settings, key: &str, part: &str) -> Result<Vec<String>> {
    let all: Vec<String> = settings.parsed(key)?;
    match all.iter().find(|arn| !arn.starts_with("arn:") || !arn.contains(part)) {
        Some(invalid) => Err(Error::config(format!("{key}: `{invalid}` is not such an ARN"))
            .with_hint(format!("write ARNs that contain `{part}`, from: aws organizations describe-organization, or list-organizational-units-for-parent"))),
        None => Ok(once(all)),
    }
}

/// Whether a text has the form of a region.
fn is_region(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.matches('-').count() >= 2
        && text.chars().all(plain)
        && text.ends_with(|c: char| c.is_ascii_digit())
}

fn copy_regions(settings: &Settings) -> Result<Vec<String>> {
    let regions: Vec<String> = settings.parsed(COPIES)?;
    let keys: BTreeMap<String, String> = settings.parsed(COPY_KEYS)?;
    if let Some(word) = regions.iter().find(|region| !is_region(region)) {
        return Err(Error::config(format!("{COPIES}: `{word}` is not a region"))
            .with_hint("write region ids, for example `[eu-west-1, us-east-1]`"));
    }
    if let Some(other) = keys.keys().find(|region| !regions.contains(region)) {
        return Err(Error::config(format!("{COPY_KEYS}: `{other}` is not in {COPIES}"))
            .with_hint("name the key of a region that the image is copied to"));
    }
    Ok(once(regions))
}

fn polls(settings: &Settings, setting: &'static str, count: u64, delay: u64) -> Polls {
    let number = |end: &str| settings.integer(&format!("AWS_{setting}_RETRY_{end}"));
    let (count, delay) = (number("COUNT").unwrap_or(count), number("DELAY").unwrap_or(delay));
    let seconds = Duration::from_secs;
    // A limit of years would overflow the clock.
    let limit = count.saturating_mul(delay.max(1)).min(30 * 86_400);
    Polls { delay: seconds(delay.min(3600)), limit: seconds(limit), setting }
}

/// Times in minutes that StartSnapshot accepts.
const SNAPSHOT_MINUTES: std::ops::RangeInclusive<u64> = 10..=4320;

fn snapshot_minutes(settings: &Settings) -> Result<u64> {
    let seconds = settings.integer("AWS_SNAPSHOT_TIMEOUT").unwrap_or(86_400);
    let minutes = seconds.div_ceil(60);
    if SNAPSHOT_MINUTES.contains(&minutes) {
        return Ok(minutes);
    }
    Err(Error::config(format!("AWS_SNAPSHOT_TIMEOUT is {seconds} s, not 10 minutes to 72 hours"))
        .with_hint("write for example `24h`"))
}

fn endpoints(settings: &Settings) -> Result<BTreeMap<Api, String>> {
    let all = [Api::Ec2, Api::Ebs, Api::S3, Api::Sts, Api::Kms, Api::Iam, Api::Quotas];
    let mut found = BTreeMap::new();
    for api in all {
        let key = format!("AWS_ENDPOINT_URL_{}", api.id());
        if let Some(url) = settings.text(&key).filter(|url| !url.is_empty()) {
            found.insert(api, endpoint(&key, url)?);
        }
    }
    Ok(found)
}

/// Returns an endpoint without a slash at its end.
///
/// # Errors
/// Config error for a text that is not the URL of a server.
pub(crate) fn endpoint(key: &str, text: &str) -> Result<String> {
    let url = reqwest::Url::parse(text).ok().filter(|url| {
        ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    // The text may contain a password.
    url.map(|url| url.as_str().trim_end_matches('/').to_owned()).ok_or_else(|| {
        Error::config(format!("`{key}` is not the URL of a server"))
            .with_hint("write for example `https://vpce-….ec2.eu-central-1.vpce.amazonaws.com`")
    })
}

/// Keys have at most 1024 bytes; segments that URL parsers fold are refused.
fn prefix(text: String) -> Result<String> {
    let folded = |segment: &str| matches!(segment, "." | "..");
    let wrong = if text.starts_with('/') {
        Some("starts with a slash")
    } else if text.len() > 512 {
        Some("is longer than 512 bytes")
    } else if text.contains(char::is_control) {
        Some("contains control characters")
    } else if text.split('/').any(folded) {
        Some("has a segment `.` or `..`")
    } else {
        None
    };
    match wrong {
        None => Ok(text),
        Some(wrong) => Err(Error::config(format!("`AWS_S3_PREFIX` {wrong}"))
            .with_hint("use plain names, for example `images/`")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn read(values: &[(&str, Value)]) -> Result<Config> {
        let all = values.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        Config::read(&Settings::from_values(all.collect()))
    }

    #[test]
    fn invalid_values_name_their_key_and_have_a_hint() {
        for (key, value) in [
            (SHARE, json!([123])),
            (SHARE, json!(["12345678901x"])),
            (SHARE_ORGANIZATIONS, json!(["o-1"])),
            (SHARE_UNITS, json!(["arn:aws:organizations::1:organization/o-1"])),
            (COPIES, json!(["eu_west_1"])),
            (COPIES, json!(["frankfurt"])),
            (COPY_KEYS, json!({"eu-west-1": "k"})),
            ("AWS_SNAPSHOT_TIMEOUT", json!(540)),
            ("AWS_SNAPSHOT_TIMEOUT", json!(259_201)),
            ("AWS_ENDPOINT_URL", json!("localhost:5000")),
            ("AWS_ENDPOINT_URL_EBS", json!("http://user:pass@host/")),
            ("AWS_ENDPOINT_URL_S3", json!("ftp://host")),
            ("AWS_S3_PREFIX", json!("a/../b")),
            ("AWS_S3_PREFIX", json!("/a")),
            ("AWS_KMS_KEY_ID", json!("alias/images")),
            ("AWS_DEPRECATE_AFTER", json!(11 * 365 * 86_400_u64)),
        ] {
            let error = read(&[(key, value)]).unwrap_err();
            assert!(error.message.contains(key) && error.hint.is_some(), "{error}");
            assert!(!error.message.contains("pass"), "{error}");
        }
    }

    #[test]
    fn an_endpoint_of_one_service_precedes_that_of_all() {
        let config = read(&[
            ("AWS_ENDPOINT_URL", json!("http://127.0.0.1:5000/")),
            ("AWS_ENDPOINT_URL_EBS", json!("https://ebs.example.com/x/")),
        ])
        .unwrap();
        assert_eq!(config.endpoint_of(Api::Ec2), Some("http://127.0.0.1:5000"));
        assert_eq!(config.endpoint_of(Api::Ebs), Some("https://ebs.example.com/x"));
        assert_eq!(read(&[]).unwrap().endpoint_of(Api::Ec2), None);
    }

    #[test]
    fn accounts_are_texts_or_numbers_and_each_counts_once() {
        let ids = json!([123_456_789_012_u64, "012345678901", "123456789012"]);
        let config = read(&[(SHARE, ids)]).unwrap();
        assert_eq!(config.audience.accounts, ["123456789012", "012345678901"]);
        assert!(!config.audience.is_empty() && read(&[]).unwrap().audience.is_empty());
    }

    #[test]
    fn counts_and_delays_are_the_longest_wait() {
        let config = read(&[
            ("AWS_CREATE_IMAGE_RETRY_COUNT", json!(3)),
            ("AWS_IMPORT_SNAPSHOT_TASK_RETRY_DELAY", json!(u64::MAX)),
        ])
        .unwrap();
        assert_eq!(config.image.limit, Duration::from_secs(90));
        assert_eq!(config.import.limit, Duration::from_secs(30 * 86_400));
        assert_eq!(config.import.delay, Duration::from_secs(3600));
    }

    #[test]
    fn a_key_implies_encryption() {
        assert!(!read(&[]).unwrap().encrypted);
        let arn = "arn:aws:kms:eu-west-1:123456789012:key/1";
        assert!(read(&[("AWS_KMS_KEY_ID", json!(arn))]).unwrap().encrypted);
        let by_bucket = [("AWS_KMS_KEY_ID", json!("alias/x")), ("AWS_UPLOAD", json!("s3"))];
        assert!(read(&by_bucket).unwrap().encrypted);
    }
}
