//! Opens the source: an ISO with its facts, or a disk image.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use build_image_disk::{
    installer::{Checked, FurtherMedium, Installer, MediumSetting, System},
    iso::Iso,
};
use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::{
    DOWNLOADS, SourceContext,
    address::{Address, display_url},
    disk,
    download::{Download, Slot},
    not_accepted, pipe,
    verify::{Subject, Verifier},
};
use crate::{
    bundle::{Bundle, Policy},
    error::{Error, Result, Stage},
    installers::{self, refused},
    plan::{self, Medium, RemoteObject, Source},
    report::Reporter,
    settings::{AppliesTo, Key, Resolved, STDIN, core_rows, keys, unused},
    signature::{Algorithm, Digests, FileDigest},
};

/// A source that is open.
pub(crate) struct Opened {
    /// The source.
    pub(crate) source: Source,
    /// The downloads that hold it; other processes cannot replace them while these are locked.
    pub(crate) downloads: Vec<Slot>,
}

/// A source file that is available locally.
struct Here {
    path: PathBuf,
    digests: Option<Digests>,
    /// Its URL and its slot, if it was downloaded.
    fetched: Option<(Url, Slot)>,
}

/// Opens the source that the settings name; downloads it first if it is remote.
///
/// # Errors
/// When none or two are named, or the named one is refused.
pub(crate) fn open(context: &SourceContext<'_>) -> Result<Opened> {
    match named(context.settings)? {
        Named::Iso(address) => installer(context, &address),
        Named::Disk(address) => given_disk(context, &address),
        Named::Pipe => {
            let disk = pipe::open(context, &Verifier::of_disks(context)?)?;
            Ok(Opened { source: Source::Disk(disk), downloads: Vec::new() })
        }
    }
}

/// A source as the settings name it.
pub(super) enum Named {
    /// An installer ISO.
    Iso(Address),
    /// A disk image.
    Disk(Address),
    /// A disk image from standard input.
    Pipe,
}

/// Opens the bundle that the settings name, if they name one.
///
/// # Errors
/// When the settings name another source too, or the bundle is refused.
pub(super) fn bundle(settings: &Resolved) -> Result<Option<Arc<Bundle>>> {
    let set = settings.core();
    let Some(path) = &set.bundle.published else { return Ok(None) };
    refuse_others(settings, &OF_A_DISK, "a bundle is published as it is")?;
    Bundle::open(path, &Policy::of(settings)?).map(|bundle| Some(Arc::new(bundle)))
}

/// Settings that an image which exists already contradicts.
const OF_A_DISK: [Key; 7] = [
    keys::ISO,
    keys::DISK,
    keys::DISK_SIZE,
    keys::BUNDLE,
    keys::NO_UPLOAD,
    keys::BOOT_TEST,
    keys::SBOM,
];

/// Returns the object that the settings name, if they name one.
///
/// # Errors
/// When the settings name another source too, or request what needs the bytes of the image.
pub(super) fn object(settings: &Resolved) -> Result<Option<RemoteObject>> {
    let Some(id) = &settings.core().source.object else { return Ok(None) };
    let more = [keys::FROM_BUNDLE, keys::UPLOAD_ONLY, keys::PROVENANCE_FILE];
    let why = "an uploaded object is registered as it is, and its bytes are not read";
    refuse_others(settings, &[&OF_A_DISK[..], &more].concat(), why)?;
    Ok(Some(RemoteObject { id: id.clone(), located: None }))
}

/// Refuses settings that contradict a source.
fn refuse_others(settings: &Resolved, others: &[Key], why: &str) -> Result<()> {
    for row in core_rows() {
        let contradicts = others.iter().any(|key| *key == row)
            || matches!(row.applies_to, AppliesTo::GivenDisk { .. });
        let value = settings.of(&row).filter(|value| value.json != serde_json::Value::Bool(false));
        if contradicts && value.is_some() {
            let key = row.key();
            let text = format!("{key} is set, but {why}");
            return Err(Error::new(Stage::Settings, text).hint(format!("leave {key} out")));
        }
    }
    Ok(())
}

/// Returns the source that the settings name.
///
/// # Errors
/// When none or two are named.
pub(super) fn named(settings: &Resolved) -> Result<Named> {
    let source = &settings.core().source;
    match (&source.iso, &source.disk) {
        (Some(text), None) => {
            disk::refuse_settings(settings)?;
            Address::of(keys::ISO.name(), text).map(Named::Iso)
        }
        (None, Some(text)) if text == STDIN => {
            pipe::check_settings(settings)?;
            Ok(Named::Pipe)
        }
        (None, Some(text)) => Address::of(keys::DISK.name(), text).map(Named::Disk),
        (Some(_), Some(_)) => Err(Error::new(Stage::Settings, "ISO and DISK are both set")
            .hint("give either an installer ISO with -i or a disk image with --disk")),
        (None, None) => Err(Error::new(Stage::Settings, "no input is given")
            .hint("give an installer ISO with -i or a disk image with --disk")),
    }
}

fn here(context: &SourceContext<'_>, address: &Address, algorithms: &[Algorithm]) -> Result<Here> {
    match address {
        Address::File(path) => Ok(Here { path: path.clone(), digests: None, fetched: None }),
        Address::Url(url) => {
            let store = plan::base_directory(context.settings)?.join(DOWNLOADS);
            let Download { path, digests, slot } =
                context.downloader()?.fetch(url, &store, algorithms)?;
            Ok(Here { path, digests, fetched: Some((url.clone(), slot)) })
        }
    }
}

impl Here {
    /// Gives a downloaded file its name, and lets other processes use it.
    fn name(&mut self, name: &str) -> Result<()> {
        if let Some((_, slot)) = &mut self.fetched {
            if slot.alone() {
                self.path = slot.finish(&self.path, name, self.digests.as_ref())?;
            }
            slot.share()?;
        }
        Ok(())
    }

    /// Passes a result on. A download that was refused is removed, so that the next run does not use it.
    fn judged<T>(&mut self, result: Result<T>) -> Result<T> {
        result.map_err(|mut error| {
            if let Some((url, slot)) = self.fetched.take_if(|_| error.stage == Stage::Source) {
                error.context.push(("downloaded from".to_owned(), display_url(&url)));
                slot.remove();
            }
            error
        })
    }

    /// Checks the file; returns its digest if one was computed.
    fn check(
        &mut self,
        verifier: &Verifier<'_, '_>,
        signature: &str,
        sha256: &str,
    ) -> Result<Option<FileDigest>> {
        let url = self.fetched.as_ref().map(|(url, _)| url);
        let subject = Subject { signature, sha256, path: &self.path, url, listed: None };
        let checked = verifier.check(&subject, self.digests.take());
        self.judged(checked)
    }
}

fn installer(context: &SourceContext<'_>, address: &Address) -> Result<Opened> {
    installers::by_settings(context.settings)?;
    let further = further(context.settings)?;
    let verifier = Verifier::new(context)?;
    let (iso_signature, iso_sha256) = (keys::ISO_SIG.name(), keys::ISO_SHA256.name());
    let digests = further.iter().map(|(setting, _)| setting.sha256);
    verifier.warn(&std::iter::once(iso_sha256).chain(digests).collect::<Vec<&str>>());

    let mut base = here(context, address, &verifier.algorithms(iso_sha256))?;
    let examined = examine(context.settings, &base.path);
    let (installer, system) = base.judged(examined)?;
    base.name(&system.iso_name)?;
    let checked = check(Some(context.reporter), context.settings, installer, &base.path, system);
    let system = base.judged(checked)?;
    let (mut files, mut media) = (Vec::new(), Vec::new());
    for (setting, address) in of_installer(further, installer)? {
        let mut file = here(context, &address, &verifier.algorithms(setting.sha256))?;
        let fitting = examine_further(installer, setting, &file.path, &system);
        let mut medium = file.judged(fitting)?;
        file.name(&medium.system.iso_name)?;
        medium.path.clone_from(&file.path);
        files.push(file);
        media.push(medium);
    }
    let digest = base.check(&verifier, iso_signature, iso_sha256)?;
    let check = |(file, medium): (&mut Here, FurtherMedium)| {
        let MediumSetting { signature, sha256, .. } = medium.setting;
        let digest = file.check(&verifier, signature, sha256)?;
        Ok(Medium { medium, digest })
    };
    let media = files.iter_mut().zip(media).map(check).collect::<Result<Vec<Medium>>>()?;
    let path = base.path.clone();
    let source = Source::Iso(Box::new(plan::Iso { path, installer, system, digest, media }));
    let kept = std::iter::once(base).chain(files);
    let downloads = kept.filter_map(|here| here.fetched).map(|(_, slot)| slot).collect();
    Ok(Opened { source, downloads })
}

/// Returns the further ISOs that the settings name.
///
/// # Errors
/// When one of them is neither a file nor a URL.
pub(super) fn further(settings: &Resolved) -> Result<Vec<(MediumSetting, Address)>> {
    let media = installers::media(settings).into_iter();
    media.map(|(setting, text)| Ok((setting, Address::of(setting.key, text)?))).collect()
}

/// Refuses further ISOs that the installer of the base ISO does not install.
fn of_installer(
    further: Vec<(MediumSetting, Address)>,
    installer: &dyn Installer,
) -> Result<Vec<(MediumSetting, Address)>> {
    match further.iter().find(|(setting, _)| !installer.media().contains(setting)) {
        Some((setting, _)) => {
            let (key, systems) = (setting.key, installer.systems());
            Err(Error::new(Stage::Settings, format!("{key} is not used for {systems} ISOs"))
                .hint(format!("leave {key} out")))
        }
        None => Ok(further),
    }
}

fn given_disk(context: &SourceContext<'_>, address: &Address) -> Result<Opened> {
    let verifier = Verifier::of_disks(context)?;
    let mut algorithms = verifier.algorithms(keys::DISK_SHA256.name());
    if context.settings.core().signatures.disk_sums.is_some() {
        algorithms.push(Algorithm::Sha256);
    }
    let mut image = here(context, address, &algorithms)?;
    let mut url = None;
    if let Address::Url(address) = address {
        image.name(&last_segment(address))?;
        url = Some(address);
    }
    let digests = image.digests.take();
    let given = disk::Given { path: &image.path, url, digests, algorithms };
    let opened = disk::open(context, &verifier, given);
    let source = Source::Disk(image.judged(opened)?);
    Ok(Opened { source, downloads: image.fetched.map(|(_, slot)| slot).into_iter().collect() })
}

/// Examines a local installer ISO and further local ones, without verification. With a reporter, the installer's
/// warnings are printed.
pub(super) fn local_installer(
    reporter: Option<&Reporter>,
    settings: &Resolved,
    path: &Path,
    further: Vec<(MediumSetting, PathBuf)>,
) -> Result<Source> {
    let (installer, system) = examine(settings, path)?;
    let system = check(reporter, settings, installer, path, system)?;
    let mut media = Vec::new();
    for (setting, file) in further {
        let medium = examine_further(installer, setting, &file, &system)?;
        media.push(Medium { medium, digest: None });
    }
    let path = path.to_owned();
    Ok(Source::Iso(Box::new(plan::Iso { path, installer, system, digest: None, media })))
}

/// Returns the file name of a URL, reduced to characters that are safe on every file system.
pub(super) fn last_segment(url: &Url) -> String {
    let segment = url.path_segments().and_then(|mut segments| segments.next_back());
    let decoded = percent_decode_str(segment.unwrap_or_default()).decode_utf8_lossy();
    let legal = |letter: &char| letter.is_ascii_alphanumeric() || "._-".contains(*letter);
    let spaced = decoded.chars().map(|letter| if letter == ' ' { '-' } else { letter });
    let name: String = spaced.filter(legal).take(100).collect();
    let name = name.trim_start_matches('.');
    // The slot's own names have no dot, except `about.json`.
    match name {
        "" => "disk".to_owned(),
        name if !name.contains('.') || name.starts_with("about.") => format!("{name}.disk"),
        name => name.to_owned(),
    }
}

fn open_iso(path: &Path) -> Result<Iso> {
    Iso::open(path).map_err(|error| not_accepted(path, error))
}

/// Finds the installer of an ISO, and reads what the ISO installs.
fn examine(settings: &Resolved, path: &Path) -> Result<(&'static dyn Installer, System)> {
    let iso = open_iso(path)?;
    let installer = installers::of_iso(&iso, settings)?;
    let system = installer.examine(&iso, &installers::values(settings)).map_err(refused)?;
    Ok((installer, system))
}

/// Checks that an ISO can be installed. With a reporter, prints the installer's warnings, and one of settings that
/// this installer does not use.
fn check(
    reporter: Option<&Reporter>,
    settings: &Resolved,
    installer: &dyn Installer,
    path: &Path,
    system: System,
) -> Result<System> {
    let Checked { system, warnings } =
        installer.check(&open_iso(path)?, system).map_err(refused)?;
    if let Some(reporter) = reporter {
        for note in warnings {
            reporter.warning(&note.text, note.hint.as_deref());
        }
        let others = unused(settings, &installers::rows_of_others(installer)).0;
        if !others.is_empty() {
            let (keys, systems) = (others.join(", "), installer.systems());
            reporter.warning(&format!("{keys} without effect: not used for {systems} ISOs"), None);
        }
    }
    Ok(system)
}

/// Reads what a further ISO installs.
fn examine_further(
    installer: &dyn Installer,
    setting: MediumSetting,
    path: &Path,
    base: &System,
) -> Result<FurtherMedium> {
    let iso = open_iso(path)?;
    let system = installer.examine_further(&setting, &iso, base).map_err(refused)?;
    Ok(FurtherMedium { setting, path: path.to_owned(), system })
}
