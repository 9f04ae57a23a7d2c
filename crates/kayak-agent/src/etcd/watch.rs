//! What the agent does for its node's member: it tells how it is, and gets it its vote.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kayak_core::chain::chain;
use kayak_core::node::{EtcdClient, Member, MemberStatus};
use rustls_pki_types::ServerName;

use super::api::{self, Status};
use super::growth::promotion_is_due;
use super::{Access, Client, Controllers, Place};
use crate::status::Board;
use crate::tls::Identity;

const SUBJECT: &str = "etcd";
/// While it starts or learns: others wait for it.
const EAGER: Duration = Duration::from_millis(250);
/// Each answer that it is not well is a line in etcd's log.
const UNWELL: Duration = Duration::from_secs(1);
const STEADY: Duration = Duration::from_millis(2_500);
/// The log grows all the time, and everybody who follows the status wakes up when it is told.
const TELL_NUMBERS_EVERY: Duration = Duration::from_secs(5);

/// Whose member is watched, and how it is reached.
pub(crate) struct Watch {
    pub(crate) node: String,
    pub(crate) address: SocketAddr,
    pub(crate) access: Access,
    pub(crate) place: Place,
}

impl Watch {
    pub(crate) fn new(node: &str, client: &EtcdClient) -> Self {
        let identity =
            Identity { cert: client.certificate_file.clone().into(), key: client.key_file.clone().into() };
        Self {
            node: node.into(),
            address: client.address,
            access: Access { ca: client.ca_file.clone().into(), identity },
            place: Place::of_node(),
        }
    }
}

/// Keeps the board up to date about the member, and has it promoted when it has learnt, for ever.
pub(crate) async fn run(watch: Watch, board: Board) {
    let name = ServerName::from(watch.address.ip());
    let mut own = Client::new(watch.address, name, watch.access.clone());
    let mut told = Told::default();
    let mut learns_since = None;
    loop {
        let status = match own.status().await {
            Ok(status) => {
                // Without its data it may only join again from now on.
                match watch.place.forbid_beginning() {
                    Ok(()) => board.mended(SUBJECT),
                    Err(error) => {
                        let because = chain(&error);
                        board.trouble(SUBJECT, &format!("etcd might begin another cluster: {because}."));
                    }
                }
                if status.learner {
                    let since = *learns_since.get_or_insert_with(Instant::now);
                    watch.learner(status, since.elapsed()).await
                } else {
                    learns_since = None;
                    voter(status, &mut own).await
                }
            }
            Err(error) => MemberStatus { because: Some(chain(&error)), ..MemberStatus::default() },
        };
        let pause = pause(&status);
        if told.take_in(&status, Instant::now()) {
            board.etcd(Some(status));
        }
        tokio::time::sleep(pause).await;
    }
}

async fn voter(status: Status, own: &mut Client) -> MemberStatus {
    let unready = own.unready().await;
    let (members, unknown) = match own.known_members().await {
        Ok(members) => (members, None),
        Err(error) => (Vec::new(), Some(format!("its members are unknown: {}", chain(&error)))),
    };
    let because = unready.unwrap_or_else(|error| Some(chain(&error))).or(unknown);
    member_status(&status, &members, because)
}

impl Watch {
    /// Has the member promoted when that is due: by one that votes, since a learner answers no such question.
    async fn learner(&self, status: Status, learning: Duration) -> MemberStatus {
        let id = status.header.member_id;
        let mut reasons = Vec::new();
        let mut members = Vec::new();
        let controllers = Controllers::read(&self.place.controllers).unwrap_or_else(|error| {
            reasons.push(chain(&error));
            Controllers::default()
        });
        for (name, mut voter) in controllers.others(&self.node, &self.access) {
            match voter.members().await {
                Ok(known) => members = known,
                Err(error) => {
                    reasons.push(format!("{name}: {}", chain(&error)));
                    continue;
                }
            }
            if !promotion_is_due(&members, &controllers, learning) {
                reasons.push("other controllers are expected to learn at the same time".into());
                break;
            }
            match voter.promote(id).await {
                Ok(_) => tracing::info!("the node's etcd member {id:x} has its vote"),
                Err(error) => reasons.push(format!("{name}: {}", chain(&error))),
            }
            break;
        }
        let because = format!("it learns and has no vote yet; {}", reasons.join("; "));
        member_status(&status, &members, Some(because.trim_end_matches("; ").to_owned()))
    }
}

fn member_status(status: &Status, members: &[api::Member], because: Option<String>) -> MemberStatus {
    let members = members.iter().map(|member| Member {
        id: hex(member.id),
        name: member.name.clone(),
        learner: member.learner,
    });
    MemberStatus {
        healthy: because.is_none(),
        because,
        id: hex(status.header.member_id),
        learner: status.learner,
        leader: (status.leader != 0).then(|| hex(status.leader)),
        raft_index: status.raft_index,
        raft_applied_index: status.raft_applied_index,
        db_size: status.db_size,
        members: members.collect(),
    }
}

fn hex(id: u64) -> String {
    format!("{id:x}")
}

fn pause(status: &MemberStatus) -> Duration {
    match status {
        status if status.id.is_empty() || status.learner => EAGER,
        MemberStatus { healthy: false, .. } => UNWELL,
        MemberStatus { healthy: true, .. } => STEADY,
    }
}

/// What was told, and when.
#[derive(Default)]
struct Told(Option<(MemberStatus, Instant)>);

impl Told {
    /// Returns whether this is to be told too.
    fn take_in(&mut self, status: &MemberStatus, now: Instant) -> bool {
        if let Some((told, at)) = &self.0
            && now.duration_since(*at) < TELL_NUMBERS_EVERY
            && without_numbers(told) == without_numbers(status)
        {
            return false;
        }
        self.0 = Some((status.clone(), now));
        true
    }
}

fn without_numbers(status: &MemberStatus) -> MemberStatus {
    MemberStatus { raft_index: 0, raft_applied_index: 0, db_size: 0, ..status.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_alone_are_told_now_and_then() {
        let start = Instant::now();
        let status = |raft_index, healthy| MemberStatus { raft_index, healthy, ..MemberStatus::default() };
        let mut told = Told::default();
        // Second, log, whether it is well; whether that is told.
        for (second, raft_index, healthy, expected) in [
            (0, 1, true, true),
            (4, 2, true, false),
            (5, 3, true, true),
            (6, 4, false, true),
            (7, 5, false, false),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(told.take_in(&status(raft_index, healthy), now), expected, "at {second} s");
        }
    }

    #[test]
    fn a_member_that_others_wait_for_is_asked_often() {
        let well = MemberStatus { id: "a".into(), healthy: true, ..MemberStatus::default() };
        let rows = [
            (MemberStatus::default(), EAGER),
            (MemberStatus { learner: true, healthy: false, ..well.clone() }, EAGER),
            (MemberStatus { healthy: false, ..well.clone() }, UNWELL),
            (well, STEADY),
        ];
        for (status, expected) in rows {
            assert_eq!(pause(&status), expected, "{status:?}");
        }
    }
}
