//! When a lease may be taken. No clock but the own counts, and only forward: a lease is free once it was
//! seen unchanged for as long as it lasts.

use std::time::Duration;

use tokio::time::Instant;

/// How long a lease lasts that is not renewed.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// How often it is renewed.
pub(super) const RENEW: Duration = Duration::from_secs(1);
/// When a holder gives up, counted from when it asked for what was granted last: so much earlier than
/// another one may take the lease, who counts from when that was seen.
pub(super) const GIVE_UP: Duration = Duration::from_millis(2500);
/// How often others look.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// The lease as it was seen last, and since when.
#[derive(Debug, Default)]
pub(super) struct Seen {
    version: String,
    since: Option<Instant>,
}

impl Seen {
    /// Whether the lease may be taken, which `holder` has in this version, or nobody.
    pub(super) fn is_free(&mut self, holder: Option<(&str, &str)>, me: &str, now: Instant) -> bool {
        let Some((holder, version)) = holder else { return true };
        if self.since.is_none() || self.version != version {
            *self = Self { version: version.to_owned(), since: Some(now) };
        }
        holder.is_empty() || holder == me || self.since.is_some_and(|since| since + LEASE <= now)
    }

    /// When to look next: as usual, or when the lease ends if that is earlier.
    pub(super) fn next_look(&self, looked: Instant) -> Instant {
        let usual = looked + LOOK;
        let end = self.since.map(|since| since + LEASE).filter(|end| *end > looked);
        end.map_or(usual, |end| end.min(usual))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_free_when_it_was_seen_unchanged_for_long_enough() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut seen = Seen::default();
        assert!(!seen.is_free(Some(("other", "1")), "me", at(0)));
        assert!(!seen.is_free(Some(("other", "1")), "me", at(2900)));
        assert!(!seen.is_free(Some(("other", "2")), "me", at(2950)), "it was renewed");
        assert!(!seen.is_free(Some(("other", "2")), "me", at(5900)));
        assert_eq!(seen.next_look(at(5900)), at(5950));
        assert!(seen.is_free(Some(("other", "2")), "me", at(5950)));
        assert_eq!(seen.next_look(at(5950)), at(6450), "taking it may fail");
    }

    #[test]
    fn nobodys_and_ones_own_is_free_at_once() {
        let mut seen = Seen::default();
        assert!(seen.is_free(None, "me", Instant::now()));
        assert!(seen.is_free(Some(("", "1")), "me", Instant::now()));
        assert!(seen.is_free(Some(("me", "2")), "me", Instant::now()));
    }

    #[test]
    fn a_holder_gives_up_before_anybody_may_take_the_lease() {
        // It asks at 0, and is granted at 0 at the earliest: who sees that counts from then on.
        assert!(GIVE_UP < LEASE && RENEW + Duration::from_secs(1) < GIVE_UP);
    }
}
