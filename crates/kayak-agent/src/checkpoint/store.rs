//! The generations of one component on the disk.
//!
//! ```text
//! COMPONENT/current -> 000002-3f…   the one in use, or that would be
//! COMPONENT/000001-9c…/             record.json, pod.json, files/VOLUME/…
//! COMPONENT/000002-3f…/
//! ```
//!
//! A generation is there as a whole or not at all, also after a loss of power: it is written beside its place, synced,
//! and renamed. Its name has the digest of its record, and the record those of all its files.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use kayak_core::checkpoint::pod::Resolved;
use kayak_core::checkpoint::{CURRENT, RECORD};
use serde::{Deserialize, Serialize};

use crate::content::digest;
use crate::write;

/// The file of a generation with its pod.
const POD: &str = "pod.json";
/// How many generations stay: the last one, and those to go back to.
const STAY: usize = 3;

/// Why generations cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("failed to read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to write `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to write down what a checkpoint is")]
    Encode(#[source] serde_json::Error),
}

/// Of what a generation was made: the same instance needs no second one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// The pod's name.
    pub(super) pod: String,
    /// The pod's UID.
    pub(super) uid: String,
    /// When its container was made, in nanoseconds since 1970.
    pub(super) created_at: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    of: Origin,
    /// Path in the generation to the digest of what is there.
    files: BTreeMap<String, String>,
}

/// A generation that was read and found whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) name: String,
    pub(super) of: Origin,
}

/// What was found: the generations that can be used, newest first, and why others cannot.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) usable: Vec<Generation>,
    pub(super) broken: Vec<String>,
}

/// The directory of one component.
#[derive(Debug, Clone)]
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the generation in use is found, whichever that is.
    pub(super) fn current(&self) -> PathBuf {
        self.root.join(CURRENT)
    }

    /// Reads all generations, and everything of each.
    pub(super) fn find(&self) -> Result<Found, StoreError> {
        let mut names = names(&self.root)?;
        names.retain(|name| number(name).is_some());
        names.sort();
        let mut found = Found::default();
        for name in names.into_iter().rev() {
            match self.read(&name) {
                Ok(of) => found.usable.push(Generation { name, of }),
                Err(because) => found.broken.push(format!("{name}: {because}")),
            }
        }
        Ok(found)
    }

    /// Reads one generation; says what is wrong with it if anything is.
    fn read(&self, name: &str) -> Result<Origin, String> {
        let directory = self.root.join(name);
        let get = |path: &str| fs::read(directory.join(path)).map_err(|error| format!("`{path}`: {error}"));
        let text = get(RECORD)?;
        if name.split_once('-').is_none_or(|(_, sum)| !digest(&text).starts_with(sum)) {
            return Err(format!("`{RECORD}` holds something else than was written"));
        }
        let record: Record = serde_json::from_slice(&text).map_err(|error| format!("`{RECORD}`: {error}"))?;
        for (path, sum) in &record.files {
            if digest(&get(path)?) != *sum {
                return Err(format!("`{path}` holds something else than was written"));
            }
        }
        if !record.files.contains_key(POD) {
            return Err(format!("it has no `{POD}`"));
        }
        Ok(record.of)
    }

    /// Writes a generation, and forgets those that are too old; `used` is one that stays whatever its age.
    pub(super) fn keep(
        &self,
        of: &Origin,
        made: &Resolved,
        used: Option<&str>,
    ) -> Result<String, StoreError> {
        let pod = serde_json::to_vec_pretty(&made.pod).map_err(StoreError::Encode)?;
        let mut sums = BTreeMap::from([(POD.to_owned(), digest(&pod))]);
        sums.extend(made.files.iter().map(|(path, file)| (path.clone(), digest(&file.content))));
        let record = Record { of: of.clone(), files: sums };
        let record = serde_json::to_vec_pretty(&record).map_err(StoreError::Encode)?;

        let last = names(&self.root)?.iter().filter_map(|name| number(name)).max().unwrap_or(0);
        let name = format!("{:06}-{}", last + 1, &digest(&record)[..16]);
        let place = self.root.join(&name);
        let beside = write::sibling(&place);
        let failed = |source| StoreError::Write { path: place.clone(), source };
        let write = || -> io::Result<()> {
            make_private(&self.root)?;
            forget(&beside)?;
            make_private(&beside)?;
            for (path, file) in &made.files {
                create(&beside, path, &file.content, file.mode)?;
            }
            create(&beside, POD, &pod, 0o600)?;
            create(&beside, RECORD, &record, 0o600)?;
            sync(&beside)?;
            fs::rename(&beside, &place)?;
            sync_directory(&self.root)
        };
        write().map_err(failed)?;
        self.prune(used)?;
        Ok(name)
    }

    fn prune(&self, used: Option<&str>) -> Result<(), StoreError> {
        let mut names = names(&self.root)?;
        // What a loss of power left half written begins with a dot.
        let leftover = names.iter().filter(|name| name.starts_with('.')).cloned().collect::<Vec<_>>();
        names.retain(|name| number(name).is_some());
        names.sort();
        names.truncate(names.len().saturating_sub(STAY));
        names.retain(|name| Some(name.as_str()) != used);
        for name in names.iter().chain(&leftover) {
            let path = self.root.join(name);
            forget(&path).map_err(|source| StoreError::Write { path, source })?;
        }
        Ok(())
    }

    /// Makes a generation the one that is used: containers that are made from now on have its files.
    pub(super) fn choose(&self, name: &str) -> Result<(), StoreError> {
        let link = self.current();
        let beside = write::sibling(&link);
        let relink = || {
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => symlink(name, &beside)?,
            }
            fs::rename(&beside, &link)?;
            sync_directory(&self.root)
        };
        relink().map_err(|source| StoreError::Write { path: link.clone(), source })
    }

    /// The generation that is used, if one was ever chosen.
    pub(super) fn chosen(&self) -> Option<String> {
        let target = fs::read_link(self.current()).ok()?;
        target.to_str().map(str::to_owned)
    }

    /// The pod of a generation.
    pub(super) fn pod(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.root.join(name).join(POD);
        fs::read(&path).map_err(|source| StoreError::Read { path, source })
    }
}

/// The number in a generation's name.
fn number(name: &str) -> Option<u32> {
    name.split_once('-')?.0.parse().ok()
}

fn names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |source| StoreError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect::<io::Result<_>>().map_err(failed)
}

/// Only root gets into it; what is below may be for others, who see it mounted.
fn make_private(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o700))
}

fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => fs::remove_file(path),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a new file with just these permissions.
fn create(root: &Path, path: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Syncs a directory and all below it; the files are already.
fn sync(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        }
    }
    sync_directory(directory)
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
