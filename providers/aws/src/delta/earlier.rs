//! Finds the earlier snapshot that a new one is an increment of, and reads its manifest.

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Disk, ErrorKind, Result,
    document::Build,
    ready::marks::lineage,
    retry::{Failure, Policy},
};
use sha2::{Digest as _, Sha256};

use super::{
    DIGEST, HINT, LINEAGE, MANIFEST_OF, Parent,
    manifest::{LONGEST, Manifest},
};
use crate::{
    client::CALL,
    cloud::Cloud,
    config::Config,
    ebs::{EbsDirect, hex},
    ec2::Ec2,
    image::Snapshot,
    listing::Filter,
    reader::sample,
    state::token,
};

/// Maximum number of earlier snapshots that are tried.
const TRIED: usize = 4;
/// A base is worth little waiting: without one, everything is sent.
const POLICY: Policy = Policy::BRIEF;
/// Characters of the mark of a lineage.
const MARK: usize = 16;

/// The mark of the lineage of a disk. The form of the tag is that of a digest, since names may be secret or long.
pub(super) fn mark(build: &Build) -> String {
    token(&[&lineage(None, build)])[..MARK].to_owned()
}

/// The value of the tag with the SHA-256 of a manifest.
pub(super) fn digest_of(document: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(document)))
}

/// Looks for the base of an upload.
pub(crate) struct Finder<'a> {
    pub(crate) context: &'a Context,
    pub(crate) cloud: &'a Cloud<'a>,
    pub(crate) direct: &'a EbsDirect,
    pub(crate) ec2: Ec2,
    pub(crate) build: &'a Build,
    pub(crate) disk: &'a Disk,
    /// Size of the volume.
    pub(crate) gib: u64,
}

impl Finder<'_> {
    /// Returns the newest earlier snapshot that can be used, with its manifest.
    ///
    /// # Errors
    /// Only when the build is cancelled: without a base the whole disk is sent.
    pub(crate) async fn find(&self) -> Result<Option<(Parent, Arc<Manifest>)>> {
        let listed = match candidates(&self.ec2, self.cloud.config, self.build).await {
            Ok(listed) => listed,
            Err(failure) => {
                self.context.check_cancelled()?;
                self.warn(&format!("earlier snapshots cannot be looked for: {}", failure.error))?;
                return Ok(None);
            }
        };
        let named = self.cloud.config.delta.base.as_deref();
        let mut why = None;
        for candidate in &listed {
            let Some(parent) = parent_of(candidate) else { continue };
            let reason = match self.load(&parent).await? {
                Err(reason) => reason,
                Ok(manifest) => match self.differs(&manifest).await? {
                    Some(reason) => reason,
                    None => return Ok(Some((parent, manifest))),
                },
            };
            tracing::info!(snapshot = parent.snapshot, reason, "not used as a base");
            why.get_or_insert(format!("`{}` is not used as a base: {reason}", parent.snapshot));
        }
        let none = || named.map(|base| format!("`{base}` has no complete manifest"));
        let why = why.or_else(none);
        if let Some(why) = why {
            self.warn(&why)?;
        }
        Ok(None)
    }

    /// Returns why a snapshot does not help: of a disk of the same name with other content, most blocks would have to be sent,
    /// and those that the disk does not have as zeros.
    async fn differs(&self, manifest: &Arc<Manifest>) -> Result<Option<String>> {
        let (compared, equal) = sample(self.context, self.disk, manifest).await?;
        let text =
            format!("of {compared} blocks that were compared, {equal} are those of the disk");
        Ok(Some(text).filter(|_| 2 * equal < compared))
    }

    fn warn(&self, why: &str) -> Result<()> {
        self.context.warning(format!("the whole disk is sent: {why}"), HINT)
    }

    /// Reads the manifest of a base, if that can be used; otherwise, why it cannot.
    ///
    /// # Errors
    /// Only when the build is cancelled.
    pub(crate) async fn load(&self, parent: &Parent) -> Result<Result<Arc<Manifest>, String>> {
        match self.try_load(parent).await {
            Ok(loaded) => Ok(loaded),
            Err(failure) if failure.error.kind == ErrorKind::Cancelled => Err(failure.into()),
            Err(failure) => {
                self.context.check_cancelled()?;
                Ok(Err(failure.error.to_string()))
            }
        }
    }

    async fn try_load(&self, parent: &Parent) -> Result<Result<Arc<Manifest>, String>, Failure> {
        let ids = [parent.snapshot.clone(), parent.manifest.clone()];
        let found = self.ec2.snapshots_of(&ids, &POLICY).await?;
        let of = |id: &str| found.iter().find(|one| one.snapshot_id == id);
        let (Some(base), Some(manifest)) = (of(&parent.snapshot), of(&parent.manifest)) else {
            return Ok(Err("it or its manifest does not exist".to_owned()));
        };
        if parent_of(manifest).as_ref() != Some(parent) || manifest.status != "completed" {
            return Ok(Err("its manifest was changed".to_owned()));
        }
        if let Some(why) = unfit(self.cloud.config, base, manifest, self.gib) {
            return Ok(Err(why));
        }
        let document = self.direct.read(&parent.manifest, LONGEST, &POLICY).await?;
        let Some(document) = document.filter(|document| digest_of(document) == parent.digest)
        else {
            return Ok(Err("its manifest is not what its tag says".to_owned()));
        };
        let gib = base.volume_size.unwrap_or_default();
        let manifest = match Manifest::read(&document, &parent.snapshot, gib) {
            Ok(manifest) => manifest,
            Err(why) => return Ok(Err(why)),
        };
        let (listed, zeros) =
            (self.direct.list(&parent.snapshot, &POLICY).await?, manifest.zeros());
        let differs = manifest.blocks.without(&zeros).first_difference(&listed.without(&zeros));
        Ok(match differs {
            None => Ok(Arc::new(manifest)),
            Some(block) => Err(format!("it does not have block {block} as its manifest lists")),
        })
    }

    /// Whether a base does not exist any more.
    pub(crate) async fn is_gone(&self, parent: &Parent) -> bool {
        let ids = [parent.snapshot.clone()];
        let found = self.ec2.snapshots_of(&ids, &CALL).await;
        found.is_ok_and(|found| found.iter().all(|one| one.status != "completed"))
    }
}

/// Returns the manifests of complete snapshots of the lineage, or of the snapshot that the settings name, the newest first.
///
/// # Errors
/// Refusals and broken connections.
pub(super) async fn candidates(
    ec2: &Ec2,
    config: &Config,
    build: &Build,
) -> Result<Vec<Snapshot>, Failure> {
    let filter: Filter = match &config.delta.base {
        Some(base) => (format!("tag:{MANIFEST_OF}"), vec![base.clone()]),
        None => (format!("tag:{LINEAGE}"), vec![mark(build)]),
    };
    let mut found = ec2.own_snapshots(&[filter], &POLICY).await?;
    found.retain(|one| {
        let run = one.run();
        one.status == "completed" && run.is_some_and(|run| run != build.run_id)
    });
    let age = |one: &Snapshot| (one.start_time.clone(), one.snapshot_id.clone());
    found.sort_by_key(|one| std::cmp::Reverse(age(one)));
    found.truncate(TRIED);
    Ok(found)
}

/// The snapshot that a manifest describes, by its tags.
pub(super) fn parent_of(manifest: &Snapshot) -> Option<Parent> {
    Some(Parent {
        snapshot: manifest.tag(MANIFEST_OF)?.to_owned(),
        manifest: manifest.snapshot_id.clone(),
        digest: manifest.tag(DIGEST)?.to_owned(),
    })
}

/// Returns why a snapshot cannot be the base of a volume of this size. The new snapshot has the key of its base.
fn unfit(config: &Config, base: &Snapshot, manifest: &Snapshot, gib: u64) -> Option<String> {
    let size = base.volume_size.unwrap_or(u64::MAX);
    let is_encrypted = base.encrypted.unwrap_or(false);
    let why = if base.status != "completed" {
        "it is not complete"
    } else if base.run().is_none() || base.run() != manifest.run() {
        "it and its manifest are not of the same run"
    } else if size > gib {
        return Some(format!("it has {size} GiB, and the disk {gib} GiB"));
    } else if is_encrypted != config.encrypted {
        if is_encrypted { "it is encrypted" } else { "it is not encrypted" }
    } else if config.encrypted && config.kms_key.is_none() {
        "its key would be kept, and AWS_KMS_KEY_ID does not name it"
    } else if config.encrypted && base.kms_key_id != config.kms_key {
        "it is encrypted with another key"
    } else {
        return None;
    };
    Some(why.to_owned())
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Settings;
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "arn:aws:kms:eu-west-1:1:key/1";

    fn snapshot(run: &str, more: &[(&str, Value)]) -> Snapshot {
        let mut document = json!({"snapshotId": "snap-1", "status": "completed", "volumeSize": 2,
            "encrypted": false, "tagSet": {"item": [
                {"key": "build-image-run", "value": run},
                {"key": MANIFEST_OF, "value": "snap-0"},
                {"key": DIGEST, "value": "sha256:1"}]}});
        for (name, value) in more {
            document[*name] = value.clone();
        }
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_base_is_complete_and_fits_in_size_run_and_encryption() {
        let config = |values: &[(&str, &str)]| {
            let values = values.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
            Config::read(&Settings::from_values(values.collect())).unwrap()
        };
        let encrypted = [("encrypted", json!(true)), ("kmsKeyId", json!(KEY))];
        let (plain, keyed) = ([("AWS_REGION", "eu-west-1")], [("AWS_KMS_KEY_ID", KEY)]);
        let other = [("AWS_KMS_KEY_ID", "arn:aws:kms:eu-west-1:1:key/2")];
        for (settings, base, gib, expected) in [
            (&plain, snapshot("r-1", &[]), 2, None),
            (&plain, snapshot("r-1", &[]), 3, None),
            (&plain, snapshot("r-1", &[]), 1, Some("2 GiB")),
            (&plain, snapshot("r-1", &[("status", json!("pending"))]), 2, Some("not complete")),
            (&plain, snapshot("r-2", &[]), 2, Some("same run")),
            (&plain, snapshot("", &[]), 2, Some("same run")),
            (&plain, snapshot("r-1", &encrypted), 2, Some("is encrypted")),
            (&keyed, snapshot("r-1", &encrypted), 2, None),
            (&keyed, snapshot("r-1", &[]), 2, Some("is not encrypted")),
            (&other, snapshot("r-1", &encrypted), 2, Some("another key")),
        ] {
            let why = unfit(&config(settings), &base, &snapshot("r-1", &[]), gib);
            match expected {
                None => assert_eq!(why, None, "{settings:?}"),
                Some(part) => assert!(why.unwrap().contains(part), "{settings:?}"),
            }
        }
        let by_default = [("AWS_ENCRYPTED".to_owned(), json!(true))];
        let by_default = Config::read(&Settings::from_values(by_default.into())).unwrap();
        let why = unfit(&by_default, &snapshot("r-1", &encrypted), &snapshot("r-1", &[]), 2);
        assert!(why.unwrap().contains("AWS_KMS_KEY_ID"));
    }

    #[test]
    fn a_manifest_names_its_snapshot_and_its_digest() {
        let expected = Parent {
            snapshot: "snap-0".to_owned(),
            manifest: "snap-1".to_owned(),
            digest: "sha256:1".to_owned(),
        };
        assert_eq!(parent_of(&snapshot("r-1", &[])), Some(expected));
        assert_eq!(parent_of(&snapshot("r-1", &[("tagSet", json!({"item": []}))])), None);
    }
}
