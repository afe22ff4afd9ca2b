//! Turns a refusal of a service into an error: by its row in the table of `codes`, or else by its status.

use build_image_plugin_api::{
    Error, ErrorKind,
    http::Answer,
    retry::{Failure, RetryAction},
};
use quick_xml::{Reader, events::Event};
use serde_json::Value;

use crate::codes::{Row, TABLE};

/// A refusal as the service returned it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// HTTP status; 0 for a task that failed.
    pub(crate) status: u16,
    /// Code of the vendor.
    pub(crate) code: String,
    /// A more exact word that EBS adds to its codes.
    pub(crate) reason: String,
    /// Text of the vendor.
    pub(crate) message: String,
    /// Identifier that the vendor's support asks for.
    pub(crate) request_id: String,
}

fn fits(pattern: &str, code: &str) -> bool {
    if let Some(end) = pattern.strip_prefix('*') {
        return code.ends_with(end);
    }
    pattern.strip_suffix('*').map_or(pattern == code, |start| code.starts_with(start))
}

/// Returns the row of a code: an exact one before one with an asterisk.
pub(crate) fn row(code: &str) -> Option<&'static Row> {
    let exact = TABLE.iter().find(|row| row.0 == code);
    exact.or_else(|| TABLE.iter().find(|row| fits(row.0, code)))
}

/// Kind and action of an unlisted code with this status.
fn by_status(status: u16) -> (ErrorKind, RetryAction) {
    match status {
        401 | 403 => (ErrorKind::Auth, RetryAction::GiveUp),
        404 => (ErrorKind::NotFound, RetryAction::GiveUp),
        408 | 500 | 502 | 503 | 504 => (ErrorKind::Provider, RetryAction::Backoff),
        409 => (ErrorKind::Conflict, RetryAction::GiveUp),
        429 => (ErrorKind::Throttled, RetryAction::Backoff),
        _ => (ErrorKind::Provider, RetryAction::GiveUp),
    }
}

/// Whether the service refused the only attempt of a call, so that the call has created nothing. After a broken
/// connection, an earlier attempt may have.
pub(crate) fn refused_outright(failure: &Failure) -> bool {
    failure.status.is_some_and(|status| status < 500) && failure.error.context("attempts").is_none()
}

impl Refusal {
    /// Reads the body of an answer: XML of EC2, STS, IAM, and S3, or JSON of EBS and KMS.
    pub(crate) fn read(answer: &Answer) -> Self {
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        let mut refusal = match answer.json() {
            Some(value) => Self::of_json(&value),
            None => Self::of_xml(&answer.body),
        };
        refusal.status = answer.status;
        if refusal.code.is_empty() {
            refusal.code = header("x-amzn-errortype");
        }
        // `Name:http://…` and `namespace#Name` both mean `Name`.
        let bare = refusal.code.split(':').next().unwrap_or_default();
        refusal.code = bare.rsplit('#').next().unwrap_or_default().to_owned();
        if refusal.code.is_empty() && answer.body.is_empty() {
            // Answers to HEAD have no body.
            refusal.code = match answer.status {
                301 => "PermanentRedirect".to_owned(),
                404 => "NotFound".to_owned(),
                _ => String::new(),
            };
        }
        if refusal.request_id.is_empty() {
            refusal.request_id = [header("x-amzn-requestid"), header("x-amz-request-id")].concat();
        }
        refusal
    }

    fn of_json(value: &Value) -> Self {
        let text = |names: [&str; 3]| {
            let found = names.iter().find_map(|name| value.get(name).and_then(Value::as_str));
            found.unwrap_or_default().to_owned()
        };
        Self {
            code: text(["__type", "code", "Code"]),
            reason: text(["Reason", "reason", "Reason"]),
            message: text(["message", "Message", "errorMessage"]),
            ..Self::default()
        }
    }

    fn of_xml(body: &[u8]) -> Self {
        let mut refusal = Self::default();
        let mut reader = Reader::from_reader(body);
        let (mut element, mut buffer) = (String::new(), Vec::new());
        while let Ok(event) = reader.read_event_into(&mut buffer) {
            let text = match &event {
                Event::Start(start) => {
                    start.local_name().as_ref().clone_into(&mut element);
                    continue;
                }
                Event::End(_) => {
                    element.clear();
                    continue;
                }
                Event::Text(text) => &**text,
                Event::GeneralRef(name) => {
                    quick_xml::escape::resolve_predefined_entity(name).unwrap_or("?")
                }
                Event::Eof => break,
                _ => continue,
            };
            match element.as_str() {
                "Code" => refusal.code.push_str(text.trim()),
                "Message" => refusal.message.push_str(text),
                "RequestID" | "RequestId" => refusal.request_id.push_str(text.trim()),
                _ => {}
            }
        }
        refusal
    }

    /// The failure of `what` (a lower-case fragment: operation and object).
    pub(crate) fn into_failure(self, what: &str) -> Failure {
        let by_reason = Some(&self.reason).filter(|reason| !reason.is_empty());
        let mut known = by_reason.and_then(|reason| row(reason)).or_else(|| row(&self.code));
        if self.says_clock() {
            known = row("RequestTimeTooSkewed");
        }
        let (kind, action) = known.map_or_else(|| by_status(self.status), |row| (row.1, row.2));
        let meaning = known.map_or("refused", |row| row.3);
        let mut error = Error::new(kind, format!("{what}: {meaning}"));
        error.hint = known.map(|row| row.4.to_owned());
        error.retryable = action != RetryAction::GiveUp;
        for (name, value) in
            [("code", &self.code), ("reason", &self.reason), ("request_id", &self.request_id)]
        {
            if !value.is_empty() {
                error = error.with_context(name, value);
            }
        }
        if self.status != 0 {
            error = error.with_context("status", self.status);
        }
        if !self.message.is_empty() {
            error.causes.push(self.message);
        }
        let mut failure = Failure::refused(error, action);
        (failure.status, failure.code) =
            (Some(self.status).filter(|status| *status != 0), self.code);
        failure
    }

    /// Whether a signature was refused because of the time: JSON services have no other code for it.
    fn says_clock(&self) -> bool {
        let by_signature =
            ["InvalidSignatureException", "SignatureDoesNotMatch"].contains(&self.code.as_str());
        let texts = ["Signature expired", "Signature not yet current"];
        by_signature && texts.iter().any(|text| self.message.contains(text))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    fn read(status: u16, body: &str, kind: Option<&'static str>) -> Refusal {
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert("x-amzn-errortype", kind.parse().unwrap());
        }
        Refusal::read(&Answer::new(status, headers, body.to_owned()))
    }

    #[test]
    fn every_style_of_the_vendor_is_read() {
        let ec2 = "<?xml version=\"1.0\"?><Response><Errors><Error><Code>InvalidAMIName.Duplicate</Code><Message>it is &quot;taken&quot; now</Message></Error></Errors><RequestID>r-1</RequestID></Response>";
        let sts = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code><Message>bad</Message></Error><RequestId>r-2</RequestId></ErrorResponse>";
        let s3 = "<Error><Code>NoSuchBucket</Code><Message>none</Message><BucketName>b</BucketName><RequestId>r-3</RequestId></Error>";
        for (body, code, message, id) in [
            (ec2, "InvalidAMIName.Duplicate", "it is \"taken\" now", "r-1"),
            (sts, "InvalidClientTokenId", "bad", "r-2"),
            (s3, "NoSuchBucket", "none", "r-3"),
        ] {
            let found = read(400, body, None);
            let expected = (code, message, id);
            assert_eq!((&*found.code, &*found.message, &*found.request_id), expected);
        }
        let ebs = "{\"Message\":\"no key\",\"Reason\":\"INVALID_CUSTOMER_KEY\"}";
        let found = read(400, ebs, Some("ValidationException:http://internal.amazon.com/x"));
        assert_eq!((&*found.code, &*found.reason), ("ValidationException", "INVALID_CUSTOMER_KEY"));
        let kms =
            read(400, "{\"__type\":\"com.amazonaws#NotFoundException\",\"message\":\"m\"}", None);
        assert_eq!((&*kms.code, &*kms.message), ("NotFoundException", "m"));
        assert_eq!(read(404, "", None).code, "NotFound");
        assert_eq!(read(502, "<html>proxy", None).code, "");
    }

    #[test]
    fn a_signature_of_another_time_asks_for_the_clock() {
        let late = Refusal {
            status: 403,
            code: "InvalidSignatureException".to_owned(),
            message: "Signature expired: 20260101T000000Z is now earlier than …".to_owned(),
            ..Refusal::default()
        };
        assert_eq!(late.clone().into_failure("x").action, RetryAction::ResyncClock);
        let wrong = Refusal { message: "does not match".to_owned(), ..late };
        assert_eq!(wrong.into_failure("x").action, RetryAction::GiveUp);
    }

    #[test]
    fn an_unlisted_code_is_judged_by_its_status_and_keeps_the_vendors_text() {
        for (status, kind, action) in [
            (403, ErrorKind::Auth, RetryAction::GiveUp),
            (404, ErrorKind::NotFound, RetryAction::GiveUp),
            (409, ErrorKind::Conflict, RetryAction::GiveUp),
            (429, ErrorKind::Throttled, RetryAction::Backoff),
            (503, ErrorKind::Provider, RetryAction::Backoff),
            (418, ErrorKind::Provider, RetryAction::GiveUp),
        ] {
            let refusal = Refusal {
                status,
                code: "Brand.New".to_owned(),
                message: "text".to_owned(),
                request_id: "r".to_owned(),
                ..Refusal::default()
            };
            let failure = refusal.into_failure("`RegisterImage` of image `web`");
            assert_eq!((failure.error.kind, failure.action), (kind, action), "{status}");
            assert_eq!(failure.error.causes, ["text"]);
            assert_eq!(failure.error.context("request_id"), Some("r"));
        }
    }
}
