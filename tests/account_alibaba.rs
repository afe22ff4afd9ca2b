//! Kills a copy of a registered image of Alibaba Cloud and repeats the call, with the plugin as it is shipped.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use build_image_emulator_alibaba::Running;
use serde_json::{Value, json};

use crate::{
    abi_versions,
    harness::{Sandbox, root, until},
};

/// A host that calls one step of the plugin.
struct Caller {
    host: PathBuf,
    settings: String,
}

impl Caller {
    fn new(emulator: &Running) -> Self {
        let url = emulator.url();
        let settings = json!({
            "ALIBABA_BUCKET": "demo",
            "ALIBABA_REGION": "cn-hangzhou",
            "ALIBABA_OSS_ENDPOINT": url,
            "ALIBABA_ECS_ENDPOINT": url,
            "ALIBABA_STS_ENDPOINT": url,
        });
        Self { host: abi_versions::host(root()), settings: settings.to_string() }
    }

    fn start(&self, step: &str, request: &Value) -> Child {
        let mut command = Command::new(&self.host);
        command.args(["call", step]).arg(crate::provider_check::plugin("alibaba"));
        command.arg(&self.settings).arg(request.to_string());
        command.env("ALIBABA_CLOUD_ACCESS_KEY_ID", "emulator-id");
        command.env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "emulator-secret");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn call(&self, step: &str, request: &Value) -> Value {
        let output = self.start(step, request).wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        abi_versions::remove(&self.host);
    }
}

#[test]
fn a_copy_that_was_killed_is_finished_by_the_same_call() {
    let sandbox = Sandbox::with_plain_cloud();
    let emulator = sandbox.emulator.as_ref().unwrap();
    sandbox.disk("disk.raw", 3, 1);
    let run = sandbox.run(&["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"]);
    run.succeeded();
    let caller = Caller::new(emulator);
    // No local file is needed to find the image.
    let listed =
        caller.call("inventory", &json!({"kinds": ["image"], "run_id": run.member("run_id")}));
    let image = &listed["items"][0];
    assert_eq!(
        (&image["id"], listed["items"].as_array().unwrap().len()),
        (run.member("image_id"), 1)
    );
    let named = json!({"kind": "image", "id": image["id"], "region": image["region"]});
    let action = json!({"type": "copy", "regions": ["cn-shanghai"]});
    let copy = json!({"run_id": "copy-1", "images": [named], "action": action});
    // The copy exists, and the process never learns it.
    let held = json!([{"operation": "CopyImage", "action": {"hold_answer_ms": 100_000}}]);
    emulator.set_faults(&held.to_string()).unwrap();
    let mut child = caller.start("manage", &copy);
    until("the copy is made", || emulator.status()["images"] == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    emulator.set_faults("[]").unwrap();
    let mut ids = Vec::new();
    for change in ["done", "unchanged"] {
        let outcome = caller.call("manage", &copy);
        let result = &outcome["results"][0];
        assert_eq!(result["change"], change, "{outcome}");
        assert_eq!(emulator.status()["images"], 2);
        ids.push(result["copy"]["id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    // Both runs are removed by what the list contains.
    let listed = caller.call("inventory", &json!({}));
    let resources: Vec<Value> =
        listed["items"].as_array().unwrap().iter().map(|item| item["resource"].clone()).collect();
    assert_eq!(resources.len(), 4, "{listed}");
    let request = json!({"reason": "leftover", "resources": resources});
    let discarded = caller.call("discard", &request);
    assert!(discarded["remaining"].as_array().is_none_or(Vec::is_empty), "{discarded}");
    sandbox.cloud_has_only(0);
}
