//! Gives the conformance suite access to a provider: describes it afresh and passes documents as texts, in
//! either transport.

use std::sync::Arc;

use build_image_plugin_api::{
    Description, Host, Library, Result, Settings, Steps,
    conformance::{RawSteps, Subject},
};

use super::{
    Plugin,
    plugin::Transport,
    remote::{create_raw, describe_raw},
    traced::Recorder,
};

impl Subject for Plugin {
    fn description(&self) -> &Description {
        Self::description(self)
    }

    fn describe(&self) -> Result<String> {
        match &self.runs {
            Transport::InProcess(library, _) => Subject::describe(library.as_ref()),
            Transport::Subprocess(launch) => {
                describe_raw(launch).map(|description| description.to_string())
            }
        }
    }

    fn api_version(&self) -> String {
        Self::api_version(self).to_owned()
    }

    fn create(&self, host: Arc<dyn Host>, settings: &Settings) -> Result<Box<dyn Steps>> {
        Self::create(self, host, settings)
    }

    fn create_raw(&self, host: Arc<dyn Host>, settings: &str) -> Option<Result<Box<dyn RawSteps>>> {
        match &self.runs {
            Transport::InProcess(library, None) => {
                Subject::create_raw(library.as_ref(), host, settings)
            }
            Transport::InProcess(library, Some(trace)) => {
                let recorder = match Recorder::new(trace) {
                    Ok(recorder) => recorder,
                    Err(error) => return Some(Err(error)),
                };
                let host = recorder.host(host);
                let create = || Library::create_raw(library, host, settings);
                Some(recorder.create(settings, create).map(|instance| {
                    recorder.clone().raw_steps(Box::new(instance) as Box<dyn RawSteps>)
                }))
            }
            Transport::Subprocess(launch) => Some(create_raw(launch, host, settings)),
        }
    }

    fn takes_any_text(&self) -> bool {
        matches!(self.runs, Transport::InProcess(..))
    }
}
