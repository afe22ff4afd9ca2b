//! Implements the metadata service of an ECS instance: tokens (v2), the plain form (v1), the role's keys, and
//! the region. The real one is at 100.100.100.200; here it is `/latest/…` on the emulator's port. Not
//! published, so guessed: the status for an invalid token (401) and for a missing one where it is needed
//! (403).

use serde_json::Value;

use super::role::INSTANCE_ROLE;
use super::session;
use crate::auth::mac;
use crate::http::{Answer, Head};
use crate::ids;
use crate::service::Context;

const TOKEN: &str = "x-aliyun-ecs-metadata-token";
const TTL: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
const MAX_TTL: i64 = 21_600;
const CREDENTIALS: &str = "/latest/meta-data/ram/security-credentials";
/// Validity of the keys of an instance's role, in seconds.
const LASTS: i64 = 21_600;

/// Whether a request is for this service: never a signed one, and never a virtual host.
pub(crate) fn is_meant(head: &Head) -> bool {
    let name = head.host_name();
    let bare = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok();
    bare && (head.raw_path == "/latest/api/token" || head.raw_path.starts_with("/latest/meta-data"))
        && head.header("authorization").is_none()
        && head.query.is_empty()
}

/// A key for signing tokens, new with each start.
#[derive(Debug)]
pub(crate) struct TokenKey(String);

impl TokenKey {
    /// Generates a key.
    pub(crate) fn new() -> Self {
        Self(ids::upload())
    }

    fn token(&self, until: i64) -> String {
        let sign = mac::sha256(self.0.as_bytes(), until.to_string().as_bytes());
        format!("{until}.{}", ids::hex(&sign))
    }

    fn is_good(&self, token: &str, now: i64) -> bool {
        let until = token.split_once('.').and_then(|(until, _)| until.parse().ok());
        until.is_some_and(|until: i64| until > now && mac::equal(&self.token(until), token))
    }
}

fn plain(status: u16, text: &str) -> Answer {
    Answer::text(status, "text/plain; charset=utf-8", text.to_owned())
}

/// Serves one request.
pub(crate) fn serve(context: &Context<'_>, key: &TokenKey, head: &Head) -> Answer {
    if head.raw_path == "/latest/api/token" {
        let ttl = head.header(TTL).and_then(|text| text.parse().ok());
        return match (head.method.as_str(), ttl) {
            ("PUT", Some(ttl)) if (1..=MAX_TTL).contains(&ttl) => {
                plain(200, &key.token(context.now + ttl * 1000))
            }
            ("PUT", _) => plain(400, &format!("{TTL} must be 1 to {MAX_TTL}")),
            _ => plain(405, "only PUT"),
        };
    }
    if head.method != "GET" {
        return plain(405, "only GET");
    }
    match head.header(TOKEN) {
        Some(token) if !key.is_good(token, context.now) => return plain(401, "bad token"),
        None if !context.config.metadata_v1 => return plain(403, "a token is needed"),
        Some(_) | None => {}
    }
    match head.raw_path.trim_end_matches('/') {
        "/latest/meta-data" => plain(200, "instance-id\nram/\nregion-id\nzone-id"),
        "/latest/meta-data/instance-id" => plain(200, "i-bp1emulator"),
        "/latest/meta-data/region-id" => plain(200, &context.config.region),
        "/latest/meta-data/zone-id" => plain(200, &format!("{}-a", context.config.region)),
        CREDENTIALS => plain(200, INSTANCE_ROLE),
        path if path.strip_prefix(CREDENTIALS).and_then(|rest| rest.strip_prefix('/'))
            == Some(INSTANCE_ROLE) =>
        {
            document(context, "instance")
        }
        _ => plain(404, "not found"),
    }
}

/// Keys of the instance's role as a JSON document; `name` identifies the requester.
pub(crate) fn document(context: &Context<'_>, name: &str) -> Answer {
    match session::renew(context, INSTANCE_ROLE, name, LASTS) {
        Ok(session) => {
            let document: Value = session::document(&session);
            Answer::text(200, "application/json", document.to_string())
        }
        Err(error) => plain(500, &crate::chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::TokenKey;

    #[test]
    fn tokens_end_and_cannot_be_made_up() {
        let key = TokenKey::new();
        let token = key.token(1000);
        assert!(key.is_good(&token, 999) && !key.is_good(&token, 1000));
        assert!(!TokenKey::new().is_good(&token, 0));
        assert!(!key.is_good(&token.replace("1000.", "9000."), 0));
        assert!(!key.is_good("", 0));
    }
}
