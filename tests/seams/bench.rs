//! Runs a build in a separate sandbox and cloud, and checks what it must have delivered or left unchanged.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::{Value, json};

use super::{
    BOUNDED, KEY, OCCUPIED, REFUSED, WRITE_INT, WRITE_KILL,
    cloud::{Cloud, Place, Words},
};
use crate::{
    concurrent_builds::{is_equal, unpacked},
    harness::{Clock, Run, Sandbox, limited, names, struck_at_effect, tool},
};

/// Content of every file of an earlier build. Statement and result document replace JSON documents only.
const EARLIER: &str = r#"{"result": "EARLIER"}"#;
/// The statement, and its signed form.
const STATEMENT: &str = "statement.json";
const ENVELOPE: &str = "statement.intoto.jsonl";
const RESULT: &str = "result.json";
/// Arguments of every build, besides its disk.
const WANTED: [&str; 4] = ["--provenance-file", STATEMENT, "--output-json-file", RESULT];
/// Additional arguments of builds that make files for a cloud.
const NAMED: [&str; 2] = ["--cloud-image-name", "seam"];
/// Members of documents that differ between two builds of one disk: identifiers, times, and the bytes sent.
const DIFFERS: [&str; 13] = [
    "bytes_sent",
    "durations",
    "end_time",
    "finishedOn",
    "image_id",
    "id",
    "invocationId",
    "log_file",
    "run_id",
    "start_time",
    "startedOn",
    "uuid",
    // Archives contain times; the digests of images are compared with the files.
    "image_length",
];

/// A private key for signatures, created once.
fn key() -> &'static str {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| {
        let curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
        tool(Path::new("/"), &[&["openssl", "genpkey"][..], &curve].concat())
    })
}

/// Random identifiers of clouds: of images, snapshots and tasks.
fn identifiers() -> &'static regex::Regex {
    static MADE: OnceLock<regex::Regex> = OnceLock::new();
    MADE.get_or_init(|| {
        let uuid = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}";
        regex::Regex::new(&format!(r"\b([a-z]-[a-z0-9]{{18,24}}|{uuid})\b")).unwrap()
    })
}

/// What a build delivers, without what differs between two builds of one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    /// Names of the files in IMAGE_DIR.
    pub(super) published: Vec<String>,
    /// Name, region, architecture and tags of each image in the cloud.
    images: Vec<Value>,
    statement: Value,
    /// Absent where the run was finished by a command that has no result document.
    pub(super) result: Option<Value>,
}

/// A build in a place where an earlier one has published files and an image of the same names.
pub(super) struct Bench<'a> {
    words: Words,
    pub(super) sandbox: Sandbox,
    cloud: Option<Box<dyn Cloud + 'a>>,
    state: tempfile::TempDir,
    /// Outputs of the earlier build whose path a directory can occupy.
    outputs: Vec<String>,
    /// What disturbed the build.
    what: &'static str,
}

impl<'a> Bench<'a> {
    /// `published` are the names of the files that an earlier build left.
    pub(super) fn new(words: Words, (sandbox, cloud): Place<'a>, published: &[String]) -> Self {
        sandbox.write("key.pem", key());
        let images = published.iter().map(|name| format!("images/{name}"));
        let outputs = [STATEMENT, ENVELOPE].map(str::to_owned).into_iter().chain(images).collect();
        for name in published {
            sandbox.write(&format!("images/{name}"), EARLIER);
        }
        for name in [STATEMENT, ENVELOPE, RESULT] {
            sandbox.write(name, EARLIER);
        }
        let state = tempfile::tempdir().unwrap();
        Self { words, sandbox, cloud, state, outputs, what: "" }
    }

    /// The build.
    pub(super) fn command(&self) -> Command {
        let named = match (&self.cloud, self.words[0]) {
            (Some(cloud), _) => cloud.arguments(),
            (None, "aws" | "azure" | "gce") => NAMED.map(str::to_owned).to_vec(),
            _ => Vec::new(),
        };
        let mut words = [&["--disk", "disk.raw"][..], &WANTED, &["-p"], self.words].concat();
        words.extend(named.iter().map(String::as_str));
        self.sandbox.command(&words)
    }

    /// Whether the build makes an image in a cloud.
    fn is_cloud(&self) -> bool {
        self.cloud.is_some() && !self.words.contains(&"--no-upload")
    }

    fn signs(&self) -> bool {
        self.words.contains(&KEY)
    }

    fn images(&self) -> PathBuf {
        self.sandbox.path().join("images")
    }

    /// Number of requests to the cloud.
    pub(super) fn requests(&self) -> u64 {
        self.cloud.as_ref().map_or(0, |cloud| cloud.requests())
    }

    fn refuse(&self, number: Option<u64>) {
        if let Some(cloud) = &self.cloud {
            cloud.refuse(&self.sandbox, number);
        }
    }

    /// Runs the build, disturbed as `what` and `number` define: at a line of its journal, at a request, at a write
    /// to the files it packs, with a bound on the size of files, or with a directory in place of a file.
    pub(super) fn disturbed(&mut self, what: &'static str, number: u64) -> Run {
        self.what = what;
        let mut command = self.command();
        let clock = Clock::new(self.state.path().join("clock"));
        match what {
            REFUSED => self.refuse(Some(number)),
            WRITE_KILL | WRITE_INT => return Run::of(&self.at_write(what, number).0, None),
            BOUNDED => command = limited(&command, &format!("--fsize={number}")),
            OCCUPIED => {
                let path = self.output(number);
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
            }
            _ => drop(command.env("BUILD_IMAGE_FAILPOINT", format!("{what}:{number}"))),
        }
        if what == "clock" {
            clock.rules(&mut command);
        }
        let run = Run::of(&command.stdin(Stdio::null()).output().unwrap(), None);
        if what == REFUSED {
            self.refuse(None);
        }
        run
    }

    /// Runs the build and strikes at the write of this number below IMAGE_DIR; returns what was written there.
    pub(super) fn at_write(&self, what: &str, number: u64) -> (Output, Vec<String>) {
        let command = self.command();
        let log = self.state.path().join("effects");
        struck_at_effect(&command, &self.images(), (what, number), &log)
    }

    fn output(&self, number: u64) -> PathBuf {
        self.sandbox.path().join(&self.outputs[usize::try_from(number).unwrap() - 1])
    }

    /// Replaces a directory with the file of the earlier build.
    pub(super) fn vacate(&self, number: u64) {
        let path = self.output(number);
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
            fs::write(path, EARLIER).unwrap();
        }
    }

    /// Names of the files in IMAGE_DIR.
    pub(super) fn published(&self) -> Vec<String> {
        if self.images().is_dir() { names(&self.images()) } else { Vec::new() }
    }

    /// Length of the largest published file, bytes.
    pub(super) fn largest(&self) -> u64 {
        let length = |name: &String| self.images().join(name).metadata().unwrap().len();
        self.published().iter().map(length).max().unwrap_or_default()
    }

    /// Checks that every earlier output is unchanged and that nothing of the run is left.
    pub(super) fn is_untouched(&self, earlier: &[String]) -> Result<(), String> {
        let found = self.published();
        if found != earlier {
            return Err(format!("IMAGE_DIR holds {found:?}"));
        }
        let mut outputs: Vec<PathBuf> = found.iter().map(|name| self.images().join(name)).collect();
        outputs.extend([STATEMENT, ENVELOPE].map(|name| self.sandbox.path().join(name)));
        for output in outputs {
            let is_directory = output.is_dir();
            if is_directory && !names(&output).is_empty()
                || !is_directory && fs::read(&output).unwrap_or_default() != EARLIER.as_bytes()
            {
                return Err(format!("`{}` is not what it was", output.display()));
            }
        }
        if let Some(cloud) = &self.cloud {
            cloud.is_untouched(&self.sandbox, self.what)?;
        }
        self.nothing_is_left()
    }

    /// Checks that the result is complete and right by itself; returns it, for comparison with that of an
    /// undisturbed build. `document`: whether a result document must exist.
    pub(super) fn delivered(&self, document: bool) -> Result<Delivered, String> {
        self.nothing_is_left()?;
        let statement = self.signed_statement()?;
        let digest = statement["subject"][0]["digest"]["sha256"].as_str().unwrap_or_default();
        if digest.len() != 64 {
            return Err(format!("the statement has the digest `{digest}`"));
        }
        let images = match &self.cloud {
            Some(cloud) => cloud.made(&self.sandbox, self.what)?,
            None => Vec::new(),
        };
        for (id, _) in &images {
            self.cloud.as_ref().unwrap().holds(id, &self.sandbox.path().join("disk.raw"))?;
        }
        let ids: Vec<_> = images.iter().map(|(id, _)| id).collect();
        if !ids.is_empty() && statement["subject"][0]["annotations"]["images"] != json!(ids) {
            return Err(format!("the statement is not about {ids:?}"));
        }
        let published = self.published();
        if !published.is_empty() {
            self.are_whole(&published, digest)?;
        }
        let metadata = &statement["predicate"]["runDetails"]["metadata"];
        let run = metadata["invocationId"].as_str().unwrap_or_default().to_owned();
        let result = match fs::read_to_string(self.sandbox.path().join(RESULT)).unwrap_or_default()
        {
            text if text == EARLIER && !document => None,
            text => {
                let result: Value = serde_json::from_str(&text)
                    .map_err(|error| format!("the result document: {error}: {text}"))?;
                if result["result"] != "SUCCESS" || result["run_id"] != run.as_str() {
                    return Err(format!("the result document is {result:#}"));
                }
                if self.is_cloud() && result["image_id"] != images[0].0.as_str() {
                    return Err(format!("the result document names another image: {result:#}"));
                }
                Some(self.comparable(result, &run))
            }
        };
        let images = images.into_iter().map(|(_, facts)| facts);
        Ok(Delivered {
            published,
            images: images.map(|facts| self.comparable(facts, &run)).collect(),
            statement: self.comparable(statement, &run),
            result,
        })
    }

    /// The statement, if its signed form holds it and is signed with the key.
    fn signed_statement(&self) -> Result<Value, String> {
        let directory = self.sandbox.path();
        let text =
            fs::read_to_string(directory.join(STATEMENT)).map_err(|error| error.to_string())?;
        let statement: Value =
            serde_json::from_str(&text).map_err(|error| format!("the statement: {error}"))?;
        let envelope = fs::read_to_string(directory.join(ENVELOPE));
        if !self.signs() {
            // The signed form of another statement does not stay beside this one.
            return match envelope {
                Ok(text) => Err(format!("there is an envelope: {text}")),
                Err(_) => Ok(statement),
            };
        }
        let envelope = envelope.map_err(|error| error.to_string())?;
        let envelope: Value =
            serde_json::from_str(&envelope).map_err(|error| format!("the envelope: {error}"))?;
        let decoded = |name: &str, value: &Value| {
            let scratch = self.state.path();
            fs::write(scratch.join("base64"), value.as_str().unwrap_or_default()).unwrap();
            tool(scratch, &["openssl", "base64", "-d", "-A", "-in", "base64", "-out", name]);
            scratch.join(name)
        };
        let payload = decoded("payload", &envelope["payload"]);
        if fs::read_to_string(payload).unwrap() != text {
            return Err("the envelope holds another statement".to_owned());
        }
        let signature = decoded("sig", &envelope["signatures"][0]["sig"]);
        let signed = self.state.path().join("signed");
        let kind = envelope["payloadType"].as_str().unwrap_or_default();
        let head = format!("DSSEv1 {} {kind} {} ", kind.len(), text.len());
        fs::write(&signed, head + &text).unwrap();
        self.verify("-sha256", &signature, &signed)?;
        Ok(statement)
    }

    fn verify(&self, algorithm: &str, signature: &Path, file: &Path) -> Result<(), String> {
        let directory = self.sandbox.path();
        let mut command = Command::new("openssl");
        command.args(["dgst", algorithm, "-prverify"]).arg(directory.join("key.pem"));
        command.arg("-signature").arg(signature).arg(file).current_dir(directory);
        let output = command.output().unwrap();
        if output.status.success() {
            return Ok(());
        }
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        Err(format!("`{}` does not verify `{}`: {stdout}", signature.display(), file.display()))
    }

    /// The files in IMAGE_DIR: digests of both kinds, the signature, and the disk in the image.
    fn are_whole(&self, published: &[String], digest: &str) -> Result<(), String> {
        let images = self.images();
        for (program, ending) in [("md5sum", ".md5"), ("sha256sum", ".sha256")] {
            let sum = published.iter().find(|name| name.ends_with(ending));
            let sum = sum.ok_or_else(|| format!("{ending} is missing: {published:?}"))?;
            let mut check = Command::new(program);
            check.args(["--quiet", "-c", sum]).current_dir(&images);
            if !check.stderr(Stdio::null()).status().unwrap().success() {
                return Err(format!("`{sum}` is wrong"));
            }
        }
        let sum = published.iter().find(|name| name.ends_with(".sha256")).unwrap();
        if !fs::read_to_string(images.join(sum)).unwrap().starts_with(digest) && !self.is_cloud() {
            return Err("the statement is about another file".to_owned());
        }
        let image = images.join(sum.strip_suffix(".sha256").unwrap());
        if self.signs() {
            let signature = PathBuf::from(format!("{}.3512.sig", image.display()));
            self.verify("-sha3-512", &signature, &image)?;
        }
        let scratch = self.state.path().join("unpacked");
        let whole = unpacked(&image, &scratch);
        let equal = is_equal(&self.grown(&self.sandbox.path().join("disk.raw")), &whole);
        fs::remove_dir_all(scratch).unwrap();
        if equal { Ok(()) } else { Err("the image is another disk".to_owned()) }
    }

    /// A document without what differs between two builds of one disk; `run` is the build's identifier.
    fn comparable(&self, document: Value, run: &str) -> Value {
        match document {
            Value::Object(members) => {
                let kept =
                    members.into_iter().filter(|(name, _)| !DIFFERS.contains(&name.as_str()));
                kept.map(|(name, value)| (name, self.comparable(value, run))).collect()
            }
            Value::Array(items) => {
                items.into_iter().map(|item| self.comparable(item, run)).collect()
            }
            Value::String(text) => {
                let path = self.sandbox.path().to_str().unwrap();
                // A resumed process has absolute paths where relative ones were typed.
                let mut text = text.replace(&format!("{path}/"), "").replace(run, "@RUN@");
                for (differs, constant) in
                    self.cloud.iter().flat_map(|cloud| cloud.texts(&self.sandbox))
                {
                    text = text.replace(&differs, constant);
                }
                Value::String(identifiers().replace_all(&text, "@ID@").into_owned())
            }
            other => other,
        }
    }

    /// The disk with its expected size.
    fn grown(&self, disk: &Path) -> PathBuf {
        if !self.words.contains(&"--disk-size") {
            return disk.to_owned();
        }
        let grown = self.state.path().join("grown.raw");
        fs::copy(disk, &grown).unwrap();
        fs::File::options().write(true).open(&grown).unwrap().set_len(1 << 30).unwrap();
        grown
    }

    fn nothing_is_left(&self) -> Result<(), String> {
        if self.sandbox.path().join("artifacts").exists() {
            return Err(format!("files are left: {:?}", self.sandbox.files()));
        }
        Ok(())
    }

    pub(super) fn runs(&self) -> Vec<Value> {
        let output = self.sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        listed["runs"].as_array().unwrap().clone()
    }

    /// Resumes a run, first with a setting that would make another image, which must be refused.
    pub(super) fn resume(&self, run: &str) -> Result<(), String> {
        if let Some(cloud) = self.cloud.as_ref().filter(|_| self.what == "after") {
            let other = cloud.other();
            let words =
                [&["resume", run][..], &other.iter().map(String::as_str).collect::<Vec<_>>()]
                    .concat();
            if self.finish(&words).is_ok() {
                return Err(format!("{other:?} was accepted"));
            }
        }
        self.finish(&["resume", run])
    }

    /// Runs a command that finishes what the build left; it must succeed.
    pub(super) fn finish(&self, words: &[&str]) -> Result<(), String> {
        let run = Run::of(&self.sandbox.command(words).output().unwrap(), None);
        if run.code == 0 { Ok(()) } else { Err(format!("{words:?}: {}\n{}", run.code, run.stderr)) }
    }
}
