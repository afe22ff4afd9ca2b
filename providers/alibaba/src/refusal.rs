//! The table of refusals: vendor code (and OSS error-code number) → kind, cure, meaning, advice.
//!
//! Source: error tables of the OSS and ECS documentation. Codes not listed are judged by their
//! status and shown in the vendor's words.

use build_image_plugin_api::{Error, ErrorKind};

use crate::error::{Cure, Failure};

/// A refusal as a service wrote it.
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
    /// Identifier the vendor's support asks for.
    pub(crate) request_id: String,
    /// Text with what the server signed, when it tells.
    pub(crate) echo: Option<String>,
}

/// One row: code (a trailing `*` stands for anything), EC or empty, kind, cure, meaning, advice.
type Row = (&'static str, &'static str, ErrorKind, Cure, &'static str, &'static str);

const KEY_HINT: &str = "check ALIBABA_ACCESS_KEY_ID and ALIBABA_ACCESS_KEY_SECRET, and that the key is enabled in the RAM console";
const TOKEN_HINT: &str = "get a new temporary key and set ALIBABA_SECURITY_TOKEN with its key pair";
const RIGHTS_HINT: &str = "attach the RAM policy from the provider's README to the user or role; the vendor's text names the action";
const BUCKET_HINT: &str = "check ALIBABA_BUCKET and ALIBABA_REGION; create it with: aliyun oss mb oss://BUCKET --region REGION";
/// What to do when ECS may not read the bucket; the placeholders are filled by nobody: names are fixed.
pub(crate) const ROLE_HINT: &str = "create the role once: aliyun ram CreateRole --RoleName AliyunECSImageImportDefaultRole --AssumeRolePolicyDocument '{\"Version\":\"1\",\"Statement\":[{\"Action\":\"sts:AssumeRole\",\"Effect\":\"Allow\",\"Principal\":{\"Service\":[\"ecs.aliyuncs.com\"]}}]}' && aliyun ram AttachPolicyToRole --PolicyType System --PolicyName AliyunECSImageImportRolePolicy --RoleName AliyunECSImageImportDefaultRole; it takes about a minute to become effective";
const NAME_HINT: &str = "choose another CLOUD_IMAGE_NAME or delete the image that has it";
const FORMAT_HINT: &str = "check ALIBABA_DISK_FORMAT";
const SLOW_HINT: &str =
    "the account's request limit was reached; try again later or lower ALIBABA_THREAD_COUNT";
const NO_HINT: &str = "";

#[rustfmt::skip]
static TABLE: &[Row] = &[
    // Keys, tokens, clock, signature
    ("", "0002-00000080", ErrorKind::Auth, Cure::None, "the account does not take this signature version", "report this; the tool signs with version 4"),
    ("", "0002-00000228", ErrorKind::Config, Cure::None, "the bucket is in another region", "set ALIBABA_REGION to the bucket's region"),
    ("", "0002-00000226", ErrorKind::Config, Cure::None, "the bucket is in another region", "set ALIBABA_REGION to the bucket's region"),
    ("", "0003-00001403", ErrorKind::Config, Cure::None, "the bucket is in another region", "set ALIBABA_REGION to the bucket's region"),
    ("InvalidAccessKeyId*", "", ErrorKind::Auth, Cure::None, "the access key is unknown or disabled", KEY_HINT),
    ("InvalidAccessKeySecret", "", ErrorKind::Auth, Cure::None, "the access key secret is wrong", KEY_HINT),
    ("SignatureDoesNotMatch", "", ErrorKind::Auth, Cure::None, "the signature was refused", KEY_HINT),
    ("IncompleteSignature", "", ErrorKind::Auth, Cure::None, "the signature was refused", KEY_HINT),
    ("SecurityTokenExpired", "", ErrorKind::Auth, Cure::None, "the temporary key has expired", TOKEN_HINT),
    ("InvalidSecurityToken*", "", ErrorKind::Auth, Cure::None, "the security token was refused", TOKEN_HINT),
    ("AccessKeyIdAndSecurityTokenNotMatch", "", ErrorKind::Auth, Cure::None, "security token and access key do not belong together", TOKEN_HINT),
    ("RequestTimeTooSkewed", "", ErrorKind::Auth, Cure::Clock, "this machine's clock is wrong", "set the clock; it must be within 15 minutes"),
    ("InvalidTimeStamp*", "", ErrorKind::Auth, Cure::Clock, "this machine's clock is wrong", "set the clock; it must be within 15 minutes"),
    ("IllegalTimestamp", "", ErrorKind::Auth, Cure::Clock, "this machine's clock is wrong", "set the clock; it must be within 15 minutes"),
    ("SignatureNonceUsed", "", ErrorKind::Provider, Cure::Time, "the request was seen before", NO_HINT),
    // Rights and account
    ("AccessDenied", "", ErrorKind::Auth, Cure::None, "not permitted", RIGHTS_HINT),
    ("Forbidden*", "", ErrorKind::Auth, Cure::None, "not permitted", RIGHTS_HINT),
    ("NoPermission*", "", ErrorKind::Auth, Cure::None, "not permitted", RIGHTS_HINT),
    ("NoSetRoletoECSServiceAc*", "", ErrorKind::Auth, Cure::None, "ECS may not read the bucket: the import role does not exist", ROLE_HINT),
    ("InvalidOSS.NotAuthorized", "", ErrorKind::Auth, Cure::None, "ECS may not read the bucket", ROLE_HINT),
    ("EntityNotExist.Role*", "", ErrorKind::Auth, Cure::None, "the import role does not exist", ROLE_HINT),
    ("UserDisable", "", ErrorKind::Auth, Cure::None, "the account is stopped or in debt", "settle the account's bills"),
    ("InDebt", "", ErrorKind::Auth, Cure::None, "the account is in debt", "settle the account's bills"),
    ("Account.Arrearage", "", ErrorKind::Auth, Cure::None, "the account is in debt", "settle the account's bills"),
    ("InvalidAccountStatus.OSSDisabled", "", ErrorKind::Auth, Cure::None, "OSS is not activated for the account", "activate OSS in the console"),
    ("UserNotInTheWhiteList", "", ErrorKind::Auth, Cure::None, "the account may not import images this way", "ask the vendor's support"),
    ("PublicEndpointForbidden", "", ErrorKind::Auth, Cure::None, "the bucket's data cannot be reached through the public endpoint", "bind a domain to the bucket and set ALIBABA_OSS_ENDPOINT, or run inside the region with ALIBABA_UPLOAD_INTERNAL_OSS_ENDPOINT=true"),
    // Buckets and objects
    ("NoSuchBucket", "", ErrorKind::NotFound, Cure::None, "the bucket does not exist", BUCKET_HINT),
    ("InvalidBucketName", "", ErrorKind::Config, Cure::None, "this is not a bucket name", "check ALIBABA_BUCKET"),
    ("InvalidOSSBucket.NotFound", "", ErrorKind::NotFound, Cure::None, "the bucket does not exist in the region", BUCKET_HINT),
    ("InvalidOSSBucket.NotMatched", "", ErrorKind::Config, Cure::None, "the bucket is in another region", "set ALIBABA_REGION to the bucket's region"),
    ("InvalidOSSBucket.EncryptUnsupported", "", ErrorKind::InvalidImage, Cure::None, "the object is encrypted by the server", "use a bucket without default encryption"),
    ("InvalidOSSBucket*", "", ErrorKind::Provider, Cure::None, "ECS does not take the bucket", BUCKET_HINT),
    ("NoSuchKey", "", ErrorKind::NotFound, Cure::None, "the object does not exist", NO_HINT),
    ("InvalidObjectName", "", ErrorKind::Config, Cure::None, "this is not an object key", "check ALIBABA_OSS_PREFIX"),
    ("InvalidOSSObject.NotFound", "", ErrorKind::NotFound, Cure::None, "ECS does not find the uploaded object", "upload again"),
    ("InvalidOSSObject.NeedRestore", "", ErrorKind::InvalidImage, Cure::None, "the object is in an archive storage class", "use a bucket with storage class Standard"),
    ("InvalidOSSObject*", "", ErrorKind::InvalidImage, Cure::None, "ECS does not take the uploaded object", FORMAT_HINT),
    ("UnsupportedSuffix.OSSObject", "", ErrorKind::InvalidImage, Cure::None, "ECS does not take the suffix of the object's key", FORMAT_HINT),
    // Uploads
    ("NoSuchUpload", "", ErrorKind::NotFound, Cure::None, "the multipart upload does not exist any more", "start the upload again; check the bucket's lifecycle rules"),
    ("InvalidPart*", "", ErrorKind::Provider, Cure::None, "the list of parts was refused", "start the upload again"),
    ("EntityTooSmall", "", ErrorKind::Config, Cure::None, "a part is too small", "raise ALIBABA_UPLOAD_PART_SIZE to at least 100 KiB"),
    ("EntityTooLarge", "", ErrorKind::Config, Cure::None, "a part is too large", "lower ALIBABA_UPLOAD_PART_SIZE to at most 5 GiB"),
    ("InvalidDigest", "", ErrorKind::Network, Cure::Time, "the bytes were changed on the way", NO_HINT),
    ("RequestTimeout", "", ErrorKind::Network, Cure::Time, "the bytes came too slowly", NO_HINT),
    ("FileAlreadyExists", "", ErrorKind::Conflict, Cure::None, "an object with this key exists", "choose another ALIBABA_OSS_PREFIX"),
    // Images
    ("InvalidImageName.Duplicated", "", ErrorKind::Conflict, Cure::None, "an image with this name exists", NAME_HINT),
    ("InvalidImageName*", "", ErrorKind::Config, Cure::None, "this is not an image name", "2 to 128 characters, a letter first, not starting with `aliyun` or `acs:`"),
    ("InvalidImageFormat*", "", ErrorKind::InvalidImage, Cure::None, "ECS does not take the disk's format", FORMAT_HINT),
    ("InvalidImageSize*", "", ErrorKind::InvalidImage, Cure::None, "ECS does not take the disk's size", "sizes from 1 to 2048 GiB are taken"),
    ("InvalidRegionId.NotFound", "", ErrorKind::Config, Cure::None, "the region does not exist", "check ALIBABA_REGION; list them with: aliyun ecs DescribeRegions"),
    ("InvalidRegion.NotSupport", "", ErrorKind::Config, Cure::None, "the region does not import images", "choose another ALIBABA_REGION"),
    ("InvalidPlatform*", "", ErrorKind::Config, Cure::None, "ECS does not know the platform", "check ALIBABA_PLATFORM"),
    ("InvalidArchitecture*", "", ErrorKind::Config, Cure::None, "ECS does not take the architecture", "check ALIBABA_ARCHITECTURE and ALIBABA_PLATFORM"),
    ("InvalidBootMode*", "", ErrorKind::Config, Cure::None, "ECS does not take the boot mode", "check ALIBABA_BOOT_MODE"),
    ("InvalidLicenseType*", "", ErrorKind::Config, Cure::None, "ECS does not take the licence type", "check ALIBABA_LICENSE_TYPE"),
    ("InvalidResourceGroup*", "", ErrorKind::Config, Cure::None, "the resource group does not exist", "check ALIBABA_RESOURCE_GROUP_ID"),
    ("TagKey.Duplication", "", ErrorKind::Config, Cure::None, "two tag keys differ only by case", "check IMAGE_TAGS"),
    ("QuotaExceed.ShareImage*", "", ErrorKind::Quota, Cure::None, "the image is shared with too many accounts", "shorten ALIBABA_IMAGE_SHARE_ACCOUNT_IDS or ask for a higher quota"),
    ("QuotaExceed*", "", ErrorKind::Quota, Cure::None, "a quota of the account is used up", "delete old images and snapshots or ask for a higher quota"),
    ("ImageIsImporting", "", ErrorKind::Conflict, Cure::None, "an import with this image is running", "wait until it ends or cancel it: aliyun ecs CancelTask"),
    ("InvalidAccount.NotFound", "", ErrorKind::Config, Cure::None, "an account to share with does not exist", "check ALIBABA_IMAGE_SHARE_ACCOUNT_IDS"),
    ("InvalidAccount.Forbbiden", "", ErrorKind::Config, Cure::None, "an image cannot be shared with its own account", "take the own account out of ALIBABA_IMAGE_SHARE_ACCOUNT_IDS"),
    ("InvalidImageId.NotFound", "", ErrorKind::NotFound, Cure::None, "the image does not exist", NO_HINT),
    ("InvalidTaskId.NotFound", "", ErrorKind::NotFound, Cure::None, "the task does not exist", NO_HINT),
    ("IdempotentParameterMismatch", "", ErrorKind::Conflict, Cure::None, "an earlier attempt of this run asked for something else", "start a new run"),
    ("IdempotentProcessing", "", ErrorKind::Provider, Cure::Time, "the same request is still being worked on", NO_HINT),
    ("ImageUsingByInstance", "", ErrorKind::Conflict, Cure::None, "an instance uses the image", "release the instance first"),
    ("ImageUseShared", "", ErrorKind::Conflict, Cure::None, "the image is shared", "take back the shares first"),
    // Load and faults
    ("Throttling*", "", ErrorKind::Throttled, Cure::Time, "the cloud asks to slow down", SLOW_HINT),
    ("*RateLimitExceeded", "", ErrorKind::Throttled, Cure::Time, "the cloud asks to slow down", SLOW_HINT),
    ("*QpsLimitExceeded", "", ErrorKind::Throttled, Cure::Time, "the cloud asks to slow down", SLOW_HINT),
    ("ActiveRequestLimitExceeded", "", ErrorKind::Throttled, Cure::Time, "the cloud asks to slow down", SLOW_HINT),
    ("InvalidOSSBucket.FlowLimit", "", ErrorKind::Throttled, Cure::Time, "the cloud asks to slow down", SLOW_HINT),
    ("ServiceUnavailable", "", ErrorKind::Provider, Cure::Time, "the service is not available", "try again later"),
    ("InternalError", "", ErrorKind::Provider, Cure::Time, "the service failed", "try again later"),
    ("UnknownError", "", ErrorKind::Provider, Cure::Time, "the service failed", "try again later"),
    // What tasks report of a disk
    ("ImportImageFailed", "", ErrorKind::InvalidImage, Cure::None, "ECS could not import the disk", FORMAT_HINT),
    ("InvalidBlockSize*", "", ErrorKind::InvalidImage, Cure::None, "ECS does not take the disk's block size", FORMAT_HINT),
];

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

/// What an unlisted code of this status is.
fn by_status(status: u16) -> (ErrorKind, Cure) {
    match status {
        401 | 403 => (ErrorKind::Auth, Cure::None),
        404 => (ErrorKind::NotFound, Cure::None),
        408 | 500 | 502 | 503 | 504 => (ErrorKind::Provider, Cure::Time),
        409 => (ErrorKind::Conflict, Cure::None),
        429 => (ErrorKind::Throttled, Cure::Time),
        _ => (ErrorKind::Provider, Cure::None),
    }
}

impl Refusal {
    /// The failure of `what` (a lower-case fragment: operation and object).
    pub(crate) fn into_failure(self, what: &str) -> Failure {
        let known = row(&self.code, &self.ec);
        let (kind, cure) = known.map_or_else(|| by_status(self.status), |row| (row.2, row.3));
        let meaning = known.map_or("refused", |row| row.4);
        let mut error = Error::new(kind, format!("{what}: {meaning}"));
        error.hint = known.map(|row| row.5).filter(|hint| !hint.is_empty()).map(str::to_owned);
        error.retryable = cure != Cure::None;
        for (name, value) in
            [("code", &self.code), ("ec", &self.ec), ("request_id", &self.request_id)]
        {
            if !value.is_empty() {
                error = error.with(name, value);
            }
        }
        // Tasks report codes without a status.
        if self.status != 0 {
            error = error.with("status", self.status);
        }
        if !self.message.is_empty() {
            error.causes.push(self.message);
        }
        Failure { error: Box::new(error), code: self.code, cure, pause: None }
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
        assert_eq!(failure.cure, Cure::None);
    }

    #[test]
    fn an_error_number_is_more_exact_than_a_code() {
        let failure = failure(403, "AccessDenied", "0003-00001403");
        assert_eq!(failure.error.kind, ErrorKind::Config);
        assert!(failure.error.message.ends_with("another region"), "{}", failure.error);
    }

    #[test]
    fn an_exact_code_wins_over_a_family() {
        let duplicated = failure(400, "InvalidImageName.Duplicated", "");
        let malformed = failure(400, "InvalidImageName.Malformed", "");
        assert_eq!(duplicated.error.kind, ErrorKind::Conflict);
        assert_eq!(malformed.error.kind, ErrorKind::Config);
    }

    #[test]
    fn both_spellings_of_the_missing_role_say_how_to_make_it() {
        for code in ["NoSetRoletoECSServiceAcount", "NoSetRoletoECSServiceAccount"] {
            let hint = failure(403, code, "").error.hint.unwrap();
            assert!(hint.contains("aliyun ram CreateRole") && hint.contains("AttachPolicyToRole"));
        }
    }

    #[test]
    fn load_and_faults_are_cured_by_time_and_the_rest_is_not() {
        for code in ["Throttling.User", "UploadTrafficRateLimitExceeded", "TotalQpsLimitExceeded"] {
            assert_eq!(failure(503, code, "").error.kind, ErrorKind::Throttled, "{code}");
            assert!(failure(503, code, "").error.retryable);
        }
        assert_eq!(failure(502, "", "").cure, Cure::Time);
        assert_eq!(failure(403, "Whatever", "").cure, Cure::None);
        assert_eq!(failure(403, "RequestTimeTooSkewed", "").cure, Cure::Clock);
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
