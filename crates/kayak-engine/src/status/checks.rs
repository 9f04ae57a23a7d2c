//! The named conditions, judged by what everybody told.

use kayak_core::cluster::Cluster;
use kayak_core::node::Status;
use kayak_core::object::ObjectId;
use kayak_core::plan::{Check, ContainerState, Fact};
use serde::Serialize;

use super::ask::{Answers, ApiAnswer};
use crate::check::{checkpoints_idle, member, self_hosted, temporary_gone, units_ready};
use crate::rollout::{Verdict, left_aside, node_ready, registered, rolled_out};

/// One condition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// Which one.
    pub check: Check,
    /// It in words.
    pub text: String,
    /// Whether it holds.
    pub holds: Option<bool>,
    /// Why it does not, or why that is not known.
    pub because: Option<String>,
}

pub(super) fn report(check: Check, cluster: &Cluster, answers: &Answers) -> CheckReport {
    let (holds, because) = match judge(&check, cluster, answers) {
        Ok(Verdict::Holds) => (Some(true), None),
        Ok(Verdict::NotYet(because)) => (Some(false), Some(because)),
        Err(because) => (None, Some(because)),
    };
    CheckReport { text: check.to_string(), check, holds, because }
}

/// Judges a condition, or says why nobody knows.
fn judge(check: &Check, cluster: &Cluster, answers: &Answers) -> Result<Verdict, String> {
    let agent = |node: &str, judge: &dyn Fn(&Status) -> Verdict| of_agent(answers, node, judge);
    match check {
        Check::UnitsReady(node) => agent(node, &units_ready),
        Check::Member(node) => agent(node, &member),
        Check::TemporaryGone(node) => agent(node, &temporary_gone),
        Check::CheckpointsIdle(node) => agent(node, &checkpoints_idle),
        Check::SelfHostedInstance { node, component } => {
            agent(node, &|status| self_hosted(status, component))
        }
        Check::Answers(component) => {
            let own = |status: &Status| self_hosted(status, component);
            anywhere(cluster.controllers().map(|node| of_agent(answers, &node.name, &own)))
        }
        Check::ApiServes => Ok(match answers.api().and_then(|api| api.ready.known()) {
            Ok(()) => Verdict::Holds,
            Err(because) => Verdict::NotYet(because),
        }),
        Check::RolledOut(id) => rolled_out_in(cluster, ready(answers)?, id),
        Check::Absent(id) => absent_from(ready(answers)?, id),
        Check::Registered(name) => Ok(registered(ready(answers)?.nodes.known()?.get(name))),
        Check::NodeReady(name) => Ok(node_ready(cluster, ready(answers)?.nodes.known()?.get(name))),
    }
}

fn of_agent(answers: &Answers, node: &str, judge: &dyn Fn(&Status) -> Verdict) -> Result<Verdict, String> {
    let state = answers.nodes.get(node).map(|node| &node.state);
    if let Some(Fact::Known(ContainerState::Absent | ContainerState::Stopped)) = state {
        return Ok(Verdict::NotYet("the node does not run".into()));
    }
    answers.agent(node).map(judge)
}

/// Whether it holds on one of them: what is not known of the others does not matter then.
fn anywhere(verdicts: impl Iterator<Item = Result<Verdict, String>>) -> Result<Verdict, String> {
    let mut best = Ok(Verdict::NotYet("there is no controller".into()));
    for verdict in verdicts {
        match (&best, verdict) {
            (_, Ok(Verdict::Holds)) => return Ok(Verdict::Holds),
            (Ok(_), verdict) => best = verdict,
            (Err(_), _) => {}
        }
    }
    best
}

/// What an API that is not ready tells may be old.
fn ready(answers: &Answers) -> Result<&ApiAnswer, String> {
    let api = answers.api()?;
    api.ready.known().map(|()| api)
}

fn rolled_out_in(cluster: &Cluster, api: &ApiAnswer, id: &ObjectId) -> Result<Verdict, String> {
    let kind = match id.kind.as_str() {
        "DaemonSet" => "DaemonSet",
        "Deployment" => "Deployment",
        other => return Err(format!("{other}s are not asked for")),
    };
    let workload = api.workloads.known()?.get(&(kind, id.name.clone()));
    let aside = left_aside(cluster, workload, api.nodes.known()?.values());
    Ok(rolled_out(id, workload, aside))
}

fn absent_from(api: &ApiAnswer, id: &ObjectId) -> Result<Verdict, String> {
    if (id.kind.as_str(), id.namespace.as_deref()) != ("Pod", Some("kube-system")) {
        return Err(format!("{}s are not asked for", id.kind));
    }
    let listed = api.pods.known()?.contains(&id.name);
    Ok(if listed { Verdict::NotYet("the API still lists it".into()) } else { Verdict::Holds })
}

#[cfg(test)]
mod tests {
    use kayak_core::node::{InstanceStatus, UnitStatus};
    use kayak_core::plan::temporary_mirrors;
    use serde_json::json;

    use super::super::ask::tests::answers;
    use super::super::tests::cluster;
    use super::*;

    fn status(scheduler_is_ready: bool) -> Status {
        let instance = InstanceStatus {
            uid: "1".into(),
            pod: "kube-scheduler-x".into(),
            address: [127, 64, 0, 1].into(),
            node: None,
            ready: scheduler_is_ready,
            because: None,
        };
        Status {
            units: [("kubelet".to_owned(), UnitStatus { ready: true, ..UnitStatus::default() })].into(),
            fronts: [("kube-scheduler".to_owned(), vec![instance])].into(),
            ..Status::default()
        }
    }

    fn holds(check: Check, answers: &Answers) -> (Option<bool>, Option<String>) {
        let report = report(check, &cluster(2, 0), answers);
        (report.holds, report.because)
    }

    #[test]
    fn what_a_stopped_node_lacks_is_known_and_what_a_silent_one_has_is_not() {
        let mut answers = answers(&[("controller-0", status(true)), ("controller-1", status(true))]);
        let check = || Check::UnitsReady("controller-1".into());
        assert_eq!(holds(check(), &answers).0, Some(true));
        let node = answers.nodes.get_mut("controller-1").unwrap();
        node.look = Fact::Unknown("it said nothing".into());
        assert_eq!(holds(check(), &answers), (None, Some("it said nothing".into())));
        answers.nodes.get_mut("controller-1").unwrap().state = Fact::Known(ContainerState::Stopped);
        assert_eq!(holds(check(), &answers), (Some(false), Some("the node does not run".into())));
    }

    #[test]
    fn one_instance_that_answers_is_enough() {
        let check = || Check::Answers("kube-scheduler".into());
        let mut one = answers(&[("controller-0", status(false)), ("controller-1", status(true))]);
        assert_eq!(holds(check(), &one).0, Some(true));
        one.nodes.get_mut("controller-1").unwrap().look = Fact::Unknown("it said nothing".into());
        assert_eq!(holds(check(), &one), (None, Some("it said nothing".into())));
        let none = answers(&[("controller-0", status(false)), ("controller-1", status(false))]);
        assert_eq!(holds(check(), &none).0, Some(false));
    }

    #[test]
    fn an_api_that_is_not_ready_is_not_believed() {
        let mut answers = answers(&[("controller-0", status(true))]);
        let mirror = || Check::Absent(temporary_mirrors("controller-0").next().unwrap());
        assert_eq!(holds(mirror(), &answers).0, Some(true));
        let Fact::Known(nodes) = &mut answers.api.nodes else { panic!() };
        let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        nodes.insert("controller-0".into(), ready);
        assert_eq!(holds(Check::NodeReady("controller-0".into()), &answers).0, Some(true));
        assert_eq!(holds(Check::NodeReady("controller-1".into()), &answers).0, Some(false));
        answers.api.ready = Fact::Unknown("the API said nothing within 3 s".into());
        assert_eq!(holds(Check::ApiServes, &answers).0, Some(false));
        assert_eq!(holds(mirror(), &answers), (None, Some("the API said nothing within 3 s".into())));
    }
}
