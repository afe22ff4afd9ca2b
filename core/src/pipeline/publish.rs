//! Publishes the package in IMAGE_DIR, with checksums and a signature beside it that prove its integrity.

use std::{
    fs::{self, File},
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use build_image_files::{FileSet, SetError};
use build_image_plugin_api::{Disk, ErrorKind, Progress, Resource, document::Build};
use serde_json::json;

use super::{Pipeline, state::PUBLISH};
use crate::{
    artifacts::{cannot, cannot_make, more_space},
    error::{Error, Result, Stage},
    plugins::with_suffix,
    publication::Publication,
    report::{Leftover, Outcome},
    settings::{
        IfExists,
        keys::{self, IMAGE_DIR},
    },
    signature::{Algorithm, Signer, digests_of},
    source::{GivenDisk, from_disk},
};

/// Checksum files: algorithm, suffix. Their lines have the format of `md5sum` and `sha256sum`.
const DIGESTS: [(Algorithm, &str); 2] = [(Algorithm::Md5, "md5"), (Algorithm::Sha256, "sha256")];

impl Pipeline<'_> {
    /// Opens the staging directory if files are published. Refuses the build if it would write a file that another
    /// build is writing, or replace its own input.
    ///
    /// # Errors
    /// As [`Publication::begin`].
    pub(super) fn open_publication(&mut self) -> Result<()> {
        let Some((directory, name)) = self.published_name().filter(|_| self.publication.is_none())
        else {
            return Ok(());
        };
        let names = [name];
        let opened = Publication::check_names(&directory, &names, &self.inputs_of_build())
            // A later attempt of the run finds the files of an earlier one.
            .and_then(|()| Publication::reopen(&directory, &names[0], &self.plan.build.run_id));
        self.publication = Some(opened.map_err(|error| self.of_bundle(error))?);
        if let Some(existing) = self.existing_file() {
            self.may_replace(&existing)?;
            let text =
                format!("`{}` is replaced when the new image is complete", existing.display());
            self.reporter.milestone(&text);
        }
        Ok(())
    }

    /// Returns the directory and the name of the file that is published, if one is.
    fn published_name(&self) -> Option<(PathBuf, String)> {
        let build = &self.plan.build;
        let directory = build.image_dir.as_ref().filter(|_| self.plan.needs_image_dir())?;
        let bundle = self.plan.bundle.as_ref().and_then(|bundle| bundle.file_name());
        let name = match bundle {
            Some(name) => name.to_string_lossy().into_owned(),
            None => with_suffix(&build.file_stem, self.plan.package.file_suffix()),
        };
        Some((PathBuf::from(directory), name))
    }

    /// Returns a file that has the name of the one that is published, or of one of its checksums and signatures.
    pub(crate) fn existing_file(&self) -> Option<PathBuf> {
        let (directory, name) = self.published_name()?;
        Publication::existing(&directory, &name)
    }

    /// Checks that a file may be replaced.
    ///
    /// # Errors
    /// With FILE_IF_EXISTS=fail.
    pub(crate) fn may_replace(&self, file: &Path) -> Result<()> {
        if self.settings.core().publication.if_exists == IfExists::Replace {
            return Ok(());
        }
        let text = format!("`{}` exists already", file.display());
        Err(Error::new(Stage::Provider(ErrorKind::Conflict), text).hint(format!(
            "remove it, choose another {}, or set {}=replace",
            keys::HYPERVISOR_IMAGE_NAME,
            keys::FILE_IF_EXISTS
        )))
    }

    /// Discards a staging directory that was opened for other names.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) fn close_publication(&mut self) -> Result<()> {
        let Some(publication) = self.publication.take() else { return Ok(()) };
        drop(publication);
        let build = &self.plan.build;
        Publication::discard(
            Path::new(build.image_dir.as_deref().unwrap_or_default()),
            &build.run_id,
        )
    }

    /// Creates IMAGE_DIR, where files are published on this machine. A failed build removes the directory again if it
    /// created it.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(super) fn make_image_dir(&mut self) -> Result<()> {
        let directory = self.plan.build.image_dir.as_ref().filter(|_| self.plan.needs_image_dir());
        let Some(directory) = directory.map(PathBuf::from).filter(|path| !path.exists()) else {
            return Ok(());
        };
        fs::create_dir_all(&directory)
            .map_err(|error| self.of_bundle(cannot_make(&directory, &error)))?;
        self.made_image_dir = Some(directory);
        Ok(())
    }

    /// Returns every file the image is made from.
    pub(super) fn inputs_of_build(&self) -> Vec<PathBuf> {
        let plan = &self.plan;
        let mut inputs: Vec<PathBuf> = Vec::new();
        if let Some(disk) = &plan.disk {
            inputs.push(disk.path.clone());
            inputs.extend(disk.reader.files().map(Path::to_owned));
        }
        inputs.extend(plan.from_bundle.iter().map(|bundle| bundle.path().to_owned()));
        if let Some(installation) = &plan.installation {
            inputs.extend(installation.isos().map(|(_, path, _)| path.to_owned()));
            inputs.extend(installation.files.iter().map(|file| file.source.clone()));
        }
        inputs
    }

    /// Fails when the disk has changed since it was opened: the data that was read is inconsistent.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn input_is_unchanged(&self) -> Result<()> {
        self.plan.disk.as_ref().map_or(Ok(()), GivenDisk::check_unchanged)
    }

    /// Returns the parameters of the provider's steps: files for IMAGE_DIR are written to the staging directory.
    pub(super) fn staged_build(&self) -> Build {
        let image_dir = match &self.publication {
            Some(publication) => Some(publication.dir().display().to_string()),
            None => self.plan.build.image_dir.clone(),
        };
        let mut build = self.plan.build.clone();
        build.image_dir = image_dir;
        build
    }

    /// Discards the files to be published.
    pub(super) fn drop_publication(&self, outcome: &mut Outcome) {
        self.discard_publication(outcome);
        if let Some(directory) = &self.made_image_dir {
            // Fails unless it is empty.
            let _ = fs::remove_dir(directory);
        }
    }

    fn discard_publication(&self, outcome: &mut Outcome) {
        let Some(publication) = &self.publication else { return };
        let (build, staging) = (&self.plan.build, publication.dir());
        let image_dir = build.image_dir.as_deref().unwrap_or_default();
        if let Err(error) = Publication::discard(Path::new(image_dir), &build.run_id) {
            let staging = staging.display().to_string();
            outcome.leftovers.push(Leftover {
                resource: Resource::new("directory", staging.clone()).with_id(staging),
                reason: error.to_string(),
                hint: Some("build-image gc --yes removes it".to_owned()),
            });
        }
    }

    /// Writes the image a provider made into the staging directory.
    /// Returns the file, and the checksums computed while it was written.
    pub(super) fn publish(
        &self,
        disk: &Disk,
        outcome: &mut Outcome,
    ) -> Result<(PathBuf, Vec<(Algorithm, String)>)> {
        let made = self.host.made(disk.id).ok_or_else(|| {
            let text = format!("the provider returned disk {}, which was never made", disk.id);
            Error::new(Stage::Provider(ErrorKind::Internal), text)
        })?;
        let publication = self.publication.as_ref().ok_or_else(|| {
            Error::new(Stage::Bug, "an image is published without a staging directory")
        })?;
        let image_dir = self.plan.build.image_dir.clone().unwrap_or_default();
        self.begin(PUBLISH, &format!("writing {} to {image_dir}", disk.file_name))?;
        let total = disk.length.unwrap_or(disk.length_limit);
        let mut progress = |done| {
            self.reporter.progress(Progress::new(done, total));
            self.check_cancelled()
        };
        let published = made.publish(publication.dir(), &mut progress);
        let published = published.map_err(|error| from_disk(Stage::Disk, error))?;
        outcome.image_length = published.length;
        let checksums = published.digests;
        outcome.location = Some(image_dir);
        let path = publication.final_path(&published.path);
        outcome.file = Some(path.display().to_string());
        self.write_checksums(&published.path, &checksums)?;
        let text = format!("wrote {}", publication.final_path(&published.path).display());
        self.end(PUBLISH, &text, json!({"file": published.path}), outcome)?;
        Ok((published.path, checksums))
    }

    /// Writes checksums and a signature of a published file beside it. The file is read only for checksums that are
    /// not in `checksums`.
    ///
    /// # Errors
    /// When the file cannot be read, or one beside it cannot be written; when the user cancels.
    pub(super) fn write_checksums(
        &self,
        file: &Path,
        checksums: &[(Algorithm, String)],
    ) -> Result<()> {
        let signer = self.signer()?;
        let required = DIGESTS.map(|(algorithm, _)| algorithm).into_iter();
        let required = required.chain(signer.as_ref().map(Signer::algorithm));
        let read: Vec<Algorithm> =
            required.filter(|required| checksums.iter().all(|(is, _)| is != required)).collect();
        let computed = if read.is_empty() {
            None
        } else {
            let mut opened = File::open(file).map_err(|error| cannot("open", file, &error))?;
            let total = opened.metadata().map_or(0, |metadata| metadata.len());
            let mut progress = |done| {
                self.reporter.progress(Progress::new(done, total));
                self.check_cancelled()
            };
            Some(digests_of(&mut opened, &read, &mut progress)?)
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let hex = |algorithm: Algorithm| {
            let existing =
                checksums.iter().find(|(is, _)| *is == algorithm).map(|(_, text)| text.clone());
            existing.or_else(|| computed.as_ref()?.hex(algorithm)).unwrap_or_default()
        };
        let mut set = FileSet::default();
        for (algorithm, suffix) in DIGESTS {
            let hex = hex(algorithm);
            let line = format!("{hex}  {name}\n");
            set.write(&beside(file, &format!(".{suffix}")), line.as_bytes())
                .map_err(|error| cannot_write(&error))?;
        }
        let mut signature = None;
        if let Some(signer) = signer {
            let algorithm = signer.algorithm();
            let bytes = signer.sign_digest(&bytes_of(&hex(algorithm)))?;
            let path = beside(file, &algorithm.signature_suffix());
            set.write(&path, &bytes).map_err(|error| cannot_write(&error))?;
            signature = Some(path);
        }
        // A signature of an older image with this name.
        for algorithm in Algorithm::of_signatures() {
            set.obsolete(beside(file, &algorithm.signature_suffix()));
        }
        set.commit().map_err(|error| cannot_write(&error))?;
        self.write_down(|records| {
            let directory = self.plan.build.image_dir.as_ref().map(Path::new);
            records.published(file, signature.as_deref(), directory)
        });
        Ok(())
    }

    /// Returns the signer of published images, if the settings name keys.
    ///
    /// # Errors
    /// When the keys cannot be used.
    pub(super) fn signer(&self) -> Result<Option<Signer>> {
        let set = &self.settings.core().signatures;
        let Some(private) = &set.image_private_key else { return Ok(None) };
        Signer::read(set.image_digest(), private, set.image_public_key.as_deref()).map(Some)
    }

    pub(super) fn check_cancelled(&self) -> ControlFlow<()> {
        if self.interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Decodes hexadecimal digits.
fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    hex.as_bytes().chunks_exact(2).filter_map(pair).collect()
}

/// Returns the path of a companion of a published file.
fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    file.with_file_name(name)
}

/// Returns the error for a file that cannot be written into IMAGE_DIR.
fn cannot_write(error: &SetError) -> Error {
    let made = Error::new(Stage::Disk, error.to_string()).caused_by(&error.source);
    match error.source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            made.hint(more_space(IMAGE_DIR))
        }
        _ => made.hint(format!("set {IMAGE_DIR} to a directory this user may write to")),
    }
}
