//! Parses the configuration file of the vendor's command line, `~/.aliyun/config.json`. Modes that need a
//! browser or another program are not performed; the keys they left in the file are used.
//!
//! Source: documentation of `aliyun configure`.

use build_image_plugin_api::{Error, Result, Secret};
use serde::Deserialize;

use super::{
    Keys,
    source::{Role, Source},
};

/// Maximum number of profiles that refer to each other.
const MOST_STEPS: usize = 8;

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct File {
    current: String,
    profiles: Vec<Profile>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Profile {
    name: String,
    mode: String,
    access_key_id: String,
    access_key_secret: String,
    sts_token: String,
    sts_region: String,
    ram_role_name: String,
    ram_role_arn: String,
    ram_session_name: String,
    expired_seconds: u64,
    external_id: String,
    policy: String,
    source_profile: String,
    credentials_uri: String,
    oidc_provider_arn: String,
    oidc_token_file: String,
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// The source that a profile describes, and the profile's name. Without `wanted` it is the file's current
/// profile; `None` when the file has none.
///
/// # Errors
/// Config errors for files and profiles that cannot be used. `path` is used in messages.
pub(crate) fn source(
    text: &str,
    wanted: Option<&str>,
    path: &str,
) -> Result<Option<(String, Source)>> {
    let file: File = serde_json::from_str(text).map_err(|error| {
        Error::config(format!("`{path}` is not a configuration of the vendor's command line"))
            .caused_by(&error)
            .with_hint("write it with: aliyun configure")
    })?;
    let name = match (wanted, file.current.as_str()) {
        (Some(name), _) => name.to_owned(),
        (None, "") => "default".to_owned(),
        (None, current) => current.to_owned(),
    };
    if wanted.is_none() && !file.profiles.iter().any(|profile| profile.name == name) {
        return Ok(None);
    }
    let source = file.source(&name, path, MOST_STEPS)?;
    Ok(Some((name, source)))
}

impl File {
    fn source(&self, name: &str, path: &str, steps: usize) -> Result<Source> {
        let error = |why: String| {
            Error::config(format!("profile `{name}` of `{path}`: {why}"))
                .with_hint(format!("write it with: aliyun configure --profile {name}"))
        };
        let Some(profile) = self.profiles.iter().find(|profile| profile.name == name) else {
            return Err(error("it is not there".to_owned()));
        };
        if steps == 0 {
            return Err(error("its source profiles lead in a circle".to_owned()));
        }
        let need = |key: &str, value: &str| {
            some(value).ok_or_else(|| error(format!("`{key}` is missing")))
        };
        let keys = |token: Option<String>| -> Result<Source> {
            Ok(Source::Here(Keys {
                id: Secret::new(need("access_key_id", &profile.access_key_id)?),
                secret: Secret::new(need("access_key_secret", &profile.access_key_secret)?),
                token: token.map(Secret::new),
            }))
        };
        let role = || -> Result<Role> {
            Ok(Role {
                arn: need("ram_role_arn", &profile.ram_role_arn)?,
                session: some(&profile.ram_session_name),
                seconds: Some(profile.expired_seconds).filter(|&seconds| seconds > 0),
                policy: some(&profile.policy),
                external_id: some(&profile.external_id),
                region: some(&profile.sts_region),
            })
        };
        Ok(match profile.mode.as_str() {
            "AK" | "" => keys(None)?,
            "StsToken" => keys(Some(need("sts_token", &profile.sts_token)?))?,
            "RamRoleArn" => Source::Role(Box::new(keys(some(&profile.sts_token))?), role()?),
            "EcsRamRole" => Source::Instance(some(&profile.ram_role_name)),
            "RamRoleArnWithRoleName" => {
                let instance = Source::Instance(some(&profile.ram_role_name));
                Source::Role(Box::new(instance), role()?)
            }
            "ChainableRamRoleArn" => {
                let from = need("source_profile", &profile.source_profile)?;
                Source::Role(Box::new(self.source(&from, path, steps - 1)?), role()?)
            }
            "CredentialsURI" => Source::Uri(need("credentials_uri", &profile.credentials_uri)?),
            "OIDC" => Source::Oidc {
                provider: need("oidc_provider_arn", &profile.oidc_provider_arn)?,
                token_file: need("oidc_token_file", &profile.oidc_token_file)?.into(),
                role: role()?,
            },
            // An earlier login left temporary keys.
            "CloudSSO" | "OAuth" if !profile.sts_token.is_empty() => {
                keys(some(&profile.sts_token))?
            }
            mode => {
                return Err(error(format!("mode `{mode}` needs the vendor's command line")).with_hint(
                    "export keys from it, or set ALIBABA_CLOUD_CREDENTIALS_URI to a service that hands them out",
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"current":"b","profiles":[
        {"name":"a","mode":"AK","access_key_id":"i","access_key_secret":"s"},
        {"name":"b","mode":"StsToken","access_key_id":"i","access_key_secret":"s","sts_token":"t"},
        {"name":"r","mode":"RamRoleArn","access_key_id":"i","access_key_secret":"s","ram_role_arn":"arn","expired_seconds":900},
        {"name":"e","mode":"EcsRamRole"},
        {"name":"c","mode":"ChainableRamRoleArn","source_profile":"r","ram_role_arn":"arn2"},
        {"name":"u","mode":"CredentialsURI","credentials_uri":"http://127.0.0.1/x"},
        {"name":"o","mode":"OIDC","oidc_provider_arn":"p","oidc_token_file":"/t","ram_role_arn":"arn"},
        {"name":"x","mode":"External","process_command":"y"},
        {"name":"loop","mode":"ChainableRamRoleArn","source_profile":"loop","ram_role_arn":"arn"},
        {"name":"half","mode":"AK","access_key_id":"i"}]}"#;

    #[test]
    fn every_mode_becomes_its_source() {
        let read = |name: &str| source(FILE, Some(name), "f").unwrap().unwrap().1;
        assert!(matches!(read("a"), Source::Here(keys) if keys.token.is_none()));
        assert!(matches!(read("r"), Source::Role(_, role) if role.seconds == Some(900)));
        assert!(matches!(read("e"), Source::Instance(None)));
        let Source::Role(base, role) = read("c") else { panic!("no role") };
        assert_eq!(role.arn, "arn2");
        assert!(matches!(*base, Source::Role(..)));
        assert!(matches!(read("u"), Source::Uri(_)));
        assert!(matches!(read("o"), Source::Oidc { .. }));
        let (name, current) = source(FILE, None, "f").unwrap().unwrap();
        assert_eq!(name, "b");
        assert!(matches!(current, Source::Here(keys) if keys.token.is_some()));
    }

    #[test]
    fn unusable_profiles_report_the_reason() {
        for (name, part) in [
            ("x", "mode `External`"),
            ("loop", "circle"),
            ("half", "`access_key_secret` is missing"),
            ("nobody", "not there"),
        ] {
            let error = source(FILE, Some(name), "f").unwrap_err();
            assert!(error.message.contains(part) && error.hint.is_some(), "{name}: {error}");
        }
        assert!(source("{}", None, "f").unwrap().is_none());
        assert!(source("[", None, "f").is_err());
    }
}
