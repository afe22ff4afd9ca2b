//! Calls STS to find out which account the keys belong to.

use std::sync::Arc;

use build_image_plugin_api::{
    Result,
    retry::{Failure, Policy},
};
use serde::Deserialize;

use crate::{acs::Service, config::Place, credentials::Credentials, endpoint::Endpoint};

/// Version of the API.
const VERSION: &str = "2015-04-01";

/// The security token service.
pub(crate) struct Sts(pub(crate) Service);

/// The calling identity.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Identity {
    pub(crate) account_id: String,
    #[serde(default)]
    pub(crate) arn: String,
}

impl Sts {
    /// Opens the service for a place.
    ///
    /// # Errors
    /// When no connections can be made at all.
    pub(crate) fn open(place: &Place, credentials: Arc<Credentials>) -> Result<Self> {
        Service::open(&place.sts, VERSION, credentials).map(Self)
    }

    /// Opens the service at an endpoint.
    ///
    /// # Errors
    /// When no connections can be made at all.
    pub(crate) fn at(endpoint: &Endpoint, credentials: &Arc<Credentials>) -> Result<Self> {
        Service::open(endpoint, VERSION, Arc::clone(credentials)).map(Self)
    }

    /// Requests the identity that the keys belong to; needs no permission.
    pub(crate) async fn identity(&self, policy: &Policy) -> Result<Identity, Failure> {
        self.0.endpoint.fit_for_keys()?;
        self.0.call("GetCallerIdentity", &Vec::new(), "", policy).await
    }
}
