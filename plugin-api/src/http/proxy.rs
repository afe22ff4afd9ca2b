//! Decides by the environment whether a request is sent through a proxy. `NO_PROXY` is read as curl reads it
//! (`lib/noproxy.c`, CURLOPT_NOPROXY(3)), which the proxies of `reqwest` do only in part: there, `*` does not include
//! addresses, and a variable that is set to nothing counts.
//!
//! ```text
//! *                whole value: no proxy for any server
//! example.com      this host and all below it; so does .example.com; dots at the end and case do not count
//! 192.0.2.7        an address, without port and without the brackets of IPv6
//! 192.0.2.0/24     a network; a prefix of 0 bits means the address itself
//! ```
//!
//! Entries are separated by commas, spaces, and tabs. Lower case names of variables come first, and an empty value counts
//! as none.

use std::net::IpAddr;

use reqwest::Url;

/// The proxies of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    /// The value of `NO_PROXY`.
    except: String,
}

/// Returns the proxy that the environment of this process names for a server: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`,
/// and `NO_PROXY` as curl reads it. Pass it to `reqwest::ClientBuilder::proxy`; [`Client`](super::Client) uses it already.
#[must_use]
pub fn environment_proxy() -> reqwest::Proxy {
    #[expect(clippy::disallowed_methods, reason = "the variables of proxies are read here only")]
    let proxies = Proxies::of(|name| std::env::var(name).ok());
    reqwest::Proxy::custom(move |url| proxies.of_url(url).cloned())
}

impl Proxies {
    /// Reads the variables that `value` returns.
    fn of(value: impl Fn(&str) -> Option<String>) -> Self {
        // A server that runs a CGI program sets HTTP_PROXY to the `Proxy` header of a request (CVE-2016-5385).
        if value("REQUEST_METHOD").is_some() {
            return Self::default();
        }
        let first = |lower: &str| {
            let set = |name: &str| value(name).filter(|text| !text.is_empty());
            set(lower).or_else(|| set(&lower.to_uppercase()))
        };
        let all = first("all_proxy");
        let proxy = |name: &str| parse(&first(name).or_else(|| all.clone())?);
        Self {
            http: proxy("http_proxy"),
            https: proxy("https_proxy"),
            except: first("no_proxy").unwrap_or_default(),
        }
    }

    /// Returns the proxy for a server.
    fn of_url(&self, url: &Url) -> Option<&Url> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !is_excluded(&self.except, url.host_str().unwrap_or_default()))
    }
}

/// Parses the value of a variable; without a scheme it is an HTTP proxy. A value that is not a URL counts as none.
fn parse(text: &str) -> Option<Url> {
    let text = text.trim();
    if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) }.ok()
}

/// Returns whether a list excludes a host from proxies. IPv6 addresses of hosts may have brackets.
fn is_excluded(list: &str, host: &str) -> bool {
    if list == "*" {
        return true;
    }
    let entries = || list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = address.parse::<IpAddr>() {
        return entries().any(|entry| is_in_network(entry, address));
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    entries().any(|entry| {
        let entry = entry.strip_suffix('.').unwrap_or(entry);
        let entry = entry.strip_prefix('.').unwrap_or(entry).to_ascii_lowercase();
        let before = host.strip_suffix(&entry).filter(|_| !entry.is_empty());
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}

/// Returns whether an entry is this address, or a network that has it.
fn is_in_network(entry: &str, address: IpAddr) -> bool {
    let (network, bits) = match entry.split_once('/') {
        Some((network, bits)) => match bits.parse::<u32>() {
            Ok(bits) => (network, bits),
            Err(_) => return false,
        },
        None => (entry, 0),
    };
    // Both are compared from the most significant bit on.
    let (network, address, length) = match (network.parse(), address) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address)) => {
            (u128::from(network.to_bits()) << 96, u128::from(address.to_bits()) << 96, 32)
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address)) => {
            (network.to_bits(), address.to_bits(), 128)
        }
        _ => return false,
    };
    let compared = if bits == 0 { length } else { bits };
    compared <= length && (network ^ address).leading_zeros() >= compared
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end-to-end tests ask curl the same questions.
    #[test]
    fn a_list_excludes_what_curl_excludes() {
        let (name, four, six) = ("files.invalid", "127.9.8.7", "[::1]");
        for (list, host, excluded) in [
            ("*", name, true),
            ("*", four, true),
            ("*", six, true),
            (" *", name, false),
            ("*,x", name, false),
            ("*.invalid", name, false),
            ("", name, false),
            (",", name, false),
            (".", name, false),
            ("invalid", name, true),
            (".invalid", name, true),
            ("..invalid", name, false),
            ("les.invalid", name, false),
            ("FILES.Invalid", name, true),
            ("files.invalid.", name, true),
            ("files.invalid..", name, false),
            ("files.invalid", "files.invalid.", true),
            ("files.invalid:9", name, false),
            ("a.files.invalid", name, false),
            ("a,,files.invalid", name, true),
            ("a , files.invalid ", name, true),
            ("a\tfiles.invalid b", name, true),
            ("a;files.invalid", name, false),
            ("127.9.8.7", four, true),
            ("127.9.8.7:9", four, false),
            ("9.8.7", four, false),
            ("127.0.0.0/8", four, true),
            ("127.0.0.0/8 ,x", four, true),
            ("127.128.0.0/9", four, false),
            ("127.9.8.6/31", four, true),
            ("127.9.8.6/32", four, false),
            ("127.9.8.7/32", four, true),
            ("127.9.8.7/33", four, false),
            ("127.9.8.7/", four, false),
            ("127.9.8.7/0", four, true),
            ("0.0.0.0/0", four, false),
            ("::/1", four, false),
            ("::1", six, true),
            ("0:0:0:0:0:0:0:1", six, true),
            ("[::1]", six, false),
            ("::/64", six, true),
            ("::2/127", six, false),
            ("::1/129", six, false),
        ] {
            assert_eq!(is_excluded(list, host), excluded, "{list:?} {host}");
        }
    }

    #[test]
    fn variables_count_as_curl_counts_them() {
        /// Variables, address, and proxy.
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Option<&'a str>);
        let cases: [Case<'_>; 12] = [
            (&[], "http://h/", None),
            (&[("http_proxy", "http://p:1")], "http://h/", Some("http://p:1/")),
            (&[("http_proxy", "http://p:1")], "https://h/", None),
            (&[("HTTPS_PROXY", "p:1")], "https://h/", Some("http://p:1/")),
            (&[("https_proxy", "http://a"), ("HTTPS_PROXY", "b")], "https://h/", Some("http://a/")),
            (&[("https_proxy", ""), ("HTTPS_PROXY", "b")], "https://h/", Some("http://b/")),
            (&[("all_proxy", "http://u:w@p")], "http://h/", Some("http://u:w@p/")),
            (&[("ALL_PROXY", "p"), ("http_proxy", "q")], "http://h/", Some("http://q/")),
            (
                &[("http_proxy", "q"), ("no_proxy", "x"), ("NO_PROXY", "h")],
                "http://h/",
                Some("http://q/"),
            ),
            (&[("http_proxy", "q"), ("no_proxy", ""), ("NO_PROXY", "h")], "http://h/", None),
            (&[("http_proxy", "q"), ("REQUEST_METHOD", "GET")], "http://h/", None),
            (&[("http_proxy", "http://:x")], "http://h/", None),
        ];
        for (variables, url, expected) in cases {
            let value = |name: &str| {
                let found = variables.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let found = Proxies::of(value);
            let url = Url::parse(url).unwrap();
            assert_eq!(found.of_url(&url).map(Url::as_str), expected, "{variables:?}");
        }
    }
}
