//! Opens the source: an ISO with its facts, or a disk image.

use std::path::{Path, PathBuf};

use build_image_disk::{Kind, iso::Iso};

use reqwest::Url;

use super::{
    DOWNLOADS, SourceContext,
    address::{Address, display_url},
    disk,
    download::{Download, Slot},
    not_accepted,
    verify::{Subject, Verifier},
};
use crate::{
    error::{Error, Result, Stage},
    install,
    plan::{self, Hotfix, Source},
    product::{self, Facts, VeInfo},
    report::Reporter,
    settings::{Resolved, keys},
    signature::{Algorithm, Digests, FileDigest},
};

/// Largest `ve.info.json` that is read, in bytes.
const VE_INFO_LIMIT: u64 = 1 << 20;

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
        (address, true) => installer(context, &address),
        (address, false) => given_disk(context, &address),
    }
}

/// Returns the source that the settings name, and whether it is an installer ISO.
///
/// # Errors
/// When none or two are named.
pub(super) fn named(settings: &Resolved) -> Result<(Address, bool)> {
    let source = &settings.core().source;
    match (&source.iso, &source.disk) {
        (Some(text), None) => {
            disk::refuse_settings(settings)?;
            Ok((Address::of(keys::ISO.name(), text)?, true))
        }
        (None, Some(text)) => Ok((Address::of(keys::DISK.name(), text)?, false)),
        (Some(_), Some(_)) => Err(Error::new(Stage::Settings, "ISO and DISK are both set")
            .hint("give either an installer ISO with -i or a disk image with --disk")),
        (None, None) => Err(Error::new(Stage::Settings, "there is nothing to make an image of")
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
        let subject = Subject { signature, sha256, path: &self.path, url };
        let checked = verifier.check(&subject, self.digests.take());
        self.judged(checked)
    }
}

fn installer(context: &SourceContext<'_>, address: &Address) -> Result<Opened> {
    plan::check_shape(context.settings)?;
    let hotfix = context.settings.by_name().text("EHF_ISO");
    let hotfix = hotfix.map(|text| Address::of("EHF_ISO", text)).transpose()?;
    let verifier = Verifier::new(context)?;
    let digests = hotfix.iter().map(|_| "EHF_ISO_SHA256");
    verifier.warn(&std::iter::once(keys::ISO_SHA256.name()).chain(digests).collect::<Vec<&str>>());

    let mut base = here(context, address, &verifier.algorithms(keys::ISO_SHA256.name()))?;
    let facts = open_iso(&base.path).and_then(|iso| product::read_facts(&iso, &base.path));
    let facts = base.judged(facts)?;
    base.name(&product::iso_name(&facts))?;
    let source = iso(Some(context.reporter), &base.path, facts);
    let (facts, info) = base.judged(source)?;
    let mut fix = hotfix
        .map(|address| here(context, &address, &verifier.algorithms("EHF_ISO_SHA256")))
        .transpose()?;
    let mut hotfix = None;
    if let Some(fix) = &mut fix {
        let read =
            open_iso(&fix.path).and_then(|iso| product::read_hotfix_facts(&iso, &fix.path, &facts));
        let facts = fix.judged(read)?;
        fix.name(&product::iso_name(&facts))?;
        hotfix = Some(Box::new(Hotfix { path: fix.path.clone(), facts, digest: None }));
    }
    let digest = base.check(&verifier, keys::ISO_SIG.name(), keys::ISO_SHA256.name())?;
    if let (Some(fix), Some(hotfix)) = (&mut fix, &mut hotfix) {
        hotfix.digest = fix.check(&verifier, "EHF_ISO_SIG", "EHF_ISO_SHA256")?;
    }
    let (path, info) = (base.path.clone(), Box::new(info));
    let source = Source::Iso { path, facts, info, digest, hotfix };
    let kept = [Some(base), fix].into_iter().flatten();
    let downloads = kept.filter_map(|here| here.fetched).map(|(_, slot)| slot).collect();
    Ok(Opened { source, downloads })
}

fn given_disk(context: &SourceContext<'_>, address: &Address) -> Result<Opened> {
    let checksum = &context.settings.core().signatures.disk_sha256;
    let algorithm = checksum.as_ref().map(|_| Algorithm::Sha256);
    let mut image = here(context, address, algorithm.as_slice())?;
    if let Address::Url(url) = address {
        image.name(&last_segment(url))?;
    }
    let opened = disk::open(context, &image.path, image.digests.take());
    let source = Source::Disk(image.judged(opened)?);
    Ok(Opened { source, downloads: image.fetched.map(|(_, slot)| slot).into_iter().collect() })
}

/// Reads the facts of a local installer and its hotfix, without verification. With a reporter, missing ones are
/// reported as warnings.
pub(super) fn local_installer(
    reporter: Option<&Reporter>,
    path: &Path,
    hotfix: Option<&Path>,
) -> Result<Source> {
    let (facts, info) = open_iso(path)
        .and_then(|iso| product::read_facts(&iso, path))
        .and_then(|facts| iso(reporter, path, facts))?;
    let read = |fix: &Path| {
        let found = open_iso(fix)?;
        let facts = product::read_hotfix_facts(&found, fix, &facts)?;
        Ok::<_, Error>(Box::new(Hotfix { path: fix.to_owned(), facts, digest: None }))
    };
    let hotfix = hotfix.map(read).transpose()?;
    let (path, info) = (path.to_owned(), Box::new(info));
    Ok(Source::Iso { path, facts, info, digest: None, hotfix })
}

/// Returns the file name of a URL, reduced to characters that are safe on every file system.
pub(super) fn last_segment(url: &Url) -> String {
    let segment = url.path_segments().and_then(|mut segments| segments.next_back());
    let legal = |letter: &char| letter.is_ascii_alphanumeric() || "._-".contains(*letter);
    let name: String = segment.unwrap_or_default().chars().filter(legal).take(100).collect();
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

/// Computes the sizes of the volumes that an ISO installs.
fn iso(reporter: Option<&Reporter>, path: &Path, facts: Facts) -> Result<(Facts, VeInfo)> {
    let iso = open_iso(path)?;
    facts.check_age(path)?;
    install::check_boot(&iso)?;
    let name = format!("{}/install/ve.info.json", facts.directory);
    let info = match iso.read(&name, VE_INFO_LIMIT) {
        Ok(text) => VeInfo::parse(&text).map_err(|what| {
            Error::new(Stage::Source, format!("`{}`: `{name}`: {what}", path.display()))
                .hint("the ISO is damaged or of an unknown kind")
        })?,
        Err(error) if error.kind() == Kind::NotFound => {
            let text = format!(
                "`{}` has no `{name}`: the built-in sizes of version 14.1.0 are used",
                path.display()
            );
            let hint = "UPDATE_LV_SIZES makes volumes larger that turn out to be too small";
            if let Some(reporter) = reporter {
                reporter.warning(&text, Some(hint));
            }
            VeInfo::built_in()
        }
        Err(error) => return Err(not_accepted(path, error)),
    };
    Ok((facts, info))
}
