//! Reads the manifest of an OVF package, and computes the digests that it lists. Source: DMTF DSP0243 1.1.0,
//! section 5.1, and 2.1.1, section 6.1: lines such as `SHA256(disk.vmdk)= 9f86…`.

use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use crate::error::{Error, Kind};

/// The digests that a manifest lists.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    algorithm: Algorithm,
    file: String,
    digest: String,
}

/// An algorithm of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

/// Digests of a file, as it is read.
#[derive(Clone, Default)]
pub(crate) struct Digests {
    sha1: Option<Sha1>,
    sha256: Option<Sha256>,
    sha512: Option<Sha512>,
}

/// A file whose digests are computed as it is read.
pub(crate) struct Hashed<'a> {
    source: &'a mut dyn Read,
    digests: Digests,
}

impl Manifest {
    /// Parses a manifest. Lines of another form or with another algorithm are ignored.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        Self { lines: text.lines().filter_map(Line::parse).collect() }
    }

    /// Whether it has no line.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether it has a digest of a file.
    pub(crate) fn lists(&self, file: &str) -> bool {
        self.lines.iter().any(|line| line.file == file)
    }

    /// Begins the digests that it has of a file.
    pub(crate) fn digests_of(&self, file: &str) -> Digests {
        let wants = |algorithm| {
            self.lines.iter().any(|line| line.file == file && line.algorithm == algorithm)
        };
        Digests {
            sha1: wants(Algorithm::Sha1).then(Sha1::default),
            sha256: wants(Algorithm::Sha256).then(Sha256::default),
            sha512: wants(Algorithm::Sha512).then(Sha512::default),
        }
    }

    /// Compares the digests of a file with those of the manifest.
    ///
    /// # Errors
    /// [`Kind::Malformed`] when one differs.
    pub(crate) fn check(&self, file: &str, digests: &Digests) -> Result<(), Error> {
        let differs = |line: &&Line| {
            line.file == file && digests.hex(line.algorithm).as_ref() != Some(&line.digest)
        };
        let Some(line) = self.lines.iter().find(differs) else { return Ok(()) };
        let name = line.algorithm.name();
        let message = format!("`{file}` does not have the {name} of the OVF manifest, in");
        Err(Error::new(Kind::Malformed, message).with_hint("fetch or create the package again"))
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (algorithm, rest) = line.split_once('(')?;
        let (file, digest) = rest.rsplit_once(')')?;
        let digest = digest.trim_start().strip_prefix('=')?.trim().to_ascii_lowercase();
        let name = algorithm.trim().to_ascii_uppercase().replace('-', "");
        let all = [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512];
        let algorithm = all.into_iter().find(|algorithm| algorithm.name() == name)?;
        Some(Self { algorithm, file: file.to_owned(), digest })
    }
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }
}

impl Digests {
    /// Begins all digests, for a file whose manifest follows.
    pub(crate) fn all() -> Self {
        Self {
            sha1: Some(Sha1::default()),
            sha256: Some(Sha256::default()),
            sha512: Some(Sha512::default()),
        }
    }

    /// Returns all digests of bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut digests = Self::all();
        digests.update(bytes);
        digests
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha1.iter_mut().for_each(|digest| digest.update(bytes));
        self.sha256.iter_mut().for_each(|digest| digest.update(bytes));
        self.sha512.iter_mut().for_each(|digest| digest.update(bytes));
    }

    fn hex(&self, algorithm: Algorithm) -> Option<String> {
        Some(match algorithm {
            Algorithm::Sha1 => format!("{:x}", self.sha1.clone()?.finalize()),
            Algorithm::Sha256 => format!("{:x}", self.sha256.clone()?.finalize()),
            Algorithm::Sha512 => format!("{:x}", self.sha512.clone()?.finalize()),
        })
    }
}

impl<'a> Hashed<'a> {
    /// Reads a file from where it is, and computes the digests that were begun.
    pub(crate) fn new(source: &'a mut dyn Read, digests: Digests) -> Self {
        Self { source, digests }
    }

    /// Returns the digests of what was read.
    pub(crate) fn digests(self) -> Digests {
        self.digests
    }
}

impl Read for Hashed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(buf)?;
        self.digests.update(&buf[..got]);
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_of_every_writer_are_compared() {
        // Digests of `abc`: FIPS 180-4, examples.
        let sha1 = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (text, file, lists, agrees) in [
            (format!("SHA1(a)= {sha1}\n"), "a", true, true),
            (format!("SHA256 (a b) = {}\r\n", sha256.to_uppercase()), "a b", true, true),
            (format!("sha-256(a(1).vmdk)={sha256}"), "a(1).vmdk", true, true),
            (format!("SHA256(a)= {sha1}\n"), "a", true, false),
            (format!("SHA1(a)= {sha1}\nSHA256(a)= {sha1}\n"), "a", true, false),
            (format!("SHA1(b)= {sha256}\n"), "a", false, true),
            ("MD5(a)= 00\nnot a line\nSHA512(\n".to_owned(), "a", false, true),
        ] {
            let manifest = Manifest::parse(text.as_bytes());
            assert_eq!(manifest.lists(file), lists, "{text}");
            let mut source = &b"abc"[..];
            let mut hashed = Hashed::new(&mut source, manifest.digests_of(file));
            io::copy(&mut hashed, &mut io::sink()).unwrap();
            assert_eq!(manifest.check(file, &hashed.digests()).is_ok(), agrees, "{text}");
            assert_eq!(manifest.check(file, &Digests::of(b"abc")).is_ok(), agrees, "{text}");
        }
    }
}
