//! Implements the RPC style that ECS and STS share: parameters in the query, ACS3 signature, JSON answers.
//!
//! Source: Alibaba Cloud API documentation, "V3 request structure and signature".

use std::{sync::Arc, time::Duration};

use build_image_plugin_api::{
    Result,
    http::{Answer, Outgoing},
    retry::{Failure, Policy, random, retry},
};
use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    client::{HttpClient, Limit, foreign},
    credentials::Credentials,
    endpoint::Endpoint,
    refusal::Refusal,
    sign::acs3,
};

/// Time limit of one call.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Parameters of a call; unset ones are not in the list.
pub(crate) type Parameters = Vec<(String, String)>;

/// One service.
pub(crate) struct Service {
    pub(crate) http: HttpClient,
    pub(crate) endpoint: Endpoint,
    version: &'static str,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct JsonRefusal {
    code: Option<String>,
    message: String,
    request_id: String,
}

impl Service {
    /// Opens the service of this API version at an endpoint.
    ///
    /// # Errors
    /// When no connections can be made at all.
    pub(crate) fn open(
        endpoint: &Endpoint,
        version: &'static str,
        credentials: Arc<Credentials>,
    ) -> Result<Self> {
        Ok(Self {
            http: HttpClient::open(endpoint, credentials)?,
            endpoint: endpoint.clone(),
            version,
        })
    }

    /// Calls until it succeeds or the policy gives up. `object` names the object of the call in messages.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        action: &str,
        parameters: &Parameters,
        object: &str,
        policy: &Policy,
    ) -> Result<T, Failure> {
        let what = if object.is_empty() {
            format!("`{action}`")
        } else {
            format!("`{action}` of {object}")
        };
        let answer = retry(policy, async || self.attempt(action, parameters, &what).await).await?;
        serde_json::from_slice(&answer.body).map_err(|error| {
            let message = format!("{what}: the answer could not be read");
            Failure::stop(foreign(message, &error))
        })
    }

    async fn attempt(
        &self,
        action: &str,
        parameters: &Parameters,
        what: &str,
    ) -> Result<Answer, Failure> {
        let keys = self.http.credentials.current().await?;
        let date = self.http.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut headers: Vec<(String, String)> = [
            ("host", self.endpoint.authority()),
            ("x-acs-action", action),
            ("x-acs-version", self.version),
            ("x-acs-date", &date),
            ("x-acs-signature-nonce", &format!("{:016x}{:016x}", random(), random())),
            ("x-acs-content-sha256", acs3::EMPTY_BODY),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if let Some(token) = &keys.token {
            headers.push(("x-acs-security-token".to_owned(), token.reveal().to_owned()));
        }
        let request = acs3::Request {
            method: "POST",
            query: parameters,
            headers: &headers,
            payload_hash: acs3::EMPTY_BODY,
        };
        let signed = acs3::sign(&request, keys.id.reveal(), keys.secret.reveal());
        let url = format!("{}/?{}", self.endpoint.origin(), signed.query);
        let outgoing = headers
            .into_iter()
            // The client writes Host itself, from the same authority.
            .filter(|(name, _)| name != "host")
            .fold(Outgoing::new(Method::POST, url), |outgoing, (name, value)| {
                outgoing.header(name, value)
            })
            .header("accept", "application/json")
            .header("authorization", signed.authorization);
        let answer = self.http.exchange(outgoing, Limit::Total(CALL_LIMIT), what).await?;
        match read_refusal(&answer) {
            None => Ok(answer),
            Some(refusal) => {
                Err(self.http.refuse(refusal, &answer, &signed.string_to_sign, &keys, what))
            }
        }
    }
}

/// The refusal in an answer. A `Code` is a refusal even with a status of success.
pub(crate) fn read_refusal(answer: &Answer) -> Option<Refusal> {
    let read = serde_json::from_slice::<JsonRefusal>(&answer.body);
    let code =
        read.as_ref().ok().and_then(|read| read.code.clone()).filter(|code| !code.is_empty());
    if answer.is_success() && code.is_none() {
        return None;
    }
    let excerpt = || String::from_utf8_lossy(&answer.body).chars().take(200).collect();
    let (message, request_id) =
        read.map_or_else(|_| (excerpt(), String::new()), |read| (read.message, read.request_id));
    // The signature service includes the string it signed in its message, in more than one wording.
    let squeezed: String = message.to_lowercase().split_whitespace().collect();
    let echo = squeezed.contains("stringtosign").then(|| message.clone());
    Some(Refusal {
        status: answer.status,
        code: code.unwrap_or_default(),
        ec: String::new(),
        message,
        request_id,
        region: None,
        echo,
    })
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    fn refusal(status: u16, body: &'static str) -> Option<Refusal> {
        let answer = Answer::new(status, HeaderMap::new(), body);
        read_refusal(&answer)
    }

    #[test]
    fn a_code_is_a_refusal_whatever_the_status() {
        let body = r#"{"RequestId":"R","Code":"Throttling","Message":"slow"}"#;
        assert_eq!(refusal(200, body).unwrap().code, "Throttling");
        assert_eq!(refusal(400, body).unwrap().request_id, "R");
        assert!(refusal(200, r#"{"RequestId":"R","ImageId":"m-1"}"#).is_none());
        assert!(refusal(502, "<html>bad gateway").unwrap().message.contains("bad gateway"));
    }

    #[test]
    fn the_servers_string_to_sign_is_found_in_its_message() {
        for body in [
            r#"{"Code":"SignatureDoesNotMatch","Message":"not matched. server string to sign is:ACS3-HMAC-SHA256\nabc"}"#,
            r#"{"Code":"SignatureDoesNotMatch","Message":"no match. server StringToSign is [ACS3-HMAC-SHA256\nabc] and more"}"#,
        ] {
            let echo = refusal(400, body).unwrap().echo.unwrap();
            assert!(echo.contains("ACS3-HMAC-SHA256\nabc"), "{echo}");
        }
        let silent = r#"{"Code":"SignatureDoesNotMatch","Message":"no match"}"#;
        assert!(refusal(400, silent).unwrap().echo.is_none());
    }
}
