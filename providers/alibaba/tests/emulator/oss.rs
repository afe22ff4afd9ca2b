//! Calls the emulator's OSS with requests that the provider does not send, signed here in the old form. No assertions.

use base64::Engine as _;
use build_image_emulator_alibaba::Running;
use hmac::{Hmac, Mac as _};
use sha1::Sha1;

/// One call on bucket `demo`; returns the status and the answer.
fn call(
    emulator: &Running,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Vec<u8>) {
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut signed: Vec<&(&str, &str)> =
        headers.iter().filter(|(name, _)| name.starts_with("x-oss-")).collect();
    signed.sort();
    let signed: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let text = format!("{method}\n\n\n{date}\n{signed}/demo/{path}");
    let mut mac = Hmac::<Sha1>::new_from_slice(b"emulator-secret").unwrap();
    mac.update(text.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // A crypto provider that is already installed takes precedence.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let url = format!("http://{}/demo/{path}", emulator.address());
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = client
            .request(method, url)
            .header("date", date)
            .header("content-length", body.len())
            .header("authorization", format!("OSS emulator-id:{signature}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(body.to_vec()).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    })
}

/// One call on bucket `demo`; returns the status.
fn oss(emulator: &Running, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
    call(emulator, method, path, headers, body).0
}

/// Writes an object with metadata.
pub(crate) fn put(emulator: &Running, key: &str, metadata: &[(&str, &str)]) {
    write(emulator, key, metadata, b"content");
}

/// Writes an object with metadata and content.
pub(crate) fn write(emulator: &Running, key: &str, metadata: &[(&str, &str)], content: &[u8]) {
    assert_eq!(oss(emulator, "PUT", key, metadata, content), 200, "{key}");
}

/// Deletes an object.
pub(crate) fn delete(emulator: &Running, key: &str) {
    assert_eq!(oss(emulator, "DELETE", key, &[], b""), 204, "{key}");
}

/// The content of an object.
pub(crate) fn get(emulator: &Running, key: &str) -> Vec<u8> {
    let (status, content) = call(emulator, "GET", key, &[], &[]);
    assert_eq!(status, 200, "{key}");
    content
}

/// Keys of the objects of the bucket, in their order.
pub(crate) fn keys(emulator: &Running) -> Vec<String> {
    let (status, text) = call(emulator, "GET", "", &[], &[]);
    assert_eq!(status, 200);
    let text = String::from_utf8(text).unwrap();
    let after = text.split("<Key>").skip(1);
    after.map(|rest| rest.split_once("</Key>").unwrap().0.to_owned()).collect()
}

/// Begins an upload.
pub(crate) fn begin_upload(emulator: &Running, key: &str) {
    assert_eq!(oss(emulator, "POST", &format!("{key}?uploads"), &[], b""), 200, "{key}");
}
