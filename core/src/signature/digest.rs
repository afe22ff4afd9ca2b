//! Computes several digests of one stream in one pass, each in a separate thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use sha2::digest::{Digest, DynDigest};

use crate::error::{Error, Result, Stage};

/// Number of chunks that may be queued for a thread.
const WAITING: usize = 8;

/// A digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "names of digests")]
pub enum Algorithm {
    Md5,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
    Blake2b512,
}

/// Names as `openssl dgst` accepts them as options.
const NAMES: [(Algorithm, &str); 10] = [
    (Algorithm::Md5, "md5"),
    (Algorithm::Sha224, "sha224"),
    (Algorithm::Sha256, "sha256"),
    (Algorithm::Sha384, "sha384"),
    (Algorithm::Sha512, "sha512"),
    (Algorithm::Sha3_224, "sha3-224"),
    (Algorithm::Sha3_256, "sha3-256"),
    (Algorithm::Sha3_384, "sha3-384"),
    (Algorithm::Sha3_512, "sha3-512"),
    (Algorithm::Blake2b512, "blake2b512"),
];
/// Digests that are not those of signatures by RSA and ECDSA: one is too weak, the other belongs to minisign.
const OTHERS: [Algorithm; 2] = [Algorithm::Md5, Algorithm::Blake2b512];

impl Algorithm {
    /// The algorithms that may be used for signatures.
    pub fn of_signatures() -> impl Iterator<Item = Self> {
        NAMES
            .iter()
            .map(|(algorithm, _)| *algorithm)
            .filter(|algorithm| !OTHERS.contains(algorithm))
    }

    /// Returns the algorithm of a signature by its name, in any case.
    ///
    /// # Errors
    /// When the digest is unknown, or too weak for signatures.
    pub fn named(name: &str) -> Result<Self> {
        let lower = name.trim().to_lowercase();
        let found = NAMES.iter().find(|(_, name)| *name == lower);
        let found = found.filter(|(algorithm, _)| !OTHERS.contains(algorithm));
        found.map(|(algorithm, _)| *algorithm).ok_or_else(|| {
            let names: Vec<&str> = Self::of_signatures().map(Self::name).collect();
            Error::new(Stage::Settings, format!("`{name}` is no digest for signatures"))
                .hint(format!("known are {}", names.join(", ")))
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(algorithm, _)| *algorithm == self).map_or("", |(_, name)| name)
    }

    /// Suffix of a signature's file: `.384.sig`, `.3512.sig`, with the digits of the name.
    #[must_use]
    pub fn signature_suffix(self) -> String {
        let digits: String = self.name().chars().filter(char::is_ascii_digit).collect();
        format!(".{digits}.sig")
    }

    /// Returns what creates an unfinished digest.
    pub(crate) fn creator(self) -> fn() -> Box<dyn DynDigest + Send> {
        match self {
            Self::Md5 => || Box::new(md5::Md5::new()),
            Self::Sha224 => || Box::new(sha2::Sha224::new()),
            Self::Sha256 => || Box::new(sha2::Sha256::new()),
            Self::Sha384 => || Box::new(sha2::Sha384::new()),
            Self::Sha512 => || Box::new(sha2::Sha512::new()),
            Self::Sha3_224 => || Box::new(sha3::Sha3_224::new()),
            Self::Sha3_256 => || Box::new(sha3::Sha3_256::new()),
            Self::Sha3_384 => || Box::new(sha3::Sha3_384::new()),
            Self::Sha3_512 => || Box::new(sha3::Sha3_512::new()),
            Self::Blake2b512 => || Box::new(blake2::Blake2b512::new()),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Finished digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests(BTreeMap<Algorithm, Vec<u8>>);

impl Digests {
    /// The bytes of one digest.
    #[must_use]
    pub fn get(&self, algorithm: Algorithm) -> Option<&[u8]> {
        self.0.get(&algorithm).map(Vec::as_slice)
    }

    /// One digest in hexadecimal digits, lower case.
    #[must_use]
    pub fn hex(&self, algorithm: Algorithm) -> Option<String> {
        let bytes = self.get(algorithm)?;
        Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A pass over a stream. Its threads end with it.
pub struct Pass {
    workers: Vec<Worker>,
}

struct Worker {
    algorithm: Algorithm,
    chunks: SyncSender<Arc<dyn AsRef<[u8]> + Send + Sync>>,
    thread: JoinHandle<Vec<u8>>,
}

impl Pass {
    /// Starts a thread per algorithm; duplicates count once.
    ///
    /// # Errors
    /// When the system cannot create a thread.
    pub fn new(algorithms: &[Algorithm]) -> Result<Self> {
        let distinct: BTreeSet<Algorithm> = algorithms.iter().copied().collect();
        let workers = distinct.into_iter().map(start).collect::<std::io::Result<_>>();
        let workers = workers.map_err(|error| {
            Error::new(Stage::Disk, "cannot start a thread for a digest").caused_by(&error)
        })?;
        Ok(Self { workers })
    }

    /// Adds the next bytes of the stream. Waits when the threads are far behind.
    ///
    /// # Errors
    /// When a thread died.
    pub fn update(&self, chunk: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<()> {
        let chunk: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(chunk);
        let sent = self.workers.iter().all(|worker| worker.chunks.send(chunk.clone()).is_ok());
        if sent { Ok(()) } else { Err(died()) }
    }

    /// Returns the digests of the whole stream.
    ///
    /// # Errors
    /// When a thread died.
    pub fn finish(self) -> Result<Digests> {
        let mut digests = Digests::default();
        for Worker { algorithm, chunks, thread } in self.workers {
            drop(chunks);
            digests.0.insert(algorithm, thread.join().map_err(|_| died())?);
        }
        Ok(digests)
    }
}

fn died() -> Error {
    Error::new(Stage::Bug, "a thread that makes a digest died")
}

fn start(algorithm: Algorithm) -> std::io::Result<Worker> {
    let (chunks, arriving) = sync_channel::<Arc<dyn AsRef<[u8]> + Send + Sync>>(WAITING);
    let mut hasher = algorithm.creator()();
    let builder = std::thread::Builder::new().name(algorithm.name().to_owned());
    let thread = builder.spawn(move || {
        for chunk in arriving {
            hasher.update((*chunk).as_ref());
        }
        hasher.finalize().into_vec()
    })?;
    Ok(Worker { algorithm, chunks, thread })
}
