//! Parses references: `registry/repository:tag`.
//!
//! Grammar of repositories and tags: OCI distribution specification 1.1, "Pulling manifests". The first component is
//! always the registry, so that no default registry is assumed.

use build_image_plugin_api::{Error, Result};

/// Longest tag, in characters.
pub(crate) const TAG_LENGTH: usize = 128;
/// Longest repository with its registry, in characters.
const NAME_LENGTH: usize = 255;
/// The name of Docker Hub in references, its other name, and its host.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// A place in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Host and port, as users write it.
    pub(crate) registry: String,
    /// Name of the repository.
    pub(crate) repository: String,
    /// The tag, if one is named.
    pub(crate) tag: Option<String>,
}

impl Reference {
    /// Parses a text.
    ///
    /// # Errors
    /// Config errors that name the part.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        const EXAMPLE: &str = "write it as `registry.example.com/team/disk:13`";
        let refuse = |why: String| {
            Err(Error::config(format!("`OCI_REFERENCE` is `{text}`: {why}")).with_hint(EXAMPLE))
        };
        if let Some((scheme, _)) = text.split_once("://") {
            return refuse(format!("a reference has no scheme such as `{scheme}://`"));
        }
        if text.contains('@') {
            return refuse(
                "a digest, or a user name, cannot be given: the digest follows from the image"
                    .to_owned(),
            );
        }
        let (registry, rest) = match text.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest),
            _ => {
                return refuse(
                    "it does not begin with a registry (a host with a dot or a port, or `localhost`)".to_owned(),
                );
            }
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return refuse(format!("`{tag}` is not a tag; {TAG_RULE}"));
        }
        if !is_repository(repository) || registry.len() + repository.len() > NAME_LENGTH {
            return refuse(format!(
                "`{repository}` is not a repository: lower-case letters, digits, and single `.`, `_`, `-`, separated by `/`"
            ));
        }
        let registry = registry.to_ascii_lowercase();
        let is_hub = HUB.contains(&registry.as_str());
        let repository = if is_hub && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        let registry = if is_hub { HUB[0].to_owned() } else { registry };
        Ok(Self { registry, repository, tag: tag.map(str::to_owned) })
    }

    /// Returns host and port of the server.
    pub(crate) fn host(&self) -> &str {
        if self.registry == HUB[0] { HUB[2] } else { &self.registry }
    }

    /// Returns registry and repository.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

/// The grammar of tags, for messages.
pub(crate) const TAG_RULE: &str =
    "a tag has 1 to 128 letters, digits, `_`, `.`, and `-`, and does not begin with `.` or `-`";

/// Whether a text is a tag.
pub(crate) fn is_tag(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.len() <= TAG_LENGTH
        && text.starts_with(plain)
        && text.chars().all(|letter| plain(letter) || letter == '.' || letter == '-')
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let valid_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let valid_host = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || ".-".contains(letter))
                && (host.contains('.') || port.is_some() || host == "localhost")
        }
    };
    valid_port && valid_host
}

fn is_repository(text: &str) -> bool {
    text.split('/').all(|part| {
        let alphanumeric = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        let separators = part.split(alphanumeric).filter(|between| !between.is_empty());
        part.starts_with(alphanumeric)
            && part.ends_with(alphanumeric)
            && separators.into_iter().all(|one| {
                one == "." || one == "_" || one == "__" || one.chars().all(|letter| letter == '-')
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_a_registry_a_repository_and_perhaps_a_tag() {
        for (text, registry, repository, tag) in [
            ("registry.example.com/team/disk:13", "registry.example.com", "team/disk", Some("13")),
            ("localhost:5000/a", "localhost:5000", "a", None),
            ("localhost/a/b__c/d--e.f:v_1.x-y", "localhost", "a/b__c/d--e.f", Some("v_1.x-y")),
            ("[::1]:5000/a:b", "[::1]:5000", "a", Some("b")),
            ("10.0.0.1:443/a0/b", "10.0.0.1:443", "a0/b", None),
            ("Registry.Example.com/a", "registry.example.com", "a", None),
            ("docker.io/debian:13", "docker.io", "library/debian", Some("13")),
            ("index.docker.io/me/debian", "docker.io", "me/debian", None),
        ] {
            let found = Reference::parse(text).unwrap();
            assert_eq!(
                (found.registry.as_str(), found.repository.as_str(), found.tag.as_deref()),
                (registry, repository, tag),
                "{text}"
            );
        }
        assert_eq!(Reference::parse("docker.io/a").unwrap().host(), "registry-1.docker.io");
        assert_eq!(Reference::parse("[::1]:5000/a").unwrap().name(), "[::1]:5000/a");
    }

    #[test]
    fn what_is_not_a_reference_is_refused_with_the_part() {
        for (text, part) in [
            ("team/disk", "does not begin with a registry"),
            ("disk", "does not begin with a registry"),
            ("registry.example.com", "does not begin with a registry"),
            ("https://registry.example.com/a", "no scheme such as `https://`"),
            ("docker://registry.example.com/a", "no scheme"),
            ("user@registry.example.com/a", "digest, or a user name"),
            ("registry.example.com/a@sha256:00", "digest, or a user name"),
            ("registry.example.com:0/a", "does not begin with a registry"),
            ("registry.example.com/A", "`A` is not a repository"),
            ("registry.example.com/a//b", "is not a repository"),
            ("registry.example.com/a_", "is not a repository"),
            ("registry.example.com/a..b", "is not a repository"),
            ("registry.example.com/../b", "is not a repository"),
            ("registry.example.com/a:.b", "`.b` is not a tag"),
            ("registry.example.com/a:", "`` is not a tag"),
        ] {
            let error = Reference::parse(text).unwrap_err();
            assert!(error.message.contains(part) && error.hint.is_some(), "{text}: {error}");
        }
        assert!(is_tag(&"a".repeat(TAG_LENGTH)) && !is_tag(&"a".repeat(TAG_LENGTH + 1)));
        let long = format!("registry.example.com/{}", "a".repeat(NAME_LENGTH));
        assert!(Reference::parse(&long).is_err());
    }
}
