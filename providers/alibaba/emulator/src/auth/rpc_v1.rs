//! Verifies the old RPC signature (SignatureVersion 1.0, HMAC-SHA1), on the server side: all fields are query
//! or form parameters. Source: the vendor's page on RPC requests and signature V2 (the vendor's name for it).

use super::acs3::{check_time, find_account};
use super::{encode, mac};
use crate::clock::Millis;
use crate::config::Account;
use crate::ecs::error::AcsError;

/// Verifies the call, whose query and form parameters are given together, and returns the id of the key that
/// signed it.
pub(crate) fn verify(
    method: &str,
    parameters: &[(String, String)],
    accounts: &[Account],
    now: Millis,
) -> Result<String, AcsError> {
    let find = |name: &str| {
        parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    };
    for name in ["AccessKeyId", "Signature", "SignatureNonce", "Timestamp"] {
        if find(name).is_empty() {
            return Err(AcsError::missing(name));
        }
    }
    if find("SignatureMethod") != "HMAC-SHA1" || find("SignatureVersion") != "1.0" {
        return Err(AcsError::new(
            400,
            "InvalidParameter.SignatureMethod",
            "Only HMAC-SHA1 with SignatureVersion 1.0 is supported.",
        ));
    }
    check_time(find("Timestamp"), now)?;
    let token = Some(find("SecurityToken")).filter(|token| !token.is_empty());
    let account = find_account(accounts, find("AccessKeyId"), token)?;
    let string_to_sign = string_to_sign(method, parameters);
    let key = format!("{}&", account.secret);
    let expected = mac::sha1_base64(key.as_bytes(), string_to_sign.as_bytes());
    if mac::equal(&expected, find("Signature")) {
        return Ok(account.id.clone());
    }
    // Clients extract the string from this text after its only colon.
    Err(AcsError::new(
        400,
        "SignatureDoesNotMatch",
        &format!(
            "Specified signature is not matched with our calculation. server string to sign \
             is:{string_to_sign}"
        ),
    ))
}

/// Verb, path and the sorted parameters, each encoded once more.
pub(crate) fn string_to_sign(method: &str, parameters: &[(String, String)]) -> String {
    let mut pairs: Vec<(String, String)> = parameters
        .iter()
        .filter(|(key, _)| key != "Signature")
        .map(|(key, value)| (encode::component(key), encode::component(value)))
        .collect();
    pairs.sort_unstable();
    let words: Vec<String> =
        pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{method}&%2F&{}", encode::component(&words.join("&")))
}
