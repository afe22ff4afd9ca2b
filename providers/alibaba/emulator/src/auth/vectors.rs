//! Verifies the vendor's published signature vectors on the server side: OSS V4 in header and presigned form,
//! OSS V1, ACS3, RPC V1. Each is also broken once, to prove that it is checked.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::acs3::{self, Claim};
use super::oss_v4::{self, Resource};
use super::{encode, mac, oss_v1, rpc_v1};
use crate::config::Account;
use crate::http::Head;

fn account(id: &str, secret: &str, token: Option<&str>) -> Account {
    Account { id: id.to_owned(), secret: secret.to_owned(), token: token.map(str::to_owned) }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.to_lowercase().as_bytes()).unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    map
}

const QUERY: &str = "param1=value1&%2Bparam1=value3&%7Cparam1=value4&%2Bparam2&%7Cparam2&param2";
const RESOURCE: Resource<'static> =
    Resource { bucket: Some("bucket"), key: Some("1234+-/123/1.txt") };

fn oss_head(query: &str, more: &[(&str, &str)]) -> Head {
    let mut pairs =
        vec![("x-oss-head1", "value"), ("abc", "value"), ("ZAbc", "value"), ("XYZ", "value")];
    pairs.extend_from_slice(more);
    Head {
        method: "PUT".to_owned(),
        host: "bucket.oss-cn-hangzhou.aliyuncs.com".to_owned(),
        raw_path: "/1234%2B-/123/1.txt".to_owned(),
        query: encode::pairs(query).unwrap(),
        headers: headers(&pairs),
    }
}

fn header_form(authorization: &str, stamp: &str, token: Option<&str>) -> Head {
    let mut more = vec![
        ("content-type", "text/plain"),
        ("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
        ("x-oss-date", stamp),
        ("authorization", authorization),
    ];
    if let Some(token) = token {
        more.push(("x-oss-security-token", token));
    }
    oss_head(QUERY, &more)
}

struct V4 {
    date: &'static str,
    stamp: &'static str,
    seconds: i64,
    token: Option<&'static str>,
    additional: &'static str,
    signature: &'static str,
}

const A: V4 = V4 {
    date: "20231216",
    stamp: "20231216T162057Z",
    seconds: 1_702_743_657,
    token: None,
    additional: "",
    signature: "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe",
};
const B: V4 = V4 {
    date: "20231217",
    stamp: "20231217T034736Z",
    seconds: 1_702_784_856,
    token: Some("token"),
    additional: "",
    signature: "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea",
};
const C: V4 = V4 {
    date: "20231216",
    stamp: "20231216T172512Z",
    seconds: 1_702_747_512,
    token: None,
    additional: ",AdditionalHeaders=abc;zabc",
    signature: "4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f",
};

impl V4 {
    fn head(&self, signature: &str) -> Head {
        let Self { date, additional, .. } = self;
        let authorization = format!(
            "OSS4-HMAC-SHA256 Credential=ak/{date}/cn-hangzhou/oss/aliyun_v4_request{additional},\
             Signature={signature}"
        );
        header_form(&authorization, self.stamp, self.token)
    }

    fn verify(
        &self,
        head: &Head,
        region: &str,
        late: i64,
    ) -> Result<String, crate::oss::error::OssError> {
        let accounts = [account("ak", "sk", self.token)];
        let now = (self.seconds + late) * 1000;
        oss_v4::verify(head, RESOURCE, Some(region), &accounts, now)
    }
}

#[test]
fn oss_v4_header_vectors_pass_and_broken_ones_do_not() {
    for vector in [A, B, C] {
        let head = vector.head(vector.signature);
        assert_eq!(vector.verify(&head, "cn-hangzhou", 0).unwrap(), "ak");
        let broken = vector.head(&vector.signature.replace('a', "b"));
        let error = vector.verify(&broken, "cn-hangzhou", 0).unwrap_err();
        assert_eq!((error.status, error.code.as_str()), (403, "SignatureDoesNotMatch"));
        let mut changed = head.clone();
        changed.headers.insert("content-type", HeaderValue::from_static("text/html"));
        assert_eq!(
            vector.verify(&changed, "cn-hangzhou", 0).unwrap_err().ec,
            Some("0002-00000040")
        );
    }
}

#[test]
fn oss_v4_reports_the_canonical_request_it_computed() {
    let error = A.verify(&A.head("00"), "cn-hangzhou", 0).unwrap_err();
    let detail = |name: &str| {
        error.details.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone()).unwrap()
    };
    let canonical = detail("CanonicalRequest");
    assert!(canonical.starts_with(
        "PUT\n/bucket/1234%2B-/123/1.txt\n\
         %2Bparam1=value3&%2Bparam2&%7Cparam1=value4&%7Cparam2&param1=value1&param2\n\
         content-type:text/plain\n"
    ));
    let hash = "f4613657f1b108998e8dbd10a1aa5da621dc2c6e02c9ddec0f163664848704c4";
    assert_eq!(mac::digest(canonical.as_bytes()), hash);
    assert!(detail("StringToSign").ends_with(hash));
}

#[test]
fn oss_v4_fields_may_have_blanks_and_any_order() {
    let authorization = format!(
        "OSS4-HMAC-SHA256 Signature={}, Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request",
        A.signature
    );
    let head = header_form(&authorization, A.stamp, None);
    assert!(A.verify(&head, "cn-hangzhou", 0).is_ok());
}

#[test]
fn oss_v4_refuses_wrong_scope_time_and_fields() {
    let code = |head: &Head, region: &str, late: i64| {
        let error = A.verify(head, region, late).unwrap_err();
        (error.status, error.code, error.ec.unwrap_or_default())
    };
    let good = A.head(A.signature);
    let argument = |ec| (400, "InvalidArgument".to_owned(), ec);
    assert_eq!(code(&good, "cn-beijing", 0), argument("0002-00000226"));
    let skewed = (403, "RequestTimeTooSkewed".to_owned(), "0002-00000504");
    assert_eq!(code(&good, "cn-hangzhou", 901), skewed);
    assert_eq!(code(&good, "cn-hangzhou", -901), skewed);
    assert!(A.verify(&good, "cn-hangzhou", 900).is_ok());
    for (field, with, ec) in [
        ("/oss/", "/ecs/", "0002-00000227"),
        ("aliyun_v4_request", "aws4_request", "0002-00000213"),
        ("ak/20231216", "ak/20231217", "0002-00000212"),
        (",Signature", ",AdditionalHeaders=,Signature", "0002-00000209"),
        (",Signature", ",AdditionalHeaders=host,Signature", "0002-00000209"),
        (",Signature", ",Bogus", "0002-00000202"),
    ] {
        let mut head = good.clone();
        let text = head.header("authorization").unwrap().replacen(field, with, 1);
        head.headers.insert("authorization", HeaderValue::from_str(&text).unwrap());
        assert_eq!(code(&head, "cn-hangzhou", 0), argument(ec), "{with}");
    }
    let mut unknown = good.clone();
    let text = good.header("authorization").unwrap().replace("=ak/", "=other/");
    unknown.headers.insert("authorization", HeaderValue::from_str(&text).unwrap());
    assert_eq!(code(&unknown, "cn-hangzhou", 0).2, "0002-00000902");
}

#[test]
fn oss_v4_tokens_must_fit_their_key() {
    let check = |vector: &V4, accounts: &[Account]| {
        let head = vector.head(vector.signature);
        oss_v4::verify(&head, RESOURCE, None, accounts, vector.seconds * 1000).unwrap_err().code
    };
    let mismatch = "AccessKeyIdAndSecurityTokenNotMatch";
    assert_eq!(check(&A, &[account("ak", "sk", Some("token"))]), mismatch);
    assert_eq!(check(&B, &[account("ak", "sk", None)]), mismatch);
    assert_eq!(check(&B, &[account("ak", "sk", Some("other"))]), "InvalidSecurityToken");
}

#[test]
fn oss_v4_presigned_vectors_pass_until_they_expire() {
    let d = (
        "20231217T025437Z",
        1_702_781_677,
        None,
        "a39966c61718be0d5b14e668088b3fa07601033f6518ac7b523100014269c0fe",
    );
    let e = (
        "20231217T035628Z",
        1_702_785_388,
        Some("token"),
        "3817ac9d206cd6dfc90f1c09c00be45005602e55898f26f5ddb06d7892e1f8b5",
    );
    for (stamp, seconds, token, signature) in [d, e] {
        let mut query = format!(
            "{QUERY}&x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date={stamp}&x-oss-expires=599\
             &x-oss-credential=ak%2F20231217%2Fcn-hangzhou%2Foss%2Faliyun_v4_request\
             &x-oss-signature={signature}"
        );
        if let Some(token) = token {
            query.push_str(&format!("&x-oss-security-token={token}"));
        }
        let head = oss_head(&query, &[("content-type", "application/octet-stream")]);
        let verify = |now: i64| {
            let accounts = [account("ak", "sk", token)];
            oss_v4::verify(&head, RESOURCE, Some("cn-hangzhou"), &accounts, now * 1000)
        };
        assert_eq!(verify(seconds + 599).unwrap(), "ak");
        assert_eq!(verify(seconds + 600).unwrap_err().message, "Request has expired.");
    }
}

#[test]
fn oss_v1_vector_passes_and_a_broken_one_does_not() {
    let date = "Wed, 28 Dec 2022 10:27:41 GMT";
    let head = |signature: &str| Head {
        method: "PUT".to_owned(),
        headers: headers(&[
            ("content-md5", "eB5eJF1ptWaXm4bijSPyxw=="),
            ("content-type", "text/html"),
            ("date", date),
            ("x-oss-date", date),
            ("x-oss-meta-author", "alice"),
            ("x-oss-meta-magic", "abracadabra"),
            ("authorization", &format!("OSS ak:{signature}")),
        ]),
        ..Head::default()
    };
    let resource = Resource { bucket: Some("examplebucket"), key: Some("nelson") };
    let verify = |signature: &str| {
        let accounts = [account("ak", "sk", None)];
        oss_v1::verify(&head(signature), resource, &accounts, 1_672_223_261_000)
    };
    assert_eq!(verify("kSHKmLxlyEAKtZPkJhG9bZb5k7M=").unwrap(), "ak");
    assert_eq!(verify("kSHKmLxlyEAKtZPkJhG9bZb5k7N=").unwrap_err().status, 403);
}

fn acs_head(method: &str, host: &str, query: &str, pairs: &[(&str, &str)]) -> Head {
    let mut all = vec![("host", host)];
    all.extend_from_slice(pairs);
    Head {
        method: method.to_owned(),
        host: host.to_owned(),
        raw_path: "/".to_owned(),
        query: encode::pairs(query).unwrap(),
        headers: headers(&all),
    }
}

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn acs3_documented_vector_passes() {
    let signature = "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0";
    let authorization = format!(
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;\
         x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,Signature={signature}"
    );
    let head = acs_head(
        "POST",
        "ecs.cn-shanghai.aliyuncs.com",
        "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai",
        &[
            ("x-acs-action", "RunInstances"),
            ("x-acs-content-sha256", EMPTY),
            ("x-acs-date", "2023-10-26T10:22:32Z"),
            ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
            ("x-acs-version", "2014-05-26"),
            ("authorization", &authorization),
        ],
    );
    let accounts = [account("YourAccessKeyId", "YourAccessKeySecret", None)];
    let now = 1_698_315_752_000;
    assert_eq!(acs3::verify(&head, b"", &accounts, now).unwrap(), "YourAccessKeyId");
    let code = |now, body: &[u8]| acs3::verify(&head, body, &accounts, now).unwrap_err().code;
    assert_eq!(code(now + 901_000, b""), "InvalidTimeStamp.Expired");
    assert_eq!(code(now, b"x"), "IncompleteSignature");
    let wrong = [account("YourAccessKeyId", "other", None)];
    let error = acs3::verify(&head, b"", &wrong, now).unwrap_err();
    assert_eq!(error.code, "SignatureDoesNotMatch");
    let hash = "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259";
    assert!(error.message.contains(hash), "{}", error.message);
}

#[test]
fn acs3_vector_with_token_and_odd_characters_passes() {
    let signed = "host;x-acs-accesskey-id;x-acs-action;x-acs-content-sha256;x-acs-date;\
                  x-acs-security-token;x-acs-signature-nonce;x-acs-version";
    let signature = "32eb005292639ad0ad802dccd147ef8b83b142816719876be99df6908e6f771e";
    let authorization =
        format!("ACS3-HMAC-SHA256 Credential=testid,SignedHeaders={signed},Signature={signature}");
    let query = "DiskDeviceMapping.1.DiskImageSize=20&DiskDeviceMapping.1.Format=QCOW2\
                 &DiskDeviceMapping.1.OSSBucket=b&DiskDeviceMapping.1.OSSObject=dir%2Fa+b%2Bc.qcow2\
                 &Features.NvmeSupport=supported&ImageName=bigip-17.1.0%20%28x%29\
                 &RegionId=cn-hangzhou&Tag.1.Key=k&Tag.1.Value=v*~";
    let head = acs_head(
        "POST",
        "ecs-cn-hangzhou.aliyuncs.com",
        query,
        &[
            ("x-acs-accesskey-id", "testid"),
            ("x-acs-action", "ImportImage"),
            ("x-acs-content-sha256", EMPTY),
            ("x-acs-date", "2026-11-22T00:00:00Z"),
            ("x-acs-security-token", "tok"),
            ("x-acs-signature-nonce", "00000000000000000000000000000001"),
            ("x-acs-version", "2014-05-26"),
            ("authorization", &authorization),
        ],
    );
    let now = 1_795_305_600_000;
    let accounts = [account("testid", "testsecret", Some("tok"))];
    assert_eq!(acs3::verify(&head, b"", &accounts, now).unwrap(), "testid");
}

#[test]
fn acs3_merges_repeated_headers_and_keeps_the_equals_sign_of_empty_values() {
    let claim = Claim {
        key_id: "acesskey".to_owned(),
        signed_headers: vec!["x-acs-test".to_owned()],
        signature: "d16b30a7699ae9e43875b13195b2f81bcc3ed10c14a9b5eb780e51619aa50be1".to_owned(),
    };
    let head =
        acs_head("GET", "h", "test=ok&empty=", &[("x-acs-test", "https"), ("x-acs-test", "http")]);
    let payload = "55e12e91650d2fec56ec74e1d3e4ddbfce2ef3a65890c2a19ecf88a307e76a23";
    acs3::check_signature(&head, &claim, "secret", payload).unwrap();
    let wrong = acs3::check_signature(&head, &claim, "other", payload).unwrap_err();
    assert_eq!(wrong.code, "SignatureDoesNotMatch");
}

#[test]
fn acs3_requires_that_essential_headers_are_signed() {
    let authorization = "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=00";
    let head = acs_head("POST", "h", "", &[("authorization", authorization)]);
    let error = acs3::verify(&head, b"", &[account("a", "b", None)], 0).unwrap_err();
    assert_eq!(error.code, "IncompleteSignature");
}

#[test]
fn rpc_v1_documented_vector_passes() {
    let pairs = encode::pairs(
        "AccessKeyId=testid&Action=DescribeRegions&Format=XML&SignatureMethod=HMAC-SHA1\
         &SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf&SignatureVersion=1.0\
         &Timestamp=2016-02-23T12%3A46%3A24Z&Version=2014-05-26\
         &Signature=OLeaidS1JvxuMvnyHOwuJ%2BuX5qY%3D",
    )
    .unwrap();
    let now = 1_456_231_584_000;
    let verify =
        |secret: &str| rpc_v1::verify("GET", &pairs, &[account("testid", secret, None)], now);
    assert_eq!(verify("testsecret").unwrap(), "testid");
    let error = verify("other").unwrap_err();
    let parts: Vec<&str> = error.message.split(':').collect();
    assert_eq!(parts.len(), 2, "clients cut the message at its only colon");
    assert_eq!(parts[1], rpc_v1::string_to_sign("GET", &pairs));
}
