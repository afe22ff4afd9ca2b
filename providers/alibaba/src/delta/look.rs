//! Reports in the preflight check what a build will copy from.

use build_image_plugin_api::{
    DiskFormat,
    document::{Build, Finding},
};

use super::{Options, earlier, settings::BASE};
use crate::{config::Config, oss::Oss};

const SUBJECT: &str = "delta upload";

/// Settings that have no effect; needs no request.
pub(crate) fn offline(config: &Config) -> Option<Finding> {
    let Options { is_on, base } = &config.delta;
    let key = base.as_ref().filter(|_| *is_on && config.disk.format != DiskFormat::Raw)?;
    let message = format!(
        "no part is copied from `{key}`: the disk is {}, not raw",
        config.disk.format.word()
    );
    Some(Finding::warning(
        SUBJECT,
        message,
        format!("set ALIBABA_DISK_FORMAT=raw, or unset {BASE}"),
    ))
}

/// The earlier object that a build would copy from. Its manifest is not read.
pub(crate) async fn look(oss: &Oss, config: &Config, build: &Build) -> Option<Finding> {
    if !Options::is_used(config) {
        return None;
    }
    let named = config.delta.base.as_deref();
    let found = match earlier::candidates(oss, config, build).await {
        Ok(found) => found,
        Err(failure) => {
            let message = format!("earlier disks cannot be looked for: {}", failure.error);
            let hint = "permit oss:ListObjects on the bucket, or set ALIBABA_UPLOAD_DELTA=off";
            return Some(Finding::warning(SUBJECT, message, hint));
        }
    };
    Some(match (found.first(), named) {
        (Some((key, _)), _) => {
            Finding::ok(SUBJECT, format!("only what differs from `{key}` will be sent"))
        }
        (None, Some(key)) => Finding::warning(
            SUBJECT,
            format!("`{key}` has no manifest: the whole disk will be sent"),
            format!("name a disk that a build kept with ALIBABA_KEEP_OSS_OBJECT, or unset {BASE}"),
        ),
        (None, None) => {
            Finding::ok(SUBJECT, "no earlier disk is kept: the whole disk will be sent")
        }
    })
}
