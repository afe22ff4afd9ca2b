//! Verifies OSS signature V4 (`OSS4-HMAC-SHA256`), on the server side: header form and presigned form.
//! Computes from a request what the client must have signed. Source: the vendor's signature V4 page and the
//! published test vectors of its SDKs. Bodies are never part of it: only `UNSIGNED-PAYLOAD`.

use super::{encode, mac};
use crate::clock::{self, Millis};
use crate::config::Account;
use crate::http::Head;
use crate::ids;
use crate::oss::error::OssError;

/// Name of the algorithm, first word of the Authorization header.
pub(crate) const ALGORITHM: &str = "OSS4-HMAC-SHA256";
const TERMINATOR: &str = "aliyun_v4_request";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const MAX_EXPIRES: i64 = 604_800;
/// Maximum deviation of a client's clock, in milliseconds.
pub(crate) const MAX_SKEW: Millis = 900_000;

/// The requested resource, as far as the signature covers it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resource<'a> {
    /// Bucket, decoded.
    pub(crate) bucket: Option<&'a str>,
    /// Object key, decoded.
    pub(crate) key: Option<&'a str>,
}

impl Resource<'_> {
    /// `/bucket/key`, `/bucket/` or `/`, not encoded.
    pub(crate) fn path(&self) -> String {
        match (self.bucket, self.key) {
            (Some(bucket), key) => format!("/{bucket}/{}", key.unwrap_or_default()),
            (None, _) => "/".to_owned(),
        }
    }
}

/// The fields a client states about its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    key_id: String,
    date: String,
    region: String,
    product: String,
    additional: Vec<String>,
    signature: String,
    stamp: String,
    token: Option<String>,
    /// Validity of the URL in seconds; `None` in header form.
    expires: Option<i64>,
}

/// Whether the request carries a V4 signature in one of the two forms.
pub(crate) fn is_used(head: &Head) -> bool {
    head.header("authorization").is_some_and(|text| text.starts_with(ALGORITHM))
        || head.parameter("x-oss-signature-version") == Some(ALGORITHM)
}

/// Verifies the request and returns the id of the key that signed it.
///
/// `region` is the bucket's region, or `None` when the bucket does not exist.
pub(crate) fn verify(
    head: &Head,
    resource: Resource<'_>,
    region: Option<&str>,
    accounts: &[Account],
    now: Millis,
) -> Result<String, OssError> {
    let claim =
        if head.has("x-oss-signature-version") { read_query(head)? } else { read_header(head)? };
    check_scope(&claim, region)?;
    check_time(&claim, now)?;
    let account = find_account(accounts, &claim.key_id, claim.token.as_deref())?;
    let canonical = canonical_request(head, resource, &claim)?;
    let string_to_sign = string_to_sign(&claim, &canonical);
    let key = signing_key(&account.secret, &claim);
    let signature = ids::hex(&mac::sha256(&key, string_to_sign.as_bytes()));
    if mac::equal(&signature, &claim.signature) {
        Ok(claim.key_id)
    } else {
        Err(OssError::signature(&claim.key_id, &claim.signature, &string_to_sign)
            .with("CanonicalRequest", &String::from_utf8_lossy(&canonical)))
    }
}

/// Finds the key pair and checks that its token came with it.
pub(crate) fn find_account<'a>(
    accounts: &'a [Account],
    id: &str,
    token: Option<&str>,
) -> Result<&'a Account, OssError> {
    let account = accounts.iter().find(|account| account.id == id);
    let Some(account) = account else {
        return Err(OssError::new(
            403,
            "InvalidAccessKeyId",
            "The OSS Access Key Id you provided does not exist in our records.",
        )
        .ec("0002-00000902")
        .with("OSSAccessKeyId", id));
    };
    match (account.token.as_deref(), token) {
        (Some(known), Some(sent)) if known != sent => Err(OssError::new(
            403,
            "InvalidSecurityToken",
            "The security token you provided is invalid.",
        )),
        (Some(_), None) | (None, Some(_)) => Err(OssError::new(
            403,
            "AccessKeyIdAndSecurityTokenNotMatch",
            "The AccessKeyId and the security token do not belong together.",
        )),
        (Some(_), Some(_)) | (None, None) => Ok(account),
    }
}

fn malformed(ec: &'static str, message: &str) -> OssError {
    OssError::new(400, "InvalidArgument", message).ec(ec)
}

fn read_header(head: &Head) -> Result<Claim, OssError> {
    let bad = || malformed("0002-00000202", "The Authorization header is malformed.");
    let text = head.header("authorization").ok_or_else(bad)?;
    let fields = text.strip_prefix(ALGORITHM).ok_or_else(bad)?.trim();
    let (mut credential, mut additional, mut signature) = (None, Vec::new(), None);
    for field in fields.split(',') {
        let (name, value) = field.trim().split_once('=').ok_or_else(bad)?;
        match name {
            "Credential" => credential = Some(value),
            "Signature" => signature = Some(value),
            "AdditionalHeaders" => additional = read_additional(value)?,
            _ => return Err(bad()),
        }
    }
    let stamp = head
        .header("x-oss-date")
        .ok_or_else(|| malformed("0002-00000212", "The x-oss-date header is missing."))?;
    if head.header("x-oss-content-sha256") != Some(UNSIGNED) {
        return Err(malformed(
            "0002-00000202",
            "The x-oss-content-sha256 header must be UNSIGNED-PAYLOAD.",
        ));
    }
    claim(
        credential.ok_or_else(bad)?,
        additional,
        signature.ok_or_else(bad)?,
        stamp,
        head.header("x-oss-security-token"),
        None,
    )
}

fn read_query(head: &Head) -> Result<Claim, OssError> {
    let need = |name: &str| {
        head.given(name).ok_or_else(|| {
            malformed("0002-00000202", &format!("The query parameter {name} is missing."))
        })
    };
    if need("x-oss-signature-version")? != ALGORITHM {
        return Err(malformed("0002-00000202", "The x-oss-signature-version is not supported."));
    }
    let expires = need("x-oss-expires")?
        .parse::<i64>()
        .ok()
        .filter(|seconds| (0..=MAX_EXPIRES).contains(seconds))
        .ok_or_else(|| {
            malformed("0002-00000202", "The x-oss-expires must be between 0 and 604800 seconds.")
        })?;
    let additional = match head.parameter("x-oss-additional-headers") {
        Some(value) => read_additional(value)?,
        None => Vec::new(),
    };
    claim(
        need("x-oss-credential")?,
        additional,
        need("x-oss-signature")?,
        need("x-oss-date")?,
        head.given("x-oss-security-token"),
        Some(expires),
    )
}

fn read_additional(text: &str) -> Result<Vec<String>, OssError> {
    let mut names: Vec<String> = text.split(';').map(|name| name.trim().to_lowercase()).collect();
    names.sort_unstable();
    let implied = |name: &String| {
        name.starts_with("x-oss-") || name == "content-type" || name == "content-md5"
    };
    if names.iter().any(|name| name.is_empty() || implied(name)) {
        return Err(malformed("0002-00000209", "Invalid additional headers in Authorization."));
    }
    Ok(names)
}

fn claim(
    credential: &str,
    additional: Vec<String>,
    signature: &str,
    stamp: &str,
    token: Option<&str>,
    expires: Option<i64>,
) -> Result<Claim, OssError> {
    let bad = || malformed("0002-00000213", "The Credential in Authorization is invalid.");
    let fields: Vec<&str> = credential.split('/').collect();
    let [key_id, date, region, product, terminator] = fields.as_slice() else {
        return Err(bad());
    };
    if key_id.is_empty() || *terminator != TERMINATOR {
        return Err(bad());
    }
    Ok(Claim {
        key_id: (*key_id).to_owned(),
        date: (*date).to_owned(),
        region: (*region).to_owned(),
        product: (*product).to_owned(),
        additional,
        signature: signature.to_owned(),
        stamp: stamp.to_owned(),
        token: token.map(str::to_owned),
        expires,
    })
}

fn check_scope(claim: &Claim, region: Option<&str>) -> Result<(), OssError> {
    if region.is_some_and(|region| region != claim.region) {
        return Err(malformed("0002-00000226", "Invalid signing region in Authorization header."));
    }
    if claim.product != "oss" {
        return Err(malformed("0002-00000227", "Invalid signing product in Authorization header."));
    }
    Ok(())
}

fn check_time(claim: &Claim, now: Millis) -> Result<(), OssError> {
    let signed = clock::parse_basic(&claim.stamp)
        .filter(|_| claim.stamp.starts_with(&claim.date) && claim.date.len() == 8)
        .ok_or_else(|| malformed("0002-00000212", "Invalid signing date in Authorization."))?;
    match claim.expires {
        None if (now - signed).abs() > MAX_SKEW => Err(OssError::skewed(signed, now)),
        Some(_) if signed - now > MAX_SKEW => Err(OssError::skewed(signed, now)),
        Some(seconds) if now > signed + seconds * 1000 => {
            Err(OssError::new(403, "AccessDenied", "Request has expired.")
                .ec("0002-00000069")
                .with("Expires", &clock::iso_zeros(signed + seconds * 1000))
                .with("ServerTime", &clock::iso_zeros(now)))
        }
        None | Some(_) => Ok(()),
    }
}

fn canonical_query(head: &Head) -> String {
    let mut pairs: Vec<(String, String)> = head
        .query
        .iter()
        .filter(|(key, _)| key != "x-oss-signature")
        .map(|(key, value)| (encode::component(key), encode::component(value)))
        .collect();
    pairs.sort_unstable();
    let words: Vec<String> = pairs
        .into_iter()
        .map(|(key, value)| if value.is_empty() { key } else { format!("{key}={value}") })
        .collect();
    words.join("&")
}

/// Part 4: every header that is signed because of its name or because the client lists it.
fn canonical_headers(head: &Head, additional: &[String]) -> Result<Vec<u8>, OssError> {
    for name in additional {
        if !head.headers.contains_key(name.as_str()) {
            return Err(malformed("0002-00000209", "An additional header is not in the request."));
        }
    }
    let mut names: Vec<&str> = head
        .headers
        .keys()
        .map(hyper::header::HeaderName::as_str)
        .filter(|name| {
            name.starts_with("x-oss-")
                || matches!(*name, "content-type" | "content-md5")
                || additional.iter().any(|wanted| wanted == name)
        })
        .collect();
    names.sort_unstable();
    let mut text = Vec::new();
    for name in names {
        for value in head.headers.get_all(name) {
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes().trim_ascii());
            text.push(b'\n');
        }
    }
    Ok(text)
}

fn canonical_request(
    head: &Head,
    resource: Resource<'_>,
    claim: &Claim,
) -> Result<Vec<u8>, OssError> {
    let mut text =
        format!("{}\n{}\n{}\n", head.method, encode::path(&resource.path()), canonical_query(head))
            .into_bytes();
    text.extend(canonical_headers(head, &claim.additional)?);
    text.extend(format!("\n{}\n{UNSIGNED}", claim.additional.join(";")).into_bytes());
    Ok(text)
}

fn string_to_sign(claim: &Claim, canonical: &[u8]) -> String {
    let Claim { date, region, product, stamp, .. } = claim;
    let hash = mac::digest(canonical);
    format!("{ALGORITHM}\n{stamp}\n{date}/{region}/{product}/{TERMINATOR}\n{hash}")
}

fn signing_key(secret: &str, claim: &Claim) -> Vec<u8> {
    [claim.date.as_str(), &claim.region, &claim.product, TERMINATOR]
        .iter()
        .fold(format!("aliyun_v4{secret}").into_bytes(), |key, word| {
            mac::sha256(&key, word.as_bytes())
        })
}
