//! Runs the acceptance tests against a real account. They cost money and therefore run only after an explicit
//! consent in words:
//!
//! ```sh
//! BUILD_IMAGE_LIVE=i-pay-for-this ALIBABA_BUCKET=… ALIBABA_REGION=… \
//!   ALIBABA_ACCESS_KEY_ID=… ALIBABA_ACCESS_KEY_SECRET=… \
//!   cargo test -p build-image-provider-alibaba --test live -- --nocapture
//! ```
//!
//! Without these words the same steps run against the emulator: that is the dry run. Every object, image, and
//! copy is removed at the end; each that remains is printed with the command that removes it.
//!
//! `trials` imports disks through the provider; `questions` makes single signed calls through `calls`.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails here")]
#![expect(clippy::print_stdout, reason = "the answers are the purpose of this run")]

mod calls;
mod questions;
#[path = "../../src/sign/mod.rs"]
mod sign;
mod trials;
#[path = "../emulator/vhd.rs"]
mod vhd;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use build_image_emulator_alibaba::{BucketSeed, Config, Running, start};
use build_image_plugin_api::{
    Context, Provider, Resource, Settings,
    document::{
        Build, CheckRequest, DiscardReason, DiscardRequest, DiskRequest, RegisterRequest, Severity,
        UploadRequest,
    },
    testing::MockHost,
};
use build_image_provider_alibaba::Alibaba;
use serde_json::{Value, json};

use trials::{Trial, trials};

/// Words that must be given before any money is spent.
const WORDS: &str = "i-pay-for-this";
const NOTICE: &str = "SPENDING: a few objects below 2 MiB, up to 8 image imports with their snapshots, \
    one copy to another region when ALIBABA_LIVE_COPY_REGION is set, and ALIBABA_LIVE_IMPORTS imports at \
    once when that is set; all removed at the end";
const KEYS: [&str; 2] = ["ALIBABA_ACCESS_KEY_ID", "ALIBABA_ACCESS_KEY_SECRET"];

/// The target of the run.
struct Stage {
    settings: BTreeMap<String, Value>,
    secrets: Vec<(String, String)>,
    copy_region: Option<String>,
    /// Number of imports to start at once, for the quota.
    imports: usize,
    /// Kept running; `None` in a live run.
    emulator: Option<Running>,
}

#[expect(clippy::disallowed_methods, reason = "all access to the environment goes through here")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn is_live(words: Option<&str>) -> bool {
    words == Some(WORDS)
}

impl Stage {
    fn set() -> Self {
        if is_live(variable("BUILD_IMAGE_LIVE").as_deref()) { Self::live() } else { Self::dry() }
    }

    fn live() -> Self {
        println!("{NOTICE}");
        let rows = Alibaba::describe().settings;
        let settings = rows
            .iter()
            .filter(|row| !row.secret)
            .filter_map(|row| {
                // Numbers and lists are written as JSON.
                let text = variable(&row.key)?;
                let value = serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text));
                Some((row.key.clone(), value))
            })
            .collect();
        let secrets = rows.iter().filter(|row| row.secret);
        let secrets = secrets.filter_map(|row| Some((row.key.clone(), variable(&row.key)?)));
        Self {
            settings,
            secrets: secrets.collect(),
            copy_region: variable("ALIBABA_LIVE_COPY_REGION"),
            imports: variable("ALIBABA_LIVE_IMPORTS").and_then(|n| n.parse().ok()).unwrap_or(0),
            emulator: None,
        }
    }

    fn dry() -> Self {
        let buckets = vec![BucketSeed::parse("demo").unwrap()];
        let emulator = start(Config { buckets, ..Config::default() }).unwrap();
        let server = format!("http://{}", emulator.address());
        let settings = [
            ("ALIBABA_BUCKET", "demo"),
            ("ALIBABA_REGION", "cn-hangzhou"),
            ("ALIBABA_OSS_ENDPOINT", &server),
            ("ALIBABA_ECS_ENDPOINT", &server),
            ("ALIBABA_STS_ENDPOINT", &server),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), json!(value))).into();
        let secrets = KEYS.iter().zip(["emulator-id", "emulator-secret"]);
        Self {
            settings,
            secrets: secrets.map(|(key, value)| ((*key).to_owned(), value.to_owned())).collect(),
            copy_region: Some("cn-shanghai".to_owned()),
            imports: 3,
            emulator: Some(emulator),
        }
    }

    /// A provider with these additional settings, for this disk.
    fn provider(
        &self,
        disk: &[u8],
        extra: &[(&'static str, Value)],
    ) -> (Arc<MockHost>, Context, Alibaba) {
        let mut host = MockHost::new().with_disk(disk.to_vec());
        for (key, value) in &self.secrets {
            host = host.with_secret(key, value);
        }
        let host = Arc::new(host);
        let context = host.context();
        let mut settings = self.settings.clone();
        settings.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let provider = Alibaba::create(&context, Settings::from_values(settings)).unwrap();
        (host, context, provider)
    }
}

/// Performs one trial and removes everything it created. Returns whether nothing was left over.
fn ask(stage: &Stage, number: usize, trial: &Trial) -> bool {
    let started = Instant::now();
    let (host, context, provider) = stage.provider(&trial.disk, &trial.extra);
    let run = format!("live-{}-{number}", jiff::Timestamp::now().as_millisecond());
    let build = Build::default()
        .image_name(format!("build-image-{run}"))
        .run_id(run)
        .architecture("x86_64")
        .boot_mode("bios")
        .virtual_size(trial.virtual_size);
    println!("\n{number}. {}", trial.question);
    let request = CheckRequest::new(build.clone()).online(true);
    let report = provider.check(&context, &request).unwrap();
    for finding in &report.findings {
        println!("   {:?} {}: {}", finding.severity, finding.subject, finding.message);
    }
    if report.findings.iter().all(|finding| finding.severity != Severity::Error) {
        let spec = Alibaba::describe().disk.spec;
        let disk = provider.create_disk(&context, &DiskRequest::new(build.clone(), spec));
        let upload = UploadRequest::new(build.clone(), disk.unwrap());
        let answer = provider.upload(&context, &upload).and_then(|uploaded| {
            println!("   uploaded after {:?}", started.elapsed());
            provider.register(&context, &RegisterRequest::new(build, uploaded))
        });
        match answer {
            Ok(done) => println!("   registered: {}", json!(done.facts)),
            Err(error) => {
                println!("   refused: {error}; causes {:?}; hint {:?}", error.causes, error.hint);
            }
        }
    }
    println!("   took {:?}", started.elapsed());
    let mut resources = host.resources();
    resources.reverse();
    remove(&provider, &context, resources)
}

/// Removes resources and prints those that remain. Returns whether none does.
fn remove(provider: &Alibaba, context: &Context, resources: Vec<Resource>) -> bool {
    let request = DiscardRequest::new(DiscardReason::default(), resources);
    let discarded = provider.discard(context, &request).unwrap();
    for left in &discarded.remaining {
        println!("   LEFT OVER {}: {} — {:?}", left.resource.label(), left.reason, left.hint);
    }
    discarded.remaining.is_empty()
}

#[test]
fn the_open_questions_are_asked_and_everything_is_removed() {
    let stage = Stage::set();
    let mut clean = true;
    for (number, trial) in trials(&stage).iter().enumerate() {
        clean &= ask(&stage, number + 1, trial);
    }
    clean &= questions::ask_all(&stage);
    assert!(clean, "something was left over; see the commands above");
    let Some(emulator) = &stage.emulator else { return };
    for what in ["objects", "open_uploads", "images", "snapshots"] {
        assert_eq!(emulator.status()[what], json!(0), "{what}");
    }
    // The dry run's own trials were not refused before they began.
    assert!(emulator.status()["tasks"].as_u64().unwrap() >= 10, "{}", emulator.status());
}

#[test]
fn only_the_exact_words_spend_anything() {
    assert!(is_live(Some(WORDS)));
    for words in [None, Some(""), Some("1"), Some("yes"), Some("I-PAY-FOR-THIS")] {
        assert!(!is_live(words), "{words:?}");
    }
}
