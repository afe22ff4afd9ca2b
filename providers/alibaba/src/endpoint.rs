//! Where the services are: hosts by region, endpoints given by the user, and how a bucket is addressed.
//!
//! Source: Alibaba Cloud documentation, "Regions and endpoints" of OSS and ECS.

use std::net::IpAddr;

use build_image_plugin_api::{Error, Result};

use crate::sign::encode;

/// A server: `https://host` or `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `https` or `http`.
    scheme: &'static str,
    /// Host with its port when one was given.
    authority: String,
}

impl Endpoint {
    fn https(host: impl Into<String>) -> Self {
        Self { scheme: "https", authority: host.into() }
    }

    /// Reads a host or URL out of setting `key`.
    fn parse(key: &str, text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::config(format!("`{key}` is `{text}`: {why}")).with_hint(
                "write a host such as `oss-cn-hangzhou.aliyuncs.com` or `http://127.0.0.1:8080`",
            )
        };
        let (scheme, rest) = match text.split_once("://") {
            None => ("https", text),
            Some(("https", rest)) => ("https", rest),
            Some(("http", rest)) => ("http", rest),
            Some(_) => return Err(wrong("only https and http are spoken")),
        };
        let authority = rest.trim_end_matches('/');
        if authority.contains(['/', '?', '#', '@']) {
            return Err(wrong("it must not have a path, query or user name"));
        }
        let parsed = reqwest::Url::parse(&format!("{scheme}://{authority}/"));
        if authority.is_empty() || parsed.is_err() {
            return Err(wrong("this is not an address"));
        }
        // The port of the scheme is not part of the Host header, so it must not be signed either.
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(usual).unwrap_or(authority);
        Ok(Self { scheme, authority: authority.to_lowercase() })
    }

    /// The ECS endpoint of a region.
    ///
    /// # Errors
    /// When the user's is not an address.
    pub(crate) fn ecs(chosen: Option<&str>, region: &str) -> Result<Self> {
        match chosen {
            Some(text) => Self::parse("ALIBABA_ECS_ENDPOINT", text),
            None => Ok(Self::https(ecs_host(region))),
        }
    }

    /// The STS endpoint.
    ///
    /// # Errors
    /// When the user's is not an address.
    pub(crate) fn sts(chosen: Option<&str>) -> Result<Self> {
        match chosen {
            Some(text) => Self::parse("ALIBABA_STS_ENDPOINT", text),
            None => Ok(Self::https("sts.aliyuncs.com")),
        }
    }

    /// `scheme://host[:port]`.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// Host and port as the `Host` header has them.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    fn host(&self) -> &str {
        if let Some(rest) = self.authority.strip_prefix('[') {
            return rest.split(']').next().unwrap_or(rest);
        }
        self.authority.split(':').next().unwrap_or(&self.authority)
    }

    fn is_address(&self) -> bool {
        self.host() == "localhost" || self.host().parse::<IpAddr>().is_ok()
    }

    /// Whether the server is on this machine: no proxy, no certificates.
    pub(crate) fn is_loopback(&self) -> bool {
        let loopback = self.host().parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        loopback || self.host() == "localhost"
    }

    /// Whether the connection is not encrypted.
    pub(crate) fn is_plain(&self) -> bool {
        self.scheme == "http"
    }
}

fn internal_host(region: &str) -> String {
    format!("oss-{region}-internal.aliyuncs.com")
}

fn ecs_host(region: &str) -> String {
    match region {
        "cn-hangzhou" | "cn-shanghai-finance-1" | "cn-shenzhen-finance-1" | "cn-fujian" => {
            "ecs-cn-hangzhou.aliyuncs.com".to_owned()
        }
        "cn-north-2-gov-1"
        | "cn-beijing-gov-1"
        | "cn-hangzhou-finance"
        | "cn-wuhan"
        | "cn-zhangbei" => "ecs.aliyuncs.com".to_owned(),
        _ => format!("ecs.{region}.aliyuncs.com"),
    }
}

/// Hosts below it serve all buckets; any other name is bound to one.
const VENDOR_DOMAIN: &str = ".aliyuncs.com";

/// How a bucket is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `bucket.host/key`.
    VirtualHost,
    /// `host/bucket/key`, for addresses without names.
    Path,
    /// `host/key`: the host belongs to the bucket.
    Bound,
}

/// The OSS endpoint of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OssEndpoint {
    endpoint: Endpoint,
    style: Style,
}

impl OssEndpoint {
    /// The user's endpoint, else the region's public or internal one.
    ///
    /// # Errors
    /// When the user's is not an address.
    pub(crate) fn choose(
        chosen: Option<&str>,
        region: &str,
        bucket: &str,
        internal: bool,
    ) -> Result<Self> {
        let endpoint = match chosen {
            Some("public") => Endpoint::https(format!("oss-{region}.aliyuncs.com")),
            Some("internal") => Endpoint::https(internal_host(region)),
            Some("dualstack") => Endpoint::https(format!("{region}.oss.aliyuncs.com")),
            Some("accelerate") => Endpoint::https("oss-accelerate.aliyuncs.com"),
            Some("accelerate-overseas") => Endpoint::https("oss-accelerate-overseas.aliyuncs.com"),
            Some(text) => Endpoint::parse("ALIBABA_OSS_ENDPOINT", text)?,
            None if internal => Endpoint::https(internal_host(region)),
            None => Endpoint::https(format!("oss-{region}.aliyuncs.com")),
        };
        let style = if endpoint.is_address() {
            Style::Path
        } else if endpoint.host().ends_with(VENDOR_DOMAIN)
            && !endpoint.host().starts_with(&format!("{bucket}."))
        {
            Style::VirtualHost
        } else {
            Style::Bound
        };
        Ok(Self { endpoint, style })
    }

    /// The server.
    pub(crate) fn server(&self) -> &Endpoint {
        &self.endpoint
    }

    /// URL of the bucket or of an object in it, without a query.
    pub(crate) fn url(&self, bucket: &str, key: Option<&str>) -> String {
        let Endpoint { scheme, authority } = &self.endpoint;
        let key = encode::path(key.unwrap_or_default());
        match self.style {
            Style::VirtualHost => format!("{scheme}://{bucket}.{authority}/{key}"),
            Style::Path => format!("{scheme}://{authority}/{bucket}/{key}"),
            Style::Bound => format!("{scheme}://{authority}/{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oss(chosen: Option<&str>, internal: bool) -> String {
        let endpoint = OssEndpoint::choose(chosen, "cn-hangzhou", "b-1", internal).unwrap();
        endpoint.url("b-1", Some("dir/a b+.qcow2"))
    }

    #[test]
    fn buckets_are_addressed_by_name_on_names_and_by_path_on_addresses() {
        assert_eq!(oss(None, false), "https://b-1.oss-cn-hangzhou.aliyuncs.com/dir/a%20b%2B.qcow2");
        assert_eq!(
            oss(None, true),
            "https://b-1.oss-cn-hangzhou-internal.aliyuncs.com/dir/a%20b%2B.qcow2"
        );
        assert_eq!(
            oss(Some("http://127.0.0.1:81"), false),
            "http://127.0.0.1:81/b-1/dir/a%20b%2B.qcow2"
        );
        assert_eq!(oss(Some("http://[::1]:81/"), false), "http://[::1]:81/b-1/dir/a%20b%2B.qcow2");
        assert_eq!(
            oss(Some("oss-accelerate.aliyuncs.com"), true),
            "https://b-1.oss-accelerate.aliyuncs.com/dir/a%20b%2B.qcow2"
        );
        assert_eq!(
            oss(Some("https://images.example.com:443/"), false),
            "https://images.example.com/dir/a%20b%2B.qcow2"
        );
        assert_eq!(
            oss(Some("b-1.example.com"), false),
            "https://b-1.example.com/dir/a%20b%2B.qcow2"
        );
    }

    #[test]
    fn words_stand_for_the_regions_endpoints() {
        for (word, host) in [
            ("public", "oss-cn-hangzhou.aliyuncs.com"),
            ("internal", "oss-cn-hangzhou-internal.aliyuncs.com"),
            ("dualstack", "cn-hangzhou.oss.aliyuncs.com"),
            ("accelerate", "oss-accelerate.aliyuncs.com"),
            ("accelerate-overseas", "oss-accelerate-overseas.aliyuncs.com"),
        ] {
            assert_eq!(oss(Some(word), false), format!("https://b-1.{host}/dir/a%20b%2B.qcow2"));
        }
    }

    #[test]
    fn some_regions_share_an_ecs_endpoint() {
        let origin = |region| Endpoint::ecs(None, region).unwrap().origin();
        assert_eq!(origin("cn-hangzhou"), "https://ecs-cn-hangzhou.aliyuncs.com");
        assert_eq!(origin("eu-central-1"), "https://ecs.eu-central-1.aliyuncs.com");
        assert_eq!(origin("cn-wuhan"), "https://ecs.aliyuncs.com");
    }

    #[test]
    fn what_is_not_an_endpoint_is_refused_by_its_key() {
        for text in ["ftp://x", "https://host/path", "https://user@host", "https://", "a b"] {
            let error = Endpoint::sts(Some(text)).unwrap_err();
            assert!(error.message.contains("ALIBABA_STS_ENDPOINT"), "{text}: {error}");
        }
    }

    #[test]
    fn loopback_is_recognised() {
        let loopback = |text| Endpoint::sts(Some(text)).unwrap().is_loopback();
        assert!(loopback("http://127.0.0.1:1") && loopback("http://localhost:1"));
        assert!(loopback("http://[::1]:1") && !loopback("http://10.0.0.1:1"));
    }
}
