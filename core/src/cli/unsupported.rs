//! Finds settings that the chosen provider would ignore. Otherwise the user would notice only later that an image
//! lacks the requested name or tags.

use build_image_plugin_api::Description;

use crate::{
    error::{Error, Problem, Result, Stage},
    report::Reporter,
    settings::{
        Origin, Resolved,
        keys::{self, HYPERVISOR_IMAGE_NAME},
    },
};

/// Checks that the provider supports the name and the tags that are set. A flag applies to this build and is refused;
/// a configuration file or the environment may serve several providers, so the check only warns.
///
/// # Errors
/// Every flag for which the provider's description has no rules.
pub(super) fn check(
    platform: &str,
    description: &Description,
    settings: &Resolved,
    reporter: &Reporter,
) -> Result<()> {
    let name_hint = if description.uploads {
        "leave it out".to_owned()
    } else {
        format!("leave it out; {HYPERVISOR_IMAGE_NAME} sets the name of the file")
    };
    let mut problems = Vec::new();
    for (key, supported, member, hint) in [
        (
            keys::CLOUD_IMAGE_NAME,
            description.image_name.is_some(),
            "image_name",
            name_hint.as_str(),
        ),
        (keys::IMAGE_TAGS, description.tags.is_some(), "tags", "leave it out"),
    ] {
        // An empty list requests nothing.
        let asks = |list: Option<&Vec<serde_json::Value>>| list.is_none_or(|list| !list.is_empty());
        let given = settings.get(key).filter(|value| asks(value.json.as_array()));
        let Some(value) = given.filter(|_| !supported) else { continue };
        let text = format!(
            "{key} ({}): provider `{platform}` does not support it, its description has no `{member}`",
            value.origin
        );
        if matches!(value.origin, Origin::CommandLine) {
            problems.push(Problem::new(text).hint(hint));
        } else {
            reporter.warning(&format!("{text}; it has no effect on this image"), None);
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::several(Stage::Settings, "the provider does not support a setting", problems))
}
