//! Writes records of a build for other programs into its artifacts directory: small JSON files, with the names
//! and members that consumers of the previous tool read. They are copies; nothing in this program reads them.

mod files;
mod snapshot;
mod write;

use std::path::Path;

use build_image_disk::installer::{Record, RecordContext};
use serde_json::{Value, json};

use crate::{
    error::Result,
    plan::Plan,
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
        let raw = self.plan.raw_disk();
        self.of_installer(
            installation.prepared.records_of_start(&self.context(&raw, &|key| self.setting(key))),
        )
    }

    /// Records that the raw disk is installed.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn installed(&self, raw: &Path) -> Result<()> {
        let Some(installation) = &self.plan.installation else { return Ok(()) };
        self.of_installer(
            installation.prepared.records_of_end(&self.context(raw, &|key| self.setting(key))),
        )
    }

    fn context<'b>(
        &self,
        raw_disk: &'b Path,
        shown: &'b dyn Fn(&str) -> String,
    ) -> RecordContext<'b> {
        RecordContext {
            raw_disk,
            virtual_size: self.plan.build.virtual_size,
            is_cloud: self.plan.is_cloud,
            shown,
        }
    }

    /// Writes the records of the installer.
    fn of_installer(&self, records: Vec<Record>) -> Result<()> {
        for Record { file, step, members } in records {
            let members = match step {
                Some(step) => self.step(&step, &members),
                None => members,
            };
            self.put(&file, members)?;
        }
        Ok(())
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
        if let Some(installation) = &self.plan.installation {
            members.extend(installation.document().image_members.clone());
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
            Some(log) => snapshot::write(&self.plan.artifacts, Path::new(log), self.own_files()),
            None => Ok(()),
        }
    }

    /// Returns the names of the installer's records and serial logs.
    fn own_files(&self) -> &[String] {
        let installation = self.plan.installation.as_ref();
        installation.map_or(&[], |installation| &installation.document().snapshot_files)
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
        ]);
        if let Some(installation) = &self.plan.installation {
            members.extend(installation.document().step_members.clone());
        }
        members.extend(own.as_object().cloned().unwrap_or_default());
        members.into()
    }

    fn user_inputs(&self) -> Value {
        let mut own = members_of([
            ("description", json!("User inputs")),
            ("config_file", json!(self.setting(keys::CONFIG_FILE.name()))),
            ("iso", json!(self.setting(keys::ISO.name()))),
            ("iso_sig", json!(self.setting(keys::ISO_SIG.name()))),
            ("pub_key", json!(self.setting(keys::ISO_SIG_VERIFICATION_PUBLIC_KEY.name()))),
        ]);
        let installer = self.plan.installation.as_ref().map(|installation| installation.installer);
        for medium in installer.map(|installer| installer.media()).unwrap_or_default() {
            for key in [medium.key, medium.signature] {
                own.insert(key.to_lowercase(), json!(self.setting(key)));
            }
        }
        let own = own.into();
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
