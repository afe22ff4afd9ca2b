//! Implements the stub provider for Google Compute Engine: makes the raw disk in the archive that it accepts, and
//! a script that uploads and registers it.
#![forbid(unsafe_code)]

mod describe;
mod script;
mod settings;

use std::fs;

use build_image_plugin_api::{
    Context, Description, DiskSpec, Error, Result, Settings,
    document::{Build, Finding},
    export_provider,
    ready::scripted::{NameLength, Scripted, ScriptedUpload},
};
use serde_json::Value;

use crate::settings::CREDENTIALS;

/// The provider.
pub struct Gce {
    bucket: String,
    /// Project of the credentials; empty when it is not known.
    project: String,
    /// Problem with the credentials, if there are any credentials.
    credentials_problem: Option<Error>,
    name_length: NameLength,
}

/// Returns the project in the credentials: JSON text, or the path of a `.json` file.
fn project(given: &str) -> Result<String> {
    let credentials_error = |what: &str| {
        Error::config(format!("{CREDENTIALS} {what}"))
            .with_hint("set it to the JSON text of a service account key, or to a file `….json`")
    };
    let given = given.trim();
    let text = if given.starts_with('{') {
        given.to_owned()
    } else if given.ends_with(".json") {
        fs::read_to_string(given).map_err(|error| {
            credentials_error("names a file that cannot be read").caused_by(&error)
        })?
    } else {
        return Err(credentials_error("is neither JSON text nor the path of a `.json` file"));
    };
    // The parser's message might contain a part of the key.
    let parsed: Value =
        serde_json::from_str(&text).map_err(|_| credentials_error("is not JSON"))?;
    let project = parsed.get("project_id").and_then(Value::as_str);
    project.map(str::to_owned).ok_or_else(|| credentials_error("names no `project_id`"))
}

/// Returns problems with tags whose keys cannot be labels.
fn invalid_tags(build: &Build) -> Vec<Finding> {
    let legal = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '_' | '-');
    let is_label = |key: &str| {
        key.starts_with(|letter: char| letter.is_ascii_lowercase()) && key.chars().all(legal)
    };
    let invalid = build.tags.keys().filter(|key| !is_label(key));
    let finding = |key: &String| {
        let error = Error::config(format!("tag `{key}` cannot be a label"));
        let hint = "keys in IMAGE_TAGS are lower-case letters, digits, `_` and `-`, a letter first";
        Finding::error("tags", &error.with_hint(hint))
    };
    invalid.map(finding).collect()
}

impl ScriptedUpload for Gce {
    const CLOUD: &'static str = "Google Compute Engine";

    fn describe() -> Description {
        describe::description()
    }

    fn create(context: &Context, settings: Settings) -> Result<Self> {
        let given = context.secret(CREDENTIALS)?;
        let (project, credentials_problem) = match given.map(|secret| project(secret.reveal())) {
            None => (String::new(), None),
            Some(Ok(project)) => (project, None),
            Some(Err(error)) => (String::new(), Some(error)),
        };
        Ok(Self {
            bucket: settings.text("GCE_BUCKET").unwrap_or_default().to_owned(),
            project,
            credentials_problem,
            name_length: NameLength::of(&settings, "GCE")?,
        })
    }

    fn findings(&self, build: &Build) -> Vec<Finding> {
        let mut findings = vec![self.name_length.check(build)];
        findings.extend(
            self.credentials_problem.as_ref().map(|error| Finding::error("credentials", error)),
        );
        findings.extend(invalid_tags(build));
        findings
    }

    fn script(&self, build: &Build, spec: &DiskSpec, file: &str) -> String {
        self.render(build, spec, file)
    }
}

export_provider!(Scripted<Gce>);
