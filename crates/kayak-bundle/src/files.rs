//! File operations whose errors name the path, and the ones that must survive a power cut.

use std::fs::{self, File};
use std::io::{self, Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, RenameFlags};

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file or directory could not be read.
    #[error("failed to read `{path}`")]
    Read {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("failed to write `{path}`")]
    Write {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory could not be made.
    #[error("failed to create the directory `{path}`")]
    CreateDirectory {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory could not be removed.
    #[error("failed to remove `{path}`")]
    Remove {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A finished file or directory could not be put in its place.
    #[error("failed to put `{path}` in its place")]
    Commit {
        /// The place.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory could not be locked against other processes.
    #[error("failed to lock `{path}`")]
    Lock {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
}

pub(crate) fn read(path: &Utf8Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })
}

pub(crate) fn open(path: &Utf8Path) -> Result<File, FileError> {
    File::open(path).map_err(|source| FileError::Read { path: path.to_owned(), source })
}

pub(crate) fn create(path: &Utf8Path) -> Result<File, FileError> {
    File::create(path).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

pub(crate) fn create_directory(path: &Utf8Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(|source| FileError::CreateDirectory { path: path.to_owned(), source })
}

pub(crate) fn absolute(path: &Utf8Path) -> Result<Utf8PathBuf, FileError> {
    camino::absolute_utf8(path).map_err(|source| FileError::Read { path: path.to_owned(), source })
}

/// Returns the names in a directory.
pub(crate) fn list(path: &Utf8Path) -> Result<Vec<String>, FileError> {
    let named = |source| FileError::Read { path: path.to_owned(), source };
    path.read_dir_utf8()
        .map_err(named)?
        .map(|entry| Ok(entry.map_err(named)?.file_name().to_owned()))
        .collect()
}

/// Removes a file or a directory with all it holds; it is fine if there is none.
pub(crate) fn remove(path: &Utf8Path) -> Result<(), FileError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FileError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Removes a directory if it exists, and makes it anew.
pub(crate) fn create_empty_directory(path: &Utf8Path) -> Result<(), FileError> {
    remove(path)?;
    create_directory(path)
}

/// Replaces a file by one with this content: whoever reads it sees all of the old or all of the
/// new.
pub(crate) fn replace(path: &Utf8Path, content: &[u8]) -> Result<(), FileError> {
    let unfinished = Utf8PathBuf::from(format!("{path}.unfinished"));
    let mut file = create(&unfinished)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(|source| FileError::Write { path: unfinished.clone(), source })?;
    fs::rename(&unfinished, path).map_err(|source| FileError::Commit { path: path.to_owned(), source })
}

/// Moves a finished directory to its place. What it holds is on the disk before its name is: after
/// a power cut a directory of that name is never half empty.
pub(crate) fn commit_directory(finished: &Utf8Path, place: &Utf8Path) -> Result<(), FileError> {
    let commit = || {
        rustix::fs::syncfs(File::open(finished)?)?;
        match rustix::fs::renameat_with(CWD, finished.as_str(), CWD, place.as_str(), RenameFlags::EXCHANGE) {
            // There was none yet.
            Err(rustix::io::Errno::NOENT) => fs::rename(finished, place),
            Err(error) => Err(error.into()),
            Ok(()) => fs::remove_dir_all(finished),
        }
    };
    commit().map_err(|source| FileError::Commit { path: place.to_owned(), source })
}

/// Keeps other processes out for as long as it is held.
#[derive(Debug)]
pub(crate) struct Lock {
    _directory: File,
}

impl Lock {
    /// Locks the directory that `path` lies in, which makes no lock file to leave behind. Calls
    /// `waiting` before it waits for another process.
    pub(crate) fn beside(path: &Utf8Path, waiting: impl FnOnce()) -> Result<Self, FileError> {
        let parent = parent(path);
        create_directory(parent)?;
        let directory = open(parent)?;
        let locked = match directory.try_lock() {
            Err(fs::TryLockError::WouldBlock) => {
                waiting();
                directory.lock()
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        match locked {
            Ok(()) => Ok(Self { _directory: directory }),
            Err(source) => Err(FileError::Lock { path: parent.to_owned(), source }),
        }
    }
}

/// Returns the directory that `path` lies in.
pub(crate) fn parent(path: &Utf8Path) -> &Utf8Path {
    match path.parent() {
        Some(parent) if parent != "" => parent,
        _ => Utf8Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committed_directory_takes_the_place_of_the_old_one() {
        let scratch = tempfile::tempdir().unwrap();
        let scratch = Utf8Path::from_path(scratch.path()).unwrap();
        let (new, place) = (scratch.join("new"), scratch.join("place"));
        for content in ["one", "two"] {
            create_empty_directory(&new).unwrap();
            replace(&new.join("file"), content.as_bytes()).unwrap();
            commit_directory(&new, &place).unwrap();
            assert_eq!(read(&place.join("file")).unwrap(), content.as_bytes());
        }
        assert_eq!(list(scratch).unwrap(), ["place"]);
    }

    #[test]
    fn a_second_holder_waits() {
        let scratch = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(scratch.path()).unwrap().join("bundle");
        let held = Lock::beside(&path, || panic!("nobody holds it yet")).unwrap();
        std::thread::scope(|scope| {
            let (told, waits) = std::sync::mpsc::channel();
            let second = scope.spawn({
                let path = &path;
                move || Lock::beside(path, || told.send(()).unwrap()).is_ok()
            });
            waits.recv().unwrap();
            drop(held);
            assert!(second.join().unwrap());
        });
    }
}
