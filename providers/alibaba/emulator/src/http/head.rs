//! Defines a request without its body: method, host, raw path, decoded query, headers. Routing and signatures
//! use this and never hyper's own types, so that tests can construct one.

use hyper::HeaderMap;
use hyper::http::request::Parts;

use crate::auth::encode;

/// The request line and headers of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    /// Upper case.
    pub(crate) method: String,
    /// Host header as sent, with the port if there is one.
    pub(crate) host: String,
    /// Path as sent, still percent-encoded.
    pub(crate) raw_path: String,
    /// Decoded pairs in their order.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
}

/// A request line that cannot be parsed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadHead;

impl Head {
    /// Reads hyper's request head.
    pub(crate) fn read(parts: &Parts) -> Result<Self, BadHead> {
        let host = parts
            .headers
            .get(hyper::header::HOST)
            .and_then(|host| host.to_str().ok())
            .or_else(|| parts.uri.authority().map(|authority| authority.as_str()))
            .unwrap_or_default();
        Ok(Self {
            method: parts.method.as_str().to_owned(),
            host: host.to_owned(),
            raw_path: parts.uri.path().to_owned(),
            query: encode::pairs(parts.uri.query().unwrap_or_default()).ok_or(BadHead)?,
            headers: parts.headers.clone(),
        })
    }

    /// First header of this (lower-case) name as text; `None` when missing or not UTF-8.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.get(name)?;
        std::str::from_utf8(value.as_bytes()).ok().map(str::trim)
    }

    /// Value of a query parameter, also when empty.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Value of a query parameter; empty counts as not given.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.parameter(name).filter(|value| !value.is_empty())
    }

    /// Whether the query has this parameter.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.parameter(name).is_some()
    }

    /// Host without its port.
    pub(crate) fn host_name(&self) -> &str {
        let host = self.host.as_str();
        if host.starts_with('[') {
            return host.split_once(']').map_or(host, |(name, _)| &name[1..]);
        }
        host.rsplit_once(':').map_or(host, |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::Head;

    #[test]
    fn host_name_drops_the_port_only() {
        for (host, name) in
            [("127.0.0.1:80", "127.0.0.1"), ("demo.x.y", "demo.x.y"), ("[::1]:9", "::1"), ("", "")]
        {
            let head = Head { host: host.to_owned(), ..Head::default() };
            assert_eq!(head.host_name(), name);
        }
    }
}
