//! Compares images that were made from the same disk with what a build would publish: state, name, properties, tags, who
//! can use it, and stores.

use std::{collections::BTreeMap, sync::Arc};

use build_image_plugin_api::{
    Context, Result,
    document::{Build, CheckReport, CheckRequest, Finding, ItemKind},
    retry::Policy,
};
use serde_json::{Value, json};

use crate::{
    cloud::{Cloud, Session},
    config::{Config, IfExists},
    disk,
    image::{Image, RUN},
    inventory::is_id,
    members, properties, publish, replace,
};

/// A difference, and the command that repairs it.
struct Difference {
    text: String,
    repair: Option<String>,
}

fn differs(text: String, repair: Option<String>) -> Difference {
    Difference { text, repair }
}

/// The parameters of one comparison.
struct Comparison<'a> {
    config: &'a Config,
    build: &'a Build,
}

/// Compares the images that a request names. Those of other regions are not what the build would publish.
///
/// # Errors
/// A login that fails, and what the service refuses.
pub(crate) fn compare(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &CheckRequest,
) -> Result<CheckReport> {
    context.check_cancelled()?;
    context.block_on(async {
        let cloud = Cloud::open(context, config, session, Policy::call(config.retry_time)).await?;
        let comparison = Comparison { config, build: &request.build };
        let named = request.same.iter().filter(|one| {
            let is_here = one.region.is_none() || one.region == cloud.region;
            one.kind == ItemKind::Image && is_here && is_id(&one.id)
        });
        let mut images = Vec::new();
        for one in named {
            images.extend(cloud.image(&one.id).await?);
        }
        images.retain(|image| is_complete(image, &cloud.project()));
        images.sort_by(|a, b| a.text("created_at").cmp(b.text("created_at")));
        let mut best: Option<(Image, Vec<Difference>)> = None;
        for image in images {
            let differences = comparison.differences(&cloud, &image).await?;
            if best.as_ref().is_none_or(|(_, least)| differences.len() < least.len()) {
                best = Some((image, differences));
            }
        }
        Ok(report(&cloud, best))
    })
}

fn report(cloud: &Cloud, best: Option<(Image, Vec<Difference>)>) -> CheckReport {
    let mut report = CheckReport::default();
    let Some((image, differences)) = best else {
        let place = cloud.region.as_ref().map_or("image service", |region| region);
        let text = "no complete image of the project was made from the same disk";
        report.findings.push(Finding::warning(place, text, ""));
        return report;
    };
    if differences.is_empty() {
        report.same = Some(publish::answer(cloud, &image, &[]));
    }
    report.findings.extend(differences.into_iter().map(|one| {
        let mut finding = Finding::warning(format!("image {}", image.id()), one.text, "");
        finding.hint = one.repair;
        finding
    }));
    report
}

/// Whether a run has published the image in the project, and it can be used.
fn is_complete(image: &Image, project: &str) -> bool {
    image.run().is_some()
        && image.text("owner") == project
        && image.status() == "active"
        && !image.is_unfinished()
        && !image.is_importing()
}

impl Comparison<'_> {
    async fn differences(&self, cloud: &Cloud, image: &Image) -> Result<Vec<Difference>> {
        let mut all = self.of_image(image);
        all.extend(self.of_members(image.id(), &self.members(cloud, image).await?));
        if matches!(self.config.if_exists, IfExists::Hide | IfExists::Replace) {
            let others = replace::older(cloud, self.build, Some(image.id())).await?;
            let text = |other: &Image| {
                format!("image {} of the name `{}` is visible", other.id(), self.build.image_name)
            };
            all.extend(others.iter().map(|other| differs(text(other), None)));
        }
        Ok(all)
    }

    /// Members of the image, which has none unless it is shared.
    async fn members(&self, cloud: &Cloud, image: &Image) -> Result<Vec<(String, String)>> {
        if self.config.members.is_empty() || image.text("visibility") != "shared" {
            return Ok(Vec::new());
        }
        Ok(cloud.members(image.id()).await?)
    }

    /// What the image itself shows.
    fn of_image(&self, image: &Image) -> Vec<Difference> {
        let (config, build, id) = (self.config, self.build, image.id());
        let wanted = [
            ("name", json!(build.image_name), None),
            ("disk_format", json!(disk::word(&config.disk)), None),
            ("container_format", json!("bare"), None),
            ("min_disk", json!(config.wanted.min_disk(build.virtual_size)), Some("--min-disk")),
            ("min_ram", json!(config.wanted.min_ram()), Some("--min-ram")),
            ("visibility", json!(config.visibility), None),
            ("protected", json!(config.protected), None),
            ("os_hidden", json!(config.hidden), None),
        ];
        let mut all = Vec::new();
        for (name, wanted, option) in wanted {
            // A service that cannot hide images does not show the member.
            let default = if name == "os_hidden" { json!(false) } else { Value::Null };
            let found = image.members.get(name).unwrap_or(&default);
            if *found == wanted || name == "name" && !build.image_name_chosen {
                continue;
            }
            let set = |option: String| Some(format!("openstack image set {option} {id}"));
            let repair = match (name, option) {
                (_, Some(option)) => set(format!("{option} {wanted}")),
                ("visibility", _) => set(format!("--{}", config.visibility)),
                ("protected", _) => set(word(config.protected, "--protected", "--unprotected")),
                ("os_hidden", _) => set(word(config.hidden, "--hidden", "--unhidden")),
                _ => None,
            };
            let (found, wanted) = (plain(found), plain(&wanted));
            all.push(differs(format!("its `{name}` is `{found}`, not `{wanted}`"), repair));
        }
        all.extend(self.of_properties(image));
        all.extend(self.of_tags_and_stores(image));
        all
    }

    /// Compares properties: those that the build would set, and those of machines that it would not.
    fn of_properties(&self, image: &Image) -> Vec<Difference> {
        let (build, id) = (self.build, image.id());
        let mut wanted: BTreeMap<String, String> =
            self.config.wanted.properties(build, &self.config.disk);
        wanted.remove(RUN);
        // The description of a disk is the name, which differs with every build unless it is chosen.
        if !build.image_name_chosen && build.description == build.image_name {
            wanted.remove("description");
        }
        let mut all = Vec::new();
        for (name, wanted) in &wanted {
            let found = image.text(name);
            if found != wanted {
                let repair = format!("openstack image set --property '{name}={wanted}' {id}");
                let text = format!("property `{name}` is `{found}`, not `{wanted}`");
                all.push(differs(text, Some(repair)));
            }
        }
        let further = image.members.keys().filter(|name| properties::is_of_machine(name));
        for name in further.filter(|name| !wanted.contains_key(*name)) {
            let repair = format!("openstack image unset --property {name} {id}");
            let text = format!("it has property `{name}`, which the build would not set");
            all.push(differs(text, Some(repair)));
        }
        all
    }

    fn of_tags_and_stores(&self, image: &Image) -> Vec<Difference> {
        let (config, id) = (self.config, image.id());
        let (tags, stores) = (image.tags(), image.stores());
        let mut all = Vec::new();
        for (key, value) in &self.build.tags {
            let tag = properties::tag(key, value);
            if !tags.contains(&tag) {
                let repair = format!("build-image images tag {id} --tag '{key}={value}'");
                all.push(differs(format!("it has no tag `{tag}`"), Some(repair)));
            }
        }
        for store in config.store.iter().chain(&config.copy_stores) {
            if !stores.contains(&store.as_str()) {
                let repair = format!("build-image images copy {id} --to {store}");
                all.push(differs(format!("it is not in store `{store}`"), Some(repair)));
            }
        }
        all
    }

    fn of_members(&self, id: &str, members: &[(String, String)]) -> Vec<Difference> {
        let mut all = Vec::new();
        for project in &self.config.members {
            match members.iter().find(|(member, _)| member == project) {
                None => {
                    let repair = format!("build-image images share {id} --account {project}");
                    all.push(differs(format!("it is not shared with {project}"), Some(repair)));
                }
                Some((_, status)) if self.config.accept_members && status != members::ACCEPTED => {
                    let repair = format!("openstack image set --accept {id}");
                    let text = format!("project {project} has not accepted it");
                    all.push(differs(text, Some(repair)));
                }
                Some(_) => {}
            }
        }
        all
    }
}

fn word(is: bool, yes: &str, no: &str) -> String {
    if is { yes } else { no }.to_owned()
}

/// Returns a value without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::{BootMode, Settings};

    use super::*;
    use crate::marks::{IDENTITY, LEASE};

    /// Settings, members that the image has instead, and what differs.
    type Case = (&'static [(&'static str, &'static str)], Value, &'static [&'static str]);

    fn image(changes: &Value) -> Image {
        let mut image = json!({
            "id": "i", "name": "web", "status": "active", "visibility": "private", "owner": "p", "tags": ["owner=us"],
            "protected": false, "os_hidden": false, "disk_format": "qcow2", "container_format": "bare", "min_disk": 1,
            "min_ram": 0, "stores": "fast", "architecture": "x86_64", "hw_firmware_type": "bios", "description": "web",
            "os_hash_algo": "sha512", "os_hash_value": "1", RUN: "r", IDENTITY: "i",
        });
        image.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Image::read(image).unwrap()
    }

    fn compare(settings: &[(&str, &str)], chosen: bool, check: impl Fn(&Comparison<'_>)) {
        // Lists are written as YAML in these cases.
        let value =
            |text: &str| match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
                Some(list) => json!(list.split(',').collect::<Vec<_>>()),
                None if text == "true" => json!(true),
                None => text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number)),
            };
        let values = settings.iter().map(|(key, text)| ((*key).to_owned(), value(text)));
        let config = Config::read(&Settings::from_values(values.collect())).unwrap();
        let mut build = Build::default()
            .run_id("other")
            .image_name("web")
            .image_name_chosen(chosen)
            .virtual_size(1 << 20)
            .tags([("owner", "us".to_owned())]);
        build.boot_mode = BootMode::Bios;
        build.architecture = build_image_plugin_api::Architecture::X86_64;
        build.description = "web".to_owned();
        check(&Comparison { config: &config, build: &build });
    }

    #[test]
    fn every_setting_that_changes_the_image_is_compared() {
        let cases: Vec<Case> = vec![
            (&[], json!({}), &[]),
            (&[], json!({"name": "db", "description": "db"}), &["`name`", "`description`"]),
            (&[], json!({"disk_format": "raw"}), &["`disk_format`"]),
            (&[("OPENSTACK_DISK_FORMAT", "raw")], json!({}), &["`disk_format`"]),
            (&[], json!({"container_format": "ova"}), &["`container_format`"]),
            (&[], json!({"min_disk": 2}), &["`min_disk`"]),
            (&[("OPENSTACK_MIN_DISK", "2")], json!({"min_disk": 2}), &[]),
            (&[("OPENSTACK_MIN_RAM", "64")], json!({}), &["`min_ram`"]),
            (&[], json!({"visibility": "shared"}), &["`visibility`"]),
            (&[("OPENSTACK_VISIBILITY", "community")], json!({}), &["`visibility`"]),
            (&[("OPENSTACK_PROTECTED", "true")], json!({}), &["`protected`"]),
            (&[], json!({"os_hidden": true}), &["`os_hidden`"]),
            (&[("OPENSTACK_DISK_BUS", "scsi")], json!({"hw_disk_bus": "scsi"}), &[]),
            (&[("OPENSTACK_DISK_BUS", "scsi")], json!({}), &["`hw_disk_bus`"]),
            (&[], json!({"hw_disk_bus": "scsi"}), &["`hw_disk_bus`"]),
            (&[], json!({"os_glance_importing_to_stores": "", "team": "a"}), &[]),
            (&[], json!({"architecture": "aarch64"}), &["`architecture`"]),
            (&[], json!({"tags": []}), &["`owner=us`"]),
            (&[], json!({"tags": ["owner=us", "more"]}), &[]),
            (&[("OPENSTACK_STORE", "fast")], json!({}), &[]),
            (&[("OPENSTACK_STORE", "slow")], json!({}), &["store `slow`"]),
            (&[("OPENSTACK_COPY_STORES", "[slow,fast]")], json!({}), &["store `slow`"]),
        ];
        for (settings, changes, expected) in cases {
            compare(settings, true, |comparison| {
                let found = comparison.of_image(&image(&changes));
                assert_eq!(found.len(), expected.len(), "{settings:?} {changes}");
                for (one, part) in found.iter().zip(expected) {
                    assert!(one.text.contains(part), "{part}: {}", one.text);
                    let cannot = ["`name`", "`disk_format`", "`container_format`"].contains(part);
                    assert_eq!(one.repair.is_none(), cannot, "{}", one.text);
                }
            });
        }
    }

    #[test]
    fn a_name_that_was_not_chosen_is_not_compared() {
        compare(&[], false, |comparison| {
            assert!(
                comparison.of_image(&image(&json!({"name": "a", "description": "a"}))).is_empty()
            );
        });
    }

    #[test]
    fn members_must_be_there_and_have_accepted() {
        let shared = ("OPENSTACK_VISIBILITY", "shared");
        let members = ("OPENSTACK_MEMBERS", "[a,b]");
        let accept = ("OPENSTACK_ACCEPT_MEMBERS", "true");
        for (settings, found, expected) in [
            (
                &[shared, members][..],
                &[("a", "pending"), ("b", "accepted"), ("c", "pending")][..],
                0,
            ),
            (&[shared, members], &[("a", "pending")], 1),
            (&[shared, members, accept], &[("a", "pending"), ("b", "accepted")], 1),
            (&[shared], &[("a", "pending")], 0),
        ] {
            compare(settings, true, |comparison| {
                let found: Vec<(String, String)> =
                    found.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
                assert_eq!(comparison.of_members("i", &found).len(), expected, "{settings:?}");
            });
        }
    }

    #[test]
    fn only_an_image_that_a_run_has_published_in_the_project_is_complete() {
        for (changes, expected) in [
            (json!({}), true),
            (json!({"status": "queued"}), false),
            (json!({"status": "deactivated"}), false),
            (json!({LEASE: "5"}), false),
            (json!({"os_glance_import_task": "t"}), false),
            (json!({IDENTITY: "another"}), false),
            (json!({RUN: ""}), false),
            (json!({"owner": "q"}), false),
        ] {
            assert_eq!(is_complete(&image(&changes), "p"), expected, "{changes}");
        }
    }
}
