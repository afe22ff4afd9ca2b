//! Lists the regions, and implements DescribeRegions. A region with a bucket is a region too, so that tests
//! may invent one.

use serde_json::{Value, json};

use super::error::AcsError;
use super::params::Params;
use crate::service::Context;

/// Regions of the public cloud (not all of them).
const REGIONS: [&str; 22] = [
    "cn-qingdao",
    "cn-beijing",
    "cn-zhangjiakou",
    "cn-huhehaote",
    "cn-wulanchabu",
    "cn-hangzhou",
    "cn-shanghai",
    "cn-shenzhen",
    "cn-heyuan",
    "cn-guangzhou",
    "cn-chengdu",
    "cn-hongkong",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-southeast-1",
    "ap-southeast-3",
    "ap-southeast-5",
    "us-east-1",
    "us-west-1",
    "eu-west-1",
    "eu-central-1",
    "me-east-1",
];

fn all(context: &Context<'_>) -> Vec<String> {
    let mut regions = vec![context.config.region.clone()];
    let world = context.store.world();
    let known = REGIONS.iter().map(|region| (*region).to_owned());
    for region in known.chain(world.buckets.iter().map(|bucket| bucket.region.clone())) {
        if !regions.contains(&region) {
            regions.push(region);
        }
    }
    regions
}

/// The region that a parameter names.
pub(crate) fn need<'a>(
    context: &Context<'_>,
    params: &'a Params,
    name: &str,
) -> Result<&'a str, AcsError> {
    let region = params.need(name)?;
    if all(context).iter().any(|known| known == region) {
        return Ok(region);
    }
    Err(AcsError::new(404, "InvalidRegionId.NotFound", "The specified RegionId does not exist."))
}

/// DescribeRegions.
pub(crate) fn describe(context: &Context<'_>) -> Value {
    let regions: Vec<Value> = all(context)
        .iter()
        .map(|region| {
            let endpoint = if region == "cn-hangzhou" {
                "ecs-cn-hangzhou.aliyuncs.com".to_owned()
            } else {
                format!("ecs.{region}.aliyuncs.com")
            };
            json!({
                "RegionId": region,
                "LocalName": region,
                "RegionEndpoint": endpoint,
                "Status": "available",
            })
        })
        .collect();
    json!({ "Regions": { "Region": regions } })
}
