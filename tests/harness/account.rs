//! Calls steps of a provider with settings alone: without the program and without a journal, as another machine would.

use std::{fs::File, process::Command, sync::Arc};

use build_image_plugin_api::{
    Library, Resource, Settings, Step, Steps, plugin_file_name, testing::MockHost,
};
use serde_json::{Value, json};

use super::plugin_directory;

/// Variable with the call of a child.
const CALL: &str = "BUILD_IMAGE_TEST_CALL";

/// An instance of a provider.
pub(crate) struct Account {
    host: Arc<MockHost>,
    steps: Box<dyn Steps>,
}

impl Account {
    /// Creates an instance; `secret` is the key and the value of a secret setting.
    #[track_caller]
    pub(crate) fn open(provider: &str, settings: &Value, secret: Option<(&str, &str)>) -> Self {
        Self::with_secrets(provider, settings, secret.as_slice())
    }

    /// Creates an instance with several secret settings.
    #[track_caller]
    pub(crate) fn with_secrets(provider: &str, settings: &Value, secrets: &[(&str, &str)]) -> Self {
        let path = plugin_directory().join(plugin_file_name(provider));
        let library = Library::open(&File::open(&path).unwrap(), &path).unwrap();
        let host = MockHost::new();
        let host = secrets.iter().fold(host, |host, (key, value)| host.with_secret(key, value));
        let host = Arc::new(host);
        let settings: Settings = serde_json::from_value(settings.clone()).unwrap();
        let steps = library.create(Arc::clone(&host) as _, &settings).unwrap();
        Self { host, steps }
    }

    /// Returns the answer of a step.
    #[track_caller]
    pub(crate) fn call(&self, step: Step, request: &Value) -> Value {
        let answer = self.steps.call(step, &request.to_string());
        let answer = answer.unwrap_or_else(|error| panic!("{request}: {error:?}"));
        serde_json::from_str(&answer).unwrap()
    }

    /// Returns the objects that a request finds.
    #[track_caller]
    pub(crate) fn items(&self, request: &Value) -> Vec<Value> {
        self.call(Step::Inventory, request)["items"].as_array().unwrap().clone()
    }

    /// Changes an image; returns the results.
    #[track_caller]
    pub(crate) fn change(&self, image: &Value, action: &Value, dry_run: bool) -> Vec<Value> {
        let request =
            json!({"run_id": "manage-1", "images": [image], "action": action, "dry_run": dry_run});
        self.call(Step::Manage, &request)["results"].as_array().unwrap().clone()
    }

    /// Returns the error of a call that must fail.
    #[track_caller]
    pub(crate) fn refused(&self, step: Step, request: &Value) -> String {
        let error = self.steps.call(step, &request.to_string()).unwrap_err();
        format!("{}: {error}", error.kind.code())
    }

    /// Returns the resources that were announced and still exist.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        self.host.resources()
    }
}

/// Returns a process of this test binary that makes one call and can be killed. `test` is the test that calls
/// [`call_of_child`], and does nothing else.
pub(crate) fn child(test: &str, call: &Value) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(CALL, call.to_string());
    command
}

/// Makes the call that [`child`] was given: provider, settings, secret (key and value, or several in turn), step, request. In
/// another process it does nothing.
pub(crate) fn call_of_child() {
    let Ok(call) = std::env::var(CALL) else { return };
    let call: Value = serde_json::from_str(&call).unwrap();
    let text = |pointer: &str| call.pointer(pointer).and_then(Value::as_str).unwrap();
    let secrets: Vec<String> = serde_json::from_value(call["secret"].clone()).unwrap();
    let secrets: Vec<(&str, &str)> =
        secrets.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let account = Account::with_secrets(text("/provider"), &call["settings"], &secrets);
    account.call(Step::from_name(text("/step")).unwrap(), &call["request"]);
}
