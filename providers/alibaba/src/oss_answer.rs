//! Parses the answers of OSS: XML, checksums in headers, refusals in bodies and headers.
//!
//! Source: OSS API documentation, "Error responses".

use build_image_plugin_api::{http::Answer, retry::Failure};

use base64::Engine as _;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{client::foreign, endpoint::VENDOR_DOMAIN, refusal::Refusal};

/// Header with the CRC-64 of the stored content.
const CRC_HEADER: &str = "x-oss-hash-crc64ecma";

/// The CRC-64 that the service computed over the stored content.
pub(crate) fn crc(answer: &Answer) -> Option<u64> {
    answer.header(CRC_HEADER).and_then(|text| text.trim().parse().ok())
}

/// Parses an answer's XML.
pub(crate) fn read_xml<T: DeserializeOwned>(
    operation: &str,
    answer: &Answer,
) -> Result<T, Failure> {
    let text = String::from_utf8_lossy(&answer.body);
    quick_xml::de::from_str(&text).map_err(|error| {
        let message = format!("`{operation}`: the answer of OSS could not be read");
        let error = foreign(message, &error)
            .with_context("request_id", answer.header("x-oss-request-id").unwrap_or("none"));
        Failure::stop(error)
    })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct XmlRefusal {
    code: String,
    message: String,
    request_id: String,
    #[serde(rename = "EC")]
    ec: String,
    string_to_sign: Option<String>,
    /// The endpoint of the bucket, if the request went to another region.
    endpoint: String,
}

/// The region of one of the vendor's OSS hosts.
fn region_of(host: &str) -> Option<String> {
    let region = host.strip_prefix("oss-")?.strip_suffix(VENDOR_DOMAIN)?;
    Some(region.trim_end_matches("-internal").to_owned()).filter(|region| !region.is_empty())
}

/// Reads a refusal: XML in the body or, for HEAD, in a header. Other bodies come from proxies.
pub(crate) fn read_refusal(answer: &Answer) -> Refusal {
    let from_header = || {
        let text = answer.header("x-oss-err")?;
        base64::engine::general_purpose::STANDARD.decode(text).ok()
    };
    let body = if answer.body.is_empty() {
        from_header().unwrap_or_default()
    } else {
        answer.body.to_vec()
    };
    let text = String::from_utf8_lossy(&body);
    let read: XmlRefusal = quick_xml::de::from_str(&text).unwrap_or_default();
    let header = |name| answer.header(name).unwrap_or_default().to_owned();
    let or = |text: String, otherwise: String| if text.is_empty() { otherwise } else { text };
    let excerpt =
        if read.code.is_empty() { text.chars().take(200).collect() } else { String::new() };
    Refusal {
        status: answer.status,
        code: read.code,
        ec: or(read.ec, header("x-oss-ec")),
        message: or(read.message, excerpt),
        request_id: or(read.request_id, header("x-oss-request-id")),
        region: region_of(&read.endpoint),
        echo: read.string_to_sign,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue};

    use super::*;
    use crate::oss::BucketAnswer;

    const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>NoSuchKey</Code>\
        <Message>gone</Message><RequestId>R1</RequestId><HostId>h</HostId><EC>0026-00000001</EC>\
        <Later>x</Later></Error>";

    fn answer(body: &str, headers: &[(&'static str, String)]) -> Answer {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    reqwest::header::HeaderName::from_static(name),
                    HeaderValue::try_from(value).unwrap(),
                )
            })
            .collect();
        Answer::new(404, headers, body.to_owned())
    }

    #[test]
    fn a_refusal_is_read_from_body_or_header() {
        let encoded = base64::engine::general_purpose::STANDARD.encode(XML);
        for answer in [answer(XML, &[]), answer("", &[("x-oss-err", encoded)])] {
            let refusal = read_refusal(&answer);
            assert_eq!(
                (refusal.code.as_str(), refusal.ec.as_str()),
                ("NoSuchKey", "0026-00000001")
            );
            assert_eq!((refusal.message.as_str(), refusal.request_id.as_str()), ("gone", "R1"));
        }
    }

    #[test]
    fn a_proxys_page_is_shown_in_its_own_words() {
        let refusal = read_refusal(&answer("<html><body>Blocked by policy", &[]));
        assert_eq!(refusal.code, "");
        assert!(refusal.message.contains("Blocked by policy"));
    }

    #[test]
    fn a_bucket_without_encryption_rule_is_read() {
        let body = "<BucketInfo><Bucket><Location>oss-cn-hangzhou</Location>\
            <StorageClass>Standard</StorageClass><Owner><ID>1</ID></Owner></Bucket></BucketInfo>";
        let info = read_xml::<BucketAnswer>("GetBucketInfo", &answer(body, &[])).unwrap().bucket;
        assert_eq!(
            (info.location.as_str(), info.encryption.algorithm.as_str()),
            ("oss-cn-hangzhou", "")
        );
    }
}
