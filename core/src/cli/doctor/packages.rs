//! Maps missing needs to packages: a table of systems and a table of needs. This file runs nothing.

use std::path::PathBuf;

use super::{ca_certificates, checks::Host};
use crate::{cli::os_release::OsRelease, settings::Environment};

/// A family of systems with one package manager.
struct System {
    /// Identifiers from os-release(5): `ID` or `ID_LIKE`.
    ids: &'static [&'static str],
    /// Its package manager.
    manager: &'static str,
    /// Commands that are run in order; the packages are appended to the last one. No command is interactive.
    commands: &'static [&'static [&'static str]],
}

/// Environment of apt-get: some packages of Ubuntu prompt in spite of `-y`.
const SILENT: &str = "DEBIAN_FRONTEND=noninteractive";

const SYSTEMS: [System; 3] = [
    System {
        ids: &["debian", "ubuntu"],
        manager: "apt-get",
        // A container image has no package lists.
        commands: &[
            &["env", SILENT, "apt-get", "update"],
            &["env", SILENT, "apt-get", "install", "-y", "--no-install-recommends"],
        ],
    },
    System { ids: &["fedora"], manager: "dnf", commands: &[&["dnf", "install", "-y"]] },
    System { ids: &["alpine"], manager: "apk", commands: &[&["apk", "add", "--update-cache"]] },
];

/// Systems whose `ID_LIKE` names one of the above, but which have other packages: their qemu is a `qemu-kvm` outside
/// PATH.
const UNLIKE: [&str; 1] = ["rhel"];

/// A requirement of a check that packages provide.
struct Need {
    /// The check.
    subject: &'static str,
    is_missing: fn(&Host<'_>) -> bool,
    /// Packages by system, in the order of [`SYSTEMS`].
    packages: [&'static [&'static str]; 3],
}

const NEEDS: [Need; 2] = [
    Need {
        subject: "qemu",
        // A program that a setting names must exist at that path; no package can provide it.
        is_missing: |host| host.qemu.is_err() && host.settings.core().machine.qemu.is_none(),
        packages: [
            // One command installs both: on Debian, installing the first alone may remove the second of another
            // version.
            &["qemu-system-x86", "qemu-utils"],
            &["qemu-system-x86", "qemu-img"],
            &["qemu-system-x86_64", "qemu-img"],
        ],
    },
    Need {
        subject: "CA certificates",
        is_missing: |host| ca_certificates::are_missing(host.environment),
        packages: [&["ca-certificates"], &["ca-certificates"], &["ca-certificates"]],
    },
];

/// Returns the subjects of the checks that lack something a package provides.
pub(super) fn missing(host: &Host<'_>) -> Vec<&'static str> {
    NEEDS.iter().filter(|need| (need.is_missing)(host)).map(|need| need.subject).collect()
}

/// How commands are run as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    Root,
    Sudo,
    /// Not possible; the user runs them.
    None,
}

impl Rights {
    /// Returns the rights of this process.
    pub(super) fn here(environment: &Environment) -> Self {
        if rustix::process::geteuid().is_root() {
            Self::Root
        } else if find("sudo", environment).is_some() {
            Self::Sudo
        } else {
            Self::None
        }
    }
}

/// Finds a program on PATH.
pub(super) fn find(program: &str, environment: &Environment) -> Option<PathBuf> {
    environment.for_children().find(program)
}

/// Returns the package manager of a system, and the commands that install what `subjects` lack; no commands on a
/// system whose packages are unknown.
pub(super) fn commands(
    system: &OsRelease,
    subjects: &[&str],
    rights: Rights,
) -> Option<(&'static str, Vec<Vec<&'static str>>)> {
    let ids = system.ids();
    if ids.iter().any(|id| UNLIKE.contains(id)) {
        return None;
    }
    let column_of = |id: &&str| SYSTEMS.iter().position(|system| system.ids.contains(id));
    let column = ids.iter().find_map(column_of)?;
    let needs = NEEDS.iter().filter(|need| subjects.contains(&need.subject));
    let packages: Vec<&str> = needs.flat_map(|need| need.packages[column]).copied().collect();
    let System { manager, commands, .. } = &SYSTEMS[column];
    let prefix: &[&str] = if rights == Rights::Sudo { &["sudo"] } else { &[] };
    let mut commands: Vec<Vec<&str>> =
        commands.iter().map(|command| [prefix, command].concat()).collect();
    commands.last_mut()?.extend(packages);
    Some((manager, commands))
}

/// Formats commands as one line for a shell.
pub(super) fn line(commands: &[Vec<&str>]) -> String {
    commands.iter().map(|command| command.join(" ")).collect::<Vec<_>>().join(" && ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::checks::CHECKS;

    const APT: &str = "env DEBIAN_FRONTEND=noninteractive apt-get";

    fn install_line(os_release: &str, subjects: &[&str], rights: Rights) -> Option<String> {
        let found = commands(&OsRelease::of(os_release), subjects, rights);
        found.map(|(_, commands)| line(&commands))
    }

    #[test]
    fn every_system_has_its_own_command() {
        let apt = format!(
            "{APT} update && {APT} install -y --no-install-recommends qemu-system-x86 qemu-utils"
        );
        for (os_release, expected) in [
            ("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n", Some(apt.as_str())),
            ("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n", Some(&apt)),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Some(&apt)),
            ("ID=fedora\nVERSION_ID=42\n", Some("dnf install -y qemu-system-x86 qemu-img")),
            ("ID='alpine'\n", Some("apk add --update-cache qemu-system-x86_64 qemu-img")),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", None),
            ("ID=\"rhel\"\nID_LIKE=\"fedora\"\n", None),
            ("ID=arch\n", None),
            ("", None),
        ] {
            assert_eq!(install_line(os_release, &["qemu"], Rights::Root).as_deref(), expected);
        }
    }

    #[test]
    fn only_missing_packages_are_installed_and_by_root() {
        let fedora = "ID=fedora";
        for (subjects, rights, expected) in [
            (&["CA certificates"][..], Rights::Root, "dnf install -y ca-certificates"),
            (&["qemu"], Rights::Sudo, "sudo dnf install -y qemu-system-x86 qemu-img"),
            (
                &["qemu", "CA certificates"],
                Rights::None,
                "dnf install -y qemu-system-x86 qemu-img ca-certificates",
            ),
        ] {
            assert_eq!(install_line(fedora, subjects, rights).as_deref(), Some(expected));
        }
        let debian = install_line("ID=debian", &["CA certificates"], Rights::Sudo).unwrap();
        assert_eq!(debian.matches(&format!("sudo {APT}")).count(), 2, "{debian}");
    }

    #[test]
    fn every_need_belongs_to_a_check() {
        for need in &NEEDS {
            assert!(CHECKS.iter().any(|(subject, _)| *subject == need.subject), "{}", need.subject);
        }
    }
}
