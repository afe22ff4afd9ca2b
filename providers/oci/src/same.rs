//! Compares images that were made from the same disk with what a build would publish. A manifest follows from the disk
//! and the settings, so it is computed for the layer that an image has, and the image is the same only if its manifest
//! has the same digest and all tags refer to it.

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Result,
    document::{Build, CheckReport, CheckRequest, Finding, ItemKind, Reference},
    retry::{Failure, Policy},
};
use reqwest::Method;
use serde_json::Value;

use crate::{
    config::{Config, Kind},
    flow::{Layer, digest_of},
    http::Meaning as _,
    inventory::{TITLE, digest_in},
    manifest::{self, Descriptor, Document},
    publish::{TagState, answer, get_manifest, id_of, tag_state},
    registry::{Call, Registry, Session},
};

/// A difference, and the command that repairs it.
struct Difference {
    text: String,
    repair: Option<String>,
}

/// The parameters of one comparison.
struct Comparison<'a> {
    registry: &'a Registry,
    config: &'a Config,
    build: &'a Build,
}

/// What the build would publish with the layer of an image.
struct Expected {
    build: Build,
    layer: Descriptor,
    document: Document,
}

/// Compares the images that a request names.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) fn compare(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &CheckRequest,
) -> Result<CheckReport> {
    context.check_cancelled()?;
    context.block_on(async {
        let policy = Policy::call(config.retry_time);
        let registry = Registry::open(context, config, session, policy).await?;
        let comparison = Comparison { registry: &registry, config, build: &request.build };
        let mut report = CheckReport::default();
        let mut best: Option<Vec<Finding>> = None;
        for reference in &request.same {
            let Some(digest) = digest_of_image(&registry, reference) else { continue };
            let Some(found) = get_manifest(&registry, &digest).await? else { continue };
            let found = found.json().unwrap_or_default();
            let expected = comparison.expected(&found).await?;
            let differences = comparison.differences(&digest, &found, expected.as_ref()).await?;
            if let (Some(expected), true) = (expected, differences.is_empty()) {
                let (title, tags) =
                    (config.title(&expected.build), config.all_tags(&expected.build));
                let Expected { layer, document, .. } = &expected;
                report.same = Some(answer(&registry, document, layer, &title, &tags));
                return Ok(report);
            }
            if best.as_ref().is_none_or(|least| differences.len() < least.len()) {
                best = Some(findings(&id_of(&registry, &digest), differences));
            }
        }
        report.findings = best.unwrap_or_else(|| {
            let text = "no complete image of the repository was made from the same disk";
            vec![Finding::warning(registry.reference.name(), text, "")]
        });
        Ok(report)
    })
}

/// Returns the digest of an image of this repository.
fn digest_of_image(registry: &Registry, reference: &Reference) -> Option<String> {
    let is_image = reference.kind == ItemKind::Image && reference.region.is_none();
    digest_in(registry, &reference.id).filter(|_| is_image)
}

fn findings(id: &str, differences: Vec<Difference>) -> Vec<Finding> {
    let finding = |difference: Difference| {
        let mut finding = Finding::warning(format!("image {id}"), difference.text, "");
        finding.hint = difference.repair;
        finding
    };
    differences.into_iter().map(finding).collect()
}

impl Comparison<'_> {
    /// Computes what the build would publish with the layer of an image; `None` for an image that has another number of
    /// layers.
    async fn expected(&self, found: &Value) -> Result<Option<Expected>> {
        let Self { registry, config, .. } = *self;
        let Some([layer]) = found["layers"].as_array().map(Vec::as_slice) else { return Ok(None) };
        let (Some(digest), Some(size)) = (layer["digest"].as_str(), layer["size"].as_u64()) else {
            return Ok(None);
        };
        let build = renamed(config, self.build, found);
        let diff_id = match config.kind {
            Kind::Artifact => String::new(),
            Kind::ContainerDisk => diff_id(registry, found).await?.unwrap_or_default(),
        };
        let layer = Layer { digest: digest.to_owned(), size, diff_id };
        let configuration = manifest::configuration(config, &build, &layer);
        let layer = manifest::descriptor(config, &layer);
        let document = manifest::manifest(config, &build, &configuration, &layer);
        Ok(Some(Expected { build, layer, document }))
    }

    async fn differences(
        &self,
        digest: &str,
        found: &Value,
        expected: Option<&Expected>,
    ) -> Result<Vec<Difference>> {
        let Some(expected) = expected else {
            let text = "it has not one layer".to_owned();
            return Ok(vec![Difference { text, repair: None }]);
        };
        let mut all = Vec::new();
        if expected.document.digest != digest {
            let wanted: Value =
                serde_json::from_slice(&expected.document.bytes).unwrap_or_default();
            let texts = differing(&wanted, found);
            all.extend(texts.into_iter().map(|text| Difference { text, repair: None }));
        }
        for tag in self.config.all_tags(&expected.build) {
            let text = match tag_state(self.registry, &tag).await? {
                TagState::At(other) if other == digest => continue,
                TagState::At(other) => format!("tag `{tag}` refers to `{other}`"),
                TagState::Free => {
                    let name = self.registry.reference.name();
                    let text = format!("it has no tag `{tag}`");
                    let copy =
                        format!("skopeo copy --all docker://{name}@{digest} docker://{name}:{tag}");
                    all.push(Difference { text, repair: Some(copy) });
                    continue;
                }
            };
            all.push(Difference { text, repair: None });
        }
        Ok(all)
    }
}

/// Returns a build with the name of an image, unless the user chose one.
fn renamed(config: &Config, build: &Build, found: &Value) -> Build {
    let mut build = build.clone();
    let title = found["annotations"][TITLE].as_str().unwrap_or_default();
    if !build.image_name_chosen && config.reference.tag.is_none() {
        if build.description == build.image_name {
            title.clone_into(&mut build.description);
        }
        title.clone_into(&mut build.image_name);
    }
    build
}

/// Returns the digest of the layer before its compression, which the configuration of an image has.
async fn diff_id(registry: &Registry, found: &Value) -> Result<Option<String>, Failure> {
    let Some(digest) = found["config"]["digest"].as_str() else { return Ok(None) };
    let call = Call::new(Method::GET, registry.url(&format!("blobs/{digest}"))?);
    let what = format!("read the configuration `{digest}` of an image");
    let Some(answer) = registry.find(&call, &what).await? else { return Ok(None) };
    if digest_of(&answer.body) != digest {
        return Ok(None);
    }
    let configuration = answer.document(&what)?;
    Ok(configuration["rootfs"]["diff_ids"][0].as_str().map(str::to_owned))
}

/// Describes in what a manifest differs from the one that the build would publish.
fn differing(wanted: &Value, found: &Value) -> Vec<String> {
    let mut all = Vec::new();
    let mut compare = |what: &str, wanted: &Value, found: &Value| {
        if wanted != found {
            all.push(format!("its {what} is `{}`, not `{}`", plain(found), plain(wanted)));
        }
    };
    compare("artifact type", &wanted["artifactType"], &found["artifactType"]);
    for part in ["mediaType", "annotations"] {
        let what = format!("layer's {part}");
        compare(&what, &wanted["layers"][0][part], &found["layers"][0][part]);
    }
    compare("configuration", &wanted["config"]["digest"], &found["config"]["digest"]);
    let keys = |value: &Value| {
        let annotations = value["annotations"].as_object().cloned().unwrap_or_default();
        annotations.into_iter().map(|(key, _)| key).collect::<Vec<String>>()
    };
    let mut annotations = [keys(wanted), keys(found)].concat();
    annotations.sort();
    annotations.dedup();
    for key in annotations {
        let what = format!("annotation `{key}`");
        compare(&what, &wanted["annotations"][&key], &found["annotations"][&key]);
    }
    if all.is_empty() {
        all.push("its manifest is not that of this version of the provider".to_owned());
    }
    all
}

/// Returns a value without quotes; nothing for one that is missing.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Settings;
    use serde_json::json;

    use super::*;

    fn config(more: &[(&str, Value)]) -> Config {
        let mut values = vec![("OCI_REFERENCE", json!("registry.example.com/a"))];
        values.extend(more.iter().map(|(key, value)| (*key, value.clone())));
        let values = values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Config::read(&Settings::from_values(values)).unwrap()
    }

    fn manifest_of(config: &Config, build: &Build) -> Value {
        let layer = Layer { digest: "sha256:aa".into(), size: 7, diff_id: "sha256:bb".into() };
        let configuration = manifest::configuration(config, build, &layer);
        let descriptor = manifest::descriptor(config, &layer);
        let document = manifest::manifest(config, build, &configuration, &descriptor);
        serde_json::from_slice(&document.bytes).unwrap()
    }

    fn named(name: &str, chosen: bool) -> Build {
        Build::default().image_name(name).description(name).image_name_chosen(chosen)
    }

    #[test]
    fn every_setting_that_changes_the_manifest_is_a_difference() {
        let build = named("web", true);
        let artifact = ("OCI_KIND", json!("artifact"));
        let with =
            |more: &[(&'static str, Value)]| [std::slice::from_ref(&artifact), more].concat();
        let cases = [
            (vec![], vec![("OCI_LAYER_COMPRESSION", json!("gzip"))], vec!["layer's mediaType"]),
            (vec![], vec![("OCI_ANNOTATIONS", json!({"team": "a"}))], vec!["annotation `team`"]),
            (
                vec![("OCI_ANNOTATIONS", json!({"team": "a"}))],
                vec![("OCI_ANNOTATIONS", json!({"team": "b"}))],
                vec!["annotation `team` is `a`, not `b`"],
            ),
            (
                vec![],
                with(&[]),
                vec!["artifact type", "layer's mediaType", "layer's annotations", "configuration"],
            ),
            (with(&[]), with(&[("OCI_ARTIFACT_TYPE", json!("a/b"))]), vec!["artifact type"]),
            (with(&[]), with(&[("OCI_MEDIA_TYPE", json!("a/b"))]), vec!["layer's mediaType"]),
        ];
        for (has, wants, expected) in cases {
            let found = manifest_of(&config(&has), &build);
            let texts = differing(&manifest_of(&config(&wants), &build), &found);
            assert_eq!(texts.len(), expected.len(), "{texts:?}");
            for (text, part) in texts.iter().zip(expected) {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        let found = manifest_of(&config(&[]), &build);
        let other = manifest_of(
            &config(&[]),
            &build.clone().architecture(build_image_plugin_api::Architecture::Aarch64),
        );
        assert!(differing(&other, &found)[0].contains("configuration"));
    }

    #[test]
    fn an_image_keeps_its_name_unless_another_was_chosen() {
        for (reference, chosen, same) in [
            ("registry.example.com/a", false, true),
            ("registry.example.com/a", true, false),
            ("registry.example.com/a:1", false, true),
            ("registry.example.com/a:1", true, false),
        ] {
            let config = config(&[("OCI_REFERENCE", json!(reference))]);
            let found = manifest_of(&config, &named("web-1", chosen));
            let build = renamed(&config, &named("web-2", chosen), &found);
            let wanted = manifest_of(&config, &build);
            assert_eq!(wanted == found, same, "{reference} {chosen}");
        }
    }
}
