//! What is planned for clusters of several nodes.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::{assets, cluster};
use kayak_core::assets::Assets;
use kayak_core::object::{Object, ObjectId};
use kayak_core::plan::{
    ApiSeen, Aside, AssetsSeen, Check, ContainerState, Fact, Named, NodeSeen, Note, ObjectSeen, Observed,
    Phase, PhaseId, Plan, Step, Wish, lint, node_id, plan, temporary_mirrors,
};

/// A cluster, its objects, and what is seen of it.
struct Fleet {
    assets: Assets,
    objects: Vec<ObjectId>,
    seen: Observed,
    named: Named,
}

impl Fleet {
    /// Nothing of it is there yet.
    fn absent(yaml: &str) -> Self {
        let assets = assets(yaml);
        let objects = assets.objects().unwrap().iter().map(Object::id).collect();
        let nodes = assets.cluster.nodes.iter().map(|node| {
            let stale_files = assets.node_files(&node.name).into_keys().collect();
            (node.name.clone(), node_seen(ContainerState::Absent, stale_files, false))
        });
        let seen = Observed {
            assets: AssetsSeen::default(),
            guarded: false,
            nodes: nodes.collect(),
            surplus_nodes: BTreeMap::new(),
            surplus_down: BTreeSet::new(),
            api: Fact::Unknown("no node runs".into()),
            holding: BTreeSet::new(),
        };
        Self { assets, objects, seen, named: Named::default() }
    }

    /// All of it is as wished.
    fn well(yaml: &str) -> Self {
        let mut fleet = Self::absent(yaml);
        fleet.seen.guarded = true;
        for (name, node) in &mut fleet.seen.nodes {
            *node = node_seen(ContainerState::Running, Vec::new(), name.starts_with("controller"));
        }
        let present = || ObjectSeen::Present { changes: Vec::new(), edits: Vec::new() };
        let objects = fleet.objects.iter().map(|id| (id.clone(), present())).collect();
        fleet.seen.api = Fact::Known(ApiSeen { objects, surplus: Vec::new() });
        let nodes = fleet.assets.cluster.nodes.iter().map(|node| node.name.clone());
        fleet.seen.holding = nodes.flat_map(|node| checks_of(&node)).collect();
        fleet.seen.holding.insert(Check::ApiServes);
        let own = fleet.objects.iter().filter(|id| id.api_version == "apps/v1");
        fleet.seen.holding.extend(own.clone().cloned().map(Check::RolledOut));
        fleet.seen.holding.extend(own.map(|id| Check::Answers(id.name.clone())));
        fleet
    }

    fn node(&mut self, name: &str) -> &mut NodeSeen {
        self.seen.nodes.get_mut(name).unwrap()
    }

    fn plan(&self) -> Plan {
        let wish = Wish { cluster: &self.assets.cluster, objects: &self.objects, named: &self.named };
        let plan = plan(&wish, &self.seen);
        assert_eq!(lint(&plan, &self.seen), []);
        plan
    }
}

fn node_seen(container: ContainerState, stale_files: Vec<String>, member: bool) -> NodeSeen {
    NodeSeen { container, outdated: Vec::new(), stale_files, temporary: false, member, checkpoints: false }
}

/// What holds of a node that is well, whatever its role.
fn checks_of(node: &str) -> Vec<Check> {
    let name = || node.to_owned();
    let own = [
        Check::UnitsReady(name()),
        Check::Member(name()),
        Check::TemporaryGone(name()),
        Check::CheckpointsIdle(name()),
        Check::NodeReady(name()),
        Check::SelfHostedInstance { node: name(), component: "kube-apiserver".into() },
    ];
    own.into_iter().chain(temporary_mirrors(node).map(Check::Absent)).collect()
}

/// Nodes without a network are not Ready, and nobody knows when the owner brings one.
#[test]
fn a_network_of_the_owners_own_is_not_waited_for() {
    let yaml = "controllers: 1\nworkers: 1\nnetwork: { provider: none }";
    let waits_for = |plan: &Plan| {
        let gates = plan.phases.iter().flat_map(|phase| phase.gate.iter().map(ToString::to_string));
        gates.collect::<Vec<_>>().join("\n")
    };
    let begun = Fleet::absent(yaml).plan();
    assert_eq!(begun.aside, [Aside::OwnPodNetwork]);
    let waited = waits_for(&begun);
    assert!(!waited.contains("is Ready") && !waited.contains("coredns"), "{waited}");
    assert!(waited.contains("daemonset/kube-system/kube-proxy is rolled out"), "{waited}");

    let mut up = Fleet::well(yaml);
    assert!(!up.objects.iter().any(|id| id.name.contains("flannel")));
    up.seen
        .holding
        .retain(|check| !matches!(check, Check::NodeReady(_)) && !check.to_string().contains("coredns"));
    assert_eq!(up.plan(), Plan::default());
    up.node("worker-0").outdated.push("its image".into());
    let again = waits_for(&up.plan());
    assert!(
        again.contains("containerd and kubelet run on `worker-0`") && !again.contains("is Ready"),
        "{again}"
    );
}

const THREE: &str = "controllers: 3\nworkers: 3";

#[test]
fn a_fleet_begins_with_its_first_controller_and_the_others_join() {
    insta::assert_snapshot!(Fleet::absent(THREE).plan());
}

#[test]
fn a_fleet_that_is_well_needs_nothing() {
    assert!(Fleet::well(THREE).plan().is_empty());
    assert!(Fleet::well("controllers: 2").plan().is_empty());
}

/// A majority of the members is needed before there is an API, so they are all started at once.
#[test]
fn after_a_power_cut_all_members_are_started_before_the_api_is_asked() {
    let mut fleet = Fleet::absent(THREE);
    for (name, node) in &mut fleet.seen.nodes {
        *node = node_seen(ContainerState::Stopped, Vec::new(), name.starts_with("controller"));
    }
    let plan = fleet.plan();
    let started = |id: PhaseId| {
        let phase = plan.phases.iter().find(|phase| phase.id == id).unwrap();
        let started = phase.steps.iter().filter(|step| matches!(step, Step::StartNode(_)));
        started.filter_map(Step::node).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(started(PhaseId::Nodes), ["controller-0", "controller-1", "controller-2"]);
    assert_eq!(started(PhaseId::Join), ["worker-0", "worker-1", "worker-2"]);
    assert!(!plan.phases.iter().flat_map(|phase| &phase.steps).any(|s| matches!(s, Step::Bootstrap(_))));
}

#[test]
fn a_lost_node_is_started_without_a_temporary_control_plane() {
    let mut fleet = Fleet::well(THREE);
    fleet.node("controller-1").container = ContainerState::Stopped;
    fleet.seen.holding.retain(|check| !checks_of("controller-1").contains(check));
    let plan = fleet.plan();
    let phases: Vec<_> = plan.phases.iter().map(|phase| phase.id).collect();
    assert_eq!(phases, [PhaseId::Nodes, PhaseId::Pivot, PhaseId::Verify]);
    assert!(!plan.to_string().contains("temporary control plane on"));
}

#[test]
fn nodes_in_another_form_are_started_anew_one_after_another() {
    let mut fleet = Fleet::well(THREE);
    for node in fleet.seen.nodes.values_mut() {
        node.outdated.push("its image".into());
    }
    insta::assert_snapshot!(fleet.plan());
}

#[test]
fn what_is_no_longer_wished_goes_when_it_is_named() {
    let mut fleet = Fleet::well("controllers: 1\nworkers: 1");
    fleet.seen.surplus_nodes = [("worker-1".to_owned(), false), ("controller-1".to_owned(), true)].into();
    assert!(fleet.plan().is_empty());
    fleet.named.remove = ["node/worker-1".to_owned(), "node/controller-1".to_owned()].into();
    assert_eq!(fleet.named.misnamed(&fleet.objects, &fleet.seen), None);
    let gone = |name: &str| Step::RemoveNode(name.into());
    let ids = ["controller-1", "worker-1"].map(node_id);
    let drain = |name: &str| Step::Drain(name.into());
    let steps = vec![
        drain("controller-1"),
        drain("worker-1"),
        Step::RemoveMember("controller-1".into()),
        gone("controller-1"),
        gone("worker-1"),
        Step::Delete(ids.to_vec()),
    ];
    let gate = ids.map(Check::Absent).to_vec();
    let plan = fleet.plan();
    assert_eq!(plan.phases[0], Phase { id: PhaseId::Remove, steps, gate });
    assert_eq!(plan.phases[1].id, PhaseId::Verify, "what runs on every node is waited for");
}

/// It would never be rolled out there, and the owner may not know yet that it is gone.
#[test]
fn a_dead_node_that_is_not_wished_is_left_aside_and_its_vote_does_not_count() {
    let mut fleet = Fleet::well("controllers: 2");
    fleet.seen.surplus_nodes = [("controller-2".to_owned(), true), ("worker-0".to_owned(), false)].into();
    fleet.seen.surplus_down = ["controller-2".to_owned(), "worker-0".to_owned()].into();
    assert_eq!(fleet.plan(), Plan::default());
    fleet.seen.holding.retain(|check| !check.to_string().contains("kube-proxy"));
    let dead = |node: &str| Aside::DeadNode(node.into());
    assert_eq!(fleet.plan().aside, [dead("controller-2"), dead("worker-0")]);
    fleet.named.remove = ["node/controller-2".to_owned()].into();
    let plan = fleet.plan();
    assert_eq!(plan.aside, [dead("worker-0")]);
    assert_eq!(plan.phases[0].steps[0], Step::RemoveMember("controller-2".into()));

    // Two of three are down: without a majority nothing is taken out.
    fleet.node("controller-1").container = ContainerState::Stopped;
    let notes = lint(&plan, &fleet.seen);
    assert!(matches!(notes[..], [Note::LosesQuorum { .. }]), "{notes:?}");
}

/// Each of these breaks a rule of fleets, and exactly that is found.
#[test]
fn the_lint_finds_each_broken_rule_of_fleets() {
    let fleet = Fleet::well(THREE);
    let phase = |steps: Vec<Step>, gate: Vec<Check>| Phase { id: PhaseId::Restart, steps, gate };
    let anew = |name: &str| vec![Step::StopNode(name.into()), Step::StartNode(name.into())];
    let one = |name: &str, gate| phase(anew(name), gate);
    let back = |name: &str| vec![Check::Member(name.into())];
    let plan = |phases| Plan { phases, ..Plan::default() };
    let patient = plan(vec![one("controller-0", back("controller-0")), one("controller-1", vec![])]);
    assert_eq!(lint(&patient, &fleet.seen), []);
    let hasty = plan(vec![one("controller-0", vec![]), one("controller-1", vec![])]);
    let step = Step::StopNode("controller-1".into()).to_string();
    assert_eq!(lint(&hasty, &fleet.seen), [Note::LosesQuorum { step }]);

    let again = plan(vec![phase(vec![Step::Bootstrap("controller-0".into())], vec![])]);
    assert_eq!(lint(&again, &fleet.seen), [Note::BeginsAnother { node: "controller-0".into() }]);

    let wished = plan(vec![phase(vec![Step::RemoveNode("worker-0".into())], vec![])]);
    assert_eq!(lint(&wished, &fleet.seen), [Note::RemovesWished { node: "worker-0".into() }]);
}

/// Five hundred workers are planned in a second, and the time grows with their number and no faster.
#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested is the time it takes")]
fn a_large_fleet_is_planned_in_time() {
    let once = |workers: u32| {
        let yaml = format!("controllers: 5\nworkers: {workers}\nnetwork: {{ nodes: 10.252.0.0/20 }}");
        let fleet = Fleet::absent(&yaml);
        let start = Instant::now();
        let steps = fleet.plan().phases.iter().map(|phase| phase.steps.len()).sum::<usize>();
        assert!(steps > usize::try_from(workers).unwrap());
        start.elapsed()
    };
    // The fastest of some: others have work for the processors too.
    let took = |workers| (0..5).map(|_| once(workers)).min().unwrap();
    assert_eq!(cluster("controllers: 5\nworkers: 20").nodes.len(), 25);
    let (small, large) = (took(250), took(1000));
    assert!(took(500) < Duration::from_secs(1), "500 workers took {:?}", took(500));
    assert!(large < small * 8 + Duration::from_millis(20), "{small:?} for 250 workers, {large:?} for 1000");
}
