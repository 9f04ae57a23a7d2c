//! All that can be asked inside a node, in one answer: what `kayak look` tells.

use serde::{Deserialize, Serialize};

use crate::node::Status;
use crate::plan::Fact;
use crate::pods::PodRow;

/// What a node's parts told, each asked by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Its agent.
    pub agent: Fact<Status>,
    /// Its runtime.
    pub pods: Fact<Vec<PodRow>>,
    /// The kubelet's version, as the program says.
    pub kubelet: Fact<String>,
    /// containerd's version, as the runtime says.
    pub containerd: Fact<String>,
}
