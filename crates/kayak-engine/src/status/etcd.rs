//! etcd, as its members tell it.

use std::collections::BTreeMap;

use kayak_core::cluster::Cluster;
use kayak_core::node::MemberStatus;
use serde::Serialize;

use super::ask::Answers;

/// How etcd is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EtcdReport {
    /// The leader's node, as most members say, or its id if nobody knows its name.
    pub leader: Option<String>,
    /// Its members.
    pub members: Vec<MemberReport>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberReport {
    /// Its node; its id, if it has joined and not said its name yet.
    pub name: String,
    /// Its id, where it or another member told.
    pub id: Option<String>,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it has no vote yet.
    pub learner: Option<bool>,
    /// Whether it serves reads that the majority agrees to.
    pub healthy: Option<bool>,
    /// The last entry of the log that it has.
    pub raft_index: Option<u64>,
    /// How many entries the leader has that it has not. They were not asked in the same moment.
    pub lag: Option<u64>,
    /// Bytes of its database.
    pub db_size: Option<u64>,
    /// Why it is not healthy, or why that is not known.
    pub because: Option<String>,
}

impl EtcdReport {
    pub(super) fn settled(&self) -> Self {
        let settled = |member: &MemberReport| MemberReport {
            raft_index: None,
            lag: None,
            db_size: None,
            ..member.clone()
        };
        Self { leader: self.leader.clone(), members: self.members.iter().map(settled).collect() }
    }
}

pub(super) fn report(cluster: &Cluster, answers: &Answers) -> EtcdReport {
    let told: BTreeMap<&str, Result<&MemberStatus, String>> =
        cluster.controllers().map(|node| (node.name.as_str(), told(&node.name, answers))).collect();
    let known: Vec<&MemberStatus> = told.values().filter_map(|told| told.as_ref().ok().copied()).collect();
    let leader = leader(&known);
    let name = |id: &str| {
        let own = told.iter().find(|(_, told)| matches!(told, Ok(it) if it.id == id)).map(|(name, _)| *name);
        let listed = known.iter().flat_map(|it| &it.members).find(|it| it.id == id && !it.name.is_empty());
        own.or(listed.map(|it| it.name.as_str())).unwrap_or(id).to_owned()
    };
    let ahead = known.iter().find(|it| Some(it.id.as_str()) == leader).map(|it| it.raft_index);
    let mut members: Vec<_> = told
        .iter()
        .map(|(node, told)| match told {
            // It does not answer its agent.
            Ok(status) if status.id.is_empty() => {
                let because = status.because.as_deref().unwrap_or("it does not answer");
                MemberReport { healthy: Some(false), ..hearsay(node, because, &known, leader) }
            }
            Ok(status) => MemberReport {
                name: (*node).to_owned(),
                id: Some(status.id.clone()),
                leader: leader == Some(status.id.as_str()),
                learner: Some(status.learner),
                healthy: Some(status.healthy),
                raft_index: Some(status.raft_index),
                lag: ahead.map(|ahead| ahead.saturating_sub(status.raft_index)),
                db_size: Some(status.db_size),
                because: status.because.clone(),
            },
            Err(because) => hearsay(node, because, &known, leader),
        })
        .collect();
    // Whoever others count among the members, and no controller is.
    for member in known.iter().flat_map(|status| &status.members) {
        let name = name(&member.id);
        if members.iter().all(|known| known.name != name && known.id.as_ref() != Some(&member.id)) {
            members.push(hearsay(&name, "it is no controller of the cluster", &known, leader));
        }
    }
    EtcdReport { leader: leader.map(name), members }
}

fn told<'a>(node: &str, answers: &'a Answers) -> Result<&'a MemberStatus, String> {
    let member = answers.agent(node)?.etcd.as_ref();
    member.ok_or_else(|| "the agent has not asked it yet".to_owned())
}

/// The leader whom most members name: one that was cut off may go on naming an old one.
fn leader<'a>(known: &[&'a MemberStatus]) -> Option<&'a str> {
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for leader in known.iter().filter_map(|status| status.leader.as_deref()) {
        *votes.entry(leader).or_default() += 1;
    }
    votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(leader, _)| leader)
}

/// A member that told nothing itself, by what the others say.
fn hearsay(name: &str, because: &str, known: &[&MemberStatus], leader: Option<&str>) -> MemberReport {
    let all = known.iter().flat_map(|status| &status.members);
    let listed = all.into_iter().find(|member| member.name == name || member.id == name);
    MemberReport {
        name: name.to_owned(),
        id: listed.map(|member| member.id.clone()),
        leader: leader.is_some() && listed.map(|member| member.id.as_str()) == leader,
        learner: listed.map(|member| member.learner),
        healthy: None,
        raft_index: None,
        lag: None,
        db_size: None,
        because: Some(because.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use kayak_core::node::{Member, Status};
    use kayak_core::plan::Fact;

    use super::super::ask::tests::answers;
    use super::super::tests::cluster;
    use super::*;

    fn member(id: &str, leader: &str, raft_index: u64) -> Status {
        let listed = |id: &str, name: &str| Member { id: id.into(), name: name.into(), learner: id == "c" };
        let members =
            vec![listed("a", "controller-0"), listed("b", "controller-1"), listed("c", "controller-2")];
        let leader = (!leader.is_empty()).then(|| leader.to_owned());
        let etcd = MemberStatus {
            healthy: true,
            id: id.into(),
            learner: id == "c",
            leader,
            raft_index,
            db_size: 1,
            members,
            ..MemberStatus::default()
        };
        Status { etcd: Some(etcd), ..Status::default() }
    }

    #[test]
    fn members_lag_behind_the_leader_that_most_name() {
        let answers = answers(&[
            ("controller-0", member("a", "a", 90)),
            ("controller-1", member("b", "b", 100)),
            ("controller-2", member("c", "b", 70)),
        ]);
        let report = report(&cluster(3, 0), &answers);
        assert_eq!(report.leader.as_deref(), Some("controller-1"));
        let rows: Vec<_> = report.members.iter().map(|it| (it.leader, it.learner, it.lag)).collect();
        assert_eq!(
            rows,
            [(false, Some(false), Some(10)), (true, Some(false), Some(0)), (false, Some(true), Some(30))]
        );
    }

    #[test]
    fn who_tells_nothing_is_known_by_the_others() {
        let because = Some("nobody listens".to_owned());
        let dead = MemberStatus { because, ..MemberStatus::default() };
        let dead = Status { etcd: Some(dead), ..Status::default() };
        let mut answers = answers(&[
            ("controller-0", member("a", "c", 90)),
            ("controller-1", dead),
            ("controller-2", Status::default()),
        ]);
        answers.nodes.get_mut("controller-2").unwrap().look = Fact::Unknown("it is frozen".into());
        let told = report(&cluster(3, 0), &answers);
        assert_eq!(told.leader.as_deref(), Some("controller-2"));
        let [own, other, frozen] = told.members.as_slice() else { panic!("{told:?}") };
        assert_eq!((own.lag, own.healthy), (None, Some(true)));
        assert_eq!((other.healthy, other.raft_index, other.learner), (Some(false), None, Some(false)));
        assert_eq!((other.id.as_deref(), other.because.as_deref()), (Some("b"), Some("nobody listens")));
        assert_eq!((frozen.leader, frozen.healthy, frozen.raft_index), (true, None, None));
        assert_eq!((frozen.id.as_deref(), frozen.because.as_deref()), (Some("c"), Some("it is frozen")));
    }

    #[test]
    fn a_member_without_a_controller_is_listed() {
        let mut status = member("a", "a", 90);
        let others = &mut status.etcd.as_mut().unwrap().members;
        others.truncate(1);
        others.push(Member { id: "f".into(), name: String::new(), learner: true });
        let told = report(&cluster(1, 0), &answers(&[("controller-0", status)]));
        assert_eq!(told.members.len(), 2);
        assert_eq!((told.members[1].name.as_str(), told.members[1].learner), ("f", Some(true)));
    }
}
