//! Opens what was given: an ISO with its facts, or a disk image.

use std::path::{Path, PathBuf};

use build_image_disk::{Kind, format::GuestReader, iso::Iso};

use super::not_accepted;
use crate::{
    error::{Error, Result, Stage},
    plan::{Hotfix, Source},
    product::{self, Facts, VeInfo},
    settings::Resolved,
};

/// Largest `ve.info.json` that is read, in bytes.
const VE_INFO_LIMIT: u64 = 1 << 20;

/// Opens the source the settings name.
///
/// # Errors
/// When none or two are named, or what is named is not accepted.
pub(crate) fn open(settings: &Resolved) -> Result<Source> {
    match (settings.path("ISO"), settings.path("DISK")) {
        (Some(path), None) => {
            let hotfix = settings.path("EHF_ISO");
            let hotfix = hotfix.map(|path| local(&path, "EHF_ISO")).transpose()?;
            iso(&local(&path, "ISO")?, hotfix.as_deref())
        }
        (None, Some(path)) => disk(&local(&path, "DISK")?),
        (Some(_), Some(_)) => Err(Error::new(Stage::Settings, "ISO and DISK are both set")
            .hint("give either an installer ISO with -i or a disk image with --disk")),
        (None, None) => Err(Error::new(Stage::Settings, "there is nothing to make an image of")
            .hint("give an installer ISO with -i or a disk image with --disk")),
    }
}

fn local(path: &Path, key: &str) -> Result<PathBuf> {
    let text = path.to_string_lossy();
    if text.contains("://") {
        return Err(Error::new(Stage::Source, format!("{key}: `{text}` is a URL"))
            .hint("this version reads local files only: download it first"));
    }
    std::path::absolute(path).map_err(|error| {
        Error::new(Stage::Source, format!("`{text}` is no usable path")).because(&error)
    })
}

fn iso(path: &Path, hotfix: Option<&Path>) -> Result<Source> {
    let iso = Iso::open(path).map_err(|error| not_accepted(path, error))?;
    let facts = product::read_facts(&iso, path)?;
    facts.check_age(path)?;
    let name = format!("{}/install/ve.info.json", facts.folder);
    let info = match iso.read(&name, VE_INFO_LIMIT) {
        Ok(text) => VeInfo::parse(&text).map_err(|what| {
            Error::new(Stage::Source, format!("`{}`: `{name}`: {what}", path.display()))
                .hint("the ISO is damaged or of an unknown kind")
        })?,
        Err(error) if error.kind() == Kind::NotFound => VeInfo::built_in(),
        Err(error) => return Err(not_accepted(path, error)),
    };
    let hotfix = hotfix.map(|path| open_hotfix(path, &facts)).transpose()?;
    Ok(Source::Iso { path: path.to_owned(), facts, info: Box::new(info), hotfix })
}

fn open_hotfix(path: &Path, base: &Facts) -> Result<Box<Hotfix>> {
    let iso = Iso::open(path).map_err(|error| not_accepted(path, error))?;
    let facts = product::read_hotfix_facts(&iso, path, base)?;
    Ok(Box::new(Hotfix { path: path.to_owned(), facts }))
}

fn disk(path: &Path) -> Result<Source> {
    // Opening it reads every table: a damaged or incomplete image is refused here, not while uploading.
    let disk = GuestReader::open(path).map_err(|error| not_accepted(path, error))?;
    let shown = path.display();
    if let Some(foreign) = disk.probe().foreign {
        return Err(Error::new(Stage::Source, format!("`{shown}` is {foreign}, not a disk this version reads"))
            .hint("give a raw, qcow2, VMDK, VHD, VHDX or VDI disk; unpack or convert others first, as with qemu-img convert -O raw"));
    }
    let size = disk.virtual_size();
    if size == 0 || !size.is_multiple_of(512) {
        let text = format!("`{shown}` has {size} bytes, no multiple of 512: it is no disk");
        return Err(Error::new(Stage::Source, text)
            .hint("give a raw, qcow2, VMDK, VHD, VHDX or VDI disk with --disk"));
    }
    Ok(Source::Disk { path: path.to_owned(), size })
}
