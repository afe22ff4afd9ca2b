//! The plan of a build: settings, the source and the provider's needs become one value. Nothing is
//! created here; a plan can be printed and thrown away.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use build_image_plugin_api::{Archive, Description, DiskSpec, document::Build};

use super::disk_size::{self, GIB, Wanted};
use super::space::MB;
use crate::{
    error::{Error, Problem, Result, Stage},
    product::{self, Facts, Guest, Overrides, Shape, Sizes, VeInfo, Version},
    random,
    runs::{Run, State},
    settings::Resolved,
    signature::FileDigest,
    source::{GivenDisk, Manner},
    tags::{self, Tags},
};

/// What the image is made from, as it was found.
pub enum Source {
    /// A BIG-IP installer.
    Iso {
        /// The file.
        path: PathBuf,
        /// What it installs.
        facts: Facts,
        /// Sizes of its volumes.
        info: Box<VeInfo>,
        /// Its digest, when it was read for another reason.
        digest: Option<FileDigest>,
        /// The hotfix that goes on top.
        hotfix: Option<Box<Hotfix>>,
    },
    /// A disk image.
    Disk(GivenDisk),
}

/// An opened hotfix ISO that fits its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hotfix {
    /// The file.
    pub path: PathBuf,
    /// What it makes of the base.
    pub facts: Facts,
    /// Its digest, when it was read for another reason.
    pub digest: Option<FileDigest>,
}

impl Source {
    /// Facts of what will be installed in the end: the hotfix's when there is one.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Iso { hotfix: Some(hotfix), .. } => Some(&hotfix.facts),
            Self::Iso { facts, .. } => Some(facts),
            Self::Disk(_) => None,
        }
    }
}

/// How an ISO is installed.
#[derive(Clone)]
pub struct Installation {
    /// The ISO.
    pub iso: PathBuf,
    /// Its digest, when it is known already.
    pub iso_digest: Option<FileDigest>,
    /// What is installed in the end: the hotfix's facts when there is one.
    pub facts: Facts,
    /// The hotfix, installed in a pass of its own.
    pub hotfix: Option<Hotfix>,
    /// Which image.
    pub shape: Shape,
    /// Sizes of volumes.
    pub sizes: Sizes,
    /// What the user wants of the guest.
    pub guest: Guest,
    /// The machine that installs.
    pub machine: MachinePlan,
}

/// The machine that installs.
#[derive(Clone)]
pub struct MachinePlan {
    /// Program to use; found on PATH when not set.
    pub qemu: Option<PathBuf>,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Processors.
    pub cpus: u64,
    /// `auto`, `kvm` or `tcg`.
    pub accel: String,
    /// Longest time of one pass.
    pub total: Duration,
    /// Longest silence of the guest.
    pub silence: Duration,
    /// Whether an image whose files were not seen to be labelled is refused.
    pub require_relabel: bool,
}

/// A build, decided.
pub struct Plan {
    /// Provider.
    pub platform: String,
    /// What the provider's steps are told.
    pub build: Build,
    /// How the disk is made; absent when it is given.
    pub installation: Option<Installation>,
    /// The given disk.
    pub disk: Option<GivenDisk>,
    /// Disk the provider wants.
    pub spec: DiskSpec,
    /// What goes into IMAGE_DIR.
    pub package: DiskSpec,
    /// Folder of all builds' files.
    pub base: PathBuf,
    /// Folder of this build's files, below the base.
    pub artifacts: PathBuf,
    /// Folder of this run's journal.
    pub run: PathBuf,
    /// Whether the provider is a cloud: images leave this machine, unless the build stops before.
    pub is_cloud: bool,
    /// Whether the image leaves this machine.
    pub upload: bool,
    /// Where the host itself publishes the disk image, if it does.
    pub publish: Option<PathBuf>,
    /// Bytes that must be free for the disk, when the user says so.
    pub minimum_free: Option<u64>,
    /// How files for the image are downloaded.
    pub downloads: Manner,
    /// Keep the artifacts.
    pub keep: bool,
    /// Keep everything of a failed build, so that it can be resumed.
    pub keep_on_failure: bool,
}

impl Plan {
    /// Decides a build.
    ///
    /// # Errors
    /// Settings that are missing or contradict each other, sizes and names outside the rules.
    pub fn new(
        platform: &str,
        said: &Description,
        settings: &Resolved,
        source: Source,
    ) -> Result<Self> {
        let (stem, seed) = names(&source, platform, said, settings)?;
        let installation = installation(platform, said, settings, &source)?;
        let virtual_size = match (&installation, &source) {
            (Some(installation), _) => {
                let sizes = installation.sizes;
                let wanted = Wanted { bytes: sizes.gib * GIB, least: sizes.least_gib * GIB };
                disk_size::of_new_disk(platform, wanted, &said.disk)?
            }
            (None, Source::Disk(disk)) => {
                let size = disk.reader.virtual_size();
                disk_size::check_given(platform, &disk.path, size, &said.disk)?;
                size
            }
            (None, Source::Iso { .. }) => 0,
        };
        let upload = said.uploads && !settings.is_on("NO_UPLOAD");
        let run_id = format!("{}-{}", crate::clock::stamp(), random::characters(random::LOWER, 6)?);
        let (image_name, image_name_chosen) = image_name(said, settings, &seed, &stem)?;
        let folder = settings.path("IMAGE_DIR").unwrap_or_else(|| PathBuf::from("images"));
        let images = absolute(&folder)?;
        let publishes = upload && settings.get("IMAGE_DIR").is_some() || said.uploads && !upload;
        let build = Build {
            run_id: run_id.clone(),
            description: image_name.clone(),
            image_name,
            image_name_chosen,
            product: product_document(&source),
            architecture: architecture(&source).to_owned(),
            boot_mode: boot_mode(&source).to_owned(),
            virtual_size,
            tags: image_tags(platform, said, settings, &source, virtual_size)?,
            image_dir: Some(images.display().to_string()),
            disk_name: disk_name(&source),
            file_stem: stem,
            ..Build::default()
        };
        let base = base_folder(settings)?;
        Ok(Self {
            platform: platform.to_owned(),
            artifacts: base.join(artifacts_name(&source, platform, settings)),
            run: base.join("runs").join(&run_id),
            base,
            disk: match source {
                Source::Disk(disk) => Some(disk),
                Source::Iso { .. } => None,
            },
            package: package(said, settings),
            spec: said.disk.spec.clone(),
            publish: publishes.then_some(images),
            minimum_free: settings
                .number("MIN_FREE_DISK_STORAGE_MB")
                .map(|mb| mb.saturating_mul(MB)),
            downloads: Manner::of(settings),
            keep: settings.is_on("REUSE"),
            keep_on_failure: settings.text("ON_FAILURE") == Some("keep"),
            build,
            installation,
            is_cloud: said.uploads,
            upload,
        })
    }

    /// Whether files are published on this machine, by the host or the provider.
    #[must_use]
    pub fn needs_image_dir(&self) -> bool {
        self.publish.is_some() || !self.upload
    }

    /// Takes up the run of an earlier process: same run, same names, same journal.
    ///
    /// # Errors
    /// When the run is in use or done, or was a build of something else.
    pub fn resume(&mut self, run: &Run) -> Result<()> {
        let refused = |what: &str| {
            Error::new(Stage::Settings, format!("run `{}` cannot be resumed: {what}", run.id))
        };
        match run.state {
            State::Running => return Err(refused("a process is at work with it")),
            State::Done => return Err(refused("it is done")),
            State::Dead | State::Failed | State::Damaged => {}
        }
        let before = (&run.build.file_stem, run.build.virtual_size, &run.platform);
        if before != (&self.build.file_stem, self.build.virtual_size, &self.platform) {
            return Err(refused(
                "the ISO, the disk or the settings are not those it was started with",
            ));
        }
        self.build = run.build.clone();
        self.run.clone_from(&run.folder);
        Ok(())
    }

    /// File the raw disk is built in.
    #[must_use]
    pub fn raw_disk(&self) -> PathBuf {
        self.artifacts.join(format!("{}.raw", self.build.file_stem))
    }
}

/// Folder of all builds' files.
pub(crate) fn base_folder(settings: &Resolved) -> Result<PathBuf> {
    absolute(&settings.path("ARTIFACTS_DIR").unwrap_or_else(|| PathBuf::from("artifacts")))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Error::new(Stage::Settings, format!("`{}` is no usable path", path.display()))
            .because(&error)
    })
}

/// The image's shape, which only an ISO needs.
pub(crate) fn shape(settings: &Resolved) -> Result<Shape> {
    let mut problems = Vec::new();
    for (key, flag) in [("MODULES", "-m all or -m ltm"), ("BOOT_LOCATIONS", "-b 1 or -b 2")] {
        if settings.get(key).is_none() {
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
        all_modules: settings.text("MODULES") == Some("all"),
        slots: if settings.text("BOOT_LOCATIONS") == Some("1") { 1 } else { 2 },
    })
}

fn installation(
    platform: &str,
    said: &Description,
    settings: &Resolved,
    source: &Source,
) -> Result<Option<Installation>> {
    let Source::Iso { path, facts, info, digest, hotfix } = source else { return Ok(None) };
    check_floor(platform, said, facts, path)?;
    let shape = shape(settings)?;
    let waagent = said.guest.volumes.iter().any(|volume| volume == "waagent");
    let json = |key: &str| settings.get(key).map(|value| &value.json);
    let guest = Guest {
        hypervisor: said.guest.hypervisor.clone(),
        skip_boot_fixup: said.guest.skip_boot_fixup,
        consoles: product::consoles(json("CONSOLE_DEVICES"))?,
        disable_splash: settings.is_on("DISABLE_SPLASH"),
        files: product::injected(json("UPDATE_IMAGE_FILES"), &|path| settings.expand_home(path))?,
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
    let number = |key: &str| settings.number(key).unwrap_or_default();
    MachinePlan {
        qemu: settings.path("QEMU"),
        memory_mib: (number("QEMU_MEMORY") >> 20).max(1),
        cpus: number("QEMU_CPUS").max(1),
        accel: settings.text("ACCEL").unwrap_or("auto").to_owned(),
        total: Duration::from_secs(number("INSTALL_TIMEOUT")),
        silence: Duration::from_secs(number("SILENCE_TIMEOUT")),
        require_relabel: settings.is_on("REQUIRE_RELABEL"),
    }
}

fn check_floor(platform: &str, said: &Description, facts: &Facts, path: &Path) -> Result<()> {
    let Some(floor) = said.guest.minimum_version.get(&facts.product) else { return Ok(()) };
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
    let Some(value) = settings.get("UPDATE_LV_SIZES") else { return Ok(Overrides::new()) };
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

/// File stem and seed of the image's name.
fn names(
    source: &Source,
    platform: &str,
    said: &Description,
    settings: &Resolved,
) -> Result<(String, String)> {
    let (stem, seed) = match source {
        Source::Iso { facts, .. } => {
            let facts = source.facts().unwrap_or(facts);
            let shape = shape(settings)?;
            (product::file_stem(facts, shape, platform), product::seed(facts, shape))
        }
        Source::Disk(disk) => {
            let stem = disk.stem();
            (format!("{stem}.{platform}"), stem)
        }
    };
    match settings.text("HYPERVISOR_IMAGE_NAME") {
        Some(name) if name.contains('/') => Err(Error::new(
            Stage::Settings,
            format!("HYPERVISOR_IMAGE_NAME: `{name}` is a path, not a file name"),
        )
        .hint("set the folder with IMAGE_DIR")),
        // Packages of clouds keep their names, as with the old tool.
        Some(name) if !said.uploads => {
            let whole = name.ends_with(platform) || package(said, settings).archive == Archive::Ova;
            Ok((if whole { name.to_owned() } else { format!("{name}.{platform}") }, seed))
        }
        _ => Ok((stem, seed)),
    }
}

/// What goes into IMAGE_DIR: the provider's package, or the image alone when the user wants no archive.
fn package(said: &Description, settings: &Resolved) -> DiskSpec {
    let package = said.disk.package.as_ref().unwrap_or(&said.disk.spec);
    match settings.text("PACKAGE") {
        Some("none") => package.bare(),
        _ => package.clone(),
    }
}

/// Name of the disk inside a package, without suffix.
fn disk_name(source: &Source) -> String {
    match source {
        Source::Iso { facts, .. } => product::internal_name(facts),
        Source::Disk(disk) => disk.stem(),
    }
}

fn disk_stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "disk".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn image_name(
    said: &Description,
    settings: &Resolved,
    seed: &str,
    stem: &str,
) -> Result<(String, bool)> {
    let Some(rules) = &said.image_name else { return Ok((stem.to_owned(), false)) };
    if let Some(name) = settings.text("CLOUD_IMAGE_NAME") {
        product::check_name(name, rules)?;
        return Ok((name.to_owned(), true));
    }
    let random = random::characters(random::UPPER, 9)?;
    Ok((product::compose_name(seed, &random, rules)?, false))
}

fn artifacts_name(source: &Source, platform: &str, settings: &Resolved) -> PathBuf {
    match source {
        Source::Iso { path, .. } => {
            let modules = settings.text("MODULES").unwrap_or_default();
            let slots = settings.text("BOOT_LOCATIONS").unwrap_or_default();
            Path::new(&disk_stem(path)).join(platform).join(format!("{modules}_{slots}slot"))
        }
        Source::Disk(disk) => Path::new(&disk.stem()).join(platform),
    }
}

/// What a disk says of itself; installers are for x86-64 and start by BIOS.
fn architecture(source: &Source) -> &'static str {
    match source {
        Source::Iso { .. } => "x86_64",
        Source::Disk(disk) => disk.facts.architecture.map_or("x86_64", |found| found.name()),
    }
}

fn boot_mode(source: &Source) -> &'static str {
    match source {
        Source::Disk(disk) if disk.facts.is_uefi_only() => "uefi",
        Source::Disk(_) | Source::Iso { .. } => "bios",
    }
}

fn product_document(source: &Source) -> BTreeMap<String, String> {
    source.facts().map(Facts::document).unwrap_or_default()
}

fn image_tags(
    platform: &str,
    said: &Description,
    settings: &Resolved,
    source: &Source,
    virtual_size: u64,
) -> Result<Tags> {
    let Some(rules) = &said.tags else { return Ok(Tags::new()) };
    let builder = settings.builder();
    let text = |key: &str| settings.text(key).unwrap_or_default().to_owned();
    let mut automatic: Tags = [
        ("build_source", "build-image".to_owned()),
        ("platform", platform.to_owned()),
        ("image_size", format!("{}GiB", virtual_size.div_ceil(GIB))),
        ("build_host", builder.host.clone()),
        ("build_user", builder.user.clone()),
        ("build_type", builder.kind.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if let Some(facts) = source.facts() {
        automatic.insert("modules".to_owned(), text("MODULES"));
        automatic.insert("boot_locations".to_owned(), text("BOOT_LOCATIONS"));
        automatic.insert("license_model".to_owned(), "byol".to_owned());
        automatic.extend(facts.lines.iter().cloned());
    }
    let json = |key: &str| settings.get(key).map(|value| &value.json);
    let (add, exclude) = (json("IMAGE_TAGS"), json("IMAGE_TAGS_EXCLUDE"));
    let mut composed = tags::compose(automatic, add, exclude)?;
    tags::fit(&mut composed, add, rules);
    tags::check(&composed, rules)?;
    Ok(composed)
}
