//! Provides the environment of the probes: the provider, available settings and secrets, hosts, and calls that are
//! recorded.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::Value;

use crate::{
    Architecture, BootMode, Description, DiskSpec, Result, Secret, SettingKind, Settings, Status,
    Steps,
    conformance::{
        child::Job,
        evidence::{Call, Failure, Reach},
        host::ProbeHost,
        subject::{Subject, Ways},
    },
    document::{Build, CheckRequest, HostFacts},
};

/// Smallest disk, in bytes; a provider that reads in mebibytes needs several reads.
const DISK_BYTES: u64 = 8 << 20;

/// Tag of the images of the suite, for providers that declare tags.
pub(in crate::conformance) const TAG: (&str, &str) = ("conformance", "tag-7f3e51c0");

/// Environment of a probe, in its process.
pub(in crate::conformance) struct Lab<'a> {
    pub(in crate::conformance) subject: Box<dyn Subject>,
    pub(in crate::conformance) job: &'a Job,
    ways: Ways,
    hosts: Mutex<Vec<Arc<ProbeHost>>>,
    /// The check that the next calls belong to; empty = the probe's own.
    check: Mutex<String>,
    /// Suffix of the identifiers of runs, and in part of the names of images: a cloud remembers what earlier checks
    /// have left there.
    moment: u128,
    /// How the inventory command failed first.
    unlisted: Mutex<Option<String>>,
}

impl<'a> Lab<'a> {
    pub(in crate::conformance) fn new(subject: Box<dyn Subject>, job: &'a Job, ways: Ways) -> Self {
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
        let (hosts, check) = (Mutex::default(), Mutex::default());
        Self { subject, job, ways, hosts, check, moment, unlisted: Mutex::default() }
    }

    pub(in crate::conformance) fn description(&self) -> &Description {
        self.subject.description()
    }

    /// Creates a host whose record is examined at the end.
    pub(in crate::conformance) fn host(&self) -> Arc<ProbeHost> {
        let host =
            ProbeHost::new(self.secrets(), self.ways, self.disk_size(), self.is_subprocess());
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&host));
        host
    }

    /// Returns whether the provider runs in a separate process, which learns of a stop shortly after its host.
    pub(in crate::conformance) fn is_subprocess(&self) -> bool {
        !self.subject.takes_any_text()
    }

    /// Returns the values of the secret settings. Without a cloud, each value is a mark that can be searched for.
    fn secrets(&self) -> BTreeMap<String, Option<String>> {
        let rows = self.description().settings.iter().filter(|row| row.secret);
        let value = |key: &str| match self.job.secrets.get(key) {
            Some(value) => Some(value.clone()),
            None if self.job.cloud => None,
            None => Some(format!("canary-of-{key}-7f3e51c0")),
        };
        rows.map(|row| (row.key.clone(), value(&row.key))).collect()
    }

    /// Returns whether a text is about a secret whose value is only a mark: the provider may reject it.
    pub(in crate::conformance) fn is_about_a_mark(&self, text: &str) -> bool {
        let rows = self.description().settings.iter().filter(|row| row.secret);
        let mut marked =
            rows.filter(|row| !self.job.cloud && !self.job.secrets.contains_key(&row.key));
        marked.any(|row| text.contains(&row.key))
    }

    /// Returns the settings that the host would send: defaults and given settings.
    pub(in crate::conformance) fn settings(&self) -> BTreeMap<String, Value> {
        let mut values = self.defaults();
        values.extend(self.job.settings.clone());
        values
    }

    pub(in crate::conformance) fn defaults(&self) -> BTreeMap<String, Value> {
        let rows = self.description().settings.iter().filter(|row| !row.secret);
        let default = |text: &String, kind| value_of(kind, text);
        rows.filter_map(|row| Some((row.key.clone(), default(row.default.as_ref()?, row.kind))))
            .collect()
    }

    /// Returns required settings without a value.
    pub(in crate::conformance) fn missing(&self) -> Vec<String> {
        let rows = self.description().settings.iter().filter(|row| row.required);
        let given = |key: &String| {
            self.job.settings.contains_key(key) || self.job.secrets.contains_key(key)
        };
        rows.filter(|row| row.default.is_none() && !given(&row.key))
            .map(|row| row.key.clone())
            .collect()
    }

    /// Returns how many steps of a build can run.
    pub(in crate::conformance) fn reach(&self) -> Reach {
        let missing = self.missing();
        if self.description().status == Status::DiskOnly {
            Reach::Stub
        } else if self.description().uploads && !self.job.cloud {
            Reach::Dry(
                "it needs a cloud: give settings of a test account or a fake cloud".to_owned(),
            )
        } else if !missing.is_empty() {
            Reach::Dry(format!("it needs a value for {}", missing.join(", ")))
        } else {
            Reach::Whole
        }
    }

    pub(in crate::conformance) fn create(
        &self,
        host: &Arc<ProbeHost>,
        settings: BTreeMap<String, Value>,
    ) -> (Call, Option<Box<dyn Steps>>) {
        let settings = Settings::from_values(settings);
        let lent: Arc<dyn crate::Host> = Arc::clone(host) as Arc<dyn crate::Host>;
        self.begin("create");
        let start = Instant::now();
        let made = host.during("create", || self.subject.create(lent, &settings));
        let failure = made.as_ref().err().map(Failure::from);
        let milliseconds = milliseconds(start);
        let call = Call { step: "create".to_owned(), milliseconds, answer: Value::Null, failure };
        (call, made.ok())
    }

    /// Calls a step and records how it ended.
    pub(in crate::conformance) fn call<T: Serialize>(
        &self,
        host: &ProbeHost,
        step: &'static str,
        call: impl FnOnce() -> Result<T>,
    ) -> (Call, Option<T>) {
        self.begin(step);
        let start = Instant::now();
        let result = host.during(step, call);
        let call = Call {
            step: step.to_owned(),
            milliseconds: milliseconds(start),
            answer: result
                .as_ref()
                .ok()
                .and_then(|answer| serde_json::to_value(answer).ok())
                .unwrap_or_default(),
            failure: result.as_ref().err().map(Failure::from),
        };
        (call, result.ok())
    }

    /// Drops an instance, as a separate step.
    pub(in crate::conformance) fn end(&self, host: &ProbeHost, steps: Box<dyn Steps>) {
        self.begin("drop");
        host.during("drop", || drop(steps));
    }

    /// Attributes the next calls to a check.
    pub(in crate::conformance) fn belongs_to(&self, check: &str) {
        check.clone_into(&mut self.check.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(in crate::conformance) fn begin(&self, step: &str) {
        self.job.begins(step, &self.check.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Creates a build with a unique name and a separate image directory.
    pub(in crate::conformance) fn build(&self, name: &str) -> Build {
        let directory = self.job.directory.join(format!("images-{name}"));
        let _ = std::fs::create_dir_all(&directory);
        let tags = self.description().tags.is_some().then(|| (TAG.0.to_owned(), TAG.1.to_owned()));
        Build {
            run_id: format!("conformance-{name}-{:x}", self.moment),
            image_name: format!("conformance-{name}-{:06x}", self.moment % (1 << 24)),
            image_name_chosen: self.description().image_name.is_some(),
            tags: tags.into_iter().collect(),
            description: "made by the conformance suite".to_owned(),
            architecture: Architecture::X86_64,
            boot_mode: BootMode::Bios,
            virtual_size: self.disk_size(),
            image_dir: Some(directory.display().to_string()),
            file_stem: format!("conformance-{name}"),
            disk_name: "conformance".to_owned(),
            ..Build::default()
        }
    }

    /// Creates the same build again: another run with the same name and image directory.
    pub(in crate::conformance) fn build_again(&self, name: &str) -> Build {
        let run_id = format!("conformance-{name}-again-{:x}", self.moment);
        Build { run_id, ..self.build(name) }
    }

    pub(in crate::conformance) fn check_request(&self, name: &str, online: bool) -> CheckRequest {
        self.check_of(self.build(name), online)
    }

    pub(in crate::conformance) fn check_of(&self, build: Build, online: bool) -> CheckRequest {
        let disks = vec![self.description().disk.spec.clone(), DiskSpec::default()];
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let host = HostFacts { version, disks, ..HostFacts::default() };
        CheckRequest { build, host, online, ..CheckRequest::default() }
    }

    /// Returns the size of the smallest disk that the provider accepts, in bytes.
    fn disk_size(&self) -> u64 {
        let needs = &self.description().disk;
        let size = needs.minimum_bytes.unwrap_or_default().max(DISK_BYTES);
        size.next_multiple_of(needs.multiple_of_bytes.unwrap_or(1).max(1))
    }

    /// Records that the inventory command failed: what it has not listed is not absent.
    pub(in crate::conformance) fn is_unlisted(&self, failure: String) {
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }

    /// Returns how the inventory command failed first.
    pub(in crate::conformance) fn unlisted(&self) -> Option<String> {
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::conformance) fn panics(&self) -> Vec<String> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().flat_map(|host| host.panics()).collect()
    }

    /// Returns the secret settings whose values are searched for, with their values.
    pub(in crate::conformance) fn searched(&self) -> Vec<(String, String)> {
        let set = self.secrets().into_iter().filter_map(|(key, value)| Some((key, value?)));
        set.filter(|(_, value)| value.len() >= Secret::SHORTEST_REDACTED).collect()
    }

    /// Returns the places where the value of a secret setting was found.
    pub(in crate::conformance) fn leaks(&self, seen: &Value) -> Vec<String> {
        let secrets = self.searched();
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host_texts = hosts.iter().flat_map(|host| host.texts());
        let mut texts = Vec::new();
        texts_of(seen, "the probe's record", &mut texts);
        let mut leaks: Vec<String> = host_texts
            .chain(texts)
            .flat_map(|(place, text)| {
                let inside = secrets.iter().filter(move |(_, value)| text.contains(value.as_str()));
                inside.map(move |(key, _)| format!("{key} in {place}")).collect::<Vec<_>>()
            })
            .collect();
        leaks.sort();
        leaks.dedup();
        leaks
    }
}

/// Collects every text of a document, with its place.
fn texts_of(value: &Value, place: &str, texts: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => texts.push((place.to_owned(), text.clone())),
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                texts_of(item, &format!("{place}.{number}"), texts);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                texts.push((format!("a name of {place}"), name.clone()));
                texts_of(member, &format!("{place}.{name}"), texts);
            }
        }
        _ => {}
    }
}

fn milliseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Converts a default's text as a host does; an invalid text stays a text.
fn value_of(kind: SettingKind, text: &str) -> Value {
    let value = match kind {
        SettingKind::List | SettingKind::Map => serde_json::from_str(text).ok(),
        _ => kind.parse_scalar(text).and_then(Result::ok),
    };
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_understood_as_hosts_understand_them() {
        for (kind, text, value) in [
            (SettingKind::Integer, "7", Value::from(7)),
            (SettingKind::Size, "16MiB", Value::from(16 << 20)),
            (SettingKind::Size, "1 GiB", Value::from(1 << 30)),
            (SettingKind::Duration, "6h", Value::from(21_600)),
            (SettingKind::Boolean, "Yes", Value::from(true)),
            (SettingKind::Switch, "off", Value::from(false)),
            (SettingKind::List, "[1]", serde_json::json!([1])),
            (SettingKind::Text, "7", Value::from("7")),
        ] {
            assert_eq!(value_of(kind, text), value, "{text}");
        }
    }
}
