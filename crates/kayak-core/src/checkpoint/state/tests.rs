use super::*;

const SECOND: Duration = Duration::from_secs(1);
const NEEDS: [Need; 2] = [Need::Api, Need::Leader];
const STATES: [State; 3] = [State::Empty, State::Kept, State::Active];
const OWN: [Own; 5] =
    [Own::Unknown, Own::Missing, Own::Coming, Own::Serving { kept: false }, Own::Serving { kept: true }];
const ELSEWHERE: [Elsewhere; 3] = [Elsewhere::Unknown, Elsewhere::Nobody, Elsewhere::Somebody];

/// Every state under every condition, as often as there are turning points in time.
fn everything() -> impl Iterator<Item = (Need, State, Seen, Lasting)> {
    let flags = [false, true];
    let times = [0, 2, 3, 9, 10, 24, 25, 59, 60].map(Duration::from_secs);
    let mut all = Vec::new();
    for need in NEEDS {
        for state in STATES {
            for own in OWN {
                for elsewhere in ELSEWHERE {
                    for (copy_serves, able, spare) in
                        flags.iter().flat_map(|a| flags.iter().flat_map(move |b| flags.map(|c| (*a, *b, c))))
                    {
                        for time in times {
                            let seen = Seen { own, copy_serves, elsewhere, able, spare };
                            all.push((need, state, seen, Lasting { missed: time, steady: time }));
                        }
                    }
                }
            }
        }
    }
    all.into_iter()
}

/// Own instance, elsewhere, seconds; what is done in each state: empty, kept, active.
type Row = (Own, Elsewhere, u64, [Action; 3]);

fn assert_rows(need: Need, rows: &[Row]) {
    for (own, elsewhere, seconds, wanted) in rows {
        let seen = Seen { own: *own, copy_serves: false, elsewhere: *elsewhere, able: true, spare: true };
        let time = Duration::from_secs(*seconds);
        let lasting = Lasting { missed: time, steady: time };
        let done = STATES.map(|state| decide(need, state, &seen, &lasting));
        assert_eq!(done, *wanted, "{need:?}, {own:?}, {elsewhere:?} for {seconds} s");
    }
}

#[test]
fn an_api_server_is_started_where_it_is_missed_and_goes_when_its_successor_serves() {
    use Action::{Keep, Place, Switch, Wait, Withdraw};
    use Elsewhere::{Nobody, Somebody, Unknown};
    assert_rows(
        Need::Api,
        &[
            (Own::Unknown, Nobody, 60, [Wait, Wait, Wait]),
            (Own::Missing, Nobody, 2, [Wait, Wait, Wait]),
            (Own::Missing, Nobody, 3, [Wait, Place, Wait]),
            (Own::Missing, Nobody, 60, [Wait, Place, Switch]),
            (Own::Missing, Somebody, 60, [Wait, Wait, Wait]),
            (Own::Missing, Unknown, 60, [Wait, Wait, Wait]),
            (Own::Coming, Nobody, 9, [Wait, Wait, Wait]),
            (Own::Coming, Nobody, 10, [Wait, Place, Wait]),
            (Own::Coming, Nobody, 60, [Wait, Place, Switch]),
            (Own::Coming, Somebody, 60, [Wait, Wait, Wait]),
            (Own::Serving { kept: false }, Nobody, 2, [Wait, Wait, Wait]),
            (Own::Serving { kept: false }, Nobody, 3, [Keep, Keep, Keep]),
            (Own::Serving { kept: false }, Unknown, 3, [Keep, Keep, Keep]),
            (Own::Serving { kept: true }, Nobody, 2, [Wait, Wait, Wait]),
            (Own::Serving { kept: true }, Nobody, 3, [Wait, Wait, Withdraw]),
            (Own::Serving { kept: true }, Somebody, 3, [Wait, Wait, Withdraw]),
        ],
    );
}

#[test]
fn a_leader_is_started_where_nobody_leads_and_goes_when_somebody_else_does() {
    use Action::{Keep, Place, Switch, Wait, Withdraw};
    use Elsewhere::{Nobody, Somebody, Unknown};
    assert_rows(
        Need::Leader,
        &[
            (Own::Unknown, Somebody, 60, [Wait, Wait, Wait]),
            (Own::Missing, Nobody, 3, [Wait, Place, Wait]),
            (Own::Missing, Unknown, 60, [Wait, Wait, Wait]),
            (Own::Missing, Somebody, 0, [Wait, Wait, Withdraw]),
            (Own::Coming, Nobody, 24, [Wait, Wait, Wait]),
            (Own::Coming, Nobody, 25, [Wait, Place, Wait]),
            (Own::Coming, Nobody, 60, [Wait, Place, Switch]),
            (Own::Coming, Somebody, 0, [Wait, Wait, Withdraw]),
            (Own::Serving { kept: false }, Somebody, 3, [Keep, Keep, Keep]),
            (Own::Serving { kept: true }, Somebody, 3, [Wait, Wait, Withdraw]),
        ],
    );
}

#[test]
fn nothing_is_done_on_what_is_not_known() {
    for (need, state, seen, lasting) in everything() {
        let done = decide(need, state, &seen, &lasting);
        if seen.own == Own::Unknown {
            assert_eq!(done, Action::Wait, "{need:?} {state:?} {seen:?}");
        }
        if seen.elsewhere == Elsewhere::Unknown {
            assert!(!matches!(done, Action::Place | Action::Switch), "{need:?} {state:?} {seen:?}");
        }
    }
}

#[test]
fn only_what_has_a_successor_is_withdrawn_and_only_what_was_healthy_is_kept() {
    for (need, state, seen, lasting) in everything() {
        let own_serves = matches!(seen.own, Own::Serving { .. }) && lasting.steady >= STEADY;
        match decide(need, state, &seen, &lasting) {
            Action::Withdraw => {
                let led = need == Need::Leader && seen.elsewhere == Elsewhere::Somebody;
                assert!(state == State::Active && (own_serves || led), "{need:?} {state:?} {seen:?}");
            }
            Action::Keep => assert!(own_serves, "{need:?} {state:?} {seen:?}"),
            Action::Place => {
                assert!(state == State::Kept && !own_serves && !seen.copy_serves, "{need:?} {seen:?}");
            }
            Action::Switch => assert!(state == State::Active && seen.spare && !seen.copy_serves && seen.able),
            Action::Wait => {}
        }
    }
}

#[test]
fn what_lacks_etcd_is_started_late_but_is() {
    let seen = Seen {
        own: Own::Missing,
        copy_serves: false,
        elsewhere: Elsewhere::Nobody,
        able: false,
        spare: false,
    };
    let at = |missed| decide(Need::Api, State::Kept, &seen, &Lasting { missed, steady: Duration::ZERO });
    assert_eq!(at(UNABLE.saturating_sub(SECOND)), Action::Wait);
    assert_eq!(at(UNABLE), Action::Place);
}

#[test]
fn at_boot_only_the_api_server_is_started() {
    let placed = |need| STATES.map(|state| is_placed_at_boot(need, state));
    assert_eq!(placed(Need::Api), [false, true, true]);
    assert_eq!(placed(Need::Leader), [false, false, false]);
}

#[test]
fn what_is_not_known_neither_begins_nor_ends_anything() {
    let mut memory = Memory::default();
    let seen = |own, elsewhere| Seen { own, copy_serves: false, elsewhere, able: true, spare: false };
    let mut see = |own, elsewhere, now: u64| memory.see(&seen(own, elsewhere), Duration::from_secs(now));
    assert_eq!(see(Own::Missing, Elsewhere::Nobody, 5).missed, Duration::ZERO);
    assert_eq!(see(Own::Unknown, Elsewhere::Nobody, 7).missed, 2 * SECOND);
    assert_eq!(see(Own::Missing, Elsewhere::Unknown, 8).missed, 3 * SECOND);
    assert_eq!(see(Own::Missing, Elsewhere::Somebody, 9).missed, Duration::ZERO);
    assert_eq!(see(Own::Missing, Elsewhere::Unknown, 10).missed, Duration::ZERO);
    assert_eq!(see(Own::Serving { kept: false }, Elsewhere::Nobody, 11).steady, Duration::ZERO);
    assert_eq!(see(Own::Unknown, Elsewhere::Nobody, 12).steady, SECOND);
    assert_eq!(see(Own::Serving { kept: false }, Elsewhere::Nobody, 14).steady, 3 * SECOND);
    assert_eq!(see(Own::Coming, Elsewhere::Nobody, 15), Lasting::default());
}

#[test]
fn a_leader_is_believed_when_it_is_seen_to_renew_its_lease() {
    let mut lease = LeaseMemory::default();
    let mut see = |holder, renewal, now| lease.see("cp-1", holder, renewal, Duration::from_secs(now));
    assert_eq!(see(Some("cp-2_a"), "1", 0), Elsewhere::Unknown, "it may be dead");
    assert_eq!(see(Some("cp-2_a"), "1", 3), Elsewhere::Unknown);
    assert_eq!(see(Some("cp-2_a"), "1", 4), Elsewhere::Nobody);
    assert_eq!(see(Some("cp-2_a"), "2", 5), Elsewhere::Somebody);
    assert_eq!(see(Some("cp-2_a"), "2", 16), Elsewhere::Somebody);
    assert_eq!(see(Some("cp-2_a"), "2", 17), Elsewhere::Nobody);
    assert_eq!(see(Some("cp-1_b"), "3", 18), Elsewhere::Nobody, "that is here");
    assert_eq!(see(Some(""), "4", 19), Elsewhere::Nobody);
    assert_eq!(see(None, "", 20), Elsewhere::Nobody);
    assert_eq!(see(Some("cp-10_b"), "5", 21), Elsewhere::Unknown, "the first word of a new one");
    assert_eq!(see(Some("cp-10_b"), "6", 22), Elsewhere::Somebody);
}
