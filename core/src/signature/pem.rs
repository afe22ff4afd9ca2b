//! Reads blocks of PEM files (RFC 7468), as tolerantly as openssl: text around them is ignored.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::error::{Error, Result, Stage};

/// Largest key file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// The block of a key file that is used.
pub(super) struct Block {
    /// Text between `BEGIN` and the dashes.
    pub(super) label: String,
    /// Its contents, DER.
    pub(super) der: Zeroizing<Vec<u8>>,
    /// Whether it is encrypted, according to its label or its headers.
    pub(super) encrypted: bool,
}

/// Reads the first block of a file that does not contain parameters.
pub(super) fn read(path: &Path) -> Result<Block> {
    let read_error = |error: &std::io::Error| {
        Error::new(Stage::Settings, format!("cannot read the key `{}`", path.display()))
            .caused_by(error)
            .hint("check that the file is there and may be read")
    };
    let length = path.metadata().map_err(|error| read_error(&error))?.len();
    if length > LIMIT {
        return Err(unusable(path, &format!("it has {length} bytes")));
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(|error| read_error(&error))?);
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable(path, "it is no text"))?;
    parse(text).map_err(|what| unusable(path, what))
}

fn unusable(path: &Path, what: &str) -> Error {
    Error::new(Stage::Settings, format!("`{}` is no PEM key: {what}", path.display()))
        .hint("give a PEM file; openssl pkey turns other kinds into it")
}

fn parse(text: &str) -> Result<Block, &'static str> {
    let mut rest = text;
    loop {
        let (_, after) = rest.split_once("-----BEGIN ").ok_or("it has no `-----BEGIN …` line")?;
        let (label, after) = after.split_once("-----").ok_or("its `BEGIN` line is broken")?;
        let end = format!("-----END {label}-----");
        let (body, after) = after.split_once(&end).ok_or("its `-----END …` line is missing")?;
        rest = after;
        if !label.ends_with("PARAMETERS") {
            return block(label, body);
        }
    }
}

fn block(label: &str, body: &str) -> Result<Block, &'static str> {
    // Headers end with an empty line; only the legacy encrypted format has headers.
    let has_headers = body.lines().any(|line| line.contains(": "));
    let encrypted = label.starts_with("ENCRYPTED") || has_headers && body.contains("ENCRYPTED");
    let mut der = Zeroizing::new(Vec::new());
    if !encrypted {
        let letters = body.bytes().filter(|letter| !letter.is_ascii_whitespace());
        let letters = Zeroizing::new(letters.collect::<Vec<u8>>());
        STANDARD.decode_vec(&*letters, &mut der).map_err(|_| "its base64 text is broken")?;
    }
    Ok(Block { label: label.to_owned(), der, encrypted })
}
