//! The log file of a unit.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file is moved aside at this size; one old one is kept.
const LIMIT: u64 = 10 << 20;

/// A file that is appended to and never grows beyond its limit.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl Log {
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        Self::open_at(path, LIMIT)
    }

    /// Gives the file to a process that writes to it by itself; a full one is moved aside first.
    pub(crate) fn into_file(mut self) -> io::Result<File> {
        self.append(&[])?;
        Ok(self.file)
    }

    fn open_at(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, limit })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= self.limit {
            std::fs::rename(&self.path, self.path.with_extension("log.old"))?;
            *self = Self::open_at(std::mem::take(&mut self.path), self.limit)?;
        }
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_moved_aside_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("unit.log");
        let mut log = Log::open_at(path.clone(), 10).unwrap();
        for line in ["first line\n", "second line\n", "third\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "third\n");
        let old = path.with_extension("log.old");
        assert_eq!(std::fs::read_to_string(old).unwrap(), "second line\n");
    }
}
