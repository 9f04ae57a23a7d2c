//! Decides what has to be done. Reads top-down, one function a phase.

use super::{Check, ContainerState, Fact, ObjectSeen, Observed, Phase, PhaseId, Plan, Step};
use crate::cluster::{Cluster, Role};
use crate::component::{apiserver, controller_manager, scheduler};
use crate::form::TEMPORARY;
use crate::object::ObjectId;

/// The self-hosted control plane: what has to answer before the temporary one may go.
pub(super) const CONTROL_PLANE: [&str; 3] = [apiserver::NAME, controller_manager::NAME, scheduler::NAME];

/// Returns the plan that makes what was observed into what is wished; `objects` are the wished
/// objects in the order of applying.
pub fn plan(cluster: &Cluster, objects: &[ObjectId], seen: &Observed) -> Plan {
    let temporary = needs_temporary(objects, seen);
    let phases = [
        nodes(cluster, seen),
        temporary_plane(cluster, temporary),
        inject(objects, seen),
        self_hosted(cluster, objects),
        pivot(cluster, seen, temporary),
        verify(cluster, objects),
    ];
    Plan { phases: phases.into_iter().filter_map(|phase| to_do(phase, seen)).collect() }
}

/// Drops a phase without steps whose gate holds already.
fn to_do(mut phase: Phase, seen: &Observed) -> Option<Phase> {
    if phase.steps.is_empty() {
        phase.gate.retain(|check| !seen.holding.contains(check));
    }
    (!phase.steps.is_empty() || !phase.gate.is_empty()).then_some(phase)
}

/// A temporary control plane is needed while there is none of the cluster's own: when the API cannot
/// be seen, or when it has not yet been given the objects that it runs itself from. Placing it
/// beside a control plane that merely could not be reached does no harm: every instance has an
/// address of its own.
fn needs_temporary(objects: &[ObjectId], seen: &Observed) -> bool {
    match &seen.api {
        Fact::Unknown(_) => true,
        Fact::Known(api) => objects
            .iter()
            .filter(|id| is_control_plane(id))
            .any(|id| api.objects.get(id).is_none_or(|object| *object == ObjectSeen::Missing)),
    }
}

fn is_control_plane(id: &ObjectId) -> bool {
    id.api_version == "apps/v1" && CONTROL_PLANE.contains(&id.name.as_str())
}

fn nodes(cluster: &Cluster, seen: &Observed) -> Phase {
    let mut steps = Vec::new();
    for node in &cluster.nodes {
        let found = seen.nodes.get(&node.name);
        let container = found.map_or(ContainerState::Absent, |n| n.container);
        if container != ContainerState::Running && steps.is_empty() {
            steps.push(Step::PrepareNetwork);
        }
        // Also one that is there but stopped: a run may have been cut off in the middle of it.
        if container != ContainerState::Running {
            steps.push(Step::CreateNode(node.name.clone()));
        }
        let paths = found.map(|n| n.stale_files.clone()).unwrap_or_default();
        if !paths.is_empty() {
            steps.push(Step::WriteFiles { node: node.name.clone(), paths });
        }
        if container != ContainerState::Running {
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

fn inject(objects: &[ObjectId], seen: &Observed) -> Phase {
    let wanted = |id: &&ObjectId| match &seen.api {
        Fact::Unknown(_) => true,
        Fact::Known(api) => match api.objects.get(id) {
            None | Some(ObjectSeen::Missing | ObjectSeen::Differs) => true,
            Some(ObjectSeen::Same | ObjectSeen::EditedByOwner) => false,
        },
    };
    let stale: Vec<_> = objects.iter().filter(wanted).cloned().collect();
    let steps = if stale.is_empty() { Vec::new() } else { vec![Step::Apply(stale)] };
    Phase { id: PhaseId::Inject, steps, gate: Vec::new() }
}

fn self_hosted(cluster: &Cluster, objects: &[ObjectId]) -> Phase {
    let mut gate: Vec<_> =
        objects.iter().filter(|id| is_control_plane(id)).cloned().map(Check::RolledOut).collect();
    for node in cluster.controllers() {
        // The kubelet's view of readiness is one thing, an instance that the agent gives
        // connections to another: the temporary plane goes when both agree.
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

fn verify(cluster: &Cluster, objects: &[ObjectId]) -> Phase {
    let workload = |id: &&ObjectId| id.api_version == "apps/v1";
    let nodes = cluster.nodes.iter().map(|n| Check::NodeReady(n.name.clone()));
    let rollouts = objects.iter().filter(workload).cloned().map(Check::RolledOut);
    Phase { id: PhaseId::Verify, steps: Vec::new(), gate: nodes.chain(rollouts).collect() }
}
