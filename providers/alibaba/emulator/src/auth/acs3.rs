//! Verifies ACS3 (`ACS3-HMAC-SHA256`), the signature of ECS, STS, and RAM calls, on the server side. Verifies
//! with the list in SignedHeaders, since clients differ in what they sign. Source: the vendor's page on the
//! V3 request structure. Nonces are checked by the caller.

use super::{encode, mac};
use crate::clock::{self, Millis};
use crate::config::Account;
use crate::ecs::error::AcsError;
use crate::http::Head;
use crate::ids;

/// Name of the algorithm, first word of the Authorization header.
pub(crate) const ALGORITHM: &str = "ACS3-HMAC-SHA256";
/// Maximum deviation of a client's clock, in milliseconds.
pub(crate) const MAX_SKEW: Millis = 900_000;
/// Headers that must always be signed.
const REQUIRED: [&str; 5] =
    ["host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"];

/// Whether the request carries an ACS3 signature.
pub(crate) fn is_used(head: &Head) -> bool {
    head.header("authorization").is_some_and(|text| text.starts_with("ACS3-"))
}

/// The three fields of the Authorization header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) key_id: String,
    pub(crate) signed_headers: Vec<String>,
    pub(crate) signature: String,
}

impl Claim {
    /// Reads the Authorization header.
    pub(crate) fn read(head: &Head) -> Result<Self, AcsError> {
        let text = head.header("authorization").unwrap_or_default();
        let bad = || incomplete("The Authorization header is malformed.");
        let fields = text.strip_prefix(ALGORITHM).ok_or_else(bad)?.trim();
        let (mut key_id, mut signed, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or_else(bad)?;
            match name {
                "Credential" => key_id = Some(value.to_owned()),
                "SignedHeaders" => signed = Some(value),
                "Signature" => signature = Some(value.to_owned()),
                _ => return Err(bad()),
            }
        }
        let mut signed_headers: Vec<String> =
            signed.ok_or_else(bad)?.split(';').map(str::to_lowercase).collect();
        signed_headers.sort_unstable();
        Ok(Self {
            key_id: key_id.filter(|id| !id.is_empty()).ok_or_else(bad)?,
            signed_headers,
            signature: signature.ok_or_else(bad)?,
        })
    }
}

/// Verifies the request, given with its whole body, and returns the id of the key that signed it.
pub(crate) fn verify(
    head: &Head,
    body: &[u8],
    accounts: &[Account],
    now: Millis,
) -> Result<String, AcsError> {
    let claim = Claim::read(head)?;
    for name in REQUIRED {
        if !claim.signed_headers.iter().any(|signed| signed == name) {
            return Err(incomplete(&format!("The header {name} must be signed.")));
        }
    }
    check_time(head.header("x-acs-date").unwrap_or_default(), now)?;
    let account = find_account(accounts, &claim.key_id, head.header("x-acs-security-token"))?;
    let hash = head.header("x-acs-content-sha256").unwrap_or_default();
    if !hash.eq_ignore_ascii_case(&mac::digest(body)) {
        return Err(incomplete("The x-acs-content-sha256 is not the SHA-256 of the body."));
    }
    check_signature(head, &claim, &account.secret, hash)?;
    Ok(claim.key_id)
}

fn incomplete(message: &str) -> AcsError {
    AcsError::new(
        400,
        "IncompleteSignature",
        &format!("The request signature does not conform to Aliyun standards. {message}"),
    )
}

/// Checks the time of a call against the clock.
pub(crate) fn check_time(text: &str, now: Millis) -> Result<(), AcsError> {
    let signed = clock::parse_iso(text).ok_or_else(|| {
        AcsError::new(
            400,
            "InvalidTimeStamp.Format",
            "Specified time stamp or date value is not well formatted.",
        )
    })?;
    if (now - signed).abs() > MAX_SKEW {
        return Err(AcsError::new(
            400,
            "InvalidTimeStamp.Expired",
            "Specified time stamp or date value is expired.",
        ));
    }
    Ok(())
}

/// Finds the key pair and checks that its token came with it.
pub(crate) fn find_account<'a>(
    accounts: &'a [Account],
    id: &str,
    token: Option<&str>,
) -> Result<&'a Account, AcsError> {
    let account = accounts.iter().find(|account| account.id == id).ok_or_else(|| {
        AcsError::new(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
    })?;
    match (account.token.as_deref(), token) {
        (Some(known), Some(sent)) if known != sent => Err(AcsError::new(
            400,
            "InvalidSecurityToken.Malformed",
            "The specified SecurityToken is malformed.",
        )),
        (Some(_), None) => Err(AcsError::new(
            400,
            "MissingSecurityToken",
            "SecurityToken is mandatory for this action.",
        )),
        (None, Some(_)) => Err(AcsError::new(
            400,
            "InvalidSecurityToken.MismatchWithAccessKey",
            "Specified SecurityToken mismatch with the AccessKey.",
        )),
        (Some(_), Some(_)) | (None, None) => Ok(account),
    }
}

fn canonical_query(head: &Head) -> String {
    let mut pairs: Vec<(String, String)> = head
        .query
        .iter()
        .map(|(key, value)| (encode::component(key), encode::component(value)))
        .collect();
    pairs.sort_unstable();
    let words: Vec<String> =
        pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    words.join("&")
}

fn canonical_headers(head: &Head, names: &[String]) -> Vec<u8> {
    let mut text = Vec::new();
    for name in names {
        let mut values: Vec<&[u8]> = head
            .headers
            .get_all(name.as_str())
            .iter()
            .map(|value| value.as_bytes().trim_ascii())
            .collect();
        values.sort_unstable();
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(&values.join(&b','));
        text.push(b'\n');
    }
    text
}

/// Compares the signature with the one that the server computes for this payload hash.
pub(crate) fn check_signature(
    head: &Head,
    claim: &Claim,
    secret: &str,
    payload_hash: &str,
) -> Result<(), AcsError> {
    let path = if head.raw_path.is_empty() { "/" } else { &head.raw_path };
    let mut canonical =
        format!("{}\n{path}\n{}\n", head.method, canonical_query(head)).into_bytes();
    canonical.extend(canonical_headers(head, &claim.signed_headers));
    let names = claim.signed_headers.join(";");
    canonical.extend(format!("\n{names}\n{payload_hash}").into_bytes());
    let string_to_sign = format!("{ALGORITHM}\n{}", mac::digest(&canonical));
    let signature = ids::hex(&mac::sha256(secret.as_bytes(), string_to_sign.as_bytes()));
    if mac::equal(&signature, &claim.signature) {
        return Ok(());
    }
    Err(AcsError::new(
        400,
        "SignatureDoesNotMatch",
        &format!(
            "Specified signature does not match our calculation. server StringToSign is \
             [{string_to_sign}] server CanonicalRequest is [{}]",
            String::from_utf8_lossy(&canonical)
        ),
    ))
}
