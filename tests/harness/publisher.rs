//! A publisher of providers: plugins that are scripts, an index that minisign signs, and a web server for both.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Answer, Request, Run, Sandbox, Web, sandbox_walk, tool};

/// The name of the publisher.
pub(crate) const PUBLISHER: &str = "example.org";
/// Arguments that name the publisher's key.
pub(crate) const TRUST: [&str; 2] = ["--trust-key", "keys/example.pub"];
/// A time at which no index of these tests has expired.
const LATER: &str = "2100-01-01T00:00:00Z";
/// The provider directory, below the sandbox.
const DIRECTORY: &str = ".local/share/build-image/providers/1";

/// A publisher, and the user who installs its providers.
pub(crate) struct Published {
    pub(crate) sandbox: Sandbox,
    pub(crate) index: Value,
}

impl Published {
    /// A publisher of `acme` 1.0.0 with the key `keys/example.pub`, and a stranger with the key `keys/other.pub`.
    pub(crate) fn new() -> Self {
        let sandbox = Sandbox::new();
        for name in ["mirror", "keys"] {
            fs::create_dir(sandbox.path().join(name)).unwrap();
        }
        for name in ["example", "other"] {
            let [public, secret] = ["pub", "key"].map(|end| format!("keys/{name}.{end}"));
            tool(sandbox.path(), &["minisign", "-G", "-W", "-p", &public, "-s", &secret]);
        }
        let index = json!({
            "format": "build-image provider index",
            "version": 1,
            "publisher": PUBLISHER,
            "serial": 1,
            "expires": LATER,
            "packages": [],
        });
        let mut published = Self { sandbox, index };
        published.add("acme", "1.0.0");
        published.sign();
        published
    }

    /// Adds a provider that is a script, and its release to the index.
    pub(crate) fn add(&mut self, name: &str, version: &str) -> &mut Value {
        let script = script(name, version);
        let file = format!("{name}-{version}");
        fs::write(self.mirror().join(&file), &script).unwrap();
        let target = json!({
            "kind": "program", "os": "linux", "arch": "any", "libc": "any", "url": file,
            "sha256": hex(script.as_bytes()), "size": script.len(),
        });
        let abi = json!({"built": "1.1", "requires": "1.0"});
        let release = json!({"name": name, "version": version, "abi": abi, "targets": [target]});
        let packages = self.index["packages"].as_array_mut().unwrap();
        packages.push(release);
        packages.last_mut().unwrap()
    }

    /// Writes and signs the index with the publisher's key.
    pub(crate) fn sign(&self) {
        self.sign_with("example");
    }

    /// Writes the index, signs it with a key, and publishes that key beside it.
    pub(crate) fn sign_with(&self, key: &str) {
        fs::write(self.mirror().join("index.json"), self.index.to_string()).unwrap();
        let _ = fs::remove_file(self.mirror().join("index.json.minisig"));
        let secret = format!("keys/{key}.key");
        tool(self.sandbox.path(), &["minisign", "-S", "-s", &secret, "-m", "mirror/index.json"]);
        let public = self.sandbox.path().join(format!("keys/{key}.pub"));
        fs::copy(public, self.mirror().join("minisign.pub")).unwrap();
    }

    /// The directory with the index and the packages.
    pub(crate) fn mirror(&self) -> PathBuf {
        self.sandbox.path().join("mirror")
    }

    /// Serves the mirror; `fault` may replace an answer.
    pub(crate) fn serve(
        &self,
        fault: impl Fn(&Request, &Path) -> Option<Answer> + Send + Sync + 'static,
    ) -> Web {
        let mirror = self.mirror();
        Web::start(move |request| {
            let path = request.path.split('?').next().unwrap().trim_start_matches('/');
            let path = mirror.join(path);
            if let Some(answer) = fault(request, &path) {
                return answer;
            }
            fs::read(path).map_or_else(|_| Answer::status(404), |body| Answer::file(request, &body))
        })
    }

    /// `providers VERB ARGS`.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.sandbox.command(&[&["providers"], args].concat());
        command.env_remove("BUILD_IMAGE_PROVIDER_PATH");
        command
    }

    /// Runs `providers VERB ARGS`.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(&self.command(args).output().unwrap(), None)
    }

    /// The provider directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.sandbox.path().join(DIRECTORY)
    }

    /// Everything in the provider directory: paths, modes and contents.
    pub(crate) fn installed(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut found = BTreeMap::new();
        if self.directory().exists() {
            sandbox_walk(&self.directory(), &mut |path| {
                let metadata = path.symlink_metadata().unwrap();
                let content = if metadata.is_file() { fs::read(path).unwrap() } else { Vec::new() };
                found.insert(path.to_owned(), (metadata.permissions().mode(), content));
            });
        }
        found
    }

    /// The version of an installed provider, as it describes itself.
    pub(crate) fn version(&self, name: &str) -> String {
        let run = self.run(&["inspect", name, "--json"]);
        run.succeeded();
        let description: Value = serde_json::from_str(&run.stdout).unwrap();
        description["version"].as_str().unwrap().to_owned()
    }

    /// Whether a plugin of the publisher was ever run.
    pub(crate) fn ran(&self) -> bool {
        self.sandbox.path().join("ran").exists()
    }

    /// Forgets that plugins were run.
    pub(crate) fn forget_runs(&self) {
        let _ = fs::remove_file(self.sandbox.path().join("ran"));
    }
}

/// A provider that only describes itself, and leaves the file `ran` in the home directory.
pub(crate) fn script(name: &str, version: &str) -> String {
    format!(
        "#!/bin/sh\n: >\"$HOME/ran\"\n\
         read line; echo '{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"protocol\":\"1.0\"}}}}'\n\
         read line; echo '{{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{{\"name\":\"{name}\",\"version\":\"{version}\",\"summary\":\"of {name}\"}}}}'\n"
    )
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
