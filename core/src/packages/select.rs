//! Chooses the package that runs on this host.

use std::{cmp::Reverse, fmt};

use build_image_plugin_api::ABI_VERSION;
use semver::Version;
use serde::Deserialize;

use super::{
    index::{Index, Release, Target},
    refused,
};
use crate::{
    error::{Error, Result},
    plugins::is_provider_name,
};

/// Fits every value of this host.
const ANY: &str = "any";

/// What the user wants to install: `NAME` or `NAME@VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    /// The exact version; `None` = the newest that fits.
    pub(crate) version: Option<Version>,
}

impl Wanted {
    /// Parses arguments.
    ///
    /// # Errors
    /// When a name is not one of a provider or is there twice, or a version is not one.
    pub(crate) fn parse_all(texts: &[String]) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = Vec::new();
        for wanted in texts.iter().map(|text| Self::parse(text)) {
            let wanted = wanted?;
            if all.iter().any(|one| one.name == wanted.name) {
                return Err(Error::usage(format!("provider `{}` is named twice", wanted.name)));
            }
            all.push(wanted);
        }
        Ok(all)
    }

    fn parse(text: &str) -> Result<Self> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        if !is_provider_name(name) {
            return Err(Error::usage(format!("`{name}` is not the name of a provider"))
                .hint("a name has the characters a to z, digits and `_`, as after -p"));
        }
        let version = version.map(Version::parse).transpose().map_err(|error| {
            Error::usage(format!("`{text}`: the version is not one"))
                .caused_by(&error)
                .hint("write NAME@1.2.3")
        })?;
        Ok(Self { name: name.to_owned(), version })
    }
}

/// A range of plugin ABIs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Abi {
    /// The ABI that the plugin was built for.
    built: String,
    /// The oldest ABI of a host that it works with.
    requires: String,
}

impl Abi {
    /// Returns whether a host with this ABI loads the plugin: the rule of `plugin-api`, before anything is loaded.
    fn fits(&self, host: (u32, u32)) -> bool {
        let numbers = [&self.built, &self.requires].map(|text| numbers(text));
        numbers.iter().all(|abi| abi.is_some_and(|(major, _)| major == host.0))
            && numbers[1].is_some_and(|(_, minor)| minor <= host.1)
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.built == self.requires {
            return write!(f, "ABI {}", self.built);
        }
        write!(f, "ABI {}, needs {}", self.built, self.requires)
    }
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What a plugin must fit.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) os: &'static str,
    pub(super) arch: &'static str,
    pub(super) libc: &'static str,
    pub(super) abi: (u32, u32),
}

impl Host {
    /// This program: a library is loaded into it, so that its libc counts, whatever else the host has.
    pub(super) fn this() -> Self {
        let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
        Self {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            libc,
            abi: numbers(ABI_VERSION).unwrap_or_default(),
        }
    }

    fn runs(&self, target: &Target) -> bool {
        let is = |text: &str, own: &str| text == own || text == ANY;
        is(&target.os, self.os) && is(&target.arch, self.arch) && is(&target.libc, self.libc)
    }

    fn display(&self) -> String {
        let Self { os, arch, libc, abi } = self;
        format!("{os} {arch} {libc}, ABI {}.{}", abi.0, abi.1)
    }
}

/// A version and the file of it that is installed.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) target: Target,
}

/// Returns what is installed when the user named nothing: the only provider of the index.
///
/// # Errors
/// When the index has several, or none.
pub(super) fn only(index: &Index, display: &str) -> Result<Wanted> {
    let mut names: Vec<&str> = index.packages.iter().map(|release| release.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [name] => Ok(Wanted { name: (*name).to_owned(), version: None }),
        [] => Err(refused(format!("`{display}` offers nothing"))),
        names => Err(Error::usage(format!("`{display}` offers several providers"))
            .hint(format!("name those to install after it: {}", names.join(", ")))),
    }
}

/// Returns the version and the file that fit this host: the newest one, unless the user named another.
///
/// # Errors
/// When the index does not have the provider or the version, or nothing of it runs here; lists what it offers.
pub(super) fn choose(index: &Index, wanted: &Wanted, host: &Host) -> Result<Choice> {
    let Wanted { name, version } = wanted;
    let mut releases: Vec<&Release> =
        index.packages.iter().filter(|release| release.name == *name).collect();
    if releases.is_empty() {
        let mut names: Vec<&str> = index.packages.iter().map(|one| one.name.as_str()).collect();
        names.dedup();
        return Err(refused(format!("publisher `{}` offers no `{name}`", index.publisher))
            .hint(format!("its index has: {}", names.join(", "))));
    }
    // A pre-release is installed only where nothing else fits.
    releases.sort_by_key(|release| (!release.version.pre.is_empty(), Reverse(&release.version)));
    let asked = releases
        .iter()
        .filter(|release| version.as_ref().is_none_or(|one| *one == release.version));
    for release in asked.filter(|release| release.abi.fits(host.abi)) {
        if let Some(target) = release.targets.iter().find(|target| host.runs(target)) {
            let (version, target) = (release.version.clone(), target.clone());
            return Ok(Choice { name: name.clone(), version, target });
        }
    }
    let what =
        version.as_ref().map_or_else(|| format!("`{name}`"), |one| format!("`{name}` {one}"));
    let text = format!(
        "publisher `{}` offers no {what} for this host ({})",
        index.publisher,
        host.display()
    );
    Err(refused(text).hint(format!("its index has: {}", offers(&releases))))
}

fn offers(releases: &[&Release]) -> String {
    let one = |release: &&Release| {
        let targets: Vec<String> = release.targets.iter().map(Target::display).collect();
        format!("{} for {} ({})", release.version, targets.join(", "), release.abi)
    };
    releases.iter().map(one).collect::<Vec<String>>().join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const HOST: Host = Host { os: "linux", arch: "x86_64", libc: "gnu", abi: (1, 1) };

    fn target(os: &str, arch: &str, libc: &str) -> Value {
        json!({
            "kind": "library", "os": os, "arch": arch, "libc": libc,
            "url": "x.so", "sha256": "0a".repeat(32), "size": 1,
        })
    }

    fn release(version: &str, abi: [&str; 2], targets: &[Value]) -> Value {
        let abi = json!({"built": abi[0], "requires": abi[1]});
        json!({"name": "acme", "version": version, "abi": abi, "targets": targets})
    }

    fn index(packages: &[Value]) -> Index {
        serde_json::from_value(json!({
            "format": "build-image provider index", "version": 1, "publisher": "p", "serial": 1,
            "expires": "2100-01-01T00:00:00Z", "packages": packages,
        }))
        .unwrap()
    }

    fn chosen(packages: &[Value], wanted: &str) -> Option<String> {
        let choice = choose(&index(packages), &Wanted::parse(wanted).unwrap(), &HOST);
        choice.ok().map(|choice| format!("{} {}", choice.version, choice.target.display()))
    }

    #[test]
    fn the_newest_version_that_runs_here_is_chosen() {
        let here = [target("linux", "aarch64", "gnu"), target("linux", "x86_64", "gnu")];
        let old = release("1.9.0", ["1.0", "1.0"], &here);
        let new = release("1.10.0", ["1.1", "1.0"], &here);
        let later = release("2.0.0", ["1.2", "1.2"], &here);
        let preview = release("1.11.0-rc.1", ["1.1", "1.1"], &here);
        let elsewhere = release("1.12.0", ["1.1", "1.1"], &[target("linux", "x86_64", "musl")]);
        let other_major = release("3.0.0", ["2.0", "1.0"], &here);
        let all = [old, later, new, preview.clone(), elsewhere, other_major];
        for (wanted, expected) in [
            ("acme", Some("1.10.0 linux x86_64 gnu")),
            ("acme@1.9.0", Some("1.9.0 linux x86_64 gnu")),
            ("acme@1.11.0-rc.1", Some("1.11.0-rc.1 linux x86_64 gnu")),
            ("acme@1.12.0", None),
            ("acme@2.0.0", None),
            ("acme@3.0.0", None),
            ("zeta", None),
        ] {
            assert_eq!(chosen(&all, wanted).as_deref(), expected, "{wanted}");
        }
        assert_eq!(chosen(&[preview], "acme").as_deref(), Some("1.11.0-rc.1 linux x86_64 gnu"));
        let any = release("1.0.0", ["1.1", "1.0"], &[target("linux", "any", "any")]);
        assert_eq!(chosen(&[any], "acme").as_deref(), Some("1.0.0 linux any any"));
    }

    #[test]
    fn an_abi_that_is_not_two_numbers_fits_no_host() {
        for (built, requires, fits) in [
            ("1.1", "1.0", true),
            ("1.7", "1.1", true),
            ("1.1", "1.2", false),
            ("2.0", "2.0", false),
            ("1", "1.0", false),
            ("", "", false),
            ("1.0.0", "1.0", false),
            ("1.-1", "1.0", false),
        ] {
            let abi = Abi { built: built.to_owned(), requires: requires.to_owned() };
            assert_eq!(abi.fits((1, 1)), fits, "{built}, {requires}");
        }
    }

    #[test]
    fn what_is_wanted_is_a_name_and_perhaps_a_version() {
        assert_eq!(Wanted::parse("acme").unwrap().version, None);
        assert_eq!(Wanted::parse("acme@1.2.3").unwrap().version, Some(Version::new(1, 2, 3)));
        for text in ["", "../x", "Acme", "acme@", "acme@1", "acme@1.2.3@4", "acme@latest"] {
            assert!(Wanted::parse(text).is_err(), "{text}");
        }
    }
}
