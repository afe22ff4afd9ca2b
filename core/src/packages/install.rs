//! Installs, updates and removes providers: reads the index, verifies it and the packages, and puts them into place.

use std::{
    fs::{self, File, Permissions},
    ops::ControlFlow,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use build_image_plugin_api::{Library, PluginMetadata};
use semver::Version;

use super::{
    Package, Place, Publishers, Standing, Wanted,
    index::{Index, claimed_publisher, verified},
    not_installed,
    origin::{ARCHIVE_LIMIT, Origin, Source},
    place::Held,
    publishers::{Publisher, check_floor},
    records::{Records, Unreadable, sha256_of_file},
    refused,
    select::{Choice, Host, choose, only},
};
use crate::{
    artifacts::more_space,
    clock,
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    plugins::{FileKind, Loader, is_provider_name, plugin_of_file_name},
    report::Reporter,
    settings::{Environment, keys},
    signature::{Algorithm, MinisignKey, digests_of},
    source::{Downloader, redacted},
};

/// Largest plugin file that is installed with its SHA-256, in bytes.
const LARGEST: u64 = 1 << 30;

/// What the user permits.
pub(crate) struct Consent<'a> {
    /// The key that the user named: its publisher is trusted with it from now on.
    pub(crate) key: Option<MinisignKey>,
    /// The SHA-256 of the plugin file that the user named.
    pub(crate) sha256: Option<String>,
    /// Whether registries are asked without TLS.
    pub(crate) plain_http: bool,
    /// Asks whether the key of a publisher that is not known yet is trusted.
    pub(crate) trusts: &'a dyn Fn(&Question<'_>) -> Result<bool>,
}

/// A key that the user has not trusted yet.
pub(crate) struct Question<'a> {
    /// The publisher.
    pub(crate) publisher: &'a str,
    /// The line of base64 in the key's file.
    pub(crate) key: &'a str,
    /// The key id.
    pub(crate) id: &'a str,
    /// Where it was read, without passwords.
    pub(crate) source: &'a str,
}

/// What happened to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was installed.
    Installed,
    /// It replaced another version or file.
    Replaced,
    /// It was there already.
    Unchanged,
}

/// A provider after a command.
pub(crate) struct Installed {
    pub(crate) outcome: Outcome,
    pub(crate) package: Package,
}

/// Installs providers into one directory.
pub(crate) struct Installer<'a> {
    pub(crate) place: &'a Place,
    pub(crate) publishers: &'a Publishers,
    pub(crate) loader: &'a Loader,
    pub(crate) downloader: &'a Downloader<'a>,
    pub(crate) reporter: &'a Reporter,
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) consent: Consent<'a>,
}

/// A verified file that is not in its place yet.
pub(super) struct Staged {
    pub(super) package: Package,
    pub(super) path: PathBuf,
}

/// An index whose signature is verified, and its publisher.
pub(super) struct Offer {
    pub(super) index: Index,
    pub(super) publisher: Publisher,
    pub(super) known: Option<Publisher>,
}

impl Installer<'_> {
    /// Installs the providers that the user wants from a source; without names the only one that it offers.
    ///
    /// # Errors
    /// When anything is not what it must be; then the provider directory is as it was.
    pub(crate) fn install(&self, source: &str, wanted: &[Wanted]) -> Result<Vec<Installed>> {
        self.install_source(source, wanted).map_err(of_packages)
    }

    fn install_source(&self, source: &str, wanted: &[Wanted]) -> Result<Vec<Installed>> {
        let held = self.place.hold(self.reporter, self.interrupt)?;
        let records = self.place.records()?;
        match self.open(source, &held)? {
            Source::Index(origin) => {
                if self.consent.sha256.is_some() {
                    let text = "--sha256 is for a single plugin file; an index names the digests";
                    return Err(Error::usage(text));
                }
                self.install_index(&origin, wanted, &held, records)
            }
            Source::File(origin, name) => {
                let staged = self.stage_file(&origin, &name, wanted, &held, &records)?;
                self.put(vec![staged], records, None)
            }
            Source::RemoteArchive(_) => Err(Error::new(Stage::Bug, "an archive was not fetched")),
        }
    }

    /// Replaces an installed provider with what its publisher offers now.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub(crate) fn update(&self, package: &Package) -> Result<Vec<Installed>> {
        self.replace(package).map_err(of_packages)
    }

    fn replace(&self, package: &Package) -> Result<Vec<Installed>> {
        if package.publisher.is_none() {
            let text = format!("`{}` was installed from a file, not from an index", package.name);
            return Err(refused(text)
                .hint("build-image providers install FILE --sha256 SHA256 replaces it"));
        }
        let held = self.place.hold(self.reporter, self.interrupt)?;
        let records = self.place.records()?;
        // Another process may have removed it since it was listed.
        if records.find(&package.name).is_none() {
            return Err(not_installed(&package.name, self.place.directory()));
        }
        let Source::Index(origin) = self.open(&package.source, &held)? else {
            let text = format!("`{}` is not an index", package.source);
            return Err(refused(text).hint("install it again from its index"));
        };
        let wanted = Wanted { name: package.name.clone(), version: None };
        self.install_index(&origin, &[wanted], &held, records)
    }

    fn open(&self, source: &str, held: &Held) -> Result<Source> {
        let environment: &Environment = &self.loader.environment;
        match Source::parse(source, self.consent.plain_http, environment)? {
            Source::RemoteArchive(url) => {
                let path = held.staged("mirror.tar");
                self.reporter.begin("download", &format!("fetching {}", redacted(source)));
                let length = self.downloader.fetch_whole(&url, &[], &path, ARCHIVE_LIMIT)?;
                self.reporter.end(&format!("{length} bytes received"));
                Origin::archive(&path, Some(url)).map(Source::Index)
            }
            source => Ok(source),
        }
    }

    fn install_index(
        &self,
        origin: &Origin,
        wanted: &[Wanted],
        held: &Held,
        records: Records,
    ) -> Result<Vec<Installed>> {
        let offer = self.offer(origin)?;
        let wanted = match wanted {
            [] => vec![only(&offer.index, &origin.display())?],
            named => named.to_vec(),
        };
        let mut staged = Vec::new();
        for wanted in &wanted {
            let choice = choose(&offer.index, wanted, &Host::this())?;
            let package = Package {
                name: choice.name.clone(),
                version: choice.version.to_string(),
                kind: choice.target.kind,
                sha256: choice.target.sha256.clone(),
                size: choice.target.size,
                publisher: Some(offer.index.publisher.clone()),
                source: origin.recorded(),
                installed: clock::now(),
            };
            self.check_place(&package, &records)?;
            check_downgrade(&choice, wanted, &records)?;
            staged.push(self.stage(&choice, package, origin, held, &records)?);
        }
        self.put(staged, records, Some(&offer))
    }

    /// Reads an index and verifies it with the publisher's key.
    fn offer(&self, origin: &Origin) -> Result<Offer> {
        let display = origin.display();
        let (bytes, signature) = origin.index(self.downloader)?;
        let name = claimed_publisher(&bytes, &display)?;
        let known = self.publishers.find(&name)?;
        let key = self.key(&name, known.as_ref(), origin)?;
        let index = verified(&bytes, &signature, &key, &display)?;
        let digests =
            digests_of(&mut &bytes[..], &[Algorithm::Sha256], &mut |_| ControlFlow::Continue(()))?;
        let sha256 = digests.hex(Algorithm::Sha256).unwrap_or_default();
        let publisher = Publisher::new(&name, &key, known.as_ref(), (index.serial, sha256));
        if let Some(known) = &known {
            check_floor(known, &publisher)?;
            if known.key != publisher.key {
                let text = format!("the key of publisher `{name}` is {} from now on", key.id());
                self.reporter.warning(&text, None);
            }
        } else if self.consent.key.is_none() {
            let (id, source) = (key.id(), display.as_str());
            let question = Question { publisher: &name, key: &publisher.key, id: &id, source };
            if !(self.consent.trusts)(&question)? {
                let text = format!("the key of publisher `{name}` is not trusted");
                return Err(refused(text).hint("nothing was installed"));
            }
        }
        Ok(Offer { index, publisher, known })
    }

    /// Returns the key that must have signed the index: the one the user named, the pinned one, or the one that is
    /// published beside the index, which the user is asked about.
    fn key(&self, name: &str, known: Option<&Publisher>, origin: &Origin) -> Result<MinisignKey> {
        let parse = |text: &str, what: &str| {
            MinisignKey::of_text(text).map_err(|error| {
                refused(format!("the {what} key of publisher `{name}` is not usable: {error}"))
            })
        };
        if let Some(key) = &self.consent.key {
            return parse(&key.line(), "named");
        }
        if let Some(known) = known {
            return parse(&known.key, "pinned");
        }
        let published = origin.key(self.downloader)?.ok_or_else(|| {
            refused(format!("publisher `{name}` is not known here"))
                .hint("get its public key and name it: --trust-key FILE, or --trust-key RW…")
        })?;
        parse(&published, "published")
    }

    /// Refuses to replace a file that was not installed by this program from this publisher.
    fn check_place(&self, package: &Package, records: &Records) -> Result<()> {
        let (name, directory) = (&package.name, self.place.directory());
        let Some(before) = records.find(name) else {
            for kind in [FileKind::Library, FileKind::Program] {
                let path = directory.join(kind.file_name(name));
                if path.symlink_metadata().is_ok() {
                    let text = format!("`{}` was not installed by this command", path.display());
                    return Err(refused(text).hint("move it away, or use another --provider-dir"));
                }
            }
            return Ok(());
        };
        if before.publisher != package.publisher {
            let owner = match &before.publisher {
                Some(publisher) => format!("publisher `{publisher}`"),
                None => format!("the file `{}`", before.source),
            };
            return Err(refused(format!("provider `{name}` was installed from {owner}"))
                .hint(format!("build-image providers remove {name}, if you want the other one")));
        }
        if let Standing::Changed(_) | Standing::Unreadable(_) = before.standing(directory) {
            let path = before.path(directory);
            let text = format!("`{}` was changed after it was installed", path.display());
            return Err(refused(text).hint("look at it, and remove the file by hand"));
        }
        Ok(())
    }

    /// Fetches a package and verifies it. A package that is installed already is not fetched.
    fn stage(
        &self,
        choice: &Choice,
        package: Package,
        origin: &Origin,
        held: &Held,
        records: &Records,
    ) -> Result<Staged> {
        let is_there = records.find(&package.name).is_some_and(|before| {
            before.sha256 == package.sha256
                && before.kind == package.kind
                && before.standing(self.place.directory()) == Standing::Intact
        });
        let path = held.staged(&package.kind.file_name(&package.name));
        if is_there {
            return Ok(Staged { path: package.path(self.place.directory()), package });
        }
        let (name, version, target) = (&choice.name, &choice.version, &choice.target);
        let location = redacted(&target.url);
        self.reporter.begin("download", &format!("fetching {name} {version}: {location}"));
        let length = origin.save(&target.url, &path, target.size, self.downloader)?;
        if length != target.size {
            let size = target.size;
            let text = format!("`{location}` has {length} bytes, but the index says {size}");
            return Err(refused(text).hint("fetch it again, or ask the publisher"));
        }
        check_sha256(&path, &location, &target.sha256)?;
        self.reporter.end("its SHA-256 is the one in the signed index");
        self.check_plugin(&path, &package, true)?;
        Ok(Staged { package, path })
    }

    /// Fetches a single plugin file whose SHA-256 the user named.
    fn stage_file(
        &self,
        origin: &Origin,
        file: &str,
        wanted: &[Wanted],
        held: &Held,
        records: &Records,
    ) -> Result<Staged> {
        let (name, kind) = plugin_of_file_name(file)
            .filter(|(name, _)| is_provider_name(name))
            .ok_or_else(|| {
                let names =
                    [FileKind::Library, FileKind::Program].map(|kind| kind.file_name("NAME"));
                Error::usage(format!("`{file}` is neither an index nor named like a plugin"))
                    .hint(format!("plugins are named {}", names.join(" or ")))
            })?;
        if wanted.iter().any(|wanted| wanted.name != name || wanted.version.is_some()) {
            return Err(Error::usage(format!("`{file}` holds provider `{name}` only")));
        }
        let path = held.staged(&kind.file_name(name));
        self.reporter.begin("download", &format!("fetching {}", origin.display()));
        let size = origin.save(file, &path, LARGEST, self.downloader)?;
        let found = sha256(&path)?;
        let Some(expected) = &self.consent.sha256 else {
            let text = format!("`{}` is not signed; it has SHA-256 {found}", origin.display());
            return Err(refused(text).hint(format!(
                "compare it with what the publisher says, then add: --sha256 {found}"
            )));
        };
        check_sha256(&path, &origin.display(), expected)?;
        self.reporter.end("its SHA-256 is the one that was given");
        let mut package = Package {
            name: name.to_owned(),
            version: String::new(),
            kind,
            sha256: found,
            size,
            publisher: None,
            source: origin.recorded(),
            installed: clock::now(),
        };
        self.check_place(&package, records)?;
        package.version = self.check_plugin(&path, &package, false)?;
        Ok(Staged { package, path })
    }

    /// Asks a verified plugin for its description, in a separate process; returns its version.
    fn check_plugin(&self, path: &Path, package: &Package, has_version: bool) -> Result<String> {
        let mode = if package.kind == FileKind::Program { 0o755 } else { 0o644 };
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|error| {
            let text = format!("cannot set the mode of `{}`", path.display());
            Error::new(Stage::Disk, text).caused_by(&error)
        })?;
        let Package { name, version, .. } = package;
        if package.kind == FileKind::Library {
            check_metadata(path, name)?;
        }
        let plugin = Loader::examine(path, true, &self.loader.environment)?;
        let description = plugin.description();
        let differs = |what: &str, has: &str, wants: &str| {
            let text = format!("the plugin calls its {what} `{has}`, the package is `{wants}`");
            Err(refused(text).hint("ask the publisher; nothing was installed"))
        };
        if description.name != *name {
            return differs("name", &description.name, name);
        }
        if has_version && description.version != *version {
            return differs("version", &description.version, version);
        }
        Ok(description.version.clone())
    }
}

/// Converts errors of downloads: they are written for the sources of images.
fn of_packages(error: Error) -> Error {
    let is_about_artifacts = error.hint == Some(more_space(keys::ARTIFACTS_DIR));
    match error.stage {
        Stage::Source if !error.retryable => Error { stage: Stage::Plugin, ..error },
        Stage::Disk if is_about_artifacts => {
            error.hint("free some space, or name another directory with --provider-dir")
        }
        _ => error,
    }
}

/// Refuses to replace a version with an older one that the user did not name.
fn check_downgrade(choice: &Choice, wanted: &Wanted, records: &Records) -> Result<()> {
    let Some(before) = records.find(&choice.name).filter(|_| wanted.version.is_none()) else {
        return Ok(());
    };
    if Version::parse(&before.version).is_ok_and(|installed| installed > choice.version) {
        let (name, has, offers) = (&choice.name, &before.version, &choice.version);
        let text =
            format!("`{name}` {has} is installed, the publisher offers {offers} for this host");
        return Err(refused(text).hint(format!(
            "build-image providers install SOURCE {name}@{offers} installs the older version"
        )));
    }
    Ok(())
}

/// Checks what a library's file says about itself, without running it.
fn check_metadata(path: &Path, name: &str) -> Result<()> {
    let file = File::open(path).map_err(|error| {
        Error::new(Stage::Disk, format!("cannot read `{}`", path.display())).caused_by(&error)
    })?;
    let report = Library::inspect(&file, path)?;
    let PluginMetadata { package, .. } = report.metadata.unwrap_or_default();
    tracing::info!(name, package, "the package is a library for this machine");
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    sha256_of_file(path).map_err(|error| match error {
        Unreadable::Failed(error) => error,
        Unreadable::Missing => refused(format!("`{}` is absent", path.display())),
    })
}

pub(super) fn check_sha256(path: &Path, display: &str, expected: &str) -> Result<()> {
    let found = sha256(path)?;
    if found == expected {
        return Ok(());
    }
    let mut error = refused(format!("`{display}` is not the file that was published"));
    error.causes = vec![format!("it has SHA-256 {found}, expected is {expected}")];
    Err(error.hint("fetch it again; when it stays so, ask the publisher"))
}
