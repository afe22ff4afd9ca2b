//! Requests bearer tokens: distribution, "Token Authentication Specification" (`docs/spec/auth/token.md`) and "OAuth2
//! Token Authentication".

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use build_image_plugin_api::{
    Error, ErrorKind, Secret,
    http::{Body, Outgoing, is_loopback},
    retry::Failure,
};
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Url};
use serde_json::Value;

use crate::{
    challenge::Bearer,
    credentials::Proof,
    http::{CALL_LIMIT, Http, Meaning as _, foreign},
    registry::basic,
};

/// The name of this program for token servers.
const CLIENT: &str = "build-image";

/// A bearer token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) value: Secret,
    /// Actions that were requested for the repository.
    pub(crate) actions: BTreeSet<String>,
}

/// A request for a token of a repository.
pub(crate) struct TokenRequest<'a> {
    pub(crate) http: &'a Http,
    pub(crate) bearer: &'a Bearer,
    pub(crate) proof: &'a Proof,
    pub(crate) repository: &'a str,
    /// Whether the registry itself is reached over plain HTTP.
    pub(crate) plain: bool,
    /// Actions that earlier requests needed.
    pub(crate) actions: &'a BTreeSet<String>,
}

impl TokenRequest<'_> {
    /// Requests the token once.
    ///
    /// # Errors
    /// Refusals, broken connections, a token server that is reached less safely than the registry.
    pub(crate) async fn send(&self) -> Result<Token, Failure> {
        let mut url = self.realm()?;
        let what = format!(
            "request a token for `{}` from `{}`",
            self.repository,
            url.host_str().unwrap_or_default()
        );
        let actions = self.actions();
        let list = actions.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let scope = format!("repository:{}:{list}", self.repository);
        let mut fields = vec![("scope", scope)];
        if let Some(service) = &self.bearer.service {
            fields.push(("service", service.clone()));
        }
        let outgoing = match self.proof {
            Proof::Identity(token) => {
                fields.push(("grant_type", "refresh_token".to_owned()));
                fields.push(("client_id", CLIENT.to_owned()));
                fields.push(("refresh_token", token.reveal().to_owned()));
                let kind = "application/x-www-form-urlencoded";
                Outgoing::new(Method::POST, url)
                    .header("content-type", kind)
                    .body(Body::Bytes(form(&fields)))
            }
            proof => {
                url.query_pairs_mut().extend_pairs(fields);
                let outgoing = Outgoing::new(Method::GET, url);
                match proof {
                    Proof::Basic(user, password) => {
                        outgoing.header("authorization", basic(user, password))
                    }
                    _ => outgoing,
                }
            }
        };
        let answer = self.http.call(outgoing, CALL_LIMIT, &what).await?;
        if !answer.is_success() {
            let mut failure = answer.refuse(&what);
            if matches!(self.proof, Proof::Identity(_)) {
                failure.error.hint =
                    Some("the identity token may have ended: log in again".to_owned());
            }
            // Another token cannot be requested with these credentials.
            if failure.has_status(401) {
                failure.action = build_image_plugin_api::retry::RetryAction::GiveUp;
            }
            return Err(failure);
        }
        let document = answer.document(&what)?;
        let value = [&document["token"], &document["access_token"]];
        let value = value.into_iter().find_map(Value::as_str).filter(|text| !text.is_empty());
        let value = value.ok_or_else(|| foreign(&what))?;
        Ok(Token { value: Secret::new(value), actions })
    }

    /// The URL of the token server. It receives the credentials, so its connection must not be less safe than that of
    /// the registry, which names it.
    fn realm(&self) -> Result<Url, Failure> {
        let realm = &self.bearer.realm;
        let refuse = |why: &str| {
            let message = format!("the registry names the token server `{realm}`, {why}");
            Failure::stop(
                Error::new(ErrorKind::Auth, message)
                    .with_hint("ask the registry's operator to correct its token server (realm)"),
            )
        };
        let url = Url::parse(realm).map_err(|_| refuse("which is not a URL"))?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.plain || is_loopback(&url) => Ok(url),
            "http" => Err(refuse("to which the credentials would be sent unencrypted")),
            _ => Err(refuse("which is not an http or https URL")),
        }
    }

    fn actions(&self) -> BTreeSet<String> {
        let mut actions: BTreeSet<String> = ["pull", "push"].map(str::to_owned).into();
        actions.extend(self.actions.iter().cloned());
        let asked = self.bearer.scope.as_deref().unwrap_or_default();
        let prefix = format!("repository:{}:", self.repository);
        for list in asked.split(' ').filter_map(|scope| scope.strip_prefix(&prefix)) {
            actions.extend(list.split(',').filter(|word| !word.is_empty()).map(str::to_owned));
        }
        actions
    }
}

fn form(fields: &[(&str, String)]) -> Bytes {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", encode(value)));
    pairs.collect::<Vec<_>>().join("&").into()
}

/// Returns the actions that a token grants for a repository, if it is a JSON web token that says so
/// (`docs/spec/auth/jwt.md`). The signature is the registry's business.
pub(crate) fn granted(token: &Secret, repository: &str) -> Option<BTreeSet<String>> {
    let payload = token.reveal().split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let access = claims.get("access")?.as_array()?;
    let mut granted = BTreeSet::new();
    for one in access.iter().filter(|one| one["type"] == "repository" && one["name"] == repository)
    {
        let actions = one["actions"].as_array().into_iter().flatten();
        granted.extend(actions.filter_map(Value::as_str).map(str::to_owned));
    }
    Some(granted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request<T>(bearer: &Bearer, plain: bool, each: impl FnOnce(TokenRequest<'_>) -> T) -> T {
        let http = Http::open(None, false).unwrap();
        let (proof, actions) = (Proof::Anonymous, BTreeSet::new());
        each(TokenRequest {
            http: &http,
            bearer,
            proof: &proof,
            repository: "a/b",
            plain,
            actions: &actions,
        })
    }

    #[test]
    fn credentials_are_not_sent_to_less_safe_servers() {
        for (realm, plain, allowed) in [
            ("https://auth.example.com/token", false, true),
            ("http://auth.example.com/token", false, false),
            ("http://auth.example.com/token", true, true),
            ("http://127.0.0.1:5001/token", false, true),
            ("file:///etc/passwd", true, false),
            ("token", true, false),
        ] {
            let bearer = Bearer { realm: realm.to_owned(), ..Bearer::default() };
            let found = request(&bearer, plain, |request| request.realm().is_ok());
            assert_eq!(found, allowed, "{realm}");
        }
    }

    #[test]
    fn the_scope_has_what_the_registry_asks_for_of_this_repository() {
        for (scope, expected) in [
            (None, &["pull", "push"][..]),
            (Some("repository:a/b:delete"), &["delete", "pull", "push"]),
            (Some("repository:other:delete registry:catalog:*"), &["pull", "push"]),
        ] {
            let bearer = Bearer { scope: scope.map(str::to_owned), ..Bearer::default() };
            let found = request(&bearer, false, |request| request.actions());
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_web_token_shows_what_it_grants() {
        let token = |claims: &Value| {
            Secret::new(format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string())))
        };
        let access = json!({"access": [{"type": "repository", "name": "a/b", "actions": ["pull"]},
            {"type": "repository", "name": "c", "actions": ["push"]}]});
        let found = granted(&token(&access), "a/b").unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["pull"]);
        assert!(granted(&token(&access), "d").unwrap().is_empty());
        assert!(granted(&token(&json!({})), "a/b").is_none());
        assert!(granted(&Secret::new("opaque"), "a/b").is_none());
    }

    #[test]
    fn fields_of_a_form_are_encoded() {
        assert_eq!(form(&[("a", "b c&d".to_owned()), ("e", "f".to_owned())]), "a=b%20c%26d&e=f");
    }
}
