//! Checks that the bucket exists, is in the right region, and is set up such that ECS can read its objects.

use std::sync::Arc;

use build_image_plugin_api::{
    Error,
    document::Finding,
    retry::{Failure, Policy},
};

use crate::{
    cloud::Cloud,
    config::Place,
    oss::{BucketInfo, Oss},
};

const SUBJECT: &str = "bucket";

/// Checks the bucket. `key` is the key of the object that the build will create.
pub(crate) async fn look(cloud: &Cloud, place: &Place, key: &str) -> Vec<Finding> {
    let accelerated = place.oss.is_accelerated();
    let seen = if accelerated {
        in_its_region(cloud, place).await
    } else {
        cloud.oss.bucket_info(&Policy::BRIEF).await.map(|info| (info, None))
    };
    let (info, enabled) = match seen {
        Ok(seen) => seen,
        Err(failure) => return vec![Finding::error(SUBJECT, &failure.error)],
    };
    let mut findings = vec![judge_bucket(&info, place)];
    if accelerated {
        findings.extend(judge_acceleration(place, enabled));
    }
    // Buckets answer requests about themselves even where their data cannot be reached.
    if let Err(failure) = cloud.oss.touch(key, &Policy::BRIEF).await
        && failure.has_code(&["PublicEndpointForbidden", "SecondLevelDomainForbidden"])
    {
        findings.push(Finding::error(SUBJECT, &failure.error));
    }
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

/// Asks the region's own endpoint, since acceleration may not serve the bucket at all: reads the bucket's
/// properties, and whether it may be accelerated if that can be determined.
async fn in_its_region(
    cloud: &Cloud,
    place: &Place,
) -> Result<(BucketInfo, Option<bool>), Failure> {
    let there = Place { oss: place.oss.of_region(&place.region), ..place.clone() };
    let oss = Oss::open(&there, Arc::clone(&cloud.oss.http.credentials))?;
    let info = oss.bucket_info(&Policy::BRIEF).await?;
    let enabled = match info.transfer_acceleration.as_str() {
        "Enabled" => Some(true),
        "Disabled" => Some(false),
        // Not every user has the right to ask; the upload reports it then.
        _ => oss.is_accelerated(&Policy::BRIEF).await.ok(),
    };
    Ok((info, enabled))
}

fn judge_acceleration(place: &Place, enabled: Option<bool>) -> Option<Finding> {
    let (bucket, region) = (&place.bucket, &place.region);
    let inland = region.starts_with("cn-") && region != "cn-hongkong";
    let (message, hint) = if place.oss.is_overseas() && inland {
        let message = format!("overseas acceleration does not serve buckets in {region}");
        (message, "set ALIBABA_OSS_ENDPOINT=accelerate".to_owned())
    } else if enabled == Some(false) {
        let message = format!("bucket `{bucket}` may not be reached by transfer acceleration");
        let hint = "enable transfer acceleration of the bucket in the OSS console (it takes up to 30 minutes), or unset ALIBABA_OSS_ENDPOINT";
        (message, hint.to_owned())
    } else {
        return None;
    };
    Some(Finding::error(SUBJECT, &Error::config(message).with_hint(hint)))
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

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Settings;
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    fn found(endpoint: &str, region: &str, enabled: Option<bool>) -> Option<Finding> {
        let values = [
            ("ALIBABA_BUCKET", "b-1"),
            ("ALIBABA_REGION", region),
            ("ALIBABA_OSS_ENDPOINT", endpoint),
        ];
        let values = values.map(|(key, value)| (key.to_owned(), json!(value))).into();
        let place = Config::read(&Settings::from_values(values)).unwrap().place().unwrap();
        judge_acceleration(&place, enabled)
    }

    #[test]
    fn acceleration_must_be_enabled_and_reach_the_region() {
        for (endpoint, region, enabled, hint) in [
            ("accelerate", "cn-hangzhou", Some(true), None),
            ("accelerate", "cn-hangzhou", None, None),
            ("accelerate", "cn-hangzhou", Some(false), Some("30 minutes")),
            ("accelerate-overseas", "eu-central-1", Some(true), None),
            ("accelerate-overseas", "cn-hongkong", Some(true), None),
            (
                "accelerate-overseas",
                "cn-hangzhou",
                Some(true),
                Some("ALIBABA_OSS_ENDPOINT=accelerate"),
            ),
        ] {
            let finding = found(endpoint, region, enabled);
            let actual = finding.and_then(|finding| finding.hint);
            assert_eq!(actual.is_some(), hint.is_some(), "{endpoint} {region}: {actual:?}");
            assert!(
                hint.is_none_or(|hint| actual.unwrap_or_default().contains(hint)),
                "{endpoint}"
            );
        }
    }
}
