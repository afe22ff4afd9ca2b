//! Implements the stub provider for Amazon EC2: makes the disk that EC2 imports, in a package with its OVF
//! descriptor, and a script that uploads and registers it.
#![forbid(unsafe_code)]

mod describe;
mod script;
mod settings;

use build_image_plugin_api::{
    Context, Description, DiskSpec, Error, Result, Settings,
    document::{Build, Finding},
    export_provider,
    ready::{
        appliance,
        scripted::{NameLength, Scripted, ScriptedUpload},
    },
};
use serde_json::Value;

use crate::settings::{EULA, SHARE};

/// The provider.
pub struct Aws {
    bucket: String,
    region: String,
    share: Vec<String>,
    eula: Option<String>,
    name_length: NameLength,
    /// Number of polls of the import, and seconds between them.
    import: (u64, u64),
    /// Number of polls of the image, and seconds between them.
    image: (u64, u64),
}

impl Aws {
    /// Reads the licence text, if one is set.
    fn eula(&self) -> Result<Option<String>> {
        self.eula.as_ref().map(|path| appliance::licence(EULA, path)).transpose()
    }
}

/// Returns the account ids to share the image with; EC2's ids have twelve digits.
fn accounts(settings: &Settings) -> Result<Vec<String>> {
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let ids: Vec<String> = settings.parsed::<Vec<Value>>(SHARE)?.into_iter().map(text).collect();
    let is_id = |id: &String| id.len() == 12 && id.bytes().all(|digit| digit.is_ascii_digit());
    match ids.iter().find(|id| !is_id(id)) {
        Some(invalid) => Err(Error::config(format!("{SHARE}: `{invalid}` is no account id"))
            .with_hint("account ids have twelve digits; quote those that start with 0")),
        None => Ok(ids),
    }
}

impl ScriptedUpload for Aws {
    const CLOUD: &'static str = "AWS";

    fn describe() -> Description {
        describe::description()
    }

    fn create(_: &Context, settings: Settings) -> Result<Self> {
        let eula = settings.text(EULA).map(str::to_owned);
        if let Some(path) = &eula {
            appliance::check_licence_path(EULA, path)?;
        }
        let text = |key: &str| settings.text(key).unwrap_or_default().to_owned();
        let pair = |name: &str, count: u64, delay: u64| {
            let number = |end: &str| settings.integer(&format!("AWS_{name}_RETRY_{end}"));
            (number("COUNT").unwrap_or(count), number("DELAY").unwrap_or(delay))
        };
        Ok(Self {
            bucket: text("AWS_BUCKET"),
            region: text("AWS_REGION"),
            share: accounts(&settings)?,
            eula,
            name_length: NameLength::of(&settings, "AWS")?,
            import: pair("IMPORT_SNAPSHOT_TASK", 120, 30),
            image: pair("CREATE_IMAGE", 40, 30),
        })
    }

    fn findings(&self, build: &Build) -> Vec<Finding> {
        let mut findings = vec![self.name_length.check(build)];
        findings.extend(self.eula().err().map(|error| Finding::error(EULA, &error)));
        findings
    }

    fn spec(&self, build: &Build, spec: &DiskSpec) -> Result<DiskSpec> {
        let mut spec = spec.clone();
        if spec.ovf.is_some() {
            let mut machine = appliance::machine(build);
            machine.eula = self.eula()?;
            spec.ovf = Some(machine);
        }
        Ok(spec)
    }

    fn script(&self, build: &Build, spec: &DiskSpec, file: &str) -> String {
        self.render(build, spec, file)
    }
}

export_provider!(Scripted<Aws>);
