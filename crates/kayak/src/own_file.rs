//! Private files of the caller's, replaced at once: whoever reads sees the old or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::pki::Secret;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Why a file was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("failed to read `{path}`")]
    Read {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its directory cannot be made.
    #[error("failed to make `{path}`")]
    Make {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be replaced.
    #[error("failed to write `{path}`")]
    Write {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else changes it.
    #[error("somebody else changes the file at this moment, `{0}` says")]
    Locked(Utf8PathBuf),
    /// Links that lead nowhere.
    #[error("`{0}` is a link that leads around in a circle")]
    Circle(Utf8PathBuf),
}

/// Changes a file: `edit` is given its text, nothing if it is not there, and returns the new one or
/// `None` to leave it alone. A link is followed. Returns whether the file was written.
pub fn change<E: From<FileError>>(
    path: &Utf8Path,
    edit: impl FnOnce(&str) -> Result<Option<Secret>, E>,
) -> Result<bool, E> {
    let path = follow(path)?;
    make_parent(&path)?;
    let _lock = Lock::take(&path)?;
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(|source| FileError::Read { path: path.clone(), source })?,
    };
    let Some(new) = edit(&text)? else { return Ok(false) };
    replace(&path, new.expose().as_bytes(), Owner::AsBefore)?;
    Ok(true)
}

/// Writes a file that is the caller's, in place of whatever is there: neither a link nor the owner of an
/// earlier file gets what is secret in it.
pub fn write(path: &Utf8Path, content: &[u8]) -> Result<(), FileError> {
    make_parent(path)?;
    replace(path, content, Owner::Caller)
}

/// Where a link leads in the end, whether there is anything or not.
fn follow(path: &Utf8Path) -> Result<Utf8PathBuf, FileError> {
    let mut end = path.to_owned();
    for _ in 0..MOST_LINKS {
        match end.read_link_utf8() {
            Ok(target) => end = end.parent().unwrap_or(Utf8Path::new("")).join(target),
            Err(_) => return Ok(end),
        }
    }
    Err(FileError::Circle(path.to_owned()))
}

fn make_parent(path: &Utf8Path) -> Result<(), FileError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_str().is_empty()) else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|source| FileError::Make { path: parent.to_owned(), source })
}

/// Whose a replaced file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Whoever runs this.
    Caller,
    /// Whoever it belonged to.
    AsBefore,
}

fn replace(path: &Utf8Path, content: &[u8], owner: Owner) -> Result<(), FileError> {
    let temporary = Utf8PathBuf::from(format!("{path}.{}.new", std::process::id()));
    let written = write_to(&temporary, path, content, owner).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        // It is not there if it could not be made, and that is why this failed.
        let _ = fs::remove_file(&temporary);
        FileError::Write { path: path.to_owned(), source }
    })
}

fn write_to(temporary: &Utf8Path, path: &Utf8Path, content: &[u8], owner: Owner) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    match fs::metadata(path) {
        Ok(old) if owner == Owner::AsBefore => {
            let new = file.metadata()?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.write_all(content)?;
    file.sync_all()
}

/// What kubectl holds, too, while it changes a kubeconfig (client-go, `clientcmd.lockFile`).
struct Lock(Utf8PathBuf);

impl Lock {
    fn take(path: &Utf8Path) -> Result<Self, FileError> {
        let lock = Utf8PathBuf::from(format!("{path}.lock"));
        match File::create_new(&lock) {
            Ok(_) => Ok(Self(lock)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(FileError::Locked(lock)),
            Err(source) => Err(FileError::Write { path: lock, source }),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!("failed to remove `{}`: {error}", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    struct Scratch(tempfile::TempDir);

    impl Scratch {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> Utf8PathBuf {
            Utf8Path::from_path(self.0.path()).unwrap().join(name)
        }
    }

    fn append(path: &Utf8Path) -> Result<bool, FileError> {
        change(path, |text| Ok(Some(Secret::new(format!("{text}more\n")))))
    }

    fn mode(path: &Utf8Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_private_and_so_is_its_directory() {
        let scratch = Scratch::new();
        let path = scratch.path("home/.kube/config");
        assert!(append(&path).unwrap());
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(append(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "more\nmore\n");
        let left: Vec<_> = path.parent().unwrap().read_dir_utf8().unwrap().collect();
        assert_eq!(left.len(), 1, "neither lock nor temporary file");
    }

    #[test]
    fn a_link_stays_and_its_target_is_changed() {
        let scratch = Scratch::new();
        symlink("over/there", scratch.path("config")).unwrap();
        for text in ["more\n", "more\nmore\n"] {
            append(&scratch.path("config")).unwrap();
            assert_eq!(fs::read_to_string(scratch.path("over/there")).unwrap(), text);
        }
        assert!(scratch.path("config").is_symlink());
        symlink("circle", scratch.path("circle")).unwrap();
        assert!(matches!(append(&scratch.path("circle")), Err(FileError::Circle(_))));
    }

    #[test]
    fn whoever_owns_a_file_keeps_it() {
        let scratch = Scratch::new();
        let path = scratch.path("config");
        fs::write(&path, "").unwrap();
        chown(&path, Some(1000), Some(1001)).unwrap();
        append(&path).unwrap();
        let new = path.metadata().unwrap();
        assert_eq!((new.uid(), new.gid(), mode(&path)), (1000, 1001, 0o600));
    }

    #[test]
    fn a_file_that_kubectl_holds_or_that_does_not_fit_is_left_alone() {
        let scratch = Scratch::new();
        let path = scratch.path("config");
        fs::write(&path, "mine").unwrap();
        fs::write(scratch.path("config.lock"), "").unwrap();
        assert!(matches!(append(&path), Err(FileError::Locked(_))));
        fs::remove_file(scratch.path("config.lock")).unwrap();
        let refused = change(&path, |_| Err(FileError::Circle(path.clone())));
        assert!(refused.is_err());
        assert!(!change(&path, |_| Ok::<_, FileError>(None)).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert!(!scratch.path("config.lock").exists(), "given back");
    }
}
