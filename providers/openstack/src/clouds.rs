//! Finds a cloud in `clouds.yaml`, `secure.yaml`, and `clouds-public.yaml`, as openstacksdk does
//! (`openstack.config.loader`): the first file of each kind in the search path is read, secrets are merged into the
//! cloud, and a profile gives the values that the cloud does not have.

use std::{
    fs,
    io::ErrorKind as Io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use build_image_plugin_api::{Error, Result};
use serde_json::{Map, Value};

use crate::{environment::Environment, yaml};

/// Longest file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;
const SUFFIXES: [&str; 3] = ["yaml", "yml", "json"];

/// A cloud of the files.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its values, secrets included; must not be shown.
    pub(crate) values: Map<String, Value>,
    /// Name and file, for messages.
    pub(crate) source: String,
}

/// Looks the cloud `name` up; without a name, the only cloud of the file.
///
/// # Errors
/// Config errors for files that cannot be read, and for a name that no file has. `None`: there are no files and no
/// name.
pub(crate) fn find(
    environment: &Environment,
    file: Option<&str>,
    name: Option<&str>,
) -> Result<Option<Found>> {
    let named = file.map(str::to_owned).or_else(|| environment.get("OS_CLIENT_CONFIG_FILE"));
    let Some((path, clouds)) = read(environment, "clouds", named.as_deref())? else {
        return match name {
            None => Ok(None),
            Some(name) => Err(Error::config(format!(
                "cloud `{name}` is not found: no file `clouds.yaml` exists"
            ))
            .with_hint(
                "write ~/.config/openstack/clouds.yaml, or name the file in OPENSTACK_CONFIG_FILE",
            )),
        };
    };
    let shown = path.display();
    let clouds = clouds.get("clouds").and_then(Value::as_object);
    let known: Vec<&str> = clouds.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let name = match (name, known.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, []) => return Ok(None),
        (None, several) => {
            return Err(Error::config(format!("`{shown}` has {} clouds", several.len()))
                .with_hint(format!(
                    "set OPENSTACK_CLOUD or OS_CLOUD to one of: {}",
                    several.join(", ")
                )));
        }
    };
    let Some(Value::Object(cloud)) = clouds.and_then(|clouds| clouds.get(name)) else {
        let listed = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Error::config(format!("cloud `{name}` is not in `{shown}`"))
            .with_hint(format!("clouds of the file: {listed}")));
    };
    let mut values = cloud.clone();
    let secure = environment.get("OS_CLIENT_SECURE_FILE");
    if let Some((_, secrets)) = read(environment, "secure", secure.as_deref())?
        && let Some(secrets) =
            secrets.pointer(&format!("/clouds/{}", name.replace('~', "~0").replace('/', "~1")))
    {
        merge(&mut values, secrets);
    }
    expand_profile(environment, name, &mut values)?;
    Ok(Some(Found { values, source: format!("cloud `{name}` of `{shown}`") }))
}

/// Adds the values of a profile that the cloud does not have.
fn expand_profile(
    environment: &Environment,
    name: &str,
    values: &mut Map<String, Value>,
) -> Result<()> {
    let profile = values.get("profile").or_else(|| values.get("cloud")).cloned();
    let Some(Value::String(profile)) = profile else { return Ok(()) };
    let vendor = environment.get("OS_CLIENT_VENDOR_FILE");
    let public = read(environment, "clouds-public", vendor.as_deref())?;
    let found = public.as_ref().and_then(|(_, public)| {
        public
            .get("public-clouds")
            .and_then(|clouds| clouds.get(&profile))
            .and_then(Value::as_object)
    });
    let Some(found) = found else {
        return Err(Error::unsupported(
            format!(
                "cloud `{name}` uses the profile `{profile}`, which is not in `clouds-public.yaml`"
            ),
            "profiles that are built into openstacksdk or fetched from a URL are not read: write the profile's auth_url and region_name into clouds.yaml",
        ));
    };
    let mut expanded = found.clone();
    merge(&mut expanded, &Value::Object(std::mem::take(values)));
    *values = expanded;
    Ok(())
}

/// Replaces values, and members of nested maps.
fn merge(values: &mut Map<String, Value>, newer: &Value) {
    let Value::Object(newer) = newer else { return };
    for (key, value) in newer {
        match (values.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(_)) => merge(old, value),
            _ => drop(values.insert(key.clone(), value.clone())),
        }
    }
}

/// Reads the named file, or the first file of a kind in the search path.
fn read(
    environment: &Environment,
    kind: &str,
    named: Option<&str>,
) -> Result<Option<(PathBuf, Value)>> {
    if let Some(named) = named {
        let path = PathBuf::from(named);
        return match load(&path)? {
            Some(value) => Ok(Some((path, value))),
            None => Err(Error::config(format!("file `{named}` does not exist")).with_hint(
                "correct the name, or unset the setting or variable that names the file",
            )),
        };
    }
    for directory in environment.directories() {
        for suffix in SUFFIXES {
            let path = directory.join(format!("{kind}.{suffix}"));
            if let Some(value) = load(&path)? {
                is_trusted(&path, directory == Path::new("."))?;
                return Ok(Some((path, value)));
            }
        }
    }
    Ok(None)
}

fn load(path: &Path) -> Result<Option<Value>> {
    let shown = path.display();
    let unreadable = |cause: &std::io::Error| {
        Error::config(format!("file `{shown}` cannot be read")).caused_by(cause)
    };
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    if found.len() > MOST_BYTES || !found.is_file() {
        return Err(Error::config(format!(
            "`{shown}` is not a file of at most {MOST_BYTES} bytes"
        )));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    yaml::parse(path, &text).map(Some)
}

/// Refuses a file of another user in the working directory: it could send the password of `secure.yaml` elsewhere.
fn is_trusted(path: &Path, in_working_directory: bool) -> Result<()> {
    let owner = |path: &Path| fs::metadata(path).map(|found| found.uid()).ok();
    // The owner of this entry is the effective user of the process.
    let (file, user) = (owner(path), owner(Path::new("/proc/self")));
    if !in_working_directory || file == Some(0) || user.is_none() || file == user {
        return Ok(());
    }
    Err(Error::config(format!(
        "`{}` in the working directory belongs to another user",
        path.display()
    ))
    .with_hint("change to another directory, or name the file in OPENSTACK_CONFIG_FILE to use it"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn environment(files: &[(&str, &str)]) -> (Environment, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        (Environment::Of(BTreeMap::new(), directory.path().to_owned()), directory)
    }

    #[test]
    fn secrets_are_merged_and_the_only_cloud_needs_no_name() {
        let (environment, _kept) = environment(&[
            ("clouds.yaml", "clouds: {a: {auth: {auth_url: u, username: n}, region_name: r}}"),
            ("secure.yml", "clouds: {a: {auth: {password: p}}, b: {auth: {password: q}}}"),
        ]);
        let found = find(&environment, None, None).unwrap().unwrap();
        let auth = json!({"auth_url": "u", "username": "n", "password": "p"});
        assert_eq!(found.values["auth"], auth);
        assert!(found.source.starts_with("cloud `a` of "), "{}", found.source);
    }

    #[test]
    fn the_first_kind_of_file_counts_and_a_cloud_must_be_named_among_several() {
        let (environment, _kept) = environment(&[
            ("clouds.yaml", "clouds: {a: {auth: {}}, b: {auth: {}}}"),
            ("clouds.json", "{\"clouds\": {\"c\": {}}}"),
        ]);
        let error = find(&environment, None, None).unwrap_err();
        assert!(error.hint.unwrap().contains("a, b"));
        let error = find(&environment, None, Some("c")).unwrap_err();
        assert!(error.message.contains("`c` is not in"), "{error}");
    }

    #[test]
    fn a_profile_is_expanded_or_refused_by_name() {
        let clouds = ("clouds.yaml", "clouds: {a: {profile: p, auth: {username: n}}}");
        let (none, _kept) = environment(&[clouds]);
        let error = find(&none, None, Some("a")).unwrap_err();
        assert!(error.message.contains("profile `p`"), "{error}");
        let public = "public-clouds: {p: {auth: {auth_url: u, username: x}, region_name: r}}";
        let (some, _kept) = environment(&[clouds, ("clouds-public.yaml", public)]);
        let values = find(&some, None, Some("a")).unwrap().unwrap().values;
        assert_eq!(values["auth"], json!({"auth_url": "u", "username": "n"}));
        assert_eq!(values["region_name"], "r");
    }

    #[test]
    fn without_files_there_is_no_cloud_and_a_name_is_an_error() {
        let (environment, _kept) = environment(&[]);
        assert!(find(&environment, None, None).unwrap().is_none());
        assert!(find(&environment, None, Some("a")).is_err());
        assert!(find(&environment, Some("/nowhere/clouds.yaml"), None).is_err());
    }
}
