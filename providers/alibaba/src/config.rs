//! Parses the settings into types. It makes no requests; `check` verifies the values against the cloud.

use std::collections::BTreeMap;

use build_image_plugin_api::{DiskSpec, Error, Result, Settings};

use crate::{
    accounts::share_ids,
    copy_keys,
    credentials::Identity,
    delta,
    describe::NAME_LENGTH,
    disk,
    endpoint::Endpoint,
    names::check_image_name,
    options::{ImportOptions, UploadTuning},
    oss_endpoint::{OssEndpoint, PATH_STYLE},
};

const SHARE: &str = "ALIBABA_IMAGE_SHARE_ACCOUNT_IDS";
const UNSHARE: &str = "ALIBABA_IMAGE_UNSHARE_ACCOUNT_IDS";

/// Everything that the user configured.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    bucket: Option<String>,
    region: Option<String>,
    internal: bool,
    by_path: bool,
    oss_endpoint: Option<String>,
    ecs_endpoint: Option<String>,
    sts_endpoint: Option<String>,
    ram_endpoint: Option<String>,
    /// The identity whose keys are used.
    pub(crate) identity: Identity,
    /// Prefix of object keys.
    pub(crate) prefix: String,
    /// The uploaded disk.
    pub(crate) disk: DiskSpec,
    /// Keeps the object after the image exists.
    pub(crate) keep_object: bool,
    /// Accounts to share with, digits only, each once.
    pub(crate) share: Vec<String>,
    /// Accounts whose shares are revoked.
    pub(crate) unshare: Vec<String>,
    /// Regions the image is copied to, each once.
    pub(crate) copy_regions: Vec<String>,
    /// Key that encrypts the image in the region of the build.
    pub(crate) key: Option<String>,
    /// Keys that encrypt copies, by region.
    pub(crate) copy_keys: BTreeMap<String, String>,
    /// Creates the import role when it is missing.
    pub(crate) create_role: bool,
    /// Family of the image.
    pub(crate) family: Option<String>,
    /// Replaces an image that has the name.
    pub(crate) replace: bool,
    /// Minimum and maximum length of an image name.
    pub(crate) name_length: (usize, usize),
    /// Tuning of the upload.
    pub(crate) upload: UploadTuning,
    /// What is copied from earlier objects.
    pub(crate) delta: delta::Options,
    /// Parameters of `ImportImage`.
    pub(crate) import: ImportOptions,
}

/// Bucket and region with their endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) bucket: String,
    pub(crate) region: String,
    pub(crate) oss: OssEndpoint,
    pub(crate) ecs: Endpoint,
    pub(crate) sts: Endpoint,
    pub(crate) ram: Endpoint,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Config errors naming the key.
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let text =
            |key: &str| settings.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Self {
            bucket: text("ALIBABA_BUCKET"),
            region: text("ALIBABA_REGION").map(region).transpose()?,
            internal: settings.boolean("ALIBABA_UPLOAD_INTERNAL_OSS_ENDPOINT"),
            by_path: settings.boolean(PATH_STYLE),
            oss_endpoint: text("ALIBABA_OSS_ENDPOINT"),
            ecs_endpoint: text("ALIBABA_ECS_ENDPOINT"),
            sts_endpoint: text("ALIBABA_STS_ENDPOINT"),
            ram_endpoint: text("ALIBABA_RAM_ENDPOINT"),
            identity: Identity::read(settings),
            prefix: prefix(text("ALIBABA_OSS_PREFIX").unwrap_or_default())?,
            disk: disk::spec(settings)?,
            keep_object: settings.boolean("ALIBABA_KEEP_OSS_OBJECT"),
            share: accounts(settings, SHARE)?,
            unshare: unshare(settings)?,
            copy_regions: copy_regions(settings)?,
            key: text(copy_keys::IMAGE_KEY),
            copy_keys: copy_keys(settings)?,
            create_role: settings.boolean("ALIBABA_CREATE_ROLE"),
            family: text("ALIBABA_IMAGE_FAMILY").map(family).transpose()?,
            replace: settings.text("ALIBABA_IF_EXISTS") == Some("replace"),
            name_length: name_length(settings)?,
            upload: UploadTuning::read(settings),
            delta: delta::Options::read(settings, settings.text("ALIBABA_BUCKET"))?,
            import: ImportOptions::read(settings),
        })
    }

    /// Bucket and region with their endpoints.
    ///
    /// # Errors
    /// Config errors for values that are unset or not an address.
    pub(crate) fn place(&self) -> Result<Place> {
        let bucket = set("ALIBABA_BUCKET", self.bucket.as_deref())?;
        let region = set("ALIBABA_REGION", self.region.as_deref())?;
        self.place_of(bucket, region)
    }

    /// Like [`Config::place`], for a bucket and region that an earlier run used.
    ///
    /// # Errors
    /// Config errors for endpoints that are not addresses.
    pub(crate) fn place_of(&self, bucket: &str, region: &str) -> Result<Place> {
        let sts = self.sts()?;
        Ok(Place {
            bucket: bucket.to_owned(),
            region: region.to_owned(),
            oss: self.oss_of(bucket, region)?,
            ecs: self.ecs_of(region)?,
            ram: Endpoint::ram(self.ram_endpoint.as_deref(), &sts)?,
            sts,
        })
    }

    /// The OSS endpoint of a bucket.
    ///
    /// # Errors
    /// Config error for an endpoint that is not an address.
    pub(crate) fn oss_of(&self, bucket: &str, region: &str) -> Result<OssEndpoint> {
        let (chosen, internal) = (self.oss_endpoint.as_deref(), self.internal);
        OssEndpoint::choose(chosen, region, bucket, internal, self.by_path)
    }

    /// The STS endpoint.
    ///
    /// # Errors
    /// Config error for an endpoint that is not an address.
    pub(crate) fn sts(&self) -> Result<Endpoint> {
        Endpoint::sts(self.sts_endpoint.as_deref())
    }

    /// Whether this tool may choose the OSS endpoint.
    pub(crate) fn may_choose_endpoint(&self) -> bool {
        self.oss_endpoint.is_none() && !self.internal && !self.by_path
    }

    /// The ECS endpoint of a region: that of the image, of a copy, or of an earlier run.
    ///
    /// # Errors
    /// Config error for an endpoint that is not an address.
    pub(crate) fn ecs_of(&self, region: &str) -> Result<Endpoint> {
        Endpoint::ecs(self.ecs_endpoint.as_deref(), self.region.as_deref(), region)
    }

    /// The key that encrypts the image of a region, if any; `home` is the region of the build.
    pub(crate) fn key_of(&self, region: &str, home: &str) -> Option<&String> {
        if region == home { self.key.as_ref() } else { self.copy_keys.get(region) }
    }

    /// Bucket and region as far as they are set.
    pub(crate) fn home(&self) -> (Option<&str>, Option<&str>) {
        (self.bucket.as_deref(), self.region.as_deref())
    }
}

fn set<'a>(key: &str, value: Option<&'a str>) -> Result<&'a str> {
    value.ok_or_else(|| {
        Error::config(format!("`{key}` is not set"))
            .with_hint(format!("set {key} in the configuration file or the environment"))
    })
}

fn accounts(settings: &Settings, key: &str) -> Result<Vec<String>> {
    share_ids(key, &settings.parsed(key)?)
}

fn unshare(settings: &Settings) -> Result<Vec<String>> {
    let (share, unshare) = (accounts(settings, SHARE)?, accounts(settings, UNSHARE)?);
    match unshare.iter().find(|account| share.contains(account)) {
        None => Ok(unshare),
        Some(both) => {
            Err(Error::config(format!("account {both} is in `{SHARE}` and in `{UNSHARE}`"))
                .with_hint("take it out of one of them"))
        }
    }
}

fn copy_regions(settings: &Settings) -> Result<Vec<String>> {
    const KEY: &str = "ALIBABA_IMAGE_COPY_REGIONS";
    let mut regions: Vec<String> = Vec::new();
    for word in settings.parsed::<Vec<String>>(KEY)? {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if word.is_empty() || !word.chars().all(plain) || word.starts_with("oss-") {
            return Err(Error::config(format!("`{KEY}` holds `{word}`, not a region"))
                .with_hint("write region ids, for example `[cn-shanghai, eu-central-1]`"));
        }
        if !regions.contains(&word) {
            regions.push(word);
        }
    }
    Ok(regions)
}

fn copy_keys(settings: &Settings) -> Result<BTreeMap<String, String>> {
    let regions = copy_regions(settings)?;
    let keys = copy_keys::read(settings, &regions)?;
    copy_keys::check_complete(settings, &regions, &keys)?;
    Ok(keys)
}

fn region(text: String) -> Result<String> {
    match text.strip_prefix("oss-") {
        None => Ok(text),
        Some(bare) => Err(Error::config(format!("`ALIBABA_REGION` is `{text}`, an OSS location"))
            .with_hint(format!("write the region id: `{}`", bare.trim_end_matches("-internal")))),
    }
}

fn family(text: String) -> Result<String> {
    match check_image_name(&text, NAME_LENGTH) {
        Ok(()) => Ok(text),
        Err(_) => Err(Error::config(format!("`ALIBABA_IMAGE_FAMILY` is `{text}`, not a family name"))
            .with_hint("write 2 to 128 letters, digits, `.`, `_`, `:` and `-`, a letter first, not starting with `aliyun` or `acs:`")),
    }
}

/// Keys have at most 1023 bytes and do not start with a slash; segments that URL parsers fold are refused.
fn prefix(text: String) -> Result<String> {
    let folded = |segment: &str| matches!(segment, "." | "..");
    let wrong = if text.starts_with(['/', '\\']) {
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
        Some(wrong) => Err(Error::config(format!("`ALIBABA_OSS_PREFIX` {wrong}"))
            .with_hint("use plain folder names, for example `images/`")),
    }
}

fn name_length(settings: &Settings) -> Result<(usize, usize)> {
    let read = |key: &str, otherwise: usize| {
        let value = settings.integer(key).and_then(|value| usize::try_from(value).ok());
        value.unwrap_or(otherwise).clamp(NAME_LENGTH.0, NAME_LENGTH.1)
    };
    let shortest = read("ALIBABA_IMAGE_NAME_LENGTH_MIN", NAME_LENGTH.0);
    let longest = read("ALIBABA_IMAGE_NAME_LENGTH_MAX", NAME_LENGTH.1);
    if shortest <= longest {
        return Ok((shortest, longest));
    }
    Err(Error::config("`ALIBABA_IMAGE_NAME_LENGTH_MIN` is above `ALIBABA_IMAGE_NAME_LENGTH_MAX`")
        .with_hint("leave both unset unless names must be shorter than the service's 128"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn settings(values: &[(&str, Value)]) -> Settings {
        Settings::from_values(
            values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        )
    }

    #[test]
    fn an_oss_location_is_not_a_region() {
        let error = Config::read(&settings(&[("ALIBABA_REGION", json!("oss-cn-hangzhou"))]));
        let error = error.unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("write the region id: `cn-hangzhou`"));
    }

    #[test]
    fn a_build_that_stops_before_the_upload_needs_neither_bucket_nor_region() {
        let config = Config::read(&settings(&[])).unwrap();
        let error = config.place().unwrap_err();
        assert!(error.message.contains("ALIBABA_BUCKET"), "{error}");
    }

    #[test]
    fn the_error_for_a_family_name_states_the_rule() {
        let read = |text: &str| Config::read(&settings(&[("ALIBABA_IMAGE_FAMILY", json!(text))]));
        assert_eq!(read("web-17.1").unwrap().family.as_deref(), Some("web-17.1"));
        for text in ["1a", "a", "aliyun-x", "a b"] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains("ALIBABA_IMAGE_FAMILY"), "{error}");
            assert!(error.hint.unwrap().contains("a letter first"));
        }
    }

    #[test]
    fn prefixes_that_would_not_arrive_as_written_are_refused() {
        for text in ["/a", "\\a", "a/../b", "./a", "a\nb"] {
            assert!(prefix(text.to_owned()).is_err(), "{text:?}");
        }
        assert_eq!(prefix("images/2026/".to_owned()).unwrap(), "images/2026/");
    }

    #[test]
    fn the_import_timeout_follows_the_monitor_settings_unless_set() {
        let read =
            |values: &[(&str, Value)]| Config::read(&settings(values)).unwrap().import.timeout;
        assert_eq!(read(&[]), Duration::from_secs(3600));
        let monitor = ("ALIBABA_IMAGE_IMPORT_MONITOR_RETRY_COUNT", json!(2));
        assert_eq!(read(std::slice::from_ref(&monitor)), Duration::from_secs(120));
        assert_eq!(read(&[monitor, ("ALIBABA_IMPORT_TIMEOUT", json!(7))]), Duration::from_secs(7));
    }
}
