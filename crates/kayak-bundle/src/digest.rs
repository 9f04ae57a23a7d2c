//! Names of content: SHA-256 digests, and a reader and writer that compute them on the way.

use std::fmt::{self, Write as _};
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of some content, shown as `sha256:<hex>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    hex: String,
}

impl Digest {
    /// Returns the digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        let mut hashing = Hashing::new(io::sink());
        hashing.hasher.update(content);
        hashing.finish().0
    }

    /// Returns the digest of some values together, in which no value can run into the next.
    pub(crate) fn of_all<I>(values: I) -> Self
    where
        I: IntoIterator<Item: AsRef<[u8]>>,
    {
        let mut hashing = Hashing::new(io::sink());
        for value in values {
            let value = value.as_ref();
            hashing.hasher.update((value.len() as u64).to_le_bytes());
            hashing.hasher.update(value);
        }
        hashing.finish().0
    }

    /// Returns the 64 digits without the name of the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex)
    }
}

/// What is wrong with a text that should be a digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a SHA-256 digest")]
pub struct NotADigest(String);

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    // Digests name files, so what comes from an archive is taken by its exact form only.
    fn try_from(text: String) -> Result<Self, NotADigest> {
        match text.strip_prefix("sha256:") {
            Some(hex)
                if hex.len() == 64 && hex.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) =>
            {
                Ok(Self { hex: hex.to_owned() })
            }
            _ => Err(NotADigest(text)),
        }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A reader or writer that hashes and counts what passes through it.
pub(crate) struct Hashing<T> {
    inner: T,
    hasher: Sha256,
    size: u64,
}

impl<T> Hashing<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, hasher: Sha256::new(), size: 0 }
    }

    /// Returns the digest and the size of what passed through.
    pub(crate) fn finish(self) -> (Digest, u64) {
        let mut hex = String::with_capacity(64);
        for byte in self.hasher.finalize() {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
        (Digest { hex }, self.size)
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.passed(&buffer[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.passed(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_sha256_in_hex() {
        assert_eq!(
            Digest::of(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn values_do_not_run_into_each_other() {
        assert_ne!(Digest::of_all(["ab", "c"]), Digest::of_all(["a", "bc"]));
    }

    #[test]
    fn only_the_exact_form_is_a_digest() {
        let hex = Digest::of(b"x").hex().to_owned();
        assert!(Digest::try_from(format!("sha256:{hex}")).is_ok());
        for wrong in [hex.clone(), format!("sha512:{hex}"), "sha256:../../etc".to_owned()] {
            assert!(Digest::try_from(wrong).is_err());
        }
    }
}
