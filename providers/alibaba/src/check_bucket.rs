//! Whether the bucket is there, in the right region, and such that ECS can read what lies in it.

use build_image_plugin_api::{Error, document::Finding};

use crate::{cloud::Cloud, config::Place, oss::BucketInfo, retry::Policy};

const SUBJECT: &str = "bucket";

/// Looks at the bucket.
pub(crate) async fn look(cloud: &Cloud, place: &Place) -> Vec<Finding> {
    let info = match cloud.oss.bucket_info(&Policy::CHECK).await {
        Ok(info) => info,
        Err(failure) => return vec![Finding::error(SUBJECT, &failure.error)],
    };
    let mut findings = vec![judge_bucket(&info, place)];
    if matches!(info.versioning.as_str(), "Enabled" | "Suspended") {
        findings.push(Finding::warning(
            SUBJECT,
            format!(
                "bucket `{}` keeps old versions: a deleted disk still costs money",
                place.bucket
            ),
            "add a lifecycle rule that expires old versions, or use a bucket without versioning",
        ));
    }
    findings
}

fn judge_bucket(info: &BucketInfo, place: &Place) -> Finding {
    let bucket = &place.bucket;
    let region = info.location.strip_prefix("oss-").unwrap_or(&info.location);
    if region != place.region {
        let message = format!("bucket `{bucket}` is in {region}, not in {}", place.region);
        let hint = format!("set ALIBABA_REGION to {region} or choose another ALIBABA_BUCKET");
        return Finding::error(SUBJECT, &Error::config(message).with_hint(hint));
    }
    if !matches!(info.encryption.algorithm.as_str(), "" | "None") {
        let message = format!(
            "bucket `{bucket}` encrypts with {}; ECS does not import encrypted objects",
            info.encryption.algorithm
        );
        let error = Error::config(message).with_hint("choose a bucket without default encryption");
        return Finding::error(SUBJECT, &error);
    }
    match info.storage_class.as_str() {
        "Standard" | "" => Finding::ok(SUBJECT, format!("bucket `{bucket}` is in {region}")),
        class if class.contains("Archive") => {
            let message = format!(
                "bucket `{bucket}` has storage class {class}; ECS cannot read archived objects"
            );
            Finding::error(
                SUBJECT,
                &Error::config(message).with_hint("choose a bucket of storage class Standard"),
            )
        }
        class => Finding::warning(
            SUBJECT,
            format!("bucket `{bucket}` has storage class {class}"),
            "a bucket of storage class Standard costs less for short-lived objects",
        ),
    }
}
