//! Provides the disk of the build in the image formats that providers request: computed while it is read, or
//! written by all processors while it can already be read.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use build_image_disk::{
    format::GuestReader,
    ovf,
    pack::{
        ArchiveOptions, Content, Control, DigestKinds, Growing, Level, Member, OtherDigest,
        OvfPackage, PackedQcow2, StreamVmdk, tar_gz, zip,
    },
    view::{FileView, Qcow2Version, Qcow2View, RawView, Stamp, VhdKind, VhdView, View},
};
use build_image_plugin_api::{
    Archive, Compression, DiskFormat, DiskSpec, DiskVariant, Error, Ovf, Result,
};

use sha2::{Digest as _, Sha256};

use super::host::disk_error;
use crate::{
    bundle::{self, BundleImage},
    signature::{Algorithm, Signer},
};

/// Digests that are always published beside a file.
const PUBLISHED: [Algorithm; 2] = [Algorithm::Md5, Algorithm::Sha256];
/// Sizes of VHDs are multiples of this number of bytes, as clouds require.
const VHD_MULTIPLE: u64 = 1 << 20;

/// An image in the format that a provider requested.
pub(super) enum ImageOutput {
    /// Computed while it is read.
    View(Arc<dyn View>),
    /// A file that is being written.
    File(Arc<Growing>),
}

/// An image that exists already and is not made from a disk.
#[derive(Clone, Debug)]
pub(crate) struct ReadyImage {
    /// Its bytes.
    pub(crate) view: Arc<BundleImage>,
    /// Its format.
    pub(crate) spec: DiskSpec,
    /// SHA-256 of its bytes, hexadecimal.
    pub(crate) sha256: String,
}

/// The disk that is built.
#[derive(Clone, Debug, Default)]
pub(crate) struct BaseDisk {
    /// The image that is handed out instead of one that is made from the disk.
    pub(crate) ready: Option<ReadyImage>,
    /// Path of the disk.
    pub(crate) path: PathBuf,
    /// Whether the disk was installed here: it is raw, whatever the guest wrote into its first sector.
    pub(crate) is_raw: bool,
    /// The reader of a disk that the user gave; it is open already.
    pub(crate) given: Option<GuestReader>,
    /// What identifies the content of a disk that is not in a file: the SHA-256 of what was read from a pipe.
    pub(crate) piped: Option<String>,
    /// Size that the guest sees, in bytes.
    pub(crate) virtual_size: u64,
    /// Name of the image inside archives, without suffix.
    pub(crate) disk_name: String,
    /// Date of archive members, in seconds since 1970.
    pub(crate) date: u64,
    /// Signs the manifests of OVF packages.
    pub(crate) signer: Option<Arc<Signer>>,
    /// Whether the image is published as a file, with its digests beside it.
    pub(crate) published: bool,
}

/// The image formats that this host can make, without archives around them.
pub(super) fn images() -> Vec<DiskSpec> {
    let qcow2 = DiskSpec::new(DiskFormat::Qcow2);
    let older_qcow2 = qcow2.clone().variant(DiskVariant::V2);
    let vhd = DiskSpec::new(DiskFormat::Vhd);
    vec![
        DiskSpec::new(DiskFormat::Raw),
        qcow2.clone(),
        older_qcow2.clone(),
        qcow2.compression(Compression::Zlib),
        older_qcow2.compression(Compression::Zlib),
        vhd.clone().variant(DiskVariant::Fixed),
        vhd.variant(DiskVariant::Dynamic),
        DiskSpec::new(DiskFormat::Vmdk).variant(DiskVariant::StreamOptimized),
    ]
}

/// Returns whether this host can make such an image and the archive around it.
pub(super) fn can_make(spec: &DiskSpec) -> bool {
    let archive = match (spec.archive, &spec.ovf) {
        (Archive::None | Archive::TarGz | Archive::Zip, None) => true,
        (Archive::Zip | Archive::Ova, Some(_)) => spec.format == DiskFormat::Vmdk,
        _ => false,
    };
    archive && images().contains(&spec.bare())
}

/// Returns whether an image has to be written before it can be read completely.
pub(super) fn is_written(spec: &DiskSpec) -> bool {
    spec.archive != Archive::None
        || spec.format == DiskFormat::Vmdk
        || (spec.format == DiskFormat::Qcow2 && spec.compression == Compression::Zlib)
}

impl BaseDisk {
    /// Converts the disk to the requested format. Files that have to be written are written to `dest`, under
    /// `control`.
    pub(super) fn form(
        &self,
        spec: &DiskSpec,
        dest: &Path,
        control: &Control,
    ) -> Result<ImageOutput> {
        if let Some(ready) = &self.ready {
            if !bundle::is_same_image(&ready.spec, spec) {
                return Err(Error::unsupported(
                    format!("the bundle has a {} image, not the {spec} one", ready.spec),
                    "ask for the image that the check reported",
                ));
            }
            return Ok(ImageOutput::View(ready.view.clone()));
        }
        if !can_make(spec) {
            return Err(Error::unsupported(
                format!("this build-image makes no {spec} images"),
                "ask for one of those that `HostFacts.disks` lists",
            ));
        }
        match (spec.archive, &spec.ovf) {
            (Archive::None, _) => self.image(spec, dest, control),
            (Archive::TarGz, _) => {
                let member = self.member(spec, dest, control)?;
                let written = tar_gz(member, &self.options(), dest, control);
                written.map(|file| ImageOutput::File(Arc::new(file))).map_err(disk_error)
            }
            (_, Some(ovf)) => self.package(spec, ovf, dest, control),
            (_, None) => {
                let member = self.member(spec, dest, control)?;
                let written = zip(vec![member], &self.options(), dest, control);
                written.map(|file| ImageOutput::File(Arc::new(file))).map_err(disk_error)
            }
        }
    }

    /// Converts the disk and waits until the image is finished.
    pub(crate) fn finished(&self, spec: &DiskSpec, dest: &Path) -> Result<Arc<dyn View>> {
        finish(self.form(spec, dest, &Control::new())?, dest)
    }

    /// Returns the length of an image, if it is known before the image is written.
    pub(crate) fn known_length(&self, spec: &DiskSpec) -> Option<u64> {
        if is_written(spec) {
            return None;
        }
        match self.form(spec, Path::new(""), &Control::new()) {
            Ok(ImageOutput::View(view)) => Some(view.len()),
            _ => None,
        }
    }

    /// Returns the image without an archive.
    fn image(&self, spec: &DiskSpec, dest: &Path, control: &Control) -> Result<ImageOutput> {
        let disk = self.open()?;
        let version = match spec.variant {
            DiskVariant::V2 => Qcow2Version::V2,
            _ => Qcow2Version::V3,
        };
        let view: Arc<dyn View> = match (spec.format, spec.compression) {
            (DiskFormat::Raw, _) => Arc::new(RawView::of(disk)),
            (DiskFormat::Qcow2, Compression::Zlib) => {
                let packed = PackedQcow2::of(disk).map_err(disk_error)?.with_version(version);
                let written = packed.write(dest, self.digests(), control);
                return written.map(|file| ImageOutput::File(Arc::new(file))).map_err(disk_error);
            }
            (DiskFormat::Qcow2, _) => {
                Arc::new(Qcow2View::of(disk).map_err(disk_error)?.with_version(version))
            }
            (DiskFormat::Vhd, _) => {
                let fixed = spec.variant == DiskVariant::Fixed;
                let kind = if fixed { VhdKind::Fixed } else { VhdKind::Dynamic };
                let view = VhdView::of(disk, kind, VHD_MULTIPLE, &self.stamp());
                Arc::new(view.map_err(disk_error)?)
            }
            _ => {
                let written = self.vmdk(disk, spec)?.write(dest, self.digests(), control);
                return written.map(|file| ImageOutput::File(Arc::new(file))).map_err(disk_error);
            }
        };
        Ok(ImageOutput::View(view))
    }

    fn vmdk(&self, disk: GuestReader, spec: &DiskSpec) -> Result<StreamVmdk> {
        StreamVmdk::of(disk, self.member_name(spec), &self.stamp()).map_err(disk_error)
    }

    /// Returns the only member of an archive. An image that has to be written is first written beside the archive.
    fn member(&self, spec: &DiskSpec, dest: &Path, control: &Control) -> Result<Member> {
        let mut beside = dest.as_os_str().to_owned();
        beside.push(".member");
        let beside = PathBuf::from(beside);
        let inner = Self { published: false, ..self.clone() };
        let view = finish(inner.image(&spec.bare(), &beside, control)?, &beside)?;
        // The file stays readable through its open descriptor, and is removed when the archive is done.
        let _ = std::fs::remove_file(&beside);
        Ok(Member { name: self.member_name(spec), content: Content::View(view) })
    }

    /// Builds an OVF package: descriptor, manifest and disk, in an OVA or a ZIP file.
    fn package(
        &self,
        spec: &DiskSpec,
        ovf: &Ovf,
        dest: &Path,
        control: &Control,
    ) -> Result<ImageOutput> {
        let stem = self.disk_name.clone();
        let disk = self.vmdk(self.open()?, spec)?;
        let (signature, extra) = self.signature(&stem);
        let package = OvfPackage {
            stem,
            appliance: appliance(ovf),
            disk,
            manifest: match ovf.manifest_digest.as_str() {
                "SHA256" => ovf::ManifestDigest::Sha256,
                _ => ovf::ManifestDigest::Sha1,
            },
            signature,
            extra,
        };
        let written = if spec.archive == Archive::Ova {
            package.ova(&self.stamp(), self.digests(), dest, control)
        } else {
            package.zip(&self.options(), dest, control)
        };
        written.map(|file| ImageOutput::File(Arc::new(file))).map_err(disk_error)
    }

    /// Returns the signature of a manifest, and the public key that is stored beside it: both or neither, as in
    /// the previous tool.
    fn signature(&self, stem: &str) -> (Option<ovf::Signature>, Vec<(String, Vec<u8>)>) {
        let Some(signer) = self.signer.clone() else { return (None, Vec::new()) };
        let Some(public) = signer.public().map(<[u8]>::to_vec) else { return (None, Vec::new()) };
        let sign = move |manifest: &[u8]| {
            let sign_error = |error: crate::error::Error| {
                build_image_disk::Error::new(build_image_disk::Kind::Tool, error.message)
            };
            signer.sign(manifest).map_err(sign_error)
        };
        let signature = ovf::Signature { name: format!("{stem}.sig"), sign: Box::new(sign) };
        (Some(signature), vec![(format!("{stem}.pub"), public)])
    }

    pub(super) fn open(&self) -> Result<GuestReader> {
        if let Some(reader) = &self.given {
            return Ok(reader.clone());
        }
        let open = if self.is_raw { GuestReader::open_raw } else { GuestReader::open };
        open(&self.path).map_err(disk_error)
    }

    /// Identifies a disk's content and its image format, from the stamps of its files when they were opened. A disk
    /// whose files were written since then has another identity, whatever their modification times. A disk from a pipe is
    /// identified by what was read.
    ///
    /// An image that exists already is identified by its content, wherever it is.
    pub(super) fn identity(&self, spec: &DiskSpec) -> Result<String> {
        if let Some(ready) = &self.ready {
            return Ok(ready.sha256.clone());
        }
        let disk = self.open()?;
        let mut facts: String = match &self.piped {
            Some(sha256) => format!("{sha256} "),
            None => disk.sources().map(|(_, stamp)| format!("{stamp} ")).collect(),
        };
        facts += &format!("{} {spec:?}", disk.virtual_size());
        Ok(Sha256::digest(facts).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn member_name(&self, spec: &DiskSpec) -> String {
        if spec.member.is_empty() {
            format!("{}.{}", self.disk_name, spec.format.word())
        } else {
            spec.member.clone()
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp::new(self.disk_name.clone(), self.date)
    }

    fn options(&self) -> ArchiveOptions {
        ArchiveOptions { level: Level::default(), stamp: self.stamp(), digests: self.digests() }
    }

    /// Returns the digests to compute while an image is written.
    fn digests(&self) -> DigestKinds {
        if self.published { self.published_digests().0 } else { DigestKinds::NONE }
    }

    /// Returns the digests that are published beside a file, and what the other one is, which is signed.
    pub(super) fn published_digests(&self) -> (DigestKinds, Option<Algorithm>) {
        let others = |algorithm: &Algorithm| !PUBLISHED.contains(algorithm);
        let signed = self.signer.as_ref().map(|signer| signer.algorithm()).filter(others);
        let other = signed.map(|algorithm| OtherDigest(algorithm.creator()));
        (DigestKinds { md5: true, sha256: true, other, ..DigestKinds::NONE }, signed)
    }
}

/// The descriptor's data as the disk library expects it.
fn appliance(ovf: &Ovf) -> ovf::Appliance {
    let product = ovf.product.clone().unwrap_or_default();
    ovf::Appliance {
        name: ovf.name.clone(),
        annotation: ovf.annotation.clone(),
        product: ovf::Product {
            name: product.name,
            vendor: product.vendor,
            version: product.version,
            full_version: product.full_version,
        },
        eula: ovf.eula.clone(),
        hardware_version: ovf.hardware_version,
        uefi: ovf.uefi,
        cpus: ovf.cpus,
        memory_mib: ovf.memory_mib,
        sizes: ovf.configurations.iter().map(size).collect(),
        networks: ovf.networks.iter().map(network).collect(),
        properties: product.properties.into_iter().map(property).collect(),
    }
}

fn size(given: &build_image_plugin_api::OvfConfiguration) -> ovf::Size {
    ovf::Size {
        id: given.id.clone(),
        label: given.label.clone(),
        description: given.description.clone(),
        cpus: given.cpus,
        memory_mib: given.memory_mib,
        cpu_reservation_mhz: given.reserved_mhz,
        default: given.default,
    }
}

fn network(given: &build_image_plugin_api::OvfNetwork) -> ovf::Network {
    ovf::Network { name: given.name.clone(), description: given.description.clone() }
}

fn property(given: build_image_plugin_api::OvfProperty) -> ovf::Property {
    ovf::Property {
        key: given.key,
        category: given.category,
        label: given.label,
        description: given.description,
        password: given.password,
    }
}

/// Finishes an image; `path` is the path of an image that is written to a file.
fn finish(form: ImageOutput, path: &Path) -> Result<Arc<dyn View>> {
    match form {
        ImageOutput::View(view) => Ok(view),
        ImageOutput::File(file) => {
            let in_use_error = || Error::internal("an image is in use before it is finished");
            Arc::into_inner(file).ok_or_else(in_use_error)?.finish().map_err(disk_error)?;
            Ok(Arc::new(FileView::open(path).map_err(disk_error)?))
        }
    }
}

/// Breaks if `stop` is set, otherwise continues.
pub(super) fn break_if(stop: bool) -> ControlFlow<()> {
    if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
