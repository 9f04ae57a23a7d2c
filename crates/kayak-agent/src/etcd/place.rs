//! What a member has on the node's disk.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use kayak_core::component::etcd;

use crate::write;

/// Where a member and those who start it have their files.
#[derive(Debug, Clone)]
pub struct Place {
    pub(crate) data_dir: PathBuf,
    pub(crate) bootstrap: PathBuf,
    pub(crate) joined: PathBuf,
    pub(crate) controllers: PathBuf,
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Whether the member was one before: it has a log.
    pub(crate) data: bool,
    /// Whether it may begin a new cluster.
    pub(crate) bootstrap: bool,
}

/// Why the member's disk is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It is unknown whether there are data.
    #[error("failed to look for data at `{}`", path.display())]
    Look {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A note cannot be made.
    #[error("failed to write `{}`", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or directory stays that must not.
    #[error("failed to remove `{}`", path.display())]
    Remove {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Place {
    /// Where they are on a node.
    pub fn of_node() -> Self {
        Self {
            data_dir: etcd::DATA_DIR.into(),
            bootstrap: etcd::BOOTSTRAP_FILE.into(),
            joined: etcd::JOINED_FILE.into(),
            controllers: etcd::MEMBERS_FILE.into(),
        }
    }

    /// Looks what is there. What cannot be seen is not absent.
    pub(crate) fn look(&self) -> Result<Disk, PlaceError> {
        let failed = |path: &Path, source| PlaceError::Look { path: path.to_owned(), source };
        let log = self.member().join("wal");
        let data = has_log(&log).map_err(|source| failed(&log, source))?;
        let bootstrap = self.bootstrap.try_exists().map_err(|source| failed(&self.bootstrap, source))?;
        Ok(Disk { data, bootstrap })
    }

    /// Notes that a member is, or is about to be, part of a cluster here.
    pub(crate) fn note_joined(&self) -> Result<(), PlaceError> {
        let path = &self.joined;
        let failed = |source| PlaceError::Write { path: path.clone(), source };
        if path.try_exists().map_err(failed)? {
            return Ok(());
        }
        write::atomically(path, b"").map_err(failed)
    }

    /// Takes away the leave to begin a new cluster, once there is one.
    pub(crate) fn forbid_beginning(&self) -> Result<(), PlaceError> {
        let path = &self.bootstrap;
        gone(fs::remove_file(path)).map_err(|source| PlaceError::Remove { path: path.clone(), source })
    }

    /// Removes what is of no use without the log: a database that a new member would take for its own.
    pub(crate) fn clear(&self) -> Result<(), PlaceError> {
        let path = self.member();
        gone(fs::remove_dir_all(&path)).map_err(|source| PlaceError::Remove { path, source })
    }

    fn member(&self) -> PathBuf {
        self.data_dir.join("member")
    }
}

/// What etcd itself takes for a log (`wal.Exist`).
fn has_log(directory: &Path) -> io::Result<bool> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(entries) => {
            for entry in entries {
                if Path::new(&entry?.file_name()).extension() == Some(OsStr::new("wal")) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
impl Place {
    /// All of it below one directory.
    pub(crate) fn below(root: &Path) -> Self {
        let data_dir = root.join("data");
        fs::create_dir_all(&data_dir).unwrap();
        let file = |name| data_dir.join(name);
        Self {
            bootstrap: file("bootstrap"),
            joined: file("joined"),
            controllers: root.join("members.json"),
            data_dir,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_log_is_data() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::below(root.path());
        let look = || place.look().unwrap();
        assert_eq!(look(), Disk { data: false, bootstrap: false });
        fs::write(&place.bootstrap, "").unwrap();
        fs::create_dir_all(place.member().join("wal")).unwrap();
        fs::create_dir_all(place.member().join("snap")).unwrap();
        fs::write(place.member().join("snap/db"), "old").unwrap();
        assert_eq!(look(), Disk { data: false, bootstrap: true });
        fs::write(place.member().join("wal/0000000000000000-0000000000000000.wal"), "").unwrap();
        assert_eq!(look(), Disk { data: true, bootstrap: true });
        for _ in 0..2 {
            place.forbid_beginning().unwrap();
            place.note_joined().unwrap();
            place.clear().unwrap();
        }
        assert_eq!(look(), Disk { data: false, bootstrap: false });
        assert!(place.joined.exists());
    }

    #[test]
    fn what_cannot_be_seen_is_not_absent() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::below(root.path());
        fs::write(place.member(), "no directory").unwrap();
        assert!(place.look().is_err());
    }
}
