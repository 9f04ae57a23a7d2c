//! Rules that no plan may break. Shares no code with the planner that decides.

use std::collections::BTreeSet;
use std::fmt;

use super::{Check, Fact, Observed, Plan, Step};
use crate::object::ObjectId;

/// One rule broken, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The temporary control plane would go before the self-hosted one was seen to answer.
    TemporaryRemovedTooEarly {
        /// From which node.
        node: String,
    },
    /// A node would be made or started anew although it could not be seen whether it runs.
    ActsOnUnknown {
        /// Which step.
        step: String,
    },
    /// The temporary control plane would be placed and stay.
    TemporaryStays {
        /// On which node.
        node: String,
    },
    /// Objects would be applied while nothing ensures that an API is there.
    AppliesWithoutApi,
    /// A node would be stopped and not started again.
    NodeStaysStopped {
        /// Which node.
        node: String,
    },
    /// An object would be deleted that is wished.
    DeletesWished {
        /// Which one.
        object: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TemporaryRemovedTooEarly { node } => {
                write!(
                    f,
                    "removes the temporary control plane from `{node}` before the self-hosted one answers"
                )
            }
            Self::ActsOnUnknown { step } => write!(f, "would `{step}` without having seen what is there"),
            Self::TemporaryStays { node } => {
                write!(f, "places a temporary control plane on `{node}` and never removes it")
            }
            Self::NodeStaysStopped { node } => write!(f, "stops `{node}` and does not start it again"),
            Self::DeletesWished { object } => write!(f, "deletes {object}, which is wished"),
            Self::AppliesWithoutApi => f.write_str("applies objects without an API to give them to"),
        }
    }
}

/// Returns every rule that the plan breaks.
pub fn lint(plan: &Plan, seen: &Observed) -> Vec<Note> {
    let mut notes = Vec::new();
    // What has been ensured so far: by observation, then by each gate that was passed.
    let mut ensured: BTreeSet<Check> = seen.holding.clone();
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    let mut stopped: BTreeSet<&str> = BTreeSet::new();
    let mut api_seen = matches!(seen.api, Fact::Known(_));
    for phase in &plan.phases {
        for step in &phase.steps {
            match step {
                Step::CreateNode(node) | Step::StopNode(node) | Step::StartNode(node)
                    if !seen.nodes.contains_key(node) =>
                {
                    notes.push(Note::ActsOnUnknown { step: step.to_string() });
                }
                Step::StartNode(node) => {
                    stopped.remove(node.as_str());
                }
                Step::StopNode(node) => {
                    stopped.insert(node);
                    // What was seen to hold before holds no more.
                    ensured.clear();
                    api_seen = false;
                }
                Step::PlaceTemporary(node) => {
                    placed.insert(node);
                }
                Step::RemoveTemporary(node) => {
                    placed.remove(node.as_str());
                    if !self_hosted(&ensured, node) {
                        notes.push(Note::TemporaryRemovedTooEarly { node: node.clone() });
                    }
                }
                Step::Apply(_) | Step::Revert(_) | Step::Delete(_)
                    if !api_seen && !ensured.contains(&Check::ApiServes) =>
                {
                    notes.push(Note::AppliesWithoutApi);
                }
                Step::Delete(objects) => notes.extend(wished(objects, seen)),
                Step::Apply(_)
                | Step::Revert(_)
                | Step::WriteAssets { .. }
                | Step::PrepareNetwork
                | Step::CreateNode(_)
                | Step::WriteFiles { .. } => {}
            }
        }
        ensured.extend(phase.gate.iter().cloned());
    }
    notes.extend(stopped.into_iter().map(|node| Note::NodeStaysStopped { node: node.to_owned() }));
    notes.extend(placed.into_iter().map(|node| Note::TemporaryStays { node: node.to_owned() }));
    notes
}

/// Those of the objects that are not known to be surplus.
fn wished(objects: &[ObjectId], seen: &Observed) -> Vec<Note> {
    let surplus = |id: &ObjectId| matches!(&seen.api, Fact::Known(api) if api.surplus.contains(id));
    let wished = objects.iter().filter(|id| !surplus(id));
    wished.map(|id| Note::DeletesWished { object: id.to_string() }).collect()
}

/// Whether all three components are ensured to be rolled out, and an API server to answer on the node.
fn self_hosted(ensured: &BTreeSet<Check>, node: &str) -> bool {
    let rolled_out =
        |name: &str| ensured.iter().any(|check| matches!(check, Check::RolledOut(id) if id.name == name));
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler"].iter().all(|name| rolled_out(name))
        && ensured.iter().any(|check| {
            matches!(check, Check::SelfHostedInstance { node: n, component } if n == node && component == "kube-apiserver")
        })
}
