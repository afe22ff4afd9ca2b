//! What an image was made of, for others to check: an in-toto Statement v1 with the predicate SLSA Provenance
//! v1, in the file PROVENANCE_FILE names. Sources: <https://github.com/in-toto/attestation/tree/main/spec/v1>,
//! <https://slsa.dev/spec/v1.0/provenance>.
//!
//! Every digest is a SHA-256 of bytes that are read for it, hence only on request. With a key there is a signed
//! form beside it, a DSSE envelope. An image in a cloud is the
//! one that was sent; folders put into an image with UPDATE_IMAGE_FILES are named among the settings, not
//! digested.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use build_image_plugin_api::Disk;
use serde_json::{Map, Value, json};

use super::{
    Pipeline,
    publish::{put, write_beside},
};
use crate::{
    artifacts::cannot_make,
    error::{Error, Result, Stage},
    plugins::Made,
    report::Outcome,
    signature::{Algorithm, FileDigest, digests_of},
};

/// The setting.
const KEY: &str = "PROVENANCE_FILE";
/// Ending of the signed form, in the place of `.json`: an envelope per line, as SLSA's tools read them.
const ENVELOPE: &str = ".intoto.jsonl";
/// What an envelope holds: <https://github.com/in-toto/attestation/blob/main/spec/v1/envelope.md>.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What kind of build this is, and what its parameters mean.
const BUILD_TYPE: &str = "urn:build-image:build:1";

impl Pipeline<'_> {
    /// Makes the folder of the statement, before the long part.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn prepare_provenance(&self) -> Result<()> {
        let path = self.settings.path(KEY);
        let Some(folder) = path.as_deref().and_then(Path::parent) else { return Ok(()) };
        if folder.as_os_str().is_empty() {
            return Ok(());
        }
        let failed = |error: std::io::Error| {
            cannot_make(folder, &error).hint(format!("set {KEY} to a file this user may write"))
        };
        fs::create_dir_all(folder).map_err(failed)
    }

    /// Writes the statement, if one is wanted. The image is there already and stays: a statement that cannot
    /// be written is a warning.
    pub(super) fn attest(&self, sent: Option<&Disk>, outcome: &Outcome) {
        let Some(path) = self.settings.path(KEY) else { return };
        if let Err(error) = self.write_statement(&path, sent, outcome) {
            self.reporter.warning(&error.message, error.hint.as_deref());
        }
    }

    fn write_statement(&self, path: &Path, sent: Option<&Disk>, outcome: &Outcome) -> Result<()> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [self.subject(sent, outcome)?],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": self.parameters(),
                    "resolvedDependencies": self.inputs_of_statement()?,
                },
                "runDetails": self.details(outcome)?,
            },
        });
        let text = format!("{statement:#}\n");
        put(path, text.as_bytes()).map_err(|error| {
            Error::new(Stage::Disk, format!("cannot write `{}`", path.display()))
                .because(&error)
                .hint(format!("set {KEY} to a file this user may write"))
        })?;
        if let Some(signer) = self.signer()? {
            let envelope = signer.envelope(PAYLOAD_TYPE, text.as_bytes())?;
            let json = path.extension().is_some_and(|ending| ending == "json");
            let stem = if json { path.with_extension("") } else { path.to_owned() };
            write_beside(&stem, ENVELOPE, format!("{envelope}\n").as_bytes())?;
        }
        Ok(())
    }

    /// The image: the published file, or the one that was sent.
    fn subject(&self, sent: Option<&Disk>, outcome: &Outcome) -> Result<Value> {
        let digest = match (sent.and_then(|disk| self.host.made(disk.id)), &outcome.file) {
            (Some(made), _) => self.digest(&mut Reading { made: &made, offset: 0 })?,
            (None, Some(file)) => self.digest_of_file(Path::new(file))?,
            (None, None) => return Err(Error::new(Stage::Bug, "there is no image to attest")),
        };
        let ids: Vec<&str> = outcome.images.iter().map(|image| image.id.as_str()).collect();
        let name = outcome.file.as_deref().map_or(outcome.image_name.as_str(), |file| {
            Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or(file)
        });
        Ok(json!({"name": name, "digest": {"sha256": digest}, "annotations": {"images": ids}}))
    }

    /// Every setting, secrets masked.
    fn parameters(&self) -> Value {
        let settings = self.settings.shown();
        let members: Map<String, Value> =
            settings.map(|(key, text, _)| (key.to_owned(), json!(text))).collect();
        json!({"platform": self.plan.platform, "settings": members})
    }

    /// ISOs or the disk, files that are injected, the plugin.
    fn inputs_of_statement(&self) -> Result<Vec<Value>> {
        let mut inputs = Vec::new();
        let mut add = |name: &str, path: &Path, known: Option<&FileDigest>| -> Result<()> {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            // What was checked is what was installed, whatever the file has become: it is not read again.
            let known = known.map(|known| hex(known.sha256()));
            let sha256 = known.map_or_else(|| self.digest_of_file(path), Ok)?;
            inputs.push(json!({"name": name, "uri": file, "digest": {"sha256": sha256}}));
            Ok(())
        };
        if let Some(installation) = &self.plan.installation {
            add("iso", &installation.iso, installation.iso_digest.as_ref())?;
            if let Some(hotfix) = &installation.hotfix {
                add("hotfix", &hotfix.path, hotfix.digest.as_ref())?;
            }
            let files = installation.guest.files.iter().filter(|file| file.source.is_file());
            files.into_iter().try_for_each(|file| add(&file.destination, &file.source, None))?;
        }
        if let Some(disk) = &self.plan.disk {
            add("disk", &disk.path, None)?;
        }
        let plugin = json!({
            "name": format!("provider {}", self.plugin.name),
            "digest": {"sha256": self.plugin.sha256},
            "annotations": {"version": self.plugin.description().version},
        });
        inputs.push(plugin);
        Ok(inputs)
    }

    fn details(&self, outcome: &Outcome) -> Result<Value> {
        let tool = self.digest_of_file(Path::new("/proc/self/exe"))?;
        let qemu = self.qemu.as_ref().map(|qemu| qemu.version().to_owned());
        Ok(json!({
            "builder": {
                "id": "urn:build-image",
                "version": {"build-image": env!("CARGO_PKG_VERSION"), "qemu": qemu},
                "builderDependencies": [{"name": "build-image", "digest": {"sha256": tool}}],
            },
            "metadata": {
                "invocationId": self.plan.build.run_id,
                "startedOn": outcome.start_time,
                "finishedOn": crate::clock::now(),
            },
        }))
    }

    fn digest_of_file(&self, path: &Path) -> Result<String> {
        let opened = File::open(path).map_err(|error| {
            Error::new(Stage::Disk, format!("cannot read `{}`", path.display())).because(&error)
        });
        self.digest(&mut opened?)
    }

    fn digest(&self, reader: &mut dyn Read) -> Result<String> {
        let digests = digests_of(reader, &[Algorithm::Sha256], &mut |_| self.going_on())?;
        Ok(digests.hex(Algorithm::Sha256).unwrap_or_default())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An image that was handed out, from its start to its end.
struct Reading<'a> {
    made: &'a Made,
    offset: u64,
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let watch = || std::ops::ControlFlow::Continue(());
        let count = self.made.read_at(buffer, self.offset, &watch);
        let count = count.map_err(|error| std::io::Error::other(error.message))?;
        self.offset += count as u64;
        Ok(count)
    }
}
