//! Acceptance against a real account. It costs money and therefore runs only when told to, in words:
//!
//! ```sh
//! BUILD_IMAGE_LIVE=i-pay-for-this ALIBABA_BUCKET=… ALIBABA_REGION=… \
//!   ALIBABA_ACCESS_KEY_ID=… ALIBABA_ACCESS_KEY_SECRET=… \
//!   cargo test -p build-image-provider-alibaba --test live -- --nocapture
//! ```
//!
//! Without these words the same steps run against the emulator: that is the dry run. Every object, image
//! and copy is removed at the end; what stays is printed with the command that removes it.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![expect(clippy::print_stdout, reason = "the answers are what this run is for")]

use std::{collections::BTreeMap, io::Write as _, sync::Arc, time::Instant};

use build_image_emulator_alibaba::{BucketSeed, Config, Running, start};
use build_image_plugin_api::{
    Provider, Settings,
    document::{
        Build, CheckRequest, DiscardRequest, DiskRequest, RegisterRequest, Severity, UploadRequest,
    },
    testing::MockHost,
};
use build_image_provider_alibaba::Alibaba;
use serde_json::{Value, json};

/// What must be said before anything is spent.
const WORDS: &str = "i-pay-for-this";
const NOTICE: &str = "SPENDING: a few objects below 2 MiB, up to 7 image imports with their snapshots, \
    one copy to another region when ALIBABA_LIVE_COPY_REGION is set; all removed at the end";
const KEYS: [&str; 2] = ["ALIBABA_ACCESS_KEY_ID", "ALIBABA_ACCESS_KEY_SECRET"];

/// Where the run goes.
struct Stage {
    settings: BTreeMap<String, Value>,
    secrets: Vec<(String, String)>,
    copy_region: Option<String>,
    /// Kept alive; absent in a live run.
    emulator: Option<Running>,
}

#[expect(clippy::disallowed_methods, reason = "this is the program's one door to the environment")]
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
            emulator: Some(emulator),
        }
    }
}

/// One question to the cloud: a disk, how it is registered, what is learned.
struct Trial {
    question: &'static str,
    disk: Vec<u8>,
    virtual_size: u64,
    extra: Vec<(&'static str, Value)>,
}

/// A disk that is all zeros but for a boot signature: enough for an import, not for a start.
fn raw() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

/// A qcow2 image of one written cluster, the boot sector's, as it is or deflated.
fn qcow2(virtual_size: u64, deflated: bool) -> Vec<u8> {
    const CLUSTER: usize = 64 << 10;
    let (table, block, l1, l2, data) = (1, 2, 3, 4, 5);
    let at = |cluster: usize| (cluster * CLUSTER) as u64;
    let mut image = vec![0; 6 * CLUSTER];
    let mut put = |position: usize, bytes: &[u8]| {
        image[position..position + bytes.len()].copy_from_slice(bytes);
    };
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &virtual_size.to_be_bytes());
    let l1_entries = u32::try_from(virtual_size.div_ceil(512 << 20)).unwrap();
    put(36, &l1_entries.to_be_bytes());
    put(40, &at(l1).to_be_bytes());
    put(48, &at(table).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    // Refcounts of 16 bits, a header of 104 bytes.
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(table * CLUSTER, &at(block).to_be_bytes());
    for cluster in 0..=data {
        put(block * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
    }
    put(l1 * CLUSTER, &(at(l2) | 1 << 63).to_be_bytes());
    let sector = &raw()[..CLUSTER];
    if deflated {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(sector).unwrap();
        let bytes = encoder.finish().unwrap();
        let more_sectors = (bytes.len() as u64).div_ceil(512) - 1;
        put(data * CLUSTER, &bytes);
        put(l2 * CLUSTER, &(1 << 62 | more_sectors << 54 | at(data)).to_be_bytes());
    } else {
        put(data * CLUSTER, sector);
        put(l2 * CLUSTER, &(at(data) | 1 << 63).to_be_bytes());
    }
    image
}

fn trials(stage: &Stage) -> Vec<Trial> {
    let trial = |question, disk: Vec<u8>, virtual_size, extra: &[(&'static str, Value)]| {
        let mut extra = extra.to_vec();
        let format = if disk.starts_with(b"QFI") { "qcow2" } else { "raw" };
        extra.push(("ALIBABA_DISK_FORMAT", json!(format)));
        Trial { question, disk, virtual_size, extra }
    };
    let copies = stage.copy_region.as_ref().map(|region| json!([region])).unwrap_or(json!([]));
    vec![
        trial("does a small raw disk import, how long does it take", raw(), 1 << 20, &[]),
        trial("does qcow2 import", qcow2(1 << 30, false), 1 << 30, &[]),
        trial("does qcow2 with deflated clusters import", qcow2(1 << 30, true), 1 << 30, &[]),
        trial("is a size below the virtual one refused, when", qcow2(2 << 30, false), 1 << 30, &[]),
        trial("what does a disk without any structure end in", vec![7; 1 << 20], 1 << 20, &[]),
        trial(
            "does a copy keep what was set",
            raw(),
            1 << 20,
            &[("ALIBABA_NVME_SUPPORT", json!("supported")), ("ALIBABA_IMAGE_COPY_REGIONS", copies)],
        ),
        trial(
            "what does the image check say",
            raw(),
            1 << 20,
            &[("ALIBABA_DETECTION_STRATEGY", json!("Standard"))],
        ),
    ]
}

/// Asks one question; removes everything it made. Returns whether nothing was left over.
fn ask(stage: &Stage, number: usize, trial: &Trial) -> bool {
    let started = Instant::now();
    let mut host = MockHost::new().with_disk(trial.disk.clone());
    for (key, value) in &stage.secrets {
        host = host.with_secret(key, value);
    }
    let host = Arc::new(host);
    let context = host.context();
    let mut settings = stage.settings.clone();
    settings.extend(trial.extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let provider = Alibaba::create(&context, Settings::from_values(settings)).unwrap();
    let run = format!("live-{}-{number}", jiff::Timestamp::now().as_millisecond());
    let build = Build {
        image_name: format!("build-image-{run}"),
        run_id: run,
        architecture: "x86_64".to_owned(),
        boot_mode: "bios".to_owned(),
        virtual_size: trial.virtual_size,
        ..Build::default()
    };
    println!("\n{number}. {}", trial.question);
    let request = CheckRequest { build: build.clone(), online: true, ..CheckRequest::default() };
    let report = provider.check(&context, &request).unwrap();
    for finding in &report.findings {
        println!("   {:?} {}: {}", finding.severity, finding.subject, finding.message);
    }
    if report.findings.iter().all(|finding| finding.severity != Severity::Error) {
        let spec = Alibaba::describe().disk.spec;
        let disk = provider.create_disk(
            &context,
            &DiskRequest { build: build.clone(), spec, ..DiskRequest::default() },
        );
        let upload =
            UploadRequest { build: build.clone(), disk: disk.unwrap(), ..UploadRequest::default() };
        let answer = provider.upload(&context, &upload).and_then(|uploaded| {
            println!("   uploaded after {:?}", started.elapsed());
            provider.register(
                &context,
                &RegisterRequest { build, uploaded, ..RegisterRequest::default() },
            )
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
    let request = DiscardRequest { resources, ..DiscardRequest::default() };
    let discarded = provider.discard(&context, &request).unwrap();
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
    assert!(clean, "something was left over; see the commands above");
    let Some(emulator) = &stage.emulator else { return };
    for what in ["objects", "open_uploads", "images", "snapshots"] {
        assert_eq!(emulator.status()[what], json!(0), "{what}");
    }
    // The dry run's own trials were not refused before they began.
    assert!(emulator.status()["tasks"].as_u64().unwrap() >= 6, "{}", emulator.status());
}

#[test]
fn only_the_exact_words_spend_anything() {
    assert!(is_live(Some(WORDS)));
    for words in [None, Some(""), Some("1"), Some("yes"), Some("I-PAY-FOR-THIS")] {
        assert!(!is_live(words), "{words:?}");
    }
}
