//! Requests tokens from the identity service (Keystone API v3) and reads the catalog in them.

use build_image_plugin_api::{
    Error, ErrorKind, Secret,
    http::Outgoing,
    retry::{Failure, Policy, RetryAction, retry},
};
use reqwest::Method as Verb;
use serde_json::{Value, json};

use crate::{
    http::{Http, Meaning as _, foreign, with_json},
    login::{Domain, Login, Method, Named},
};

/// A token with what the identity service says about it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    pub(crate) project_id: String,
    pub(crate) project_name: String,
    pub(crate) user_id: String,
    pub(crate) user_name: String,
    pub(crate) roles: Vec<String>,
    /// When it ends, by the clock of the identity service.
    pub(crate) expires: Option<jiff::Timestamp>,
    /// When it was issued, by the same clock.
    pub(crate) issued: Option<jiff::Timestamp>,
    pub(crate) catalog: Vec<Endpoint>,
}

/// An endpoint of the image service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) interface: String,
    pub(crate) region: String,
    pub(crate) url: String,
}

/// Requests a token, for the login's project or for `project`.
///
/// # Errors
/// Refusals and broken connections; an application credential or token for another project.
pub(crate) async fn token(
    http: &Http,
    login: &Login,
    project: Option<&Named>,
    policy: &Policy,
) -> Result<Token, Failure> {
    let result =
        retry(policy, async || once(http, login, project.or(login.project.as_ref())).await);
    result.await.map_err(|mut failure| {
        if failure.has_status(401) {
            failure.error.hint = Some(match login.method {
                Method::Password { .. } => "check user, password, domains, and project",
                Method::ApplicationCredential { .. } => "check id and secret of the application credential, and whether it has expired",
                Method::Token(_) => "the token is invalid or has expired: request another one, or use a password or an application credential",
            }.to_owned());
        }
        failure
    })
}

async fn once(http: &Http, login: &Login, project: Option<&Named>) -> Result<Token, Failure> {
    let what = format!("log in at `{}`", login.auth_url);
    let url = format!("{}/auth/tokens", login.auth_url);
    let outgoing = match (&login.method, project) {
        // A token without a project is used as it is.
        (Method::Token(token), None) => Outgoing::new(Verb::GET, url)
            .header("x-auth-token", token.reveal())
            .header("x-subject-token", token.reveal()),
        _ => {
            let outgoing = Outgoing::new(Verb::POST, url);
            with_json(outgoing, "application/json", &request(login, project))
        }
    };
    let answer = http.call(outgoing, &what).await?;
    if !answer.is_success() {
        let mut failure = answer.refuse(&what);
        login.redact(&mut failure.error, None);
        if failure.action == RetryAction::RenewCredentials {
            // Nothing else proves the identity.
            failure.action = RetryAction::GiveUp;
        }
        if failure.has_status(404) {
            let hint = "write the URL of the identity service, which ends with `/v3`";
            *failure.error = failure.error.with_hint(hint);
        }
        return Err(failure);
    }
    let secret = match (answer.header("x-subject-token"), &login.method) {
        (Some(text), _) => Secret::new(text),
        (None, Method::Token(token)) => token.clone(),
        (None, _) => return Err(foreign(&what)),
    };
    let document = answer.document(&what)?;
    read(&document["token"], secret).ok_or_else(|| {
        let error = Error::new(
            ErrorKind::Auth,
            format!("the token of {} belongs to no project", login.source),
        );
        Failure::stop(error.with_hint("set OPENSTACK_PROJECT_NAME or OPENSTACK_PROJECT_ID"))
    })
}

fn request(login: &Login, project: Option<&Named>) -> Value {
    let mut identity = match &login.method {
        Method::Password { user, password } => {
            let mut user = named(user);
            user["password"] = password.reveal().into();
            json!({"methods": ["password"], "password": {"user": user}})
        }
        Method::Token(token) => json!({"methods": ["token"], "token": {"id": token.reveal()}}),
        Method::ApplicationCredential { id, named: by_name, secret } => {
            let mut credential = json!({"secret": secret.reveal()});
            if let Some(id) = id {
                credential["id"] = id.as_str().into();
            }
            if let Some((name, user)) = by_name {
                credential["name"] = name.as_str().into();
                credential["user"] = named(user);
            }
            json!({"methods": ["application_credential"], "application_credential": credential})
        }
    };
    let mut auth = json!({"identity": identity.take()});
    if let Some(project) = project {
        auth["scope"] = json!({"project": named(project)});
    }
    json!({"auth": auth})
}

fn named(named: &Named) -> Value {
    match named {
        Named::Id(id) => json!({"id": id}),
        Named::Name { name, domain: Domain::Id(id) } => json!({"name": name, "domain": {"id": id}}),
        Named::Name { name, domain: Domain::Name(domain) } => {
            json!({"name": name, "domain": {"name": domain}})
        }
    }
}

/// `None`: the token has no project.
fn read(token: &Value, secret: Secret) -> Option<Token> {
    let text = |pointer: &str| token.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let time = |name: &str| token[name].as_str().and_then(|text| text.parse().ok());
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let roles = list(&token["roles"])
        .iter()
        .filter_map(|role| role["name"].as_str().map(str::to_owned))
        .collect();
    let services = list(&token["catalog"]).into_iter().filter(|service| service["type"] == "image");
    let endpoints = services.flat_map(|service| list(&service["endpoints"]));
    let of = |endpoint: &Value, name: &str| endpoint[name].as_str().unwrap_or_default().to_owned();
    let endpoint = |endpoint: Value| Endpoint {
        interface: of(&endpoint, "interface").trim_end_matches("URL").to_owned(),
        region: endpoint["region_id"]
            .as_str()
            .map_or_else(|| of(&endpoint, "region"), str::to_owned),
        url: of(&endpoint, "url"),
    };
    Some(Token {
        secret,
        project_id: text("/project/id")?,
        project_name: text("/project/name").unwrap_or_default(),
        user_id: text("/user/id").unwrap_or_default(),
        user_name: text("/user/name").unwrap_or_default(),
        roles,
        expires: time("expires_at"),
        issued: time("issued_at"),
        catalog: endpoints.map(endpoint).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(method: Method) -> Login {
        Login {
            auth_url: "http://k/v3".to_owned(),
            method,
            project: None,
            region: None,
            interface: "public".to_owned(),
            ca_file: None,
            image_endpoint: None,
            source: "x".to_owned(),
        }
    }

    #[test]
    fn requests_have_the_shape_of_the_identity_api() {
        let user = Named::Name { name: "u".to_owned(), domain: Domain::Name("D".to_owned()) };
        let project = Named::Id("7".to_owned());
        let password = Method::Password { user: user.clone(), password: Secret::new("p") };
        assert_eq!(
            request(&login(password), Some(&project)),
            json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": {"name": "u", "domain": {"name": "D"}, "password": "p"}}},
                "scope": {"project": {"id": "7"}},
            }})
        );
        let credential = Method::ApplicationCredential {
            id: None,
            named: Some(("c".to_owned(), user)),
            secret: Secret::new("s"),
        };
        assert_eq!(
            request(&login(credential), None),
            json!({"auth": {"identity": {
                "methods": ["application_credential"],
                "application_credential": {"name": "c", "user": {"name": "u", "domain": {"name": "D"}}, "secret": "s"},
            }}})
        );
    }

    #[test]
    fn the_catalog_is_reduced_to_the_image_service() {
        let endpoint = |interface: &str| json!({"interface": interface, "region_id": "r", "region": "r", "url": "http://g"});
        let token = json!({
            "project": {"id": "7", "name": "p"}, "user": {"id": "8", "name": "u"}, "roles": [{"name": "member"}],
            "expires_at": "2026-01-02T03:04:05.000000Z",
            "catalog": [{"type": "image", "endpoints": [endpoint("public"), endpoint("internalURL")]},
                        {"type": "compute", "endpoints": [endpoint("public")]}],
        });
        let read = read(&token, Secret::new("t")).unwrap();
        let interfaces: Vec<&str> = read.catalog.iter().map(|one| one.interface.as_str()).collect();
        assert_eq!(interfaces, ["public", "internal"]);
        assert!(read.expires.is_some() && read.roles == ["member"]);
        assert!(super::read(&json!({"user": {"id": "8"}}), Secret::new("t")).is_none());
    }
}
