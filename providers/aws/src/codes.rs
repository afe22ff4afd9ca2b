//! Lists the known refusals: code of the vendor → kind, retry action, meaning, hint. `refusal` finds a row and turns it
//! into an error.
//!
//! Source: error tables of EC2 (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>), EBS
//! direct, S3, STS, IAM, and KMS. Codes that are not listed are classified by their status and reported with the
//! vendor's text.

use build_image_plugin_api::{
    ErrorKind::{
        self, Auth, Config, Conflict, InvalidImage, NotFound, Provider, Quota, Throttled,
        Unsupported,
    },
    retry::RetryAction::{self, Backoff, GiveUp, RenewCredentials, ResyncClock},
};

/// One row: code, reason of EBS, or status code of a task (a `*` at either end matches anything); kind; retry action;
/// meaning; hint.
pub(crate) type Row = (&'static str, ErrorKind, RetryAction, &'static str, &'static str);

const KEY_HINT: &str = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile in AWS_PROFILE; check them with: aws sts get-caller-identity";
const TOKEN_HINT: &str = "get new temporary credentials (aws sso login, or set AWS_SESSION_TOKEN with its key pair) and resume the run";
const RIGHTS_HINT: &str = "attach the policy from the provider's README to the user or role; the vendor's text names the action";
const SIGN_HINT: &str = "check AWS_SECRET_ACCESS_KEY, and the proxy between here and the cloud: it may rewrite requests";
const CLOCK_HINT: &str = "set the clock; it must be within 5 minutes of the service's";
const REGION_HINT: &str =
    "check AWS_REGION; enable the region with: aws account enable-region --region-name REGION";
const NAME_HINT: &str = "choose another CLOUD_IMAGE_NAME, deregister the image that has it, or set AWS_IF_EXISTS=replace";
const KMS_HINT: &str = "check AWS_KMS_KEY_ID and that the key is enabled, symmetric, in the same region, and usable by these credentials";
const BUCKET_HINT: &str =
    "check AWS_BUCKET and AWS_REGION; create it with: aws s3 mb s3://BUCKET --region REGION";
const ROLE_HINT: &str = "create the service role once, as in the provider's README, or name another one in AWS_IMPORT_ROLE_NAME";
const SHARE_HINT: &str =
    "check AWS_IMAGE_SHARE_ACCOUNT_IDS and the lists of organizations and units";
const QUOTA_HINT: &str =
    "delete what is no longer needed, or ask for a higher quota in the Service Quotas console";
const SLOW_HINT: &str =
    "look for other programs that call the API with this account, or resume the run later";
const LATER_HINT: &str = "resume the run later; https://health.aws.amazon.com shows outages";
const LOST_HINT: &str = "another client may have deleted it; build again";
const TAG_HINT: &str = "check IMAGE_TAGS: at most 50, not beginning with `aws:`";
const DISK_HINT: &str = "compare the disk with the requirements of VM Import, or leave AWS_UPLOAD unset to upload it with EBS direct";
const SETTING_HINT: &str =
    "the vendor's text names the setting; check the AWS_* settings of the image";
const NEW_RUN_HINT: &str = "build again in a new run";
const FREEZE_HINT: &str = "resume the run; the blocks that arrived are kept";

const SLOW: &str = "too many requests";
const FAILED: &str = "the service failed";
const WRONG_KEY: &str = "the access key is not valid";
const NO_RIGHT: &str = "not permitted";

/// Every known refusal. No row hides behind an earlier one.
#[rustfmt::skip]
pub(crate) static TABLE: &[Row] = &[
    // Identity and permissions
    ("AuthFailure", Auth, GiveUp, WRONG_KEY, KEY_HINT),
    ("InvalidClientTokenId", Auth, GiveUp, WRONG_KEY, KEY_HINT),
    ("UnrecognizedClientException", Auth, GiveUp, WRONG_KEY, KEY_HINT),
    ("InvalidAccessKeyId", Auth, GiveUp, WRONG_KEY, KEY_HINT),
    ("MissingAuthenticationToken*", Auth, GiveUp, "the request had no credentials", KEY_HINT),
    ("IncompleteSignature*", Auth, GiveUp, "the request was changed on its way", SIGN_HINT),
    ("SignatureDoesNotMatch", Auth, GiveUp, "the secret access key is wrong", SIGN_HINT),
    ("InvalidSignatureException", Auth, GiveUp, "the secret access key is wrong", SIGN_HINT),
    ("ExpiredToken*", Auth, RenewCredentials, "the credentials have expired", TOKEN_HINT),
    ("RequestExpired", Auth, ResyncClock, "the clock of this machine is wrong, or the credentials have expired", CLOCK_HINT),
    ("RequestTimeTooSkewed", Auth, ResyncClock, "the clock of this machine is wrong", CLOCK_HINT),
    ("InvalidToken", Auth, RenewCredentials, "the session token is not valid", TOKEN_HINT),
    ("UnauthorizedOperation", Auth, GiveUp, NO_RIGHT, RIGHTS_HINT),
    ("AccessDenied*", Auth, GiveUp, NO_RIGHT, RIGHTS_HINT),
    ("Blocked", Auth, GiveUp, "the account is blocked", "contact the vendor's support"),
    ("OptInRequired", Auth, GiveUp, "the account is not subscribed to the service, or the region is not enabled", REGION_HINT),
    ("PendingVerification", Auth, GiveUp, "the account is being verified", "wait for the vendor's mail, and resume the run"),
    // Names, images, snapshots
    ("InvalidAMIName.Duplicate", Conflict, GiveUp, "an image has the name already", NAME_HINT),
    ("InvalidAMIName.Malformed", Config, GiveUp, "the image name is not allowed", "choose another CLOUD_IMAGE_NAME"),
    ("InvalidAMIID.NotFound", NotFound, GiveUp, "the image does not exist", LOST_HINT),
    ("InvalidAMIID.Unavailable", NotFound, GiveUp, "the image does not exist any more", LOST_HINT),
    ("InvalidAMIID.Malformed", Config, GiveUp, "the identifier is not that of an image", SETTING_HINT),
    ("InvalidSnapshot.NotFound", NotFound, GiveUp, "the snapshot does not exist", LOST_HINT),
    ("InvalidSnapshot.InUse", Conflict, GiveUp, "an image uses the snapshot", "deregister the image first"),
    ("InvalidSnapshotID.Malformed", Config, GiveUp, "the identifier is not that of a snapshot", SETTING_HINT),
    ("IncorrectState", Conflict, GiveUp, "the object is in another state", "look at it in the console, and resume the run"),
    ("InvalidBlockDeviceMapping", Config, GiveUp, "the block device mapping was refused", "check AWS_ROOT_DEVICE_NAME, AWS_VOLUME_TYPE, and AWS_VOLUME_SIZE"),
    ("InvalidParameter*", Config, GiveUp, "a setting was refused", SETTING_HINT),
    ("UnsupportedOperation", Unsupported, GiveUp, "the operation is not supported for this object", SETTING_HINT),
    ("OperationNotPermitted", Conflict, GiveUp, "the operation is not allowed now", SETTING_HINT),
    ("Unsupported", Unsupported, GiveUp, "not supported in this region", SETTING_HINT),
    ("MissingParameter", Config, GiveUp, "a setting is missing", SETTING_HINT),
    ("InvalidAction", Unsupported, GiveUp, "the endpoint does not know the call", "check AWS_ENDPOINT_URL"),
    ("InvalidRegion", Config, GiveUp, "the region does not exist", REGION_HINT),
    ("TagLimitExceeded", Config, GiveUp, "there are too many tags", TAG_HINT),
    ("InvalidTag*", Config, GiveUp, "a tag was refused", TAG_HINT),
    // Shares
    ("InvalidAMIAttributeItemValue", Config, GiveUp, "an account to share with does not exist", SHARE_HINT),
    ("InvalidUserID.Malformed", Config, GiveUp, "an account to share with is malformed", SHARE_HINT),
    ("InvalidOrganization*", Config, GiveUp, "an organization or unit to share with does not exist", SHARE_HINT),
    ("OperationNotPermitted.BlockPublicAccess", Config, GiveUp, "the account blocks public images", "share with accounts, or disable it with: aws ec2 disable-image-block-public-access"),
    // Quotas
    ("SnapshotLimitExceeded", Quota, GiveUp, "the account has too many snapshots", QUOTA_HINT),
    ("ConcurrentSnapshotLimitExceeded", Quota, Backoff, "too many snapshots are pending", QUOTA_HINT),
    ("PendingSnapshotLimitExceeded", Quota, Backoff, "too many snapshots are pending", QUOTA_HINT),
    ("AMIQuotaExceeded", Quota, GiveUp, "the account has too many images", QUOTA_HINT),
    ("ResourceCountExceeded", Quota, GiveUp, "too many tasks are running", QUOTA_HINT),
    ("ResourceLimitExceeded", Quota, GiveUp, "a quota of the account is used up", QUOTA_HINT),
    ("ServiceQuotaExceededException", Quota, GiveUp, "a quota of the account is used up", QUOTA_HINT),
    ("DEPENDENCY_SERVICE_QUOTA_EXCEEDED", Quota, GiveUp, "the account has too many snapshots", QUOTA_HINT),
    ("ConcurrentLimitExceededException", Quota, Backoff, "too many snapshots are pending", QUOTA_HINT),
    // EBS direct: reasons before codes
    ("INVALID_CUSTOMER_KEY", Config, GiveUp, "the KMS key cannot be used", KMS_HINT),
    ("DEPENDENCY_ACCESS_DENIED", Auth, GiveUp, "the KMS key may not be used", KMS_HINT),
    ("INVALID_TAG", Config, GiveUp, "a tag was refused", TAG_HINT),
    ("INVALID_VOLUME_SIZE", InvalidImage, GiveUp, "the size of the volume was refused", "use a disk of 1 GiB to 64 TiB"),
    ("INVALID_SNAPSHOT_ID", NotFound, GiveUp, "the snapshot does not exist", LOST_HINT),
    ("INVALID_BLOCK", Provider, Backoff, "a block arrived damaged", FREEZE_HINT),
    ("INVALID_CONTENT_ENCODING", Provider, Backoff, "a block arrived damaged", FREEZE_HINT),
    ("WRITE_REQUEST_TIMEOUT", Provider, Backoff, "a block arrived too slowly", FREEZE_HINT),
    ("SNAPSHOT_NOT_FOUND", NotFound, GiveUp, "the snapshot does not exist", LOST_HINT),
    ("ConflictException", Conflict, GiveUp, "an earlier attempt of this run asked for something else", NEW_RUN_HINT),
    ("ResourceNotFoundException", NotFound, GiveUp, "the object does not exist", LOST_HINT),
    ("ValidationException", Config, GiveUp, "a value was refused", SETTING_HINT),
    ("IdempotentParameterMismatch", Conflict, GiveUp, "an earlier attempt of this run asked for something else", NEW_RUN_HINT),
    // KMS
    ("NotFoundException", NotFound, GiveUp, "the KMS key does not exist", KMS_HINT),
    ("InvalidArnException", Config, GiveUp, "the identifier is not that of a KMS key", KMS_HINT),
    ("DisabledException", Config, GiveUp, "the KMS key is disabled", KMS_HINT),
    ("KMSInvalidStateException", Config, GiveUp, "the KMS key is not in use", KMS_HINT),
    ("InvalidKmsKey*", Config, GiveUp, "the KMS key cannot be used", KMS_HINT),
    // S3 and import
    ("NoSuchBucket", NotFound, GiveUp, "the bucket does not exist", BUCKET_HINT),
    ("InvalidBucketName", Config, GiveUp, "the bucket's name is not allowed", BUCKET_HINT),
    ("PermanentRedirect", Config, GiveUp, "the bucket is in another region", BUCKET_HINT),
    ("AuthorizationHeaderMalformed", Config, GiveUp, "the bucket is in another region", BUCKET_HINT),
    ("IllegalLocationConstraintException", Config, GiveUp, "the bucket is in another region", BUCKET_HINT),
    ("NoSuchUpload", NotFound, GiveUp, "the upload does not exist any more", "resume the run: it begins another upload"),
    ("NoSuchKey", NotFound, GiveUp, "the object does not exist", LOST_HINT),
    ("InvalidPart*", Provider, GiveUp, "a part of the upload is missing or was changed", "resume the run: missing parts are sent again"),
    ("BadDigest", Provider, Backoff, "data arrived damaged", FREEZE_HINT),
    ("XAmzContentSHA256Mismatch", Provider, Backoff, "data arrived damaged", FREEZE_HINT),
    ("XAmzContentChecksumMismatch", Provider, Backoff, "data arrived damaged", FREEZE_HINT),
    ("EntityTooSmall", Provider, GiveUp, "a part of the upload is too small", NEW_RUN_HINT),
    ("EntityTooLarge", InvalidImage, GiveUp, "the object is too large", DISK_HINT),
    ("NoSuchEntity", NotFound, GiveUp, "the role does not exist", ROLE_HINT),
    ("InvalidConversionTaskId*", NotFound, GiveUp, "the import task does not exist", NEW_RUN_HINT),
    ("InvalidFormat", InvalidImage, GiveUp, "the disk's format was refused", DISK_HINT),
    // Load and faults
    ("RequestLimitExceeded", Throttled, Backoff, SLOW, SLOW_HINT),
    ("Throttling*", Throttled, Backoff, SLOW, SLOW_HINT),
    ("RequestThrottled*", Throttled, Backoff, SLOW, SLOW_HINT),
    ("DEPENDENCY_REQUEST_THROTTLED", Throttled, Backoff, SLOW, SLOW_HINT),
    ("TooManyRequests*", Throttled, Backoff, SLOW, SLOW_HINT),
    ("SlowDown", Throttled, Backoff, SLOW, SLOW_HINT),
    ("BandwidthLimitExceeded", Throttled, Backoff, SLOW, SLOW_HINT),
    ("ServiceUnavailable*", Provider, Backoff, "the service is not available", LATER_HINT),
    ("Unavailable", Provider, Backoff, "the service is not available", LATER_HINT),
    ("InternalError", Provider, Backoff, FAILED, LATER_HINT),
    ("InternalFailure", Provider, Backoff, FAILED, LATER_HINT),
    ("InternalServer*", Provider, Backoff, FAILED, LATER_HINT),
    ("RequestTimeout*", Provider, Backoff, "the request arrived too slowly", FREEZE_HINT),
    ("InsufficientCapacity", Provider, Backoff, "the service has no capacity now", LATER_HINT),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::{Refusal, row};

    #[test]
    fn every_row_has_a_meaning_and_a_hint() {
        for (code, _, _, meaning, hint) in TABLE {
            assert!(!meaning.is_empty() && !hint.is_empty(), "{code}");
            assert!(!meaning.ends_with('.') && !hint.ends_with('.'), "{code}");
        }
        assert!(TABLE.len() >= 40);
    }

    #[test]
    fn no_row_hides_behind_an_earlier_one() {
        for (position, known) in TABLE.iter().enumerate() {
            let found = row(&known.0.replace('*', "X")).map(std::ptr::from_ref);
            assert_eq!(found, Some(std::ptr::from_ref(&TABLE[position])), "{}", known.0);
        }
    }

    #[test]
    fn refusals_have_the_kind_and_the_action_of_the_vendors_table() {
        for (code, reason, kind, action) in [
            ("InvalidAMIName.Duplicate", "", Conflict, GiveUp),
            ("UnauthorizedOperation", "", Auth, GiveUp),
            ("AccessDeniedException", "", Auth, GiveUp),
            ("ExpiredTokenException", "", Auth, RenewCredentials),
            ("RequestTimeTooSkewed", "", Auth, ResyncClock),
            ("RequestLimitExceeded", "", Throttled, Backoff),
            ("RequestThrottledException", "ACCOUNT_THROTTLED", Throttled, Backoff),
            ("ThrottlingException", "", Throttled, Backoff),
            ("ValidationException", "INVALID_CUSTOMER_KEY", Config, GiveUp),
            ("ValidationException", "INVALID_BLOCK", Provider, Backoff),
            ("ValidationException", "", Config, GiveUp),
            ("SlowDown", "", Throttled, Backoff),
            ("InternalServerException", "", Provider, Backoff),
            ("SnapshotLimitExceeded", "", Quota, GiveUp),
            ("InvalidParameterCombination", "", Config, GiveUp),
            ("OperationNotPermitted", "", Conflict, GiveUp),
        ] {
            let (code, reason) = (code.to_owned(), reason.to_owned());
            let refusal = Refusal { status: 400, code, reason, ..Refusal::default() };
            let failure = refusal.clone().into_failure("x");
            assert_eq!((failure.error.kind, failure.action), (kind, action), "{refusal:?}");
            assert_eq!(failure.error.retryable, action != GiveUp, "{refusal:?}");
        }
    }
}
