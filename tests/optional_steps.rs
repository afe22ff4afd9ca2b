//! Checks the steps that later versions of the ABI added: `tests/abi/account` implements them over a directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use build_image_plugin_api::plugin_file_name;
use serde_json::{Value, json};

use crate::{
    harness::{Sandbox, built, cargo, needs_python, root},
    plugins_program::faulty,
    provider_check::{report, unchecked, with_verdict},
};

/// The provider whose account is a directory.
pub(crate) fn account() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        let output = cargo(&root().join("tests/abi/account"), &["build", "--quiet"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        built("debug", &plugin_file_name("account"))
    })
}

/// Runs the conformance suite on it, with this fault.
fn checked(fault: &str, args: &[&str]) -> Value {
    let sandbox = Sandbox::new();
    let directory = sandbox.path().join("account");
    fs::create_dir(&directory).unwrap();
    let config = format!("ACCOUNT_DIR: {}\nACCOUNT_FAULT: {fault:?}\n", directory.display());
    let config = sandbox.write("c.yml", &config);
    let listing = format!("find '{}' -type f", directory.display());
    let (file, config) = (account(), config.to_str().unwrap().to_owned());
    let settings = [file.to_str().unwrap(), "--config", &config, "--inventory", &listing];
    report(&sandbox, &[&settings[..], args].concat(), &[]).1
}

/// The row of a check.
fn row<'a>(report: &'a Value, id: &str) -> &'a Value {
    let mut rows = report["checks"].as_array().unwrap().iter();
    rows.find(|row| row["id"] == id).unwrap()
}

#[test]
fn a_provider_with_optional_steps_keeps_the_contract_in_both_transports() {
    for args in [&[][..], &["--isolate"]] {
        let report = checked("", args);
        assert!(with_verdict(&report, "fail").is_empty(), "{report:#}");
        assert_eq!(unchecked(&report), ["stub"], "{report:#}");
        assert_eq!(row(&report, "inventory")["detail"], "2 items");
        let untried = "only for an unknown image: manage.share, manage.unshare, manage.publish, manage.copy, manage.modify";
        assert_eq!(row(&report, "manage")["detail"], untried);
    }
}

/// Faults of the provider, and the check that finds each.
const FAULTS: [(&str, &str); 17] = [
    ("ignores-tags", "tags"),
    ("ignores-the-name", "image-name"),
    ("lists-every-run", "inventory"),
    ("lists-nothing", "inventory"),
    ("forgets-the-run", "inventory"),
    ("lists-no-resource", "inventory"),
    ("lists-intermediates", "inventory"),
    ("lists-the-removed", "inventory"),
    ("has-no-limit", "inventory"),
    ("changes-in-a-dry-run", "manage"),
    ("changes-nothing", "manage"),
    ("takes-every-action", "manage"),
    ("invents-images", "manage"),
    ("has-no-results", "manage"),
    ("finds-everything", "locate"),
    ("owns-what-it-finds", "locate"),
    ("forgets-the-id", "locate"),
];

#[test]
fn every_fault_of_an_optional_step_fails_its_check_and_no_other() {
    // Some at a time: a check waits more than it computes.
    for some in FAULTS.chunks(4) {
        std::thread::scope(|scope| {
            for (fault, check) in some {
                scope.spawn(move || {
                    let report = checked(fault, &[]);
                    assert_eq!(with_verdict(&report, "fail"), [*check], "{fault}: {report:#}");
                });
            }
        });
    }
}

/// A host that calls one step of the provider.
struct Caller {
    host: PathBuf,
    settings: String,
}

impl Caller {
    fn new(account: &Path) -> Self {
        let settings = json!({"ACCOUNT_DIR": account}).to_string();
        Self { host: crate::abi_versions::host(root()), settings }
    }

    fn call(&self, step: &str, request: &Value) -> Result<Value, String> {
        let mut command = Command::new(&self.host);
        command.args(["call", step]).arg(account()).arg(&self.settings).arg(request.to_string());
        let output = command.output().unwrap();
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn items(&self, request: &Value) -> Vec<Value> {
        let found = self.call("inventory", request).unwrap();
        found["items"].as_array().unwrap().clone()
    }

    /// Changes an image; returns the results.
    fn change(&self, image: &Value, action: &Value) -> Vec<Value> {
        let request = json!({"run_id": "later", "images": [image], "action": action});
        let outcome = self.call("manage", &request).unwrap();
        outcome["results"].as_array().unwrap().clone()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        crate::abi_versions::remove(&self.host);
    }
}

/// Actions, what becomes of the image, and what the inventory reports of it afterwards.
fn changes() -> Vec<(Value, &'static str, &'static str, Value)> {
    let shares = "/shared_with";
    let replacement = json!({"kind": "image", "id": "other"});
    let deprecate =
        json!({"type": "deprecate", "at": 5, "replacement": replacement, "reason": "old"});
    let community = json!({"type": "publish", "audience": "community"});
    vec![
        (json!({"type": "share", "accounts": ["b", "a"]}), "done", shares, json!(["a", "b"])),
        (json!({"type": "share", "accounts": ["b"]}), "unchanged", shares, json!(["a", "b"])),
        (json!({"type": "unshare", "accounts": ["a", "c"]}), "done", shares, json!(["b"])),
        (json!({"type": "unshare", "everyone": true}), "done", shares, json!([])),
        (json!({"type": "publish", "audience": "public"}), "done", "/audience", json!("public")),
        (community, "refused", "/audience", json!("public")),
        (json!({"type": "publish", "audience": "private"}), "done", "/audience", json!("private")),
        (deprecate.clone(), "done", "/deprecated_at", json!(5)),
        (deprecate, "unchanged", "/replacement", replacement),
        (json!({"type": "restore"}), "done", "/state", json!("available")),
        (json!({"type": "tag", "tags": {"team": "us"}}), "done", "/tags/team", json!("us")),
        (json!({"type": "untag", "keys": ["run"]}), "refused", "/tags/team", json!("us")),
    ]
}

#[test]
fn images_are_found_and_changed_without_a_journal() {
    let sandbox = Sandbox::new();
    let (disk, plugin) = (sandbox.disk("disk.raw", 4, 1), account());
    let directory = sandbox.path().join("account");
    let given = ["--disk", disk.to_str().unwrap(), "-p", "account", "--account-dir"];
    let file = [directory.to_str().unwrap(), "--provider-file", plugin.to_str().unwrap()];
    let run = sandbox.run(&[&given[..], &file].concat());
    run.succeeded();
    let (id, run_id) = (run.member("image_id"), run.member("run_id"));
    fs::create_dir(directory.join("away")).unwrap();
    let caller = Caller::new(&directory);
    let image = || {
        let request = json!({"kinds": ["image"], "regions": ["home"]});
        caller.items(&request).into_iter().next()
    };
    let first = image().unwrap();
    assert_eq!((&first["id"], &first["run_id"]), (id, run_id));
    let named = json!({"kind": "image", "id": id, "region": "home"});
    for (action, change, pointer, value) in changes() {
        let results = caller.change(&named, &action);
        assert_eq!(results[0]["change"], change, "{action}: {results:?}");
        assert_eq!(results[0]["error"].is_object(), change == "refused", "{action}");
        assert_eq!(image().unwrap().pointer(pointer), Some(&value), "{action}");
    }
    // A copy is made once per region; a region that does not exist is refused, the other is not.
    let copy = json!({"type": "copy", "regions": ["away", "nowhere"]});
    for change in ["done", "unchanged"] {
        let results = caller.change(&named, &copy);
        assert_eq!(
            (&results[0]["change"], &results[1]["change"]),
            (&json!(change), &json!("refused"))
        );
        assert_eq!(results[1]["error"]["kind"], "not_found");
        let copies = caller.items(&json!({"items": [{"id": results[0]["copy"]["id"]}]}));
        assert_eq!(copies[0]["copied_from"], named);
    }
    // An answer is cut at the limit and continued.
    let all = caller.items(&json!({}));
    let (mut pages, mut after) = (Vec::new(), Value::Null);
    loop {
        let page = caller.call("inventory", &json!({"limit": 1, "after": after})).unwrap();
        pages.extend(page["items"].as_array().unwrap().clone());
        after = page["next"].clone();
        if page["truncated"] == false {
            break;
        }
    }
    assert_eq!((all.len(), pages), (4, all));
    let unknown = json!({"images": [named], "action": {"type": "paint", "colour": "red"}});
    assert!(caller.call("manage", &unknown).unwrap_err().contains("unsupported"));
    for change in ["done", "unchanged"] {
        assert_eq!(caller.change(&named, &json!({"type": "delete"}))[0]["change"], change);
        assert!(image().is_none());
    }
}

/// A plugin of 1.0 has none of the later steps: the host refuses them without calling it.
#[test]
fn a_step_that_a_plugin_was_built_without_is_refused_with_both_versions() {
    let sandbox = Sandbox::new();
    let veteran = crate::old_plugins::veteran();
    let config = sandbox.write("c.yml", "VETERAN_WORD: old\n");
    for args in [&[][..], &["--isolate"]] {
        let given = [veteran.to_str().unwrap(), "--config", config.to_str().unwrap()];
        let args = [&given[..], args].concat();
        let (_, report) = report(&sandbox, &args, &[]);
        let row = row(&report, "undeclared");
        assert_eq!(row["verdict"], "pass", "{report:#}");
        let refused = |step| {
            format!(
                "provider `veteran` was built for plugin ABI 1.0; step `{step}` exists since 1.1"
            )
        };
        assert_eq!(row["detail"], ["inventory", "manage", "locate"].map(refused).join("; "));
    }
}

/// A program that declares this version and does not know the steps answers as its protocol requires.
#[test]
fn a_program_without_the_steps_answers_unsupported() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let file = faulty(&sandbox, "pass").join("build-image-provider-faulty");
    let script = fs::read_to_string(&file).unwrap();
    let version = build_image_plugin_api::ABI_VERSION;
    let newer = format!("\"abi\": {{\"built\": \"{version}\"}}, \"name\": \"faulty\"");
    let script = script.replacen("\"name\": \"faulty\"", &newer, 1);
    fs::write(&file, script).unwrap();
    let (code, report) = report(&sandbox, &[file.to_str().unwrap()], &[]);
    assert_eq!((code, with_verdict(&report, "fail")), (0, vec![]), "{report:#}");
    assert_eq!(
        row(&report, "undeclared")["detail"],
        "there is no `inventory`; there is no `manage`; there is no `locate`"
    );
    let inventory = row(&report, "inventory");
    let reason = "not declared: the description has no `inventory` in its `capabilities`";
    assert_eq!((&inventory["verdict"], &inventory["detail"]), (&json!("skip"), &json!(reason)));
}
