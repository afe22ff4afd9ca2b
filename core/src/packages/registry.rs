//! Reads an artefact from a container registry: each layer of its manifest is a file, named by the annotation
//! `org.opencontainers.image.title`, as `oras push` writes it.
//!
//! Source: Distribution Specification 1.1, "Pull"; Distribution, "Token Authentication Specification".

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    Url,
    header::{ACCEPT, AUTHORIZATION, HeaderName},
};
use serde::Deserialize;

use super::{index::is_sha256, refused};
use crate::{
    error::{Error, Result},
    settings::Environment,
    signature::{Algorithm, digests_of, digests_of_file},
    source::{Downloader, Reply},
    trust::read_regular,
};

/// Scheme of an artefact's address.
const SCHEME: &str = "oci://";
/// Media type of a manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Annotation of a layer: its file name.
const TITLE: &str = "org.opencontainers.image.title";
/// Longest manifest, and longest answer of a token server, in bytes.
const MANIFEST_LIMIT: u64 = 4 << 20;
const TOKEN_LIMIT: u64 = 1 << 20;
/// Longest file with credentials, in bytes.
const CREDENTIALS_LIMIT: u64 = 4 << 20;
/// Tag of an address that names none.
const LATEST: &str = "latest";

/// Returns what follows the scheme of an artefact's address.
pub(super) fn name_in(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

/// An artefact in a registry.
pub(super) struct Repository {
    host: String,
    name: String,
    /// A tag or a digest.
    reference: String,
    base: Url,
    /// User and password in base64, from the files of container tools.
    credentials: Option<String>,
    /// The header that the registry asked for.
    authorization: RefCell<Option<String>>,
    layers: OnceCell<Vec<Layer>>,
}

/// A file of the artefact.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Layer {
    pub(super) digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Repository {
    /// Parses `HOST[:PORT]/NAME[:TAG|@DIGEST]`. Without TLS only on loopback, or when `plain_http` is set.
    ///
    /// # Errors
    /// When it has another form.
    pub(super) fn parse(text: &str, plain_http: bool, environment: &Environment) -> Result<Self> {
        let address_error = |what: &str| {
            Error::usage(format!("the address of an artefact {what}"))
                .hint(format!("write {SCHEME}HOST/NAME:TAG or {SCHEME}HOST/NAME@sha256:DIGEST"))
        };
        let (host, rest) = text.split_once('/').ok_or_else(|| address_error("has no name"))?;
        if host.contains('@') {
            return Err(address_error("contains a password").hint(
                "log in with skopeo, podman, docker or oras; their files of credentials are read",
            ));
        }
        let (name, reference) = match (rest.split_once('@'), rest.rsplit_once(':')) {
            (Some((name, digest)), _) => (name, digest),
            (None, Some((name, tag))) => (name, tag),
            (None, None) => (rest, LATEST),
        };
        let is_name = |text: &str| {
            let legal = |one: char| one.is_ascii_alphanumeric() || "._-".contains(one);
            text.starts_with(|one: char| one.is_ascii_alphanumeric()) && text.chars().all(legal)
        };
        let is_digest = reference.strip_prefix("sha256:").is_some_and(is_sha256);
        if !name.split('/').all(is_name) || !is_digest && !is_name(reference) {
            return Err(address_error("has a malformed name, tag or digest"));
        }
        let scheme = if plain_http || is_loopback(host) { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{host}/v2/{name}/"));
        let base = base.map_err(|error| address_error("has a malformed host").caused_by(&error))?;
        Ok(Self {
            host: host.to_owned(),
            name: name.to_owned(),
            reference: reference.to_owned(),
            base,
            credentials: credentials(host, environment),
            authorization: RefCell::default(),
            layers: OnceCell::new(),
        })
    }

    /// Returns the address, which contains no password.
    pub(super) fn display(&self) -> String {
        let mark = if self.reference.contains(':') { '@' } else { ':' };
        format!("{SCHEME}{}/{}{mark}{}", self.host, self.name, self.reference)
    }

    /// Reads a small file of the artefact; `None` when it has none of that name.
    ///
    /// # Errors
    /// When the registry refuses, cannot be reached, or sends something else.
    pub(super) fn document(
        &self,
        title: &str,
        limit: u64,
        downloader: &Downloader<'_>,
    ) -> Result<Option<Vec<u8>>> {
        let Some(layer) = self.layer(title, downloader)? else { return Ok(None) };
        let bytes = self.get(&format!("blobs/{}", layer.digest), "*/*", limit, downloader)?;
        self.check(&sha256_of(&bytes)?, &layer.digest)?;
        Ok(Some(bytes))
    }

    /// Downloads a file of the artefact to a new path; `None` when it has none of that name.
    ///
    /// # Errors
    /// As [`Self::document`], and when the file cannot be written.
    pub(super) fn save(
        &self,
        title: &str,
        to: &Path,
        limit: u64,
        downloader: &Downloader<'_>,
    ) -> Result<Option<u64>> {
        let Some(layer) = self.layer(title, downloader)? else { return Ok(None) };
        if layer.size > limit {
            let text = format!("`{title}` in `{}` has more than {limit} bytes", self.display());
            return Err(refused(text).hint("ask the publisher: the index names another size"));
        }
        let url = self.url(&format!("blobs/{}", layer.digest))?;
        let length = downloader.fetch_whole(&url, &self.headers("*/*"), to, limit)?;
        let digests =
            digests_of_file(
                to,
                &[Algorithm::Sha256],
                &mut |_| std::ops::ControlFlow::Continue(()),
            )?;
        self.check(&digests.hex(Algorithm::Sha256).unwrap_or_default(), &layer.digest)?;
        Ok(Some(length))
    }

    fn layer(&self, title: &str, downloader: &Downloader<'_>) -> Result<Option<&Layer>> {
        let layers = match self.layers.get() {
            Some(layers) => layers,
            None => {
                let read = self.manifest(downloader)?;
                self.layers.get_or_init(|| read)
            }
        };
        let has_title =
            |layer: &&Layer| layer.annotations.get(TITLE).is_some_and(|one| one == title);
        Ok(layers.iter().find(has_title))
    }

    fn manifest(&self, downloader: &Downloader<'_>) -> Result<Vec<Layer>> {
        let path = format!("manifests/{}", self.reference);
        let bytes = self.get(&path, MANIFEST, MANIFEST_LIMIT, downloader)?;
        if self.reference.contains(':') {
            self.check(&sha256_of(&bytes)?, &self.reference)?;
        }
        let malformed = |what: &str| {
            refused(format!("`{}` is not an artefact with files: {what}", self.display()))
                .hint("push it as docs/providers-publish.md shows")
        };
        layers_of(&bytes).map_err(|what| malformed(&what))
    }

    /// Sends a GET; authenticates as the registry asks, once.
    fn get(
        &self,
        path: &str,
        accept: &str,
        limit: u64,
        downloader: &Downloader<'_>,
    ) -> Result<Vec<u8>> {
        let url = self.url(path)?;
        let mut reply = downloader.ask(&url, &self.headers(accept), limit)?;
        if let (401, Some(challenge)) = (reply.status, reply.challenge.clone())
            && self.authenticate(&challenge, downloader)?
        {
            reply = downloader.ask(&url, &self.headers(accept), limit)?;
        }
        let Reply { status, body, refusal, .. } = reply;
        let Some(error) = refusal else { return Ok(body) };
        if matches!(status, 404 | 410) {
            return Err(refused(format!("the registry has no `{}`", self.display()))
                .hint("check host, name and tag"));
        }
        Err(error.hint("log in with skopeo, podman, docker or oras; their files of credentials are read (auths; credential helpers are unsupported)"))
    }

    fn headers(&self, accept: &str) -> Vec<(HeaderName, String)> {
        let mut headers = vec![(ACCEPT, accept.to_owned())];
        if let Some(header) = &*self.authorization.borrow() {
            headers.push((AUTHORIZATION, header.clone()));
        }
        headers
    }

    fn url(&self, path: &str) -> Result<Url> {
        self.base.join(path).map_err(|error| {
            refused(format!("`{}` has no usable address", self.display())).caused_by(&error)
        })
    }

    /// Gets what the registry asked for; returns whether there is something new to try.
    fn authenticate(&self, challenge: &str, downloader: &Downloader<'_>) -> Result<bool> {
        let basic = self.credentials.as_ref().map(|text| format!("Basic {text}"));
        let scheme = challenge.split_whitespace().next().unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            let is_new = basic.is_some() && self.authorization.borrow().is_none();
            *self.authorization.borrow_mut() = basic;
            return Ok(is_new);
        }
        let realm = parameter(challenge, "realm").and_then(|text| Url::parse(text).ok());
        let Some(mut realm) =
            realm.filter(|realm| realm.scheme() == "https" || realm.scheme() == self.base.scheme())
        else {
            let text = format!("`{}` names no usable token server", self.host);
            return Err(refused(text).hint("ask who runs the registry"));
        };
        for name in ["service", "scope"] {
            if let Some(value) = parameter(challenge, name) {
                realm.query_pairs_mut().append_pair(name, value);
            }
        }
        let headers: Vec<(HeaderName, String)> =
            basic.map(|header| (AUTHORIZATION, header)).into_iter().collect();
        let reply = downloader.ask(&realm, &headers, TOKEN_LIMIT)?;
        if let Some(error) = reply.refusal {
            return Err(error);
        }
        let token: Option<Token> = serde_json::from_slice(&reply.body).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        *self.authorization.borrow_mut() = token.map(|token| format!("Bearer {token}"));
        Ok(self.authorization.borrow().is_some())
    }

    fn check(&self, sha256: &str, digest: &str) -> Result<()> {
        if digest.strip_prefix("sha256:") == Some(sha256) {
            return Ok(());
        }
        let mut error = refused(format!("`{}` sent other bytes than `{digest}`", self.display()));
        error.causes = vec![format!("they have SHA-256 {sha256}")];
        Err(error.hint("ask who runs the registry"))
    }
}

/// Parses a manifest.
///
/// # Errors
/// What is wrong with it.
pub(super) fn layers_of(manifest: &[u8]) -> Result<Vec<Layer>, String> {
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(|error| error.to_string())?;
    let is_known = |layer: &Layer| layer.digest.strip_prefix("sha256:").is_some_and(is_sha256);
    if !manifest.layers.iter().all(is_known) {
        return Err("a digest is not a SHA-256".to_owned());
    }
    Ok(manifest.layers)
}

/// Returns the value of a parameter of a challenge: `name="value"`.
pub(super) fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = challenge;
    while let Some((before, after)) = rest.split_once("=\"") {
        let (value, more) = after.split_once('"')?;
        if before.trim_end().rsplit([' ', ',']).next()?.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = more;
    }
    None
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|one| one.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_matches(['[', ']']);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn sha256_of(bytes: &[u8]) -> Result<String> {
    let digests = digests_of(&mut &bytes[..], &[Algorithm::Sha256], &mut |_| {
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(digests.hex(Algorithm::Sha256).unwrap_or_default())
}

/// Returns the credentials that container tools keep for a registry.
fn credentials(host: &str, environment: &Environment) -> Option<String> {
    #[derive(Deserialize)]
    struct Kept {
        #[serde(default)]
        auths: BTreeMap<String, Auth>,
    }
    #[derive(Deserialize)]
    struct Auth {
        auth: Option<String>,
    }
    let runtime =
        environment.get("XDG_RUNTIME_DIR").map(|text| Path::new(text).join("containers/auth.json"));
    let docker = environment.get("DOCKER_CONFIG").map(PathBuf::from);
    let home = || Some(Path::new(environment.get("HOME")?).join(".docker"));
    let files = [
        environment.get("REGISTRY_AUTH_FILE").map(PathBuf::from),
        runtime,
        docker.or_else(home).map(|directory| directory.join("config.json")),
    ];
    files.into_iter().flatten().find_map(|path| {
        let text = read_regular(&path, CREDENTIALS_LIMIT).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        let auth = kept.auths.get(host)?.auth.clone()?;
        // Only what is base64 can become a header.
        STANDARD.decode(&auth).is_ok().then_some(auth)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_a_name_and_a_tag_or_a_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let pinned = format!("host:5000/a@{digest}");
        let environment = Environment::default();
        for (text, plain, expected) in [
            ("host/a/b:1.0", false, Some(("https://host/v2/a/b/", "1.0"))),
            ("host/a", false, Some(("https://host/v2/a/", "latest"))),
            ("host:5000/a", true, Some(("http://host:5000/v2/a/", "latest"))),
            (&pinned, false, Some(("https://host:5000/v2/a/", &digest))),
            ("127.0.0.1:5000/a", false, Some(("http://127.0.0.1:5000/v2/a/", "latest"))),
            ("[::1]:5000/a", false, Some(("http://[::1]:5000/v2/a/", "latest"))),
            ("localhost/a", false, Some(("http://localhost/v2/a/", "latest"))),
            (
                "localhost.example.org/a",
                false,
                Some(("https://localhost.example.org/v2/a/", "latest")),
            ),
            ("host", false, None),
            ("host/", false, None),
            ("host/a/../b", false, None),
            ("host/a:b:c", false, None),
            ("host/a@sha256:00", false, None),
            ("user:password@host/a", false, None),
            ("ho st/a", false, None),
        ] {
            let found = Repository::parse(text, plain, &environment).ok();
            let found = found.as_ref().map(|found| (found.base.as_str(), found.reference.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_challenge_has_parameters() {
        let text = r#"Bearer realm="https://auth/token",service="registry",scope="repository:a:pull,push""#;
        assert_eq!(parameter(text, "realm"), Some("https://auth/token"));
        assert_eq!(parameter(text, "service"), Some("registry"));
        assert_eq!(parameter(text, "scope"), Some("repository:a:pull,push"));
        assert_eq!(parameter(text, "error"), None);
        assert_eq!(parameter("Basic", "realm"), None);
        assert_eq!(parameter("Bearer realm=\"open", "realm"), None);
    }

    #[test]
    fn credentials_are_those_of_the_host() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auth.json");
        let text = r#"{"auths": {"host": {"auth": "dTpw"}, "other": {"auth": "\n"}, "empty": {}}}"#;
        std::fs::write(&file, text).unwrap();
        let environment = Environment::of([("REGISTRY_AUTH_FILE", file.to_str().unwrap())]);
        assert_eq!(credentials("host", &environment).as_deref(), Some("dTpw"));
        for host in ["other", "empty", "absent"] {
            assert_eq!(credentials(host, &environment), None, "{host}");
        }
    }
}
