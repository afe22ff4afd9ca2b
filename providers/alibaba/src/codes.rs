//! Lists the known refusals: vendor code (or OSS error-code number) → kind, retry action, meaning, hint.
//! `refusal` finds a row and turns it into an error.
//!
//! Source: error tables of the OSS, ECS, RAM, and STS documentation. Codes not listed are classified by their
//! status and reported with the vendor's text.

use build_image_plugin_api::{
    ErrorKind::{
        self, Auth, Config, Conflict, InvalidImage, Network, NotFound, Provider, Quota, Throttled,
        Unsupported,
    },
    retry::RetryAction::{self, Backoff, GiveUp, RenewCredentials, ResyncClock},
};

/// One row: code (a `*` at either end matches anything), EC or empty, kind, retry action, meaning, hint.
pub(crate) type Row =
    (&'static str, &'static str, ErrorKind, RetryAction, &'static str, &'static str);

const KEY_HINT: &str = "check ALIBABA_ACCESS_KEY_ID and ALIBABA_ACCESS_KEY_SECRET, and that the key is enabled in the RAM console";
const TOKEN_HINT: &str = "get a new temporary key and set ALIBABA_SECURITY_TOKEN with its key pair";
const SIGN_HINT: &str = "check the proxy between here and the cloud: it may rewrite requests";
const RIGHTS_HINT: &str = "attach the RAM policy from the provider's README to the user or role; the vendor's text names the action";
const CLOCK_HINT: &str = "set the clock; it must be within 15 minutes";
const BILLS_HINT: &str = "settle the account's bills";
const BUCKET_HINT: &str = "check ALIBABA_BUCKET and ALIBABA_REGION; create it with: aliyun oss mb oss://BUCKET --region REGION";
const REGION_HINT: &str = "set ALIBABA_REGION to the bucket's region";
/// Hint for the case that ECS may not read the bucket.
pub(crate) const ROLE_HINT: &str = "create the role once: aliyun ram CreateRole --RoleName AliyunECSImageImportDefaultRole --AssumeRolePolicyDocument '{\"Version\":\"1\",\"Statement\":[{\"Action\":\"sts:AssumeRole\",\"Effect\":\"Allow\",\"Principal\":{\"Service\":[\"ecs.aliyuncs.com\"]}}]}' && aliyun ram AttachPolicyToRole --PolicyType System --PolicyName AliyunECSImageImportRolePolicy --RoleName AliyunECSImageImportDefaultRole; or set ALIBABA_CREATE_ROLE=true; it takes about a minute to become effective";
const NAME_HINT: &str = "choose another CLOUD_IMAGE_NAME, delete the image that has it, or set ALIBABA_IF_EXISTS=replace";
const FORMAT_HINT: &str = "check ALIBABA_DISK_FORMAT";
const COPY_HINT: &str = "check ALIBABA_IMAGE_COPY_REGIONS";
const KMS_HINT: &str =
    "check the keys in ALIBABA_IMAGE_KEY and ALIBABA_IMAGE_COPY_KEYS: each is one of its region";
const SLOW_HINT: &str = "the account's request limit was reached: find what else calls the API with this account, or run fewer builds at once";
const LATER_HINT: &str =
    "look at the status page of the service; its support finds the request by its id";
const AGAIN_HINT: &str = "start the upload again";
const REPORT_HINT: &str = "report this with the request id; the tool asked for something wrong";
const RESEND_HINT: &str =
    "check the network and the proxy; the tool sends such data again by itself";

const SLOW: &str = "the cloud asks to slow down";
const FAILED: &str = "the service failed";
const CLOCK: &str = "this machine's clock is wrong";
pub(crate) const ELSEWHERE: &str = "the bucket is in another region";
const REFUSED: &str = "the signature was refused";
const FORBIDDEN: &str = "not permitted";

#[rustfmt::skip]
pub(crate) static TABLE: &[Row] = &[
    // Keys, tokens, clock, signature
    ("", "0002-00000080", Auth, GiveUp, "the account does not take this signature version", "report this; the tool signs with version 4"),
    ("", "0002-00000202", Auth, GiveUp, REFUSED, SIGN_HINT),
    ("", "0002-00000209", Auth, GiveUp, REFUSED, SIGN_HINT),
    ("", "0002-00000212", Auth, ResyncClock, CLOCK, CLOCK_HINT),
    ("", "0002-00000213", Auth, GiveUp, REFUSED, SIGN_HINT),
    ("", "0002-00000226", Config, GiveUp, ELSEWHERE, REGION_HINT),
    ("", "0002-00000228", Config, GiveUp, ELSEWHERE, REGION_HINT),
    ("", "0003-00001403", Config, GiveUp, ELSEWHERE, REGION_HINT),
    ("InvalidAccessKeyId*", "", Auth, GiveUp, "the access key is unknown or disabled", KEY_HINT),
    ("InvalidAccessKeySecret", "", Auth, GiveUp, "the access key secret is wrong", KEY_HINT),
    ("SignatureDoesNotMatch", "", Auth, GiveUp, REFUSED, KEY_HINT),
    ("IncompleteSignature", "", Auth, GiveUp, REFUSED, SIGN_HINT),
    ("SecurityTokenExpired", "", Auth, RenewCredentials, "the temporary key has expired", TOKEN_HINT),
    ("InvalidSecurityToken*", "", Auth, RenewCredentials, "the security token was refused", TOKEN_HINT),
    ("AccessKeyIdAndSecurityTokenNotMatch", "", Auth, RenewCredentials, "security token and access key do not belong together", TOKEN_HINT),
    ("RequestTimeTooSkewed", "", Auth, ResyncClock, CLOCK, CLOCK_HINT),
    ("InvalidTimeStamp*", "", Auth, ResyncClock, CLOCK, CLOCK_HINT),
    ("IllegalTimestamp", "", Auth, ResyncClock, CLOCK, CLOCK_HINT),
    ("SignatureNonceUsed", "", Provider, Backoff, "the request was seen before", SIGN_HINT),
    // Rights and account
    ("AccessDenied", "", Auth, GiveUp, FORBIDDEN, RIGHTS_HINT),
    ("Forbidden*", "", Auth, GiveUp, FORBIDDEN, RIGHTS_HINT),
    ("NoPermission*", "", Auth, GiveUp, FORBIDDEN, RIGHTS_HINT),
    ("NoSetRoletoECSServiceAc*", "", Auth, GiveUp, "ECS may not read the bucket: the import role does not exist", ROLE_HINT),
    ("InvalidOSS.NotAuthorized", "", Auth, GiveUp, "ECS may not read the bucket", ROLE_HINT),
    ("EntityNotExist.Role*", "", NotFound, GiveUp, "the role does not exist", ROLE_HINT),
    ("EntityNotExist.Policy", "", NotFound, GiveUp, "the policy does not exist", "check the names in the RAM console"),
    ("EntityAlreadyExists*", "", Conflict, GiveUp, "it exists already", "nothing has to be done"),
    ("UserDisable", "", Auth, GiveUp, "the account is stopped or in debt", BILLS_HINT),
    ("InDebt", "", Auth, GiveUp, "the account is in debt", BILLS_HINT),
    ("Account.Arrearage", "", Auth, GiveUp, "the account is in debt", BILLS_HINT),
    ("InvalidAccountStatus.OSSDisabled", "", Auth, GiveUp, "OSS is not activated for the account", "activate OSS in the console"),
    ("UserNotInTheWhiteList", "", Auth, GiveUp, "the account may not import images this way", "ask the vendor's support"),
    ("PublicEndpointForbidden", "", Auth, GiveUp, "the bucket's data cannot be reached through the public endpoint", "bind a domain to the bucket and set ALIBABA_OSS_ENDPOINT to it, or run inside the region with ALIBABA_OSS_ENDPOINT=internal"),
    ("SecondLevelDomainForbidden", "", Config, GiveUp, "the bucket cannot be addressed by path", "set ALIBABA_OSS_ENDPOINT to a host name, not to an address, and leave ALIBABA_OSS_PATH_STYLE out"),
    // Buckets and objects
    ("NoSuchBucket", "", NotFound, GiveUp, "the bucket does not exist", BUCKET_HINT),
    ("InvalidBucketName", "", Config, GiveUp, "this is not a bucket name", "check ALIBABA_BUCKET: 3 to 63 lower-case letters, digits and `-`"),
    ("InvalidOSSBucket.NotFound", "", NotFound, GiveUp, "the bucket does not exist in the region", BUCKET_HINT),
    ("InvalidOSSBucket.NotMatched", "", Config, GiveUp, ELSEWHERE, REGION_HINT),
    ("InvalidOSSBucket.EncryptUnsupported", "", InvalidImage, GiveUp, "the object is encrypted by the server", "use a bucket without default encryption"),
    ("InvalidOSSBucket.FlowLimit", "", Throttled, Backoff, SLOW, SLOW_HINT),
    ("InvalidOSSBucket*", "", Provider, GiveUp, "ECS does not take the bucket", BUCKET_HINT),
    ("NoSuchKey", "", NotFound, GiveUp, "the object does not exist", "upload again; check the bucket's lifecycle rules"),
    ("InvalidObjectName", "", Config, GiveUp, "this is not an object key", "check ALIBABA_OSS_PREFIX"),
    ("InvalidOSSObject.NotFound", "", NotFound, GiveUp, "ECS does not find the uploaded object", "upload again"),
    ("InvalidOSSObject.NeedRestore", "", InvalidImage, GiveUp, "the object is in an archive storage class", "use a bucket with storage class Standard"),
    ("InvalidOSSObject.Size", "", InvalidImage, GiveUp, "the uploaded object is empty", "upload again"),
    ("InvalidOSSObject*", "", InvalidImage, GiveUp, "ECS does not take the uploaded object", FORMAT_HINT),
    ("UnsupportedSuffix.OSSObject", "", InvalidImage, GiveUp, "ECS does not take the suffix of the object's key", FORMAT_HINT),
    // Uploads
    ("NoSuchUpload", "", NotFound, GiveUp, "the multipart upload does not exist any more", "start the upload again; check the bucket's lifecycle rules"),
    ("InvalidPart*", "", Provider, GiveUp, "the list of parts was refused", AGAIN_HINT),
    ("PartAlreadyExist", "", Conflict, GiveUp, "the part exists already", AGAIN_HINT),
    ("EntityTooSmall", "", Config, GiveUp, "a part is too small", "raise ALIBABA_UPLOAD_PART_SIZE to at least 100 KiB"),
    ("EntityTooLarge", "", Config, GiveUp, "a part is too large", "lower ALIBABA_UPLOAD_PART_SIZE to at most 5 GiB"),
    ("InvalidArgument", "", Provider, GiveUp, "an argument was refused", REPORT_HINT),
    ("MissingContentLength", "", Network, GiveUp, "the length of the data was lost on the way", SIGN_HINT),
    ("InvalidDigest", "", Network, Backoff, "the bytes were changed on the way", RESEND_HINT),
    ("RequestTimeout", "", Network, Backoff, "the bytes came too slowly", RESEND_HINT),
    ("FileAlreadyExists", "", Conflict, GiveUp, "an object with this key exists", "choose another ALIBABA_OSS_PREFIX"),
    // Refusals of ImportImage
    ("InvalidImageName.Duplicated", "", Conflict, GiveUp, "an image with this name exists", NAME_HINT),
    ("InvalidImageName*", "", Config, GiveUp, "this is not an image name", "2 to 128 characters, a letter first, not starting with `aliyun` or `acs:`"),
    ("InvalidImageFamily*", "", Config, GiveUp, "this is not an image family", "ALIBABA_IMAGE_FAMILY takes 2 to 128 letters, digits, `.`, `_`, `:` and `-`, a letter first, not starting with `aliyun` or `acs:`"),
    ("InvalidDescription*", "", Config, GiveUp, "ECS does not take the description", "2 to 256 characters, not starting with `http://` or `https://`"),
    ("InvalidClientToken*", "", Provider, GiveUp, "the request's token was refused", REPORT_HINT),
    ("MissingParameter*", "", Provider, GiveUp, "a parameter is missing", REPORT_HINT),
    ("InvalidOSType*", "", Config, GiveUp, "ECS does not take the operating system", "check ALIBABA_OS_TYPE and ALIBABA_PLATFORM"),
    ("InvalidImageFormat.RegionNotSupported", "", Config, GiveUp, "the region does not take the disk's format", "choose another ALIBABA_DISK_FORMAT or ALIBABA_REGION"),
    ("InvalidImageFormat*", "", InvalidImage, GiveUp, "ECS does not take the disk's format", FORMAT_HINT),
    ("InvalidImageSize*", "", InvalidImage, GiveUp, "ECS does not take the disk's size", "sizes from 1 to 2048 GiB are taken"),
    ("InvalidDataDiskSize*", "", InvalidImage, GiveUp, "ECS does not take the size of a data disk", "sizes from 1 to 2048 GiB are taken"),
    ("InvalidRegionId.NotFound", "", Config, GiveUp, "the region does not exist", "check ALIBABA_REGION; list them with: aliyun ecs DescribeRegions"),
    ("InvalidRegion.NotSupport", "", Config, GiveUp, "the region does not import images", "choose another ALIBABA_REGION"),
    ("InvalidPlatform*", "", Config, GiveUp, "ECS does not know the platform", "check ALIBABA_PLATFORM"),
    ("InvalidArchitecture*", "", Config, GiveUp, "ECS does not take the architecture", "check ALIBABA_ARCHITECTURE and ALIBABA_PLATFORM"),
    ("InvalidBootMode*", "", Config, GiveUp, "ECS does not take the boot mode", "check ALIBABA_BOOT_MODE"),
    ("InvalidLicenseType*", "", Config, GiveUp, "ECS does not take the licence type", "check ALIBABA_LICENSE_TYPE"),
    ("InvalidParameter.DetectionStrategy", "", Config, GiveUp, "ECS does not take the detection strategy", "unset ALIBABA_DETECTION_STRATEGY"),
    ("InvalidParameter.FeaturesImdsSupport", "", Config, GiveUp, "ECS does not take the metadata setting", "check ALIBABA_IMDS_SUPPORT"),
    ("InvalidParameter.KMSKeyId.NotFound", "", NotFound, GiveUp, "the key does not exist", KMS_HINT),
    ("InvalidParameter.KMSKeyId.CMKNotEnabled", "", Config, GiveUp, "the key is not enabled", "enable the key in the KMS console, or set another one"),
    ("InvalidParameter.KMSKeyId.*", "", Auth, GiveUp, "ECS may not use the key", "grant ECS the use of the key: see the RAM role AliyunECSDiskEncryptDefaultRole"),
    ("InvalidParameter.KmsNotEnabled", "", Auth, GiveUp, "KMS is not activated for the account", "activate KMS in the console"),
    ("OperationDenied.KmsServiceUnauthorized", "", Auth, GiveUp, "ECS may not use KMS", "grant ECS the use of the key: see the RAM role AliyunECSDiskEncryptDefaultRole"),
    ("InvalidParameter.DataEncryptedKeyCreateFailed", "", Provider, GiveUp, "KMS made no data key", "look at the key in the KMS console"),
    ("InvalidEncrypted*", "", Config, GiveUp, "the account encrypts disks otherwise", KMS_HINT),
    ("InvalidParameter*", "", Config, GiveUp, "a parameter was refused", "the vendor's text names it; check the ALIBABA_ setting of that name"),
    ("ImageCheckUnsupported*", "", Unsupported, GiveUp, "ECS does not check such images", "unset ALIBABA_DETECTION_STRATEGY"),
    ("InvalidResourceGroup*", "", Config, GiveUp, "the resource group does not exist", "check ALIBABA_RESOURCE_GROUP_ID"),
    ("InvalidStorageLocation*", "", Config, GiveUp, "the storage location does not exist", REPORT_HINT),
    ("CloudBox*", "", Unsupported, GiveUp, "this is not done on a CloudBox", "choose another ALIBABA_REGION"),
    ("TagKey.Duplication", "", Config, GiveUp, "two tag keys differ only by case", "check IMAGE_TAGS"),
    ("InvalidTag*", "", Config, GiveUp, "a tag was refused", "check IMAGE_TAGS"),
    // Images, shares, copies
    ("QuotaExceed.ShareImage*", "", Quota, GiveUp, "the image is shared with too many accounts", "shorten ALIBABA_IMAGE_SHARE_ACCOUNT_IDS or ask for a higher quota"),
    ("QuotaExceed*", "", Quota, GiveUp, "a quota of the account is used up", "delete old images and snapshots or ask for a higher quota"),
    ("ImageIsImporting", "", Conflict, GiveUp, "an import with this image is running", "wait until it ends or cancel it: aliyun ecs CancelTask"),
    ("ImageIsExporting", "", Conflict, GiveUp, "the image is being exported", "wait until the export ends"),
    ("InvalidAccount.NotFound", "", Config, GiveUp, "an account to share with does not exist", "check ALIBABA_IMAGE_SHARE_ACCOUNT_IDS"),
    ("InvalidAccount.Forb*", "", Config, GiveUp, "an image cannot be shared with its own account", "take the own account out of ALIBABA_IMAGE_SHARE_ACCOUNT_IDS"),
    ("OperationDeined.EncryptedSnapshot", "", InvalidImage, GiveUp, "this cannot be done with an encrypted image", "encrypted images are copied with a key of the region, shared only with a key of your own, and never published"),
    ("OperationDenied.EncryptSnapshotAcrossRegion", "", Config, GiveUp, "the region encrypts no copy of an image that is not encrypted", "encrypt the image as well: set ALIBABA_IMAGE_KEY"),
    ("OperationDenied.CommunityImage", "", Conflict, GiveUp, "a community image cannot be copied", "make it private, copy it, and publish it again"),
    ("OperationDenied.ImageCopyConflict", "", Conflict, GiveUp, "another copy of the image is being made", "wait until the copy ends"),
    ("OperationDenied.ImageCopying", "", Conflict, Backoff, "the image is being copied", "wait until the copy ends"),
    ("OperationDenied.SameRegionOnly", "", Config, GiveUp, "the image cannot be copied to another region", COPY_HINT),
    ("IncorrectDestinationRegion", "", Config, GiveUp, "an image cannot be copied to this region", COPY_HINT),
    ("RegionNotSupportCopy", "", Config, GiveUp, "the region does not take copies of images", COPY_HINT),
    ("SizeExceed.Image", "", InvalidImage, GiveUp, "the image is too large to be copied", COPY_HINT),
    ("IncorrectImageStatus", "", Conflict, GiveUp, "the image is in another state", "look at it: aliyun ecs DescribeImages --ImageId IMAGE"),
    ("InvalidImageId.NotFound", "", NotFound, GiveUp, "the image does not exist", "another client may have deleted it; build again"),
    ("InvalidSnapshotId.NotFound", "", NotFound, GiveUp, "the snapshot does not exist", "another client may have deleted it"),
    ("ImageUsingByInstance", "", Conflict, GiveUp, "an instance uses the image", "release the instance first"),
    ("ImageUseShared", "", Conflict, GiveUp, "the image is shared", "take back the shares first"),
    // Tasks
    ("InvalidTaskId.NotFound", "", NotFound, GiveUp, "the task does not exist", "look at the image itself: aliyun ecs DescribeImages"),
    ("InvalidTaskId.TaskActionNotSupport", "", Conflict, GiveUp, "the task cannot be cancelled", "wait until it ends"),
    ("IncorrectTaskStatus", "", Conflict, GiveUp, "the task has ended", "look at the image itself: aliyun ecs DescribeImages"),
    ("CancelTaskFailed", "", Provider, Backoff, "the task could not be cancelled", "resume the run when the task has ended"),
    ("IdempotentParameterMismatch", "", Conflict, GiveUp, "an earlier attempt of this run asked for something else", "start a new run"),
    ("IdempotentProcessing", "", Provider, Backoff, "the same request is still being worked on", "resume the run: it waits for the same request"),
    // Load and faults
    ("Throttling*", "", Throttled, Backoff, SLOW, SLOW_HINT),
    ("*RateLimitExceeded", "", Throttled, Backoff, SLOW, SLOW_HINT),
    ("*QpsLimitExceeded", "", Throttled, Backoff, SLOW, SLOW_HINT),
    ("ActiveRequestLimitExceeded", "", Throttled, Backoff, SLOW, SLOW_HINT),
    ("ServiceUnavailable", "", Provider, Backoff, "the service is not available", LATER_HINT),
    ("InternalError", "", Provider, Backoff, FAILED, LATER_HINT),
    ("UnknownError", "", Provider, Backoff, FAILED, LATER_HINT),
    // Errors that tasks report about a disk
    ("ImportImageFailed", "", InvalidImage, GiveUp, "ECS could not import the disk", FORMAT_HINT),
    ("InvalidBlockSize*", "", InvalidImage, GiveUp, "ECS does not take the disk's block size", FORMAT_HINT),
    ("InvalidVHDImage*", "", InvalidImage, GiveUp, "the disk's size does not fit its VHD tables", FORMAT_HINT),
];
