//! Fetches temporary keys from STS or from a credentials service.
//!
//! Source: STS API documentation, `AssumeRole` and `AssumeRoleWithOIDC`.

use std::{path::Path, sync::Arc, time::Duration};

use build_image_plugin_api::{
    Error, ErrorKind,
    http::{Answer, Body, Outgoing},
    retry::{Backoff, Failure, Policy, random, retry},
};
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;

use super::{
    Credentials, Keys,
    source::Role,
    temporary::{Temporary, Written},
};
use crate::{
    acs::{Service, read_refusal},
    client::{HttpClient, Limit},
    ecs::pairs,
    endpoint::{Endpoint, redact_url},
    sign::encode,
};

const LIMIT: Duration = Duration::from_secs(10);
const VERSION: &str = "2015-04-01";
/// A request waits for these keys, but a transient fault must not end a build.
const POLICY: Policy = Policy::new(
    4,
    Duration::ZERO,
    Backoff::new(Duration::from_millis(200), Duration::from_secs(3)),
);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    credentials: Written,
}

fn parameters(role: &Role) -> Vec<(String, String)> {
    let session = role.session.as_deref().unwrap_or("build-image");
    let mut list = pairs(&[("RoleArn", &role.arn), ("RoleSessionName", session)]);
    let mut add = |name: &str, value: Option<String>| {
        list.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("DurationSeconds", role.seconds.map(|seconds| seconds.to_string()));
    add("Policy", role.policy.clone());
    add("ExternalId", role.external_id.clone());
    list
}

/// Assumes a role with other keys and returns its keys.
pub(crate) async fn role(sts: &Endpoint, keys: Keys, role: &Role) -> Result<Temporary, Failure> {
    sts.fit_for_keys()?;
    let service = Service::open(sts, VERSION, Arc::new(Credentials::fixed(keys)))?;
    let what = format!("role `{}`", role.arn);
    let assumed = service.call::<Assumed>("AssumeRole", &parameters(role), &what, &POLICY).await;
    let assumed = assumed.map_err(about_the_arn)?;
    assumed.credentials.keys("`AssumeRole`")
}

/// Assumes a role with the token of an identity provider and returns its keys.
pub(crate) async fn oidc(
    sts: &Endpoint,
    provider: &str,
    token_file: &Path,
    role: &Role,
) -> Result<Temporary, Failure> {
    sts.fit_for_keys()?;
    let token = std::fs::read_to_string(token_file).map_err(|error| {
        let message = format!("cannot read the token file `{}`", token_file.display());
        Error::new(ErrorKind::Auth, message)
            .caused_by(&error)
            .with_hint("check ALIBABA_CLOUD_OIDC_TOKEN_FILE")
    })?;
    let what = format!("`AssumeRoleWithOIDC` of role `{}`", role.arn);
    let mut form = parameters(role);
    form.extend(pairs(&[("OIDCProviderArn", provider), ("OIDCToken", token.trim())]));
    let http = HttpClient::open(sts, Arc::new(Credentials::anonymous()))?;
    let answer = retry(&POLICY, async || {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let query = pairs(&[
            ("Action", "AssumeRoleWithOIDC"),
            ("Version", VERSION),
            ("Format", "JSON"),
            ("Timestamp", &now),
            ("SignatureNonce", &format!("{:016x}{:016x}", random(), random())),
        ]);
        let url = format!("{}/?{}", sts.origin(), encode::query(&query, false));
        let outgoing = Outgoing::new(Method::POST, url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::Bytes(encode::query(&form, false).into()));
        answered(http.exchange(outgoing, Limit::Total(LIMIT), &what).await?, &what)
    });
    let assumed: Assumed = read(&answer.await?, &what)?;
    assumed.credentials.keys(&what)
}

/// Fetches keys from a credentials service.
pub(crate) async fn uri(address: &str) -> Result<Temporary, Failure> {
    let what = format!("the credentials service `{}`", redact_url(address));
    let (endpoint, path) = Endpoint::with_path("ALIBABA_CLOUD_CREDENTIALS_URI", address)?;
    let http = HttpClient::open(&endpoint, Arc::new(Credentials::anonymous()))?;
    let answer = retry(&POLICY, async || {
        let outgoing = Outgoing::new(Method::GET, format!("{}{path}", endpoint.origin()));
        answered(http.exchange(outgoing, Limit::Total(LIMIT), &what).await?, &what)
    });
    read::<Written>(&answer.await?, &what)?.keys(&what)
}

fn answered(answer: Answer, what: &str) -> Result<Answer, Failure> {
    // `Code` is `Success` in answers with keys.
    if answer.is_success() {
        return Ok(answer);
    }
    let mut failure = read_refusal(&answer).unwrap_or_default().into_failure(what);
    if failure.error.hint.is_none() {
        failure.error.hint = Some("check the role, the token and the service".to_owned());
    }
    Err(about_the_arn(failure))
}

/// An assumed role that does not exist is not the import role.
fn about_the_arn(mut failure: Failure) -> Failure {
    if failure.code.starts_with("EntityNotExist") {
        failure.error.hint = Some("check the role's ARN in the profile or environment".to_owned());
    }
    failure
}

fn read<T: serde::de::DeserializeOwned>(answer: &Answer, what: &str) -> Result<T, Failure> {
    serde_json::from_slice(&answer.body).map_err(|_| {
        // The answer may contain keys, so it is not printed.
        let message = format!("{what}: the answer could not be read");
        Failure::stop(Error::new(ErrorKind::Auth, message).with_hint("check the address"))
    })
}
