//! Parses the INI file of the vendor's client libraries, `~/.alibabacloud/credentials`: sections, `key =
//! value`, comments. Types other than `access_key`, `ecs_ram_role`, and `ram_role_arn` are refused by name.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, Result, Secret};

use super::{
    Keys,
    source::{Role, Source},
};

fn section(text: &str, wanted: &str) -> Option<BTreeMap<String, String>> {
    let mut found = None;
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.trim() == wanted;
            if inside {
                found.get_or_insert_with(BTreeMap::new);
            }
        } else if inside
            && let Some((key, value)) = line.split_once('=')
            && let Some(map) = &mut found
        {
            map.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    found
}

/// The source that a section describes; `None` when the section does not exist.
///
/// # Errors
/// Config errors for missing or unknown values. `path` is used in messages.
pub(crate) fn source(text: &str, name: &str, path: &str) -> Result<Option<Source>> {
    let Some(map) = section(text, name) else { return Ok(None) };
    let invalid = |why: String| {
        Error::config(format!("section `{name}` of `{path}`: {why}"))
            .with_hint("correct it, or set ALIBABA_ACCESS_KEY_ID and ALIBABA_ACCESS_KEY_SECRET")
    };
    let get = |key: &str| map.get(key).filter(|value| !value.is_empty()).cloned();
    let need = |key: &str| get(key).ok_or_else(|| invalid(format!("`{key}` is missing")));
    let keys = || -> Result<Source> {
        Ok(Source::Here(Keys {
            id: Secret::new(need("access_key_id")?),
            secret: Secret::new(need("access_key_secret")?),
            token: get("security_token").map(Secret::new),
        }))
    };
    match get("type").as_deref() {
        None | Some("access_key" | "sts") => keys().map(Some),
        Some("ecs_ram_role") => Ok(Some(Source::Instance(get("role_name")))),
        Some("ram_role_arn") => {
            let role = Role {
                arn: need("role_arn")?,
                session: get("role_session_name"),
                policy: get("policy"),
                ..Role::default()
            };
            Ok(Some(Source::Role(Box::new(keys()?), role)))
        }
        Some(other) => Err(invalid(format!("type `{other}` is not known"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\n[default]\ntype = access_key\naccess_key_id = an-id\n\
        access_key_secret=a=b\n\n[ecs]\ntype=ecs_ram_role\nrole_name = r\n[role]\ntype=ram_role_arn\n\
        access_key_id=i\naccess_key_secret=s\nrole_arn=acs:ram::1:role/x\n[odd]\ntype=magic\n[half]\n\
        access_key_id=i\n";

    #[test]
    fn sections_become_sources() {
        let read = |name| source(FILE, name, "f");
        match read("default").unwrap().unwrap() {
            Source::Here(keys) => assert_eq!(keys.secret.reveal(), "a=b"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(read("ecs").unwrap(), Some(Source::Instance(Some(role))) if role == "r"));
        assert!(matches!(read("role").unwrap(), Some(Source::Role(..))));
        assert!(read("nobody").unwrap().is_none());
    }

    #[test]
    fn an_error_names_section_and_key() {
        let error = source(FILE, "odd", "f").unwrap_err();
        assert!(error.message.contains("`magic`"), "{error}");
        let error = source(FILE, "half", "f").unwrap_err();
        assert!(error.message.contains("`access_key_secret` is missing"), "{error}");
    }
}
