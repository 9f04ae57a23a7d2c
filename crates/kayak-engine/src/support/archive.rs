//! The archive: files with a name each, and one that names what is missing.

use std::io;

use tar::{Builder, Header};
use zstd::Encoder;

use super::scrub::Scrubber;

/// Text compresses well at any level.
const COMPRESSION: i32 = 6;
/// How much of one file is taken: its end, where what went wrong last is told.
const MOST_OF_A_FILE: usize = 1 << 20;
/// How much is taken in all.
const MOST: usize = 64 << 20;

/// An archive under way, in memory: what is in it is known only when it is done.
pub struct Archive {
    root: String,
    tar: Builder<Encoder<'static, Vec<u8>>>,
    scrubber: Scrubber,
    time: u64,
    bytes: usize,
    files: usize,
    errors: Vec<String>,
}

/// An archive that is done.
pub struct Finished {
    /// Its bytes, compressed.
    pub bytes: Vec<u8>,
    /// How many files it holds.
    pub files: usize,
    /// What could not be put into it, and why.
    pub errors: Vec<String>,
}

impl Archive {
    /// Begins an archive below this directory, for files of this time (seconds since 1970).
    pub fn new(root: String, time: u64, scrubber: Scrubber) -> io::Result<Self> {
        let tar = Builder::new(Encoder::new(Vec::new(), COMPRESSION)?);
        Ok(Self { root, tar, scrubber, time, bytes: 0, files: 0, errors: Vec::new() })
    }

    /// Puts a file in, or why it is not there.
    pub fn put(&mut self, name: &str, content: Result<Vec<u8>, String>) -> io::Result<()> {
        match content {
            Err(because) => self.lacks(name, &because),
            Ok(_) if self.bytes >= MOST => self.lacks(name, "the archive is full"),
            Ok(content) => {
                let start = content.len().saturating_sub(MOST_OF_A_FILE);
                if start > 0 {
                    self.lacks(name, &format!("only its last {MOST_OF_A_FILE} bytes are there"));
                }
                self.add(name, &content[start..])?;
            }
        }
        Ok(())
    }

    /// Writes down what is missing.
    pub fn lacks(&mut self, name: &str, because: &str) {
        self.errors.push(format!("{name}: {because}"));
    }

    /// Ends the archive with the list of what is missing.
    pub fn finish(mut self) -> io::Result<Finished> {
        let mut errors = self.errors.join("\n");
        errors.push('\n');
        self.add("errors.txt", errors.as_bytes())?;
        let bytes = self.tar.into_inner()?.finish()?;
        Ok(Finished { bytes, files: self.files, errors: self.errors })
    }

    fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let content = self.scrubber.clean(content);
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        self.bytes += content.len();
        self.files += 1;
        self.tar.append_data(&mut header, format!("{}/{name}", self.root), content.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;

    fn unpack(finished: &Finished) -> BTreeMap<String, String> {
        let bytes = zstd::decode_all(finished.bytes.as_slice()).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().to_str().unwrap().to_owned(), text)
        });
        entries.collect()
    }

    #[test]
    fn what_is_missing_is_named_and_the_rest_is_there() {
        let mut archive = Archive::new("a".into(), 0, Scrubber::default()).unwrap();
        archive.put("one.txt", Ok(b"one".into())).unwrap();
        archive.put("two.txt", Err("it is down".into())).unwrap();
        let mut long = vec![b'x'; MOST_OF_A_FILE];
        long.extend(b"end");
        archive.put("long.log", Ok(long)).unwrap();
        let finished = archive.finish().unwrap();
        let files = unpack(&finished);
        assert_eq!(files["a/one.txt"], "one");
        assert!(files["a/errors.txt"].contains("two.txt: it is down\nlong.log: only its last"));
        assert!(files["a/long.log"].ends_with("xend") && files["a/long.log"].len() == MOST_OF_A_FILE);
        assert_eq!((finished.files, finished.errors.len()), (3, 2));
    }
}
