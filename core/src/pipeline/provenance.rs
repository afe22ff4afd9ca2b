//! Writes the provenance statement: an in-toto Statement v1 with the predicate SLSA Provenance v1, in the file that
//! PROVENANCE_FILE names, so that others can verify what an image was made of. Sources:
//! <https://github.com/in-toto/attestation/tree/main/spec/v1>, <https://slsa.dev/spec/v1.0/provenance>.
//!
//! Every digest is a SHA-256 of bytes that are read for it, hence only on request. With a key a signed form, a DSSE
//! envelope, is written beside it. The digest of an image in a cloud is that of the bytes that were sent; directories
//! put into an image with UPDATE_IMAGE_FILES are listed among the settings, without digests.

use std::{
    fs::{self, File},
    io::{self, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use build_image_files::{FileSet, SetError};
use build_image_plugin_api::{Disk, SettingKind, document::Uploaded};
use serde_json::{Map, Value, json};

use super::{
    Pipeline,
    inputs::of_image,
    order::Work,
    sbom,
    state::{Flow, State},
};
use crate::{
    artifacts::{cannot, cannot_make, write_whole},
    error::{Error, Result, Stage},
    journal::Entry,
    plugins::ImageHandle,
    report::Outcome,
    settings::{Key, OnResume, Row, SbomFormat, core_row, keys, names_file},
    signature::{Algorithm, FileDigest, digests_of},
};

/// The setting.
const KEY: Key = keys::PROVENANCE_FILE;
/// Member of the facts of the attestation: the path of the statement.
const STATEMENT: &str = "statement";
/// Suffix of the signed form, in place of `.json`: one envelope per line, the format that SLSA's tools read.
const ENVELOPE: &str = ".intoto.jsonl";
/// Media type of an envelope's payload: <https://github.com/in-toto/attestation/blob/main/spec/v1/envelope.md>.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Identifies the kind of build and the meaning of its parameters.
const BUILD_TYPE: &str = "urn:build-image:build:1";

impl<'a> Pipeline<'a> {
    /// Creates the directory of the statement, before the long steps.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(super) fn prepare_provenance(&self) -> Result<()> {
        let path = self.statement_path();
        let Some(directory) = path.and_then(Path::parent) else { return Ok(()) };
        if directory.as_os_str().is_empty() {
            return Ok(());
        }
        let make_error = |error: io::Error| {
            cannot_make(directory, &error).hint(format!("set {KEY} to a file this user may write"))
        };
        fs::create_dir_all(directory).map_err(make_error)
    }

    /// Returns whether a statement is requested.
    pub(super) fn wants_statement(&self) -> bool {
        self.statement_path().is_some()
    }

    /// Returns the path of the statement that is requested.
    fn statement_path(&self) -> Option<&'a Path> {
        self.settings.core().publication.provenance.as_deref()
    }

    /// Writes checksums and signatures beside files that a provider published, and the statement if one is requested.
    /// An image in the cloud stays even if the statement fails; the build then fails, and a resumed run writes it.
    ///
    /// # Errors
    /// When checksums cannot be written or the user cancels.
    pub(super) fn attest(&mut self, work: &mut Work, outcome: &mut Outcome) -> Result<()> {
        let step = State::Attested.step();
        let mut files = std::mem::take(&mut work.published);
        if let (Flow::Local, Some(uploaded)) = (self.plan.flow(), &work.uploaded) {
            // The files of an earlier process are read again.
            let resumed = self.was_reached(State::Registered);
            let file = PathBuf::from(&uploaded.location);
            let checksums = match self.host.digests_of(&file) {
                _ if resumed => Vec::new(),
                Some(computed) => computed,
                None => checksums_of(uploaded),
            };
            files.push((file, checksums));
        }
        let is_local = self.plan.flow() == Flow::Local;
        if !is_local && !self.wants_statement() {
            return self.end_silently(step, json!({}));
        }
        let text = if is_local { "writing checksums" } else { "writing the provenance statement" };
        self.begin(step, text)?;
        // The files that the host publishes have had checksums since they were written.
        for (file, checksums) in files.iter().filter(|_| is_local) {
            self.write_checksums(file, checksums)?;
        }
        let mut facts = json!({});
        if let Some(path) = self.statement_path() {
            if let Err(error) = self.make_statement(work, files.first(), outcome) {
                if !self.plan.upload || error.stage == Stage::Interrupted {
                    return Err(error);
                }
                self.reporter.abandon();
                self.fails_late(statement_error(outcome, error));
                return Ok(());
            }
            facts[STATEMENT] = json!(self.settings.absolute(path)?);
        }
        let text = if is_local { "wrote checksums" } else { "wrote the provenance statement" };
        self.end(step, text, facts, outcome)
    }

    /// Returns whether a statement is requested and no earlier process of the run made it.
    pub(super) fn lacks_statement(&self) -> bool {
        let facts = self.host.step_done(State::Attested.step()).unwrap_or_default();
        self.wants_statement() && facts.get(STATEMENT).is_none()
    }

    /// Moves the statement to its path, once the image is released.
    ///
    /// # Errors
    /// When it cannot be written; a resumed run writes it.
    pub(super) fn publish_statement(&self, outcome: &Outcome) -> Result<()> {
        let Some(path) = self.statement_path() else { return Ok(()) };
        self.prepare_provenance()
            .and_then(|()| publish_statement(&self.plan.run, path))
            .map_err(|error| statement_error(outcome, error))
    }

    /// Writes the statement and its signed form into the run's directory: an older statement stays at its path until
    /// the image is released.
    fn make_statement(
        &self,
        work: &Work,
        file: Option<&(PathBuf, Vec<(Algorithm, String)>)>,
        outcome: &Outcome,
    ) -> Result<()> {
        self.inputs_are_those_of_the_image()?;
        let mut subjects = vec![self.subject(work, file, outcome)?];
        subjects.extend(self.bill_of_statement()?);
        let inputs = self.inputs_of_statement()?;
        let parameters = self.parameters(&|_| true);
        let statement = statement(&subjects, &parameters, &inputs, &self.details(outcome)?);
        let text = format!("{statement:#}\n");
        let run = &self.plan.run;
        let write = |name: &str, text: &str| {
            let path = run.join(name);
            write_whole(&path, text.as_bytes()).map_err(|error| cannot("write", &path, &error))
        };
        if let Some(signer) = self.signer()? {
            let envelope = signer.envelope(PAYLOAD_TYPE, text.as_bytes())?;
            write(&staged(ENVELOPE), &format!("{envelope}\n"))?;
        }
        write(&staged(".json"), &text)
    }

    /// Returns the subject of the statement: the image that was sent, or the published file.
    fn subject(
        &self,
        work: &Work,
        file: Option<&(PathBuf, Vec<(Algorithm, String)>)>,
        outcome: &Outcome,
    ) -> Result<Value> {
        let sha256 = |checksums: &[(Algorithm, String)]| {
            let found = checksums.iter().find(|(algorithm, _)| *algorithm == Algorithm::Sha256);
            found.map(|(_, text)| text.to_lowercase())
        };
        let digest = match (&work.sent_sha256, file) {
            (Some(sha256), _) => sha256.clone(),
            (None, Some((file, checksums))) => {
                sha256(checksums).map_or_else(|| self.digest_of_file(file), Ok)?
            }
            (None, None) => self.digest_of_converted(work.disk.as_ref())?,
        };
        let ids: Vec<&str> = outcome.images.iter().map(|image| image.id.as_str()).collect();
        let object = outcome.uploaded.as_ref().map(|uploaded| uploaded.id.as_str());
        let file = outcome.file.as_deref().or(object);
        let name = file.map_or(outcome.image_name.as_str(), |file| {
            Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or(file)
        });
        Ok(json!({"name": name, "digest": {"sha256": digest}, "annotations": {"images": ids}}))
    }

    /// Writes the bill of materials into the run's directory: it is published with the statement.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn stage_bill(&mut self) -> Result<()> {
        let (Some(bill), Some(format)) = (self.bill.take(), self.settings.core().publication.sbom)
        else {
            return Ok(());
        };
        let path = self.plan.run.join(staged(sbom::file_kind(format).0));
        write_whole(&path, bill.as_bytes()).map_err(|error| cannot("write", &path, &error))
    }

    /// Returns the bill of materials as a subject of the statement, if one is requested.
    fn bill_of_statement(&self) -> Result<Option<Value>> {
        let publication = &self.settings.core().publication;
        let (Some(format), Some(path)) = (publication.sbom, self.statement_path()) else {
            return Ok(None);
        };
        let (ending, _) = sbom::file_kind(format);
        let digest = self.digest_of_file(&self.plan.run.join(staged(ending)))?;
        let file = beside(path, ending);
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Ok(Some(sbom::subject(&name, format, &digest)))
    }

    /// Returns the digest of an image that an earlier process sent: the image is made again from the same input.
    fn digest_of_converted(&self, disk: Option<&Disk>) -> Result<String> {
        let made = disk.and_then(|disk| self.host.made(disk.id));
        let (Some(disk), Some(made)) = (disk, made) else {
            return Err(Error::new(Stage::Bug, "there is no image to attest"));
        };
        let entries = self.host.entries();
        let sent = of_image(&entries, State::Converted.step());
        let sent = sent.and_then(|facts| facts.get("identity")?.as_str());
        if sent != Some(disk.identity.as_str()) {
            let text = "the disk changed since it was sent, so its digest is not that of the image";
            return Err(
                Error::new(Stage::Source, text).hint(format!("leave {KEY} out, or build again"))
            );
        }
        self.digest_of_image(&made, &AtomicBool::new(false))
    }

    /// Computes the digest of an image that the provider reads, until `over` is set or the user cancels.
    pub(super) fn digest_of_image(&self, made: &ImageHandle, over: &AtomicBool) -> Result<String> {
        let watch = || {
            if over.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                self.check_cancelled()
            }
        };
        let mut reading = Reading { made, offset: 0, watch: &watch };
        let digests = digests_of(&mut reading, &[Algorithm::Sha256], &mut |_| watch())?;
        Ok(digests.hex(Algorithm::Sha256).unwrap_or_default())
    }

    /// Returns the settings that `is_included` selects by their keys, secrets redacted.
    fn parameters(&self, is_included: &dyn Fn(&str) -> bool) -> Value {
        let settings = self.settings.shown().filter(|(key, ..)| is_included(key));
        let members: Map<String, Value> =
            settings.map(|(key, text, _)| (key.to_owned(), json!(text))).collect();
        json!({"platform": self.plan.platform, "settings": members})
    }

    /// Returns the ISOs or the disk, the injected files, and the plugin.
    fn inputs_of_statement(&self) -> Result<Vec<Value>> {
        let mut inputs = Vec::new();
        let mut add = |name: &str, path: &Path, digest: Option<String>| -> Result<()> {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            // The verified digest is that of the installed file, even if the file changed later: it is not read
            // again.
            let sha256 = digest.map_or_else(|| self.digest_of_file(path), Ok)?;
            inputs.push(json!({"name": name, "uri": file, "digest": {"sha256": sha256}}));
            Ok(())
        };
        if let Some(installation) = &self.plan.installation {
            let verified = |digest: &FileDigest| hex(digest.sha256());
            let mut isos = installation.isos();
            isos.try_for_each(|(name, path, digest)| add(name, path, digest.map(verified)))?;
            let files = installation.files.iter().filter(|file| file.source.is_file());
            files.into_iter().try_for_each(|file| add(&file.target, &file.source, None))?;
        }
        if let Some(disk) = &self.plan.disk {
            add("disk", &disk.path, disk.piped.clone())?;
        }
        if let Some(bundle) = &self.plan.from_bundle {
            add("bundle", bundle.path(), None)?;
        }
        let plugin = json!({
            "name": format!("provider {}", self.plugin.name),
            "digest": {"sha256": self.plugin.sha256},
            "annotations": {"version": self.plugin.description().version},
        });
        inputs.push(plugin);
        Ok(inputs)
    }

    /// Returns a function that makes the statement of a bundle from the SHA-256 of its image. It names neither the run
    /// nor times nor directories nor settings that do not decide what is built: equal inputs give equal statements.
    ///
    /// # Errors
    /// When an input cannot be read, or the user cancels.
    pub(super) fn statement_of_bundle(
        &self,
        member: &str,
    ) -> Result<impl Fn(&str) -> Result<String> + use<>> {
        self.inputs_are_those_of_the_image()?;
        let decides = |key: &str| {
            let decides = |row: &Row| {
                matches!(row.on_resume, OnResume::Fixed | OnResume::UntilRegistered)
                    && keys::BUNDLE != *row
            };
            core_row(key).is_none_or(decides)
        };
        let own = self.plugin.rows();
        let is_path = |key: &str| {
            let row = core_row(key).or_else(|| own.iter().find(|row| row.key() == key));
            row.is_some_and(|row| row.setting.kind == SettingKind::Path)
        };
        let mut parameters = self.parameters(&decides);
        for (key, value) in parameters["settings"].as_object_mut().into_iter().flatten() {
            if let Some(text) = value.as_str().filter(|text| names_file(text))
                && is_path(key)
            {
                let name = Path::new(text).file_name().unwrap_or_default();
                *value = json!(name.to_string_lossy());
            }
        }
        let (inputs, builder) = (self.inputs_of_statement()?, self.builder()?);
        let member = member.to_owned();
        Ok(move |sha256: &str| {
            let subject = json!({"name": member, "digest": {"sha256": sha256}});
            Ok(format!(
                "{:#}\n",
                statement(&[subject], &parameters, &inputs, &json!({"builder": builder}))
            ))
        })
    }

    fn details(&self, outcome: &Outcome) -> Result<Value> {
        Ok(json!({
            "builder": self.builder()?,
            "metadata": {
                "invocationId": self.plan.build.run_id,
                "startedOn": outcome.start_time,
                "finishedOn": crate::clock::now(),
            },
        }))
    }

    fn builder(&self) -> Result<Value> {
        let tool = self.digest_of_file(Path::new("/proc/self/exe"))?;
        let qemu = self.qemu.as_ref().map(|qemu| qemu.version().to_owned());
        Ok(json!({
            "id": "urn:build-image",
            "version": {"build-image": env!("CARGO_PKG_VERSION"), "qemu": qemu},
            "builderDependencies": [{"name": "build-image", "digest": {"sha256": tool}}],
        }))
    }

    fn digest_of_file(&self, path: &Path) -> Result<String> {
        let opened = File::open(path).map_err(|error| {
            Error::new(Stage::Disk, format!("cannot read `{}`", path.display())).caused_by(&error)
        });
        self.digest(&mut opened?)
    }

    fn digest(&self, reader: &mut dyn Read) -> Result<String> {
        let digests = digests_of(reader, &[Algorithm::Sha256], &mut |_| self.check_cancelled())?;
        Ok(digests.hex(Algorithm::Sha256).unwrap_or_default())
    }
}

/// Returns a statement about an image and what belongs to it.
fn statement(subjects: &[Value], parameters: &Value, inputs: &[Value], details: &Value) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "resolvedDependencies": inputs,
            },
            "runDetails": details,
        },
    })
}

/// Returns the name of a staged form of the statement, in the run's directory.
fn staged(ending: &str) -> String {
    format!("statement{ending}")
}

fn statement_error(outcome: &Outcome, error: Error) -> Error {
    let image = outcome.file.as_ref().map_or_else(
        || format!("image {} is registered in the cloud", outcome.image_id),
        |file| format!("`{file}` is published"),
    );
    Error {
        message: format!("{image}, but its statement was not written: {}", error.message),
        stage: Stage::Attestation,
        ..error
    }
}

/// Returns the path of the run's provenance statement, if journal entries record that it was made.
#[must_use]
pub fn statement_of(entries: &[Entry]) -> Option<PathBuf> {
    entries.iter().rev().find_map(|entry| match entry {
        Entry::StepDone { step, facts } if step == State::Attested.step() => {
            facts.get(STATEMENT)?.as_str().map(PathBuf::from)
        }
        _ => None,
    })
}

/// Returns the path of another form of the statement, or of a bill of materials.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let json = path.extension().is_some_and(|ending| ending == "json");
    let stem = if json { path.with_extension("") } else { path.to_owned() };
    let mut name = stem.into_os_string();
    name.push(ending);
    PathBuf::from(name)
}

/// Publishes the statement in a run's directory, its signed form, and the bill of materials; does nothing when the directory contains none.
///
/// # Errors
/// When it cannot be read or written.
pub fn publish_statement(run: &Path, path: &Path) -> Result<()> {
    let read = |ending: &str| match fs::read(run.join(staged(ending))) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("read", &run.join(staged(ending)), &error)),
    };
    let Some(text) = read(".json")? else { return Ok(()) };
    let write_error = |error: SetError| {
        Error::new(Stage::Disk, error.to_string())
            .caused_by(&error.source)
            .hint(format!("set {KEY} to a file this user may write"))
    };
    let mut set = FileSet::default();
    set.write(path, &text).map_err(write_error)?;
    for format in [SbomFormat::Cyclonedx, SbomFormat::Spdx] {
        let (ending, _) = sbom::file_kind(format);
        if let Some(bill) = read(ending)? {
            set.write(&beside(path, ending), &bill).map_err(write_error)?;
        }
    }
    let signed = beside(path, ENVELOPE);
    if let Some(envelope) = read(ENVELOPE)? {
        set.write(&signed, &envelope).map_err(write_error)?;
    }
    // The signed form of an older statement.
    set.obsolete(signed);
    set.commit().map_err(write_error)
}

/// Returns the checksums a provider computed while it wrote a file; others are computed by reading it.
fn checksums_of(uploaded: &Uploaded) -> Vec<(Algorithm, String)> {
    let fact = |name: &str| uploaded.facts.get(name)?.as_str().map(str::to_owned);
    [(Algorithm::Md5, "md5", 32), (Algorithm::Sha256, "sha256", 64)]
        .into_iter()
        .filter_map(|(algorithm, name, digits)| Some((algorithm, fact(name)?, digits)))
        .filter(|(_, text, digits)| {
            text.len() == *digits && text.bytes().all(|digit| digit.is_ascii_hexdigit())
        })
        .map(|(algorithm, text, _)| (algorithm, text))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads an image that the provider also reads, from start to end.
struct Reading<'a> {
    made: &'a ImageHandle,
    offset: u64,
    watch: &'a (dyn Fn() -> ControlFlow<()> + Sync),
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.made.read_at(buffer, self.offset, &self.watch);
        let count = count.map_err(|error| io::Error::other(error.message))?;
        self.offset += count as u64;
        Ok(count)
    }
}
