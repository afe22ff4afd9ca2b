//! Creates a directory with everything one test needs, removed at its end.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use build_image_emulator_alibaba::{BucketSeed, Config, Running, StateDir, Tls, start};

use super::{Run, plugin_directory};

/// Secret of the emulator's account; it must never appear in any output.
pub(crate) const SECRET: &str = "emulator-secret";

/// The directory of one test, and the cloud that it uses.
pub(crate) struct Sandbox {
    directory: tempfile::TempDir,
    /// The user's own state: the key that signs journals.
    state: tempfile::TempDir,
    pub(crate) emulator: Option<Running>,
    /// Holds the emulator's CA certificate, which other users read as well.
    _trusted: Option<tempfile::TempDir>,
}

impl Sandbox {
    /// Creates a sandbox without a cloud.
    pub(crate) fn new() -> Self {
        // Closed to other users, as a home directory is: they could read the secrets in configuration files.
        let private = fs::Permissions::from_mode(0o700);
        let directory = || tempfile::Builder::new().permissions(private.clone()).tempdir().unwrap();
        Self { directory: directory(), state: directory(), emulator: None, _trusted: None }
    }

    /// Creates a sandbox with an emulator that has bucket `demo`, and a configuration file that points at it.
    pub(crate) fn with_cloud() -> Self {
        Self::with_cloud_of(Config::default())
    }

    /// Creates a sandbox with an emulator of these properties that serves HTTPS.
    pub(crate) fn with_cloud_of(config: Config) -> Self {
        let trusted = tempfile::tempdir().unwrap();
        fs::set_permissions(trusted.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ca_file = Some(trusted.path().join("ca.pem"));
        let tls = Some(Tls { ca_file, ..Tls::default() });
        let sandbox = Self::with_plain_cloud_of(Config { tls, ..config });
        Self { _trusted: Some(trusted), ..sandbox }
    }

    /// Creates a sandbox with an emulator that keeps its state and logs its requests in a directory: `cloud` and
    /// `requests.jsonl`.
    pub(crate) fn with_kept_cloud() -> (Self, tempfile::TempDir) {
        let kept = tempfile::tempdir().unwrap();
        let sandbox = Self::with_cloud_of(Config {
            state: StateDir::Kept(kept.path().join("cloud")),
            log_requests: Some(kept.path().join("requests.jsonl")),
            ..Config::default()
        });
        (sandbox, kept)
    }

    /// Creates a sandbox with an emulator that serves plain HTTP.
    pub(crate) fn with_plain_cloud() -> Self {
        Self::with_plain_cloud_of(Config::default())
    }

    /// Creates a sandbox with an emulator of these properties that serves what they say.
    pub(crate) fn with_plain_cloud_of(config: Config) -> Self {
        let mut sandbox = Self::new();
        let bucket = |name: &str, region: &str| BucketSeed {
            name: name.to_owned(),
            region: Some(region.to_owned()),
        };
        let buckets = vec![bucket("demo", "cn-hangzhou"), bucket("far-away", "cn-beijing")];
        let running =
            start(Config { buckets, import_time: Duration::ZERO, fast_etags: true, ..config });
        sandbox.emulator = Some(running.unwrap());
        sandbox.write("config.yml", &sandbox.config(&[]));
        sandbox
    }

    /// The text of a configuration file for the emulator, with some values replaced.
    pub(crate) fn config(&self, changes: &[(&str, &str)]) -> String {
        let url = self.emulator.as_ref().unwrap().url();
        let rows = [
            ("ALIBABA_ACCESS_KEY_ID", "emulator-id"),
            ("ALIBABA_ACCESS_KEY_SECRET", SECRET),
            ("ALIBABA_BUCKET", "demo"),
            ("ALIBABA_REGION", "cn-hangzhou"),
            ("ALIBABA_OSS_ENDPOINT", &url),
            ("ALIBABA_ECS_ENDPOINT", &url),
            ("ALIBABA_STS_ENDPOINT", &url),
        ];
        let value = |key: &str, value: &str| {
            let change = changes.iter().find(|(changed, _)| *changed == key);
            change.map_or_else(|| value.to_owned(), |(_, new)| (*new).to_owned())
        };
        let mut text: String =
            rows.iter().map(|(key, old)| format!("{key}: {}\n", value(key, old))).collect();
        for (key, new) in changes.iter().filter(|(key, _)| !rows.iter().any(|(row, _)| row == key))
        {
            text.push_str(&format!("{key}: {new}\n"));
        }
        text
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A raw disk of `mib` MiB, its first `data` MiB filled with bytes that do not compress.
    pub(crate) fn disk(&self, name: &str, mib: u64, data: u64) -> PathBuf {
        let path = self.path().join(name);
        let mut file = File::create(&path).unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = vec![0_u8; 1 << 20];
        for _ in 0..data {
            for chunk in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                chunk.copy_from_slice(&state.to_le_bytes());
            }
            file.write_all(&block).unwrap();
        }
        file.set_len(mib << 20).unwrap();
        // A boot signature makes every tool recognize it as a disk.
        file.seek(SeekFrom::Start(510)).unwrap();
        file.write_all(&[0x55, 0xaa]).unwrap();
        path
    }

    /// The program with these arguments, in the sandbox, with a clean environment. It trusts the emulator.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_build-image"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("XDG_STATE_HOME", self.state.path())
            .env("BUILD_IMAGE_PROVIDER_PATH", plugin_directory())
            // Tests must not depend on kvm where it works only intermittently.
            .env("F5_ACCEL", "tcg")
            .stdin(std::process::Stdio::null());
        if let Some(file) = self.emulator.as_ref().and_then(Running::ca_file) {
            command.env("SSL_CERT_FILE", file);
        }
        command
    }

    /// Runs the program and requests the result document.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.run_command(self.command(args))
    }

    /// As [`Self::run`], with a limit in the syntax of prlimit, such as `--fsize=1000`.
    pub(crate) fn limited(&self, limit: &str, args: &[&str]) -> Run {
        self.run_command(super::tools::limited(&self.command(args), limit))
    }

    fn run_command(&self, mut command: Command) -> Run {
        let result = self.path().join("result.json");
        command.env("F5_OUTPUT_JSON_FILE", &result);
        let output = command.output().unwrap();
        let document = fs::read(&result).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Run::of(&output, document)
    }

    /// Checks that the cloud holds nothing that costs money except this many images.
    #[track_caller]
    pub(crate) fn cloud_has_only(&self, images: u64) {
        let status = self.emulator.as_ref().unwrap().status();
        for kind in ["objects", "open_uploads", "parts"] {
            assert_eq!(status[kind], 0, "{kind} are left: {status}");
        }
        assert_eq!(status["images"], images, "{status}");
        assert_eq!(status["snapshots"], images, "{status}");
    }

    /// Names of everything below the directory, without the cloud's own state.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(self.path(), &mut |path| {
            found.push(path.strip_prefix(self.path()).unwrap().display().to_string());
        });
        found.sort();
        found
    }

    /// Returns the number of lines in the journal of a build, which is killed after the last one.
    #[track_caller]
    pub(crate) fn journal_lines(&self, build: &mut Command) -> u64 {
        let killed = build.env("BUILD_IMAGE_FAILPOINT", "after:run_done").output().unwrap();
        assert!(!killed.status.success(), "{}", String::from_utf8_lossy(&killed.stderr));
        let mut lines = 0;
        walk(self.path(), &mut |path| {
            if path.ends_with("journal.jsonl") {
                lines += fs::read_to_string(path).unwrap().lines().count() as u64;
            }
        });
        assert!(lines > 0, "{:?}", self.files());
        lines
    }

    /// Checks that no file below the directory contains the secret, except the configuration itself.
    #[track_caller]
    pub(crate) fn keeps_the_secret(&self, run: &Run) {
        assert!(!run.stdout.contains(SECRET) && !run.stderr.contains(SECRET));
        walk(self.path(), &mut |path| {
            let config = path.extension().is_some_and(|extension| extension == "yml");
            if path.is_file() && !config && path.metadata().unwrap().len() < 8 << 20 {
                let content = fs::read(path).unwrap();
                let found = content.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
                assert!(!found, "the secret is in {}", path.display());
            }
        });
    }
}

/// Calls `visit` for everything below a directory.
pub(crate) fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        visit(&path);
        if path.is_dir() && !path.is_symlink() {
            walk(&path, visit);
        }
    }
}
