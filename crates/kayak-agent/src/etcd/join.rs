//! How etcd starts, and how a member without data comes into a cluster that is there: pure.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Controllers;
use super::api::Member;
use super::growth::complete;
use super::place::Disk;

/// etcd compares the members that it is told of with those there are, and ends when one was added between:
/// whoever comes at the same time should be in the list.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// How etcd starts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the data that it has.
    Resume,
    /// As the first member of a new cluster.
    Begin,
    /// As a new member of the cluster that is there.
    Join,
}

/// Decides how etcd starts. Whoever has no data and no leave to begin joins, whatever happened to its data.
pub(crate) fn start(disk: Disk) -> Start {
    match disk {
        Disk { data: true, .. } => Start::Resume,
        Disk { data: false, bootstrap: true } => Start::Begin,
        Disk { data: false, bootstrap: false } => Start::Join,
    }
}

/// What brings a member without data further.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Remove the member of this id: it is this one as it was before it lost its data, and a log that is
    /// empty now would contradict what the others know of it.
    Remove(u64),
    /// Add this one.
    Add,
    /// Look again in a moment: others are coming too.
    Wait,
    /// Start with this value of `--initial-cluster`.
    Enter(String),
}

/// Decides what the member of `me` does next, being told the members there are; it has `waited` for others.
pub(crate) fn step(me: &str, members: &[Member], controllers: &Controllers, waited: Duration) -> Step {
    if let Some(lost) = members.iter().find(|member| member.name == me) {
        return Step::Remove(lost.id);
    }
    // Added and not yet started; also if this one was cut off between the two.
    let Some(mine) = members.iter().find(|member| member.is_of(me)) else {
        return Step::Add;
    };
    if waited < SETTLES_WITHIN && !complete(members, controllers) {
        return Step::Wait;
    }
    Step::Enter(initial_cluster(me, mine.id, members))
}

/// etcd compares how many there are and their URLs, and looks for its own name. Those that have not started
/// have none, but need one here.
fn initial_cluster(me: &str, mine: u64, members: &[Member]) -> String {
    let mut taken = BTreeSet::from([me]);
    let mut list = Vec::new();
    for member in members {
        let name = if member.id == mine {
            me.to_owned()
        } else if !member.name.is_empty() && taken.insert(&member.name) {
            member.name.clone()
        } else {
            format!("{:x}", member.id)
        };
        list.extend(member.peer_urls.iter().map(|url| format!("{name}={url}")));
    }
    list.join(",")
}

#[cfg(test)]
pub(super) mod tests {
    use kayak_core::component::etcd::peer_url;

    use super::*;

    fn member(node: &str, name: &str, learner: bool) -> Member {
        let id = node.bytes().fold(0, |id, byte| id << 8 | u64::from(byte));
        Member { id, name: name.into(), peer_urls: vec![peer_url(node)], learner }
    }

    /// A member that has been added and not started.
    pub(in super::super) fn learner(node: &str) -> Member {
        member(node, "", true)
    }

    /// A learner that has started.
    pub(in super::super) fn started(node: &str) -> Member {
        member(node, node, true)
    }

    pub(in super::super) fn voter(node: &str) -> Member {
        member(node, node, false)
    }

    #[test]
    fn a_new_cluster_begins_only_where_that_is_allowed() {
        for (data, bootstrap, expected) in [
            (true, false, Start::Resume),
            (true, true, Start::Resume),
            (false, true, Start::Begin),
            (false, false, Start::Join),
        ] {
            assert_eq!(start(Disk { data, bootstrap }), expected);
        }
    }

    #[test]
    fn a_member_without_data_comes_into_the_cluster() {
        let enter = |list: &str| Step::Enter(list.into());
        let (a, b) = ("a=https://a:2380", "b=https://b:2380");
        let rows = [
            ("it is new", vec![voter("a")], 0, Step::Add),
            ("it was added, another is to come", vec![voter("a"), learner("b")], 1, Step::Wait),
            ("none came", vec![voter("a"), learner("b")], 2, enter(&format!("{a},{b}"))),
            (
                "another came",
                vec![voter("a"), learner("b"), learner("c")],
                0,
                enter(&format!("{a},{b},63=https://c:2380")),
            ),
            (
                "another came, and has started",
                vec![voter("a"), learner("b"), started("c")],
                0,
                enter(&format!("{a},{b},c=https://c:2380")),
            ),
            ("it lost its data", vec![voter("a"), voter("b"), voter("c")], 0, Step::Remove(98)),
            ("it lost its data while it learned", vec![voter("a"), started("b")], 9, Step::Remove(98)),
            ("it lost its data, and was removed", vec![voter("a"), voter("c")], 0, Step::Add),
            (
                "it lost its data, and was added again",
                vec![voter("a"), learner("b"), voter("c")],
                0,
                enter(&format!("{a},{b},c=https://c:2380")),
            ),
        ];
        let controllers = Controllers::from(["a", "b", "c"]);
        for (why, members, seconds, expected) in rows {
            let waited = Duration::from_secs(seconds);
            assert_eq!(step("b", &members, &controllers, waited), expected, "{why}");
        }
    }

    #[test]
    fn every_member_has_a_name_of_its_own_in_the_list() {
        let twice = Member { id: 0xb0b, peer_urls: vec![peer_url("x")], ..voter("a") };
        let members = [voter("a"), twice, learner("b")];
        let list = initial_cluster("b", members[2].id, &members);
        // Of the two `a` etcd would make one with two URLs.
        assert_eq!(list, "a=https://a:2380,b0b=https://x:2380,b=https://b:2380");
    }
}
