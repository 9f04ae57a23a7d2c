//! Decides what has to be done. Reads top-down, one function a phase.

use std::collections::BTreeSet;

use super::{Check, ContainerState, Fact, ObjectSeen, Observed, Phase, PhaseId, Plan, Step, Wish};
use crate::cluster::{Cluster, Role};
use crate::component::{apiserver, controller_manager, scheduler};
use crate::form::TEMPORARY;
use crate::object::ObjectId;

/// The self-hosted control plane: what has to answer before the temporary one may go.
pub(super) const CONTROL_PLANE: [&str; 3] = [apiserver::NAME, controller_manager::NAME, scheduler::NAME];

/// Returns the plan that makes what was observed into what is wished.
pub fn plan(wish: &Wish<'_>, seen: &Observed) -> Plan {
    let temporary = needs_temporary(wish, seen);
    let inject = inject(wish, seen);
    let holding = still_holding(wish, seen, &inject);
    let phases = [
        assets(seen),
        nodes(wish.cluster, seen),
        temporary_plane(wish.cluster, temporary),
        inject,
        self_hosted(wish),
        pivot(wish.cluster, seen, temporary),
        verify(wish),
        remove(wish, seen),
    ];
    Plan { phases: phases.into_iter().filter_map(|phase| to_do(phase, &holding)).collect() }
}

/// Drops a phase without steps whose gate holds already.
fn to_do(mut phase: Phase, holding: &BTreeSet<Check>) -> Option<Phase> {
    if phase.steps.is_empty() {
        phase.gate.retain(|check| !holding.contains(check));
    }
    (!phase.steps.is_empty() || !phase.gate.is_empty()).then_some(phase)
}

/// The checks that hold now and are not put in question by what is going to be done.
fn still_holding(wish: &Wish<'_>, seen: &Observed, inject: &Phase) -> BTreeSet<Check> {
    if wish.cluster.nodes.iter().any(|node| restarts(&node.name, seen)) {
        return BTreeSet::new();
    }
    let mut holding = seen.holding.clone();
    for step in &inject.steps {
        let (Step::Apply(ids) | Step::Revert(ids)) = step else { continue };
        for id in ids {
            holding.remove(&Check::RolledOut(id.clone()));
        }
    }
    holding
}

/// A temporary control plane is needed while there is none of the cluster's own: when the API cannot
/// be seen, when it has not yet been given the objects that it runs itself from, and when its node
/// is about to be started. Placing it beside a control plane that merely could not be reached does no
/// harm: every instance has an address of its own.
fn needs_temporary(wish: &Wish<'_>, seen: &Observed) -> bool {
    match &seen.api {
        Fact::Unknown(_) => true,
        Fact::Known(api) => {
            let missing = |id: &ObjectId| {
                is_control_plane(id)
                    && api.objects.get(id).is_none_or(|object| *object == ObjectSeen::Missing)
            };
            wish.objects.iter().any(missing)
                || wish.cluster.controllers().any(|node| restarts(&node.name, seen))
        }
    }
}

/// Whether a node that runs has to be started anew.
fn restarts(node: &str, seen: &Observed) -> bool {
    seen.nodes.get(node).is_some_and(|n| n.container == ContainerState::Running && !n.outdated.is_empty())
}

/// Whether an object is one of the workloads that the cluster runs itself with.
pub fn is_control_plane(id: &ObjectId) -> bool {
    id.api_version == "apps/v1" && CONTROL_PLANE.contains(&id.name.as_str())
}

fn assets(seen: &Observed) -> Phase {
    let issue: Vec<_> = seen.assets.issue.keys().cloned().collect();
    let paths = seen.assets.stale.clone();
    let nothing = issue.is_empty() && paths.is_empty();
    let steps = if nothing { Vec::new() } else { vec![Step::WriteAssets { issue, paths }] };
    Phase { id: PhaseId::Assets, steps, gate: Vec::new() }
}

fn nodes(cluster: &Cluster, seen: &Observed) -> Phase {
    let mut steps = Vec::new();
    let runs = seen.nodes.values().any(|n| n.container == ContainerState::Running);
    // Whoever reloads the machine's firewall takes the cluster's rules away with it.
    let mut network = runs && !seen.guarded;
    if network {
        steps.push(Step::PrepareNetwork);
    }
    for node in &cluster.nodes {
        let found = seen.nodes.get(&node.name);
        let restarts = restarts(&node.name, seen);
        let starts = restarts || found.is_none_or(|n| n.container != ContainerState::Running);
        if restarts {
            steps.push(Step::StopNode(node.name.clone()));
        }
        if starts && !network {
            steps.push(Step::PrepareNetwork);
            network = true;
        }
        // Also one that is there but stopped: a run may have been cut off in the middle of it.
        if starts {
            steps.push(Step::CreateNode(node.name.clone()));
        }
        let paths = found.map(|n| n.stale_files.clone()).unwrap_or_default();
        if !paths.is_empty() {
            steps.push(Step::WriteFiles { node: node.name.clone(), paths });
        }
        if starts {
            steps.push(Step::StartNode(node.name.clone()));
        }
    }
    let gate = cluster.nodes.iter().map(|n| Check::UnitsReady(n.name.clone())).collect();
    Phase { id: PhaseId::Nodes, steps, gate }
}

fn temporary_plane(cluster: &Cluster, needed: bool) -> Phase {
    let first = cluster.nodes.iter().find(|n| n.role == Role::Controller);
    let steps = first.filter(|_| needed).map(|n| Step::PlaceTemporary(n.name.clone())).into_iter().collect();
    Phase { id: PhaseId::Temporary, steps, gate: vec![Check::ApiServes] }
}

fn inject(wish: &Wish<'_>, seen: &Observed) -> Phase {
    let (mut apply, mut revert) = (Vec::new(), Vec::new());
    for id in wish.objects {
        let object = match &seen.api {
            Fact::Unknown(_) => None,
            Fact::Known(api) => api.objects.get(id),
        };
        let named = wish.named.revert.iter().any(|name| id.is_called(name));
        match object {
            // It may well have been edited: that cannot be seen before there is an API.
            None if named => revert.push(id.clone()),
            None | Some(ObjectSeen::Missing) => apply.push(id.clone()),
            Some(ObjectSeen::Present { edits, .. }) if named && !edits.is_empty() => revert.push(id.clone()),
            Some(ObjectSeen::Present { changes, .. }) if !changes.is_empty() => apply.push(id.clone()),
            Some(ObjectSeen::Present { .. }) => {}
        }
    }
    let mut steps = Vec::new();
    if !apply.is_empty() {
        steps.push(Step::Apply(apply));
    }
    if !revert.is_empty() {
        steps.push(Step::Revert(revert));
    }
    Phase { id: PhaseId::Inject, steps, gate: Vec::new() }
}

fn self_hosted(wish: &Wish<'_>) -> Phase {
    let own = wish.objects.iter().filter(|id| is_control_plane(id));
    let mut gate: Vec<_> = own.clone().cloned().map(Check::RolledOut).collect();
    // The kubelet's view of readiness is one thing, an instance that the agent gives connections to
    // another: the temporary plane goes when both agree.
    gate.extend(own.map(|id| Check::Answers(id.name.clone())));
    for node in wish.cluster.controllers() {
        gate.push(Check::SelfHostedInstance { node: node.name.clone(), component: apiserver::NAME.into() });
    }
    Phase { id: PhaseId::SelfHosted, steps: Vec::new(), gate }
}

fn pivot(cluster: &Cluster, seen: &Observed, placed: bool) -> Phase {
    let first = cluster.controllers().next().map(|n| n.name.clone());
    let leaves = |name: &String| {
        seen.nodes.get(name).is_some_and(|n| n.temporary) || (placed && first.as_ref() == Some(name))
    };
    let names: Vec<_> = cluster.controllers().map(|n| n.name.clone()).collect();
    let mut gate: Vec<_> = names.iter().cloned().map(Check::TemporaryGone).collect();
    gate.extend(cluster.controllers().flat_map(|n| temporary_mirrors(&n.name)).map(Check::Absent));
    gate.push(Check::ApiServes);
    let steps = names.into_iter().filter(leaves).map(Step::RemoveTemporary).collect();
    Phase { id: PhaseId::Pivot, steps, gate }
}

/// What the API shows of a node's temporary control plane: the kubelet takes it back a moment after
/// the pods have ended.
pub fn temporary_mirrors(node: &str) -> impl Iterator<Item = ObjectId> {
    CONTROL_PLANE.iter().map(move |component| ObjectId {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: Some("kube-system".into()),
        name: format!("{TEMPORARY}{component}-{node}"),
    })
}

fn verify(wish: &Wish<'_>) -> Phase {
    let workload = |id: &&ObjectId| id.api_version == "apps/v1";
    let nodes = wish.cluster.nodes.iter().map(|n| Check::NodeReady(n.name.clone()));
    let rollouts = wish.objects.iter().filter(workload).cloned().map(Check::RolledOut);
    Phase { id: PhaseId::Verify, steps: Vec::new(), gate: nodes.chain(rollouts).collect() }
}

fn remove(wish: &Wish<'_>, seen: &Observed) -> Phase {
    let named = |id: &&ObjectId| wish.named.remove.iter().any(|name| id.is_called(name));
    let surplus = match &seen.api {
        Fact::Unknown(_) => Vec::new(),
        Fact::Known(api) => api.surplus.iter().filter(named).cloned().collect(),
    };
    let gate = surplus.iter().cloned().map(Check::Absent).collect();
    let steps = if surplus.is_empty() { Vec::new() } else { vec![Step::Delete(surplus)] };
    Phase { id: PhaseId::Remove, steps, gate }
}
