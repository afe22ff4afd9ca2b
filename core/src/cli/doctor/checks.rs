//! Defines the checks of `doctor`: one function each, and a table of them.

use std::{
    fs,
    net::{TcpStream, ToSocketAddrs as _},
    path::Path,
    time::{Duration, SystemTime},
};

use build_image_disk::qemu::{Accel, Qemu};

use super::ca_certificates;
use crate::{
    clock,
    error::Result,
    install::choose_accel,
    plugins::Loader,
    settings::{Environment, Key, Resolved, keys},
};

/// The input of the checks.
pub(super) struct Host<'a> {
    pub(super) settings: &'a Resolved,
    pub(super) environment: &'a Environment,
    pub(super) loader: Loader,
    pub(super) qemu: Result<Qemu>,
}

/// The verdict of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// Builds work, but with limitations.
    Warn,
    /// Some builds cannot work.
    Fail,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) message: String,
    pub(super) remedy: Option<String>,
}

/// One check.
pub(super) type Check = fn(&Host<'_>) -> Vec<Finding>;

/// All checks, in the order of the report.
pub(super) const CHECKS: [(&str, Check); 8] = [
    ("qemu", qemu),
    ("acceleration", acceleration),
    ("memory", memory),
    ("disk space", disk_space),
    ("providers", providers),
    ("proxy", proxies),
    ("CA certificates", ca_certificates::check),
    ("clock", clock),
];

const GIB: u64 = 1 << 30;
/// Maximum that an installation and its image may occupy together, bytes; with less free space a build may fail.
const AMPLE: u64 = 20 * GIB;
/// An installed disk does not fit into less, bytes.
const SCARCE: u64 = 5 * GIB;
/// Memory needed in addition to the guest's, for qemu and this program, bytes.
const BESIDE: u64 = GIB / 2;
/// A proxy that does not accept a connection within this time is reported as unusable.
const PROXY_LIMIT: Duration = Duration::from_secs(3);
/// Variables that name a proxy.
pub(super) const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

pub(super) fn good(message: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Ok, message: message.into(), remedy: None }
}

pub(super) fn bad(
    verdict: Verdict,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { verdict, message: message.into(), remedy: Some(remedy.into()) }
}

fn qemu(host: &Host<'_>) -> Vec<Finding> {
    vec![match &host.qemu {
        Ok(qemu) => {
            let confined =
                if qemu.has_sandbox() { "" } else { ", cannot confine itself (seccomp)" };
            good(format!("{} {}{confined}", qemu.path().display(), qemu.version()))
        }
        Err(error) => {
            // Builds from disk images need no qemu.
            let is_named = host.settings.core().machine.qemu.is_some();
            bad(
                if is_named { Verdict::Fail } else { Verdict::Warn },
                format!("{}: installing ISOs and boot tests need it", error.message),
                error.hint.clone().unwrap_or_default(),
            )
        }
    }]
}

fn acceleration(host: &Host<'_>) -> Vec<Finding> {
    let Ok(qemu) = &host.qemu else {
        return vec![bad(Verdict::Warn, "not tried without qemu", "install qemu")];
    };
    let setting = host.settings.core().machine.accel.as_str();
    vec![match choose_accel(setting, qemu) {
        Ok(verdict) => {
            let age = verdict.remembered.map(|age| format!(" (remembered for {})", ago(age)));
            let text = format!("{}: {}{}", verdict.accel, verdict.reason, age.unwrap_or_default());
            if verdict.accel == Accel::Kvm || setting != "auto" {
                good(text)
            } else {
                bad(
                    Verdict::Warn,
                    text,
                    "installing works, but some ten times slower; use a host where guests run under kvm, and give your user the right to open /dev/kvm; try again with --refresh",
                )
            }
        }
        Err(error) => bad(Verdict::Fail, error.message, error.hint.unwrap_or_default()),
    }]
}

fn ago(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn memory(host: &Host<'_>) -> Vec<Finding> {
    let facts = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
    let required = host.settings.core().machine.memory;
    vec![judge_memory(&facts, &limit, required)]
}

fn judge_memory(facts: &str, limit: &str, required: u64) -> Finding {
    let kib = |name: &str| {
        let line = facts.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    let (Some(total), Some(available)) = (kib("MemTotal"), kib("MemAvailable")) else {
        return good("this system does not say how much memory it has");
    };
    let limit = limit.trim().parse::<u64>().unwrap_or(u64::MAX);
    let (total, available) = ((total << 10).min(limit), (available << 10).min(limit));
    let text = format!(
        "{} available of {}, the installing machine gets {}",
        gib(available),
        gib(total),
        gib(required)
    );
    let verdict = if total < required + BESIDE {
        Verdict::Fail
    } else if available < required + BESIDE {
        Verdict::Warn
    } else {
        return good(text);
    };
    bad(
        verdict,
        text,
        "end other programs, or give it less with --qemu-memory (1GiB is enough for most ISOs)",
    )
}

fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / GIB;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn disk_space(host: &Host<'_>) -> Vec<Finding> {
    let set = &host.settings.core().publication;
    let directories = [(keys::ARTIFACTS_DIR, set.artifacts()), (keys::IMAGE_DIR, set.images())];
    let judge = |(key, directory): (Key, &Path)| {
        let absolute = std::path::absolute(directory);
        judge_directory(key, absolute.as_deref().unwrap_or(directory))
    };
    directories.map(judge).into()
}

fn judge_directory(key: Key, directory: &Path) -> Finding {
    let display = directory.display();
    let elsewhere = format!("set {key} to another directory");
    let Some(existing) = directory.ancestors().find(|path| path.exists()) else {
        return bad(Verdict::Fail, format!("{key} {display}: no part of it exists"), elsewhere);
    };
    if !existing.is_dir() || rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).is_err() {
        let text = format!(
            "{key} {display}: `{}` is not a directory that you may write to",
            existing.display()
        );
        return bad(Verdict::Fail, text, elsewhere);
    }
    match rustix::fs::statvfs(existing) {
        Ok(facts) => judge_space(key, &display.to_string(), facts.f_bavail * facts.f_frsize),
        Err(error) => bad(Verdict::Warn, format!("{key} {display}: {error}"), elsewhere),
    }
}

fn judge_space(key: Key, directory: &str, free: u64) -> Finding {
    let text = format!("{key} {directory}: {} free", gib(free));
    let remedy =
        format!("free some space or set {key} to a larger file system; {} are ample", gib(AMPLE));
    match free {
        AMPLE.. => good(text),
        SCARCE..AMPLE => bad(Verdict::Warn, text, remedy),
        _ => bad(Verdict::Fail, text, remedy),
    }
}

fn providers(host: &Host<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut previous = None;
    for candidate in host.loader.search.all() {
        let shadowed = previous.as_ref() == Some(&candidate.name);
        previous = Some(candidate.name.clone());
        let path = candidate.path.display();
        found.push(match host.loader.ask(&candidate) {
            Ok(plugin) if shadowed => good(format!("{} {path}: another one is used", plugin.name)),
            Ok(plugin) => good(format!("{} {} {path}", plugin.name, plugin.description().version)),
            Err(error) => bad(
                if shadowed { Verdict::Warn } else { Verdict::Fail },
                error.message,
                error.hint.unwrap_or_else(|| format!("remove `{path}`")),
            ),
        });
    }
    if found.is_empty() {
        let directories: Vec<String> = host
            .loader
            .search
            .directories()
            .iter()
            .map(|directory| directory.display().to_string())
            .collect();
        found.push(bad(
            Verdict::Fail,
            format!("there is no plugin in {}", directories.join(", ")),
            "install one with `build-image providers install`, or name its directory with --provider-dir",
        ));
    }
    found
}

fn proxies(host: &Host<'_>) -> Vec<Finding> {
    let set = PROXIES.iter().filter_map(|name| Some((*name, host.environment.get(name)?)));
    let mut found: Vec<Finding> = set.map(|(name, text)| judge_proxy(name, text)).collect();
    if found.is_empty() {
        found.push(good("none is set, connections go out directly"));
    }
    found
}

/// Checks a proxy. The part before the host may contain a password and is not shown.
fn judge_proxy(name: &str, text: &str) -> Finding {
    let Some((host, port)) = proxy_address(text) else {
        return bad(
            Verdict::Fail,
            format!("{name} is set, but not to http://host:port"),
            format!("correct or unset {name}"),
        );
    };
    let proxy = format!("{name} {host}:{port}");
    let addresses = (host, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    let connected = addresses.and_then(|addresses| {
        let missing = std::io::Error::other("its name has no address");
        let mut tried = addresses.iter().map(|to| TcpStream::connect_timeout(to, PROXY_LIMIT));
        tried.find(Result::is_ok).unwrap_or(Err(missing))
    });
    match connected {
        Ok(_) => good(proxy),
        Err(error) => bad(
            Verdict::Fail,
            format!("{proxy} takes no connection: {error}"),
            format!("correct or unset {name}"),
        ),
    }
}

/// Returns host and port of `http://user:password@host:port/`.
fn proxy_address(text: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let authority = rest.split(['/', '?', '#']).next()?;
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let usual = match scheme.to_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        "socks5" | "socks5h" | "socks4" | "socks4a" => 1080,
        _ => return None,
    };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (address, usual),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let legal = !host.is_empty() && !host.contains([' ', '@']);
    legal.then_some((host, port))
}

/// Checks the clock: clouds refuse requests whose time is off by some minutes.
fn clock(_host: &Host<'_>) -> Vec<Finding> {
    let program = std::env::current_exe().and_then(fs::metadata);
    let made = program.and_then(|program| program.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let now = clock::now();
    vec![if made.elapsed().is_err() {
        let text = format!("it says {now}, which is before this program was made");
        bad(
            Verdict::Fail,
            text,
            "set the clock, best by NTP: clouds refuse requests of another time",
        )
    } else if Path::new("/run/systemd/timesync/synchronized").exists() {
        good(format!("{now}, synchronised"))
    } else {
        good(now)
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_judged_by_total_and_free_memory() {
        let facts = |total: u64, available: u64| {
            let (total, available) = (total << 20, available << 20);
            format!("MemTotal:  {total} kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n")
        };
        for (facts, limit, verdict) in [
            (facts(8, 4), "max\n", Verdict::Ok),
            (facts(8, 2), "max", Verdict::Warn),
            (facts(2, 2), "", Verdict::Fail),
            (facts(8, 8), "2147483648\n", Verdict::Fail),
            ("nonsense".to_owned(), "", Verdict::Ok),
        ] {
            let finding = judge_memory(&facts, limit, 2 * GIB);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert_eq!(finding.remedy.is_some(), verdict != Verdict::Ok);
        }
    }

    #[test]
    fn space_is_ample_scarce_or_too_little() {
        for (free, verdict) in [
            (AMPLE, Verdict::Ok),
            (AMPLE - 1, Verdict::Warn),
            (SCARCE, Verdict::Warn),
            (SCARCE - 1, Verdict::Fail),
        ] {
            assert_eq!(judge_space(keys::IMAGE_DIR, "/x", free).verdict, verdict, "{free}");
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let finding = judge_directory(keys::IMAGE_DIR, &file.join("below"));
        assert!(finding.message.contains("not a directory that you may write to"), "{finding:?}");
        assert_ne!(
            judge_directory(keys::IMAGE_DIR, &directory.path().join("a/b")).message,
            finding.message
        );
    }

    #[test]
    fn proxies_are_reported_without_their_passwords() {
        for (text, address) in [
            ("http://user:secret@proxy.local:3128/", Some(("proxy.local", 3128))),
            ("https://proxy.local", Some(("proxy.local", 443))),
            ("proxy.local:8080", Some(("proxy.local", 8080))),
            ("socks5h://[::1]:1081", Some(("::1", 1081))),
            ("http://[::1]", Some(("::1", 80))),
            ("ftp://proxy.local", None),
            ("http://", None),
            ("http://proxy.local:port", None),
        ] {
            assert_eq!(proxy_address(text), address, "{text}");
        }
        let finding = judge_proxy("HTTPS_PROXY", "http://user:secret@:1");
        assert!(finding.verdict == Verdict::Fail && !finding.message.contains("secret"));
    }

    #[test]
    fn ages_are_printed_in_a_fitting_unit() {
        for (seconds, text) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (86_400, "24 h")] {
            assert_eq!(ago(Duration::from_secs(seconds)), text);
        }
    }
}
