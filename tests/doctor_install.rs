//! Checks `build-image doctor --install` with package managers that only record their arguments.

use std::{fs, io::Write as _, os::unix::fs::symlink, path::Path, process::Stdio};

use serde_json::Value;

use crate::harness::{Run, Sandbox};

/// A value that must never reach a package manager.
const SECRET: &str = "hunter2";

/// A host of one family without qemu: PATH holds a single directory, which the test fills.
struct Host {
    sandbox: Sandbox,
    tools: tempfile::TempDir,
    os_release: String,
}

/// The stand-in records its arguments and the names of its variables; then it runs `last`.
fn manager(last: &str) -> String {
    format!(
        "#!/bin/sh\nfolder=${{0%/*}}\necho \"${{0##*/}} $*\" >>\"$folder/calls\"\n\
         /usr/bin/env >>\"$folder/seen\"\necho 'said by the manager'\n{last}\n"
    )
}

/// Provides a qemu that answers queries.
const BRINGS_QEMU: &str = "case \"$*\" in *qemu-system*)\n\
    echo '#!/bin/sh\ncase $1 in -version) echo QEMU emulator version 9.9.9;; esac' >\"$folder/qemu-system-x86_64\"\n\
    /bin/chmod 755 \"$folder/qemu-system-x86_64\";; esac";

impl Host {
    fn new(os_release: &str, tools: &[(&str, &str)]) -> Self {
        let sandbox = Sandbox::new();
        let os_release = sandbox.write("os-release", os_release).display().to_string();
        let host = Self { sandbox, tools: tempfile::tempdir().unwrap(), os_release };
        symlink("/usr/bin/env", host.tools.path().join("env")).unwrap();
        // A user without privileges needs sudo; this one passes its arguments through.
        host.put("sudo", "#!/bin/sh\nexec \"$@\"\n");
        tools.iter().for_each(|(name, last)| host.put(name, &manager(last)));
        host
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.tools.path().join(name);
        // Closed by another process: a descriptor of this process could still be open for writing in a child that
        // another test is starting, and the program could not be executed.
        let script = format!("cat >'{0}' && chmod 755 '{0}'", path.display());
        let mut shell = std::process::Command::new("sh");
        let mut child = shell.args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn doctor(&self, args: &[&str]) -> Run {
        let mut command = self.sandbox.command(&[&["doctor", "--install"], args].concat());
        command.env("PATH", self.tools.path()).env("SYSTEMD_OS_RELEASE", &self.os_release);
        command.env("SSL_CERT_FILE", self.certificate()).env("F5_TOKEN", SECRET);
        command.env("ALIBABA_ACCESS_KEY_SECRET", SECRET).env("NO_PROXY", "*");
        Run::of(&command.output().unwrap(), None)
    }

    /// Whether this machine has CA certificates does not matter here.
    fn certificate(&self) -> String {
        let text = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        self.sandbox.write("authority.pem", text).display().to_string()
    }

    fn calls(&self) -> String {
        read(&self.tools.path().join("calls"))
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// os-release, the package manager, and the expected arguments.
const FAMILIES: [(&str, &str, &str); 3] = [
    (
        "ID=ubuntu\nID_LIKE=debian\n",
        "apt-get",
        "apt-get update\napt-get install -y --no-install-recommends qemu-system-x86 qemu-utils\n",
    ),
    ("ID=fedora\n", "dnf", "dnf install -y qemu-system-x86 qemu-img\n"),
    ("ID=alpine\n", "apk", "apk add --update-cache qemu-system-x86_64 qemu-img\n"),
];

#[test]
fn what_is_missing_is_installed_and_looked_at_again() {
    for (os_release, name, calls) in FAMILIES {
        let host = Host::new(os_release, &[(name, BRINGS_QEMU)]);
        let run = host.doctor(&["--yes"]);
        assert_eq!(host.calls(), calls, "{}", run.stderr);
        let verdicts =
            run.stdout.lines().filter(|line| line.split_whitespace().nth(1) == Some("qemu"));
        let verdicts: Vec<&str> = verdicts.map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(verdicts, ["warn", "ok"], "{}", run.stdout);
        let printed = calls.lines().all(|call| run.stdout.contains(call));
        assert!(printed && run.stdout.contains("9.9.9"), "{}", run.stdout);
        assert!(run.stderr.contains("said by the manager"), "{}", run.stderr);
        let seen = read(&host.tools.path().join("seen"));
        assert!(!seen.contains(SECRET) && seen.contains("NO_PROXY=*"), "{seen}");
        // An installed package is not installed again.
        let run = host.doctor(&["--yes"]);
        assert!(run.stdout.contains("nothing is missing that a package brings"), "{}", run.stdout);
        assert_eq!(host.calls(), calls);
    }
}

#[test]
fn nothing_is_installed_without_consent() {
    for (os_release, name, calls) in FAMILIES {
        let host = Host::new(os_release, &[(name, BRINGS_QEMU)]);
        let run = host.doctor(&[]);
        run.failed(1, &["standard input is not a terminal", "add --yes, or run: "]);
        assert!(calls.lines().all(|call| run.stdout.contains(call)), "{}", run.stdout);
        assert_eq!(host.calls(), "");
        let run = host.doctor(&["--json"]);
        let document: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!((&document["ready"], run.code), (&Value::Bool(true), 1));
        assert_eq!(document["installation"]["ending"], "failed");
        let command = document["installation"]["command"].as_str().unwrap();
        assert!(calls.lines().all(|call| command.contains(call)), "{command}");
    }
}

#[test]
fn what_cannot_be_installed_is_reported() {
    let debian = "ID=debian\n";
    for (os_release, tools, texts) in [
        ("ID=arch\nPRETTY_NAME='Arch Linux'\n", &[][..], ["packages of Arch Linux", "by hand"]),
        ("ID=rocky\nID_LIKE='rhel fedora'\n", &[("dnf", "")], ["packages of this", "by hand"]),
        (debian, &[], ["`apt-get` is not on PATH", "by hand"]),
        (debian, &[("apt-get", "exit 100")], ["apt-get update` failed: exit", "100"]),
    ] {
        let host = Host::new(os_release, tools);
        host.doctor(&["--yes"]).failed(1, &texts);
        let expected =
            if tools.is_empty() || os_release != debian { "" } else { "apt-get update\n" };
        assert_eq!(host.calls(), expected);
    }
    // It reports success, but installed nothing.
    let host = Host::new(debian, &[("apt-get", "")]);
    let run = host.doctor(&["--yes", "--json"]);
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["installation"]["ending"], "installed");
    assert_eq!((&document["ready"], run.code), (&Value::Bool(true), 1), "{document:#}");
    let run = host.sandbox.run(&["doctor", "--yes"]);
    run.failed(2, &["--install"]);
}
