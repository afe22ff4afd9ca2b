//! Calls the emulator's ECS with requests that the provider does not send, signed here. No assertions.

use build_image_emulator_alibaba::Running;
use hmac::{Hmac, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One call; returns any answer.
pub(crate) fn ecs(emulator: &Running, action: &str, parameters: &[(&str, &str)]) -> Value {
    let encode = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
    let mut pairs: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.sort();
    let query = pairs.join("&");
    let host = emulator.address().to_string();
    let empty = hex(&Sha256::digest(b""));
    let nonce = format!("{:?}", std::time::Instant::now());
    let headers = [
        ("host", host.clone()),
        ("x-acs-action", action.to_owned()),
        ("x-acs-content-sha256", empty.clone()),
        ("x-acs-date", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ("x-acs-signature-nonce", hex(&Sha256::digest(nonce))),
        ("x-acs-version", "2014-05-26".to_owned()),
    ];
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names = headers.each_ref().map(|(name, _)| *name).join(";");
    let canonical = format!("POST\n/\n{query}\n{lines}\n{names}\n{empty}");
    let text = format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(canonical)));
    let mut mac = Hmac::<Sha256>::new_from_slice(b"emulator-secret").unwrap();
    mac.update(text.as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let mut request = client.post(format!("http://{host}/?{query}")).header(
            "authorization",
            format!("ACS3-HMAC-SHA256 Credential=emulator-id,SignedHeaders={names},Signature={signature}"),
        );
        for (name, value) in headers.into_iter().skip(1) {
            request = request.header(name, value);
        }
        let body = request.send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&body).unwrap()
    })
}

/// All own images of a region, in any state.
pub(crate) fn images(emulator: &Running, region: &str) -> Vec<Value> {
    let answer = ecs(
        emulator,
        "DescribeImages",
        &[
            ("RegionId", region),
            ("ImageOwnerAlias", "self"),
            ("PageSize", "100"),
            ("Status", "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated"),
        ],
    );
    answer["Images"]["Image"].as_array().cloned().unwrap_or_default()
}
