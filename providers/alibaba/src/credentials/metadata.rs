//! Reads from the metadata service of ECS instances: the keys of the instance's role, and the region.
//!
//! Source: ECS documentation, "Instance metadata".

use std::{sync::Arc, time::Duration};

use build_image_plugin_api::{Error, ErrorKind, Result, http::Outgoing, retry::Failure};
use reqwest::Method;

use super::{
    Credentials, Environment,
    temporary::{Temporary, Written},
};
use crate::{
    client::{HttpClient, Limit},
    endpoint::Endpoint,
};

/// Outside an instance there is no answer; on an instance the service answers at once.
const LIMIT: Duration = Duration::from_secs(1);
const ROLE: &str = "/latest/meta-data/ram/security-credentials/";

/// The metadata service.
pub(crate) struct Metadata {
    http: HttpClient,
    endpoint: Endpoint,
    old_ways: bool,
}

impl Metadata {
    /// The service; `None` where it must not be asked.
    ///
    /// # Errors
    /// When the address is invalid.
    pub(crate) fn open(chosen: Option<&str>, environment: &Environment) -> Result<Option<Self>> {
        if chosen == Some("off") || environment.is_true("ALIBABA_CLOUD_ECS_METADATA_DISABLED") {
            return Ok(None);
        }
        let endpoint = Endpoint::metadata(chosen)?;
        let http = HttpClient::open(&endpoint, Arc::new(Credentials::anonymous()))?;
        let old_ways = !environment.is_true("ALIBABA_CLOUD_IMDSV1_DISABLED");
        Ok(Some(Self { http, endpoint, old_ways }))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        header: Option<(&'static str, String)>,
    ) -> Result<(u16, String), Failure> {
        let what = format!("metadata `{path}`");
        let mut outgoing = Outgoing::new(method, format!("{}{path}", self.endpoint.origin()));
        if let Some((name, value)) = header {
            outgoing = outgoing.header(name, value);
        }
        let answer = self.http.exchange(outgoing, Limit::Total(LIMIT), &what).await?;
        Ok((answer.status, String::from_utf8_lossy(&answer.body).trim().to_owned()))
    }

    /// Reads a path, with a token unless the service has none; `None` when the path does not exist.
    async fn read(&self, path: &str) -> Result<Option<String>, Failure> {
        let lifetime = ("x-aliyun-ecs-metadata-token-ttl-seconds", "21600".to_owned());
        let header = match self.ask(Method::PUT, "/latest/api/token", Some(lifetime)).await? {
            (200, token) => Some(("x-aliyun-ecs-metadata-token", token)),
            _ if self.old_ways => None,
            (status, _) => return Err(refused("/latest/api/token", status)),
        };
        match self.ask(Method::GET, path, header).await? {
            (200, text) => Ok(Some(text).filter(|text| !text.is_empty())),
            (404, _) => Ok(None),
            (status, _) => Err(refused(path, status)),
        }
    }

    /// Region of the instance this runs on; `None` when this machine is not an instance.
    pub(crate) async fn region(&self) -> Option<String> {
        self.read("/latest/meta-data/region-id").await.ok().flatten()
    }

    /// Name of the instance's role; `None` when it has no role.
    pub(crate) async fn role(&self) -> Result<Option<String>, Failure> {
        let text = self.read(ROLE).await?;
        Ok(text.and_then(|text| text.lines().next().map(|line| line.trim().to_owned())))
    }

    /// Keys of a role.
    pub(crate) async fn keys(&self, role: &str) -> Result<Temporary, Failure> {
        let what = format!("the metadata service, asked for role `{role}`,");
        let text = self.read(&format!("{ROLE}{role}")).await?.unwrap_or_default();
        serde_json::from_str::<Written>(&text).unwrap_or_default().keys(&what)
    }
}

fn refused(path: &str, status: u16) -> Failure {
    let message = format!("the metadata service answers `{path}` with status {status}");
    Failure::stop(
        Error::new(ErrorKind::Auth, message)
            .with_hint("check the instance's metadata options and its RAM role"),
    )
}
