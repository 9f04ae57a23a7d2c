//! Rules that no plan may break. Shares no code with the planner that decides.

use std::collections::BTreeSet;
use std::fmt;

use super::{Check, ContainerState, Fact, Observed, Plan, Step};
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
    /// A second cluster would begin beside the one there is.
    BeginsAnother {
        /// On which node.
        node: String,
    },
    /// etcd would be left without a majority of its members.
    LosesQuorum {
        /// By which step.
        step: String,
    },
    /// A node would be removed that is wished.
    RemovesWished {
        /// Which one.
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
            Self::BeginsAnother { node } => {
                write!(f, "begins a new cluster on `{node}` although there is one")
            }
            Self::LosesQuorum { step } => write!(f, "would `{step}` and leave etcd without a majority"),
            Self::RemovesWished { node } => write!(f, "removes node `{node}`, which is wished"),
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
    let mut quorum = Quorum::of(seen);
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
                    notes.extend(quorum.stop(node, step));
                    // What was seen to hold before holds no more.
                    ensured.clear();
                    api_seen = api_seen && quorum.is_held();
                }
                Step::Bootstrap(node) if !quorum.members.is_empty() => {
                    notes.push(Note::BeginsAnother { node: node.clone() });
                }
                Step::PlaceTemporary(node) => {
                    placed.insert(node);
                }
                Step::HandOver(node) => {
                    if !LEADERS.iter().all(|name| answers(&ensured, name)) {
                        notes.push(Note::TemporaryRemovedTooEarly { node: node.clone() });
                    }
                }
                Step::RemoveTemporary(node) => {
                    placed.remove(node.as_str());
                    if !self_hosted(&ensured, node) {
                        notes.push(Note::TemporaryRemovedTooEarly { node: node.clone() });
                    }
                }
                Step::Apply(_) | Step::Revert(_) | Step::Delete(_) | Step::Drain(_)
                    if !api_seen && !ensured.contains(&Check::ApiServes) =>
                {
                    notes.push(Note::AppliesWithoutApi);
                }
                Step::Delete(objects) => notes.extend(wished(objects, seen)),
                Step::RemoveMember(node) => notes.extend(quorum.remove(node, step)),
                Step::RemoveNode(node) => {
                    if !seen.surplus_nodes.contains_key(node) {
                        notes.push(Note::RemovesWished { node: node.clone() });
                    }
                    // One that votes must have been asked to leave.
                    notes.extend(quorum.stop(node, step));
                }
                Step::Apply(_)
                | Step::Revert(_)
                | Step::WriteAssets { .. }
                | Step::PrepareNetwork
                | Step::CreateNode(_)
                | Step::Drain(_)
                | Step::Bootstrap(_)
                | Step::WriteFiles { .. } => {}
            }
        }
        ensured.extend(phase.gate.iter().cloned());
        quorum.pass(&phase.gate);
    }
    notes.extend(stopped.into_iter().map(|node| Note::NodeStaysStopped { node: node.to_owned() }));
    notes.extend(placed.into_iter().map(|node| Note::TemporaryStays { node: node.to_owned() }));
    notes
}

/// Who votes in etcd, and which of them are known to run.
struct Quorum<'a> {
    members: BTreeSet<&'a str>,
    up: BTreeSet<&'a str>,
}

impl<'a> Quorum<'a> {
    fn of(seen: &'a Observed) -> Self {
        let wished = seen.nodes.iter().filter(|(_, n)| n.member).map(|(name, _)| name.as_str());
        let surplus = seen.surplus_nodes.iter().filter(|&(_, &member)| member).map(|(name, _)| name.as_str());
        let members: BTreeSet<_> = wished.chain(surplus).collect();
        let runs = |name: &&str| match seen.nodes.get(*name) {
            Some(node) => node.container == ContainerState::Running,
            None => !seen.surplus_down.contains(*name),
        };
        Self { up: members.iter().copied().filter(runs).collect(), members }
    }

    fn is_held(&self) -> bool {
        self.up.len() > self.members.len() / 2
    }

    /// A member stops. Where there is but one, its end is no loss of a majority: it comes back alone.
    fn stop(&mut self, node: &str, step: &Step) -> Option<Note> {
        let held = self.is_held();
        let votes = self.up.remove(node);
        (votes && held && !self.is_held() && self.members.len() > 1)
            .then(|| Note::LosesQuorum { step: step.to_string() })
    }

    /// A member leaves: the others must have a majority among themselves.
    fn remove(&mut self, node: &str, step: &Step) -> Option<Note> {
        self.members.remove(node);
        self.up.remove(node);
        (!self.is_held()).then(|| Note::LosesQuorum { step: step.to_string() })
    }

    /// What was waited for runs again.
    fn pass(&mut self, gate: &'a [Check]) {
        let ensured = gate.iter().filter_map(|check| match check {
            Check::Member(node) => Some(node.as_str()),
            _ => None,
        });
        self.up.extend(ensured.filter(|node| self.members.contains(node)));
    }
}

/// Those of the objects that are not known to be surplus.
fn wished(objects: &[ObjectId], seen: &Observed) -> Vec<Note> {
    let surplus = seen.surplus();
    let wished = objects.iter().filter(|id| !surplus.contains(id));
    wished.map(|id| Note::DeletesWished { object: id.to_string() }).collect()
}

/// The components of which one at a time acts.
const LEADERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

fn answers(ensured: &BTreeSet<Check>, component: &str) -> bool {
    ensured.contains(&Check::Answers(component.to_owned()))
}

/// Whether all three components are ensured to answer, and the API server on the node.
fn self_hosted(ensured: &BTreeSet<Check>, node: &str) -> bool {
    LEADERS.iter().all(|name| answers(ensured, name))
        && answers(ensured, "kube-apiserver")
        && ensured.iter().any(|check| {
            matches!(check, Check::SelfHostedInstance { node: n, component } if n == node && component == "kube-apiserver")
        })
}
