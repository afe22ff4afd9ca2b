//! Answers questions that only single calls can: signatures, endpoints, dry runs, accepted formats, quotas.

use build_image_plugin_api::Resource;
use reqwest::Method;

use crate::{
    Stage,
    calls::{Caller, Reply, Signature},
    remove,
    trials::raw,
};

/// Number of consecutive calls of one kind, to see whether they are throttled.
const IN_A_ROW: usize = 120;
/// Format names of the import, documented or not.
const FORMATS: [&str; 6] = ["RAW", "QCOW2", "VHD", "VMDK", "VHDX", ""];

/// Sends all calls. Returns whether nothing was left over.
pub(crate) fn ask_all(stage: &Stage) -> bool {
    let Some(caller) = Caller::of(stage) else {
        println!(
            "\nsingle calls need ALIBABA_ACCESS_KEY_ID and ALIBABA_ACCESS_KEY_SECRET: left out"
        );
        return true;
    };
    signatures_and_endpoints(stage, &caller);
    rate(&caller);
    let key = format!("build-image-live-{}.raw", jiff::Timestamp::now().as_millisecond());
    let home = Caller::public(&caller.region);
    let put = |method, body| {
        caller.oss(&method, &home, Some(&key), &[], body, Signature::V4(&caller.region))
    };
    let sent = put(Method::PUT, raw());
    if sent.status >= 300 {
        println!("\nno object, no further questions: {}", sent.line());
        return true;
    }
    formats_and_dry_runs(stage, &caller, &key);
    let mut clean = imports_at_once(stage, &caller, &key);
    let gone = put(Method::DELETE, Vec::new());
    if gone.status >= 300 {
        println!("   LEFT OVER object {key}: {}", gone.line());
        clean = false;
    }
    clean
}

/// In the dry run the answers are known; this detects a call that does not arrive.
fn expect(stage: &Stage, reply: &Reply, wanted: &str) {
    if stage.emulator.is_some() {
        assert_eq!(reply.line(), wanted, "{}", reply.body);
    }
}

fn signatures_and_endpoints(stage: &Stage, caller: &Caller) {
    let (home, away) = (caller.region.as_str(), other_region(&caller.region));
    let info = |endpoint: &str, signature| {
        caller.oss(&Method::GET, endpoint, None, &[("bucketInfo", "")], Vec::new(), signature)
    };
    println!("\nis the V1 signature still taken from this account for this bucket");
    let reply = info(&Caller::public(home), Signature::V1);
    println!("   {}", reply.line());
    expect(stage, &reply, "HTTP 200");

    println!(
        "\nwhat does an endpoint of another region answer, with the bucket's region signed and with its own"
    );
    let reply = info(&Caller::public(away), Signature::V4(home));
    println!("   bucket's region: {}", reply.line());
    expect(stage, &reply, "HTTP 403 AccessDenied 0003-00001403");
    let reply = info(&Caller::public(away), Signature::V4(away));
    println!("   endpoint's region: {}", reply.line());
    let reply = info(&Caller::public(home), Signature::V4(away));
    println!("   right endpoint, wrong region signed: {}", reply.line());
    assert!(reply.status >= 400, "{}", reply.body);

    println!("\nwhich endpoints serve properties of the bucket, and which its data");
    for endpoint in [Caller::public(home), "oss-accelerate.aliyuncs.com".to_owned()] {
        let signature = Signature::V4(home);
        let properties = info(&endpoint, signature);
        let query = [("list-type", "2"), ("max-keys", "1")];
        let data = caller.oss(&Method::GET, &endpoint, None, &query, Vec::new(), signature);
        println!("   {endpoint}: properties {}, data {}", properties.line(), data.line());
        expect(stage, &data, "HTTP 200");
    }
}

fn other_region(region: &str) -> &'static str {
    if region == "cn-shanghai" { "cn-hangzhou" } else { "cn-shanghai" }
}

fn rate(caller: &Caller) {
    println!("\nafter how many looks at a task in a row does the service throttle");
    let look = |_: &usize| {
        let reply = caller.ecs("DescribeTaskAttribute", &[("TaskId", "t-00000000000000000000")]);
        reply.code.starts_with("Throttling")
    };
    match (1..=IN_A_ROW).find(look) {
        Some(count) => println!("   after {count}"),
        None => println!("   not within {IN_A_ROW}"),
    }
}

/// Parameters of an import of an object.
fn import<'a>(
    caller: &'a Caller,
    key: &'a str,
    name: &'a str,
    format: &'a str,
) -> Vec<(&'a str, &'a str)> {
    let mut parameters = vec![
        ("ImageName", name),
        ("OSType", "linux"),
        ("Platform", "Others Linux"),
        ("DiskDeviceMapping.1.OSSBucket", caller.bucket.as_str()),
        ("DiskDeviceMapping.1.OSSObject", key),
    ];
    if !format.is_empty() {
        parameters.push(("DiskDeviceMapping.1.Format", format));
    }
    parameters
}

fn formats_and_dry_runs(stage: &Stage, caller: &Caller, key: &str) {
    println!("\nhow does a dry run say that the call would be made, and for which format words");
    for format in FORMATS {
        let mut parameters = import(caller, key, "build-image-live-dry", format);
        parameters.push(("DryRun", "true"));
        let reply = caller.ecs("ImportImage", &parameters);
        println!("   Format `{format}`: {}", reply.line());
        let known = !matches!(format, "VMDK" | "VHDX");
        let wanted = if known { "DryRunOperation" } else { "InvalidImageFormat.Malformed" };
        expect(stage, &reply, &format!("HTTP 400 {wanted}"));
    }
}

fn imports_at_once(stage: &Stage, caller: &Caller, key: &str) -> bool {
    if stage.imports == 0 {
        println!("\nhow many imports at once: not asked, ALIBABA_LIVE_IMPORTS is not set");
        return true;
    }
    println!("\nhow many imports at once");
    let (_, context, provider) = stage.provider(&raw(), &[]);
    let mut resources = Vec::new();
    for number in 1..=stage.imports {
        let name = format!("{}-{number}", key.trim_end_matches(".raw"));
        let reply = caller.ecs("ImportImage", &import(caller, key, &name, "RAW"));
        if !reply.code.is_empty() {
            println!("   number {number} is refused: {}", reply.line());
            break;
        }
        let answer = reply.json();
        let text = |member: &str| answer[member].as_str().unwrap_or_default().to_owned();
        resources.push(
            Resource::new("image", name)
                .in_region(&caller.region)
                .with_id(text("ImageId"))
                .with("bucket", &caller.bucket)
                .with("object", key)
                .with("task_id", text("TaskId")),
        );
    }
    println!("   {} were begun", resources.len());
    assert!(stage.emulator.is_none() || resources.len() == stage.imports);
    remove(&provider, &context, resources)
}
