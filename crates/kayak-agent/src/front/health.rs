//! How instances are asked, and what their answers say: pure, so that time can be made up.

use std::time::{Duration, Instant};

/// How an instance is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// The pause after it was ready.
    steady: Duration,
    /// The pause after it was not.
    eager: Duration,
    /// After how long of not being ready it is asked as seldom as a ready one.
    tires: Duration,
    /// A ready one that takes longer to answer gets no new connections until it does.
    pub(super) doubt: Duration,
    /// An answer that takes longer is none.
    pub(super) patience: Duration,
    /// The same for one that is dead already: nothing depends on it.
    long_patience: Duration,
    /// Who gave no answer for as long is taken for dead.
    dead_after: Duration,
    /// Who fails for as long is worth no connection that could be elsewhere.
    failed_after: Duration,
    /// Whether it is a front, behind which more than one instance may stand, and which holds us while
    /// none of them is ready.
    pub(super) is_front: bool,
}

/// An instance of this node. The runtime tells when it ends, so that it only hangs if it is silent.
pub(super) const HERE: Manner = Manner {
    steady: Duration::from_millis(500),
    eager: Duration::from_millis(100),
    tires: Duration::MAX,
    doubt: Duration::from_secs(1),
    patience: Duration::from_secs(1),
    long_patience: Duration::from_secs(1),
    dead_after: Duration::from_secs(2),
    failed_after: Duration::from_secs(1),
    is_front: false,
};

/// The front of another node. Of a machine that is killed nothing is heard any more, and within 2 s of
/// its last answer its clients must be elsewhere: after `steady` it is asked, after `doubt` left, after
/// `patience` given up. All nodes ask all controllers, so that it must not be more often.
pub(super) const PEER: Manner = Manner {
    steady: Duration::from_millis(800),
    eager: Duration::from_millis(200),
    tires: Duration::from_secs(10),
    doubt: Duration::from_millis(800),
    patience: Duration::from_millis(1150),
    // Longer than one lost packet of a handshake costs.
    long_patience: Duration::from_secs(3),
    dead_after: Duration::from_millis(1150),
    // Its own agent closes them.
    failed_after: Duration::MAX,
    is_front: true,
};

/// How one probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200.
    Ready,
    /// Another status: it works, but wants no new connections. So does an instance that is
    /// starting, and one that is leaving and finishes what it has begun.
    NotReady(String),
    /// Another status, and not because it is leaving: its etcd is gone, say.
    Failing(String),
    /// It listens no more: it has ended, and its connections with it, or it finishes what it has begun.
    Refused(String),
    /// No answer.
    None(String),
}

/// What becomes of established connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Established {
    /// They stay.
    Kept,
    /// They are closed if another instance is ready, to which clients then come.
    Moved,
    /// They are closed.
    Closed,
}

/// What follows from a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Why it is given no new connections; nothing if it is ready.
    pub(super) because: Option<String>,
    pub(super) established: Established,
    /// When to probe again.
    pub(super) pause: Duration,
    /// How long that may then take.
    pub(super) patience: Duration,
}

/// What is remembered of an instance between probes.
#[derive(Debug)]
pub(super) struct Health {
    manner: Manner,
    silent_since: Option<Instant>,
    failing_since: Option<Instant>,
    unready_since: Option<Instant>,
}

impl Health {
    pub(super) fn new(manner: Manner) -> Self {
        Self { manner, silent_since: None, failing_since: None, unready_since: None }
    }

    /// Takes in the answer to a probe that was sent at `asked` and is judged at `now`.
    pub(super) fn judge(&mut self, answer: Answer, asked: Instant, now: Instant) -> Verdict {
        let Manner { steady, eager, tires, patience, long_patience, .. } = self.manner;
        let Manner { dead_after, failed_after, .. } = self.manner;
        let lasts = |since: &mut Option<Instant>, is_so: bool, long: Duration| {
            *since = if is_so { since.or(Some(asked)) } else { None };
            since.is_some_and(|since| now.duration_since(since) >= long)
        };
        let (because, is_silent, is_failing) = match answer {
            Answer::Ready => {
                *self = Self::new(self.manner);
                let established = Established::Kept;
                return Verdict { because: None, established, pause: steady, patience };
            }
            Answer::NotReady(because) | Answer::Refused(because) => (Some(because), false, false),
            Answer::Failing(because) => (Some(because), false, true),
            Answer::None(because) => (Some(because), true, false),
        };
        let is_tired = lasts(&mut self.unready_since, true, tires);
        let is_dead = lasts(&mut self.silent_since, is_silent, dead_after);
        let has_failed = lasts(&mut self.failing_since, is_failing, failed_after);
        let established = match (is_dead, has_failed) {
            (true, _) => Established::Closed,
            (false, true) => Established::Moved,
            (false, false) => Established::Kept,
        };
        let pause = if is_tired { steady } else { eager };
        Verdict { because, established, pause, patience: if is_dead { long_patience } else { patience } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Established::{Closed, Kept, Moved};

    /// Asked, judged, answer → ready, established connections, next pause in ms.
    type Row = (u64, u64, Answer, (bool, Established, u128));

    fn none() -> Answer {
        Answer::None("timed out".into())
    }

    fn leaving() -> Answer {
        Answer::NotReady("500".into())
    }

    fn judge(manner: Manner, rows: &[Row]) {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut health = Health::new(manner);
        for (asked, judged, answer, expected) in rows {
            let verdict = health.judge(answer.clone(), at(*asked), at(*judged));
            let ready = verdict.because.is_none();
            let pause = verdict.pause.as_millis();
            assert_eq!((ready, verdict.established, pause), *expected, "at {judged}");
        }
    }

    #[test]
    fn only_silence_for_a_while_closes_connections() {
        judge(
            HERE,
            &[
                (0, 10, Answer::Ready, (true, Kept, 500)),
                (510, 520, leaving(), (false, Kept, 100)),
                (9000, 9010, leaving(), (false, Kept, 100)),
                (9020, 9030, Answer::Refused("refused".into()), (false, Kept, 100)),
                (9110, 10110, none(), (false, Kept, 100)),
                (10210, 11000, leaving(), (false, Kept, 100)),
                (11100, 12100, none(), (false, Kept, 100)),
                (12200, 13200, none(), (false, Closed, 100)),
                (13300, 13310, Answer::Ready, (true, Kept, 500)),
                (13810, 14810, none(), (false, Kept, 100)),
            ],
        );
    }

    #[test]
    fn another_node_that_is_silent_is_given_up_at_once_and_then_asked_less_and_less() {
        judge(
            PEER,
            &[
                (0, 10, Answer::Ready, (true, Kept, 800)),
                // Refused: its agent may only be starting anew.
                (810, 811, none(), (false, Kept, 200)),
                (1011, 2161, none(), (false, Closed, 200)),
                (2361, 2362, Answer::Ready, (true, Kept, 800)),
                (3162, 4312, none(), (false, Closed, 200)),
                (13162, 13163, none(), (false, Closed, 800)),
                (14000, 14010, leaving(), (false, Kept, 800)),
                (15000, 15010, Answer::Ready, (true, Kept, 800)),
                (16000, 16010, leaving(), (false, Kept, 200)),
            ],
        );
    }

    #[test]
    fn one_that_fails_for_a_while_is_worth_no_connection() {
        let failing = || Answer::Failing("etcd".into());
        judge(
            HERE,
            &[
                (0, 10, Answer::Ready, (true, Kept, 500)),
                (510, 520, failing(), (false, Kept, 100)),
                (1400, 1410, leaving(), (false, Kept, 100)),
                (1600, 1610, failing(), (false, Kept, 100)),
                (2600, 2610, failing(), (false, Moved, 100)),
                (2700, 2710, Answer::Ready, (true, Kept, 500)),
                (3210, 3220, failing(), (false, Kept, 100)),
            ],
        );
        judge(PEER, &[(0, 10, failing(), (false, Kept, 200)), (9000, 9010, failing(), (false, Kept, 200))]);
    }

    #[test]
    fn who_is_dead_may_take_longer_to_answer() {
        let start = Instant::now();
        let mut health = Health::new(PEER);
        let dead = health.judge(none(), start, start + PEER.patience);
        assert_eq!(dead.patience, PEER.long_patience);
        let back = health.judge(Answer::Ready, start, start);
        assert_eq!(back.patience, PEER.patience);
    }

    #[test]
    fn a_killed_machine_is_left_and_given_up_within_two_seconds_of_its_last_answer() {
        let Manner { steady, doubt, patience, dead_after, .. } = PEER;
        assert!(doubt < patience && dead_after <= patience);
        assert!(steady + patience < Duration::from_secs(2));
    }
}
