//! What is planned in which situation, and that no plan breaks a rule.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{assets, cluster};
use kayak_core::fields::Change;
use kayak_core::object::{Object, ObjectId};
use kayak_core::plan::{
    ApiSeen, AssetsSeen, Check, ContainerState, Edit, Fact, Named, NodeSeen, Note, ObjectSeen, Observed,
    Phase, PhaseId, Plan, Step, Wish, lint, plan, temporary_mirrors,
};

const NODE: &str = "controller-0";

fn objects() -> Vec<ObjectId> {
    assets("").objects().unwrap().iter().map(Object::id).collect()
}

/// What is seen when everything is as wished.
fn all_well() -> Observed {
    let node = NodeSeen {
        container: ContainerState::Running,
        outdated: Vec::new(),
        stale_files: Vec::new(),
        temporary: false,
        checkpoints: false,
        member: true,
    };
    let objects = objects();
    let mut holding = BTreeSet::from([
        Check::ApiServes,
        Check::UnitsReady(NODE.into()),
        Check::Member(NODE.into()),
        Check::TemporaryGone(NODE.into()),
        Check::NodeReady(NODE.into()),
        Check::SelfHostedInstance { node: NODE.into(), component: "kube-apiserver".into() },
        Check::CheckpointsIdle(NODE.into()),
    ]);
    let control_plane = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    holding.extend(control_plane.map(|component| Check::Answers(component.into())));
    holding.extend(temporary_mirrors(NODE).map(Check::Absent));
    holding.extend(objects.iter().filter(|id| id.api_version == "apps/v1").cloned().map(Check::RolledOut));
    let objects = objects.into_iter().map(|id| (id, present(&[], &[]))).collect();
    Observed {
        assets: AssetsSeen::default(),
        guarded: true,
        nodes: BTreeMap::from([(NODE.into(), node)]),
        surplus_nodes: BTreeMap::new(),
        surplus_down: BTreeSet::new(),
        api: Fact::Known(ApiSeen { objects, surplus: Vec::new() }),
        holding,
    }
}

fn change(field: &str) -> Change {
    Change { field: field.into(), from: Some("1".into()), to: Some("2".into()) }
}

/// An object of the cluster, with fields that kayak would change, and fields that somebody else changed.
fn present(changes: &[&str], edits: &[&str]) -> ObjectSeen {
    let edit = |field: &&str| Edit { change: change(field), by: Some("kubectl-edit".into()) };
    ObjectSeen::Present {
        changes: changes.iter().map(|field| change(field)).collect(),
        edits: edits.iter().map(edit).collect(),
    }
}

/// Changes how the first object of this kind and name is seen.
fn see(seen: &mut Observed, kind: &str, name: &str, object: ObjectSeen) -> ObjectId {
    let Fact::Known(api) = &mut seen.api else { unreachable!() };
    let id = api.objects.keys().find(|id| id.kind == kind && id.name == name).unwrap().clone();
    api.objects.insert(id.clone(), object);
    id
}

fn absent() -> NodeSeen {
    NodeSeen {
        container: ContainerState::Absent,
        outdated: Vec::new(),
        stale_files: Vec::new(),
        temporary: false,
        checkpoints: false,
        member: false,
    }
}

/// What is seen on a machine where nothing was ever done.
fn nothing() -> Observed {
    let all = assets("");
    let stale_files = all.node_files(NODE).into_keys().collect();
    let node = NodeSeen { stale_files, ..absent() };
    let issue = ["ca", "admin"].map(|id| (id.to_owned(), "it is not there".to_owned()));
    Observed {
        assets: AssetsSeen {
            issue: issue.into(),
            stale: all.files.keys().cloned().collect(),
            edited: Vec::new(),
        },
        guarded: false,
        nodes: BTreeMap::from([(NODE.into(), node)]),
        surplus_nodes: BTreeMap::new(),
        surplus_down: BTreeSet::new(),
        api: Fact::Unknown("no node runs".into()),
        holding: BTreeSet::new(),
    }
}

fn of(phases: Vec<Phase>) -> Plan {
    Plan { phases, ..Plan::default() }
}

fn checked(seen: &Observed) -> Plan {
    checked_with(seen, &Named::default())
}

fn checked_with(seen: &Observed, named: &Named) -> Plan {
    let plan = plan(&Wish { cluster: &cluster(""), objects: &objects(), named }, seen);
    assert_eq!(lint(&plan, seen), []);
    plan
}

fn phases(plan: &Plan) -> Vec<PhaseId> {
    plan.phases.iter().map(|phase| phase.id).collect()
}

#[test]
fn a_first_run_does_everything() {
    insta::assert_snapshot!("first_run", checked(&nothing()));
}

#[test]
fn a_second_run_plans_nothing() {
    assert!(checked(&all_well()).is_empty());
}

#[test]
fn a_stopped_node_is_started_and_pivots_again() {
    let mut seen = nothing();
    let node = seen.nodes.get_mut(NODE).unwrap();
    (node.container, node.stale_files, node.member) = (ContainerState::Stopped, Vec::new(), true);
    insta::assert_snapshot!("stopped_node", checked(&seen));
}

/// Its agent brings the control plane back: all that is left to do is to start it and to wait.
#[test]
fn a_stopped_node_that_keeps_checkpoints_needs_no_temporary_control_plane() {
    let mut seen = nothing();
    let node = seen.nodes.get_mut(NODE).unwrap();
    (node.container, node.stale_files, node.member) = (ContainerState::Stopped, Vec::new(), true);
    node.checkpoints = true;
    seen.assets = AssetsSeen::default();
    let plan = checked(&seen);
    let wanted = [
        PhaseId::Nodes,
        PhaseId::Inject,
        PhaseId::SelfHosted,
        PhaseId::HandOver,
        PhaseId::Pivot,
        PhaseId::Verify,
    ];
    assert_eq!(phases(&plan), wanted);
    assert!(plan.phases[0].gate.contains(&Check::ApiServes));
    assert!(plan.phases[5].gate.contains(&Check::CheckpointsIdle(NODE.into())));
    let temporary =
        |step: &Step| matches!(step, Step::PlaceTemporary(_) | Step::HandOver(_) | Step::RemoveTemporary(_));
    assert!(!plan.phases.iter().flat_map(|phase| &phase.steps).any(temporary), "{plan}");
}

#[test]
fn a_run_cut_off_before_the_pivot_goes_on_there() {
    let mut seen = all_well();
    seen.nodes.get_mut(NODE).unwrap().temporary = true;
    seen.holding.remove(&Check::TemporaryGone(NODE.into()));
    let plan = checked(&seen);
    assert_eq!(phases(&plan), [PhaseId::HandOver, PhaseId::Pivot]);
}

#[test]
fn a_changed_object_is_all_that_is_applied() {
    let mut seen = all_well();
    let id = see(&mut seen, "ConfigMap", "coredns", present(&[".data.Corefile"], &[]));
    assert_eq!(
        checked(&seen).phases,
        [Phase { id: PhaseId::Inject, steps: vec![Step::Apply(vec![id])], gate: vec![] }]
    );
}

#[test]
fn a_changed_workload_is_waited_for() {
    let mut seen = all_well();
    let id = see(&mut seen, "Deployment", "coredns", present(&[".spec.replicas"], &[]));
    let plan = checked(&seen);
    assert_eq!(phases(&plan), [PhaseId::Inject, PhaseId::Verify]);
    assert_eq!(plan.phases[1].gate, [Check::RolledOut(id)]);
}

#[test]
fn what_the_owner_edited_is_left_alone() {
    let mut seen = all_well();
    let Fact::Known(api) = &mut seen.api else { unreachable!() };
    for object in api.objects.values_mut() {
        *object = present(&[], &[".spec"]);
    }
    assert!(checked(&seen).is_empty());
}

#[test]
fn what_the_owner_edited_is_reverted_only_where_it_is_named() {
    let mut seen = all_well();
    let id = see(&mut seen, "Deployment", "coredns", present(&[], &[".spec.replicas"]));
    see(&mut seen, "Deployment", "kube-scheduler", present(&[], &[".spec.replicas"]));
    let named = Named { revert: ["deployment/coredns".to_owned()].into(), ..Named::default() };
    let plan = checked_with(&seen, &named);
    assert_eq!(plan.phases[0].steps, [Step::Revert(vec![id])]);
    assert_eq!(phases(&plan), [PhaseId::Inject, PhaseId::Verify]);
}

#[test]
fn what_is_named_is_reverted_also_where_no_api_could_tell_of_the_edit() {
    let named = Named { revert: ["deployment/coredns".to_owned()].into(), ..Named::default() };
    let plan = checked_with(&nothing(), &named);
    let inject = plan.phases.iter().find(|phase| phase.id == PhaseId::Inject).unwrap();
    let [Step::Apply(applied), Step::Revert(reverted)] = inject.steps.as_slice() else {
        panic!("{:?}", inject.steps)
    };
    assert_eq!(
        reverted.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["deployment/kube-system/coredns"]
    );
    assert!(!applied.contains(&reverted[0]));
}

#[test]
fn what_is_no_longer_wished_is_deleted_only_where_it_is_named() {
    let mut seen = all_well();
    let Fact::Known(api) = &mut seen.api else { unreachable!() };
    let id = ObjectId {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: Some("kube-system".into()),
        name: "old".into(),
    };
    api.surplus.push(id.clone());
    assert!(checked(&seen).is_empty());
    let named = |name: &str| Named { remove: [name.to_owned()].into(), ..Named::default() };
    let plan = checked_with(&seen, &named("configmap/kube-system/old"));
    let delete = Step::Delete(vec![id.clone()]);
    assert_eq!(
        plan.phases,
        [Phase { id: PhaseId::Remove, steps: vec![delete], gate: vec![Check::Absent(id)] }]
    );
}

#[test]
fn a_name_that_does_not_say_what_is_meant_is_refused() {
    let mut seen = all_well();
    see(&mut seen, "Deployment", "coredns", present(&[], &[".spec.replicas"]));
    seen.assets.edited.push("node/containerd.toml".into());
    let Fact::Known(api) = &mut seen.api else { unreachable!() };
    for (namespace, name) in [("kube-system", "old"), ("default", "old"), ("default", "older")] {
        let namespace = Some(namespace.to_owned());
        let (api_version, kind, name) = ("v1".into(), "ConfigMap".into(), name.into());
        api.surplus.push(ObjectId { api_version, kind, namespace, name });
    }
    let remove = |name: &str| Named { remove: [name.to_owned()].into(), ..Named::default() };
    let revert = |name: &str| Named { revert: [name.to_owned()].into(), ..Named::default() };
    let said = |named: Named| named.misnamed(&objects(), &seen).map(|misnamed| misnamed.to_string());
    for clear in [remove("configmap/older"), remove("ConfigMap/default/old"), revert("deployment/coredns")] {
        assert_eq!(said(clear), None);
    }
    let both = "`configmap/old` is not clear: there are configmap/default/old, configmap/kube-system/old";
    assert_eq!(said(remove("configmap/old")).as_deref(), Some(both));
    for nowhere in ["configmap/gone", "configmap/coredns", "old"] {
        let there = "there are configmap/default/old, configmap/default/older, configmap/kube-system/old";
        let expected = format!("there is nothing called `{nowhere}` to remove; {there}");
        assert_eq!(said(remove(nowhere)), Some(expected), "a wished one is none to remove");
    }
    assert_eq!(
        said(revert("deployment/gone")).unwrap(),
        "there is nothing called `deployment/gone` to revert; \
         there are deployment/kube-system/coredns, node/containerd.toml"
    );
    assert_eq!(remove("configmap/gone").misnamed(&objects(), &nothing()), None, "nobody knows");
}

#[test]
fn a_deleted_control_plane_is_brought_back_through_a_temporary_one() {
    let mut seen = all_well();
    let id = see(&mut seen, "Deployment", "kube-scheduler", ObjectSeen::Missing);
    seen.holding.remove(&Check::RolledOut(id));
    seen.holding.remove(&Check::Answers("kube-scheduler".into()));
    let wanted = [
        PhaseId::Temporary,
        PhaseId::Inject,
        PhaseId::SelfHosted,
        PhaseId::HandOver,
        PhaseId::Pivot,
        PhaseId::Verify,
    ];
    assert_eq!(phases(&checked(&seen)), wanted);
}

#[test]
fn rules_that_somebody_took_away_are_made_again() {
    let mut seen = all_well();
    seen.guarded = false;
    let plan = checked(&seen);
    assert_eq!(phases(&plan), [PhaseId::Nodes]);
    assert_eq!(plan.phases[0].steps, [Step::PrepareNetwork]);
}

#[test]
fn a_node_in_another_form_is_started_anew_and_pivots_again() {
    let mut seen = all_well();
    seen.nodes.get_mut(NODE).unwrap().outdated.push("its mounts".into());
    insta::assert_snapshot!("outdated_node", checked(&seen));
}

/// Each of these breaks a good plan in one way, and exactly that is found.
#[test]
fn the_lint_finds_each_broken_rule() {
    let seen = nothing();
    let good = checked(&seen);
    let without = |id: PhaseId| of(good.phases.iter().filter(|p| p.id != id).cloned().collect());
    let too_early = || Note::TemporaryRemovedTooEarly { node: NODE.into() };
    assert_eq!(lint(&without(PhaseId::SelfHosted), &seen), [too_early(), too_early()]);
    assert_eq!(lint(&without(PhaseId::HandOver), &seen), [too_early()]);
    assert_eq!(lint(&without(PhaseId::Pivot), &seen), [Note::TemporaryStays { node: NODE.into() }]);
    assert_eq!(lint(&without(PhaseId::Temporary), &seen)[0], Note::AppliesWithoutApi);
    let stays = Step::StopNode(NODE.into());
    let stopped = of(vec![Phase { id: PhaseId::Nodes, steps: vec![stays], gate: vec![] }]);
    assert_eq!(lint(&stopped, &seen), [Note::NodeStaysStopped { node: NODE.into() }]);
    let id = objects().remove(0);
    let delete = Step::Delete(vec![id.clone()]);
    let deleted = of(vec![Phase { id: PhaseId::Remove, steps: vec![delete], gate: vec![] }]);
    assert_eq!(lint(&deleted, &all_well()), [Note::DeletesWished { object: id.to_string() }]);
    let blind = Observed { nodes: BTreeMap::new(), ..seen };
    assert!(lint(&good, &blind).iter().any(|note| matches!(note, Note::ActsOnUnknown { .. })));
}
