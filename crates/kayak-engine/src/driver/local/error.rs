//! Why the local driver failed.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::command::CommandError;

/// Why the local driver failed.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A name could lead out of kayak's own directories and control groups.
    #[error("`{0}` is no name: 1 to 63 of a-z, 0-9 and -, neither beginning nor ending with -")]
    Name(String),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file could not be read.
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
    /// A directory could not be put in its place.
    #[error("failed to put `{path}` in its place")]
    Commit {
        /// The place.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could neither be linked nor copied.
    #[error("failed to link or copy `{path}`")]
    Link {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory could not be locked against other runs.
    #[error("failed to lock `{path}`")]
    Lock {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What lies on a mount point of kayak's could not be taken off.
    #[error("failed to unmount `{path}`")]
    Unmount {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the driver wrote down, or runc said, is not understood.
    #[error("failed to understand `{what}`")]
    Parse {
        /// The file or the command.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The bundle cannot be read.
    #[error("failed to open the bundle")]
    Bundle(#[source] kayak_bundle::OpenError),
    /// The bundle lacks the node image.
    #[error("bundle `{bundle}` has no image `{image}`")]
    NoImage {
        /// Where the bundle is.
        bundle: Utf8PathBuf,
        /// The image's reference.
        image: String,
    },
    /// The node image could not be unpacked.
    #[error("failed to unpack image `{image}`")]
    Unpack {
        /// The image's reference.
        image: String,
        /// Why.
        source: super::super::Cause,
    },
    /// Nothing is known of the cluster.
    #[error("cluster `{0}` was not prepared on this machine")]
    NotPrepared(String),
    /// Nothing is known of the node.
    #[error("node `{0}` was not created on this machine")]
    NotCreated(String),
    /// The node does not run.
    #[error("node `{0}` does not run")]
    NotRunning(String),
    /// The kernel did not list its nftables tables.
    #[error("failed to list the nftables tables")]
    Tables(#[source] io::Error),
    /// Programs to take the network down with are nowhere to be found.
    #[error("no node image is unpacked in `{0}`, whose tools would remove the network")]
    NoTools(Utf8PathBuf),
    /// Only what outlives the container can be written to from outside.
    #[error("`{0}` is not below a persistent directory of the node")]
    NotPersistent(Utf8PathBuf),
    /// A process could not be watched or signalled.
    #[error("failed to end process {pid}")]
    Signal {
        /// Which one.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// Processes do not end.
    #[error("processes {pids:?} of control group `{group}` do not end even by SIGKILL")]
    Survivors {
        /// The control group.
        group: String,
        /// Who they are.
        pids: Vec<u32>,
    },
    /// A blocking part of the work panicked.
    #[error("an internal task failed")]
    Task(#[source] tokio::task::JoinError),
}

impl LocalError {
    pub(crate) fn read(path: &Utf8Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: &Utf8Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }
}
