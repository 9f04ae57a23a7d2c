//! Whether other members are still to come: etcd takes no further one for 5 s after it was given a voter, so
//! that those who come together learn together, and vote after that.

use std::time::Duration;

use kayak_core::component::etcd::MAX_LEARNERS;

use super::Controllers;
use super::api::Member;

/// How long a member that learns waits for the others: one that is late has to wait itself, but a node may
/// be gone.
const LEARNS_FOR: Duration = Duration::from_secs(15);

/// Whether all controllers have a member, or no more can be added now.
pub(super) fn complete(members: &[Member], controllers: &Controllers) -> bool {
    let learners = members.iter().filter(|member| member.learner).count();
    let there = |name: &str| members.iter().any(|member| member.is_of(name));
    learners >= MAX_LEARNERS || controllers.names().all(there)
}

/// Whether a member that has been learning for so long should get its vote.
pub(super) fn promotion_is_due(members: &[Member], controllers: &Controllers, learning: Duration) -> bool {
    learning >= LEARNS_FOR || complete(members, controllers)
}

#[cfg(test)]
mod tests {
    use super::super::join::tests::{learner, started, voter};
    use super::*;

    #[test]
    fn members_that_come_together_learn_together() {
        let three = Controllers::from(["a", "b", "c"]);
        let rows = [
            // One is still to come.
            (vec![voter("a"), started("b")], 14, false),
            (vec![voter("a"), started("b")], 15, true),
            (vec![voter("a"), started("b"), learner("c")], 0, true),
            (vec![voter("a"), started("b"), voter("c")], 0, true),
            // Somebody's own: no more can be added.
            (vec![voter("a"), started("b"), started("x")], 0, true),
        ];
        for (members, seconds, due) in rows {
            let learning = Duration::from_secs(seconds);
            assert_eq!(promotion_is_due(&members, &three, learning), due, "{members:?} after {seconds} s");
        }
        assert!(promotion_is_due(&[voter("a"), started("b")], &Controllers::default(), Duration::ZERO));
    }
}
