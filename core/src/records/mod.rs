//! Writes records of a build for other programs into its artifacts directory: small JSON files, with the names
//! and members that consumers of the previous tool read. They are copies; nothing in this program reads them.

mod files;
mod snapshot;
mod write;

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    error::Result,
    plan::{Installation, Plan},
    report::{Outcome, free_name},
    settings::{Resolved, keys},
    source::redacted,
};

use write::{Members, write};

/// Writes the records of one build.
pub struct Records<'a> {
    plan: &'a Plan,
    settings: &'a Resolved,
}

impl<'a> Records<'a> {
    /// Creates the records of a build; they are written to its artifacts directory.
    #[must_use]
    pub fn new(plan: &'a Plan, settings: &'a Resolved) -> Self {
        Self { plan, settings }
    }

    /// Records the requested build, when the directory exists.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn started(&self, start_time: &str) -> Result<()> {
        self.put("start_file.json", json!({"build_start_time": start_time}))?;
        self.put("build_config.json", self.configuration())?;
        self.put("build-image.json", self.user_inputs())?;
        let Some(installation) = &self.plan.installation else { return Ok(()) };
        let facts = &installation.facts;
        let mut version: Members =
            facts.lines.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        version.insert("build_source".to_owned(), json!("VersionFile"));
        self.put("VersionFile.json", version.into())?;
        if let Some(sizes) = self.settings.by_name().get("UPDATE_LV_SIZES") {
            self.put("lv_sizes_patch.json", sizes.json.clone())?;
        }
        self.put("create_raw_disk.json", self.raw_disk(installation))
    }

    /// Records that the raw disk is installed.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn installed(&self, raw: &Path) -> Result<()> {
        let members = json!({
            "description": "raw disk",
            "bigip_iso": self.setting(keys::ISO.name()),
            "hotfix_iso": self.setting("EHF_ISO"),
            "input_json": "create_raw_disk.json",
            "lv_sizes_patch_json": if self.settings.by_name().get("UPDATE_LV_SIZES").is_some() { "lv_sizes_patch.json" } else { "" },
            "output": file_name(raw),
            "output_size": allocated_kib(raw).to_string(),
            "status": "success",
        });
        self.put("prepare_raw_disk.json", self.step("prepare_raw_disk", &members))
    }

    /// Records that a package is complete; `directory` is its final directory.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn published(
        &self,
        package: &Path,
        signature: Option<&Path>,
        directory: Option<&Path>,
    ) -> Result<()> {
        let members = json!({
            "description": "virtual disk",
            "input": file_name(&self.plan.raw_disk()),
            "output": file_name(package),
            "output_size": allocated_kib(package).to_string(),
            "sig_file": signature.map(file_name).unwrap_or_default(),
            "status": "success",
        });
        self.put("prepare_virtual_disk.json", self.step("prepare_virtual_disk", &members))?;
        let directory = directory.or(package.parent()).unwrap_or(package);
        self.put("location.json", json!({"location_dir": directory}))
    }

    /// Records that the image is registered.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn registered(&self, outcome: &Outcome) -> Result<()> {
        let platform = &self.plan.platform;
        let mut members = members_of([
            ("status", json!("success")),
            ("input", json!(file_name(&self.plan.raw_disk()))),
            ("image_name", json!(outcome.image_name)),
            ("image_id", json!(outcome.image_id)),
            ("build_type", json!(self.settings.builder().kind)),
            ("build_operation", json!("create")),
            ("build_time", json!(outcome.duration())),
        ]);
        if self.plan.installation.is_some() {
            members.insert("license_model".to_owned(), json!("byol"));
        }
        if let Some(region) = outcome.images.first().and_then(|image| image.region.as_ref()) {
            members.insert("location".to_owned(), json!(region));
        }
        for (name, value) in &outcome.provider {
            let name = free_name(name, |name| members.contains_key(name));
            members.insert(name, value.clone());
        }
        self.put("prepare_cloud_image.json", members.into())?;
        self.put("image_id.json", json!({"image_id": outcome.image_id}))?;
        let location = format!("{platform}_location");
        match outcome.provider.get(&location) {
            Some(value) => self.put(&format!("{location}.json"), json!({location: value})),
            None => Ok(()),
        }
    }

    /// Records the end of the build.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn ended(&self, outcome: &Outcome, built: bool) -> Result<()> {
        if built {
            let start = json!({"build_start_time": outcome.start_time, "result": 0});
            self.put("start_file.json", start)?;
        }
        let result = if built { "SUCCESS" } else { "FAILURE" };
        self.put(
            "end_file.json",
            json!({"build_end_time": crate::clock::now(), "result": result}),
        )?;
        files::list(&self.plan.artifacts)?;
        match &outcome.log_file {
            Some(log) => snapshot::write(&self.plan.artifacts, Path::new(log)),
            None => Ok(()),
        }
    }

    fn put(&self, name: &str, value: Value) -> Result<()> {
        write(&self.plan.artifacts.join(name), value)
    }

    fn setting(&self, key: &str) -> String {
        redacted(self.settings.by_name().text(key).unwrap_or_default())
    }

    /// Members of every step's record.
    fn step(&self, source: &str, own: &Value) -> Value {
        let builder = self.settings.builder();
        let mut members = members_of([
            ("build_source", json!(source)),
            ("build_host", json!(builder.host)),
            ("build_user", json!(builder.user)),
            ("platform", json!(self.plan.platform)),
            ("modules", json!(self.setting("MODULES"))),
            ("boot_locations", json!(self.setting("BOOT_LOCATIONS"))),
        ]);
        members.extend(own.as_object().cloned().unwrap_or_default());
        members.into()
    }

    fn user_inputs(&self) -> Value {
        let own = json!({
            "description": "User inputs",
            "config_file": self.setting(keys::CONFIG_FILE.name()),
            "iso": self.setting(keys::ISO.name()),
            "iso_sig": self.setting(keys::ISO_SIG.name()),
            "ehf_iso": self.setting("EHF_ISO"),
            "ehf_iso_sig": self.setting("EHF_ISO_SIG"),
            "pub_key": self.setting(keys::ISO_SIG_VERIFICATION_PUBLIC_KEY.name()),
        });
        self.step("build-image", &own)
    }

    /// Every setting; secrets are redacted.
    fn configuration(&self) -> Value {
        self.settings
            .shown()
            .map(|(key, text, _)| (key.to_owned(), json!(text)))
            .collect::<Members>()
            .into()
    }

    fn raw_disk(&self, installation: &Installation) -> Value {
        let (sizes, volumes) = (&installation.sizes, &installation.sizes.volumes);
        let attributes: Members = [
            ("fix_config_mib", volumes.config),
            ("fix_root_mib", volumes.root),
            ("fix_usr_mib", volumes.usr),
            ("fix_var_mib", volumes.var),
            ("fix_boot_mib", volumes.boot),
            ("fix_swap_mib", sizes.swap_partition),
            ("fix_swapvol_mib", volumes.swap),
            ("fix_share_mib", volumes.shared),
            ("fix_appdata_mib", volumes.appdata),
            ("fix_log_mib", volumes.log),
        ]
        .into_iter()
        .map(|(name, mib): (&str, u64)| (name.to_owned(), json!(mib.to_string())))
        .collect();
        let own = json!({
            "description": "raw disk of the planned size",
            "is_cloud": if self.plan.is_cloud { "1" } else { "0" },
            "input": self.setting(keys::ISO.name()),
            "output": file_name(&self.plan.raw_disk()),
            "status": "success",
            "image_size": format!("{}GiB", self.plan.build.virtual_size >> 30),
            "attributes": Value::from(attributes),
        });
        self.step("create_raw_disk", &own)
    }
}

fn members_of<const N: usize>(members: [(&str, Value); N]) -> Members {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Allocated size of a file, KiB, as `du` prints it.
fn allocated_kib(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    path.metadata().map_or(0, |metadata| metadata.blocks().div_ceil(2))
}
