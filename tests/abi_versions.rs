//! Checks how the ABI may grow: compares the frozen 1.0 with the current version, loads plugins of the current
//! version in the host of 1.0, and compares the current version with a rehearsed next one. The rehearsal appends one
//! method with a default body to each of the two traits, as a minor version would.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use build_image_plugin_api::plugin_file_name;
use serde_json::{Value, json};

use crate::harness::{Run, Sandbox, cargo, copy_tree, nested_target, root, target_directory};

/// Edits that add a step to the current version and make it the next one: file, text that occurs once, replacement. A
/// step takes a row in the step table, a method in the ABI and one in the author's trait; the rest is generated.
const REHEARSAL: [(&str, &str, &str); 8] = [
    ("plugin-api/Cargo.toml", "version = \"1.1.0\"", "version = \"1.2.0\""),
    ("plugin-api/src/lib.rs", "ABI_VERSION: &str = \"1.1\"", "ABI_VERSION: &str = \"1.2\""),
    ("plugin-api/src/wire/export.rs", "        \"1.1\"\n    };", "        \"1.2\"\n    };"),
    (
        "plugin-api/src/wire/abi.rs",
        "}\n\n/// The answer of a method",
        "    fn rehearse(&self, request: RStr<'_>) -> RResult<RString, FfiError> {
        let _ = request;
        RResult::RErr(FfiError {
            code: RString::from(\"unsupported\"),
            message: RString::new(),
            retryable: false,
            details_json: RString::new(),
        })
    }
}

/// The answer of a method",
    ),
    (
        "plugin-api/src/wire/abi.rs",
        "        no_service(path)\n    }\n",
        "        no_service(path)\n    }
    fn rehearsal(&self) -> u64 {
        0
    }
",
    ),
    (
        "plugin-api/src/provider.rs",
        "            Discard discard(DiscardRequest) -> Discarded, since 0;\n",
        "            Discard discard(DiscardRequest) -> Discarded, since 0;
            Rehearse rehearse(DiscardRequest) -> Discarded, since 2;
",
    ),
    (
        "plugin-api/src/provider.rs",
        "    /// Removes resources. Idempotent",
        "    /// Rehearses.
    ///
    /// # Errors
    /// None.
    fn rehearse(&self, _: &Context, _: &DiscardRequest) -> Result<Discarded> {
        Ok(Discarded::default())
    }

    /// Removes resources. Idempotent",
    ),
    (
        "plugin-api/src/wire/export.rs",
        "    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {",
        "    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        if key == \"rehearsal\" {
            return Ok(Some(self.0.rehearsal().into()));
        }",
    ),
];

/// The host's half of the new method.
const LENT: (&str, &str, &str) = (
    "plugin-api/src/wire/lend.rs",
    "    fn is_cancelled(&self) -> bool {",
    "    fn rehearsal(&self) -> u64 {
        11
    }

    fn is_cancelled(&self) -> bool {",
);

/// The sources of the next version, as a separate workspace.
fn rehearsed() -> &'static Path {
    static SOURCES: OnceLock<PathBuf> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let next = target_directory().join("abi/next");
        let _ = fs::remove_dir_all(&next);
        for (from, to) in [
            ("plugin-api", "plugin-api"),
            ("core/files", "core/files"),
            ("tests/abi/host", "tests/abi/host"),
            ("tests/abi/newcomer", "tests/abi/newcomer"),
            ("tests/abi/1.0", "tests/abi/1.0"),
        ] {
            copy_tree(&root().join(from), &next.join(to));
        }
        let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let members = manifest.find("members = [").unwrap();
        let end = members + manifest[members..].find("]\n").unwrap();
        let manifest = format!(
            "{}members = [\"plugin-api\", \"core/files\"{}",
            &manifest[..members],
            &manifest[end..]
        );
        fs::write(next.join("Cargo.toml"), manifest).unwrap();
        for (file, old, new) in REHEARSAL.iter().chain([&LENT]) {
            let path = next.join(file);
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(text.matches(old).count(), 1, "{file} has no single {old:?} any more");
            fs::write(path, text.replace(old, new)).unwrap();
        }
        next
    })
}

/// Builds a crate and keeps the result in a separate directory, because other versions are built to the same name.
fn build(directory: &Path, file: &str, args: &[&str]) -> PathBuf {
    let _one = crate::harness::alone();
    // An existing file may belong to another version.
    for place in ["debug", "debug/deps"] {
        let _ = fs::remove_file(nested_target().join(place).join(file));
    }
    let output = cargo(directory, &[&["build", "--quiet"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kept =
        tempfile::Builder::new().prefix("abi").tempdir_in(target_directory()).unwrap().keep();
    // A link, because a program that was just written by this process could still be open for writing in a child
    // that another test is starting, and could not be executed.
    fs::hard_link(nested_target().join("debug").join(file), kept.join(file)).unwrap();
    kept.join(file)
}

pub(crate) fn host(directory: &Path) -> PathBuf {
    build(&directory.join("tests/abi/host"), "abi-host", &[])
}

fn newcomer(directory: &Path, args: &[&str]) -> PathBuf {
    build(&directory.join("tests/abi/newcomer"), &plugin_file_name("newcomer"), args)
}

/// The report of a host about a plugin.
fn run_host(host: &Path, plugin: &Path) -> Value {
    let output = Command::new(host).args(["run", "2"]).arg(plugin).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// The verdict of a host on the ABI of the frozen 1.0.
fn compared(host: &Path) -> String {
    let veteran = crate::old_plugins::veteran();
    let output = Command::new(host).arg("compare").arg(&veteran).output().unwrap();
    remove(&veteran);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs a whole build with the current program.
fn build_image(plugin: &Path) -> (Sandbox, Run) {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 4, 1);
    let (disk, plugin) = (disk.to_str().unwrap(), plugin.to_str().unwrap());
    let run = sandbox.run(&["--disk", disk, "-p", "newcomer", "--provider-file", plugin]);
    (sandbox, run)
}

#[test]
fn the_abi_is_the_frozen_one_or_a_later_minor_version_of_it() {
    let host = host(root());
    let text = compared(&host);
    let version = build_image_plugin_api::ABI_VERSION;
    let word = if version == "1.0" { "same" } else { "additive" };
    assert_eq!(text, format!("{word} since 1.0.0, now {version}"));
    remove(&host);
}

/// The host of 1.0, as it was built then.
fn host_of_1_0() -> Option<PathBuf> {
    let kept = root().join("tests/abi/1.0/x86_64-linux-gnu/abi-host.gz");
    if !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        eprintln!("skipped: {} is for x86_64 with glibc", kept.display());
        return None;
    }
    let directory =
        tempfile::Builder::new().prefix("abi").tempdir_in(target_directory()).unwrap().keep();
    let host = directory.join("abi-host");
    // Written by another process: a file that this one had open for writing might not be executable yet.
    let unpack = "gzip -dc \"$0\" > \"$1\" && chmod +x \"$1\"";
    let status = Command::new("sh").args(["-c", unpack]).arg(kept).arg(&host).status().unwrap();
    assert!(status.success());
    Some(host)
}

#[test]
fn plugins_of_this_version_load_in_the_host_of_1_0_unless_they_need_more() {
    let Some(host) = host_of_1_0() else { return };
    let (plugin, needs_more) =
        (newcomer(root(), &[]), newcomer(root(), &["--features", "needs-this"]));
    let report = run_host(&host, &plugin);
    assert_eq!((&report["abi"], &report["images"]), (&json!("1.1.0"), &json!(1)));
    assert_eq!(report["removed"], 1);
    let output = Command::new(&host).args(["run", "1"]).arg(&needs_more).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("it needs plugin ABI 1.1, this build-image has 1.0"), "{errors}");
    for file in [&plugin, &needs_more, &host] {
        remove(file);
    }
}

#[test]
fn hosts_and_plugins_of_this_and_the_next_version_work_together() {
    let next = rehearsed();
    let (old_plugin, new_plugin) = (newcomer(root(), &[]), newcomer(next, &[]));
    let needs_next = newcomer(next, &["--features", "needs-next"]);
    let new_host = host(next);

    assert_eq!(compared(&new_host), "additive since 1.0.0, now 1.2");

    // A newer host refuses the new step for an older plugin.
    let old = run_host(&new_host, &old_plugin);
    let refused =
        "provider `newcomer` was built for plugin ABI 1.1; step `rehearse` exists since 1.2";
    assert_eq!((&old["abi"], &old["optional"]["rehearse"]), (&json!("1.1.0"), &json!(refused)));
    // Without that check, the host's own default body answers.
    assert_eq!(old["raw_optional"]["rehearse"], "unsupported");
    assert_eq!((&old["images"], &old["removed"]), (&json!(1), &json!(1)));
    // Both new: the new methods answer in both directions.
    for plugin in [&new_plugin, &needs_next] {
        let new = run_host(&new_host, plugin);
        assert_eq!(
            (&new["abi"], &new["optional"]["rehearse"]),
            (&json!("1.2.0"), &json!("answered"))
        );
        assert_eq!(
            (&new["raw_optional"]["rehearse"], &new["facts"]["rehearsal"]),
            (&json!("answered"), &json!(11))
        );
    }
    // An older host, which is the real program: the default in the plugin answers instead.
    let (_sandbox, run) = build_image(&new_plugin);
    run.succeeded();
    assert_eq!(run.member("newcomer_rehearsal"), 0);
    // A plugin that requires the newer ABI is refused.
    let (_sandbox, run) = build_image(&needs_next);
    run.failed(
        3,
        &["it needs plugin ABI 1.2, this build-image has 1.1", "hint: use a newer build-image"],
    );
    for file in [&old_plugin, &new_plugin, &needs_next, &new_host] {
        remove(file);
    }
}

pub(crate) fn remove(file: &Path) {
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
}
