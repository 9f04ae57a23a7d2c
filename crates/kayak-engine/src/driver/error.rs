//! Why a driver failed.

use std::error::Error;

use camino::Utf8PathBuf;

/// Why the driver's own means failed; each driver has its own reasons.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Which act of a driver failed.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// What a cluster's nodes share could not be made.
    #[error("failed to prepare this machine for cluster `{cluster}`")]
    Prepare {
        /// Which cluster.
        cluster: String,
        /// Why.
        source: Cause,
    },
    /// What a cluster's nodes share could not be given back.
    #[error("failed to give back what the nodes of cluster `{cluster}` share")]
    Release {
        /// Which cluster.
        cluster: String,
        /// Why.
        source: Cause,
    },
    /// What a cluster's nodes share could not be removed.
    #[error("failed to remove what is left of cluster `{cluster}`")]
    Teardown {
        /// Which cluster.
        cluster: String,
        /// Why.
        source: Cause,
    },
    /// What keeps others from a cluster's network could not be looked at.
    #[error("failed to look at the network of cluster `{cluster}`")]
    Guard {
        /// Which cluster.
        cluster: String,
        /// Why.
        source: Cause,
    },
    /// A cluster's nodes could not be listed.
    #[error("failed to list the nodes of cluster `{cluster}`")]
    List {
        /// Which cluster.
        cluster: String,
        /// Why.
        source: Cause,
    },
    /// A node's files could not be made.
    #[error("failed to create node `{node}`")]
    Create {
        /// Which node.
        node: String,
        /// Why.
        source: Cause,
    },
    /// A node's container could not be started.
    #[error("failed to start node `{node}`")]
    Start {
        /// Which node.
        node: String,
        /// Why.
        source: Cause,
    },
    /// A node's container could not be stopped.
    #[error("failed to stop node `{node}`")]
    Stop {
        /// Which node.
        node: String,
        /// Why.
        source: Cause,
    },
    /// A node could not be removed.
    #[error("failed to remove node `{node}`")]
    Remove {
        /// Which node.
        node: String,
        /// Why.
        source: Cause,
    },
    /// What is there of a node could not be found out.
    #[error("failed to find out the state of node `{node}`")]
    State {
        /// Which node.
        node: String,
        /// Why.
        source: Cause,
    },
    /// A program could not be run in a node.
    #[error("failed to run `{command}` in node `{node}`")]
    Exec {
        /// Which node.
        node: String,
        /// The program.
        command: String,
        /// Why.
        source: Cause,
    },
    /// A file could not be written.
    #[error("failed to write `{path}` in node `{node}`")]
    Put {
        /// Which node.
        node: String,
        /// Which file.
        path: Utf8PathBuf,
        /// Why.
        source: Cause,
    },
    /// A file could not be read.
    #[error("failed to read `{path}` in node `{node}`")]
    Get {
        /// Which node.
        node: String,
        /// Which file.
        path: Utf8PathBuf,
        /// Why.
        source: Cause,
    },
    /// What a node's first process wrote could not be read.
    #[error("failed to read the console of node `{node}`")]
    Console {
        /// Which node.
        node: String,
        /// Why.
        source: Cause,
    },
}
