//! Serves one OSS call from its head to its answer: authenticates the caller, checks that the bucket exists
//! and is addressed through its own region, then runs the operation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::OssError;
use super::operation::Operation;
use super::route::OssCall;
use super::{
    acceleration, bucket, complete, copy, copy_part, delete_many, encryption, list, list_uploads,
};
use super::{multipart, names, object, traffic};
use crate::auth::{oss_v1, oss_v4};
use crate::http::{Answer, Head, RequestBody};
use crate::identity::session;
use crate::service::Context;

/// Serves one call.
pub(crate) async fn serve(
    context: &Context<'_>,
    head: &Head,
    call: &OssCall,
    body: &mut RequestBody,
) -> Result<Answer, OssError> {
    let region = call.bucket.as_deref().and_then(|name| {
        context.store.world().buckets.get(name).map(|bucket| bucket.region.clone())
    });
    let key_id = authenticate(context, head, call, region.as_deref())?;
    let context = &context.of_key(&key_id);
    if call.forbidden_style {
        return Err(OssError::new(
            403,
            "SecondLevelDomainForbidden",
            "Please use virtual hosted style to access.",
        )
        .ec("0048-00000003"));
    }
    let Some(name) = call.bucket.as_deref() else {
        return match call.operation {
            Operation::ListBuckets => Ok(bucket::list(context, head)),
            _ => Err(unknown(head)),
        };
    };
    if call.operation == Operation::PutBucket {
        return bucket::put(context, name, &region_of_new(context, head, call));
    }
    names::check_bucket(name)?;
    let found = bucket::find(context, name)?;
    check_endpoint(call, &found.region)?;
    traffic::check(head, call.operation)?;
    match call.key.as_deref() {
        None => bucket_call(context, head, call.operation, &found, body).await,
        Some(key) => {
            names::check_key(key)?;
            object_call(context, head, call.operation, (name, key), body).await
        }
    }
}

fn authenticate(
    context: &Context<'_>,
    head: &Head,
    call: &OssCall,
    region: Option<&str>,
) -> Result<String, OssError> {
    let accounts = &session::accounts(context);
    let key_id = if oss_v4::is_used(head) {
        oss_v4::verify(head, call.resource(), region, accounts, context.now)?
    } else if oss_v1::is_used(head) {
        if !context.config.allow_v1 {
            return Err(OssError::new(
                403,
                "AccessDenied",
                "The V1 signature is not permitted; use the V4 signature.",
            )
            .ec("0002-00000080"));
        }
        oss_v1::verify(head, call.resource(), accounts, context.now)?
    } else {
        return Err(OssError::not_the_owner());
    };
    if session::is_expired(context, &key_id) { Err(OssError::expired()) } else { Ok(key_id) }
}

/// The region of a new bucket: that of the endpoint, else of the signature, else of the emulator.
fn region_of_new(context: &Context<'_>, head: &Head, call: &OssCall) -> String {
    let scope = || {
        let text = head.header("authorization")?;
        let credential = text.split_once("Credential=")?.1;
        credential.split(',').next()?.split('/').nth(2).map(str::to_owned)
    };
    call.endpoint_region.clone().or_else(scope).unwrap_or_else(|| context.config.region.clone())
}

fn check_endpoint(call: &OssCall, region: &str) -> Result<(), OssError> {
    match call.endpoint_region.as_deref() {
        Some(other) if other != region => Err(OssError::new(
            403,
            "AccessDenied",
            "The bucket you are attempting to access must be addressed using the specified \
             endpoint. Please send all future requests to this endpoint.",
        )
        .ec("0003-00001403")
        .with("Bucket", call.bucket.as_deref().unwrap_or_default())
        .with("Endpoint", &format!("oss-{region}.aliyuncs.com"))),
        Some(_) | None => Ok(()),
    }
}

async fn bucket_call(
    context: &Context<'_>,
    head: &Head,
    operation: Operation,
    found: &crate::state::Bucket,
    body: &mut RequestBody,
) -> Result<Answer, OssError> {
    match operation {
        Operation::GetBucketInfo => Ok(bucket::info(found)),
        Operation::GetBucketLocation => Ok(bucket::location(found)),
        Operation::GetBucketStat => Ok(bucket::stat(context, &found.name)),
        Operation::GetBucketEncryption => encryption::get(found),
        Operation::PutBucketEncryption => encryption::put(context, &found.name, body).await,
        Operation::DeleteBucketEncryption => encryption::delete(context, &found.name),
        Operation::GetBucketTransferAcceleration => acceleration::get(found),
        Operation::PutBucketTransferAcceleration => {
            acceleration::put(context, &found.name, body).await
        }
        Operation::DeleteMultipleObjects => {
            delete_many::delete(context, head, &found.name, body).await
        }
        Operation::DeleteBucket => bucket::delete(context, &found.name),
        Operation::ListObjects => list::list_objects(context, head, &found.name, false),
        Operation::ListObjectsV2 => list::list_objects(context, head, &found.name, true),
        Operation::ListMultipartUploads => list_uploads::list(context, head, &found.name),
        _ => Err(unknown(head)),
    }
}

async fn object_call(
    context: &Context<'_>,
    head: &Head,
    operation: Operation,
    (name, key): (&str, &str),
    body: &mut RequestBody,
) -> Result<Answer, OssError> {
    match operation {
        Operation::PutObject => object::put(context, head, (name, key), body).await,
        Operation::GetObject => object::get(context, head, name, key),
        Operation::CopyObject => copy::copy(context, head, name, key),
        Operation::HeadObject => object::head(context, head, name, key),
        Operation::GetObjectMeta => object::meta(context, head, name, key),
        Operation::DeleteObject => object::delete(context, name, key),
        Operation::InitiateMultipartUpload => multipart::initiate(context, head, name, key),
        Operation::UploadPart => multipart::upload_part(context, head, (name, key), body).await,
        Operation::UploadPartCopy => copy_part::copy(context, head, (name, key)).await,
        Operation::CompleteMultipartUpload => {
            complete::complete(context, head, (name, key), body).await
        }
        Operation::AbortMultipartUpload => multipart::abort(context, head, name, key),
        Operation::ListParts => multipart::list_parts(context, head, name, key),
        _ => Err(unknown(head)),
    }
}

fn unknown(head: &Head) -> OssError {
    OssError::new(
        501,
        "NotImplemented",
        &format!("This emulator does not implement {} with these parameters.", head.method),
    )
}

/// Writes an error as an answer; HEAD and 304, which have no body, get the XML in a header.
pub(crate) fn refuse(error: &OssError, head: &Head, request_id: &str) -> Answer {
    let xml = error.to_xml(request_id, head.host_name());
    let mut answer = if head.method == "HEAD" || error.status == 304 {
        Answer::empty(error.status).with("x-oss-err", &STANDARD.encode(&xml))
    } else {
        Answer::text(error.status, "application/xml", xml)
    };
    if let Some(ec) = error.ec {
        answer = answer.with("x-oss-ec", ec);
    }
    if let Some(delay) = error.delay {
        answer = answer.with("x-oss-qos-delay-time", &delay.to_string());
    }
    answer
}
