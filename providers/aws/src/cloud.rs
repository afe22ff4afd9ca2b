//! Opens the services of a build: region, endpoints, and credentials by the rules of the vendor's tools. Settings precede
//! what profiles and the environment say.

use std::sync::{Arc, OnceLock};

use aws_config::{BehaviorVersion, Region};
use aws_types::{SdkConfig, service_config::ServiceConfigKey};
use build_image_plugin_api::{Context, Error, Result, http::Client, retry::Failure};
use tokio::sync::OnceCell;

use crate::{
    client::{AGENT, Endpoint, HINTS, Service},
    clock::Clock,
    config::{self, Config},
    credentials::{self, Connector, Credentials},
    partition::Api,
};

/// What all steps of an instance share.
#[derive(Default)]
pub(crate) struct Session {
    opened: OnceCell<Opened>,
    /// Account that the credentials belong to.
    account: OnceLock<String>,
}

#[derive(Clone)]
struct Opened {
    region: String,
    sdk: SdkConfig,
    credentials: Arc<Credentials>,
    clock: Arc<Clock>,
}

/// The services for one step. Its connections belong to the runtime of the step.
pub(crate) struct Cloud<'a> {
    pub(crate) config: &'a Config,
    pub(crate) region: String,
    session: &'a Session,
    opened: Opened,
    /// Connections without and with TLS.
    plain: Client,
    secure: OnceLock<Client>,
}

impl Session {
    async fn open(&self, context: &Context, config: &Config) -> Result<&Opened> {
        self.opened.get_or_try_init(async || open(context, config).await).await
    }
}

/// Returns the file with CA certificates: that of the setting, or that of the variable.
fn ca_bundle(config: &Config) -> Option<String> {
    config.ca_bundle.clone().or_else(crate::environment::ca_bundle)
}

async fn open(context: &Context, config: &Config) -> Result<Opened> {
    let keys = credentials::of_settings(context)?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(Connector::new(ca_bundle(config)));
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    let sdk = loader.load().await;
    let region = sdk.region().map(ToString::to_string).ok_or_else(|| {
        Error::config("no region is set")
            .with_hint("set AWS_REGION, AWS_DEFAULT_REGION, or `region` in the profile")
    })?;
    let credentials = match (keys, sdk.credentials_provider()) {
        (Some(keys), _) => Credentials::fixed(keys),
        (None, Some(provider)) => Credentials::chain(provider),
        (None, None) => {
            return Err(Error::internal("the vendor's library has no chain of credentials"));
        }
    };
    Ok(Opened { region, sdk, credentials: Arc::new(credentials), clock: Arc::default() })
}

impl<'a> Cloud<'a> {
    /// Opens the services for one step.
    ///
    /// # Errors
    /// When no region is known, or when no connections can be made at all.
    pub(crate) async fn open(
        context: &Context,
        config: &'a Config,
        session: &'a Session,
    ) -> Result<Self> {
        let opened = session.open(context, config).await?.clone();
        let plain = Client::builder(AGENT, HINTS).without_tls().build()?;
        let region = opened.region.clone();
        Ok(Self { config, region, session, opened, plain, secure: OnceLock::new() })
    }

    /// Returns where the credentials come from.
    pub(crate) fn source_name(&self) -> &'static str {
        self.opened.credentials.source_name()
    }

    /// Returns the seconds that the services are ahead of this machine.
    pub(crate) fn skew(&self) -> i64 {
        self.opened.clock.skew()
    }

    /// Returns a service in a region.
    ///
    /// # Errors
    /// Config errors for endpoints of a profile that are not URLs, and for CA certificates.
    pub(crate) fn service(&self, api: Api, region: &str) -> Result<Service> {
        let endpoint = self.endpoint(api, region)?;
        let http =
            if endpoint.url.starts_with("http:") { self.plain.clone() } else { self.secure()? };
        let Opened { credentials, clock, .. } = &self.opened;
        let (credentials, clock) = (Arc::clone(credentials), Arc::clone(clock));
        Ok(Service { api, endpoint, http, credentials, clock })
    }

    fn secure(&self) -> Result<Client> {
        if let Some(client) = self.secure.get() {
            return Ok(client.clone());
        }
        let builder = Client::builder(AGENT, HINTS);
        let made = match ca_bundle(self.config) {
            Some(file) => builder.ca_file(&file)?.build()?,
            None => builder.build()?,
        };
        Ok(self.secure.get_or_init(|| made).clone())
    }

    /// Returns the endpoint of a service by the vendor's order: the variable of the service, that of all services, the
    /// profile's section of services, the profile, the host of the region.
    fn endpoint(&self, api: Api, region: &str) -> Result<Endpoint> {
        let (host, signed) = api.host(region);
        let id = api.id().to_lowercase();
        let profile = || {
            let key = ServiceConfigKey::builder()
                .service_id(&id)
                .profile("endpoint_url")
                .env("AWS_ENDPOINT_URL")
                .build();
            let service = self.opened.sdk.service_config();
            let found = service.zip(key.ok()).and_then(|(service, key)| service.load_config(key));
            found.or_else(|| self.opened.sdk.endpoint_url().map(str::to_owned))
        };
        let chosen = match self.config.endpoint_of(api) {
            Some(url) => Some(url.to_owned()),
            None => profile()
                .map(|url| config::endpoint("endpoint_url of the profile", &url))
                .transpose()?,
        };
        Ok(Endpoint {
            chosen: chosen.is_some(),
            url: chosen.unwrap_or_else(|| format!("https://{host}")),
            region: signed,
        })
    }

    /// Returns the account that the credentials belong to.
    ///
    /// # Errors
    /// Refused credentials, and broken connections.
    pub(crate) async fn account(
        &self,
        policy: &build_image_plugin_api::retry::Policy,
    ) -> Result<String, Failure> {
        if let Some(known) = self.session.account.get() {
            return Ok(known.clone());
        }
        let identity = crate::sts::identity(self, policy).await?;
        Ok(self.session.account.get_or_init(|| identity.account).clone())
    }
}
