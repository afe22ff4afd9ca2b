//! Computes the signature of ECS, STS, and other Alibaba Cloud APIs, version 3 (`ACS3-HMAC-SHA256`).
//!
//! Source: Alibaba Cloud API documentation, "V3 request structure and signature".

use super::{
    digest::{hex, hmac_sha256, sha256_hex},
    encode,
};

const ALGORITHM: &str = "ACS3-HMAC-SHA256";
/// SHA-256 of an empty body, value of `x-acs-content-sha256`.
pub(crate) const EMPTY_BODY: &str =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The signed properties of a request.
pub(crate) struct Request<'a> {
    /// Upper-case verb.
    pub(crate) method: &'a str,
    /// Every parameter, not encoded.
    pub(crate) query: &'a [(String, String)],
    /// Headers to sign: `host`, `content-type` if present, every `x-acs-*`.
    pub(crate) headers: &'a [(String, String)],
    /// Hexadecimal SHA-256 of the body.
    pub(crate) payload_hash: &'a str,
}

/// A signature and its input.
pub(crate) struct Signed {
    /// Value of `Authorization`.
    pub(crate) authorization: String,
    /// The string that was signed, to compare with the service's own when it refuses.
    pub(crate) string_to_sign: String,
    /// The query as it must be sent.
    pub(crate) query: String,
}

/// Signs a request to `/` with a key pair.
pub(crate) fn sign(request: &Request<'_>, id: &str, secret: &str) -> Signed {
    let (headers, names) = encode::headers(request.headers);
    let names = names.join(";");
    let query = encode::query(request.query, false);
    let canonical =
        format!("{}\n/\n{query}\n{headers}\n{names}\n{}", request.method, request.payload_hash);
    let string_to_sign = format!("{ALGORITHM}\n{}", sha256_hex(canonical.as_bytes()));
    let signature = hex(&hmac_sha256(secret.as_bytes(), string_to_sign.as_bytes()));
    let authorization =
        format!("{ALGORITHM} Credential={id},SignedHeaders={names},Signature={signature}");
    Signed { authorization, string_to_sign, query }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|&(key, text)| (key.to_owned(), text.to_owned())).collect()
    }

    #[test]
    fn vector_f_of_the_documentation() {
        let query = pairs(&[
            ("RegionId", "cn-shanghai"),
            ("ImageId", "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"),
        ]);
        let headers = pairs(&[
            ("x-acs-version", "2014-05-26"),
            ("host", "ecs.cn-shanghai.aliyuncs.com"),
            ("x-acs-action", "RunInstances"),
            ("x-acs-date", "2023-10-26T10:22:32Z"),
            ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
            ("x-acs-content-sha256", EMPTY_BODY),
        ]);
        let request =
            Request { method: "POST", query: &query, headers: &headers, payload_hash: EMPTY_BODY };
        let signed = sign(&request, "YourAccessKeyId", "YourAccessKeySecret");
        assert_eq!(
            signed.string_to_sign,
            "ACS3-HMAC-SHA256\n7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"
        );
        assert!(signed.authorization.ends_with(
            ",Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        ));
    }

    #[test]
    fn vector_g_with_a_token_and_encoded_values() {
        let query = pairs(&[
            ("Tag.1.Value", "v*~"),
            ("Tag.1.Key", "k"),
            ("RegionId", "cn-hangzhou"),
            ("ImageName", "bigip-17.1.0 (x)"),
            ("Features.NvmeSupport", "supported"),
            ("DiskDeviceMapping.1.OSSObject", "dir/a b+c.qcow2"),
            ("DiskDeviceMapping.1.OSSBucket", "b"),
            ("DiskDeviceMapping.1.Format", "QCOW2"),
            ("DiskDeviceMapping.1.DiskImageSize", "20"),
        ]);
        let headers = pairs(&[
            ("host", "ecs-cn-hangzhou.aliyuncs.com"),
            ("x-acs-accesskey-id", "testid"),
            ("x-acs-action", "ImportImage"),
            ("x-acs-content-sha256", EMPTY_BODY),
            ("x-acs-date", "2026-11-22T00:00:00Z"),
            ("x-acs-security-token", "tok"),
            ("x-acs-signature-nonce", "00000000000000000000000000000001"),
            ("x-acs-version", "2014-05-26"),
        ]);
        let request =
            Request { method: "POST", query: &query, headers: &headers, payload_hash: EMPTY_BODY };
        let signed = sign(&request, "testid", "testsecret");
        assert_eq!(
            signed.query,
            "DiskDeviceMapping.1.DiskImageSize=20&DiskDeviceMapping.1.Format=QCOW2&\
             DiskDeviceMapping.1.OSSBucket=b&DiskDeviceMapping.1.OSSObject=dir%2Fa%20b%2Bc.qcow2&\
             Features.NvmeSupport=supported&ImageName=bigip-17.1.0%20%28x%29&RegionId=cn-hangzhou&\
             Tag.1.Key=k&Tag.1.Value=v%2A~"
        );
        assert_eq!(
            signed.string_to_sign,
            "ACS3-HMAC-SHA256\nd07921f31146f842ffe4c59cb069611f5fc9cbed4649b835255fcfe0d80128c2"
        );
        assert_eq!(
            signed.authorization,
            "ACS3-HMAC-SHA256 Credential=testid,SignedHeaders=host;x-acs-accesskey-id;\
             x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-security-token;\
             x-acs-signature-nonce;x-acs-version,Signature=\
             32eb005292639ad0ad802dccd147ef8b83b142816719876be99df6908e6f771e"
        );
    }

    #[test]
    fn vector_h_an_empty_value_keeps_its_equals_sign() {
        let query = pairs(&[("test", "ok"), ("empty", "")]);
        let headers = pairs(&[("x-acs-test", "http,https")]);
        let payload_hash = "55e12e91650d2fec56ec74e1d3e4ddbfce2ef3a65890c2a19ecf88a307e76a23";
        let request = Request { method: "GET", query: &query, headers: &headers, payload_hash };
        let signed = sign(&request, "acesskey", "secret");
        assert_eq!(signed.query, "empty=&test=ok");
        assert_eq!(
            signed.string_to_sign,
            "ACS3-HMAC-SHA256\n6c416f315497f25326e3f67e06370dbfce4d082b99aecdfc2411eeecd152f68f"
        );
        assert!(signed.authorization.ends_with(
            ",Signature=d16b30a7699ae9e43875b13195b2f81bcc3ed10c14a9b5eb780e51619aa50be1"
        ));
    }
}
