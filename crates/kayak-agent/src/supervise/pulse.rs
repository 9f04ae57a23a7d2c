//! What a unit's answers say about it: pure, so that time can be made up.

use std::time::{Duration, Instant};

/// While it starts: whoever waits for it should not wait for longer than it takes.
const EAGER: Duration = Duration::from_millis(50);
const STEADY: Duration = Duration::from_secs(1);
/// A machine with much to do may be late with an answer.
const NOT_READY_AFTER: Duration = Duration::from_secs(3);
/// One that is silent for as long will not recover by itself.
const HANGS_AFTER: Duration = Duration::from_mins(1);
/// A first start on a slow disk with many containers takes long, and would again.
const STARTS_WITHIN: Duration = Duration::from_mins(5);

/// What follows from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Why it is not ready; nothing if it is.
    pub(super) because: Option<String>,
    /// Whether it is to be ended.
    pub(super) hangs: bool,
    /// When to ask again.
    pub(super) pause: Duration,
}

/// What is remembered of a unit between questions.
#[derive(Debug)]
pub(super) struct Pulse {
    started: Instant,
    well_at: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, well_at: None }
    }

    /// Takes in an answer, or why there was none that is good.
    pub(super) fn judge(&mut self, answer: Result<(), String>, now: Instant) -> Verdict {
        match (answer, self.well_at) {
            (Ok(()), _) => {
                self.well_at = Some(now);
                Verdict { because: None, hangs: false, pause: STEADY }
            }
            (Err(why), None) => Verdict {
                because: Some(format!("it is starting: {why}")),
                hangs: now.duration_since(self.started) >= STARTS_WITHIN,
                pause: EAGER,
            },
            (Err(why), Some(well_at)) => {
                let silent = now.duration_since(well_at);
                Verdict {
                    because: (silent >= NOT_READY_AFTER).then(|| format!("it is not well: {why}")),
                    hangs: silent >= HANGS_AFTER,
                    pause: STEADY,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_ready_while_it_answers_and_ended_when_it_does_not_for_long() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        // Second, whether it answers; whether it is ready, whether it hangs.
        let story = [
            (0, false, false, false),
            (299, false, false, false),
            (300, false, false, true),
            (301, true, true, false),
            (303, false, true, false),
            (304, false, false, false),
            (360, false, false, false),
            (361, false, false, true),
            (362, true, true, false),
            (364, false, true, false),
        ];
        for (second, answers, ready, hangs) in story {
            let answer = if answers { Ok(()) } else { Err("no answer".to_owned()) };
            let verdict = pulse.judge(answer, start + Duration::from_secs(second));
            assert_eq!((verdict.because.is_none(), verdict.hangs), (ready, hangs), "at {second} s");
        }
    }

    #[test]
    fn a_unit_that_starts_is_asked_often() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert_eq!(pulse.judge(Err("no answer".into()), start).pause, EAGER);
        assert_eq!(pulse.judge(Ok(()), start).pause, STEADY);
    }
}
