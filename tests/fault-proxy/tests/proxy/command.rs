//! Checks the program: its output, its control paths, its log, and what it refuses.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{Server, program};

fn proxy() -> Command {
    program(env!("CARGO_BIN_EXE_build-image-fault-proxy"))
}

struct Serving(Child, String, String);

impl Serving {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.next().unwrap().unwrap();
        let ca = lines.next().unwrap().unwrap();
        let url = url.strip_prefix("listening on ").unwrap().to_owned();
        Self(child, url, ca.strip_prefix("CA certificate: ").unwrap().to_owned())
    }

    /// Runs Python with `url` and `context` defined; returns what it prints.
    fn python(&self, text: &str) -> String {
        let text = format!(
            "import json, ssl, urllib.request as r, urllib.error\n\
             url = {:?}\ncontext = ssl.create_default_context(cafile={:?})\n\
             def ask(path, data=None, method='GET'):\n \
             return r.urlopen(r.Request(url + path, data, method=method), context=context).read().decode()\n{text}",
            self.1, self.2
        );
        let output =
            program("python3").args(["-c", &text]).stderr(Stdio::inherit()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn rules_are_changed_and_the_log_is_read_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&[]);
    let log = directory.path().join("log.jsonl");
    let start = || {
        let mut command = proxy();
        command.args(["--upstream", &format!("http://127.0.0.1:{}", server.port), "--seed", "5"]);
        command.arg("--ca-directory").arg(directory.path()).arg("--log").arg(&log);
        command.args(["--rule", r#"{"path": "/bytes/1", "fault": {"status": {"code": 500}}}"#]);
        Serving::start(&mut command)
    };
    let first = start();
    let ca = std::fs::read_to_string(&first.2).unwrap();
    let printed = first.python(
        "try: ask('/bytes/1?secret=abc&part=2')\nexcept urllib.error.HTTPError as e: print(e.code)\n\
         print(json.loads(ask('/_fault-proxy/rules'))['rules'][0]['struck'])\n\
         try: ask('/_fault-proxy/rules', b'[{}]', 'PUT')\nexcept urllib.error.HTTPError as e: print(e.read().decode())\n\
         ask('/_fault-proxy/rules', b'[]', 'PUT')\n\
         print(len(ask('/bytes/1')))\nprint(ask('/_fault-proxy/log'))\n",
    );
    let lines: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines[..2], ["500", "1"], "{printed}");
    assert!(lines[2].contains("rule 1: missing field `fault`"), "{printed}");
    assert_eq!(lines[3], "1");
    let entries: Vec<Value> =
        lines[4..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["query"], serde_json::json!(["secret", "part"]));
    let file = std::fs::read_to_string(&log).unwrap();
    assert_eq!(file.lines().collect::<Vec<_>>(), lines[4..]);
    assert!(!file.contains("abc"), "values of parameters are not logged: {file}");
    drop(first);
    let second = start();
    assert_eq!(std::fs::read_to_string(&second.2).unwrap(), ca, "the CA is kept");
}

#[test]
fn misuse_is_one_clear_line() {
    let upstream = ["--upstream", "http://127.0.0.1:1"];
    for (arguments, part) in [
        (vec!["--upstream", "nowhere"], "`nowhere` is not a server"),
        (vec!["--listen", "0.0.0.0:0"], "not a loopback address"),
        (vec!["--rules", "/missing"], "`/missing`"),
        (vec!["--rule", "{"], "`--rule` is not JSON"),
        (vec!["--rule", r#"{"fault": "explode"}"#], "unknown variant `explode`"),
        (vec!["--tls-name", "*"], "`*` is not a DNS name"),
        (vec!["--log", "/missing/log"], "`/missing/log`"),
    ] {
        let upstream = if arguments[0] == "--upstream" { &[][..] } else { &upstream };
        let output = proxy().args(upstream).args(&arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(stderr.starts_with("error: ") && stderr.contains(part), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
