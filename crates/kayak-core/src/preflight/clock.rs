//! Whether the clock can be believed: certificates are valid from a time to a time.

use super::{Clock, Findings};

/// 1 January 2026, before what the cluster runs was released.
const RELEASED: i64 = 1_767_225_600;
/// How far a clock may have been set back without harm: certificates begin somewhat earlier.
const SLACK: i64 = 60;

pub(super) fn judge(clock: &Clock, found: &mut Findings) {
    if clock.now < RELEASED {
        found.error(
            "clock-wrong",
            format!("the clock is at least {} behind", span(RELEASED - clock.now)),
            "it shows a time before this kayak was made, and certificates issued now would not be valid",
            "set it, for instance by an NTP client",
        );
    } else if let Some(Some((what, time))) = found.known("the times of the cluster's files", &clock.newest)
        && *time > clock.now + SLACK
    {
        found.error(
            "clock-behind",
            format!("the clock is {} behind {what}", span(time - clock.now)),
            "it was set back since, or the other time was wrong: certificates from then are not valid yet",
            "set the clock; if it is right now, remove the cluster and make it anew",
        );
    }
    if found.known("whether the clock is synchronised", &clock.synchronised) == Some(&false) {
        found.warning(
            "clock-not-synchronised",
            "the machine's NTP client has not found the time yet".into(),
            "when the clock jumps, leases and certificates run out early or late",
            "wait for it, or see `timedatectl status`",
        );
    }
}

/// A time span, roughly.
fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        172_800.. => format!("{} days", seconds / 86_400),
    }
}
