//! Determines the endpoints of the services: hosts by region, endpoints given by the user.
//!
//! Source: Alibaba Cloud documentation, "Regions and endpoints" of OSS and ECS.

use std::net::IpAddr;

use build_image_plugin_api::{Error, Result};

/// A server: `https://host` or `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `https` or `http`.
    pub(crate) scheme: &'static str,
    /// Host with its port when one was given.
    pub(crate) authority: String,
}

impl Endpoint {
    /// A host reached by HTTPS.
    pub(crate) fn https(host: impl Into<String>) -> Self {
        Self { scheme: "https", authority: host.into() }
    }

    /// Parses a host or URL from setting `key`.
    ///
    /// # Errors
    /// Config error naming the key.
    pub(crate) fn parse(key: &str, text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            let text = redact_url(text);
            Error::config(format!("`{key}` is `{text}`: {why}")).with_hint(
                "write a host such as `oss-cn-hangzhou.aliyuncs.com` or `http://127.0.0.1:8080`",
            )
        };
        let (scheme, rest) = match text.split_once("://") {
            None => ("https", text),
            Some(("https", rest)) => ("https", rest),
            Some(("http", rest)) => ("http", rest),
            Some(_) => return Err(invalid("only https and http are spoken")),
        };
        let authority = rest.trim_end_matches('/');
        if authority.contains(['/', '?', '#', '@']) {
            return Err(invalid("it must not have a path, query or user name"));
        }
        let parsed = reqwest::Url::parse(&format!("{scheme}://{authority}/"));
        if authority.is_empty() || parsed.is_err() {
            return Err(invalid("this is not an address"));
        }
        // The scheme's default port is not part of the Host header, so it must not be signed either.
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(usual).unwrap_or(authority);
        Ok(Self { scheme, authority: authority.to_lowercase() })
    }

    /// The ECS endpoint of a region. The user's endpoint is meant for region `home`. One of the vendor's
    /// hosts serves only its region, so another region uses the host of the same kind there. Any other server
    /// is a gateway for all regions.
    ///
    /// # Errors
    /// When the user's endpoint is not an address.
    pub(crate) fn ecs(chosen: Option<&str>, home: Option<&str>, region: &str) -> Result<Self> {
        let Some(text) = chosen else { return Ok(Self::https(ecs_host(region))) };
        let given = Self::parse("ALIBABA_ECS_ENDPOINT", text)?;
        if home == Some(region) || !given.host().ends_with(VENDOR_DOMAIN) {
            return Ok(given);
        }
        let inside = given.host().starts_with("ecs-vpc.");
        let host =
            if inside { format!("ecs-vpc.{region}{VENDOR_DOMAIN}") } else { ecs_host(region) };
        Ok(Self { authority: host, ..given })
    }

    /// The STS endpoint.
    ///
    /// # Errors
    /// When the user's endpoint is not an address.
    pub(crate) fn sts(chosen: Option<&str>) -> Result<Self> {
        match chosen {
            Some(text) => Self::parse("ALIBABA_STS_ENDPOINT", text),
            None => Ok(Self::https("sts.aliyuncs.com")),
        }
    }

    /// The STS endpoint for assuming roles: the user's, a region's, or the central one.
    ///
    /// # Errors
    /// When the user's endpoint is not an address.
    pub(crate) fn sts_in(chosen: Option<&str>, region: Option<&str>, vpc: bool) -> Result<Self> {
        match (chosen, region) {
            (None, Some(region)) if vpc => {
                Ok(Self::https(format!("sts-vpc.{region}.aliyuncs.com")))
            }
            (None, Some(region)) => Ok(Self::https(format!("sts.{region}.aliyuncs.com"))),
            _ => Self::sts(chosen),
        }
    }

    /// The RAM endpoint. If STS was configured as an address, that address is a gateway for all services.
    ///
    /// # Errors
    /// When the user's endpoint is not an address.
    pub(crate) fn ram(chosen: Option<&str>, sts: &Self) -> Result<Self> {
        match chosen {
            Some(text) => Self::parse("ALIBABA_RAM_ENDPOINT", text),
            None if sts.is_address() => Ok(sts.clone()),
            None => Ok(Self::https("ram.aliyuncs.com")),
        }
    }

    /// The metadata service of instances.
    ///
    /// # Errors
    /// When the user's endpoint is not an address.
    pub(crate) fn metadata(chosen: Option<&str>) -> Result<Self> {
        let address = format!("http://{METADATA}");
        Self::parse("ALIBABA_METADATA_ENDPOINT", chosen.unwrap_or(&address))
    }

    /// Parses a URL with a path; returns the server and the path.
    ///
    /// # Errors
    /// When it is not a URL.
    pub(crate) fn with_path(key: &str, text: &str) -> Result<(Self, String)> {
        let start = text.find("://").map_or(0, |position| position + 3);
        let end = text[start..].find(['/', '?']).map_or(text.len(), |position| start + position);
        let path = &text[end..];
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok((Self::parse(key, &text[..end])?, path))
    }

    /// `scheme://host[:port]`.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// Host and port as in the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Host without port and brackets.
    pub(crate) fn host(&self) -> &str {
        if let Some(rest) = self.authority.strip_prefix('[') {
            return rest.split(']').next().unwrap_or(rest);
        }
        self.authority.split(':').next().unwrap_or(&self.authority)
    }

    /// Whether the host is an IP address rather than a name.
    pub(crate) fn is_address(&self) -> bool {
        self.host() == "localhost" || self.host().parse::<IpAddr>().is_ok()
    }

    /// Whether the server is reached without a proxy.
    pub(crate) fn is_direct(&self) -> bool {
        self.is_loopback() || self.host() == METADATA
    }

    /// Whether the server is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let loopback = self.host().parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        loopback || self.host() == "localhost"
    }

    /// Whether requests can be read in transit to another machine.
    pub(crate) fn is_exposed(&self) -> bool {
        self.is_plain() && !self.is_direct()
    }

    /// Refuses to request keys over a connection that others can read.
    ///
    /// # Errors
    /// Config error for a plain connection to another machine.
    pub(crate) fn fit_for_keys(&self) -> Result<()> {
        if !self.is_exposed() {
            return Ok(());
        }
        let message = format!("STS at `{}` is reached without encryption", self.authority);
        Err(Error::config(message).with_hint("write `https://` in ALIBABA_STS_ENDPOINT"))
    }

    /// Whether the connection is not encrypted.
    pub(crate) fn is_plain(&self) -> bool {
        self.scheme == "http"
    }
}

/// An address without user name, path, and query, which may contain secrets.
pub(crate) fn redact_url(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    // A password may contain anything, including characters that end a host.
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("…@", rest));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let cut = if rest[end..].trim_start_matches('/').is_empty() { "" } else { "/…" };
    format!("{scheme}{user}{}{cut}", &rest[..end])
}

/// Domain suffix of the vendor's own servers.
pub(crate) const VENDOR_DOMAIN: &str = ".aliyuncs.com";

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

/// Address of the metadata service.
const METADATA: &str = "100.100.100.200";
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_printed_without_parts_that_may_be_secret() {
        for (text, seen) in [
            ("http://127.0.0.1:1/creds?token=SECRET", "http://127.0.0.1:1/…"),
            ("https://u:SECRET@h", "https://…@h"),
            ("https://u:SEC/RET@h/x", "https://…@h/…"),
            ("u:SECRET@h", "…@h"),
            ("https://h?x=SECRET", "https://h/…"),
            ("https://h#SECRET", "https://h/…"),
            ("https://h/", "https://h"),
            ("oss-cn-hangzhou.aliyuncs.com", "oss-cn-hangzhou.aliyuncs.com"),
        ] {
            assert_eq!(redact_url(text), seen, "{text}");
            if let Err(error) = Endpoint::parse("K", text) {
                assert!(!format!("{error:?}").contains("SEC"), "{error:?}");
            }
        }
    }

    #[test]
    fn keys_are_not_asked_for_in_the_clear() {
        for (text, fit) in [
            ("http://127.0.0.1:81", true),
            ("https://sts.aliyuncs.com", true),
            ("http://sts.aliyuncs.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(Endpoint::sts(Some(text)).unwrap().fit_for_keys().is_ok(), fit, "{text}");
        }
    }

    #[test]
    fn some_regions_share_an_ecs_endpoint() {
        let origin = |region| Endpoint::ecs(None, None, region).unwrap().origin();
        assert_eq!(origin("cn-hangzhou"), "https://ecs-cn-hangzhou.aliyuncs.com");
        assert_eq!(origin("eu-central-1"), "https://ecs.eu-central-1.aliyuncs.com");
        assert_eq!(origin("cn-wuhan"), "https://ecs.aliyuncs.com");
    }

    #[test]
    fn a_configured_ecs_endpoint_of_the_vendor_serves_only_its_own_region() {
        let far = "eu-central-1";
        for (chosen, region, host) in [
            ("ecs.cn-shanghai.aliyuncs.com", "cn-hangzhou", "ecs.cn-shanghai.aliyuncs.com"),
            ("ecs-cn-hangzhou.aliyuncs.com", far, "ecs.eu-central-1.aliyuncs.com"),
            ("ecs.cn-hangzhou.aliyuncs.com", "cn-wuhan", "ecs.aliyuncs.com"),
            ("ecs.aliyuncs.com", far, "ecs.eu-central-1.aliyuncs.com"),
            ("ecs-vpc.cn-hangzhou.aliyuncs.com", "cn-hangzhou", "ecs-vpc.cn-hangzhou.aliyuncs.com"),
            ("ecs-vpc.cn-hangzhou.aliyuncs.com", far, "ecs-vpc.eu-central-1.aliyuncs.com"),
            // Not one of the vendor's servers: it serves all regions.
            ("http://127.0.0.1:81", far, "127.0.0.1:81"),
            ("ecs.stack.example.com", far, "ecs.stack.example.com"),
            ("notaliyuncs.com", far, "notaliyuncs.com"),
        ] {
            let found = Endpoint::ecs(Some(chosen), Some("cn-hangzhou"), region).unwrap();
            assert_eq!(found.authority(), host, "{chosen} for {region}");
        }
        let plain = Endpoint::ecs(Some("http://ecs.cn-hangzhou.aliyuncs.com"), None, far).unwrap();
        assert_eq!(plain.origin(), "http://ecs.eu-central-1.aliyuncs.com");
    }

    #[test]
    fn an_invalid_endpoint_is_refused_with_its_key() {
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
