//! Asks STS whose credentials are used.

use build_image_plugin_api::retry::{Failure, Policy};
use reqwest::Method;
use serde::Deserialize;

use crate::{
    client::{Request, Service},
    cloud::Cloud,
    partition::Api,
};

/// The owner of the credentials.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Identity {
    #[serde(rename = "Account")]
    pub(crate) account: String,
    #[serde(rename = "Arn")]
    pub(crate) arn: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "GetCallerIdentityResult")]
    result: Identity,
}

/// Calls `GetCallerIdentity`, which needs no permission.
///
/// # Errors
/// Refused credentials, and broken connections.
pub(crate) async fn identity(cloud: &Cloud<'_>, policy: &Policy) -> Result<Identity, Failure> {
    const WHAT: &str = "`GetCallerIdentity`";
    let service = cloud.service(Api::Sts, &cloud.region)?;
    let request = Request::new(Method::POST, "/")
        .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
        .body("Action=GetCallerIdentity&Version=2011-06-15");
    let answer = service.call(&request, WHAT, policy).await?;
    Ok(Service::xml::<Answer>(&answer, WHAT)?.result)
}
