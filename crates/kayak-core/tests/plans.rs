//! What is planned in which situation, and that no plan breaks a rule.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{assets, cluster};
use kayak_core::object::{Object, ObjectId};
use kayak_core::plan::{
    ApiSeen, Check, ContainerState, Fact, NodeSeen, Note, ObjectSeen, Observed, Phase, PhaseId, Plan, Step,
    lint, plan, temporary_mirrors,
};

const NODE: &str = "controller-0";

fn objects() -> Vec<ObjectId> {
    assets("").objects().unwrap().iter().map(Object::id).collect()
}

/// What is seen when everything is as wished.
fn all_well() -> Observed {
    let node = NodeSeen { container: ContainerState::Running, stale_files: Vec::new(), temporary: false };
    let objects = objects();
    let mut holding = BTreeSet::from([
        Check::ApiServes,
        Check::UnitsReady(NODE.into()),
        Check::TemporaryGone(NODE.into()),
        Check::NodeReady(NODE.into()),
        Check::SelfHostedInstance { node: NODE.into(), component: "kube-apiserver".into() },
    ]);
    holding.extend(temporary_mirrors(NODE).map(Check::Absent));
    holding.extend(objects.iter().filter(|id| id.api_version == "apps/v1").cloned().map(Check::RolledOut));
    Observed {
        nodes: BTreeMap::from([(NODE.into(), node)]),
        api: Fact::Known(ApiSeen { objects: objects.into_iter().map(|id| (id, ObjectSeen::Same)).collect() }),
        holding,
    }
}

/// What is seen on a machine where nothing was ever done.
fn nothing() -> Observed {
    let paths = assets("").node_files(NODE).into_keys().collect();
    let node = NodeSeen { container: ContainerState::Absent, stale_files: paths, temporary: false };
    Observed {
        nodes: BTreeMap::from([(NODE.into(), node)]),
        api: Fact::Unknown("no node runs".into()),
        holding: BTreeSet::new(),
    }
}

fn checked(seen: &Observed) -> Plan {
    let plan = plan(&cluster(""), &objects(), seen);
    assert_eq!(lint(&plan, seen), []);
    plan
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
    (node.container, node.stale_files) = (ContainerState::Stopped, Vec::new());
    insta::assert_snapshot!("stopped_node", checked(&seen));
}

#[test]
fn a_run_cut_off_before_the_pivot_goes_on_there() {
    let mut seen = all_well();
    seen.nodes.get_mut(NODE).unwrap().temporary = true;
    seen.holding.remove(&Check::TemporaryGone(NODE.into()));
    let plan = checked(&seen);
    let phases: Vec<_> = plan.phases.iter().map(|p| p.id).collect();
    assert_eq!(phases, [PhaseId::Pivot]);
}

#[test]
fn a_changed_object_is_all_that_is_applied() {
    let mut seen = all_well();
    let Fact::Known(api) = &mut seen.api else { unreachable!() };
    let id = api.objects.keys().find(|id| id.kind == "ConfigMap").unwrap().clone();
    api.objects.insert(id.clone(), ObjectSeen::Differs);
    let plan = checked(&seen);
    assert_eq!(
        plan.phases,
        [Phase { id: PhaseId::Inject, steps: vec![Step::Apply(vec![id])], gate: vec![] }]
    );
}

#[test]
fn what_the_owner_edited_is_left_alone() {
    let mut seen = all_well();
    let Fact::Known(api) = &mut seen.api else { unreachable!() };
    for object in api.objects.values_mut() {
        *object = ObjectSeen::EditedByOwner;
    }
    assert!(checked(&seen).is_empty());
}

#[test]
fn a_deleted_control_plane_is_brought_back_through_a_temporary_one() {
    let mut seen = all_well();
    let Fact::Known(api) = &mut seen.api else { unreachable!() };
    let id =
        api.objects.keys().find(|id| id.name == "kube-scheduler" && id.kind == "Deployment").unwrap().clone();
    api.objects.insert(id.clone(), ObjectSeen::Missing);
    seen.holding.remove(&Check::RolledOut(id));
    let phases: Vec<_> = checked(&seen).phases.iter().map(|p| p.id).collect();
    assert_eq!(
        phases,
        [PhaseId::Temporary, PhaseId::Inject, PhaseId::SelfHosted, PhaseId::Pivot, PhaseId::Verify]
    );
}

/// Each of these breaks a good plan in one way, and exactly that is found.
#[test]
fn the_lint_finds_each_broken_rule() {
    let seen = nothing();
    let good = checked(&seen);
    let without = |id: PhaseId| Plan { phases: good.phases.iter().filter(|p| p.id != id).cloned().collect() };
    let too_early = [Note::TemporaryRemovedTooEarly { node: NODE.into() }];
    assert_eq!(lint(&without(PhaseId::SelfHosted), &seen), too_early);
    assert_eq!(lint(&without(PhaseId::Pivot), &seen), [Note::TemporaryStays { node: NODE.into() }]);
    assert_eq!(lint(&without(PhaseId::Temporary), &seen)[0], Note::AppliesWithoutApi);
    let blind = Observed { nodes: BTreeMap::new(), ..seen };
    assert!(lint(&good, &blind).iter().any(|note| matches!(note, Note::ActsOnUnknown { .. })));
}
