//! Asks every node what listens on its network.

use kayak_core::audit::{Finding, audit};
use kayak_core::cluster::{Cluster, Node};
use kayak_core::node::BINARY;

use crate::cluster::cluster_spec;
use crate::driver::{Driver, DriverError, NodeId};

/// Why listeners are unknown.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A node could not be asked, or the network not be looked at.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The node could not tell.
    #[error("node `{node}` could not tell what listens there: {stderr}")]
    Refused {
        /// Which node.
        node: String,
        /// What it said.
        stderr: String,
    },
    /// What the node told cannot be read.
    #[error("failed to understand what node `{node}` told of its listeners")]
    Parse {
        /// Which node.
        node: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// What was found out about a cluster's listeners.
#[derive(Debug)]
pub struct Audit {
    /// Every listener.
    pub findings: Vec<Finding>,
    /// Whether the rules are in force that keep others from the cluster's network.
    pub guarded: bool,
}

/// Looks at a cluster that runs.
pub async fn look(cluster: &Cluster, driver: &dyn Driver) -> Result<Audit, AuditError> {
    let mut findings = Vec::new();
    for node in &cluster.nodes {
        findings.extend(of_node(cluster, node, driver).await?);
    }
    Ok(Audit { findings, guarded: driver.is_guarded(&cluster_spec(cluster)).await? })
}

async fn of_node(cluster: &Cluster, node: &Node, driver: &dyn Driver) -> Result<Vec<Finding>, AuditError> {
    let id = NodeId::new(cluster.name(), &node.name);
    let output = driver.output(&id, &[BINARY, "sockets", "--output=json"].map(str::to_owned)).await?;
    if output.code != 0 {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(AuditError::Refused { node: node.name.clone(), stderr });
    }
    let sockets = serde_json::from_slice::<Vec<_>>(&output.stdout)
        .map_err(|source| AuditError::Parse { node: node.name.clone(), source })?;
    Ok(audit(cluster, node, &sockets))
}
