//! Creates ISOs that contain their identification and nothing else, within a moment; also invalid ones.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Sizes of volumes, those of version 14.1.0.
const VE_INFO: &str = r#"{"tmos": {
    "mos_size_MiB": 300,
    "default_volume_size_MiB": {"appdata": 25514, "boot": 200, "config": 2219, "log": 3000, "root": 440,
        "shared": 15360, "swap": 1000, "usr": 5274, "var": 3072, "waagent": 1024},
    "micro_volume_size_MiB": {"appdata": 30, "config": 489, "log": 500, "root": 440, "shared": 500,
        "usr": 5274, "var": 950},
    "all_1slot_volume_size_MiB": {"appdata": 21409}
}}"#;

/// The files of an ISO that is never booted.
pub(crate) struct TinyIso {
    files: Vec<(String, String)>,
    more: Vec<&'static str>,
}

impl TinyIso {
    /// A version file.
    pub(crate) fn version_file(version: &str, build: &str, base_build: &str) -> String {
        format!(
            "Product: BIG-IP\nVersion: {version}\nBuild: {build}\nSequence: {build}-0.0\nBaseBuild: {base_build}\nEdition: Final\n"
        )
    }

    /// An ISO without any file.
    pub(crate) fn empty() -> Self {
        Self { files: Vec::new(), more: vec!["-r", "-J"] }
    }

    /// A base ISO of version 15.0.0, build 0.0.39.
    pub(crate) fn base() -> Self {
        Self::empty()
            .with("BIGIP1500/VERSION", &Self::version_file("15.0.0", "0.0.39", "0.0.39"))
            .with("BIGIP1500/install/ve.info.json", VE_INFO)
            .with("isolinux/isolinux.cfg", "  append initrd=initrd.img\n")
            .with("isolinux/vmlinuz", "no kernel")
            .with("isolinux/initrd.img", "no initrd")
    }

    /// A hotfix ISO for the base, build 0.0.44.
    pub(crate) fn hotfix() -> Self {
        Self::empty().with("VERSION.LTM", &Self::version_file("15.0.0", "0.0.44", "0.0.39"))
    }

    /// Adds a file, or replaces one.
    pub(crate) fn with(mut self, path: &str, content: &str) -> Self {
        self.files.retain(|(other, _)| other != path);
        self.files.push((path.to_owned(), content.to_owned()));
        self
    }

    /// Removes one of its files.
    pub(crate) fn without(mut self, path: &str) -> Self {
        self.files.retain(|(other, _)| other != path);
        self
    }

    /// Uses other options of mkisofs than `-r -J`.
    pub(crate) fn options(mut self, options: &[&'static str]) -> Self {
        self.more = options.to_vec();
        self
    }

    /// Writes the file.
    #[track_caller]
    pub(crate) fn write(&self, path: &Path) -> PathBuf {
        let tree = tempfile::tempdir().unwrap();
        for (name, content) in &self.files {
            let file = tree.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        let output = Command::new("xorriso")
            .args(["-as", "mkisofs", "-quiet", "-V", "BIGIP"])
            .args(&self.more)
            .arg("-o")
            .args([path, tree.path()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path.to_owned()
    }
}
