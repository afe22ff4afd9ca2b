//! Writes a bundle in place of a package, and verifies the bundle that is published in place of a disk.

use std::{path::PathBuf, sync::Arc};

use build_image_plugin_api::{Disk, ErrorKind, Progress, document::CheckReport};
use serde_json::json;

use super::{Pipeline, order::Work, state::PUBLISH};
use crate::{
    bundle::{
        Bundle, BundledImage, Contents, Document, ImageRequest, check_regions, expiry,
        is_same_image, texts, write,
    },
    error::{Error, Result, Stage},
    plugins::ReadyImage,
    report::{GuestEntry, Outcome},
    settings::keys,
};

impl Pipeline<'_> {
    /// Lets the provider request the image that it would upload, and writes it into the bundle.
    ///
    /// # Errors
    /// When the image cannot be made, does not boot if the settings want that, or cannot be written.
    pub(super) fn make_bundle(&self, work: &mut Work, outcome: &mut Outcome) -> Result<()> {
        let disk = self.create_disk(false, outcome)?;
        self.boot_image(Some(&disk), outcome)?;
        let path = self.write_bundle(&disk, outcome)?;
        work.published.push((path, Vec::new()));
        work.disk = Some(disk);
        Ok(())
    }

    /// Writes the bundle into the staging directory; returns its path.
    fn write_bundle(&self, disk: &Disk, outcome: &mut Outcome) -> Result<PathBuf> {
        let (Some(publication), Some(bundle)) = (&self.publication, &self.plan.bundle) else {
            return Err(Error::new(Stage::Bug, "a bundle is written without a staging directory"));
        };
        let name = bundle.file_name().unwrap_or_default();
        let made = self.host.made(disk.id).ok_or_else(|| {
            let text = format!("the provider returned disk {}, which was never made", disk.id);
            Error::new(Stage::Provider(ErrorKind::Internal), text)
        })?;
        self.begin(PUBLISH, &format!("writing {}", bundle.display()))?;
        let length = self.length_of_image(&made, disk)?;
        outcome.image_length = length;
        let member = format!("image.{}", disk.spec.file_suffix());
        let statement = self.statement_of_bundle(&member)?;
        let image = |buffer: &mut [u8], offset: u64| {
            let read = made.read_at(buffer, offset, &|| self.check_cancelled());
            read.map_err(|error| self.step_error(PUBLISH, error))
        };
        let signer = self.signer()?;
        let contents = Contents {
            document: self.document(disk, member, outcome)?,
            statement: &statement,
            signer: signer.as_ref(),
            image: &image,
            length,
        };
        let mut seen = |done| {
            self.reporter.progress(Progress::new(done, length));
            self.check_cancelled()
        };
        let path = publication.dir().join(name);
        write(&path, &contents, &mut seen)?;
        outcome.location = bundle.parent().map(|directory| directory.display().to_string());
        outcome.file = Some(publication.final_path(&path).display().to_string());
        let text = format!("{} written", path.display());
        self.end(PUBLISH, &text, json!({"file": path}), outcome)?;
        Ok(path)
    }

    fn document(&self, disk: &Disk, member: String, outcome: &Outcome) -> Result<Document> {
        let set = &self.settings.core().bundle;
        let regions = set.regions.as_ref();
        let name = keys::BUNDLE_REGIONS.to_string();
        let register = ImageRequest::of(&self.plan.build);
        let register = ImageRequest { virtual_size: disk.virtual_size, ..register };
        let image = BundledImage { member, spec: disk.spec.clone() };
        let document = Document {
            regions: regions.map(|list| texts(list, &name)).transpose()?,
            expires: set.expires.map(expiry).transpose()?,
            guest: outcome.guest.as_ref().map(|guest| guest.attributes.clone()),
            ..Document::new(&self.plan.platform, register, image)
        };
        // What the publisher's host would refuse must not be written.
        if self.host.redactor().finds(&json!(document)) {
            let text = "the bundle would contain the value of a secret setting";
            return Err(Error::new(Stage::Settings, text).hint(format!(
                "change {} or {}",
                keys::CLOUD_IMAGE_NAME,
                keys::IMAGE_TAGS
            )));
        }
        Ok(document)
    }

    /// Compares the bundle that is published with what the provider asks for, and with the regions in which it would
    /// create something.
    ///
    /// # Errors
    /// When the provider asks for another image, or a region is not one of the bundle's.
    pub(crate) fn check_bundle(&self, report: &CheckReport) -> Result<()> {
        let Some(bundle) = &self.plan.from_bundle else { return Ok(()) };
        let (document, path) = (bundle.document(), bundle.path());
        let (has, asked) = (&document.image.spec, report.disk.as_ref().unwrap_or(&self.plan.spec));
        if !is_same_image(has, asked) {
            let (display, platform) = (path.display(), &self.plan.platform);
            let text = format!(
                "`{display}` has a {has} image, but with these settings provider `{platform}` asks for {asked}"
            );
            return Err(Error::new(Stage::Settings, text)
                .hint("set the format of the disk as its builder did"));
        }
        let regions = report.creates.iter().filter_map(|resource| resource.region.as_deref());
        check_regions(document, regions, path)
    }

    /// Reads the whole image of the bundle that is published, and compares it with its digest.
    ///
    /// # Errors
    /// When it differs, cannot be read, or the user cancels.
    pub(super) fn verify_bundle(&mut self, bundle: &Bundle, outcome: &mut Outcome) -> Result<()> {
        let name = bundle.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.reporter.begin("verify", &format!("verifying {name}"));
        let length = bundle.image_length();
        let image = bundle.verify(&mut |done| {
            self.reporter.progress(Progress::new(done, length));
            self.check_cancelled()
        })?;
        self.reporter.end(&format!("digests as listed, {}", bundle.signature()));
        self.verified = Some(Arc::new(image));
        let attributes = bundle.document().guest.clone();
        let entry = |attributes| GuestEntry { attributes, findings: Vec::new() };
        outcome.guest = attributes.map(entry);
        Ok(())
    }

    /// Returns the image of the bundle that is published, once it is verified.
    pub(super) fn ready_image(&self) -> Option<ReadyImage> {
        let bundle = self.plan.from_bundle.as_ref()?;
        Some(ReadyImage {
            view: Arc::clone(self.verified.as_ref()?),
            spec: bundle.document().image.spec.clone(),
            sha256: bundle.image_sha256().to_owned(),
        })
    }

    /// Names the setting of the bundle in the hint of an error that names IMAGE_DIR, if a bundle is written.
    pub(super) fn of_bundle(&self, mut error: Error) -> Error {
        let names_images =
            error.hint.as_ref().is_some_and(|hint| hint.contains(keys::IMAGE_DIR.name()));
        if self.plan.bundle.is_some() && names_images {
            error.hint = Some(format!("set {} to another path", keys::BUNDLE));
        }
        error
    }
}
