//! Makes the package for IMAGE_DIR: the disk that EC2 imports, with its OVF descriptor, and a script that uploads and
//! registers it. Builds with `--no-upload` end with it.

use build_image_plugin_api::{
    Context, Description, DiskSpec, Result, Settings,
    document::{Build, Finding},
    ready::{
        appliance,
        scripted::{NameLength, ScriptedUpload},
    },
};

use crate::{config::accounts, describe, settings::EULA};

/// What the package and its script depend on.
pub(crate) struct Package {
    pub(crate) bucket: String,
    pub(crate) region: String,
    pub(crate) share: Vec<String>,
    eula: Option<String>,
    name_length: NameLength,
    /// Number of polls of the import, and seconds between them.
    pub(crate) import: (u64, u64),
    /// Number of polls of the image, and seconds between them.
    pub(crate) image: (u64, u64),
}

impl Package {
    /// Reads the licence text, if one is set.
    fn eula(&self) -> Result<Option<String>> {
        self.eula.as_ref().map(|path| appliance::licence(EULA, path)).transpose()
    }
}

impl ScriptedUpload for Package {
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
