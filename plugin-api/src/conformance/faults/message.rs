//! Reads and writes messages of HTTP/1.1, as far as a proxy needs them.

use std::io::{self, BufRead, Read, Write};

/// Limit on the head of a message, in bytes.
const LONGEST_HEAD: u64 = 256 << 10;

/// First line and header fields of a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) first: String,
    fields: Vec<(String, String)>,
}

/// How the end of a body is found (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilEnd,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Head {
    /// Reads a head; `None` at the end of the stream.
    pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut reader = reader.take(LONGEST_HEAD);
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return if lines.is_empty() { Ok(None) } else { Err(malformed("the head is cut")) };
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            match (line.is_empty(), lines.is_empty()) {
                (true, true) => {}
                (true, false) => break,
                _ => lines.push(line),
            }
        }
        let mut lines = lines.into_iter();
        let first = lines.next().unwrap_or_default();
        let field = |line: String| {
            let (name, value) =
                line.split_once(':').ok_or_else(|| malformed("a field has no name"))?;
            Ok((name.to_owned(), value.trim().to_owned()))
        };
        Ok(Some(Self { first, fields: lines.map(field).collect::<io::Result<_>>()? }))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns whether the first line or the value of a field contains a text.
    pub(super) fn contains(&self, text: &str) -> bool {
        self.first.contains(text) || self.fields.iter().any(|(_, value)| value.contains(text))
    }

    /// Returns the values of fields whose name ends with one of these texts.
    pub(super) fn ending_with(&self, ends: &[&str]) -> Option<&str> {
        let ends = |name: &str| ends.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
        self.fields.iter().find(|(name, _)| ends(name)).map(|(_, value)| value.as_str())
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.fields.push((name.to_owned(), value.to_owned()));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// Returns the method and the target of a request.
    pub(super) fn request(&self) -> (&str, &str) {
        let mut words = self.first.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// Returns the status of an answer.
    pub(super) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    /// Returns how the body of a request ends.
    pub(super) fn request_framing(&self) -> Framing {
        self.framing().unwrap_or(Framing::Length(0))
    }

    /// Returns how the body of the answer to a request with this method ends.
    pub(super) fn answer_framing(&self, method: &str) -> Framing {
        if method == "HEAD" || matches!(self.status(), 204 | 304) {
            return Framing::Length(0);
        }
        self.framing().unwrap_or(Framing::UntilEnd)
    }

    fn framing(&self) -> Option<Framing> {
        let encoding = self.get("transfer-encoding").unwrap_or_default().to_ascii_lowercase();
        if encoding.ends_with("chunked") {
            return Some(Framing::Chunked);
        }
        self.get("content-length").and_then(|length| length.parse().ok()).map(Framing::Length)
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        out.write_all(text.as_bytes())
    }
}

/// Copies a body as it is framed.
pub(super) fn copy_body(
    reader: &mut impl BufRead,
    framing: Framing,
    out: &mut impl Write,
) -> io::Result<()> {
    match framing {
        Framing::Length(length) => {
            if io::copy(&mut reader.take(length), out)? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Framing::UntilEnd => {
            io::copy(reader, out)?;
        }
        Framing::Chunked => copy_chunks(reader, out)?,
    }
    Ok(())
}

fn copy_chunks(reader: &mut impl BufRead, out: &mut impl Write) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        reader.take(LONGEST_HEAD).read_until(b'\n', &mut line)?;
        out.write_all(&line)?;
        let text = String::from_utf8_lossy(&line);
        let size = text.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| malformed("a chunk has no size"))?;
        // The data and its line end; after the last chunk, trailers up to an empty line.
        if size > 0 {
            copy_body(reader, Framing::Length(size + 2), out)?;
            continue;
        }
        loop {
            let mut trailer = Vec::new();
            reader.take(LONGEST_HEAD).read_until(b'\n', &mut trailer)?;
            out.write_all(&trailer)?;
            if trailer.iter().all(u8::is_ascii_whitespace) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Head, &[u8]) {
        let mut rest = text.as_bytes();
        let head = Head::read(&mut rest).unwrap().unwrap();
        (head, rest)
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        for (text, framing, body) in [
            ("PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcdef", Framing::Length(3), "abc"),
            ("GET /a HTTP/1.1\r\nHost: x\r\n\r\nrest", Framing::Length(0), ""),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nabc\r\n0\r\nT: 1\r\n\r\nrest",
                Framing::Chunked,
                "3;x=1\r\nabc\r\n0\r\nT: 1\r\n\r\n",
            ),
        ] {
            let (head, mut rest) = read(text);
            assert_eq!(head.request_framing(), framing, "{text}");
            let mut copied = Vec::new();
            copy_body(&mut rest, framing, &mut copied).unwrap();
            assert_eq!(String::from_utf8(copied).unwrap(), body, "{text}");
        }
        let mut cut = "abc".as_bytes();
        copy_body(&mut cut, Framing::Length(4), &mut Vec::new()).unwrap_err();
        let mut chunk = "zz\r\n".as_bytes();
        copy_body(&mut chunk, Framing::Chunked, &mut Vec::new()).unwrap_err();
    }

    #[test]
    fn answers_without_a_body_are_recognized() {
        for (status, method, framing) in [
            ("200 OK", "GET", Framing::UntilEnd),
            ("200 OK", "HEAD", Framing::Length(0)),
            ("204 No Content", "DELETE", Framing::Length(0)),
        ] {
            let text = format!("HTTP/1.1 {status}\r\nServer: x\r\n\r\n");
            assert_eq!(read(&text).0.answer_framing(method), framing, "{status} {method}");
        }
        assert!(Head::read(&mut "".as_bytes()).unwrap().is_none());
        Head::read(&mut "GET / HTTP/1.1\r\n".as_bytes()).unwrap_err();
    }
}
