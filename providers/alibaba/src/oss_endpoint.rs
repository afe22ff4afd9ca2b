//! Determines how a bucket is addressed: the region's endpoints by keyword, a custom endpoint, and whether
//! the bucket is part of the host, of the path, or of neither.
//!
//! Source: OSS documentation, "Regions and endpoints".

use build_image_plugin_api::{Error, Result};

use crate::{
    endpoint::{Endpoint, VENDOR_DOMAIN},
    sign::encode,
};

/// The setting for paths.
pub(crate) const PATH_STYLE: &str = "ALIBABA_OSS_PATH_STYLE";
/// Hosts of transfer acceleration; the second one is only for buckets outside the Chinese mainland.
const ACCELERATE: &str = "oss-accelerate.aliyuncs.com";
const ACCELERATE_OVERSEAS: &str = "oss-accelerate-overseas.aliyuncs.com";

fn public_host(region: &str) -> String {
    format!("oss-{region}.aliyuncs.com")
}

fn internal_host(region: &str) -> String {
    format!("oss-{region}-internal.aliyuncs.com")
}

/// How a bucket is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `bucket.host/key`.
    VirtualHost,
    /// `host/bucket/key`, for IP addresses and private clouds.
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
    /// The user's endpoint, otherwise the region's public or internal one. With `by_path`, buckets are in the path.
    ///
    /// # Errors
    /// When the user's endpoint is not an address, and for paths on one of the vendor's hosts, which refuse them
    /// (`SecondLevelDomainForbidden`).
    pub(crate) fn choose(
        chosen: Option<&str>,
        region: &str,
        bucket: &str,
        internal: bool,
        by_path: bool,
    ) -> Result<Self> {
        let endpoint = match chosen {
            Some("public") => Endpoint::https(public_host(region)),
            Some("internal") => Endpoint::https(internal_host(region)),
            Some("dualstack") => Endpoint::https(format!("{region}.oss.aliyuncs.com")),
            Some("accelerate") => Endpoint::https(ACCELERATE),
            Some("accelerate-overseas") => Endpoint::https(ACCELERATE_OVERSEAS),
            Some(text) => Endpoint::parse("ALIBABA_OSS_ENDPOINT", text)?,
            None if internal => Endpoint::https(internal_host(region)),
            None => Endpoint::https(public_host(region)),
        };
        // The vendor's hosts serve all buckets; any other name is bound to one bucket.
        let is_vendor = endpoint.host().ends_with(VENDOR_DOMAIN);
        if by_path && is_vendor {
            let host = endpoint.host();
            return Err(Error::config(format!("`{PATH_STYLE}` is set, but `{host}` refuses paths"))
                .with_hint(format!(
                    "set ALIBABA_OSS_ENDPOINT to the OSS server of the private cloud, or leave {PATH_STYLE} out"
                )));
        }
        let style = if endpoint.is_address() || by_path {
            Style::Path
        } else if is_vendor && !endpoint.host().starts_with(&format!("{bucket}.")) {
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

    /// Whether requests use transfer acceleration.
    pub(crate) fn is_accelerated(&self) -> bool {
        [ACCELERATE, ACCELERATE_OVERSEAS].iter().any(|name| self.endpoint.host().ends_with(name))
    }

    /// Whether it is the acceleration for buckets outside the Chinese mainland.
    pub(crate) fn is_overseas(&self) -> bool {
        self.endpoint.host().ends_with(ACCELERATE_OVERSEAS)
    }

    /// The region's public endpoint, for requests about the bucket that acceleration may not answer.
    pub(crate) fn of_region(&self, region: &str) -> Self {
        let endpoint = Endpoint { authority: public_host(region), ..self.endpoint.clone() };
        Self { endpoint, style: Style::VirtualHost }
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
        let endpoint = OssEndpoint::choose(chosen, "cn-hangzhou", "b-1", internal, false).unwrap();
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
    fn a_private_cloud_has_its_buckets_in_the_path_when_that_is_set() {
        let vendor = "refuses paths";
        for (chosen, internal, expected) in [
            (
                Some("https://oss.stack.example:8443/"),
                false,
                Ok("https://oss.stack.example:8443/b-1/k"),
            ),
            (Some("oss.stack.example"), true, Ok("https://oss.stack.example/b-1/k")),
            (Some("b-1.stack.example"), false, Ok("https://b-1.stack.example/b-1/k")),
            (Some("http://127.0.0.1:81"), false, Ok("http://127.0.0.1:81/b-1/k")),
            (Some("oss-cn-hangzhou.aliyuncs.com"), false, Err(vendor)),
            (Some("accelerate"), false, Err(vendor)),
            (None, false, Err(vendor)),
            (None, true, Err(vendor)),
        ] {
            let found = OssEndpoint::choose(chosen, "cn-hangzhou", "b-1", internal, true);
            match (found, expected) {
                (Ok(found), Ok(url)) => assert_eq!(found.url("b-1", Some("k")), url),
                (Err(error), Err(part)) => {
                    assert!(error.message.contains(part), "{error}");
                    assert!(error.hint.unwrap().contains("ALIBABA_OSS_ENDPOINT"));
                }
                (found, _) => panic!("{chosen:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn acceleration_is_recognised_by_word_and_by_host() {
        let choose =
            |text| OssEndpoint::choose(Some(text), "eu-central-1", "b-1", false, false).unwrap();
        for (text, accelerated, overseas) in [
            ("accelerate", true, false),
            ("accelerate-overseas", true, true),
            ("http://oss-accelerate.aliyuncs.com", true, false),
            ("b-1.oss-accelerate-overseas.aliyuncs.com", true, true),
            ("public", false, false),
            ("images.example.com", false, false),
        ] {
            let endpoint = choose(text);
            assert_eq!(
                (endpoint.is_accelerated(), endpoint.is_overseas()),
                (accelerated, overseas)
            );
        }
        let region = choose("http://oss-accelerate.aliyuncs.com").of_region("eu-central-1");
        assert_eq!(region.url("b-1", None), "http://b-1.oss-eu-central-1.aliyuncs.com/");
    }
}
