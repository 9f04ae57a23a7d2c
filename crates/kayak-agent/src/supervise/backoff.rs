//! How long to wait before a process is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);
/// Who ran as long did not fail at starting: its next end is a new story.
const SETTLED: Duration = Duration::from_secs(30);

/// Pauses that double with every quick end.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// Returns the pause after an end that came `ran` after the start.
    pub(crate) fn pause_after(&mut self, ran: Duration) -> Duration {
        if ran >= SETTLED {
            self.next = FIRST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_start_over_after_a_good_run() {
        let mut backoff = Backoff::default();
        let mut millis = |ran| backoff.pause_after(Duration::from_secs(ran)).as_millis();
        let pauses: Vec<_> = (0..7).map(|_| millis(1)).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(millis(30), 200);
        assert_eq!(millis(29), 400);
    }
}
