//! Serves AWS for tests, once for all tests of a run: moto behind a strict front, with an account for each test.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::process::{CommandExt as _, parent_id},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::{Value, json};

use super::{locked, needs, root, target_directory};

/// The server; it ends with the process that runs the tests.
pub(crate) struct Aws {
    /// What `tests/aws/serve` printed.
    described: Value,
}

impl Aws {
    /// The server of this run of tests. `None`: what it needs is not installed; reports that as [`needs`] does.
    #[track_caller]
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Aws> = OnceLock::new();
        if !needs(&["python3", "qemu-img"]) {
            return None;
        }
        let cache = target_directory().join("aws");
        let entries = fs::read_dir(&cache).into_iter().flatten().map(Result::unwrap);
        if !entries.map(|entry| entry.path()).any(|path| path.join(".complete").exists()) {
            let text = "SKIPPED: moto is not installed; run tests/install-tools aws";
            assert!(std::env::var_os("BUILD_IMAGE_NO_SKIP").is_none(), "{text}");
            eprintln!("{text}");
            return None;
        }
        Some(SHARED.get_or_init(|| Self::of_this_run(&cache)))
    }

    /// The processes of a run of nextest, which starts one per test, share a server that ends with nextest. Otherwise
    /// it ends with this process.
    fn of_this_run(cache: &Path) -> Self {
        let run = std::env::var("NEXTEST_RUN_ID").ok();
        let until = if run.is_some() { parent_id() } else { std::process::id() };
        let file = cache.join(format!("{}.json", run.as_ref().unwrap_or(&until.to_string())));
        let _one = locked("aws");
        if run.is_none() || !file.exists() {
            start(cache, &file, until);
        }
        Self { described: serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap() }
    }

    /// A text of the description.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.described[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.described))
    }

    /// The address of all services.
    pub(crate) fn url(&self) -> &str {
        self.text("url")
    }

    /// Sends a request to the server itself; see `tests/aws/README.md`.
    #[track_caller]
    pub(crate) fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let host = self.url().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        let body = body.to_string();
        write!(
            stream,
            "{method} /_front/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
        serde_json::from_str(body).unwrap()
    }

    /// Runs a program below `tests/aws` with the Python that has boto3.
    pub(crate) fn python(&self, program: &str, args: &[&str]) -> Output {
        let mut command = Command::new(self.text("python"));
        command.arg("-B").arg(root().join("tests/aws").join(program)).args(args).output().unwrap()
    }

    /// Creates an account, with what `POST accounts` takes.
    pub(crate) fn account(&'static self, more: &Value) -> AwsAccount {
        AwsAccount { server: self, made: self.control("POST", "accounts", more) }
    }
}

/// An account, which shares nothing with others. At its end all requests and answers must have been as the models of
/// the vendor say.
pub(crate) struct AwsAccount {
    pub(crate) server: &'static Aws,
    made: Value,
}

impl AwsAccount {
    /// Number of the account.
    pub(crate) fn id(&self) -> &str {
        self.made["account"].as_str().unwrap()
    }

    /// The bucket of the account.
    pub(crate) fn bucket(&self) -> &str {
        self.made["bucket"].as_str().unwrap()
    }

    /// The ARN of a key in a region.
    pub(crate) fn kms_key(&self, region: &str) -> &str {
        self.made["kms_keys"][region].as_str().unwrap()
    }

    /// Access key id and secret of a user.
    pub(crate) fn key(&self, user: &str) -> (&str, &str) {
        let key = &self.made["keys"][user];
        (key["id"].as_str().unwrap(), key["secret"].as_str().unwrap())
    }

    /// A configuration file for the user `builder`, with further lines. A later value replaces an earlier one.
    pub(crate) fn config(&self, more: &[(&str, &str)]) -> String {
        let (id, secret) = self.key("builder");
        let rows = [
            ("AWS_ACCESS_KEY_ID", id),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_REGION", self.server.text("region")),
            ("AWS_ENDPOINT_URL", self.server.url()),
            ("AWS_CREATE_IMAGE_RETRY_DELAY", "1"),
            ("AWS_IMPORT_SNAPSHOT_TASK_RETRY_DELAY", "1"),
        ];
        let kept = rows.iter().filter(|(key, _)| !more.iter().any(|(changed, _)| changed == key));
        kept.chain(more).map(|(key, value)| format!("{key}: {value}\n")).collect()
    }

    /// Sends a request about the account to the server itself.
    #[track_caller]
    pub(crate) fn control(&self, method: &str, path: &str, mut body: Value) -> Value {
        body["account"] = json!(self.id());
        self.server.control(method, path, &body)
    }

    /// Sets the errors of selected requests; see `tests/aws/README.md`.
    #[track_caller]
    pub(crate) fn rules(&self, rules: &Value) {
        self.control("POST", "rules", json!({"rules": rules}));
    }

    /// The rules, with the numbers of requests that they selected and struck.
    #[track_caller]
    pub(crate) fn struck(&self) -> Vec<u64> {
        let rules = self.control("GET", "rules", json!({}));
        rules.as_array().unwrap().iter().map(|rule| rule["struck"].as_u64().unwrap()).collect()
    }

    /// The requests that were made with keys of the account.
    #[track_caller]
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.control("GET", "requests", json!({})).as_array().unwrap().clone()
    }

    /// All objects of a kind that the account owns: `images`, `snapshots`, `tasks`, `objects`, `uploads`.
    #[track_caller]
    pub(crate) fn owned(&self, kind: &str) -> Vec<Value> {
        self.control("GET", "objects", json!({}))[kind].as_array().unwrap().clone()
    }

    /// Checks that the account has nothing but this many images with one snapshot each.
    #[track_caller]
    pub(crate) fn has_only(&self, images: usize) {
        let owned = self.control("GET", "objects", json!({}));
        let number = |kind: &str| owned[kind].as_array().unwrap().len();
        let numbers = ["images", "snapshots", "objects", "uploads"].map(number);
        assert_eq!(numbers, [images, images, 0, 0], "{owned:#}");
    }

    /// Calls boto3 as the user `admin`: a service, an operation, its parameters, and a region. See `tests/aws/call`.
    #[track_caller]
    pub(crate) fn call(
        &self,
        service: &str,
        operation: &str,
        given: &Value,
        region: &str,
    ) -> Value {
        self.boto3(&[service, operation, &given.to_string(), region])
    }

    #[track_caller]
    fn boto3(&self, args: &[&str]) -> Value {
        let (id, secret) = self.key("admin");
        let account = json!({"url": self.server.url(), "id": id, "secret": secret}).to_string();
        let output = self.server.python("call", &[&[account.as_str()], args].concat());
        let complaint = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {complaint}"))
    }

    /// One image as DescribeImages shows it.
    #[track_caller]
    pub(crate) fn image(&self, id: &str, region: &str) -> Value {
        let shown = self.call("ec2", "DescribeImages", &json!({"ImageIds": [id]}), region);
        shown["Images"].get(0).unwrap_or_else(|| panic!("{shown}")).clone()
    }

    /// Checks that boto3 reads the same disk from the snapshot of an image as a raw file has, and that blocks of zeros
    /// were left out. Returns the image.
    #[track_caller]
    pub(crate) fn holds(&self, id: &str, region: &str, raw: &Path) -> Value {
        self.holds_with_zeros(id, region, raw, 0)
    }

    /// The same for a snapshot with this number of blocks of zeros.
    #[track_caller]
    pub(crate) fn holds_with_zeros(
        &self,
        id: &str,
        region: &str,
        raw: &Path,
        zeros: usize,
    ) -> Value {
        let image = self.image(id, region);
        let snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].as_str().unwrap();
        let compared = self.boto3(&["compare", snapshot, raw.to_str().unwrap(), region]);
        let length = raw.metadata().unwrap().len();
        assert_eq!(compared["differ"], json!([]), "{compared}");
        assert_eq!(compared["volume"], json!(length.div_ceil(1 << 30) << 30), "{compared}");
        assert_eq!(compared["zeros"], json!(zeros), "{compared}");
        image
    }
}

impl Drop for AwsAccount {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let found =
                self.control("GET", &format!("mismatches?account={}", self.id()), json!({}));
            assert_eq!(found, json!([]), "requests or answers are not as the vendor's models say");
        }
    }
}

/// Starts a server that serves until a process ends.
#[expect(clippy::zombie_processes, reason = "it ends after this process")]
fn start(cache: &Path, file: &PathBuf, until: u32) {
    let mut server = Command::new(root().join("tests/aws/serve"))
        .arg("--cache")
        .arg(cache)
        .arg("--describe")
        .arg(file)
        .args(["--until", &until.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C and the end of this test are not the end of the run.
        .process_group(0)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line.is_empty() {
        let mut cause = String::new();
        server.stderr.take().unwrap().read_to_string(&mut cause).unwrap();
        panic!("the server did not start: {cause}");
    }
}
