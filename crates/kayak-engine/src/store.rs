//! A containerd store with the bundle's images, prepared once and linked into each node.
//!
//! Unpacking the images takes seconds a node, yet what comes out is the same every time and is never
//! written to: content is named by its digest, and a committed snapshot is the lower layer of
//! containers only. So all nodes share these files, also in the page cache. Only containerd's two
//! databases, which hold names and no absolute paths, are each node's own.

mod prepare;

use std::fs::{self, File};
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_bundle::{ArchiveError, OpenError};
use rustix::fs::FlockOperation;

pub use self::prepare::prepare;
use crate::driver::local::{CommandError, LocalError, disk};

/// The parts of containerd's root that make up its images. The rest is not shared: leases,
/// containers and sandboxes are in none of them before there is a node, and the identity by which
/// containerd introduces itself must not be two nodes'.
const PARTS: [&str; 3] = [
    "io.containerd.content.v1.content",
    "io.containerd.metadata.v1.bolt",
    "io.containerd.snapshotter.v1.overlayfs",
];

/// The files that containerd writes to in place.
const DATABASES: [&str; 2] =
    ["io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db"];

/// The file in a node's store that says which bundle it was made of.
const MARK: &str = "kayak-bundle";

/// Why no store could be prepared, or a node not be given one.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bundle cannot be read.
    #[error("failed to open the bundle")]
    Bundle(#[source] OpenError),
    /// The bundle has no node image, in which containerd is.
    #[error("the bundle has no node image")]
    NoNodeImage,
    /// An image's manifest cannot be read.
    #[error("failed to read the ID of image `{image}`")]
    Id {
        /// The image's reference.
        image: String,
        /// Why.
        source: io::Error,
    },
    /// The directory of prepared stores could not be made, locked or changed, or a container not
    /// be made.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// containerd could not be run.
    #[error("failed to import the images into a store")]
    Import(#[source] CommandError),
    /// containerd did not take the images to their end.
    #[error("failed to give containerd the images: {said}")]
    Give {
        /// The last that containerd said.
        said: String,
        /// Why.
        source: ArchiveError,
    },
    /// What containerd made could not be brought to the disk.
    #[error("failed to sync `{path}`")]
    Sync {
        /// Where it is.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A blocking part of the work panicked.
    #[error("an internal task failed")]
    Task(#[source] tokio::task::JoinError),
}

/// A prepared store.
#[derive(Debug, Clone)]
pub struct Store {
    directory: Utf8PathBuf,
    digest: String,
}

/// What a node's store is after [`clone_into`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Cloned {
    /// It was made.
    Made,
    /// It was there, made of the same bundle.
    Same,
    /// It was there, made of another bundle or by something else, and left alone: the node has
    /// images in it that its user loaded.
    Different,
}

/// Links a store into a node's `/var`, given where this machine has that, unless the node has one.
pub async fn clone_into(store: &Store, var: &Utf8Path) -> Result<Cloned, StoreError> {
    let (store, var) = (store.clone(), var.to_owned());
    let cloned = tokio::task::spawn_blocking(move || store.clone_into(&var));
    Ok(cloned.await.map_err(StoreError::Task)??)
}

impl Store {
    /// Returns where it is.
    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// Returns the digest of the bundle that it was made of.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    fn clone_into(&self, var: &Utf8Path) -> Result<Cloned, LocalError> {
        let place = var.join("lib/containerd");
        if place.exists() {
            let mark = disk::read(&place.join(MARK))?;
            let same = mark.is_some_and(|mark| mark == self.digest.as_bytes());
            return Ok(if same { Cloned::Same } else { Cloned::Different });
        }
        let partial = var.join("lib/containerd.partial");
        disk::remove(&partial)?;
        disk::create_directory(&var.join("lib"), 0o755)?;
        {
            let _lock = lock(&self.directory, FlockOperation::LockShared)?;
            disk::link_tree(&self.directory, &partial)?;
            for database in DATABASES {
                let own = partial.join(database);
                disk::remove(&own)?;
                fs::copy(self.directory.join(database), &own).map_err(LocalError::write(&own))?;
                sync(&own)?;
            }
        }
        let mark = partial.join(MARK);
        fs::write(&mark, &self.digest).map_err(LocalError::write(&mark))?;
        sync(&mark)?;
        fs::rename(&partial, &place).map_err(|source| LocalError::Commit { path: place, source })?;
        Ok(Cloned::Made)
    }
}

fn sync(path: &Utf8Path) -> Result<(), LocalError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(LocalError::write(path))
}

/// Keeps others from changing the stores in the directory above, until the file is closed.
fn lock(store: &Utf8Path, operation: FlockOperation) -> Result<File, LocalError> {
    let directory = store.parent().unwrap_or(store);
    let failed = |source| LocalError::Lock { path: directory.to_owned(), source };
    let file = File::open(directory).map_err(failed)?;
    rustix::fs::flock(&file, operation).map_err(|error| failed(error.into()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn store(scratch: &Utf8Path) -> Store {
        let store = Store { directory: scratch.join("store/abc"), digest: "abc".into() };
        for part in PARTS {
            disk::create_directory(&store.directory.join(part), 0o700).unwrap();
        }
        for database in DATABASES {
            disk::write(&store.directory.join(database), b"names").unwrap();
        }
        disk::write(&store.directory.join(PARTS[0]).join("blob"), b"bytes").unwrap();
        store
    }

    #[test]
    fn a_node_shares_all_but_the_databases() {
        let scratch = tempfile::tempdir().unwrap();
        let scratch = Utf8Path::from_path(scratch.path()).unwrap();
        let store = store(scratch);
        assert_eq!(store.clone_into(&scratch.join("var")).unwrap(), Cloned::Made);
        let inodes = |path: &str| {
            let node = scratch.join("var/lib/containerd").join(path);
            [store.directory.join(path), node].map(|path| path.metadata().unwrap().ino())
        };
        let [old, new] = inodes("io.containerd.content.v1.content/blob");
        assert_eq!(old, new);
        for database in DATABASES {
            let [old, new] = inodes(database);
            assert_ne!(old, new);
        }
    }

    #[test]
    fn a_store_that_is_there_is_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let scratch = Utf8Path::from_path(scratch.path()).unwrap();
        let store = store(scratch);
        // What a run that was cut off leaves.
        disk::create_directory(&scratch.join("var/lib/containerd.partial/x"), 0o755).unwrap();
        assert_eq!(store.clone_into(&scratch.join("var")).unwrap(), Cloned::Made);
        assert_eq!(store.clone_into(&scratch.join("var")).unwrap(), Cloned::Same);
        let other = Store { digest: "def".into(), ..store };
        assert_eq!(other.clone_into(&scratch.join("var")).unwrap(), Cloned::Different);
    }
}
