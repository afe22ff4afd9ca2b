//! Implements STS: the caller's identity, and temporary keys for a role, for a signed caller (AssumeRole) or
//! for the bearer of an OIDC token (AssumeRoleWithOIDC, which is not signed). The token's signature is not
//! checked: no identity provider exists here whose keys could be fetched.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{role, session};
use crate::acs::unknown_action;
use crate::ecs::error::AcsError;
use crate::ecs::params::Params;
use crate::service::{ACCOUNT_ID, Context};
use crate::state::{Role, Session};

const MIN_DURATION: i64 = 900;

/// Serves one signed STS call.
pub(crate) fn serve(
    context: &Context<'_>,
    action: &str,
    params: &Params,
    key_id: &str,
) -> Result<Value, AcsError> {
    match action {
        "GetCallerIdentity" => Ok(identity(context, key_id)),
        "AssumeRole" => {
            let (role, name) = requested_role(context, params)?;
            if !role::trusts(&role, "RAM", &format!("acs:ram::{ACCOUNT_ID}:root")) {
                return Err(no_permission());
            }
            Ok(answer(&issue(context, params, &role, &name)?))
        }
        other => Err(unknown_action(other)),
    }
}

fn identity(context: &Context<'_>, key_id: &str) -> Value {
    let (kind, arn, principal) = match session::find(context, key_id) {
        None => (
            "RAMUser",
            format!("acs:ram::{}:user/emulator", context.account),
            "200000000000000001".to_owned(),
        ),
        Some(Session { role, name, .. }) => {
            ("AssumedRoleUser", assumed_arn(&role, &name), format!("300000000000000001:{name}"))
        }
    };
    json!({
        "IdentityType": kind,
        "AccountId": context.account,
        "Arn": arn,
        "PrincipalId": principal,
        "UserId": "200000000000000001",
    })
}

fn assumed_arn(role: &str, name: &str) -> String {
    format!("acs:ram::{ACCOUNT_ID}:assumed-role/{}/{name}", role.to_lowercase())
}

fn no_permission() -> AcsError {
    AcsError::new(
        403,
        "NoPermission",
        "You are not authorized to do this action. You should be authorized by RAM.",
    )
}

/// The role that a call requests and the name of the session.
fn requested_role(context: &Context<'_>, params: &Params) -> Result<(Role, String), AcsError> {
    let arn = params.need("RoleArn")?;
    let name = params.need("RoleSessionName")?;
    let shaped = |byte: u8| byte.is_ascii_alphanumeric() || b".@-_".contains(&byte);
    if !(2..=64).contains(&name.len()) || !name.bytes().all(shaped) {
        return Err(AcsError::invalid("InvalidParameter.RoleSessionName", "RoleSessionName"));
    }
    let world = context.store.world();
    Ok((role::of_arn(&world, arn)?.clone(), name.to_owned()))
}

fn issue(
    context: &Context<'_>,
    params: &Params,
    role: &Role,
    name: &str,
) -> Result<Session, AcsError> {
    let seconds = match params.get("DurationSeconds") {
        None => 3600,
        Some(text) => text
            .parse()
            .ok()
            .filter(|time| (MIN_DURATION..=role.max_session).contains(time))
            .ok_or_else(|| {
                AcsError::invalid("InvalidParameter.DurationSeconds", "DurationSeconds")
            })?,
    };
    Ok(session::issue(context, &role.name, name, seconds)?)
}

fn answer(session: &Session) -> Value {
    json!({
        "AssumedRoleUser": {
            "Arn": assumed_arn(&session.role, &session.name),
            "AssumedRoleId": format!("300000000000000001:{}", session.name),
        },
        "Credentials": session::credentials(session),
    })
}

/// Reads the claims of a JSON web token.
fn claims(token: &str) -> Option<Value> {
    let mut fields = token.trim().split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return None;
    };
    let text = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&text).ok().filter(Value::is_object)
}

/// AssumeRoleWithOIDC.
pub(crate) fn assume_with_oidc(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let provider = params.need("OIDCProviderArn")?;
    let token = params.need("OIDCToken")?;
    let (role, name) = requested_role(context, params)?;
    let invalid = |code: &str, message: &str| AcsError::new(400, code, message);
    let claims = claims(token).ok_or_else(|| {
        invalid("AuthenticationFail.OIDCToken.Invalid", "This OIDC token is not well formed.")
    })?;
    if claims["exp"].as_i64().is_some_and(|until| until.saturating_mul(1000) <= context.now) {
        return Err(invalid("AuthenticationFail.OIDCToken.Expired", "This OIDC token is expired."));
    }
    if !role::trusts(&role, "Federated", provider) {
        return Err(no_permission());
    }
    let session = issue(context, params, &role, &name)?;
    let mut answer = answer(&session);
    answer["OIDCTokenInfo"] = json!({
        "Subject": claims["sub"],
        "Issuer": claims["iss"],
        "ClientIds": claims["aud"],
    });
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::claims;

    #[test]
    fn tokens_are_three_fields_with_an_object_in_the_middle() {
        assert_eq!(claims("e30.eyJleHAiOjF9.x").unwrap()["exp"], 1);
        assert_eq!(claims("e30.eyJleHAiOjF9.x\n").unwrap()["exp"], 1);
        for bad in ["", "a.b", "a.b.c.d", "e30.MQ.x", "e30.!!.x"] {
            assert!(claims(bad).is_none(), "{bad}");
        }
    }
}
