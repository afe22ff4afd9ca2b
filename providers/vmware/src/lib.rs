//! Publishes the disk as an OVA file in IMAGE_DIR: descriptor, manifest and a streamOptimized VMDK.
#![forbid(unsafe_code)]

mod describe;
mod machine;

use build_image_plugin_api::{
    Context, Description, Disk, Provider, Result, Settings,
    document::{
        Build, CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, Finding,
        RegisterRequest, Registered, UploadRequest, Uploaded,
    },
    export_provider,
    ready::{appliance, directory},
};

use crate::{
    describe::{DIGEST, EULA, PROPERTIES},
    machine::Machine,
};

/// The provider.
pub struct Vmware {
    eula: Option<String>,
    digest: String,
    properties: bool,
    machine: Machine,
}

impl Vmware {
    /// Reads the licence text, if one is set.
    fn eula(&self) -> Result<Option<String>> {
        self.eula.as_ref().map(|path| appliance::licence(EULA, path)).transpose()
    }

    /// Checks the properties; `None` when properties are not requested.
    fn check_properties(&self, build: &Build) -> Option<Finding> {
        if !self.properties {
            return None;
        }
        Some(match machine::properties_of(build) {
            Ok(_) if build.product.is_empty() => Finding::warning(
                PROPERTIES,
                "the disk's product is not known, hence not whether it reads properties",
                format!("leave {PROPERTIES} out unless the disk is a BIG-IP"),
            ),
            Ok(rows) => Finding::ok(PROPERTIES, format!("{} properties", rows.len())),
            Err(error) => Finding::error(PROPERTIES, &error),
        })
    }
}

impl Provider for Vmware {
    fn describe() -> Description {
        describe::description()
    }

    fn create(_: &Context, settings: Settings) -> Result<Self> {
        let eula = settings.text(EULA).map(str::to_owned);
        if let Some(path) = &eula {
            appliance::check_licence_path(EULA, path)?;
        }
        let digest = settings.text(DIGEST).unwrap_or("SHA256").to_owned();
        let (properties, machine) = (settings.boolean(PROPERTIES), Machine::of(&settings)?);
        Ok(Self { eula, digest, properties, machine })
    }

    fn check(&self, _: &Context, request: &CheckRequest) -> Result<CheckReport> {
        let mut findings = vec![directory::check(request)];
        match self.eula() {
            Ok(None) => {}
            Ok(Some(_)) => findings.push(Finding::ok(EULA, "the licence text can be read")),
            Err(error) => findings.push(Finding::error(EULA, &error)),
        }
        findings.extend(self.check_properties(&request.build));
        Ok(CheckReport::default().findings(findings))
    }

    fn create_disk(&self, context: &Context, request: &DiskRequest) -> Result<Disk> {
        let mut spec = request.spec.clone();
        if spec.ovf.is_some() {
            let ovf = machine::ovf(&request.build, &self.machine, self.eula()?, self.properties)?;
            spec.ovf = Some(ovf.manifest_digest(self.digest.clone()));
        }
        context.make_disk(&spec)
    }

    fn upload(&self, context: &Context, request: &UploadRequest) -> Result<Uploaded> {
        directory::write(context, request)
    }

    fn register(&self, _: &Context, request: &RegisterRequest) -> Result<Registered> {
        Ok(directory::registered(request))
    }

    fn discard(&self, context: &Context, request: &DiscardRequest) -> Result<Discarded> {
        directory::remove(context, request)
    }
}

export_provider!(Vmware);
