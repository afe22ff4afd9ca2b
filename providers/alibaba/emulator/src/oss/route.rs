//! Determines the operation of a request head: bucket and key (virtual host or path style) and the requested
//! operation. Virtual hosts are determined by the Host header, whatever the address of the connection.

use std::net::IpAddr;

use super::copy;
use super::error::OssError;
use super::operation::Operation;
use crate::auth::encode;
use crate::auth::oss_v4::Resource;
use crate::http::Head;

/// A call to OSS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OssCall {
    pub(crate) operation: Operation,
    pub(crate) bucket: Option<String>,
    pub(crate) key: Option<String>,
    /// Region of the endpoint, if the host is one of the vendor's.
    pub(crate) endpoint_region: Option<String>,
    /// Path style on one of the vendor's hosts, which the real service forbids.
    pub(crate) forbidden_style: bool,
}

impl OssCall {
    /// Bucket and key as the signature uses them.
    pub(crate) fn resource(&self) -> Resource<'_> {
        Resource { bucket: self.bucket.as_deref(), key: self.key.as_deref() }
    }
}

/// How the host identifies its bucket.
struct Addressing<'a> {
    bucket: Option<&'a str>,
    region: Option<String>,
    vendor: bool,
}

/// Region in the names of the vendor's endpoints: `oss-<region>[-internal]` and `<region>.oss`.
fn endpoint_region(host: &str) -> Option<String> {
    let name = host.strip_suffix(".aliyuncs.com")?;
    let region = name.strip_prefix("oss-").or_else(|| name.strip_suffix(".oss"))?;
    let region = region.strip_suffix("-internal").unwrap_or(region);
    let accelerated = region == "accelerate" || region == "accelerate-overseas";
    (!accelerated && !region.contains('.')).then(|| region.to_owned())
}

fn is_endpoint(host: &str) -> bool {
    endpoint_region(host).is_some()
        || matches!(host, "oss-accelerate.aliyuncs.com" | "oss-accelerate-overseas.aliyuncs.com")
}

fn addressing(host: &str) -> Addressing<'_> {
    let bare = Addressing { bucket: None, region: None, vendor: false };
    if host.is_empty() || host == "localhost" || host.parse::<IpAddr>().is_ok() {
        return bare;
    }
    if is_endpoint(host) {
        return Addressing { bucket: None, region: endpoint_region(host), vendor: true };
    }
    match host.split_once('.') {
        Some((bucket, rest)) => Addressing {
            bucket: Some(bucket),
            region: endpoint_region(rest),
            vendor: is_endpoint(rest),
        },
        None => bare,
    }
}

/// Determines what a request asks for. Bucket and key are split on the raw path, then decoded: some clients
/// encode the `/` of keys.
pub(crate) fn route(head: &Head) -> Result<OssCall, OssError> {
    let Addressing { bucket, region, vendor } = addressing(head.host_name());
    let path = head.raw_path.strip_prefix('/').unwrap_or(&head.raw_path);
    let (raw_bucket, raw_key, path_style) = match bucket {
        Some(bucket) => (bucket, path, false),
        None => {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            (bucket, key, true)
        }
    };
    let word = |raw: &str| {
        encode::decode(raw).ok_or_else(|| {
            OssError::new(400, "InvalidURI", "The path of the request is not UTF-8.")
        })
    };
    let bucket = Some(word(raw_bucket)?).filter(|name| !name.is_empty());
    let key = Some(word(raw_key)?).filter(|key| !key.is_empty());
    let operation = operation(head, bucket.is_some(), key.is_some());
    let forbidden_style = vendor && path_style && bucket.is_some();
    Ok(OssCall { operation, bucket, key, endpoint_region: region, forbidden_style })
}

/// Sub-resources of operations that this emulator does not implement.
const FOREIGN: [&str; 20] = [
    "accessmonitor",
    "acl",
    "append",
    "callback",
    "comp",
    "cors",
    "inventory",
    "lifecycle",
    "logging",
    "policy",
    "qos",
    "referer",
    "replication",
    "restore",
    "style",
    "symlink",
    "tagging",
    "versioning",
    "website",
    "worm",
];

const ACCELERATION: &str = "transferAcceleration";

fn operation(head: &Head, bucket: bool, key: bool) -> Operation {
    if FOREIGN.iter().any(|name| head.has(name)) {
        return Operation::Unknown;
    }
    let method = head.method.as_str();
    if key {
        return object_operation(head, method);
    }
    match (method, bucket) {
        ("GET", false) => Operation::ListBuckets,
        ("GET", true) if head.has("bucketInfo") => Operation::GetBucketInfo,
        ("GET", true) if head.has("stat") => Operation::GetBucketStat,
        ("GET", true) if head.has("encryption") => Operation::GetBucketEncryption,
        ("PUT", true) if head.has("encryption") => Operation::PutBucketEncryption,
        ("DELETE", true) if head.has("encryption") => Operation::DeleteBucketEncryption,
        ("GET", true) if head.has(ACCELERATION) => Operation::GetBucketTransferAcceleration,
        ("PUT", true) if head.has(ACCELERATION) => Operation::PutBucketTransferAcceleration,
        ("POST", true) if head.has("delete") => Operation::DeleteMultipleObjects,
        ("GET", true) if head.has("location") => Operation::GetBucketLocation,
        ("GET", true) if head.has("uploads") => Operation::ListMultipartUploads,
        ("GET", true) if head.parameter("list-type") == Some("2") => Operation::ListObjectsV2,
        ("GET", true) => Operation::ListObjects,
        ("PUT", true) => Operation::PutBucket,
        ("DELETE", true) => Operation::DeleteBucket,
        _ => Operation::Unknown,
    }
}

fn object_operation(head: &Head, method: &str) -> Operation {
    let copies = copy::is_meant(head);
    match method {
        "PUT" if head.has("uploadId") || head.has("partNumber") => {
            if copies {
                Operation::UploadPartCopy
            } else {
                Operation::UploadPart
            }
        }
        "PUT" if copies => Operation::CopyObject,
        "PUT" => Operation::PutObject,
        "GET" if head.has("uploadId") => Operation::ListParts,
        "GET" | "HEAD" if head.has("objectMeta") => Operation::GetObjectMeta,
        "GET" => Operation::GetObject,
        "HEAD" => Operation::HeadObject,
        "POST" if head.has("uploads") => Operation::InitiateMultipartUpload,
        "POST" if head.has("uploadId") => Operation::CompleteMultipartUpload,
        "DELETE" if head.has("uploadId") => Operation::AbortMultipartUpload,
        "DELETE" => Operation::DeleteObject,
        _ => Operation::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::route;
    use crate::auth::encode;
    use crate::http::Head;
    use crate::oss::operation::Operation;

    fn head(method: &str, host: &str, target: &str) -> Head {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Head {
            method: method.to_owned(),
            host: host.to_owned(),
            raw_path: path.to_owned(),
            query: encode::pairs(query).unwrap(),
            ..Head::default()
        }
    }

    #[test]
    fn bucket_and_key_are_found_in_both_styles() {
        for (host, path) in [
            ("127.0.0.1:80", "/demo/dir%2Fa%20b%2B"),
            ("localhost:80", "/demo/dir/a%20b%2B"),
            ("demo.oss-cn-hangzhou.aliyuncs.com", "/dir/a%20b%2B"),
            ("demo.localhost:80", "/dir/a%20b%2B"),
        ] {
            let call = route(&head("PUT", host, path)).unwrap();
            assert_eq!(call.bucket.as_deref(), Some("demo"), "{host}");
            assert_eq!(call.key.as_deref(), Some("dir/a b+"), "{host}");
            assert_eq!(call.operation, Operation::PutObject);
            assert!(!call.forbidden_style);
        }
        let public = route(&head("GET", "oss-cn-x-internal.aliyuncs.com", "/demo/k")).unwrap();
        assert_eq!(public.endpoint_region.as_deref(), Some("cn-x"));
        assert!(public.forbidden_style);
    }

    #[test]
    fn sub_resources_choose_the_operation() {
        for (method, target, operation) in [
            ("GET", "/", Operation::ListBuckets),
            ("GET", "/b/?bucketInfo=", Operation::GetBucketInfo),
            ("GET", "/b?location", Operation::GetBucketLocation),
            ("GET", "/b?uploads=&prefix=a", Operation::ListMultipartUploads),
            ("GET", "/b?list-type=2", Operation::ListObjectsV2),
            ("GET", "/b", Operation::ListObjects),
            ("GET", "/b?acl", Operation::Unknown),
            ("POST", "/b/k?uploads=", Operation::InitiateMultipartUpload),
            ("PUT", "/b/k?partNumber=1&uploadId=U", Operation::UploadPart),
            ("POST", "/b/k?uploadId=U", Operation::CompleteMultipartUpload),
            ("DELETE", "/b/k?uploadId=U", Operation::AbortMultipartUpload),
            ("GET", "/b/k?uploadId=U", Operation::ListParts),
            ("PATCH", "/b/k", Operation::Unknown),
            ("GET", "/b?stat", Operation::GetBucketStat),
            ("POST", "/b?delete", Operation::DeleteMultipleObjects),
            ("PUT", "/b?encryption", Operation::PutBucketEncryption),
            ("HEAD", "/b/k?objectMeta", Operation::GetObjectMeta),
        ] {
            assert_eq!(route(&head(method, "[::1]:1", target)).unwrap().operation, operation);
        }
    }
}
