//! Generates the scripts, which contain the settings of providers as one line of JSON.

use build_image_plugin_api::Setting;

use super::{Provider, VERB};
use crate::cli::command::first_clause;

/// What the templates have in the place of the settings.
const SETTINGS: &str = "@SETTINGS@";
/// What the templates have in the place of the hidden command.
const COMMAND: &str = "@COMMAND@";

/// Returns the script for a shell, `None` if it has none.
pub(in crate::cli) fn text(shell: &str, providers: &[Provider]) -> Option<String> {
    let template = match shell {
        "bash" => include_str!("build-image.bash"),
        "zsh" => include_str!("build-image.zsh"),
        "fish" => include_str!("build-image.fish"),
        _ => return None,
    };
    let short: Vec<Provider> = providers.iter().map(shortened).collect();
    let mut settings = serde_json::to_string(&short).ok()?;
    if shell == "fish" {
        settings = settings.replace('\\', "\\\\").replace('\'', "\\'");
    }
    Some(template.replace(COMMAND, VERB).replace(SETTINGS, &settings))
}

/// Returns what completions use of a provider.
fn shortened(provider: &Provider) -> Provider {
    let settings = provider.settings.iter().filter(|setting| !setting.hidden);
    let short = |setting: &Setting| {
        let mut short = Setting::new(&setting.key, setting.kind, first_clause(&setting.summary));
        short.choices.clone_from(&setting.choices);
        short
    };
    Provider { name: provider.name.clone(), settings: settings.map(short).collect() }
}
