//! What an instance's answers say about it: pure, so that time can be made up.

use std::time::{Duration, Instant};

/// An instance that gave no answer for as long is taken for dead.
const DEAD_AFTER: Duration = Duration::from_secs(2);
const EAGER: Duration = Duration::from_millis(100);
const STEADY: Duration = Duration::from_millis(500);

/// How one probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200.
    Ready,
    /// Another status: it works, but wants no new connections. So does an instance that is
    /// starting, and one that is leaving and finishes what it has begun.
    NotReady(String),
    /// No answer.
    None(String),
}

/// What follows from a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Why it is given no new connections; nothing if it is ready.
    pub(super) because: Option<String>,
    /// Whether its established connections are to be closed.
    pub(super) close: bool,
    /// When to probe again.
    pub(super) pause: Duration,
}

/// What is remembered of an instance between probes.
#[derive(Debug, Default)]
pub(super) struct Health {
    silent_since: Option<Instant>,
}

impl Health {
    /// Takes in the answer to a probe that was sent at `asked` and is judged at `now`.
    pub(super) fn judge(&mut self, answer: Answer, asked: Instant, now: Instant) -> Verdict {
        match answer {
            Answer::Ready => {
                self.silent_since = None;
                Verdict { because: None, close: false, pause: STEADY }
            }
            Answer::NotReady(because) => {
                self.silent_since = None;
                Verdict { because: Some(because), close: false, pause: EAGER }
            }
            Answer::None(because) => {
                let since = *self.silent_since.get_or_insert(asked);
                Verdict {
                    because: Some(because),
                    close: now.duration_since(since) >= DEAD_AFTER,
                    pause: EAGER,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_for_a_while_closes_connections() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let none = || Answer::None("timed out".into());
        let leaving = || Answer::NotReady("500".into());
        let mut health = Health::default();
        // (asked, judged, answer) → (ready, close, next pause in ms)
        let rows = [
            (0, 10, Answer::Ready, (true, false, 500)),
            (510, 520, leaving(), (false, false, 100)),
            (9000, 9010, leaving(), (false, false, 100)),
            (9110, 10110, none(), (false, false, 100)),
            (10210, 11000, leaving(), (false, false, 100)),
            (11100, 12100, none(), (false, false, 100)),
            (12200, 13200, none(), (false, true, 100)),
            (13300, 13310, Answer::Ready, (true, false, 500)),
            (13810, 14810, none(), (false, false, 100)),
        ];
        for (asked, judged, answer, expected) in rows {
            let verdict = health.judge(answer, at(asked), at(judged));
            let ready = verdict.because.is_none();
            let pause = verdict.pause.as_millis();
            assert_eq!((ready, verdict.close, pause), expected, "at {judged}");
        }
    }
}
