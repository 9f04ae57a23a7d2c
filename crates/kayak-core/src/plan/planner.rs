//! Decides what has to be done. Reads top-down, one function a phase.

use std::collections::BTreeSet;

use super::{Aside, Check, ContainerState, Fact, ObjectSeen, Observed, Phase, PhaseId, Plan, Step, Wish};
use crate::cluster::{Cluster, Node, Role};
use crate::component::{apiserver, controller_manager, coredns, scheduler};
use crate::form::TEMPORARY;
use crate::object::ObjectId;

/// The self-hosted control plane: what has to answer before the temporary one may go.
pub(super) const CONTROL_PLANE: [&str; 3] = [apiserver::NAME, controller_manager::NAME, scheduler::NAME];

/// Returns the plan that makes what was observed into what is wished.
pub fn plan(wish: &Wish<'_>, seen: &Observed) -> Plan {
    let core = core(wish.cluster, seen);
    let temporary = needs_temporary(wish, seen, &core);
    let newcomers = newcomers(wish, seen, &core);
    let inject = inject(wish, seen, &newcomers);
    let (join, remove) = (join(wish.cluster, seen, &core), remove(wish, seen));
    let mut holding = still_holding(wish, seen, &inject);
    // What runs on every node is rolled out anew where nodes come or go.
    let moves = |step: &Step| matches!(step, Step::StartNode(_) | Step::RemoveNode(_));
    if join.steps.iter().chain(&remove.steps).any(moves) {
        holding.retain(|check| !matches!(check, Check::RolledOut(_)));
    }
    let mut phases = vec![
        assets(seen),
        nodes(wish.cluster, seen, &core, temporary),
        temporary_plane(&core, temporary),
        inject,
        join,
        self_hosted(wish),
        hand_over(wish, seen, &core, temporary, &newcomers),
        roles(&newcomers),
        pivot(seen, &core, temporary),
    ];
    phases.extend(later_restarts(wish.cluster, seen).map(|node| restart(wish.cluster, node)));
    phases.extend([remove, verify(wish)]);
    let phases: Vec<_> = phases.into_iter().filter_map(|phase| to_do(phase, &holding)).collect();
    let aside = if phases.is_empty() { Vec::new() } else { aside(wish, seen) };
    Plan { phases, aside }
}

fn aside(wish: &Wish<'_>, seen: &Observed) -> Vec<Aside> {
    let network = wish.cluster.has_own_pod_network().then_some(Aside::OwnPodNetwork);
    let named = |node: &&String| wish.named.remove.iter().any(|name| node_id(node).is_called(name));
    let dead = seen.surplus_down.iter().filter(|node| !named(node)).cloned().map(Aside::DeadNode);
    network.into_iter().chain(dead).collect()
}

/// The conditions of this kind that can come true without pods' network.
fn without_network(cluster: &Cluster, check: &Check) -> bool {
    !cluster.has_own_pod_network()
        || match check {
            Check::NodeReady(_) => false,
            Check::RolledOut(id) => id.name != coredns::NAME,
            Check::UnitsReady(_)
            | Check::Member(_)
            | Check::ApiServes
            | Check::SelfHostedInstance { .. }
            | Check::Answers(_)
            | Check::TemporaryGone(_)
            | Check::CheckpointsIdle(_)
            | Check::Absent(_)
            | Check::Registered(_) => true,
        }
}

/// The controllers that hold the cluster's state: without most of them there is no API. Where none does,
/// the first one begins. The temporary control plane runs on the first of them.
fn core<'a>(cluster: &'a Cluster, seen: &Observed) -> Vec<&'a Node> {
    let is_member = |node: &&Node| seen.nodes.get(&node.name).is_some_and(|n| n.member);
    let members: Vec<_> = cluster.controllers().filter(is_member).collect();
    if members.is_empty() { cluster.first_controller().into_iter().collect() } else { members }
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
    if wish.cluster.nodes.iter().any(|node| restarts_at_once(wish.cluster, node, seen)) {
        return BTreeSet::new();
    }
    let mut holding = seen.holding.clone();
    for step in &inject.steps {
        let (Step::Apply(ids) | Step::Revert(ids)) = step else { continue };
        for id in ids {
            holding.remove(&Check::RolledOut(id.clone()));
        }
    }
    for node in later_restarts(wish.cluster, seen) {
        holding.retain(|check| !restart(wish.cluster, node).gate.contains(check));
    }
    holding
}

/// A temporary control plane is needed while there is none of the cluster's own: when the API cannot
/// be seen, when it has not yet been given the objects that it runs itself from, and when its only node
/// is about to be started. Placing it beside a control plane that merely could not be reached does no
/// harm: every instance has an address of its own. Where a node's agent keeps checkpoints, they are what brings the
/// cluster's own back.
fn needs_temporary(wish: &Wish<'_>, seen: &Observed, core: &[&Node]) -> bool {
    if core.iter().any(|node| seen.nodes.get(&node.name).is_some_and(|node| node.checkpoints)) {
        return false;
    }
    match &seen.api {
        Fact::Unknown(_) => true,
        Fact::Known(api) => {
            let missing = |id: &ObjectId| {
                is_control_plane(id)
                    && api.objects.get(id).is_none_or(|object| *object == ObjectSeen::Missing)
            };
            let anew = |node| restarts_at_once(wish.cluster, node, seen);
            wish.objects.iter().any(missing) || wish.cluster.controllers().any(anew)
        }
    }
}

/// Whether a node that runs has to be started anew.
fn restarts(node: &Node, seen: &Observed) -> bool {
    let seen = seen.nodes.get(&node.name);
    seen.is_some_and(|n| n.container == ContainerState::Running && !n.outdated.is_empty())
}

/// Whether a node is started anew before anything else: nobody could keep the cluster going meanwhile.
fn restarts_at_once(cluster: &Cluster, node: &Node, seen: &Observed) -> bool {
    restarts(node, seen) && node.role == Role::Controller && cluster.controllers().count() == 1
}

/// The nodes that are started anew one after another, while the others keep the cluster going.
fn later_restarts<'a>(cluster: &'a Cluster, seen: &Observed) -> impl Iterator<Item = &'a Node> {
    let nodes = cluster.nodes.iter();
    nodes.filter(move |node| restarts(node, seen) && !restarts_at_once(cluster, node, seen))
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

fn nodes(cluster: &Cluster, seen: &Observed, core: &[&Node], temporary: bool) -> Phase {
    let mut steps = Vec::new();
    let starts = |node: &Node| is_down(node, seen) || restarts_at_once(cluster, node, seen);
    let runs = seen.nodes.values().any(|n| n.container == ContainerState::Running);
    // Whoever reloads the machine's firewall takes the cluster's rules away with it.
    if cluster.nodes.iter().any(starts) || (runs && !seen.guarded) {
        steps.push(Step::PrepareNetwork);
    }
    // A node that runs on is told of those that are going to join before they do.
    for node in cluster.nodes.iter().filter(|node| !is_down(node, seen) && !core.contains(node)) {
        steps.extend(write_files(node, seen));
    }
    let begins = !cluster.controllers().any(|n| seen.nodes.get(&n.name).is_some_and(|n| n.member));
    for node in core {
        if restarts_at_once(cluster, node, seen) {
            steps.push(Step::StopNode(node.name.clone()));
        }
        // Also one that is there but stopped: a run may have been cut off in the middle of it.
        if starts(node) {
            steps.push(Step::CreateNode(node.name.clone()));
        }
        if begins {
            steps.push(Step::Bootstrap(node.name.clone()));
        }
        steps.extend(write_files(node, seen));
        if starts(node) {
            steps.push(Step::StartNode(node.name.clone()));
        }
    }
    let mut gate: Vec<_> = core.iter().map(|n| Check::UnitsReady(n.name.clone())).collect();
    // Else there is an API after the next phase.
    gate.extend((!temporary).then_some(Check::ApiServes));
    Phase { id: PhaseId::Nodes, steps, gate }
}

fn is_down(node: &Node, seen: &Observed) -> bool {
    seen.nodes.get(&node.name).is_none_or(|n| n.container != ContainerState::Running)
}

fn write_files(node: &Node, seen: &Observed) -> Option<Step> {
    let paths = seen.nodes.get(&node.name).map(|n| n.stale_files.clone()).unwrap_or_default();
    (!paths.is_empty()).then(|| Step::WriteFiles { node: node.name.clone(), paths })
}

/// Nodes that do not hold the cluster's state are started when there is an API: a kubelet that finds none
/// asks less and less often.
fn join(cluster: &Cluster, seen: &Observed, core: &[&Node]) -> Phase {
    let others = cluster.nodes.iter().filter(|node| is_down(node, seen) && !core.contains(node));
    let steps = others.flat_map(|node| {
        let name = || node.name.clone();
        [Step::CreateNode(name())].into_iter().chain(write_files(node, seen)).chain([Step::StartNode(name())])
    });
    Phase { id: PhaseId::Join, steps: steps.collect(), gate: Vec::new() }
}

/// The next node is only started anew when this one is all that it was.
fn restart(cluster: &Cluster, node: &Node) -> Phase {
    let name = || node.name.clone();
    let mut gate = vec![Check::UnitsReady(name()), Check::NodeReady(name())];
    if node.role == Role::Controller {
        gate.push(Check::Member(name()));
        gate.push(api_server_on(node));
    }
    gate.retain(|check| without_network(cluster, check));
    let steps = vec![Step::StopNode(name()), Step::CreateNode(name()), Step::StartNode(name())];
    Phase { id: PhaseId::Restart, steps, gate }
}

fn temporary_plane(core: &[&Node], needed: bool) -> Phase {
    let host = core.first().filter(|_| needed);
    let steps = host.map(|n| Step::PlaceTemporary(n.name.clone())).into_iter().collect();
    let gate = needed.then_some(Check::ApiServes).into_iter().collect();
    Phase { id: PhaseId::Temporary, steps, gate }
}

/// The nodes that the API may not know yet. Their objects are given to it only when their kubelets have:
/// with one that says nothing of the node's room, a kubelet turns its static pods away, for good, and etcd's is
/// one of them.
fn newcomers<'a>(wish: &Wish<'a>, seen: &Observed, core: &[&Node]) -> Vec<&'a Node> {
    let is_known = |node: &&Node| match &seen.api {
        Fact::Unknown(_) => false,
        Fact::Known(api) => {
            matches!(api.objects.get(&node_id(&node.name)), Some(ObjectSeen::Present { .. }))
        }
    };
    // A machine that joins is not the one to say what its node is for.
    let is_ours = |node: &&Node| wish.objects.contains(&node_id(&node.name));
    wish.cluster
        .nodes
        .iter()
        .filter(|node| !core.contains(node) && is_ours(node) && !is_known(node))
        .collect()
}

fn inject(wish: &Wish<'_>, seen: &Observed, newcomers: &[&Node]) -> Phase {
    let (mut apply, mut revert) = (Vec::new(), Vec::new());
    let later: BTreeSet<_> = newcomers.iter().map(|node| node_id(&node.name)).collect();
    for id in wish.objects.iter().filter(|id| !later.contains(id)) {
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

/// A self-hosted component answers, wherever it is. That all of it is rolled out is waited for later: it
/// takes nodes that are still joining.
fn answers<'a>(wish: &'a Wish<'_>, which: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = Check> + 'a {
    let own = wish.objects.iter().filter(move |id| is_control_plane(id) && which(&id.name));
    own.map(|id| Check::Answers(id.name.clone()))
}

fn self_hosted(wish: &Wish<'_>) -> Phase {
    let gate = answers(wish, |name| name != apiserver::NAME).collect();
    Phase { id: PhaseId::SelfHosted, steps: Vec::new(), gate }
}

/// The successors become leaders while the API server, which takes longest, still starts. The temporary one
/// of these goes when another answers beside it.
fn hand_over(wish: &Wish<'_>, seen: &Observed, core: &[&Node], placed: bool, newcomers: &[&Node]) -> Phase {
    let mut gate: Vec<_> = answers(wish, |name| name == apiserver::NAME).collect();
    gate.extend(core.first().map(|node| api_server_on(node)));
    gate.extend(newcomers.iter().map(|node| Check::Registered(node.name.clone())));
    let steps = temporary_hosts(seen, core, placed).map(Step::HandOver).collect();
    Phase { id: PhaseId::HandOver, steps, gate }
}

/// The nodes with something of a temporary control plane.
fn temporary_hosts<'a>(
    seen: &'a Observed,
    core: &'a [&Node],
    placed: bool,
) -> impl Iterator<Item = String> + 'a {
    let host = core.first().filter(|_| placed).map(|n| &n.name);
    let has = move |name: &&String| seen.nodes.get(*name).is_some_and(|n| n.temporary) || host == Some(*name);
    core.iter().map(|n| &n.name).filter(has).cloned()
}

fn roles(newcomers: &[&Node]) -> Phase {
    let ids: Vec<_> = newcomers.iter().map(|node| node_id(&node.name)).collect();
    let steps = if ids.is_empty() { Vec::new() } else { vec![Step::Apply(ids)] };
    Phase { id: PhaseId::Roles, steps, gate: Vec::new() }
}

fn api_server_on(node: &Node) -> Check {
    Check::SelfHostedInstance { node: node.name.clone(), component: apiserver::NAME.into() }
}

fn pivot(seen: &Observed, core: &[&Node], placed: bool) -> Phase {
    let mut gate: Vec<_> = core.iter().map(|n| Check::TemporaryGone(n.name.clone())).collect();
    gate.extend(core.iter().flat_map(|n| temporary_mirrors(&n.name)).map(Check::Absent));
    gate.push(Check::ApiServes);
    let steps = temporary_hosts(seen, core, placed).map(Step::RemoveTemporary).collect();
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
    let cluster = wish.cluster;
    let each = |check: fn(String) -> Check| cluster.nodes.iter().map(move |n| check(n.name.clone()));
    let mut gate: Vec<_> = each(Check::UnitsReady).chain(each(Check::NodeReady)).collect();
    gate.extend(cluster.controllers().map(|n| Check::Member(n.name.clone())));
    gate.extend(cluster.controllers().map(api_server_on));
    gate.extend(cluster.controllers().map(|n| Check::CheckpointsIdle(n.name.clone())));
    let workload = |id: &&ObjectId| id.api_version == "apps/v1";
    gate.extend(wish.objects.iter().filter(workload).cloned().map(Check::RolledOut));
    gate.retain(|check| without_network(cluster, check));
    Phase { id: PhaseId::Verify, steps: Vec::new(), gate }
}

/// What was named goes: pods first, as long as there is a kubelet to end them, a controller's vote next, then
/// the node, then what the API shows of it.
fn remove(wish: &Wish<'_>, seen: &Observed) -> Phase {
    let named = |id: &&ObjectId| wish.named.remove.iter().any(|name| id.is_called(name));
    let surplus = seen.surplus();
    let objects: Vec<_> = match &seen.api {
        Fact::Unknown(_) => return Phase { id: PhaseId::Remove, steps: Vec::new(), gate: Vec::new() },
        Fact::Known(_) => surplus.iter().filter(named).cloned().collect(),
    };
    let nodes = || seen.surplus_nodes.iter().filter(|(node, _)| objects.contains(&node_id(node)));
    let living = nodes().filter(|(node, _)| !seen.surplus_down.contains(*node));
    let mut steps: Vec<_> = living.map(|(node, _)| Step::Drain(node.clone())).collect();
    for (node, &member) in nodes() {
        steps.extend(member.then(|| Step::RemoveMember(node.clone())));
        steps.push(Step::RemoveNode(node.clone()));
    }
    let gate = objects.iter().cloned().map(Check::Absent).collect();
    if !objects.is_empty() {
        steps.push(Step::Delete(objects));
    }
    Phase { id: PhaseId::Remove, steps, gate }
}

/// A node as the API names it.
pub fn node_id(name: &str) -> ObjectId {
    ObjectId { api_version: "v1".into(), kind: "Node".into(), namespace: None, name: name.into() }
}
