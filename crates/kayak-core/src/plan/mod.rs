//! What has to be done: a list of phases, computed from what is wished and what was observed.

mod aside;
mod lint;
mod named;
mod phase;
mod planner;

pub use aside::Aside;
pub use lint::{Note, lint};
pub use named::{Misnamed, Named};
pub use phase::{Check, Phase, PhaseId, Plan, Step};
pub use planner::{is_control_plane, node_id, plan, temporary_mirrors};

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::fields::Change;
use crate::object::ObjectId;

/// Something that was looked at. What could not be seen is not absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact<T> {
    /// It was seen.
    Known(T),
    /// It could not be seen, and why.
    Unknown(String),
}

impl<T> Fact<T> {
    /// What was seen, or why it could not be.
    pub fn known(&self) -> Result<&T, String> {
        match self {
            Self::Known(fact) => Ok(fact),
            Self::Unknown(because) => Err(because.clone()),
        }
    }
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

/// What is wished.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Its objects, in the order of applying.
    pub objects: &'a [ObjectId],
    /// What the owner named.
    pub named: &'a Named,
}

/// The asset directory as it was found, beside what would be rendered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetsSeen {
    /// Keys and certificates that have to be issued, and why.
    pub issue: BTreeMap<String, String>,
    /// Files that are missing, differ from what is rendered, or are rendered no more.
    pub stale: Vec<String>,
    /// Files that somebody edited by hand: they are kept, and what follows from them is wished.
    pub edited: Vec<String>,
}

/// One node as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSeen {
    /// Its container.
    pub container: ContainerState,
    /// What of its container is other than wished, and takes a restart of the node.
    pub outdated: Vec<String>,
    /// Paths of its files that are missing or differ from what is wished.
    pub stale_files: Vec<String>,
    /// Whether it holds manifests of a temporary control plane.
    pub temporary: bool,
    /// Whether etcd has begun or joined a cluster there: it holds the cluster's state, or a part of it.
    pub member: bool,
    /// Whether its agent brings a control plane back by itself: it keeps a checkpoint of each part that can be used.
    pub checkpoints: bool,
}

/// One object of the API as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectSeen {
    /// Not there.
    Missing,
    /// There.
    Present {
        /// What applying would change.
        changes: Vec<Change>,
        /// What somebody else has set otherwise; it is left alone.
        edits: Vec<Edit>,
    },
}

/// A field of kayak's that somebody else has changed: from what it is now to what kayak would write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The field.
    #[serde(flatten)]
    pub change: Change,
    /// By which field manager, if the API knows.
    pub by: Option<String>,
}

/// The API as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiSeen {
    /// Every wished object.
    #[serde(with = "by_text")]
    pub objects: BTreeMap<ObjectId, ObjectSeen>,
    /// Objects that kayak made and that are no longer wished.
    pub surplus: Vec<ObjectId>,
}

impl ApiSeen {
    /// The same without what fields would be changed to.
    fn without_targets(&self) -> Self {
        let mut seen = self.clone();
        for object in seen.objects.values_mut() {
            if let ObjectSeen::Present { changes, .. } = object {
                for change in changes {
                    change.to = None;
                }
            }
        }
        seen
    }

    /// Returns what somebody else has changed, by object.
    pub fn edits(&self) -> impl Iterator<Item = (&ObjectId, &[Edit])> {
        self.objects.iter().filter_map(|(id, object)| match object {
            ObjectSeen::Present { edits, .. } if !edits.is_empty() => Some((id, edits.as_slice())),
            ObjectSeen::Present { .. } | ObjectSeen::Missing => None,
        })
    }
}

/// JSON has texts for keys only.
mod by_text {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{ObjectId, ObjectSeen};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<ObjectId, ObjectSeen>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let by_text: BTreeMap<_, _> = map.iter().map(|(id, seen)| (id.to_string(), (id, seen))).collect();
        by_text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<ObjectId, ObjectSeen>, D::Error> {
        let by_text = BTreeMap::<String, (ObjectId, ObjectSeen)>::deserialize(deserializer)?;
        Ok(by_text.into_values().collect())
    }
}

/// Everything that was looked at before planning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The asset directory.
    pub assets: AssetsSeen,
    /// Whether the rules are there that keep the cluster's network to itself.
    pub guarded: bool,
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeSeen>,
    /// Nodes that the driver has made and that are no longer wished, and whether etcd has joined there.
    pub surplus_nodes: BTreeMap<String, bool>,
    /// Those of them that do not run.
    #[serde(default)]
    pub surplus_down: BTreeSet<String>,
    /// The API, if it answers.
    pub api: Fact<ApiSeen>,
    /// The checks that hold already.
    pub holding: BTreeSet<Check>,
}

impl Observed {
    /// Everything that kayak made and that is no longer wished: objects, and nodes as the API names them.
    pub fn surplus(&self) -> BTreeSet<ObjectId> {
        let objects = match &self.api {
            Fact::Known(api) => api.surplus.as_slice(),
            Fact::Unknown(_) => &[],
        };
        objects.iter().cloned().chain(self.surplus_nodes.keys().map(|name| node_id(name))).collect()
    }

    /// Whether both show the same; why something could not be seen does not matter.
    pub fn shows_the_same(&self, other: &Self) -> bool {
        let api = match (&self.api, &other.api) {
            (Fact::Unknown(_), Fact::Unknown(_)) => true,
            // Certificates that are issued only when they are needed are others each time.
            (Fact::Known(one), Fact::Known(other)) if !self.assets.issue.is_empty() => {
                one.without_targets() == other.without_targets()
            }
            (one, other) => one == other,
        };
        api && self.assets == other.assets
            && self.guarded == other.guarded
            && self.nodes == other.nodes
            && self.surplus_nodes == other.surplus_nodes
            && self.surplus_down == other.surplus_down
            && self.holding == other.holding
    }
}
