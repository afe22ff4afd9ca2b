//! Finds the credentials for a registry in the settings and in the auth files of podman and docker.
//!
//! Formats: containers-auth.json(5) and docker's `config.json`. Search order of containers-auth.json(5): the first file
//! that names the registry counts.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use build_image_plugin_api::{Context, Error, Result, Secret};
use serde::Deserialize;
use serde_json::Value;

use crate::{config::Access, environment::Environment, reference::Reference};

/// What proves the user's identity, and where it was found.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) proof: Proof,
    /// For messages.
    pub(crate) source: String,
}

/// What proves the user's identity.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    /// Nothing.
    Anonymous,
    /// User name and password.
    Basic(String, Secret),
    /// A refresh token, which is exchanged for others.
    Identity(Secret),
    /// A bearer token that is used as it is.
    Registry(Secret),
    /// A credential helper has them, which providers cannot run.
    Helper(String),
}

/// An auth file. Members that other programs keep there are ignored.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AuthFile {
    auths: serde_json::Map<String, Value>,
    cred_helpers: serde_json::Map<String, Value>,
    creds_store: String,
}

/// An entry of `auths`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// A file in which credentials are searched.
struct Place {
    path: PathBuf,
    /// Whether the user named it, so that it must exist.
    named_by: Option<&'static str>,
}

impl Credentials {
    /// Finds the credentials for a repository.
    ///
    /// # Errors
    /// Config errors for files that cannot be read, and for a user name or password alone.
    pub(crate) fn find(
        context: &Context,
        access: &Access,
        reference: &Reference,
        environment: &Environment,
    ) -> Result<Self> {
        let password = context.secret("OCI_PASSWORD")?;
        match (&access.username, password) {
            (Some(user), Some(password)) => {
                let proof = Proof::Basic(user.clone(), password);
                return Ok(Self { proof, source: "OCI_USERNAME".to_owned() });
            }
            (Some(_), None) => {
                return Err(Error::config("`OCI_USERNAME` is set without `OCI_PASSWORD`")
                    .with_hint("set OCI_PASSWORD in the environment, or unset OCI_USERNAME"));
            }
            (None, Some(_)) => {
                return Err(Error::config("`OCI_PASSWORD` is set without `OCI_USERNAME`")
                    .with_hint("set OCI_USERNAME, or unset OCI_PASSWORD"));
            }
            (None, None) => {}
        }
        for place in places(access, environment) {
            let Some(text) = read(&place)? else { continue };
            let file: AuthFile = serde_json::from_str(&text).map_err(|error| {
                // The parser's text may quote the file.
                Error::config(format!(
                    "`{}` is not an auth file: line {}, column {}",
                    place.path.display(),
                    error.line(),
                    error.column()
                ))
                .with_hint("write it with `skopeo login --authfile` or `docker login`")
            })?;
            if let Some(proof) = in_file(&file, reference, &place)? {
                return Ok(Self { proof, source: format!("`{}`", place.path.display()) });
            }
        }
        Ok(Self { proof: Proof::Anonymous, source: "no credentials".to_owned() })
    }

    /// Returns the error for credentials that a helper has.
    pub(crate) fn helper_error(&self, helper: &str, registry: &str) -> Error {
        Error::unsupported(
            format!(
                "the credentials of `{registry}` are in the credential helper `docker-credential-{helper}` ({}), which build-image does not run",
                self.source
            ),
            format!(
                "write them into a file with `skopeo login --authfile FILE {registry}` and set OCI_AUTH_FILE=FILE; or set OCI_USERNAME and OCI_PASSWORD"
            ),
        )
    }

    /// Returns the secret, so that it is removed from what a server echoes.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        match &self.proof {
            Proof::Basic(_, secret) | Proof::Identity(secret) | Proof::Registry(secret) => {
                Some(secret)
            }
            Proof::Anonymous | Proof::Helper(_) => None,
        }
    }
}

fn places(access: &Access, environment: &Environment) -> Vec<Place> {
    let named = |path: String, by| vec![Place { path: path.into(), named_by: Some(by) }];
    if let Some(path) = &access.auth_file {
        return named(path.clone(), "OCI_AUTH_FILE");
    }
    if let Some(path) = environment.get("REGISTRY_AUTH_FILE") {
        return named(path, "REGISTRY_AUTH_FILE");
    }
    let home = environment.get("HOME").map(PathBuf::from);
    let variable = |name: &str| environment.get(name).map(PathBuf::from);
    let containers = |directory: PathBuf| directory.join("containers/auth.json");
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker")));
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    [
        variable("XDG_RUNTIME_DIR").map(containers),
        config.map(containers),
        docker.map(|directory| directory.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .map(|path| Place { path, named_by: None })
    .collect()
}

fn read(place: &Place) -> Result<Option<String>> {
    match fs::read_to_string(&place.path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && place.named_by.is_none() => {
            Ok(None)
        }
        Err(error) => {
            let hint = match place.named_by {
                Some(by) => format!("correct {by}"),
                None => "correct its permissions, or name another file in OCI_AUTH_FILE".to_owned(),
            };
            let message = format!("the auth file `{}` cannot be read", place.path.display());
            Err(Error::config(message).caused_by(&error).with_hint(hint))
        }
    }
}

/// Returns what a file has for a repository. A helper of the registry itself precedes `auths`, as in podman and docker.
fn in_file(file: &AuthFile, reference: &Reference, place: &Place) -> Result<Option<Proof>> {
    let registries = names_of(reference);
    for registry in &registries {
        if let Some(Value::String(helper)) = file.cred_helpers.get(registry) {
            return Ok(Some(Proof::Helper(helper.clone())));
        }
    }
    for key in keys(&registries, &reference.repository) {
        let entry = file.auths.iter().find(|(name, _)| normalized(name, &key));
        let Some((name, value)) = entry else { continue };
        let found = Entry::deserialize(value).ok().and_then(|entry| proof(&entry));
        if let Some(proof) = found {
            return Ok(Some(proof));
        }
        // `docker login` with a store leaves an empty entry.
        let empty = value.as_object().is_some_and(serde_json::Map::is_empty);
        if file.creds_store.is_empty() || !empty {
            let message =
                format!("the entry `{name}` of `{}` has no credentials", place.path.display());
            return Err(
                Error::config(message).with_hint("log in again: `skopeo login` or `docker login`")
            );
        }
    }
    let store = Some(&file.creds_store).filter(|store| !store.is_empty());
    Ok(store.map(|store| Proof::Helper(store.clone())))
}

/// The names under which a registry is listed. Docker Hub has several.
fn names_of(reference: &Reference) -> Vec<String> {
    let mut names = vec![reference.registry.clone()];
    if reference.registry != reference.host() {
        names.push("index.docker.io".to_owned());
    }
    names
}

/// The keys for a repository, the most specific first: containers-auth.json(5), "the most specific match".
fn keys(registries: &[String], repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for registry in registries {
        let mut key = format!("{registry}/{repository}");
        loop {
            keys.push(key.clone());
            match key.rfind('/') {
                Some(end) => key.truncate(end),
                None => break,
            }
        }
    }
    keys
}

/// Whether the name of an entry means a key. Docker writes URLs such as `https://index.docker.io/v1/`, of which only
/// the host counts.
fn normalized(name: &str, key: &str) -> bool {
    match name.split_once("://") {
        Some((_, rest)) => rest.split('/').next() == Some(key),
        None => name == key,
    }
}

fn proof(entry: &Entry) -> Option<Proof> {
    if !entry.identitytoken.is_empty() {
        return Some(Proof::Identity(Secret::new(entry.identitytoken.as_str())));
    }
    if !entry.registrytoken.is_empty() {
        return Some(Proof::Registry(Secret::new(entry.registrytoken.as_str())));
    }
    if !entry.username.is_empty() && !entry.password.is_empty() {
        return Some(Proof::Basic(entry.username.clone(), Secret::new(entry.password.as_str())));
    }
    let decoded = STANDARD.decode(&entry.auth).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    // Docker pads passwords with zeros.
    let password = password.trim_matches('\0');
    (!user.is_empty()).then(|| Proof::Basic(user.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path, sync::Arc};

    use build_image_plugin_api::{ErrorKind, testing::MockHost};
    use serde_json::json;

    use super::*;

    fn find(
        files: &[(&str, Value)],
        variables: &[(&str, &str)],
        reference: &str,
    ) -> Result<String> {
        let directory = tempfile::tempdir().unwrap();
        let inside = |name: &str| directory.path().join(name);
        for (name, content) in files {
            fs::create_dir_all(inside(name).parent().unwrap_or(Path::new("/"))).unwrap();
            fs::write(inside(name), content.to_string()).unwrap();
        }
        let mut map: BTreeMap<String, String> =
            [("HOME".to_owned(), inside("home").display().to_string())].into();
        map.extend(
            variables
                .iter()
                .map(|(name, path)| ((*name).to_owned(), inside(path).display().to_string())),
        );
        let host = Arc::new(MockHost::new());
        let reference = Reference::parse(reference)?;
        let found = Credentials::find(
            &host.context(),
            &Access::default(),
            &reference,
            &Environment::Of(map),
        )?;
        Ok(match found.proof {
            Proof::Anonymous => "anonymous".to_owned(),
            Proof::Basic(user, password) => format!("{user}:{}", password.reveal()),
            Proof::Identity(token) => format!("identity {}", token.reveal()),
            Proof::Registry(token) => format!("registry {}", token.reveal()),
            Proof::Helper(name) => format!("helper {name}"),
        })
    }

    fn auth(user: &str) -> Value {
        json!({"auth": STANDARD.encode(format!("{user}:pa:ss"))})
    }

    #[test]
    fn the_most_specific_entry_counts() {
        let file = json!({"auths": {
            "r.example.com": auth("host"),
            "r.example.com/team": auth("team"),
            "r.example.com/team/disk": auth("disk"),
            "https://index.docker.io/v1/": auth("hub"),
            "https://old.example.com/v2/": auth("url"),
            "token.example.com": {"identitytoken": "refresh", "auth": ""},
            "raw.example.com": {"registrytoken": "bearer"},
            "plain.example.com:5000": {"username": "u", "password": "p"},
        }});
        for (reference, expected) in [
            ("r.example.com/team/disk:1", "disk:pa:ss"),
            ("r.example.com/team/other", "team:pa:ss"),
            ("r.example.com/teams", "host:pa:ss"),
            ("docker.io/me/disk", "hub:pa:ss"),
            ("old.example.com/a", "url:pa:ss"),
            ("token.example.com/a", "identity refresh"),
            ("raw.example.com/a", "registry bearer"),
            ("plain.example.com:5000/a", "u:p"),
            ("plain.example.com/a", "anonymous"),
        ] {
            let files = [("home/.config/containers/auth.json", file.clone())];
            assert_eq!(find(&files, &[], reference).unwrap(), expected, "{reference}");
        }
    }

    #[test]
    fn the_first_file_that_has_the_registry_counts() {
        let file = |user: &str| json!({"auths": {"r.example.com": auth(user)}});
        let files = [
            ("named.json", file("named")),
            ("run/containers/auth.json", file("run")),
            ("home/.config/containers/auth.json", file("config")),
            ("docker/config.json", file("variable")),
            ("home/.docker/config.json", file("docker")),
        ];
        let run = ("XDG_RUNTIME_DIR", "run");
        for (files, variables, expected) in [
            (&files[..], &[("REGISTRY_AUTH_FILE", "named.json"), run][..], "named"),
            (&files, &[run], "run"),
            (&files, &[], "config"),
            (&files[3..], &[("DOCKER_CONFIG", "docker"), run], "variable"),
            (&files[3..], &[], "docker"),
        ] {
            let found = find(files, variables, "r.example.com/a").unwrap();
            assert_eq!(found, format!("{expected}:pa:ss"));
        }
        let missing = find(&[], &[("REGISTRY_AUTH_FILE", "none.json")], "r.example.com/a");
        assert!(missing.unwrap_err().hint.unwrap().contains("REGISTRY_AUTH_FILE"));
    }

    #[test]
    fn helpers_are_named_and_broken_files_are_not_quoted() {
        let helpers = json!({"credHelpers": {"a.example.com": "ecr-login"}, "credsStore": "desktop",
            "auths": {"b.example.com": {}, "c.example.com": auth("inline")}});
        let files = [("home/.docker/config.json", helpers)];
        for (reference, expected) in [
            ("a.example.com/x", "helper ecr-login"),
            ("b.example.com/x", "helper desktop"),
            ("c.example.com/x", "inline:pa:ss"),
        ] {
            assert_eq!(find(&files, &[], reference).unwrap(), expected);
        }
        let empty = json!({"auths": {"b.example.com": {"auth": "secret-but-no-base64"}}});
        let error =
            find(&[("home/.docker/config.json", empty)], &[], "b.example.com/x").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Config);
        assert!(error.message.contains("`b.example.com`") && !error.to_string().contains("secret"));
        let broken = [("home/.docker/config.json", json!("a secret text"))];
        let error = find(&broken, &[], "b.example.com/x").unwrap_err();
        assert!(
            error.message.contains("line 1") && !error.to_string().contains("secret"),
            "{error}"
        );
    }
}
