//! Combines the settings, the source and the provider's needs into the plan of a build. Creates nothing: a plan can
//! be printed and discarded.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use build_image_plugin_api::{Description, DiskSpec, document::Build};

use super::{
    Source, Unread,
    disk_size::{self, GIB, RequestedSize},
    names::{artifacts_name, disk_name, image_name, names, package},
    resume,
    source::Hotfix,
    space::MB,
};
use crate::{
    error::{Error, Problem, Result, Stage},
    pipeline::Flow,
    product::{self, Facts, Guest, Overrides, Shape, Sizes, Version},
    random,
    runs::Run,
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
    /// The facts of the final installation: the hotfix's when one is given.
    pub facts: Facts,
    /// The hotfix, installed in a separate pass.
    pub hotfix: Option<Hotfix>,
    /// All modules or `ltm` only, and the number of install slots.
    pub shape: Shape,
    /// The sizes of the volumes.
    pub sizes: Sizes,
    /// The user's settings of the guest.
    pub guest: Guest,
    /// The virtual machine that runs the installer.
    pub machine: MachinePlan,
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
    /// Whether an image is refused when the relabelling of its files was not seen.
    pub require_relabel: bool,
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
}

/// Random values, drawn once for all plans of a build.
#[derive(Clone, Debug, Default)]
pub struct Draws {
    /// Identifier of the run.
    pub run_id: String,
    /// Suffix of a generated image name.
    name_suffix: String,
}

impl Draws {
    /// Draws the values of a new run.
    ///
    /// # Errors
    /// When the system provides no random numbers.
    pub fn new() -> Result<Self> {
        Ok(Self {
            run_id: format!("{}-{}", crate::clock::stamp(), random::characters(random::LOWER, 6)?),
            name_suffix: random::characters(random::UPPER, 9)?,
        })
    }

    /// Draws the values of a run that is resumed.
    ///
    /// # Errors
    /// When the system provides no random numbers.
    pub fn of(run: &Run) -> Result<Self> {
        Ok(Self { run_id: run.id.clone(), ..Self::new()? })
    }
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
        let (stem, seed) = names(&source, platform, description, settings)?;
        let installation = installation(platform, description, settings, &source)?;
        let virtual_size = virtual_size(platform, description, &source, installation.as_ref())?;
        let set = settings.core();
        let upload = description.uploads && !set.run.no_upload;
        let run_id = draws.run_id.clone();
        let (image_name, image_name_chosen) =
            image_name(description, settings, &seed, &stem, &draws.name_suffix)?;
        let images = settings.absolute(set.publication.images())?;
        let publishes =
            upload && set.publication.image_dir.is_some() || description.uploads && !upload;
        let build = Build::default()
            .run_id(run_id.clone())
            .description(image_name.clone())
            .image_name(image_name)
            .image_name_chosen(image_name_chosen)
            .product(product_document(&source))
            .architecture(architecture(&source))
            .boot_mode(boot_mode(&source))
            .virtual_size(virtual_size)
            .tags(image_tags(platform, description, settings, &source, virtual_size)?)
            .image_dir(images.display().to_string())
            .disk_name(disk_name(&source))
            .file_stem(stem);
        let base = base_directory(settings)?;
        Ok(Self {
            platform: platform.to_owned(),
            artifacts: base.join(artifacts_name(&source, platform, settings)),
            run: base.join("runs").join(&run_id),
            base,
            installs: source.is_iso(),
            provisional: matches!(source, Source::Unread(_)),
            shape: resume::shape(settings)?,
            draws: draws.clone(),
            earlier: None,
            disk: match source {
                Source::Disk(disk) => Some(disk),
                Source::Iso { .. } | Source::Unread(_) => None,
            },
            package: package(description, settings),
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
        })
    }

    /// Returns where the result goes.
    #[must_use]
    pub fn flow(&self) -> Flow {
        match (self.is_cloud, self.upload) {
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
            let sizes = installation.sizes;
            let requested = RequestedSize { bytes: sizes.gib * GIB, least: sizes.least_gib * GIB };
            disk_size::of_new_disk(platform, requested, &description.disk)?
        }
        (None, Source::Disk(disk)) => {
            let size = disk.reader.virtual_size();
            disk_size::check_given(platform, &disk.path, size, &description.disk)?;
            size
        }
        (None, Source::Unread(Unread { virtual_size: Some(size), path, .. })) => {
            disk_size::check_given(platform, path, *size, &description.disk)?;
            *size
        }
        (None, Source::Unread(_) | Source::Iso { .. }) => 0,
    })
}

/// Returns the directory of all builds' files.
pub(crate) fn base_directory(settings: &Resolved) -> Result<PathBuf> {
    settings.absolute(settings.core().publication.artifacts())
}

/// Returns the modules and install slots of the image, which only an ISO needs.
pub(crate) fn shape(settings: &Resolved) -> Result<Shape> {
    let mut problems = Vec::new();
    for (key, flag) in [("MODULES", "-m all or -m ltm"), ("BOOT_LOCATIONS", "-b 1 or -b 2")] {
        if settings.by_name().get(key).is_none() {
            problems.push(Problem::new(format!("{key} is not set")).hint(format!("give {flag}")));
        }
    }
    if !problems.is_empty() {
        return Err(Error::several(
            Stage::Settings,
            "installing an ISO needs more settings",
            problems,
        ));
    }
    Ok(Shape {
        all_modules: settings.by_name().text("MODULES") == Some("all"),
        slots: if settings.by_name().text("BOOT_LOCATIONS") == Some("1") { 1 } else { 2 },
    })
}

fn installation(
    platform: &str,
    description: &Description,
    settings: &Resolved,
    source: &Source,
) -> Result<Option<Installation>> {
    let Source::Iso { path, facts, info, digest, hotfix } = source else { return Ok(None) };
    check_minimum_version(platform, description, facts, path)?;
    let shape = shape(settings)?;
    let waagent = description.guest.volumes.iter().any(|volume| volume == "waagent");
    let json = |key: &str| settings.by_name().get(key).map(|value| &value.json);
    let guest = Guest {
        hypervisor: description.guest.hypervisor.clone(),
        skip_boot_fixup: description.guest.skip_boot_fixup,
        consoles: product::consoles(json("CONSOLE_DEVICES"))?,
        disable_splash: settings.by_name().is_on("DISABLE_SPLASH"),
        files: product::injected(json("UPDATE_IMAGE_FILES"), &|path| settings.resolve_path(path))?,
    };
    Ok(Some(Installation {
        iso: path.clone(),
        iso_digest: digest.clone(),
        facts: source.facts().unwrap_or(facts).clone(),
        hotfix: hotfix.as_deref().cloned(),
        shape,
        sizes: product::compute(info, shape, &overrides(settings)?, waagent)?,
        guest,
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
        require_relabel: settings.by_name().is_on("REQUIRE_RELABEL"),
    }
}

fn check_minimum_version(
    platform: &str,
    description: &Description,
    facts: &Facts,
    path: &Path,
) -> Result<()> {
    let Some(floor) = description.guest.minimum_version.get(&facts.product) else { return Ok(()) };
    let number = Version::parse(floor).map_err(|what| {
        Error::new(Stage::Plugin, format!("provider `{platform}` states a broken version: {what}"))
    })?;
    if facts.number >= number {
        return Ok(());
    }
    Err(Error::new(
        Stage::Source,
        format!(
            "`{}` installs {} {}, but platform `{platform}` needs {floor} or newer",
            path.display(),
            facts.product,
            facts.version
        ),
    )
    .hint("use the ISO of a newer version"))
}

fn overrides(settings: &Resolved) -> Result<Overrides> {
    let Some(value) = settings.by_name().get("UPDATE_LV_SIZES") else {
        return Ok(Overrides::new());
    };
    let members = value.json.as_object().into_iter().flatten();
    members
        .map(|(name, size)| {
            let mib = size.as_u64().ok_or_else(|| {
                let origin = &value.origin;
                Error::new(
                    Stage::Settings,
                    format!("UPDATE_LV_SIZES ({origin}): the size of `{name}`, {size}, is no whole number"),
                )
                .hint("sizes are MiB without quotes")
            })?;
            Ok((name.clone(), mib))
        })
        .collect()
}

/// Returns the architecture that a disk declares; installers are for x86-64 and boot from BIOS.
fn architecture(source: &Source) -> &'static str {
    match source {
        Source::Iso { .. } | Source::Unread(_) => "x86_64",
        Source::Disk(disk) => disk.facts.architecture.map_or("x86_64", |found| found.name()),
    }
}

fn boot_mode(source: &Source) -> &'static str {
    match source {
        Source::Disk(disk) if disk.facts.is_uefi_only() => "uefi",
        Source::Disk(_) | Source::Iso { .. } | Source::Unread(_) => "bios",
    }
}

fn product_document(source: &Source) -> BTreeMap<String, String> {
    source.facts().map(Facts::document).unwrap_or_default()
}

fn image_tags(
    platform: &str,
    description: &Description,
    settings: &Resolved,
    source: &Source,
    virtual_size: u64,
) -> Result<Tags> {
    let Some(rules) = &description.tags else { return Ok(Tags::new()) };
    let builder = settings.builder();
    let text = |key: &str| settings.by_name().text(key).unwrap_or_default().to_owned();
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
        let size = format!("{}GiB", virtual_size.div_ceil(GIB));
        automatic.insert("image_size".to_owned(), size);
    }
    if let Some(facts) = source.facts() {
        automatic.insert("modules".to_owned(), text("MODULES"));
        automatic.insert("boot_locations".to_owned(), text("BOOT_LOCATIONS"));
        automatic.insert("license_model".to_owned(), "byol".to_owned());
        automatic.extend(facts.lines.iter().cloned());
    }
    let image = &settings.core().image;
    let (add, exclude) = (image.tags.as_ref(), image.excluded_tags.as_ref());
    let mut composed = tags::compose(automatic, add, exclude)?;
    tags::fit(&mut composed, add, rules);
    tags::check(&composed, rules)?;
    Ok(composed)
}
