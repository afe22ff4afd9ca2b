//! Searches the memory of a running build for secrets, from outside. A secret that is no longer needed must be
//! wiped, whoever held it: our own types, parsers, the HTTP client.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::harness::{SECRET, Sandbox, until};

/// Number of bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// Maximum copies of a secret in use: settings, host, redactor, provider.
const MOST: usize = 6;

/// Prefix of a planted secret. Freed memory loses its first bytes to the allocator's own lists, so the searched
/// text comes after this prefix.
const HEAD: &str = "0123456789abcdef0123456789abcdef";

/// A build that waits for the answer to a late request, long after it parsed all its settings.
struct Waiting {
    child: Child,
    _sandbox: Sandbox,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Waiting {
    fn new(sandbox: Sandbox, more: &[&str]) -> Self {
        sandbox.disk("disk.raw", 16, 4);
        let emulator = sandbox.emulator.as_ref().unwrap();
        let late = r#"[{"operation":"ImportImage","action":{"stall_ms":600000}}]"#;
        emulator.set_faults(late).unwrap();
        let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
        let build = sandbox.command(&[&args[..], more].concat());
        // Core dumps as large as this host allows, until the program changes the limit.
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"ulimit -S -c "$(ulimit -H -c)"; exec "$0" "$@""#]);
        shell.arg(build.get_program()).args(build.get_args()).current_dir(sandbox.path());
        shell.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        shell.envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let child = shell.spawn().unwrap();
        until("the import", || emulator.wait_for_fault(Duration::from_millis(1)));
        Self { child, _sandbox: sandbox }
    }

    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.child.id())
    }

    /// How often each of the texts occurs in writable memory. The stack of the first thread is left out: the
    /// kernel puts the command line and the environment there.
    fn count(&self, texts: &[&str]) -> Option<Vec<usize>> {
        let memory = match File::open(self.proc("mem")) {
            Ok(memory) => memory,
            Err(error) => {
                eprintln!("SKIPPED: memory of other processes cannot be read here: {error}");
                return None;
            }
        };
        let longest = texts.iter().map(|word| word.len()).max().unwrap();
        let mut counts = vec![0; texts.len()];
        let mut buffer = vec![0; CHUNK + longest];
        for line in fs::read_to_string(self.proc("maps")).unwrap().lines() {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let special =
                fields.get(5).is_some_and(|name| name.starts_with("[v") || *name == "[stack]");
            if !fields[1].starts_with("rw") || special {
                continue;
            }
            let (start, end) = fields[0].split_once('-').unwrap();
            let [mut at, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
            while at < end {
                let wanted = usize::try_from(end - at).unwrap().min(buffer.len());
                // A mapping that was removed meanwhile holds nothing.
                let count = memory.read_at(&mut buffer[..wanted], at).unwrap_or(0);
                for (word, found) in texts.iter().zip(&mut counts) {
                    let places = buffer[..count].windows(word.len()).enumerate();
                    let new =
                        places.filter(|(place, text)| *place < CHUNK && *text == word.as_bytes());
                    *found += new.count();
                }
                at += CHUNK as u64;
            }
        }
        Some(counts)
    }
}

#[test]
fn memory_holds_no_secret_that_is_no_longer_needed() {
    // On the command line the last of several values counts, and overrides the file.
    let typed = Sandbox::with_cloud();
    typed.write(
        "config.yml",
        &typed.config(&[("ALIBABA_ACCESS_KEY_SECRET", &format!("{HEAD}kanarienvogel-file"))]),
    );
    let flag = "--alibaba-access-key-secret";
    let typed = Waiting::new(typed, &[&format!("{flag}={HEAD}kanarienvogel-typed"), flag, SECRET]);
    // In a file with two profiles, one counts.
    let profiles = Sandbox::with_cloud();
    let text = profiles.config(&[("ALIBABA_PROFILE", "one")]);
    let kept = text.lines().filter(|line| !line.starts_with("ALIBABA_ACCESS_KEY_"));
    profiles.write("config.yml", &kept.map(|line| format!("{line}\n")).collect::<String>());
    let profile = |name: &str, secret: &str| json!({"name": name, "mode": "AK", "access_key_id": "emulator-id", "access_key_secret": secret});
    let both = [profile("one", SECRET), profile("two", &format!("{HEAD}kanarienvogel-profile"))];
    profiles.write(".aliyun/config.json", &json!({"current": "two", "profiles": both}).to_string());
    let profiles = Waiting::new(profiles, &[]);
    for (build, canaries) in [
        (&typed, &["kanarienvogel-file", "kanarienvogel-typed"][..]),
        (&profiles, &["kanarienvogel-profile"]),
    ] {
        let Some(counts) = build.count(&[&[SECRET][..], canaries].concat()) else { return };
        eprintln!("{counts:?} of the secret, {canaries:?}");
        // The secret that is needed must be found: otherwise the search itself does not work.
        assert!((1..=MOST).contains(&counts[0]), "{counts:?} of the secret and {canaries:?}");
        assert!(
            counts[1..].iter().all(|count| *count == 0),
            "{counts:?} of the secret and {canaries:?}"
        );
    }
}

#[test]
fn a_build_leaves_no_core() {
    let build = Waiting::new(Sandbox::with_cloud(), &[]);
    let limits = fs::read_to_string(build.proc("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_ascii_whitespace().nth(4), Some("0"), "{core}");
}
