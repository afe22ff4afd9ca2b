//! Starts a real docker-registry for a test, reads what it stores, and lets skopeo read it back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::{needs, root, tool};

/// How the mark of a run begins.
const MARK: &str = "build-image.";

/// A registry; it ends with this value.
pub(crate) struct OciRegistry {
    /// What `tests/oci/serve` printed.
    pub(crate) described: Value,
    server: Child,
}

impl OciRegistry {
    /// Starts a registry of a kind that `tests/oci/serve` describes, with its further arguments. `None`: what it needs
    /// is not installed; reports that as [`needs`] does.
    #[track_caller]
    pub(crate) fn start(kind: &str, more: &[&str]) -> Option<Self> {
        if !needs(&["docker-registry", "skopeo", "python3", "openssl", "qemu-img", "tar"]) {
            return None;
        }
        let mut server = Command::new(root().join("tests/oci/serve"))
            .arg(kind)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let described = serde_json::from_str(&line).unwrap_or_else(|error| {
            let mut complaint = String::new();
            server.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
            panic!("{error}: {line}{complaint}")
        });
        Some(Self { described, server })
    }

    /// A text of the description.
    #[track_caller]
    pub(crate) fn text(&self, name: &str) -> &str {
        self.described[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.described))
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        self.text("address")
    }

    /// The URL of the registry.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.text("scheme"), self.address())
    }

    /// A password of the registry.
    pub(crate) fn password(&self, user: &str) -> &str {
        self.described["users"][user].as_str().unwrap()
    }

    fn repository(&self, name: &str) -> PathBuf {
        let repositories = "docker/registry/v2/repositories";
        Path::new(self.text("storage")).join(repositories).join(name)
    }

    /// The tags of a repository and what they refer to, as the registry stores them, without the marks of runs.
    pub(crate) fn tags(&self, repository: &str) -> BTreeMap<String, String> {
        let mut tags = self.all_tags(repository);
        tags.retain(|tag, _| !tag.starts_with(MARK));
        tags
    }

    /// The digests to which marks of runs refer, each once.
    pub(crate) fn marks(&self, repository: &str) -> Vec<String> {
        let tags = self.all_tags(repository).into_iter();
        let marked: BTreeSet<String> =
            tags.filter(|(tag, _)| tag.starts_with(MARK)).map(|(_, digest)| digest).collect();
        marked.into_iter().collect()
    }

    fn all_tags(&self, repository: &str) -> BTreeMap<String, String> {
        let directory = self.repository(repository).join("_manifests/tags");
        let link = |name: &str| {
            fs::read_to_string(directory.join(name).join("current/link"))
                .ok()
                .map(|text| text.trim().to_owned())
        };
        list(&directory).into_iter().filter_map(|name| Some((name.clone(), link(&name)?))).collect()
    }

    /// The digests of the manifests of a repository.
    pub(crate) fn manifests(&self, repository: &str) -> Vec<String> {
        let directory = self.repository(repository).join("_manifests/revisions/sha256");
        let mut names = list(&directory);
        names.retain(|name| directory.join(name).join("link").is_file());
        names.iter().map(|name| format!("sha256:{name}")).collect()
    }

    /// The number of uploads that have begun and not ended. Of a cancelled one Distribution keeps an empty directory.
    pub(crate) fn uploads(&self, repository: &str) -> usize {
        let directory = self.repository(repository).join("_uploads");
        list(&directory)
            .iter()
            .filter(|name| directory.join(name).join("startedat").is_file())
            .count()
    }

    /// Runs skopeo in a directory, with the registry's certificate.
    #[track_caller]
    pub(crate) fn skopeo(&self, directory: &Path, args: &[&str]) -> String {
        let mut all = vec!["skopeo", "--insecure-policy"];
        all.extend(args);
        tool(directory, &all)
    }

    /// Options of skopeo for reading, and with another prefix for writing.
    pub(crate) fn access(&self, prefix: &str) -> Vec<String> {
        let mut options = vec![format!("--{prefix}tls-verify=false")];
        if ["password", "token"].contains(&self.text("kind")) {
            options.push(format!("--{prefix}creds=builder:{}", self.password("builder")));
        }
        options
    }

    /// Copies an image with skopeo into the directory `image` and returns its manifest.
    #[track_caller]
    pub(crate) fn pull(&self, directory: &Path, image: &str) -> Value {
        let _ = fs::remove_dir_all(directory.join("image"));
        let options = self.access("src-");
        let mut args = vec!["copy"];
        args.extend(options.iter().map(String::as_str));
        let source = format!("docker://{image}");
        args.extend([source.as_str(), "dir:image"]);
        self.skopeo(directory, &args);
        let text = fs::read_to_string(directory.join("image/manifest.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Checks that an image holds the same disk as a raw file; returns its manifest.
    #[track_caller]
    pub(crate) fn holds(&self, image: &str, format: &str, raw: &Path) -> Value {
        let directory = raw.parent().unwrap();
        let manifest = self.pull(directory, image);
        let layer = &manifest["layers"][0];
        let digest = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = format!("image/{digest}");
        let media = layer["mediaType"].as_str().unwrap();
        let plain = "image/plain";
        match media.rsplit_once('+') {
            Some((_, "gzip")) => {
                tool(directory, &["sh", "-c", &format!("gzip -dc {blob} > {plain}")])
            }
            Some((_, "zstd")) => tool(directory, &["zstd", "-q", "-d", &blob, "-o", plain]),
            _ => tool(directory, &["cp", &blob, plain]),
        };
        let disk = if media.contains("layer.v1.tar") {
            tool(directory, &["tar", "-xf", plain, "-C", "image", "--no-same-owner"]);
            "image/disk/disk.img"
        } else {
            plain
        };
        let raw = raw.to_str().unwrap();
        tool(directory, &["qemu-img", "compare", "-f", "raw", "-F", format, raw, disk]);
        manifest
    }
}

impl Drop for OciRegistry {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}

/// Names in a directory that may not exist.
fn list(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
