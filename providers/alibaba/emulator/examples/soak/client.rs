//! Implements one persistent connection, with a V4 signer for OSS and an ACS3 signer for ECS.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

const ID: &str = "emulator-id";
const SECRET: &str = "emulator-secret";
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], data: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Percent-encodes everything except unreserved characters, and `/` unless `slash`.
pub(crate) fn encode(text: &str, slash: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            b'/' if !slash => encoded.push('/'),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) etag: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The text of the first XML element of this name.
    pub(crate) fn xml(&self, name: &str) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let found = text
            .split_once(&format!("<{name}>"))
            .and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
        found.map(|(text, _)| text.to_owned()).unwrap_or_default()
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    key: Vec<u8>,
    day: String,
    pub(crate) requests: usize,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let stream = BufReader::new(stream);
        Ok(Self { address, stream, key: Vec::new(), day: String::new(), requests: 0 })
    }

    fn sign(&mut self, stamp: &str, canonical: &str) -> String {
        let day = &stamp[..8];
        let scope = format!("{day}/cn-hangzhou/oss/aliyun_v4_request");
        if self.day != day {
            let start = format!("aliyun_v4{SECRET}").into_bytes();
            self.key = scope.split('/').fold(start, |key, word| mac(&key, word));
            self.day = day.to_owned();
        }
        let hash = hex(&Sha256::digest(canonical));
        let text = format!("OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{hash}");
        let signature = hex(&mac(&self.key, &text));
        format!("OSS4-HMAC-SHA256 Credential={ID}/{scope},Signature={signature}")
    }

    /// Signs and sends an OSS request; `headers` are not signed.
    pub(crate) fn oss(
        &mut self,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut query: Vec<(String, String)> =
            query.iter().map(|(name, value)| (encode(name, true), encode(value, true))).collect();
        query.sort();
        let query: Vec<String> = query
            .into_iter()
            .map(|(name, value)| if value.is_empty() { name } else { format!("{name}={value}") })
            .collect();
        let query = query.join("&");
        let path = format!("/demo/{}", encode(key, false));
        let mut signed: Vec<(&str, &str)> =
            vec![("x-oss-content-sha256", "UNSIGNED-PAYLOAD"), ("x-oss-date", &stamp)];
        signed.extend(headers.iter().filter(|(name, _)| name.starts_with("x-oss-")));
        signed.sort_unstable();
        let mut lines = String::new();
        for (name, value) in &signed {
            lines.push_str(&format!("{name}:{}\n", value.trim()));
        }
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n\nUNSIGNED-PAYLOAD");
        let authorization = self.sign(&stamp, &canonical);
        let mut head = format!(
            "{method} {path}?{query} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\
             authorization: {authorization}\r\n",
            self.address,
            body.len()
        );
        let plain = headers.iter().filter(|(name, _)| !name.starts_with("x-oss-"));
        for (name, value) in signed.iter().chain(plain) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(head.as_bytes(), body, method == "HEAD")
    }

    /// Signs and sends an ECS call.
    pub(crate) fn ecs(
        &mut self,
        action: &str,
        nonce: &str,
        params: &[(&str, &str)],
    ) -> io::Result<Reply> {
        let mut pairs: Vec<(String, String)> =
            params.iter().map(|(name, value)| (encode(name, true), encode(value, true))).collect();
        pairs.sort();
        let pairs: Vec<String> =
            pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = pairs.join("&");
        let empty = hex(&Sha256::digest(b""));
        let date = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let host = self.address.to_string();
        let headers = [
            ("host", host.as_str()),
            ("x-acs-action", action),
            ("x-acs-content-sha256", &empty),
            ("x-acs-date", &date),
            ("x-acs-signature-nonce", nonce),
            ("x-acs-version", "2014-05-26"),
        ];
        let names = headers.map(|(name, _)| name).join(";");
        let signed = headers.map(|(name, value)| format!("{name}:{value}\n")).concat();
        let canonical = format!("POST\n/\n{query}\n{signed}\n{names}\n{empty}");
        let text = format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(&canonical)));
        let signature = hex(&mac(SECRET.as_bytes(), &text));
        let lines = headers.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
        let head = format!(
            "POST /?{query} HTTP/1.1\r\ncontent-length: 0\r\n{lines}authorization: \
             ACS3-HMAC-SHA256 Credential={ID},SignedHeaders={names},Signature={signature}\r\n\r\n"
        );
        self.raw(head.as_bytes(), b"", false)
    }

    /// Sends bytes and reads one answer.
    pub(crate) fn raw(&mut self, head: &[u8], body: &[u8], no_body: bool) -> io::Result<Reply> {
        self.requests += 1;
        self.stream.get_mut().write_all(head)?;
        self.stream.get_mut().write_all(body)?;
        let eof_error = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let (mut status, mut length, mut etag) = (0, 0_usize, String::new());
        for number in 0.. {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(eof_error());
            }
            let line = line.trim_end();
            if number == 0 {
                let word = line.split(' ').nth(1).ok_or_else(eof_error)?;
                status = word.parse().map_err(|_| eof_error())?;
            } else if line.is_empty() {
                break;
            } else if let Some((name, value)) = line.split_once(':') {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().map_err(|_| eof_error())?,
                    "etag" => value.trim().clone_into(&mut etag),
                    _ => {}
                }
            }
        }
        let mut body = vec![0; if no_body || status == 304 { 0 } else { length }];
        self.stream.read_exact(&mut body)?;
        Ok(Reply { status, etag, body })
    }
}
