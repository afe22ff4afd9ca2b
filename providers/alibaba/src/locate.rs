//! Finds an object that was uploaded before, so that it can be registered. Reads only: the object belongs to the user,
//! and nothing is recorded that a removal would delete.
//!
//! What an upload of this provider knows of its disk is a mark of the object, which disappears when the object is
//! written again. Of other objects the bytes are examined; what they do not show must be set.

use std::{collections::BTreeMap, sync::Arc};

use build_image_plugin_api::{
    Architecture, BootMode, Context, DiskFormat, DiskSpec, Error, ErrorKind, Result,
    document::{GuestFacts, LocateRequest, Located, UploadRequest, Uploaded},
    http::{Answer, Body},
    retry::{Failure, retry},
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    client::CALL,
    config::{Config, Place},
    credentials::Credentials,
    marks::OBJECT_DISK,
    nearby::nearby,
    object_disk::{HEAD, ObjectDisk, TAIL, recognise},
    oss::{CALL_LIMIT, Call, Oss},
    oss_answer::crc,
};

/// What identifiers of objects begin with, as in the vendor's own tools.
const SCHEME: &str = "oss://";
/// Fact of an upload: the image format, as the host names it.
const FORMAT: &str = "format";
/// Longest mark in bytes; all marks of an object may have 8 KiB.
const MARK_LIMIT: usize = 4 << 10;
/// Characters that a mark does not contain as they are.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%').add(b' ');
/// Storage classes of which nothing can be read before it is restored.
const ARCHIVED: [&str; 3] = ["Archive", "ColdArchive", "DeepColdArchive"];

/// What is known of the disk in an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct DiskMark {
    format: DiskFormat,
    virtual_size: u64,
    architecture: Architecture,
    boot_mode: BootMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest: Option<GuestFacts>,
}

/// The mark of an object that is uploaded; empty when it would be too long.
pub(crate) fn mark_of(request: &UploadRequest) -> String {
    let UploadRequest { build, disk, .. } = request;
    let mark = DiskMark {
        format: disk.spec.format,
        virtual_size: disk.virtual_size,
        architecture: build.architecture.clone(),
        boot_mode: build.boot_mode.clone(),
        // Of an appliance, only its installer knows what may be changed in it.
        guest: build.guest.clone().filter(|_| build.product.is_empty()),
    };
    let text = serde_json::to_string(&mark).unwrap_or_default();
    let text = utf8_percent_encode(&text, ESCAPED).to_string();
    if text.len() > MARK_LIMIT { String::new() } else { text }
}

fn read_mark(text: &str) -> Option<DiskMark> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    let mark: DiskMark = serde_json::from_str(&text).ok()?;
    (mark.virtual_size > 0).then_some(mark)
}

/// The identifier of an object.
pub(crate) fn id_of(bucket: &str, key: &str) -> String {
    format!("{SCHEME}{bucket}/{key}")
}

/// The facts of an uploaded object, for the registration.
pub(crate) fn facts(
    place: (&str, &str),
    key: &str,
    size: u64,
    crc: u64,
    format: DiskFormat,
) -> BTreeMap<String, Value> {
    let (bucket, region) = place;
    let texts = [("bucket", bucket), ("region", region), ("object", key), (FORMAT, format.word())];
    let texts = texts.map(|(name, value)| (name.to_owned(), Value::from(value)));
    let mut facts: BTreeMap<String, Value> = texts.into();
    facts.insert("size".to_owned(), size.into());
    facts.insert("crc64".to_owned(), crc.to_string().into());
    facts
}

/// The settings with the format of an uploaded object, which another run may have chosen.
pub(crate) fn config_of(config: &Config, uploaded: &Uploaded) -> Config {
    let formats = [DiskFormat::Qcow2, DiskFormat::Raw, DiskFormat::Vhd];
    let word = uploaded.facts.get(FORMAT).and_then(Value::as_str);
    let format = formats.into_iter().find(|format| Some(format.word()) == word);
    let mut config = config.clone();
    if let Some(format) = format.filter(|format| *format != config.disk.format) {
        config.disk = DiskSpec::new(format);
    }
    config
}

/// Finds an object.
///
/// # Errors
/// When it does not exist, is elsewhere, or holds no disk that ECS imports.
pub(crate) fn locate(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    request: &LocateRequest,
) -> Result<Located> {
    let place = nearby(context, config, config.place()?)?;
    let key = key_of(&request.id, &place)?;
    let oss = Oss::open(&place, Arc::clone(credentials))?;
    let seen = Seen { id: &request.id, key, oss: &oss };
    context.block_on(async { seen.describe(config, &place).await })
}

/// The key of an object of the configured bucket.
fn key_of<'a>(id: &'a str, place: &Place) -> Result<&'a str> {
    let invalid_error = |why: &str| {
        Error::config(format!("`{id}` does not name an object: {why}"))
            .with_hint("write oss://BUCKET/KEY, as build-image upload prints it")
    };
    let rest = id.strip_prefix(SCHEME);
    let rest = rest.ok_or_else(|| invalid_error("it does not begin with `oss://`"))?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let is_folded = |segment: &str| matches!(segment, "." | "..");
    if bucket.is_empty() || key.is_empty() {
        return Err(invalid_error("the bucket or the key is missing"));
    }
    if key.starts_with(['/', '\\']) || key.ends_with('/') || key.split('/').any(is_folded) {
        return Err(invalid_error("the key has an empty segment, `.`, or `..`"));
    }
    if key.chars().any(char::is_control) || key.len() > 1023 {
        return Err(invalid_error("the key is longer than 1023 bytes or has control characters"));
    }
    if bucket != place.bucket {
        let text =
            format!("`{id}` is in bucket `{bucket}`, and ALIBABA_BUCKET is `{}`", place.bucket);
        let hint = format!("set ALIBABA_BUCKET={bucket}, and ALIBABA_REGION to its region");
        return Err(Error::config(text).with_hint(hint));
    }
    Ok(key)
}

/// An object that is looked up.
struct Seen<'a> {
    id: &'a str,
    key: &'a str,
    oss: &'a Oss,
}

impl Seen<'_> {
    async fn describe(&self, config: &Config, place: &Place) -> Result<Located> {
        let head = self.head().await?;
        let size = head.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        if size == 0 {
            return Err(self.refused("is empty", "upload the disk again"));
        }
        self.check_storage(&head)?;
        let mark = head.header(OBJECT_DISK).and_then(read_mark);
        let (disk, mark) = match mark {
            Some(mark) => {
                (ObjectDisk { format: mark.format, virtual_size: mark.virtual_size }, Some(mark))
            }
            None => {
                let disk = self.examine(size, &config.disk.format).await?;
                self.needs_settings(config)?;
                (disk, None)
            }
        };
        let crc = crc(&head).unwrap_or_default();
        let facts = facts((&place.bucket, &place.region), self.key, size, crc, disk.format);
        let uploaded = Uploaded::new(self.oss.object_url(self.key)).id(self.id).facts(facts);
        let mut located = Located::new(uploaded).length(size).virtual_size(disk.virtual_size);
        if let Some(mark) = mark {
            located = located.architecture(mark.architecture).boot_mode(mark.boot_mode);
            located.guest = mark.guest;
        }
        Ok(located)
    }

    async fn head(&self) -> Result<Answer> {
        let call = || Call::new("HeadObject", Method::HEAD, Some(self.key));
        let sent = retry(&CALL, async || self.oss.once(call(), Body::Empty, CALL_LIMIT).await);
        match sent.await {
            Err(failure)
                if failure.error.context("status") == Some("404")
                    && !failure.has_code(&["NoSuchBucket"]) =>
            {
                let message = format!("object `{}` does not exist", self.id);
                let hint = format!("list what is there: aliyun oss ls oss://{}", self.oss.bucket);
                Err(Error::new(ErrorKind::NotFound, message).with_hint(hint))
            }
            answered => Ok(answered?),
        }
    }

    fn check_storage(&self, head: &Answer) -> Result<()> {
        let class = head.header("x-oss-storage-class").unwrap_or_default();
        let restored = head.header("x-oss-restore").unwrap_or_default();
        if ARCHIVED.contains(&class) && !restored.contains("ongoing-request=\"false\"") {
            let hint = format!("restore it first: aliyun oss restore {}", self.id);
            return Err(self.refused(&format!("is archived (storage class `{class}`)"), &hint));
        }
        Ok(())
    }

    /// Recognises the disk by the bytes of the object.
    async fn examine(&self, size: u64, declared: &DiskFormat) -> Result<ObjectDisk> {
        let head = self.read(0, size.min(HEAD)).await?;
        let tail = self.read(size.saturating_sub(TAIL), size.min(TAIL)).await?;
        recognise(&head, &tail, size, declared).map_err(|why| {
            self.refused(
                &why,
                "upload a qcow2, VHD, or raw disk, for example with build-image upload; set ALIBABA_DISK_FORMAT=raw only for a raw disk without a boot sector",
            )
        })
    }

    async fn read(&self, start: u64, length: u64) -> Result<Vec<u8>, Failure> {
        let range = format!("bytes={start}-{}", (start + length).saturating_sub(1));
        let call = || Call {
            headers: vec![("range".to_owned(), range.clone())],
            ..Call::new("GetObject", Method::GET, Some(self.key))
        };
        let sent = retry(&CALL, async || self.oss.once(call(), Body::Empty, CALL_LIMIT).await);
        Ok(sent.await?.body.to_vec())
    }

    /// Refuses an object whose machine is stated nowhere: it would be registered for another one.
    fn needs_settings(&self, config: &Config) -> Result<()> {
        let import = &config.import;
        let missing = [
            ("ALIBABA_ARCHITECTURE", import.architecture.is_none()),
            ("ALIBABA_BOOT_MODE", import.boot_mode.is_none()),
        ];
        let missing: Vec<&str> =
            missing.into_iter().filter(|(_, is_missing)| *is_missing).map(|(key, _)| key).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "`{}` was not uploaded by build-image: the architecture and the boot mode of its disk are not known",
            self.id
        );
        Err(Error::config(message).with_hint(format!("set {}", missing.join(" and "))))
    }

    fn refused(&self, why: &str, hint: &str) -> Error {
        Error::new(ErrorKind::InvalidImage, format!("`{}` {why}", self.id)).with_hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::{Disk, Settings, document::Build};
    use serde_json::json;

    use super::*;

    fn place() -> Place {
        let values = [("ALIBABA_BUCKET", json!("demo")), ("ALIBABA_REGION", json!("cn-hangzhou"))];
        let values = values.map(|(key, value)| (key.to_owned(), value));
        Config::read(&Settings::from_values(values.into())).unwrap().place().unwrap()
    }

    #[test]
    fn an_identifier_names_one_object_of_the_configured_bucket() {
        assert_eq!(key_of("oss://demo/a/b.qcow2", &place()).unwrap(), "a/b.qcow2");
        assert_eq!(key_of(&id_of("demo", "ä b"), &place()).unwrap(), "ä b");
        for (id, part) in [
            ("", "oss://"),
            ("demo/a", "oss://"),
            ("https://demo.oss-cn-hangzhou.aliyuncs.com/a", "oss://"),
            ("oss://", "missing"),
            ("oss://demo", "missing"),
            ("oss://demo/", "missing"),
            ("oss:///a", "missing"),
            ("oss://demo//a", "empty segment"),
            ("oss://demo/a/", "empty segment"),
            ("oss://demo/a/../b", "`..`"),
            ("oss://demo/a\nb", "control"),
            ("oss://other/a", "ALIBABA_BUCKET is `demo`"),
        ] {
            let error = key_of(id, &place()).unwrap_err();
            assert!(error.message.contains(part), "{id}: {error}");
            assert!(error.hint.is_some(), "{id}");
        }
    }

    #[test]
    fn a_mark_says_what_the_upload_knew() {
        let guest = GuestFacts::default().os("debian").os_name("Debian GNU/Linux 12 (Bücherwurm)");
        let build = Build::default().architecture("aarch64").boot_mode("uefi").guest(guest.clone());
        let disk = Disk::default().virtual_size(1 << 30).spec(DiskSpec::new(DiskFormat::Raw));
        let text = mark_of(&UploadRequest::new(build.clone(), disk.clone()));
        assert!(text.chars().all(|letter| letter.is_ascii_graphic()), "{text}");
        let mark = read_mark(&text).unwrap();
        assert_eq!((mark.format, mark.virtual_size), (DiskFormat::Raw, 1 << 30));
        assert_eq!((mark.architecture.as_str(), mark.boot_mode.as_str()), ("aarch64", "uefi"));
        assert_eq!(mark.guest, Some(guest));
        let appliance = build.product([("name", "System".to_owned())]);
        let text = mark_of(&UploadRequest::new(appliance, disk.clone()));
        assert_eq!(read_mark(&text).unwrap().guest, None);
        let long = GuestFacts::default().os_name("x".repeat(MARK_LIMIT));
        assert_eq!(mark_of(&UploadRequest::new(Build::default().guest(long), disk)), "");
        for text in ["", "{}", "x", "%ff", "{\"virtual_size\":0}"] {
            assert_eq!(read_mark(text), None, "{text}");
        }
    }
}
