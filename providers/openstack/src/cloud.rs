//! Connects to a cloud: logs in, finds the image service in the catalog, and sends calls with a token that is renewed
//! when it is refused.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use build_image_plugin_api::{
    Context, Error, Result,
    http::{Answer, Outgoing},
    retry::{Failure, Policy, RetryAction, retry},
};
use reqwest::Method;
use serde_json::Value;

use crate::{
    config::Config,
    http::{Http, Meaning as _, foreign, with_json},
    keystone::{self, Token},
    login::{Login, Method as Proof, Named},
};

/// A JSON document with its media type.
pub(crate) type Document = (&'static str, Value);

/// Oldest minor version of the image API (2.x) that has hashes and hidden images (Rocky).
pub(crate) const HASHES: u32 = 7;

/// What the steps of an instance share: the token, which is expensive for the identity service.
#[derive(Default)]
pub(crate) struct Session(Mutex<Option<Arc<Token>>>);

impl Session {
    fn get(&self) -> Option<Arc<Token>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, token: Token) -> Arc<Token> {
        let token = Arc::new(token);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
        token
    }
}

/// A cloud with a token for one project.
pub(crate) struct Cloud {
    pub(crate) http: Http,
    pub(crate) login: Login,
    session: Arc<Session>,
    token: Mutex<Arc<Token>>,
    /// URL of the image service, without the version.
    pub(crate) endpoint: String,
    /// Region of that endpoint, when the catalog names one.
    pub(crate) region: Option<String>,
    /// Newest minor version of the image API, 2.x.
    pub(crate) minor_version: u32,
    policy: Policy,
}

impl Cloud {
    /// Logs in and finds the image service. Does not check which versions it has.
    ///
    /// # Errors
    /// Config errors, refusals, and broken connections.
    pub(crate) async fn log_in(
        context: &Context,
        config: &Config,
        session: &Arc<Session>,
        policy: Policy,
    ) -> Result<Self> {
        let (login, http, token) = authenticate(context, config, session, &policy).await?;
        let (endpoint, region) = endpoint(&login, &token)?;
        let (token, session) = (Mutex::new(token), Arc::clone(session));
        Ok(Self { http, login, session, token, endpoint, region, minor_version: 0, policy })
    }

    /// As [`Cloud::log_in`], for steps that use the image service.
    ///
    /// # Errors
    /// As [`Cloud::log_in`]; a service without version 2.
    pub(crate) async fn open(
        context: &Context,
        config: &Config,
        session: &Arc<Session>,
        policy: Policy,
    ) -> Result<Self> {
        let mut cloud = Self::log_in(context, config, session, policy).await?;
        cloud.minor_version = cloud.newest_version().await?;
        Ok(cloud)
    }

    /// As [`Cloud::open`], in one of the regions of [`Cloud::regions`].
    ///
    /// # Errors
    /// As [`Cloud::open`].
    pub(crate) async fn open_in(
        context: &Context,
        config: &Config,
        session: &Arc<Session>,
        policy: Policy,
        region: Option<&str>,
    ) -> Result<Self> {
        let mut config = config.clone();
        config.identity.values.extend(region.map(|region| ("region_name", region.to_owned())));
        Self::open(context, &config, session, policy).await
    }

    /// Returns the regions in which the account has an image service. The one without a name is that of a cloud, or of
    /// an endpoint in the settings, without regions.
    ///
    /// # Errors
    /// As [`Cloud::log_in`].
    pub(crate) async fn regions(
        context: &Context,
        config: &Config,
        session: &Arc<Session>,
        policy: &Policy,
    ) -> Result<Vec<Option<String>>> {
        let (login, _, token) = authenticate(context, config, session, policy).await?;
        Ok(regions(&login, &token))
    }

    /// Returns the present token.
    pub(crate) fn token(&self) -> Arc<Token> {
        Arc::clone(&self.token.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the project that owns what this token creates.
    pub(crate) fn project(&self) -> String {
        self.token().project_id.clone()
    }

    /// Requests another token in place of one that was refused, unless another call has done so.
    ///
    /// # Errors
    /// Those of the identity service; a token that cannot be renewed.
    pub(crate) async fn renew(&self, refused: &Token) -> Result<(), Failure> {
        if self.token().secret != refused.secret {
            return Ok(());
        }
        tracing::info!("requesting another token");
        let fresh = keystone::token(&self.http, &self.login, None, &self.policy).await?;
        let fresh = self.session.set(fresh);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Requests a token of the same user for another project.
    ///
    /// # Errors
    /// Refusals, `None` for logins that belong to one project.
    pub(crate) async fn token_of(&self, project: &str) -> Option<Result<Token, Failure>> {
        if matches!(self.login.method, Proof::ApplicationCredential { .. }) {
            return None;
        }
        let project = Named::Id(project.to_owned());
        Some(keystone::token(&self.http, &self.login, Some(&project), &Policy::BRIEF).await)
    }

    /// Sends a call to the image service and repeats it as the policy permits; a refused token is renewed once.
    /// `path` follows the endpoint, `what` completes "cannot …".
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Document>,
        what: &str,
    ) -> Result<Answer, Failure> {
        retry(&self.policy, async || {
            let token = self.token();
            self.once(&token, method.clone(), path, body.as_ref(), what).await
        })
        .await
    }

    async fn once(
        &self,
        token: &Token,
        method: Method,
        path: &str,
        body: Option<&Document>,
        what: &str,
    ) -> Result<Answer, Failure> {
        let answer = self.http.call(self.outgoing(token, method, path, body), what).await?;
        self.judge(answer, token, what).await
    }

    /// Sends a call once, with a token that is not that of the build and therefore not renewed.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn with_token(
        &self,
        token: &Token,
        method: Method,
        path: &str,
        body: Option<&Document>,
        what: &str,
    ) -> Result<Answer, Failure> {
        let answer = self.http.call(self.outgoing(token, method, path, body), what).await?;
        if answer.is_success() { Ok(answer) } else { Err(answer.refuse(what)) }
    }

    fn outgoing(
        &self,
        token: &Token,
        method: Method,
        path: &str,
        body: Option<&Document>,
    ) -> Outgoing {
        let outgoing = Outgoing::new(method, format!("{}{path}", self.endpoint))
            .header("x-auth-token", token.secret.reveal());
        match body {
            Some((kind, document)) => with_json(outgoing, kind, document),
            None => outgoing,
        }
    }

    /// Turns a refusal into a failure, and renews a refused token.
    ///
    /// # Errors
    /// The refusal, or that of the identity service.
    pub(crate) async fn judge(
        &self,
        answer: Answer,
        token: &Token,
        what: &str,
    ) -> Result<Answer, Failure> {
        if answer.is_success() {
            return Ok(answer);
        }
        let mut failure = answer.refuse(what);
        self.login.redact(&mut failure.error, Some(&token.secret));
        if failure.action == RetryAction::RenewCredentials {
            self.renew(token).await?;
        }
        Err(failure)
    }

    /// Returns the newest minor version of the API 2.x.
    ///
    /// # Errors
    /// `unsupported` for a service without version 2.
    pub(crate) async fn newest_version(&self) -> Result<u32, Failure> {
        let what = format!("read the versions of the image service `{}`", self.endpoint);
        let answer = retry(&self.policy, async || {
            let outgoing = Outgoing::new(Method::GET, format!("{}/versions", self.endpoint));
            let answer = self.http.call(outgoing, &what).await?;
            // 300: several versions to choose from.
            if answer.is_success() || answer.status == 300 {
                Ok(answer)
            } else {
                Err(answer.refuse(&what))
            }
        })
        .await?;
        let document = answer.document(&what)?;
        let versions = document["versions"].as_array().ok_or_else(|| foreign(&what))?;
        let minor = |version: &Value| version["id"].as_str()?.strip_prefix("v2.")?.parse().ok();
        versions.iter().filter_map(minor).max().ok_or_else(|| {
            Failure::stop(Error::unsupported(
                format!("the image service `{}` has no API of version 2", self.endpoint),
                "use a cloud with the image API 2",
            ))
        })
    }
}

/// Collects the credentials and requests a token, unless the instance has one.
async fn authenticate(
    context: &Context,
    config: &Config,
    session: &Session,
    policy: &Policy,
) -> Result<(Login, Http, Arc<Token>)> {
    let login = Login::open(context, &config.identity)?;
    let http = Http::open(login.ca_file.as_deref())?;
    let token = match session.get() {
        Some(token) => token,
        None => session.set(keystone::token(&http, &login, None, policy).await?),
    };
    Ok((login, http, token))
}

/// Returns the regions of the image service, sorted.
fn regions(login: &Login, token: &Token) -> Vec<Option<String>> {
    if login.image_endpoint.is_some() {
        return vec![login.region.clone()];
    }
    let of_interface = token.catalog.iter().filter(|one| one.interface == login.interface);
    let names = of_interface.map(|one| Some(one.region.clone()).filter(|name| !name.is_empty()));
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns the URL of the image service without its version, and its region.
fn endpoint(login: &Login, token: &Token) -> Result<(String, Option<String>)> {
    if let Some(url) = &login.image_endpoint {
        return Ok((without_version(url)?, login.region.clone()));
    }
    let Login { interface, source, .. } = login;
    if token.catalog.is_empty() {
        return Err(Error::unsupported(
            format!("the catalog of project `{}` has no image service", token.project_name),
            "ask the operator, or set OPENSTACK_IMAGE_ENDPOINT",
        ));
    }
    let of_interface: Vec<_> =
        token.catalog.iter().filter(|one| one.interface == *interface).collect();
    let chosen: Vec<_> = match &login.region {
        Some(region) => of_interface.iter().filter(|one| one.region == *region).collect(),
        None => of_interface.iter().collect(),
    };
    let mut regions: Vec<&str> = of_interface.iter().map(|one| one.region.as_str()).collect();
    regions.dedup();
    match (chosen.as_slice(), &login.region) {
        ([], Some(region)) => Err(Error::config(format!(
            "{source} has no {interface} endpoint of the image service in region `{region}`"
        ))
        .with_hint(format!(
            "set OPENSTACK_REGION to one of: {}; or OPENSTACK_INTERFACE",
            regions.join(", ")
        ))),
        ([], None) => {
            Err(Error::config(format!("{source} has no {interface} endpoint of the image service"))
                .with_hint("set OPENSTACK_INTERFACE to another one"))
        }
        ([first, others @ ..], _) if others.iter().all(|other| other.region == first.region) => {
            Ok((
                without_version(&first.url)?,
                Some(first.region.clone()).filter(|region| !region.is_empty()),
            ))
        }
        _ => Err(Error::config(format!("{source} has an image service in several regions"))
            .with_hint(format!("set OPENSTACK_REGION to one of: {}", regions.join(", ")))),
    }
}

fn without_version(url: &str) -> Result<String> {
    let parsed = reqwest::Url::parse(url).ok();
    let valid =
        parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty());
    if valid.is_none() {
        return Err(Error::config("the URL of the image service is not an http or https URL")
            .with_hint(
                "set OPENSTACK_IMAGE_ENDPOINT to a URL such as `https://cloud.example.com:9292`",
            ));
    }
    let plain = url.trim_end_matches('/');
    let versioned = plain.rsplit_once('/').filter(|(_, last)| {
        last.strip_prefix('v')
            .is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
    });
    Ok(versioned.map_or(plain, |(base, _)| base).to_owned())
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Secret;

    use super::*;
    use crate::keystone::Endpoint;

    fn catalog(
        region: Option<&str>,
        interface: &str,
        rows: &[(&str, &str, &str)],
    ) -> (Login, Token) {
        let login = Login {
            auth_url: "http://k/v3".to_owned(),
            method: Proof::Token(Secret::new("t")),
            project: None,
            region: region.map(str::to_owned),
            interface: interface.to_owned(),
            ca_file: None,
            image_endpoint: None,
            source: "cloud `a`".to_owned(),
        };
        let catalog = rows.iter().map(|(interface, region, url)| Endpoint {
            interface: (*interface).to_owned(),
            region: (*region).to_owned(),
            url: (*url).to_owned(),
        });
        let token = Token {
            secret: Secret::new("t"),
            project_id: String::new(),
            project_name: String::new(),
            user_id: String::new(),
            user_name: String::new(),
            roles: Vec::new(),
            expires: None,
            issued: None,
            catalog: catalog.collect(),
        };
        (login, token)
    }

    fn find(
        region: Option<&str>,
        interface: &str,
        rows: &[(&str, &str, &str)],
    ) -> Result<(String, Option<String>)> {
        let (login, token) = catalog(region, interface, rows);
        endpoint(&login, &token)
    }

    #[test]
    fn the_regions_are_those_of_the_interface_each_once() {
        let rows = [
            ("public", "two", "https://g2"),
            ("public", "one", "https://g1"),
            ("public", "one", "https://g1"),
            ("internal", "three", "https://g3"),
            ("admin", "", "https://g4"),
        ];
        let some = |names: &[&str]| names.iter().map(|name| Some((*name).to_owned())).collect();
        for (region, interface, endpoint, expected) in [
            (None, "public", None, some(&["one", "two"])),
            // A region of the settings is where builds go, not the only one of the account.
            (Some("one"), "public", None, some(&["one", "two"])),
            (None, "internal", None, some(&["three"])),
            (None, "admin", None, vec![None]),
            (Some("one"), "public", Some("https://h"), some(&["one"])),
            (None, "public", Some("https://h"), vec![None]),
        ] {
            let (mut login, token) = catalog(region, interface, &rows);
            login.image_endpoint = endpoint.map(str::to_owned);
            assert_eq!(regions(&login, &token), expected, "{region:?} {interface} {endpoint:?}");
        }
    }

    #[test]
    fn the_endpoint_has_the_region_and_the_interface_and_no_version() {
        let rows = [
            ("public", "one", "https://g1:9292/v2/"),
            ("internal", "one", "http://g1"),
            ("public", "two", "https://h/image"),
        ];
        let found = find(Some("one"), "public", &rows).unwrap();
        assert_eq!(found, ("https://g1:9292".to_owned(), Some("one".to_owned())));
        let found = find(Some("two"), "public", &rows).unwrap();
        assert_eq!(found.0, "https://h/image");
        assert_eq!(find(None, "internal", &rows).unwrap().0, "http://g1");
        for (region, interface, text) in [
            (None, "public", "several regions"),
            (Some("three"), "public", "in region `three`"),
            (None, "admin", "no admin endpoint"),
        ] {
            let error = find(region, interface, &rows).unwrap_err();
            assert!(error.message.contains(text) && error.hint.is_some(), "{error}");
        }
        assert!(find(None, "public", &[]).unwrap_err().message.contains("no image service"));
        assert!(find(None, "public", &[("public", "", "g1")]).is_err());
    }
}
