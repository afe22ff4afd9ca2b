//! Runs third-party programs around the proxy: a server and a client from Python's standard library.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use build_image_fault_proxy::{Options, Running, start};
use serde_json::{Value, json};

#[expect(clippy::disallowed_methods, reason = "these tests start programs only here")]
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy").join(name)
}

/// A server that ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start(certificate: &[&Path]) -> Self {
        let mut command = program("python3");
        command.arg(script("server.py")).args(certificate).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with a proxy in front of it.
pub(crate) struct Pair {
    pub(crate) proxy: Running,
    _server: Server,
}

impl Pair {
    pub(crate) fn new(rules: &Value) -> Self {
        Self::with(rules, |_| {})
    }

    pub(crate) fn with(rules: &Value, change: impl FnOnce(&mut Options)) -> Self {
        let server = Server::start(&[]);
        let mut options = Options::new(format!("http://127.0.0.1:{}", server.port));
        options.rules = Some(rules.to_string());
        change(&mut options);
        Self { proxy: start(&options).unwrap(), _server: server }
    }

    /// Makes requests `[METHOD, PATH, BODY_BYTES, HEADERS]` with Python's http.client.
    pub(crate) fn python(&self, requests: &[(&str, &str, usize)]) -> Vec<Value> {
        let list: Vec<Value> =
            requests.iter().map(|(method, path, size)| json!([method, path, size, {}])).collect();
        python(&self.proxy, &json!(list))
    }

    /// How often the server has handled a path.
    pub(crate) fn done(&self, path: &str) -> u64 {
        let answer = self.python(&[("GET", "/done", 0)]);
        let counts: Value = serde_json::from_str(answer[0]["text"].as_str().unwrap()).unwrap();
        counts[path].as_u64().unwrap_or_default()
    }
}

pub(crate) fn python(proxy: &Running, requests: &Value) -> Vec<Value> {
    let ca = proxy.ca_file().unwrap_or(Path::new("-"));
    let mut command = program("python3");
    command.arg(script("client.py")).arg(proxy.url()).arg(ca).arg(requests.to_string());
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The answer of the server for `/bytes/N`.
pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index * 7 % 251).unwrap()).collect()
}

/// A reqwest client that trusts the proxy, and a runtime for it.
pub(crate) fn reqwest(proxy: &Running) -> (reqwest::Client, tokio::runtime::Runtime) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pem = std::fs::read(proxy.ca_file().unwrap()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()])
        .build()
        .unwrap();
    (client, tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap())
}
