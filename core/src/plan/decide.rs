//! Combines the settings, the source and the provider's needs into the plan of a build. Creates nothing: a plan can
//! be printed and discarded.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use build_image_disk::installer::{
    Document, FurtherMedium, InputFile, Installation as Prepared, Installer, Request,
};
use build_image_plugin_api::{
    Architecture, BootMode, Description, DiskSpec,
    document::{Build, GuestFacts},
};

use super::{
    Draws, Medium, RemoteObject, Source, Unread,
    disk_size::{self, RequestedSize},
    guest_facts,
    names::{artifacts_name, bundle, file_stem, image_name, images, of_source, package},
    resume,
    space::MB,
};
use crate::{
    bundle::Bundle,
    error::{Error, Result, Stage},
    installers::{self, Paths},
    pipeline::Flow,
    settings::{Machine, OnFailure, Resolved},
    signature::FileDigest,
    source::{DownloadOptions, GivenDisk},
    tags::{self, Tags},
};

/// The parameters of an installation.
#[derive(Clone)]
pub struct Installation {
    /// The ISO.
    pub iso: PathBuf,
    /// Its digest, when it is already known.
    pub iso_digest: Option<FileDigest>,
    /// Further ISOs, each installed in a separate pass.
    pub media: Vec<Medium>,
    /// The installer.
    pub installer: &'static dyn Installer,
    /// The installer's decisions.
    pub prepared: Arc<dyn Prepared>,
    /// The files that the installation reads, beside the ISOs.
    pub files: Vec<InputFile>,
    /// The virtual machine that runs the installer.
    pub machine: MachinePlan,
}

impl Installation {
    /// Returns the installer's decisions.
    #[must_use]
    pub fn document(&self) -> &Document {
        self.prepared.document()
    }

    /// Returns the name, path and digest of every ISO.
    pub fn isos(&self) -> impl Iterator<Item = (&'static str, &Path, Option<&FileDigest>)> {
        let base = ("iso", self.iso.as_path(), self.iso_digest.as_ref());
        std::iter::once(base).chain(self.media.iter().map(|Medium { medium, digest }| {
            (medium.setting.name, medium.path.as_path(), digest.as_ref())
        }))
    }
}

/// The virtual machine that runs the installer.
#[derive(Clone)]
pub struct MachinePlan {
    /// Path of qemu; found on PATH when not set.
    pub qemu: Option<PathBuf>,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Number of processors.
    pub cpus: u64,
    /// `auto`, `kvm` or `tcg`.
    pub accel: String,
    /// Time limit of one pass.
    pub total: Duration,
    /// Maximum time without output of the guest.
    pub silence: Duration,
}

/// A build with all decisions made.
pub struct Plan {
    /// Name of the provider.
    pub platform: String,
    /// The parameters that the provider's steps receive.
    pub build: Build,
    /// The installation that makes the disk; absent when a disk is given.
    pub installation: Option<Installation>,
    /// The disk that the user gave.
    pub disk: Option<GivenDisk>,
    /// The bundle that is published instead of a disk.
    pub from_bundle: Option<Arc<Bundle>>,
    /// The object at the target that is registered instead of a disk.
    pub object: Option<RemoteObject>,
    /// The bundle that is written instead of a package, an absolute path.
    pub bundle: Option<PathBuf>,
    /// The disk that the provider requires.
    pub spec: DiskSpec,
    /// The package that is written into IMAGE_DIR.
    pub package: DiskSpec,
    /// Directory of all builds' files.
    pub base: PathBuf,
    /// Directory of this build's files, below the base.
    pub artifacts: PathBuf,
    /// Directory of the run's journal.
    pub run: PathBuf,
    /// Whether the provider is a cloud: images leave this machine, unless the build stops before the upload.
    pub is_cloud: bool,
    /// Whether the image is uploaded.
    pub upload: bool,
    /// Whether it ends with the upload: the uploaded object is the result.
    pub upload_only: bool,
    /// Where the host itself publishes the disk image; `None` when it does not.
    pub publish: Option<PathBuf>,
    /// Minimum of free bytes for the disk, when the user sets one.
    pub minimum_free: Option<u64>,
    /// Parameters of downloads of files for the image.
    pub downloads: DownloadOptions,
    /// Whether the artifacts are kept.
    pub keep: bool,
    /// Whether everything of a failed build is kept, so that it can be resumed.
    pub keep_on_failure: bool,
    /// Whether an ISO is installed.
    pub installs: bool,
    /// Whether the source has not been read yet, so that its size and everything derived from it are unknown.
    pub provisional: bool,
    /// The settings that decide what is built, normalised.
    pub shape: BTreeMap<String, String>,
    /// The random values of this build.
    pub(super) draws: Draws,
    /// The parameters that the provider's steps received in an earlier process of the run.
    pub(super) earlier: Option<Box<Build>>,
    /// Number of entries that the journal of the run had.
    pub entries: usize,
}

impl Plan {
    /// Plans a build.
    ///
    /// # Errors
    /// Missing or contradictory settings, and invalid sizes and names.
    pub fn new(
        platform: &str,
        description: &Description,
        settings: &Resolved,
        source: Source,
        draws: &Draws,
    ) -> Result<Self> {
        let installation = installation(platform, description, settings, &source)?;
        let document = installation.as_ref().map(Installation::document);
        let names = of_source(&source, document.map(|document| &document.names), platform);
        let stem = file_stem(names.file_stem, platform, description, settings)?;
        let virtual_size = virtual_size(platform, description, &source, installation.as_ref())?;
        let set = settings.core();
        let upload = description.uploads && !set.run.no_upload;
        let (image_name, image_name_chosen) =
            image_name(description, settings, &source, &names.seed, &stem, &draws.name_suffix)?;
        let bundle = bundle(settings)?;
        let images = images(settings, bundle.as_deref())?;
        let is_ready = matches!(source, Source::Bundle(_) | Source::Object(_));
        // A bundle is uploaded as it is; its package would be another image.
        let packs = upload && set.publication.image_dir.is_some() && !is_ready;
        let publishes = packs || description.uploads && !upload;
        let mut build = Build::default()
            .run_id(draws.run_id.clone())
            .description(description_text(&source, &image_name))
            .image_name(image_name)
            .image_name_chosen(image_name_chosen)
            .product(product(&source, document))
            .architecture(architecture(&source, document))
            .boot_mode(boot_mode(&source, document))
            .virtual_size(virtual_size)
            .tags(image_tags(platform, description, settings, &source, document, virtual_size)?)
            .image_dir(images.display().to_string())
            .disk_name(names.disk_name)
            .file_stem(stem);
        build.guest = found(&source);
        let base = base_directory(settings)?;
        let (artifacts, installs) = (artifacts_name(&source, platform, settings)?, source.is_iso());
        let (shape, provisional) = (resume::shape(settings, &source)?, source.is_unread());
        let (disk, from_bundle, object) = source.existing();
        Ok(Self {
            platform: platform.to_owned(),
            artifacts: base.join(artifacts),
            run: base.join("runs").join(&draws.run_id),
            base,
            installs,
            provisional,
            shape,
            draws: draws.clone(),
            earlier: None,
            entries: 0,
            from_bundle,
            object,
            disk,
            package: package(description, settings),
            bundle,
            spec: description.disk.spec.clone(),
            publish: publishes.then_some(images),
            minimum_free: set.publication.minimum_free_mb.map(|mb| mb.saturating_mul(MB)),
            downloads: DownloadOptions::of(settings),
            keep: set.run.reuse,
            keep_on_failure: set.run.on_failure == OnFailure::Keep,
            build,
            installation,
            is_cloud: description.uploads,
            upload,
            upload_only: upload && set.run.upload_only,
        })
    }

    /// Returns where the result goes.
    #[must_use]
    pub fn flow(&self) -> Flow {
        match (self.is_cloud, self.upload) {
            (true, true) if self.object.is_some() => Flow::Register,
            (true, true) if self.upload_only => Flow::Upload,
            (true, true) => Flow::Cloud,
            (true, false) => Flow::Package,
            (false, _) => Flow::Local,
        }
    }

    /// Returns the directory of the build's files, when an installation needs one.
    #[must_use]
    pub fn kept_artifacts(&self) -> Option<PathBuf> {
        self.installation.as_ref().map(|_| self.artifacts.clone())
    }

    /// Returns whether files are published on this machine, by the host or the provider.
    #[must_use]
    pub fn needs_image_dir(&self) -> bool {
        self.publish.is_some() || !self.upload
    }

    /// Returns the file of the raw disk.
    #[must_use]
    pub fn raw_disk(&self) -> PathBuf {
        self.artifacts.join(format!("{}.raw", self.build.file_stem))
    }
}

/// Returns the size of the disk that the guest sees, bytes; 0 while it is unknown.
fn virtual_size(
    platform: &str,
    description: &Description,
    source: &Source,
    installation: Option<&Installation>,
) -> Result<u64> {
    Ok(match (installation, source) {
        (Some(installation), _) => {
            let document = installation.document();
            let requested = RequestedSize {
                bytes: document.disk_bytes,
                least: document.least_bytes,
                smaller: &document.smaller,
            };
            disk_size::of_new_disk(platform, requested, &description.disk)?
        }
        (None, Source::Disk(disk)) => {
            let size = disk.reader.virtual_size();
            disk_size::check_given(platform, &disk.path, size, &description.disk)?;
            size
        }
        (None, Source::Bundle(bundle)) => {
            let size = bundle.document().register.virtual_size;
            disk_size::check_given(platform, bundle.path(), size, &description.disk)?;
            size
        }
        (None, Source::Unread(Unread { virtual_size: Some(size), path, .. })) => {
            disk_size::check_given(platform, path, *size, &description.disk)?;
            *size
        }
        (None, Source::Object(object)) => {
            let size = object.virtual_size();
            if size > 0 {
                disk_size::check_given(platform, Path::new(&object.id), size, &description.disk)?;
            }
            size
        }
        (None, Source::Unread(_) | Source::Iso(_)) => 0,
    })
}

/// Returns the directory of all builds' files.
pub(crate) fn base_directory(settings: &Resolved) -> Result<PathBuf> {
    settings.absolute(settings.core().publication.artifacts())
}

fn installation(
    platform: &str,
    description: &Description,
    settings: &Resolved,
    source: &Source,
) -> Result<Option<Installation>> {
    let Source::Iso(iso) = source else { return Ok(None) };
    let guest = serde_json::to_value(&description.guest).map_err(|error| {
        Error::new(Stage::Bug, "the provider's needs of the guest are no document")
            .caused_by(&error)
    })?;
    let media: Vec<FurtherMedium> = iso.media.iter().map(|medium| medium.medium.clone()).collect();
    let request = Request {
        iso: &iso.path,
        system: &iso.system,
        media: &media,
        settings: &installers::values(settings),
        lookup: &Paths(settings),
        platform,
        guest: &guest,
    };
    let prepared = iso.installer.prepare(&request).map_err(installers::refused)?;
    Ok(Some(Installation {
        iso: iso.path.clone(),
        iso_digest: iso.digest.clone(),
        media: iso.media.clone(),
        installer: iso.installer,
        files: prepared.document().files.clone(),
        prepared,
        machine: machine(settings),
    }))
}

fn machine(settings: &Resolved) -> MachinePlan {
    let Machine { qemu, memory, cpus, accel, total, silence } = settings.core().machine.clone();
    MachinePlan {
        qemu,
        memory_mib: (memory >> 20).max(1),
        cpus: cpus.max(1),
        accel,
        total,
        silence,
    }
}

/// Returns what the builder of a bundle found on the disk; other disks are inspected later.
fn found(source: &Source) -> Option<GuestFacts> {
    match source {
        Source::Bundle(bundle) => bundle.document().guest.as_ref().and_then(guest_facts),
        Source::Object(object) => object.located.as_ref()?.guest.clone(),
        _ => None,
    }
}

/// Returns the text for the image's description.
fn description_text(source: &Source, image_name: &str) -> String {
    match source {
        // Unless the publisher chose another name.
        Source::Bundle(bundle) if bundle.document().register.image_name == image_name => {
            bundle.document().register.description.clone()
        }
        _ => image_name.to_owned(),
    }
}

/// Returns the facts of the product that is installed.
fn product(source: &Source, document: Option<&Document>) -> BTreeMap<String, String> {
    match (source, document) {
        (Source::Bundle(bundle), _) => bundle.document().register.product.clone(),
        (_, document) => document.map(|one| one.system.facts.clone()).unwrap_or_default(),
    }
}

/// Returns the architecture that the installer or the disk declares; x86-64 while it is unknown.
fn architecture(source: &Source, document: Option<&Document>) -> Architecture {
    let name = match (document, source) {
        (Some(document), _) => document.system.architecture.as_str(),
        (None, Source::Bundle(bundle)) => return bundle.document().register.architecture.clone(),
        (None, Source::Object(object)) => return object.architecture(),
        (None, Source::Disk(disk)) => {
            disk.facts.architecture.map_or("x86_64", |found| found.name())
        }
        (None, Source::Iso(_) | Source::Unread(_)) => "x86_64",
    };
    name.into()
}

fn boot_mode(source: &Source, document: Option<&Document>) -> BootMode {
    let name = match (document, source) {
        (Some(document), _) => document.system.boot_mode.as_str(),
        (None, Source::Bundle(bundle)) => return bundle.document().register.boot_mode.clone(),
        (None, Source::Object(object)) => return object.boot_mode(),
        (None, Source::Disk(disk)) if disk.facts.is_uefi_only() => "uefi",
        (None, Source::Disk(_) | Source::Iso(_) | Source::Unread(_)) => "bios",
    };
    name.into()
}

fn image_tags(
    platform: &str,
    description: &Description,
    settings: &Resolved,
    source: &Source,
    document: Option<&Document>,
    virtual_size: u64,
) -> Result<Tags> {
    let Some(rules) = &description.tags else { return Ok(Tags::new()) };
    let automatic = match source {
        // The builder's tags, also those of the builder's host.
        Source::Bundle(bundle) => bundle.document().register.tags.clone(),
        _ => automatic_tags(platform, settings, document, virtual_size),
    };
    let image = &settings.core().image;
    let (add, exclude) = (image.tags.as_ref(), image.excluded_tags.as_ref());
    let mut composed = tags::compose(automatic, add, exclude)?;
    tags::fit(&mut composed, add, rules);
    tags::check(&composed, rules)?;
    Ok(composed)
}

/// Returns the tags that an image gets without the user's.
fn automatic_tags(
    platform: &str,
    settings: &Resolved,
    document: Option<&Document>,
    virtual_size: u64,
) -> Tags {
    let builder = settings.builder();
    let mut automatic: Tags = [
        ("build_source", "build-image".to_owned()),
        ("platform", platform.to_owned()),
        ("build_host", builder.host.clone()),
        ("build_user", builder.user.clone()),
        ("build_type", builder.kind.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if virtual_size > 0 {
        automatic.insert("image_size".to_owned(), tags::exact_size(virtual_size));
    }
    automatic.extend(document.map(|document| document.tags.clone()).unwrap_or_default());
    automatic
}
