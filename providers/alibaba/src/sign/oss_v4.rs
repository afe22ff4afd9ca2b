//! Computes OSS signature version 4 (`OSS4-HMAC-SHA256`), header form. It does not hash bodies: the service
//! accepts the literal `UNSIGNED-PAYLOAD`, and parts are verified by CRC-64 instead.
//!
//! Source: Alibaba Cloud OSS documentation, "Include a V4 signature in a header"; vectors from the vendor's
//! SDK tests.

use super::{
    digest::{hex, hmac_sha256, sha256_hex},
    encode,
};

const ALGORITHM: &str = "OSS4-HMAC-SHA256";
const TERMINATOR: &str = "aliyun_v4_request";
/// Value of `x-oss-content-sha256`.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The signed properties of a request.
pub(crate) struct Request<'a> {
    /// Upper-case verb.
    pub(crate) method: &'a str,
    /// Bucket, part of the signed path whatever the addressing style.
    pub(crate) bucket: &'a str,
    /// Object key; `None` for a call on the bucket itself.
    pub(crate) key: Option<&'a str>,
    /// Every query parameter, not encoded.
    pub(crate) query: &'a [(String, String)],
    /// Every header that will be sent; unsigned ones are left out here.
    pub(crate) headers: &'a [(String, String)],
    /// Names of further headers to sign.
    pub(crate) additional: &'a [&'a str],
}

/// Keys, region, and date of a signature.
pub(crate) struct Signer<'a> {
    /// Access key id.
    pub(crate) id: &'a str,
    /// Access key secret.
    pub(crate) secret: &'a str,
    /// Region id without `oss-`.
    pub(crate) region: &'a str,
    /// `YYYYMMDDTHHMMSSZ`; the value of `x-oss-date`.
    pub(crate) date: &'a str,
}

/// A signature and its input.
pub(crate) struct Signed {
    /// Value of `Authorization`.
    pub(crate) authorization: String,
    /// The string that was signed, to compare with the service's own when it refuses.
    pub(crate) string_to_sign: String,
}

/// Signs a request.
pub(crate) fn sign(request: &Request<'_>, signer: &Signer<'_>) -> Signed {
    let day = signer.date.get(..8).unwrap_or(signer.date);
    let scope = format!("{day}/{}/oss/{TERMINATOR}", signer.region);
    let (canonical, additional) = canonical_request(request);
    let string_to_sign =
        format!("{ALGORITHM}\n{}\n{scope}\n{}", signer.date, sha256_hex(canonical.as_bytes()));
    let key = signing_key(signer.secret, day, signer.region);
    let signature = hex(&hmac_sha256(&key, string_to_sign.as_bytes()));
    // An empty list must not be written: the service refuses it.
    let extra = if additional.is_empty() {
        String::new()
    } else {
        format!(",AdditionalHeaders={additional}")
    };
    let authorization =
        format!("{ALGORITHM} Credential={}/{scope}{extra},Signature={signature}", signer.id);
    Signed { authorization, string_to_sign }
}

fn signing_key(secret: &str, day: &str, region: &str) -> Vec<u8> {
    let start = format!("aliyun_v4{secret}").into_bytes();
    [day, region, "oss", TERMINATOR]
        .iter()
        .fold(start, |key, data| hmac_sha256(&key, data.as_bytes()))
}

/// The canonical request and the list of additional headers.
fn canonical_request(request: &Request<'_>) -> (String, String) {
    let additional: Vec<String> =
        request.additional.iter().map(|name| name.to_ascii_lowercase()).collect();
    let signed: Vec<(String, String)> = request
        .headers
        .iter()
        .filter(|(name, _)| {
            let name = name.to_ascii_lowercase();
            is_signed_by_default(&name) || additional.contains(&name)
        })
        .cloned()
        .collect();
    let (headers, names) = encode::headers(&signed);
    let extra: Vec<String> = names.into_iter().filter(|name| !is_signed_by_default(name)).collect();
    let extra = extra.join(";");
    let path = encode::path(&format!("/{}/{}", request.bucket, request.key.unwrap_or_default()));
    let query = encode::query(request.query, true);
    let canonical =
        format!("{}\n{path}\n{query}\n{headers}\n{extra}\n{UNSIGNED_PAYLOAD}", request.method);
    (canonical, extra)
}

fn is_signed_by_default(name: &str) -> bool {
    name.starts_with("x-oss-") || name == "content-type" || name == "content-md5"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|&(key, text)| (key.to_owned(), text.to_owned())).collect()
    }

    fn common_query() -> Vec<(String, String)> {
        pairs(&[
            ("param1", "value1"),
            ("+param1", "value3"),
            ("|param1", "value4"),
            ("+param2", ""),
            ("|param2", ""),
            ("param2", ""),
        ])
    }

    fn signed(
        date: &str,
        query: &[(String, String)],
        headers: &[(String, String)],
        additional: &[&str],
    ) -> Signed {
        let key = Some("1234+-/123/1.txt");
        let request = Request { method: "PUT", bucket: "bucket", key, query, headers, additional };
        sign(&request, &Signer { id: "ak", secret: "sk", region: "cn-hangzhou", date })
    }

    fn header_form(date: &str, token: Option<&str>, additional: &[&str]) -> Signed {
        let mut headers = pairs(&[
            ("x-oss-head1", "value"),
            ("abc", "value"),
            ("ZAbc", "value"),
            ("XYZ", "value"),
            ("content-type", "text/plain"),
            ("x-oss-content-sha256", UNSIGNED_PAYLOAD),
            ("x-oss-date", date),
        ]);
        headers.extend(token.map(|token| ("x-oss-security-token".to_owned(), token.to_owned())));
        signed(date, &common_query(), &headers, additional)
    }

    fn query_form(date: &str, token: Option<&str>) -> Signed {
        let headers = pairs(&[
            ("x-oss-head1", "value"),
            ("abc", "value"),
            ("content-type", "application/octet-stream"),
        ]);
        let credential = format!("ak/{}/cn-hangzhou/oss/aliyun_v4_request", &date[..8]);
        let mut query = common_query();
        query.extend(pairs(&[
            ("x-oss-signature-version", ALGORITHM),
            ("x-oss-date", date),
            ("x-oss-expires", "599"),
            ("x-oss-credential", &credential),
        ]));
        query.extend(token.map(|token| ("x-oss-security-token".to_owned(), token.to_owned())));
        signed(date, &query, &headers, &[])
    }

    fn assert_vector(signed: &Signed, canonical: &str, signature: &str) {
        assert!(signed.string_to_sign.ends_with(canonical), "{}", signed.string_to_sign);
        assert!(signed.authorization.ends_with(signature), "{}", signed.authorization);
    }

    #[test]
    fn vector_a_header_form() {
        let signed = header_form("20231216T162057Z", None, &[]);
        assert_vector(
            &signed,
            "f4613657f1b108998e8dbd10a1aa5da621dc2c6e02c9ddec0f163664848704c4",
            "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe",
        );
        assert!(
            signed.authorization.starts_with(
                "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,Signature="
            ),
            "{}",
            signed.authorization
        );
    }

    #[test]
    fn vector_a_keys_of_the_chain() {
        let key = signing_key("sk", "20231216", "cn-hangzhou");
        assert_eq!(hex(&key), "b412a03b134ebddd720f5167b5de6db66620ebb3b01cff4d49e3ccb09f8de97f");
    }

    #[test]
    fn vector_a_canonical_query() {
        assert_eq!(
            encode::query(&common_query(), true),
            "%2Bparam1=value3&%2Bparam2&%7Cparam1=value4&%7Cparam2&param1=value1&param2"
        );
    }

    #[test]
    fn vector_b_with_a_token() {
        assert_vector(
            &header_form("20231217T034736Z", Some("token"), &[]),
            "69494678fb11579d4ee12996e2796d9e2ba43c34aa4c723c4aec018f3d6b86b8",
            "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea",
        );
    }

    #[test]
    fn vector_c_with_additional_headers() {
        let signed = header_form("20231216T172512Z", None, &["ZAbc", "abc"]);
        assert_vector(
            &signed,
            "16b86004ed2cc3406dd7a13081bd940ef6a5ad49e508da2d4fdf84e8a5dd2145",
            "4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f",
        );
        assert!(signed.authorization.contains(",AdditionalHeaders=abc;zabc,Signature="));
    }

    #[test]
    fn vector_d_query_form() {
        assert_vector(
            &query_form("20231217T025437Z", None),
            "48814c11f278d51662015bf2f896b66ca10b6de0187ed8d952e341bbce0aa336",
            "a39966c61718be0d5b14e668088b3fa07601033f6518ac7b523100014269c0fe",
        );
    }

    #[test]
    fn vector_e_query_form_with_a_token() {
        assert_vector(
            &query_form("20231217T035628Z", Some("token")),
            "458705026c021c95dd317d008cff79df19ce99bf2b241d1ecb20f4d65bb851a5",
            "3817ac9d206cd6dfc90f1c09c00be45005602e55898f26f5ddb06d7892e1f8b5",
        );
    }
}
