//! Checks what the image service offers: formats, import methods, stores, hidden images, and quotas.

use build_image_plugin_api::{
    DiskFormat, Error, ErrorKind, Result,
    document::{Build, Finding},
};
use serde_json::Value;

use crate::{
    cloud::{Cloud, HASHES},
    config::{Config, IfExists, UploadMethod},
    disk,
    glance::texts,
    stores::COPY,
    upload::DIRECT,
};

/// Bytes of a MiB, the unit of quotas.
const MIB: u64 = 1 << 20;

/// Returns what the service does not offer, and what it does.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn look(cloud: &Cloud, config: &Config, build: &Build) -> Result<Vec<Finding>> {
    let (methods, schema, stores, usage) = tokio::try_join!(
        cloud.import_methods(),
        cloud.about("/v2/schemas/image"),
        cloud.about("/v2/info/stores"),
        cloud.about("/v2/info/usage"),
    )?;
    let mut findings = vec![method(config, &methods)];
    findings.extend(format(config, &schema.unwrap_or_default()));
    findings.extend(placement(config, &methods, stores.as_ref()));
    findings.extend(hiding(cloud, config));
    findings.extend(quota(config, build, &methods, &usage.unwrap_or_default()["usage"]));
    Ok(findings)
}

fn by_import(config: &Config, methods: &[String]) -> bool {
    config.method != UploadMethod::Put && methods.iter().any(|method| method == DIRECT)
}

fn method(config: &Config, methods: &[String]) -> Finding {
    const SUBJECT: &str = "upload method";
    if by_import(config, methods) {
        return Finding::ok(SUBJECT, format!("staged import ({DIRECT})"));
    }
    if config.method == UploadMethod::Import {
        let listed = if methods.is_empty() { "none".to_owned() } else { methods.join(", ") };
        let error = Error::unsupported(
            format!("the service does not offer the import method `{DIRECT}`; it offers: {listed}"),
            "set OPENSTACK_UPLOAD_METHOD=put, or unset it",
        );
        return Finding::error(SUBJECT, &error);
    }
    Finding::ok(SUBJECT, "one stream")
}

fn format(config: &Config, schema: &Value) -> Option<Finding> {
    let accepted = texts(&schema["properties"]["disk_format"]["enum"]);
    let word = disk::word(&config.disk);
    if accepted.is_empty() || accepted.iter().any(|format| format == word) {
        return None;
    }
    let error = Error::unsupported(
        format!("the service does not accept images of the format `{word}`"),
        format!("set OPENSTACK_DISK_FORMAT; the service accepts: {}", accepted.join(", ")),
    );
    Some(Finding::error("disk", &error))
}

fn placement(config: &Config, methods: &[String], stores: Option<&Value>) -> Vec<Finding> {
    const SUBJECT: &str = "stores";
    let asked: Vec<&String> = config.store.iter().chain(&config.copy_stores).collect();
    if asked.is_empty() {
        return Vec::new();
    }
    let Some(stores) = stores else {
        let error = Error::unsupported(
            "the service has one store only",
            "unset OPENSTACK_STORE and OPENSTACK_COPY_STORES",
        );
        return vec![Finding::error(SUBJECT, &error)];
    };
    let stores = stores["stores"].as_array().cloned().unwrap_or_default();
    let writable =
        stores.iter().filter(|store| store["read-only"] != "true" && store["read-only"] != true);
    let names: Vec<&str> = writable.filter_map(|store| store["id"].as_str()).collect();
    let mut findings: Vec<Finding> = Vec::new();
    for store in asked.into_iter().filter(|store| !names.contains(&store.as_str())) {
        let error = Error::config(format!("store `{store}` does not exist, or cannot be written"))
            .with_hint(format!("the service has: {}", names.join(", ")));
        findings.push(Finding::error(SUBJECT, &error));
    }
    if !config.copy_stores.is_empty() && !methods.iter().any(|method| method == COPY) {
        let error = Error::unsupported(
            format!("the service does not offer the import method `{COPY}`"),
            "unset OPENSTACK_COPY_STORES",
        );
        findings.push(Finding::error(SUBJECT, &error));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, names.join(", ")));
    }
    findings
}

fn hiding(cloud: &Cloud, config: &Config) -> Option<Finding> {
    let hides = config.hidden || matches!(config.if_exists, IfExists::Hide | IfExists::Replace);
    if !hides || cloud.minor_version >= HASHES {
        return None;
    }
    let error = Error::unsupported(
        format!(
            "the service has API 2.{}, and images can be hidden from 2.{HASHES} on",
            cloud.minor_version
        ),
        "unset OPENSTACK_HIDDEN, and set OPENSTACK_IF_EXISTS to `keep` or `fail`",
    );
    Some(Finding::error("image name", &error))
}

/// Compares the limits with the usage; a service without unified limits shows neither.
fn quota(config: &Config, build: &Build, methods: &[String], usage: &Value) -> Vec<Finding> {
    const SUBJECT: &str = "quota";
    let left = |name: &str| {
        let limit = usage[name]["limit"].as_i64().filter(|limit| *limit >= 0)?;
        Some(
            limit
                .saturating_sub(usage[name]["usage"].as_i64().unwrap_or_default())
                .max(0)
                .unsigned_abs(),
        )
    };
    let error = |message: String| {
        let error = Error::new(ErrorKind::Quota, message);
        Finding::error(
            SUBJECT,
            &error.with_hint(
                "delete images that are not needed, or ask the operator for a larger quota",
            ),
        )
    };
    let mut findings = Vec::new();
    for (name, what) in
        [("image_count_total", "images"), ("image_count_uploading", "uploads at once")]
    {
        if left(name) == Some(0) {
            findings.push(error(format!("the project may have no more {what} (`{name}`)")));
        }
    }
    let size = build.virtual_size.div_ceil(MIB);
    let mut sizes = vec!["image_size_total"];
    if by_import(config, methods) {
        sizes.push("image_stage_total");
    }
    for name in sizes {
        let Some(left) = left(name) else { continue };
        if left == 0 || config.disk.format == DiskFormat::Raw && size > left {
            findings.push(error(format!(
                "{left} MiB are left of the quota `{name}`, and the disk has {size} MiB"
            )));
        } else if size > left {
            findings.push(Finding::warning(
                SUBJECT,
                format!("{left} MiB are left of the quota `{name}`, and the disk has {size} MiB before its free space is left out"),
                "delete images that are not needed, or set OPENSTACK_DISK_COMPRESSION=zlib",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::{Settings, document::Severity};
    use serde_json::json;

    use super::*;

    fn config(values: &[(&str, Value)]) -> Config {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        Config::read(&Settings::from_values(values)).unwrap()
    }

    #[test]
    fn quotas_are_compared_with_the_disk() {
        let raw = config(&[("OPENSTACK_DISK_FORMAT", json!("raw"))]);
        let qcow2 = config(&[]);
        let build = Build::default().virtual_size(100 * MIB);
        let usage =
            |size: i64, used: i64| json!({"image_size_total": {"limit": size, "usage": used}});
        for (config, usage, expected) in [
            (&raw, usage(100, 0), None),
            (&raw, usage(100, 1), Some(Severity::Error)),
            (&raw, usage(-1, 5000), None),
            (&qcow2, usage(100, 1), Some(Severity::Warning)),
            (&qcow2, usage(100, 100), Some(Severity::Error)),
            (&qcow2, usage(100, 200), Some(Severity::Error)),
            (&qcow2, Value::Null, None),
            (&qcow2, json!({"image_count_total": {"limit": 3, "usage": 3}}), Some(Severity::Error)),
        ] {
            let found = quota(config, &build, &[], &usage);
            assert_eq!(found.first().map(|finding| finding.severity), expected, "{usage}");
        }
        let staged = json!({"image_stage_total": {"limit": 0, "usage": 0}});
        assert_eq!(quota(&qcow2, &build, &[DIRECT.to_owned()], &staged).len(), 1);
        assert!(quota(&qcow2, &build, &[], &staged).is_empty());
    }

    #[test]
    fn stores_and_methods_that_the_service_lacks_are_named() {
        let stores = json!({"stores": [{"id": "fast", "default": "true"}, {"id": "web", "read-only": "true"}]});
        for (store, methods, stores, text) in [
            ("slow", vec![COPY.to_owned()], Some(&stores), "`slow`"),
            ("web", vec![COPY.to_owned()], Some(&stores), "`web`"),
            ("fast", vec![], Some(&stores), "`copy-image`"),
            ("fast", vec![COPY.to_owned()], None, "one store"),
        ] {
            let config = config(&[("OPENSTACK_COPY_STORES", json!([store]))]);
            let found = placement(&config, &methods, stores);
            assert!(found.iter().any(|one| one.message.contains(text)), "{found:?}");
        }
        let import = config(&[("OPENSTACK_UPLOAD_METHOD", json!("import"))]);
        assert_eq!(method(&import, &[]).severity, Severity::Error);
        let refused =
            format(&config(&[]), &json!({"properties": {"disk_format": {"enum": [null, "raw"]}}}));
        assert!(refused.unwrap().hint.unwrap().contains("raw"));
    }
}
