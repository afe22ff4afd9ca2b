//! Starts a real Keystone and a real Glance, once for all tests of a run, and asks them what they hold.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::{CommandExt as _, parent_id},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

use super::{locked, needs, root, target_directory};

/// A cloud; it ends with the process that runs the tests.
pub(crate) struct OpenStack {
    /// What `tests/openstack/serve` printed.
    pub(crate) described: Value,
    /// A file with the same.
    file: PathBuf,
}

impl OpenStack {
    /// The cloud of this run of tests. `None`: what it needs is not installed; reports that as [`needs`] does.
    #[track_caller]
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<OpenStack> = OnceLock::new();
        if !needs(&["python3", "qemu-img"]) {
            return None;
        }
        let cache = target_directory().join("openstack");
        let entries = fs::read_dir(&cache).into_iter().flatten().map(Result::unwrap);
        let is_template = |name: &str| name.starts_with("template-");
        if !entries
            .map(|entry| entry.file_name())
            .any(|name| name.to_str().is_some_and(is_template))
        {
            let text =
                "SKIPPED: Keystone and Glance are not installed; run tests/install-tools openstack";
            assert!(std::env::var_os("BUILD_IMAGE_NO_SKIP").is_none(), "{text}");
            eprintln!("{text}");
            return None;
        }
        Some(SHARED.get_or_init(|| Self::of_this_run(&cache)))
    }

    /// The processes of a run of nextest, which starts one per test, share a cloud that ends with nextest. Otherwise
    /// the cloud ends with this process.
    fn of_this_run(cache: &Path) -> Self {
        let run = std::env::var("NEXTEST_RUN_ID").ok();
        let until = if run.is_some() { parent_id() } else { std::process::id() };
        let file = cache.join(format!("{}.json", run.as_ref().unwrap_or(&until.to_string())));
        let _one = locked("openstack");
        if run.is_none() || !file.exists() {
            start(cache, &file, until);
        }
        let described = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        Self { described, file }
    }

    /// A text of the description.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.described
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("no {pointer}"))
    }

    /// A configuration file for a user and a project, with further lines.
    pub(crate) fn config(&self, user: &str, project: &str, more: &[(&str, &str)]) -> String {
        let mut text = format!(
            "OPENSTACK_AUTH_URL: {}\nOPENSTACK_USERNAME: {user}\nOPENSTACK_PASSWORD: {}\nOPENSTACK_PROJECT_NAME: {project}\nOPENSTACK_IMPORT_TIMEOUT: 120\n",
            self.text("/auth_url"),
            self.text(&format!("/passwords/{user}")),
        );
        for (key, value) in more {
            // A later value replaces an earlier one.
            let kept = text.lines().filter(|line| !line.starts_with(&format!("{key}:")));
            text = kept.map(|line| format!("{line}\n")).collect();
            text.push_str(&format!("{key}: {value}\n"));
        }
        text
    }

    /// Sends a request as a user in a project; the status and the answer.
    #[track_caller]
    pub(crate) fn call(
        &self,
        (user, project): (&str, &str),
        method: &str,
        path: &str,
        body: &str,
    ) -> (u64, Value) {
        let mut command = Command::new(Path::new(self.text("/programs")).join("python"));
        command.arg(root().join("tests/openstack/call")).arg(&self.file);
        command.args([user, project, method, path]);
        if !body.is_empty() {
            command.arg(body);
        }
        let output = command.output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {complaint}"));
        if method == "TOKEN" {
            return (201, answer);
        }
        (answer["status"].as_u64().unwrap(), answer["body"].clone())
    }

    /// The images with a name that belong to a project, hidden ones included, oldest first.
    #[track_caller]
    pub(crate) fn images(&self, name: &str, project: &str) -> Vec<Value> {
        let owner = self.text(&format!("/projects/{project}"));
        let mut found = Vec::new();
        for hidden in [false, true] {
            let path = format!("/v2/images?name={name}&owner={owner}&os_hidden={hidden}&limit=100");
            let (status, answer) = self.call(("admin", "admin"), "GET", &path, "");
            assert_eq!(status, 200, "{answer}");
            found.extend(answer["images"].as_array().unwrap().iter().cloned());
        }
        found.sort_by_key(|image| image["created_at"].as_str().unwrap().to_owned());
        found
    }

    /// One image, as its project sees it.
    #[track_caller]
    pub(crate) fn image(&self, id: &str) -> Value {
        let (status, image) = self.call(("admin", "admin"), "GET", &format!("/v2/images/{id}"), "");
        assert_eq!(status, 200, "{image}");
        image
    }

    /// Downloads the data of an image; returns its format, as qemu names it.
    #[track_caller]
    pub(crate) fn save(&self, id: &str, file: &Path) -> String {
        let path = format!("/v2/images/{id}/file");
        let (status, answer) = self.call(("admin", "admin"), "SAVE", &path, file.to_str().unwrap());
        assert_eq!(status, 200, "{answer}");
        self.image(id)["disk_format"].as_str().unwrap().to_owned()
    }

    /// Checks that the image holds the same disk as a raw file.
    #[track_caller]
    pub(crate) fn holds(&self, id: &str, raw: &Path) {
        let saved = raw.with_extension("saved");
        let format = self.save(id, &saved);
        let compare = ["qemu-img", "compare", "-f", "raw", "-F", &format];
        let files = [raw.to_str().unwrap(), saved.to_str().unwrap()];
        super::tool(raw.parent().unwrap(), &[&compare[..], &files].concat());
        fs::remove_file(saved).unwrap();
    }
}

/// Starts a cloud that serves until a process ends.
#[expect(clippy::zombie_processes, reason = "it ends after this process")]
fn start(cache: &Path, file: &Path, until: u32) {
    let mut server = Command::new(root().join("tests/openstack/serve"))
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
        panic!("the cloud did not start: {cause}");
    }
}
