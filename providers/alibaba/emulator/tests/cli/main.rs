//! Tests the program itself: its output, its exit, and its commands that read a state directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]
#![forbid(unsafe_code)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

#[expect(clippy::disallowed_methods, reason = "all processes of these tests are started here")]
fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_build-image-emulator-alibaba"))
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

/// A serving emulator with its address; killed when a test fails.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(state: &Path, more: &[&str]) -> Self {
        let mut child = program()
            .args(["serve", "--bucket", "demo", "--state"])
            .arg(state)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, address }
    }

    fn signal(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_prints_its_address_serves_and_shuts_down_cleanly() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("address");
    let state = directory.path().join("state");
    let more = ["--print-address-to", file.to_str().unwrap()];
    for signal in [Signal::TERM, Signal::INT] {
        let serving = Serving::start(&state, &more);
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!(written.trim(), format!("http://{}", serving.address));
        let mut stream = TcpStream::connect(&serving.address).unwrap();
        stream
            .write_all(
                b"GET /_emulator/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            )
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"buckets\":1"),
            "{answer}"
        );
        assert_eq!(serving.signal(signal), Some(0));
    }
    let state = state.to_str().unwrap();
    let status = run(&["status", "--state", state]);
    let counts: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&counts["buckets"], &counts["images"]), (&1.into(), &0.into()));
    let images = run(&["images", "--state", state]);
    assert!(images.status.success() && images.stdout.is_empty());
}

#[test]
fn with_tls_it_prints_an_https_url_and_where_the_ca_certificate_is() {
    let directory = tempfile::tempdir().unwrap();
    let address = directory.path().join("address");
    for relative in [None, Some("for-clients.pem")] {
        let mut command = program();
        command.args(["serve", "--in-memory", "--tls", "--print-address-to"]).arg(&address);
        command.current_dir(directory.path());
        if let Some(file) = relative {
            command.args(["--ca-file", file]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.next().unwrap().unwrap();
        let ca = lines.next().unwrap().unwrap();
        let page = lines.next().unwrap().unwrap();
        let url = url.strip_prefix("listening on ").unwrap();
        assert!(url.starts_with("https://127.0.0.1:"), "{url}");
        assert_eq!(page, format!("web page: {url}/_emulator/"));
        assert_eq!(std::fs::read_to_string(&address).unwrap().trim(), url);
        let file = Path::new(ca.strip_prefix("CA certificate: ").unwrap());
        assert!(file.is_absolute(), "{file:?}");
        assert!(std::fs::read_to_string(file).unwrap().contains("BEGIN CERTIFICATE"));
        if let Some(name) = relative {
            assert!(directory.path().join(name).exists());
        }
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

/// The page answers to this machine only, which reaches an emulator on all addresses by the one of loopback.
#[test]
fn it_prints_the_address_of_its_page() {
    for (listen, host) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1")] {
        let mut command = program();
        command.args(["serve", "--in-memory", "--listen-anywhere-insecure", "--listen", listen]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap().rsplit(':').next().unwrap().to_owned();
        let page = lines.next().unwrap().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(page, format!("web page: http://{host}:{port}/_emulator/"));
        assert!(lines.next().is_none());
    }
}

#[test]
fn misuse_is_one_clear_line() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let state = state.to_str().unwrap();
    let rules = directory.path().join("rules.json");
    std::fs::write(&rules, "[{\"operation\":\"*\",\"action\":\"explode\"}]").unwrap();
    let rules = rules.to_str().unwrap();
    for (arguments, needle) in [
        (vec!["serve", "--in-memory", "--listen", "0.0.0.0:0"], "not a loopback address"),
        (vec!["serve", "--in-memory", "--fault", rules], "\"explode\""),
        (vec!["serve", "--in-memory", "--fault", "/none"], "`/none`"),
        (vec!["serve", "--in-memory", "--fault-rule", "{"], "`--fault-rule`"),
        (
            vec!["serve", "--in-memory", "--fault-rule", "{\"operation\":\"*\",\"action\":1}"],
            "rule 1",
        ),
        (
            vec!["serve", "--in-memory", "--tls", "--ca-file", rules],
            "was not written by this program",
        ),
        (vec!["serve", "--in-memory", "--tls", "--tls-name", "*.x"], "`*.x`"),
        (vec!["status", "--state", state], "lock"),
    ] {
        let output = run(&arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(needle), "{stderr}");
        assert!(output.stdout.is_empty());
    }
    let usage = run(&["serve", "--in-memory", "--bucket", "A"]);
    assert!(String::from_utf8(usage.stderr).unwrap().contains("no bucket name"));
}

#[test]
fn leaving_loopback_prints_a_warning() {
    let mut child = program()
        .args(["serve", "--in-memory", "--listen", "0.0.0.0:0", "--listen-anywhere-insecure"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("warning: `0.0.0.0:") && line.contains("other machines"), "{line}");
}

#[test]
fn rules_in_words_are_in_force_from_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let rule = r#"{"operation":"ListBuckets","action":"throttle"}"#;
    let serving =
        Serving::start(&directory.path().join("state"), &["--port", "0", "--fault-rule", rule]);
    let mut stream = TcpStream::connect(&serving.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("TotalQpsLimit"), "{answer}");
    assert_eq!(serving.signal(Signal::TERM), Some(0));
}
