//! What has to be done: a list of phases, computed from what is wished and what was observed.

mod lint;
mod phase;
mod planner;

pub use lint::{Note, lint};
pub use phase::{Check, Phase, PhaseId, Plan, Step};
pub use planner::{plan, temporary_mirrors};

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::object::ObjectId;

/// Something that was looked at. What could not be seen is not absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact<T> {
    /// It was seen.
    Known(T),
    /// It could not be seen, and why.
    Unknown(String),
}

/// Whether a node's container is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Never made, or removed.
    Absent,
    /// Made, but nothing runs in it.
    Stopped,
    /// Runs.
    Running,
}

/// One node as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSeen {
    /// Its container.
    pub container: ContainerState,
    /// Paths of its files that are missing or differ from what is wished.
    pub stale_files: Vec<String>,
    /// Whether it holds manifests of a temporary control plane.
    pub temporary: bool,
}

/// One object of the API as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectSeen {
    /// Not there.
    Missing,
    /// Applying would change it.
    Differs,
    /// Applying would change nothing.
    Same,
    /// Somebody else set fields that kayak would set otherwise; it is left alone.
    EditedByOwner,
}

/// The API as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiSeen {
    /// Every wished object.
    pub objects: BTreeMap<ObjectId, ObjectSeen>,
}

/// Everything that was looked at before planning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeSeen>,
    /// The API, if it answers.
    pub api: Fact<ApiSeen>,
    /// The checks that hold already.
    pub holding: BTreeSet<Check>,
}
