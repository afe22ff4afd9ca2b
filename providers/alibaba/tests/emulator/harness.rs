//! Provides an emulator, and hosts and providers for it. It contains no assertions.

use std::{collections::BTreeMap, sync::Arc};

use build_image_emulator_alibaba::{BucketSeed, Config, Running, start};
use build_image_plugin_api::{
    Context, Disk, Provider, Result, Settings,
    document::{
        Build, CheckReport, CheckRequest, DiskRequest, RegisterRequest, Registered, UploadRequest,
        Uploaded,
    },
    testing::MockHost,
};
use build_image_provider_alibaba::Alibaba;
use serde_json::{Value, json};

/// Minimum size of a part for the service: even a small disk has several.
pub(crate) const PART: u64 = 100 << 10;
/// Bytes of the disk: eleven parts, the last one short.
pub(crate) const LENGTH: u64 = (1 << 20) + 3 * 512;
pub(crate) const PARTS: u64 = LENGTH.div_ceil(PART);

/// An emulator with bucket `demo` in its region and `far` in another.
pub(crate) fn emulator() -> Running {
    emulator_with(Config::default())
}

pub(crate) fn emulator_with(config: Config) -> Running {
    let buckets = ["demo", "far:cn-shanghai"].map(|text| BucketSeed::parse(text).unwrap());
    start(Config { buckets: buckets.into(), ..config }).unwrap()
}

/// Bytes that differ from part to part.
pub(crate) fn content() -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..LENGTH).map(next).collect()
}

/// A host that has the emulator's keys.
pub(crate) fn host() -> MockHost {
    MockHost::new()
        .with_secret("ALIBABA_ACCESS_KEY_ID", "emulator-id")
        .with_secret("ALIBABA_ACCESS_KEY_SECRET", "emulator-secret")
        .with_disk(content())
}

pub(crate) fn build() -> Build {
    Build::default()
        .run_id("run-1")
        .image_name("F5-BIGIP-17-1-0-BYOL-ltm-1slot")
        .description("a test image")
        .architecture("x86_64")
        .boot_mode("bios")
        .virtual_size(LENGTH)
        .tags(BTreeMap::from([("platform".to_owned(), "alibaba".to_owned())]))
}

/// One run of the provider.
pub(crate) struct Run {
    pub(crate) host: Arc<MockHost>,
    pub(crate) context: Context,
    pub(crate) provider: Alibaba,
    pub(crate) build: Build,
}

impl Run {
    pub(crate) fn new(emulator: &Running, host: MockHost, extra: &[(&str, Value)]) -> Self {
        let host = Arc::new(host);
        let context = host.context();
        Self::over(emulator, host, context, extra)
    }

    /// With a context other than the mock's own.
    pub(crate) fn over(
        emulator: &Running,
        host: Arc<MockHost>,
        context: Context,
        extra: &[(&str, Value)],
    ) -> Self {
        let server = format!("http://{}", emulator.address());
        let mut values: BTreeMap<String, Value> = [
            ("ALIBABA_BUCKET", json!("demo")),
            ("ALIBABA_REGION", json!("cn-hangzhou")),
            ("ALIBABA_OSS_ENDPOINT", json!(server)),
            ("ALIBABA_ECS_ENDPOINT", json!(server)),
            ("ALIBABA_STS_ENDPOINT", json!(server)),
            ("ALIBABA_DISK_FORMAT", json!("raw")),
            ("ALIBABA_UPLOAD_PART_SIZE", json!(PART)),
            ("ALIBABA_THREAD_COUNT", json!(3)),
            ("ALIBABA_UPLOAD_FILE_RETRY_COUNT", json!(3)),
            ("ALIBABA_UPLOAD_FILE_RETRY_DELAY", json!(0)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        values.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let settings = Settings::from_values(values);
        let provider = Alibaba::create(&context, settings).unwrap();
        Self { host, context, provider, build: build() }
    }

    /// With another run's identifier.
    pub(crate) fn called(mut self, run_id: &str) -> Self {
        run_id.clone_into(&mut self.build.run_id);
        self
    }

    /// The check before a build.
    pub(crate) fn check(&self) -> CheckReport {
        self.check_with(|_| {})
    }

    /// A check with a changed request.
    pub(crate) fn check_with(&self, change: impl FnOnce(&mut CheckRequest)) -> CheckReport {
        let build = self.build.clone();
        let mut request = CheckRequest::new(build).online(true);
        change(&mut request);
        self.provider.check(&self.context, &request).unwrap()
    }

    pub(crate) fn disk(&self) -> Disk {
        let request = DiskRequest::new(self.build.clone(), Alibaba::describe().disk.spec);
        self.provider.create_disk(&self.context, &request).unwrap()
    }

    pub(crate) fn upload(&self) -> Result<Uploaded> {
        let request = UploadRequest::new(self.build.clone(), self.disk());
        self.provider.upload(&self.context, &request)
    }

    pub(crate) fn register(&self, uploaded: Uploaded) -> Result<Registered> {
        self.provider.register(&self.context, &RegisterRequest::new(self.build.clone(), uploaded))
    }
}

/// A number from the emulator's counts.
pub(crate) fn count(emulator: &Running, what: &str) -> u64 {
    emulator.status()[what].as_u64().unwrap()
}

/// The number of requests of one operation in a request log.
pub(crate) fn calls(log: &std::path::Path, operation: &str) -> usize {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["operation"] == operation).count()
}

/// Numbers of the parts in a request log, in the order in which they were answered.
pub(crate) fn parts(log: &std::path::Path) -> Vec<u64> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["part_number"].as_u64()).collect()
}

/// The fault rules of an emulator: how many calls each has matched and struck.
pub(crate) fn rules(emulator: &Running) -> Value {
    let url = format!("http://{}/_emulator/faults", emulator.address());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let answer = client.get(url).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    })
}
