//! Injects vendor codes one by one: the kind and the hint they result in, and whether the call is repeated.

use build_image_emulator_alibaba::Config;
use build_image_plugin_api::document::Finding;
use serde_json::json;

use crate::harness::{Run, calls, emulator_with, host};

/// Status, code, kind, whether the call is repeated, a part of the hint.
type Case = (u16, &'static str, &'static str, bool, &'static str);

#[rustfmt::skip]
const OSS: &[Case] = &[
    (403, "SignatureDoesNotMatch", "auth", false, "ALIBABA_ACCESS_KEY_SECRET"),
    (403, "InvalidAccessKeyId", "auth", false, "ALIBABA_ACCESS_KEY_ID"),
    (403, "SecurityTokenExpired", "auth", false, "ALIBABA_SECURITY_TOKEN"),
    (403, "InvalidSecurityToken", "auth", false, "ALIBABA_SECURITY_TOKEN"),
    (403, "AccessKeyIdAndSecurityTokenNotMatch", "auth", false, "ALIBABA_SECURITY_TOKEN"),
    (403, "RequestTimeTooSkewed", "auth", true, "set the clock"),
    (403, "AccessDenied", "auth", false, "RAM policy"),
    (404, "NoSuchBucket", "not_found", false, "aliyun oss mb"),
    (400, "InvalidBucketName", "config", false, "ALIBABA_BUCKET"),
    (403, "UserDisable", "auth", false, "bills"),
    (403, "InDebt", "auth", false, "bills"),
    (400, "InvalidObjectName", "config", false, "ALIBABA_OSS_PREFIX"),
    (400, "EntityTooSmall", "config", false, "ALIBABA_UPLOAD_PART_SIZE"),
    (400, "InvalidArgument", "provider", false, "report this"),
    (400, "InvalidDigest", "network", true, "proxy"),
    (411, "MissingContentLength", "network", false, "proxy"),
    (400, "RequestTimeout", "network", true, "network"),
    (409, "FileAlreadyExists", "conflict", false, "ALIBABA_OSS_PREFIX"),
    (400, "PublicEndpointForbidden", "auth", false, "ALIBABA_OSS_ENDPOINT=internal"),
    (403, "SecondLevelDomainForbidden", "config", false, "ALIBABA_OSS_ENDPOINT"),
    (503, "UploadTrafficRateLimitExceeded", "throttled", true, "request limit"),
    (503, "DownloadTrafficRateLimitExceeded", "throttled", true, "request limit"),
    (503, "MetaOperationQpsLimitExceeded", "throttled", true, "request limit"),
    (503, "TotalQpsLimitExceeded", "throttled", true, "request limit"),
    (503, "ActiveRequestLimitExceeded", "throttled", true, "request limit"),
    (503, "ServiceUnavailable", "provider", true, "status page"),
    (500, "InternalError", "provider", true, "status page"),
];

#[rustfmt::skip]
const ECS: &[Case] = &[
    (404, "InvalidAccessKeyId.NotFound", "auth", false, "ALIBABA_ACCESS_KEY_ID"),
    (403, "InvalidAccessKeyId.Inactive", "auth", false, "RAM console"),
    (400, "IncompleteSignature", "auth", false, "proxy"),
    (400, "InvalidTimeStamp.Expired", "auth", true, "set the clock"),
    (400, "IllegalTimestamp", "auth", true, "set the clock"),
    (400, "SignatureNonceUsed", "provider", true, "proxy"),
    (403, "InvalidSecurityToken.Expired", "auth", false, "ALIBABA_SECURITY_TOKEN"),
    (400, "InvalidSecurityToken.MismatchWithAccessKey", "auth", false, "ALIBABA_SECURITY_TOKEN"),
    (403, "Forbidden.RAM", "auth", false, "RAM policy"),
    (403, "NoPermission", "auth", false, "RAM policy"),
    (400, "Throttling", "throttled", true, "request limit"),
    (400, "Throttling.User", "throttled", true, "request limit"),
    (429, "Throttling.Api", "throttled", true, "request limit"),
    (400, "InvalidImageName.Malformed", "config", false, "2 to 128 characters"),
    (400, "InvalidDescription.Malformed", "config", false, "2 to 256 characters"),
    (400, "InvalidClientToken.Malformed", "provider", false, "report this"),
    (400, "UnsupportedSuffix.OSSObject", "invalid_image", false, "ALIBABA_DISK_FORMAT"),
    (400, "InvalidOSSObject.Malformed", "invalid_image", false, "ALIBABA_DISK_FORMAT"),
    (400, "InvalidOSSObject.Size", "invalid_image", false, "upload again"),
    (400, "InvalidOSSObject.NeedRestore", "invalid_image", false, "Standard"),
    (400, "InvalidOSSBucket.NotFound", "not_found", false, "aliyun oss mb"),
    (400, "InvalidOSSBucket.NotMatched", "config", false, "ALIBABA_REGION"),
    (400, "InvalidOSSBucket.FlowLimit", "throttled", true, "request limit"),
    (403, "InvalidOSSBucket.EncryptUnsupported", "invalid_image", false, "default encryption"),
    (400, "MissingParameter", "provider", false, "report this"),
    (400, "InvalidArchitecture.Malformed", "config", false, "ALIBABA_ARCHITECTURE"),
    (403, "InvalidArchitecture.PlatformUnsupported", "config", false, "ALIBABA_PLATFORM"),
    (400, "InvalidPlatform.Malformed", "config", false, "ALIBABA_PLATFORM"),
    (400, "InvalidOSType.Malformed", "config", false, "ALIBABA_PLATFORM"),
    (400, "InvalidImageSize", "invalid_image", false, "2048 GiB"),
    (400, "InvalidDataDiskSize", "invalid_image", false, "2048 GiB"),
    (400, "InvalidImageFormat.Malformed", "invalid_image", false, "ALIBABA_DISK_FORMAT"),
    (400, "InvalidImageFormat.RegionNotSupported", "config", false, "ALIBABA_REGION"),
    (404, "InvalidRegionId.NotFound", "config", false, "DescribeRegions"),
    (400, "InvalidRegion.NotSupport", "config", false, "ALIBABA_REGION"),
    (400, "InvalidLicenseType.BYOLOnly", "config", false, "ALIBABA_LICENSE_TYPE"),
    (400, "InvalidBootMode.NotSupport", "config", false, "ALIBABA_BOOT_MODE"),
    (400, "InvalidParameter.DetectionStrategy", "config", false, "ALIBABA_DETECTION_STRATEGY"),
    (400, "InvalidParameter.FeaturesImdsSupport", "config", false, "ALIBABA_IMDS_SUPPORT"),
    (400, "Account.Arrearage", "auth", false, "bills"),
    (403, "QuotaExceed.Image", "quota", false, "quota"),
    (403, "ImportImageFailed", "invalid_image", false, "ALIBABA_DISK_FORMAT"),
    (403, "UserNotInTheWhiteList", "auth", false, "support"),
    (403, "InvalidAccountStatus.OSSDisabled", "auth", false, "activate OSS"),
    (403, "NoSetRoletoECSServiceAcount", "auth", false, "aliyun ram CreateRole"),
    (403, "NoSetRoletoECSServiceAccount", "auth", false, "aliyun ram CreateRole"),
    (403, "InvalidOSS.NotAuthorized", "auth", false, "aliyun ram CreateRole"),
    (403, "InvalidBlockSize.NotSupport", "invalid_image", false, "ALIBABA_DISK_FORMAT"),
    (403, "InvalidVHDImage.IncorrectSize", "invalid_image", false, "ALIBABA_DISK_FORMAT"),
    (403, "ImageCheckUnsupported.WindowsImage", "unsupported", false, "ALIBABA_DETECTION_STRATEGY"),
    (403, "InvalidParameter.Malformed", "config", false, "ALIBABA_"),
    (403, "MissingParameter.DiskDeviceMapping", "provider", false, "report this"),
    (403, "TagKey.Duplication", "config", false, "IMAGE_TAGS"),
    (403, "InvalidStorageLocation.NotFound", "config", false, "report this"),
    (403, "CloudBoxNotSupported", "unsupported", false, "ALIBABA_REGION"),
    (404, "InvalidResourceGroup.NotFound", "config", false, "ALIBABA_RESOURCE_GROUP_ID"),
    (403, "IdempotentProcessing", "provider", true, "resume the run"),
    (400, "IdempotentParameterMismatch", "conflict", false, "new run"),
    (403, "OperationDenied.ImageCopying", "conflict", true, "copy"),
    (400, "IncorrectDestinationRegion", "config", false, "ALIBABA_IMAGE_COPY_REGIONS"),
    (403, "RegionNotSupportCopy", "config", false, "ALIBABA_IMAGE_COPY_REGIONS"),
    (403, "SizeExceed.Image", "invalid_image", false, "ALIBABA_IMAGE_COPY_REGIONS"),
    (404, "InvalidAccount.NotFound", "config", false, "ALIBABA_IMAGE_SHARE_ACCOUNT_IDS"),
    (503, "ServiceUnavailable", "provider", true, "status page"),
    (500, "InternalError", "provider", true, "status page"),
    (500, "UnknownError", "provider", true, "status page"),
];

/// The finding of a check when `operation` is refused, and how often the operation was called.
fn refused(operation: &str, subject: &str, status: u16, code: &str) -> (Finding, usize) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("requests");
    let config = Config { log_requests: Some(log.clone()), ..Config::default() };
    let emulator = emulator_with(config);
    let faults = json!([{"operation": operation, "action": {"status": status, "code": code}}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let report = Run::new(&emulator, host(), &[]).check();
    let found = report.findings.iter().find(|finding| finding.subject == subject);
    let found = found.unwrap_or_else(|| panic!("{code}: {report:#?}")).clone();
    drop(emulator);
    (found, calls(&log, operation))
}

fn judge(operation: &str, subject: &str, cases: &[Case]) {
    for &(status, code, kind, again, advice) in cases {
        let (finding, calls) = refused(operation, subject, status, code);
        assert_eq!(
            finding.kind.map(build_image_plugin_api::ErrorKind::code),
            Some(kind),
            "{code}: {finding:?}"
        );
        // A clock is corrected once; transient errors are retried for as long as a check may take.
        let expected = match (again, kind) {
            (false, _) => 1,
            (true, "auth") => 2,
            (true, _) => 6,
        };
        assert_eq!(calls, expected, "{code}: {finding:?}");
        let hint = finding.hint.as_deref().unwrap_or_default();
        assert!(hint.contains(advice), "{code}: {hint}");
        assert!(finding.message.contains("request_id: "), "{code}: {}", finding.message);
    }
}

#[test]
fn every_code_of_oss_has_its_kind_its_advice_and_its_number_of_calls() {
    judge("GetBucketInfo", "bucket", OSS);
}

#[test]
fn every_code_of_ecs_has_its_kind_its_advice_and_its_number_of_calls() {
    judge("DescribeImages", "image name", ECS);
}
