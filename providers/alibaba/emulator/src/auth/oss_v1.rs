//! Verifies OSS signature V1 (HMAC-SHA1), on the server side: header form and query form. Old, but some
//! clients still send it. Source: the vendor's pages "Include signatures in the Authorization header" and
//! "Include signatures in URLs".

use super::mac;
use super::oss_v4::{MAX_SKEW, Resource, find_account};
use crate::clock::{self, Millis};
use crate::config::Account;
use crate::http::Head;
use crate::oss::error::OssError;

/// Query parameters that are part of the signed resource.
const SUB_RESOURCES: [&str; 44] = [
    "acl",
    "append",
    "asyncFetch",
    "bucketInfo",
    "callback",
    "callback-var",
    "cname",
    "comp",
    "continuation-token",
    "cors",
    "delete",
    "encryption",
    "endTime",
    "img",
    "inventory",
    "inventoryId",
    "lifecycle",
    "live",
    "location",
    "logging",
    "metaQuery",
    "objectMeta",
    "partNumber",
    "policy",
    "position",
    "qos",
    "referer",
    "regionList",
    "replication",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "security-token",
    "sequential",
    "stat",
    "status",
    "symlink",
    "tagging",
    "uploadId",
    "uploads",
];
const MORE_SUB_RESOURCES: [&str; 40] = [
    "startTime",
    "style",
    "styleName",
    "transferAcceleration",
    "udf",
    "versionId",
    "versioning",
    "versions",
    "vod",
    "website",
    "worm",
    "x-oss-process",
    "accessPoint",
    "accessPointPolicy",
    "bucketArchiveDirectRead",
    "group",
    "httpsConfig",
    "link",
    "objectInfo",
    "publicAccessBlock",
    "qosInfo",
    "qosRequester",
    "redundancyTransition",
    "replicationLocation",
    "replicationProgress",
    "requestPayment",
    "requesterQosInfo",
    "resourceGroup",
    "resourcePool",
    "resourcePoolBuckets",
    "resourcePoolInfo",
    "wormExtend",
    "wormId",
    "x-oss-access-point-name",
    "x-oss-async-process",
    "x-oss-redundancy-transition-taskid",
    "x-oss-request-payer",
    "x-oss-target-redundancy-type",
    "x-oss-traffic-limit",
    "x-oss-write-get-object-response",
];

/// Whether the request carries a V1 signature in one of the two forms.
pub(crate) fn is_used(head: &Head) -> bool {
    head.header("authorization").is_some_and(|text| text.starts_with("OSS "))
        || head.has("OSSAccessKeyId")
}

/// Verifies the request and returns the id of the key that signed it.
pub(crate) fn verify(
    head: &Head,
    resource: Resource<'_>,
    accounts: &[Account],
    now: Millis,
) -> Result<String, OssError> {
    let (key_id, signature, date, token) =
        if head.has("OSSAccessKeyId") { from_query(head, now)? } else { from_header(head, now)? };
    let account = find_account(accounts, key_id, token)?;
    let string_to_sign = string_to_sign(head, resource, date);
    let expected = mac::sha1_base64(account.secret.as_bytes(), &string_to_sign);
    if mac::equal(&expected, signature) {
        Ok(key_id.to_owned())
    } else {
        Err(OssError::signature(key_id, signature, &String::from_utf8_lossy(&string_to_sign)))
    }
}

type Fields<'a> = (&'a str, &'a str, &'a str, Option<&'a str>);

fn from_header(head: &Head, now: Millis) -> Result<Fields<'_>, OssError> {
    let (key_id, signature) = head
        .header("authorization")
        .and_then(|text| text.strip_prefix("OSS "))
        .and_then(|text| text.trim().split_once(':'))
        .ok_or_else(|| {
            OssError::new(400, "InvalidArgument", "The Authorization header is malformed.")
                .ec("0002-00000202")
        })?;
    let date = head.header("x-oss-date").or_else(|| head.header("date")).unwrap_or_default();
    let signed = clock::parse_rfc1123(date).ok_or_else(|| {
        OssError::new(403, "AccessDenied", "OSS authentication requires a valid Date.")
    })?;
    if (now - signed).abs() > MAX_SKEW {
        return Err(OssError::skewed(signed, now));
    }
    let token = head.header("x-oss-security-token").or_else(|| head.header("security-token"));
    Ok((key_id, signature, date, token))
}

fn from_query(head: &Head, now: Millis) -> Result<Fields<'_>, OssError> {
    let need = |name: &str| {
        head.given(name).ok_or_else(|| {
            OssError::new(
                403,
                "AccessDenied",
                "Query-string authentication requires the Signature, Expires and OSSAccessKeyId \
                 parameters",
            )
        })
    };
    let expires = need("Expires")?;
    let until: i64 = expires.parse().map_err(|_| {
        OssError::new(403, "AccessDenied", "Invalid date (should be seconds since epoch)")
    })?;
    if until.saturating_mul(1000) < now {
        return Err(OssError::new(403, "AccessDenied", "Request has expired.")
            .with("Expires", &clock::iso_zeros(until.saturating_mul(1000)))
            .with("ServerTime", &clock::iso_zeros(now)));
    }
    Ok((need("OSSAccessKeyId")?, need("Signature")?, expires, head.given("security-token")))
}

fn string_to_sign(head: &Head, resource: Resource<'_>, date: &str) -> Vec<u8> {
    let plain = |name: &str| head.header(name).unwrap_or_default();
    let mut text =
        format!("{}\n{}\n{}\n{date}\n", head.method, plain("content-md5"), plain("content-type"))
            .into_bytes();
    let mut names: Vec<&str> =
        head.headers.keys().map(|name| name.as_str()).filter(|n| n.starts_with("x-oss-")).collect();
    names.sort_unstable();
    for name in names {
        for value in head.headers.get_all(name) {
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes().trim_ascii());
            text.push(b'\n');
        }
    }
    text.extend(resource.path().into_bytes());
    let mut pairs: Vec<&(String, String)> =
        head.query.iter().filter(|(key, _)| is_sub_resource(key)).collect();
    pairs.sort_unstable();
    for (index, (key, value)) in pairs.into_iter().enumerate() {
        text.push(if index == 0 { b'?' } else { b'&' });
        text.extend_from_slice(key.as_bytes());
        if !value.is_empty() {
            text.push(b'=');
            text.extend_from_slice(value.as_bytes());
        }
    }
    text
}

fn is_sub_resource(name: &str) -> bool {
    SUB_RESOURCES.contains(&name)
        || MORE_SUB_RESOURCES.contains(&name)
        || name.starts_with("x-oss-ac-")
}
