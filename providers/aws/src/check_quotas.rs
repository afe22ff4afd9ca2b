//! Compares what the account has with its quotas: images, public images, and snapshots in every region that receives an
//! image, and the number of accounts that an image is shared with.
//!
//! Where quotas cannot be asked for, a note says so: a build does not depend on them. Objects are counted up to
//! [`MOST_PAGES`] pages.
//!
//! Source: <https://docs.aws.amazon.com/general/latest/gr/ec2-service.html>,
//! <https://docs.aws.amazon.com/general/latest/gr/ebs-service.html>, and
//! <https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_GetServiceQuota.html>.

use build_image_plugin_api::{
    Error, ErrorKind, Result,
    document::Finding,
    retry::{Failure, Policy},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::{Request, Service},
    cloud::Cloud,
    ec2::{Ec2, Images, Parameters, Snapshots, pairs},
    partition::Api,
    permissions::Call,
};

const SUBJECT: &str = "quotas";
/// Most pages of a count, of 1000 objects: five requests of about a second.
const MOST_PAGES: usize = 5;

/// A quota: the service it belongs to, its code, and what it counts.
struct Quota {
    service: &'static str,
    code: &'static str,
    what: &'static str,
}

const IMAGES: Quota = Quota { service: "ec2", code: "L-B665C33B", what: "images" };
const PUBLIC: Quota = Quota { service: "ec2", code: "L-0E3CBAB9", what: "public images" };
const SHARING: Quota =
    Quota { service: "ec2", code: "L-70015FFA", what: "accounts of a shared image" };
const SNAPSHOTS: Quota = Quota { service: "ebs", code: "L-309BACF6", what: "snapshots" };

/// The number of objects of the account; `more`: there are more.
struct Count {
    number: usize,
    more: bool,
}

/// Runs the checks.
pub(crate) async fn look(cloud: &Cloud<'_>, regions: &[String]) -> Vec<Finding> {
    let looks = regions.iter().map(async |region| in_region(cloud, region).await);
    let mut findings = Vec::new();
    for looked in futures_util::future::join_all(looks).await {
        match looked {
            Ok(found) => findings.extend(found),
            // The next region would say the same.
            Err(error) => return vec![unknown(&error)],
        }
    }
    findings
}

/// The note when quotas are not known.
pub(crate) fn unknown(error: &Error) -> Finding {
    Finding::ok(
        SUBJECT,
        format!(
            "not compared ({error}); with servicequotas:GetServiceQuota they are compared before the upload"
        ),
    )
}

async fn in_region(cloud: &Cloud<'_>, region: &str) -> Result<Vec<Finding>> {
    let config = cloud.config;
    let ec2 = Ec2::open(cloud, region)?;
    let own = pairs(&[("Owner.1", "self")]);
    let mut images = own.clone();
    images.extend(pairs(&[("IncludeDeprecated", "true"), ("IncludeDisabled", "true")]));
    let mut public = images.clone();
    public.extend(pairs(&[("Filter.1.Name", "is-public"), ("Filter.1.Value.1", "true")]));
    // An image that is replaced makes room for the new one.
    let new = usize::from(!config.replace);
    let mut findings = Vec::new();
    let compared = async |quota: &Quota, call: Call, parameters: &Parameters, new: usize| {
        let limit = limit(cloud, region, quota).await?;
        let count = count(&ec2, call, parameters).await?;
        Ok::<Finding, Error>(judge(quota, region, limit, &count, new))
    };
    let (images, snapshots) = tokio::join!(
        compared(&IMAGES, Call::DescribeImages, &images, new),
        compared(&SNAPSHOTS, Call::DescribeSnapshots, &own, 1),
    );
    findings.extend([images?, snapshots?]);
    if config.audience.public {
        findings.push(compared(&PUBLIC, Call::DescribeImages, &public, new).await?);
    }
    let shares = config.audience.permissions().len();
    if shares > 0 {
        let limit = limit(cloud, region, &SHARING).await?;
        let none = Count { number: 0, more: false };
        findings.push(judge(&SHARING, region, limit, &none, shares));
    }
    Ok(findings)
}

/// Returns a quota that applies to the account. One that was never changed may have its default alone.
async fn limit(cloud: &Cloud<'_>, region: &str, quota: &Quota) -> Result<Option<usize>, Failure> {
    let service = cloud.service(Api::Quotas, region).map_err(Failure::stop)?;
    for call in [Call::GetServiceQuota, Call::GetAWSDefaultServiceQuota] {
        let what = format!("`{}` of {} in {region}", call.name(), quota.what);
        let request = Request::new(Method::POST, "/")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("ServiceQuotasV20190624.{}", call.name()))
            .body(json!({"ServiceCode": quota.service, "QuotaCode": quota.code}).to_string());
        match service.call(&request, &what, &Policy::BRIEF).await {
            Err(failure) if failure.has_code(&["NoSuchResourceException"]) => {}
            Err(failure) => return Err(failure),
            Ok(answer) => {
                let answer: Value = Service::json(&answer, &what)?;
                // A count; the service writes it as a decimal number.
                let value = answer["Quota"]["Value"].as_f64();
                return Ok(value.and_then(|value| format!("{value:.0}").parse().ok()));
            }
        }
    }
    Ok(None)
}

async fn count(ec2: &Ec2, call: Call, parameters: &Parameters) -> Result<Count, Failure> {
    let policy = &Policy::BRIEF;
    let (number, more) = if call == Call::DescribeSnapshots {
        let (found, more) =
            ec2.pages::<Snapshots>(call, parameters, "", MOST_PAGES, policy).await?;
        (found.len(), more)
    } else {
        let (found, more) = ec2.pages::<Images>(call, parameters, "", MOST_PAGES, policy).await?;
        (found.iter().filter(|image| image.exists()).count(), more)
    };
    Ok(Count { number, more })
}

fn judge(quota: &Quota, region: &str, limit: Option<usize>, count: &Count, new: usize) -> Finding {
    let what = quota.what;
    let Some(limit) = limit else {
        return Finding::ok(SUBJECT, format!("{what} in {region}: the service shows no quota"));
    };
    let Count { number, more } = count;
    if number + new > limit {
        let message = match number {
            0 => format!("{new} {what} are wanted in {region}, and the quota is {limit}"),
            _ => format!("the account has {number} {what} in {region}, and its quota is {limit}"),
        };
        let error = Error::new(ErrorKind::Quota, message).with_hint(format!(
            "delete what you do not need any more, or ask for more: aws service-quotas request-service-quota-increase --region {region} --service-code {} --quota-code {} --desired-value NUMBER",
            quota.service, quota.code
        ));
        return Finding::error(SUBJECT, &error);
    }
    let text = if *more {
        format!("more than {number} {what} in {region}, not counted further; the quota is {limit}")
    } else {
        format!("{} of {limit} {what} in {region}", number + new)
    };
    Finding::ok(SUBJECT, text)
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::document::Severity;

    use super::*;

    #[test]
    fn a_quota_that_is_used_up_is_an_error_that_names_it() {
        let of = |limit, number, more, new| {
            judge(&IMAGES, "eu-west-1", limit, &Count { number, more }, new)
        };
        for (limit, number, new, severity) in [
            (Some(10), 9, 1, Severity::Ok),
            (Some(10), 10, 1, Severity::Error),
            (Some(10), 10, 0, Severity::Ok),
            (Some(10), 11, 0, Severity::Error),
            (None, 10, 1, Severity::Ok),
        ] {
            let found = of(limit, number, false, new);
            assert_eq!(found.severity, severity, "{limit:?} {number} {new}");
        }
        let found = of(Some(50_000), 5000, true, 1);
        assert!(found.message.contains("more than 5000"), "{}", found.message);
        let full = of(Some(10), 10, false, 1);
        assert!(full.hint.is_some_and(|hint| hint.contains("L-B665C33B")), "{}", full.message);
    }
}
