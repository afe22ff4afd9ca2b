//! Resolves a source to its keys, over the network where needed.

use std::pin::Pin;

use build_image_plugin_api::{Error, ErrorKind, Result, retry::Failure};

use super::{
    assume,
    chain::Chain,
    source::{Role, Source},
    temporary::Temporary,
};
use crate::endpoint::Endpoint;

impl Chain {
    /// The keys of a source.
    ///
    /// # Errors
    /// Any error of its service.
    pub(super) async fn fetch(&self, source: &Source) -> Result<Temporary, Failure> {
        match source {
            Source::Here(keys) => Ok(Temporary { keys: keys.clone(), ends: None }),
            Source::Role(base, role) => {
                let base = Box::pin(self.fetch(base)).await?;
                let sts = self.sts(role)?;
                // A signed call requests keys itself.
                let assumed: Pin<Box<dyn Future<Output = _> + '_>> =
                    Box::pin(assume::role(&sts, base.keys, role));
                assumed.await
            }
            Source::Oidc { provider, token_file, role } => {
                assume::oidc(&self.sts(role)?, provider, token_file, role).await
            }
            Source::Uri(address) => assume::uri(address).await,
            Source::Instance(role) => {
                let none = || {
                    Failure::stop(
                        Error::new(ErrorKind::Auth, "this instance has no role")
                            .with_hint("attach a RAM role to the instance"),
                    )
                };
                let metadata = self.metadata()?.ok_or_else(none)?;
                let role = match role {
                    Some(role) => role.clone(),
                    None => match self.environment.get("ALIBABA_CLOUD_ECS_METADATA") {
                        Some(role) => role,
                        None => metadata.role().await?.ok_or_else(none)?,
                    },
                };
                metadata.keys(&role).await
            }
        }
    }

    fn sts(&self, role: &Role) -> Result<Endpoint> {
        let region =
            role.region.clone().or_else(|| self.environment.get("ALIBABA_CLOUD_STS_REGION"));
        let vpc = self.environment.is_true("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED");
        Endpoint::sts_in(self.identity.sts.as_deref(), region.as_deref(), vpc)
    }
}
