//! How a bucket is addressed: the region's endpoints by word, an endpoint of the user's own, and whether
//! the bucket is part of the host, of the path, or of neither.
//!
//! Source: OSS documentation, "Regions and endpoints".

use build_image_plugin_api::Result;

use crate::{endpoint::Endpoint, sign::encode};

fn internal_host(region: &str) -> String {
    format!("oss-{region}-internal.aliyuncs.com")
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
}
