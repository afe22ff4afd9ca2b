//! Decides an installation, and describes its guests: the installer's pass, the hotfix's pass if one is set, then the
//! first boot of the disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use build_image_disk::{
    installer::{
        Document, Expected, FirstBoot, InputFile, Installation, IsoFile, Names, Note,
        Pass as Guests, Record, RecordContext, Refusal, Request, Settings,
    },
    iso::Iso,
};
use build_image_plugin_api::GuestNeeds;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::{
    Additions, Facts, Guest, Overrides, Pass, Result, Shape, Sizes, Version,
    bigip::{Details, shape},
    boot, compute, consoles, file_stem, injected, internal_name, records,
    rows::{
        BOOT_LOCATIONS, CONSOLE_DEVICES, DISABLE_SPLASH, MODULES, REQUIRE_RELABEL, UPDATE_LV_SIZES,
    },
    seed,
};

/// Bytes per GiB.
const GIB: u64 = 1 << 30;
/// Printed on the first boot of every image when its files are relabelled.
const RELABEL_MARKER: &str = "SELinux targeted policy relabel is required.";
/// Printed on the first boot of a cloud image.
const CLOUD_MARKER: &str = "Cloud setup succeeded.";
/// Serial logs, in the order of the guests.
const LOGS: [&str; 3] = ["qemu.iso.log", "qemu.hotfix.log", "qemu.selinux_relabeling.log"];

/// One installation.
pub(crate) struct Prepared {
    document: Document,
    iso: PathBuf,
    hotfix: Option<PathBuf>,
    /// The facts of the final installation: the hotfix's when one is given.
    pub(crate) facts: Facts,
    shape: Shape,
    /// The sizes of the volumes.
    pub(crate) sizes: Sizes,
    /// UPDATE_LV_SIZES as the user gave it.
    pub(crate) larger: Option<Value>,
    guest: Guest,
    platform: String,
}

impl Prepared {
    /// Decides everything.
    ///
    /// # Errors
    /// Wrong settings, impossible sizes, and versions that the provider does not take.
    pub(crate) fn new(request: &Request<'_>) -> Result<Self> {
        let settings = request.settings;
        let base = Details::of(request.system)?;
        let needs = needs(request)?;
        check_minimum_version(request, &needs, &base.facts)?;
        let shape = shape(settings)?;
        let waagent = needs.volumes.iter().any(|volume| volume == "waagent");
        let guest = Guest {
            hypervisor: needs.hypervisor,
            skip_boot_fixup: needs.skip_boot_fixup,
            consoles: consoles(settings.json(CONSOLE_DEVICES))?,
            disable_splash: settings.is_on(DISABLE_SPLASH),
            files: injected(settings.json(injected::KEY), request.lookup)?,
        };
        let info = base.info.ok_or_else(|| {
            Refusal::source("the sizes of the volumes were not read from the ISO")
        })?;
        let sizes = compute(&info, shape, &overrides(settings)?, waagent)?;
        let hotfix = request.media.first();
        let facts = match hotfix {
            Some(hotfix) => Details::of(&hotfix.system)?.facts,
            None => base.facts.clone(),
        };
        let mut prepared = Self {
            document: document(request, &base.facts, &facts, shape, sizes, &guest),
            iso: request.iso.to_owned(),
            hotfix: hotfix.map(|hotfix| hotfix.path.clone()),
            facts,
            shape,
            sizes,
            larger: settings.json(UPDATE_LV_SIZES).cloned(),
            guest,
            platform: request.platform.to_owned(),
        };
        prepared.document.snapshot_files =
            records::FILES.iter().chain(&LOGS).map(|name| (*name).to_owned()).collect();
        Ok(prepared)
    }

    /// Describes one guest of the installer. Kernel and arguments always come from the base ISO; the initrd comes
    /// from the ISO that is installed.
    fn guest(&self, pass: Pass, iso: &Path, base: &Iso, files: &Guest) -> Result<Guests> {
        let (name, log, done) = match pass {
            Pass::Rtm => ("install", LOGS[0], "installed"),
            Pass::Hotfix => ("hotfix", LOGS[1], "hotfix installed"),
        };
        let additions = Additions {
            facts: &self.facts,
            shape: self.shape,
            sizes: self.sizes,
            guest: files,
            platform: &self.platform,
        };
        let on = |iso: &Path, path: &str| IsoFile { iso: iso.to_owned(), path: path.to_owned() };
        Ok(Guests {
            name: name.to_owned(),
            done: done.to_owned(),
            log: log.to_owned(),
            cdrom: iso.to_owned(),
            kernel: on(&self.iso, boot::KERNEL),
            initrd: on(iso, boot::INITRD),
            additions: additions.of(pass)?,
            arguments: boot::arguments(base, pass)?,
            success: vec![pass.success_marker().to_owned()],
            failure: vec![pass.failure_marker().to_owned()],
            lighter: format!("put less into {}", injected::KEY),
        })
    }
}

impl Installation for Prepared {
    fn document(&self) -> &Document {
        &self.document
    }

    fn passes(&self, files: &[InputFile]) -> Result<Vec<Guests>> {
        let mut guest = self.guest.clone();
        for (file, input) in guest.files.iter_mut().zip(files) {
            file.source.clone_from(&input.source);
        }
        let base = Iso::open(&self.iso).map_err(|error| Refusal::unreadable(&self.iso, error))?;
        let mut passes = vec![self.guest(Pass::Rtm, &self.iso, &base, &guest)?];
        if let Some(hotfix) = &self.hotfix {
            passes.push(self.guest(Pass::Hotfix, hotfix, &base, &guest)?);
        }
        Ok(passes)
    }

    fn records_of_start(&self, context: &RecordContext<'_>) -> Vec<Record> {
        records::of_start(self, context)
    }

    fn records_of_end(&self, context: &RecordContext<'_>) -> Vec<Record> {
        records::of_end(self, context)
    }
}

/// Reads what the provider wishes of the guest.
fn needs(request: &Request<'_>) -> Result<GuestNeeds> {
    GuestNeeds::deserialize(request.guest).map_err(|error| {
        let platform = request.platform;
        Refusal::provider(format!("provider `{platform}` states broken needs of the guest"))
            .caused_by(&error)
    })
}

fn document(
    request: &Request<'_>,
    base: &Facts,
    facts: &Facts,
    shape: Shape,
    sizes: Sizes,
    guest: &Guest,
) -> Document {
    let settings = request.settings;
    let text = |key: &str| settings.text(key).unwrap_or_default().to_owned();
    let (modules, slots) = (text(MODULES), text(BOOT_LOCATIONS));
    let bundle = if modules == "all" { "all-modules" } else { "ltm" };
    let members = |more: &[(&str, &str)]| -> BTreeMap<String, String> {
        let common = [("modules", modules.as_str()), ("boot_locations", slots.as_str())];
        common
            .iter()
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let json = |members: BTreeMap<String, String>| -> BTreeMap<String, Value> {
        members.into_iter().map(|(name, value)| (name, json!(value))).collect()
    };
    let license = ("license_model", "byol");
    let mut tags = members(&[license]);
    tags.extend(facts.lines.iter().cloned());
    let bundle = format!("{bundle}-{slots}boot-loc");
    let mut attributes = members(&[license, ("bundle", &bundle)]);
    attributes.extend(facts.lines.iter().cloned());
    let requires_relabel = settings.is_on(REQUIRE_RELABEL);
    Document {
        system: request.media.first().map_or(request.system, |hotfix| &hotfix.system).clone(),
        disk_bytes: sizes.gib * GIB,
        least_bytes: sizes.least_gib * GIB,
        smaller: "ask for less in UPDATE_LV_SIZES, or for a smaller image with -m ltm or -b 1"
            .to_owned(),
        names: Names {
            file_stem: file_stem(facts, shape, request.platform),
            seed: seed(facts, shape),
            disk_name: internal_name(base),
        },
        tags,
        files: guest
            .files
            .iter()
            .enumerate()
            .map(|(position, file)| file.input(position))
            .collect(),
        fingerprint: if requires_relabel { vec!["labelled".to_owned()] } else { Vec::new() },
        first_boot: Some(first_boot(guest.hypervisor.is_some(), requires_relabel)),
        attributes: json(attributes),
        step_members: json(members(&[])),
        image_members: [("license_model".to_owned(), json!("byol"))].into(),
        snapshot_files: Vec::new(),
    }
}

/// Describes the first boot, on which the system labels its files.
fn first_boot(is_cloud: bool, requires_relabel: bool) -> FirstBoot {
    let success: &[&str] = match (is_cloud, requires_relabel) {
        (true, _) => &[CLOUD_MARKER, RELABEL_MARKER],
        (false, true) => &[RELABEL_MARKER],
        (false, false) => &[],
    };
    let text = format!(
        "the first boot ended without printing `{RELABEL_MARKER}`: the files of the image may have no SELinux labels"
    );
    let hint = "look for denials when the image runs; --require-relabel makes this an error";
    FirstBoot {
        log: LOGS[2].to_owned(),
        success: success.iter().map(|text| (*text).to_owned()).collect(),
        expected: Some(Expected {
            text: RELABEL_MARKER.to_owned(),
            otherwise: Note { text, hint: Some(hint.to_owned()) },
        }),
    }
}

fn check_minimum_version(request: &Request<'_>, needs: &GuestNeeds, facts: &Facts) -> Result<()> {
    let (platform, path) = (request.platform, request.iso);
    let Some(floor) = needs.minimum_version.get(&facts.product) else { return Ok(()) };
    let number = Version::parse(floor).map_err(|what| {
        Refusal::provider(format!("provider `{platform}` states a broken version: {what}"))
    })?;
    if facts.number >= number {
        return Ok(());
    }
    Err(Refusal::source(format!(
        "`{}` installs {} {}, but platform `{platform}` needs {floor} or newer",
        path.display(),
        facts.product,
        facts.version
    ))
    .hint("use the ISO of a newer version"))
}

fn overrides(settings: &Settings) -> Result<Overrides> {
    let Some(value) = settings.get(UPDATE_LV_SIZES) else { return Ok(Overrides::new()) };
    let members = value.json.as_object().into_iter().flatten();
    members
        .map(|(name, size)| {
            let mib = size.as_u64().ok_or_else(|| {
                let origin = &value.origin;
                Refusal::settings(format!(
                    "UPDATE_LV_SIZES ({origin}): the size of `{name}`, {size}, is no whole number"
                ))
                .hint("sizes are MiB without quotes")
            })?;
            Ok((name.clone(), mib))
        })
        .collect()
}
