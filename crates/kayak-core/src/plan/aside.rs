//! What a plan leaves aside, and says so.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a plan does not care for, although one might expect it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aside {
    /// Pods' network is the owner's own affair.
    OwnPodNetwork,
    /// A node that is no longer wished does not run.
    DeadNode(String),
}

impl fmt::Display for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnPodNetwork => f.write_str(
                "does not wait until nodes are Ready and CoreDNS runs: both take the owner's own network \
                 (`network.provider: none`)",
            ),
            Self::DeadNode(node) => write!(
                f,
                "does not wait for what belongs on node `{node}`, which does not run and is no longer wished \
                 (`--remove node/{node}` removes it)"
            ),
        }
    }
}
