//! Checks which CA certificates TLS trusts: those of the system, as the TLS library finds them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::checks::{Finding, Host, Verdict, bad, good};
use crate::settings::Environment;

/// Files in which systems keep all certificates; the first existing file is used.
const FILES: [&str; 5] = [
    // Debian, Ubuntu, Alpine.
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora.
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    // openSUSE.
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// First line of a certificate in a file (RFC 7468).
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// Returns the paths that the environment names in place of the system's.
fn named(environment: &Environment) -> Option<(&'static str, Vec<PathBuf>)> {
    let split = |list: &str| std::env::split_paths(list).collect();
    let file = environment.get("SSL_CERT_FILE").map(|file| vec![PathBuf::from(file)]);
    let directories = || environment.get("SSL_CERT_DIR").map(split);
    file.map(|file| ("SSL_CERT_FILE", file))
        .or_else(|| directories().map(|directories| ("SSL_CERT_DIR", directories)))
}

/// Counts the certificates in a file, or in the files of a directory.
fn count(path: &Path) -> usize {
    if path.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        return entries.map(|entry| entry.path()).filter(|path| path.is_file()).count();
    }
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).matches(BEGIN).count()
}

fn of_the_system() -> Option<(&'static str, usize)> {
    let mut found = FILES.iter().map(|file| (*file, count(Path::new(file))));
    found.find(|(_, count)| *count > 0)
}

/// Returns whether the system has no CA certificates and the environment names none.
pub(super) fn are_missing(environment: &Environment) -> bool {
    named(environment).is_none() && of_the_system().is_none()
}

/// Runs the check.
pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    vec![match named(host.environment) {
        Some((variable, paths)) => judge_named(variable, &paths),
        None => of_the_system().map_or_else(none, |(file, count)| good(describe(file, count))),
    }]
}

fn judge_named(variable: &str, paths: &[PathBuf]) -> Finding {
    let sum: usize = paths.iter().map(|path| count(path)).sum();
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let source = format!("{variable} {}", paths.join(":"));
    if sum > 0 {
        return good(describe(&source, sum));
    }
    let text = format!("{source}: there is no certificate");
    bad(Verdict::Fail, text, format!("correct or unset {variable}"))
}

fn describe(source: &str, count: usize) -> String {
    format!("{source}: {count} certificate{}", if count == 1 { "" } else { "s" })
}

fn none() -> Finding {
    bad(
        Verdict::Fail,
        "this system has no CA certificates, so no TLS server can be verified",
        "install the package ca-certificates, as build-image doctor --install does, or name a file in SSL_CERT_FILE",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_overrides_the_systems_certificates() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.pem");
        fs::write(&file, format!("{BEGIN}\nAA==\n-----END CERTIFICATE-----\n").repeat(2)).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let absent = text(&directory.path().join("absent"));
        for (variable, value, verdict, ending) in [
            ("SSL_CERT_FILE", text(&file), Verdict::Ok, "2 certificates"),
            ("SSL_CERT_DIR", text(directory.path()), Verdict::Ok, "1 certificate"),
            ("SSL_CERT_FILE", absent.clone(), Verdict::Fail, "there is no certificate"),
            ("SSL_CERT_DIR", absent.clone(), Verdict::Fail, "there is no certificate"),
        ] {
            let environment = Environment::of([(variable, &value)]);
            assert!(!are_missing(&environment));
            let (variable, paths) = named(&environment).unwrap();
            let finding = judge_named(variable, &paths);
            assert!(finding.verdict == verdict && finding.message.ends_with(ending), "{finding:?}");
        }
    }
}
