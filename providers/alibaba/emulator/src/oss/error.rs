//! Defines OSS errors: status, code, message, EC, and further elements, and their encoding: XML in the body,
//! or base64 of the same XML in `x-oss-err` for HEAD. Codes: the vendor's error pages.

use crate::clock::{self, Millis};
use crate::oss::xml::escape;

/// An error answer of OSS.
#[derive(Debug, Clone)]
pub(crate) struct OssError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) ec: Option<&'static str>,
    /// Further elements, in order.
    pub(crate) details: Vec<(&'static str, String)>,
    /// Milliseconds for `x-oss-qos-delay-time`.
    pub(crate) delay: Option<u64>,
}

impl OssError {
    /// 403 `AccessDenied` for a caller who does not own the bucket.
    pub(crate) fn not_the_owner() -> Self {
        Self::new(
            403,
            "AccessDenied",
            "You have no right to access this object because of bucket acl.",
        )
        .ec("0003-00000001")
    }

    /// An error without EC and details.
    pub(crate) fn new(status: u16, code: &str, message: &str) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
            ec: None,
            details: Vec::new(),
            delay: None,
        }
    }

    /// Sets the EC, the vendor's more specific error number.
    pub(crate) fn ec(mut self, ec: &'static str) -> Self {
        self.ec = Some(ec);
        self
    }

    /// Adds an element.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.details.push((name, value.to_owned()));
        self
    }

    /// An internal error of the server.
    pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Self {
        Self::new(500, "InternalError", &format!("The emulator failed: {cause}"))
    }

    /// 400 `InvalidArgument` about a named parameter.
    pub(crate) fn argument(name: &str, value: &str, message: &str) -> Self {
        Self::new(400, "InvalidArgument", message)
            .with("ArgumentName", name)
            .with("ArgumentValue", value)
    }

    /// 404 `NoSuchBucket`.
    pub(crate) fn no_bucket(name: &str) -> Self {
        Self::new(404, "NoSuchBucket", "The specified bucket does not exist.")
            .ec("0015-00000101")
            .with("BucketName", name)
    }

    /// 404 `NoSuchKey`.
    pub(crate) fn no_key(name: &str) -> Self {
        Self::new(404, "NoSuchKey", "The specified key does not exist.")
            .ec("0026-00000001")
            .with("Key", name)
    }

    /// 404 `NoSuchUpload`.
    pub(crate) fn no_upload(id: &str) -> Self {
        Self::new(
            404,
            "NoSuchUpload",
            "The specified upload does not exist. The upload ID may be invalid, or the upload may \
             have been aborted or completed.",
        )
        .ec("0042-00000002")
        .with("UploadId", id)
    }

    /// 409 `FileAlreadyExists`.
    pub(crate) fn exists(name: &str) -> Self {
        Self::new(
            409,
            "FileAlreadyExists",
            "The object you specified already exists and can not be overwritten.",
        )
        .with("Key", name)
    }

    /// 403 `SecurityTokenExpired`.
    pub(crate) fn expired() -> Self {
        Self::new(403, "SecurityTokenExpired", "The security token you provided has expired.")
            .ec("0002-00000069")
    }

    /// 403 `RequestTimeTooSkewed`.
    pub(crate) fn skewed(signed: Millis, now: Millis) -> Self {
        Self::new(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )
        .ec("0002-00000504")
        .with("MaxAllowedSkewMilliseconds", "900000")
        .with("RequestTime", &clock::iso_zeros(signed))
        .with("ServerTime", &clock::iso_zeros(now))
    }

    /// 403 `SignatureDoesNotMatch` with the string that the server would have signed.
    pub(crate) fn signature(key: &str, provided: &str, string_to_sign: &str) -> Self {
        Self::new(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. \
             Check your key and signing method.",
        )
        .ec("0002-00000040")
        .with("OSSAccessKeyId", key)
        .with("SignatureProvided", provided)
        .with("StringToSign", string_to_sign)
    }

    /// The XML document.
    pub(crate) fn to_xml(&self, request_id: &str, host: &str) -> String {
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
        let mut element = |name: &str, value: &str| {
            text.push_str(&format!("\n  <{name}>{}</{name}>", escape(value)));
        };
        element("Code", &self.code);
        element("Message", &self.message);
        element("RequestId", request_id);
        element("HostId", host);
        for (name, value) in &self.details {
            element(name, value);
        }
        if let Some(ec) = self.ec {
            element("EC", ec);
        }
        text.push_str("\n</Error>\n");
        text
    }
}

impl From<crate::state::StateError> for OssError {
    fn from(error: crate::state::StateError) -> Self {
        Self::internal(&error)
    }
}
