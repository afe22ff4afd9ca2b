//! Reports in the preflight check what a build will begin with.

use build_image_plugin_api::document::{Build, Finding};

use super::{
    Options,
    earlier::{candidates, parent_of},
    settings::{BASE, MODE},
};
use crate::{
    cloud::Cloud,
    config::{Config, Way},
    ec2::Ec2,
};

const SUBJECT: &str = "delta upload";

/// Settings that have no effect; needs no request.
pub(crate) fn offline(config: &Config) -> Option<Finding> {
    let Options { is_on, base } = &config.delta;
    if *is_on && config.way == Way::S3 {
        let message = "the whole disk is sent: an import from a bucket has no base";
        return Some(Finding::warning(
            SUBJECT,
            message,
            format!("unset AWS_UPLOAD, or unset {MODE}"),
        ));
    }
    let base = base.as_ref().filter(|_| !is_on)?;
    let message = format!("the whole disk is sent, and `{base}` is not used");
    Some(Finding::warning(SUBJECT, message, format!("set {MODE}, or unset {BASE}")))
}

/// The earlier snapshot that a build would begin with. Its manifest is not read.
pub(crate) async fn look(cloud: &Cloud<'_>, build: &Build) -> Vec<Finding> {
    let config = cloud.config;
    if !config.delta.is_on || config.way == Way::S3 {
        return Vec::new();
    }
    let found = async {
        let ec2 = Ec2::open(cloud, &cloud.region)?;
        Ok::<_, build_image_plugin_api::Error>(candidates(&ec2, config, build).await?)
    };
    let found = match found.await {
        Ok(found) => found.iter().find_map(parent_of),
        Err(error) => {
            let message = format!("earlier snapshots cannot be looked for: {error}");
            let hint = format!("permit ec2:DescribeSnapshots, or unset {MODE}");
            return vec![Finding::warning(SUBJECT, message, hint)];
        }
    };
    vec![match (found, &config.delta.base) {
        (Some(parent), _) => {
            let text = format!("only what differs from `{}` will be sent", parent.snapshot);
            Finding::ok(SUBJECT, text)
        }
        (None, Some(base)) => Finding::warning(
            SUBJECT,
            format!("`{base}` has no complete manifest: the whole disk will be sent"),
            format!("name a snapshot of a build with {MODE}, or unset {BASE}"),
        ),
        (None, None) => {
            Finding::ok(SUBJECT, "no earlier snapshot has a manifest: the whole disk will be sent")
        }
    }]
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Settings;
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_without_an_effect_are_named() {
        for (values, expected) in [
            (&[][..], None),
            (&[(MODE, json!(true))][..], None),
            (&[(MODE, json!(true)), (BASE, json!("snap-1"))], None),
            (&[(BASE, json!("snap-1"))], Some("`snap-1` is not used")),
            (&[(MODE, json!(true)), ("AWS_UPLOAD", json!("s3"))], Some("bucket")),
        ] {
            let all = values.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
            let config = Config::read(&Settings::from_values(all.collect())).unwrap();
            let found = offline(&config);
            assert_eq!(found.is_some(), expected.is_some(), "{values:?}");
            if let (Some(finding), Some(part)) = (found, expected) {
                assert!(finding.message.contains(part) && finding.hint.is_some(), "{finding:?}");
            }
        }
    }
}
