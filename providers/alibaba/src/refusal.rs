//! Turns a refusal of a service into an error, by its row in the table of `codes` or else by its status. The
//! requested object is unknown here; callers name it.

use build_image_plugin_api::{
    Error, ErrorKind,
    retry::{Failure, RetryAction},
};

use crate::codes::{ELSEWHERE, Row, TABLE};

/// A refusal as the service returned it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) status: u16,
    /// Vendor code.
    pub(crate) code: String,
    /// OSS error-code number, such as `0002-00000040`.
    pub(crate) ec: String,
    /// Vendor text.
    pub(crate) message: String,
    /// Identifier that the vendor's support asks for.
    pub(crate) request_id: String,
    /// Region of the bucket, if the service names it.
    pub(crate) region: Option<String>,
    /// Text with the string that the server signed, if the server reports it.
    pub(crate) echo: Option<String>,
}

fn fits(pattern: &str, code: &str) -> bool {
    if let Some(end) = pattern.strip_prefix('*') {
        return code.ends_with(end);
    }
    pattern.strip_suffix('*').map_or(pattern == code, |start| code.starts_with(start))
}

fn row(code: &str, ec: &str) -> Option<&'static Row> {
    let by_ec = TABLE.iter().find(|row| !row.1.is_empty() && row.1 == ec);
    let exact = || TABLE.iter().find(|row| row.1.is_empty() && row.0 == code);
    let wide = || TABLE.iter().find(|row| row.1.is_empty() && fits(row.0, code));
    by_ec.or_else(exact).or_else(wide)
}

/// Kind and retry action of an unlisted code with this status.
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

/// Whether the service refused the only attempt of a call, so that the call has created nothing. After a
/// broken connection, an earlier attempt may have.
pub(crate) fn refused_outright(error: &Error) -> bool {
    error.context("code").is_some() && error.context("attempts").is_none() && !error.retryable
}

impl Refusal {
    /// The failure of `what` (a lower-case fragment: operation and object).
    pub(crate) fn into_failure(self, what: &str) -> Failure {
        let known = row(&self.code, &self.ec);
        let (kind, action) = known.map_or_else(|| by_status(self.status), |row| (row.2, row.3));
        let meaning = known.map_or("refused", |row| row.4);
        let mut error = Error::new(kind, format!("{what}: {meaning}"));
        if let Some(region) = self.region.filter(|_| meaning == ELSEWHERE) {
            error.message = format!("{what}: the bucket is in region {region}");
            error.hint =
                Some(format!("set ALIBABA_REGION to {region}, or choose another ALIBABA_BUCKET"));
        } else {
            error.hint = known.map(|row| row.5).filter(|hint| !hint.is_empty()).map(str::to_owned);
        }
        error.retryable = action != RetryAction::GiveUp;
        for (name, value) in
            [("code", &self.code), ("ec", &self.ec), ("request_id", &self.request_id)]
        {
            if !value.is_empty() {
                error = error.with_context(name, value);
            }
        }
        // Tasks report codes without a status.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, code: &str, ec: &str) -> Failure {
        let refusal = Refusal {
            status,
            code: code.to_owned(),
            ec: ec.to_owned(),
            message: "vendor text".to_owned(),
            request_id: "REQ-1".to_owned(),
            region: None,
            echo: None,
        };
        refusal.into_failure("`GetBucketInfo` of bucket `b`")
    }

    #[test]
    fn a_listed_code_has_kind_advice_and_the_request_id() {
        let failure = failure(404, "NoSuchBucket", "0015-00000101");
        assert_eq!(failure.error.kind, ErrorKind::NotFound);
        assert_eq!(failure.error.context("request_id"), Some("REQ-1"));
        assert!(failure.error.hint.unwrap().contains("ALIBABA_BUCKET"));
        assert_eq!(failure.error.causes, ["vendor text"]);
        assert_eq!(failure.action, RetryAction::GiveUp);
    }

    #[test]
    fn an_error_number_is_more_exact_than_a_code() {
        let failure = failure(403, "AccessDenied", "0003-00001403");
        assert_eq!(failure.error.kind, ErrorKind::Config);
        assert!(failure.error.message.ends_with("another region"), "{}", failure.error);
    }

    #[test]
    fn a_bucket_elsewhere_is_named_with_its_region() {
        let refusal = Refusal {
            status: 403,
            code: "AccessDenied".to_owned(),
            ec: "0003-00001403".to_owned(),
            region: Some("cn-shanghai".to_owned()),
            ..Refusal::default()
        };
        let error = refusal.into_failure("`GetBucketInfo` of bucket `b`").error;
        assert!(error.message.ends_with("the bucket is in region cn-shanghai"), "{error}");
        assert!(error.hint.unwrap().contains("ALIBABA_REGION to cn-shanghai"));
    }

    #[test]
    fn an_exact_code_wins_over_a_family() {
        let duplicated = failure(400, "InvalidImageName.Duplicated", "");
        let malformed = failure(400, "InvalidImageName.Malformed", "");
        assert_eq!(duplicated.error.kind, ErrorKind::Conflict);
        assert_eq!(malformed.error.kind, ErrorKind::Config);
    }

    #[test]
    fn both_spellings_of_the_missing_role_have_a_hint_to_create_it() {
        for code in ["NoSetRoletoECSServiceAcount", "NoSetRoletoECSServiceAccount"] {
            let hint = failure(403, code, "").error.hint.unwrap();
            assert!(hint.contains("aliyun ram CreateRole") && hint.contains("AttachPolicyToRole"));
        }
    }

    #[test]
    fn load_and_faults_are_retried_with_backoff_and_the_rest_is_not() {
        for code in ["Throttling.User", "UploadTrafficRateLimitExceeded", "TotalQpsLimitExceeded"] {
            assert_eq!(failure(503, code, "").error.kind, ErrorKind::Throttled, "{code}");
            assert!(failure(503, code, "").error.retryable);
        }
        assert_eq!(failure(502, "", "").action, RetryAction::Backoff);
        assert_eq!(failure(403, "Whatever", "").action, RetryAction::GiveUp);
        assert_eq!(failure(403, "RequestTimeTooSkewed", "").action, RetryAction::ResyncClock);
    }

    #[test]
    fn every_row_has_a_meaning_and_a_hint() {
        for (code, ec, _, _, meaning, advice) in TABLE {
            assert!(!meaning.is_empty() && !advice.is_empty(), "{code}{ec}");
            assert!(!meaning.ends_with('.') && !advice.ends_with('.'), "{code}{ec}");
        }
    }

    #[test]
    fn no_row_hides_behind_an_earlier_one() {
        for (position, (code, ec, ..)) in TABLE.iter().enumerate() {
            let sample = code.replace('*', "X");
            let found = row(&sample, ec).map(std::ptr::from_ref);
            assert_eq!(found, Some(std::ptr::from_ref(&TABLE[position])), "{code} {ec}");
        }
    }
}
