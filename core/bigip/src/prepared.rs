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
        BOOT_LOCATIONS, CONSOLE_DEVICES, DISABLE_SPLASH, DISK_SIZE, MODULES, REQUIRE_RELABEL,
        UPDATE_LV_SIZES,
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
            document: sized(
                settings,
                document(request, &base.facts, &facts, shape, sizes, &guest),
            )?,
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

/// Gives the disk the size that the user chose, which is at least what the volumes need; the rest stays free for volumes
/// that are made later.
fn sized(settings: &Settings, mut document: Document) -> Result<Document> {
    let Some(bytes) = settings.number(DISK_SIZE) else { return Ok(document) };
    let least = document.least_bytes;
    if bytes < least {
        let text =
            format!("{DISK_SIZE} is {bytes} bytes, but the volumes of this image need {least}");
        let hint = format!("give at least {}GiB, or {}", least / GIB, document.smaller);
        return Err(Refusal::settings(text).hint(hint));
    }
    if !bytes.is_multiple_of(512) {
        let text = format!("{DISK_SIZE} is {bytes} bytes, which is not a multiple of 512");
        return Err(Refusal::settings(text).hint("give it with a unit, as in --disk-size=100GiB"));
    }
    (document.disk_bytes, document.least_bytes) = (bytes, bytes);
    document.smaller = format!("give a smaller {DISK_SIZE}, at least {}GiB", least / GIB);
    Ok(document)
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

#[cfg(test)]
mod tests {
    use build_image_disk::installer::{Lookup, System, Value as Set};

    use super::*;
    use crate::VeInfo;

    /// No setting of these tests names a file.
    struct NoFiles;

    impl Lookup for NoFiles {
        fn resolve(&self, text: &str) -> Result<String, String> {
            Err(text.to_owned())
        }

        fn url(&self, text: &str) -> Result<Option<String>, String> {
            Err(text.to_owned())
        }

        fn redacted(&self, text: &str) -> String {
            text.to_owned()
        }
    }

    fn system(version: &str) -> System {
        let file = format!(
            "Product: BIG-IP\nVersion: {version}\nBuild: 0.0.39\nBaseBuild: 0.0.39\nEdition: Final\n"
        );
        let facts = Facts::parse("/BIGIP1500", &file).unwrap();
        Details { facts, info: Some(VeInfo::built_in()) }.system()
    }

    fn prepare(guest: &Value) -> Result<Prepared> {
        let settings: Settings = [(MODULES, json!("ltm")), (BOOT_LOCATIONS, json!("1"))]
            .map(|(key, json)| (key.to_owned(), Set { json, origin: "test".to_owned() }))
            .into_iter()
            .collect();
        Prepared::new(&Request {
            iso: Path::new("base.iso"),
            system: &system("15.0.0"),
            media: &[],
            settings: &settings,
            lookup: &NoFiles,
            platform: "acme",
            guest,
        })
    }

    #[test]
    fn wishes_of_a_provider_decide_and_those_of_a_new_kind_are_ignored() {
        let plain = prepare(&json!({})).unwrap();
        let wishes = json!({
            "hypervisor": "acme",
            "volumes": ["waagent", "later"],
            "wishes": {"time_zone": "UTC"},
            "later": [1],
        });
        let wished = prepare(&wishes).unwrap();
        let [small, large] = [&plain, &wished].map(|prepared| prepared.document().disk_bytes / GIB);
        assert_eq!((small, large), (10, 11));
        let texts = |prepared: &Prepared| prepared.document().first_boot.clone().unwrap().success;
        assert_eq!(texts(&plain), Vec::<String>::new());
        assert_eq!(texts(&wished), [CLOUD_MARKER, RELABEL_MARKER]);
        let names = &wished.document().names;
        assert_eq!(names.file_stem, "BIGIP-15.0.0-0.0.39.LTM_1SLOT.acme");
        assert_eq!(names.seed, "F5-BIGIP-15.0.0-0.0.39-BYOL-ltm-1slot");
    }

    #[test]
    fn needs_that_cannot_be_met_name_who_has_to_act() {
        for (guest, text) in [
            (json!({"minimum_version": {"BIG-IP": "16.1"}}), "`base.iso` installs BIG-IP 15.0.0"),
            (json!({"minimum_version": {"BIG-IP": "x"}}), "states a broken version"),
            (json!({"volumes": 1}), "states broken needs of the guest"),
        ] {
            let error = prepare(&guest).err().unwrap();
            assert!(error.message.contains(text), "{error}");
        }
    }

    #[test]
    fn tags_and_attributes_have_the_facts_of_the_version_file() {
        let prepared = prepare(&json!({})).unwrap();
        let document = prepared.document();
        for (name, value) in [
            ("modules", "ltm"),
            ("boot_locations", "1"),
            ("license_model", "byol"),
            ("version_edition", "Final"),
        ] {
            assert_eq!(document.tags[name], value);
            assert_eq!(document.attributes[name], value);
        }
        assert_eq!(document.attributes["bundle"], "ltm-1boot-loc");
        assert!(!document.tags.contains_key("bundle"));
        assert_eq!(document.step_members.len(), 2);
    }
}
