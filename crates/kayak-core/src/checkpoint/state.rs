//! When a checkpoint is made, started and taken back: pure, so that time and the world can be made up.
//!
//! ```text
//!          seen healthy            missed here, and everywhere
//!  Empty ───── Keep ─────▶ Kept ─────────── Place ───────────▶ Active
//!                           ▲                                    │ Switch: another generation
//!                           └── Withdraw: its successor serves ──┘
//! ```
//!
//! Nothing is done on what is not known. A checkpoint is withdrawn when its successor serves, and never because
//! some time went by; time only says when to start one, and one too many does no harm.

use std::time::Duration;

/// What a component is missed without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The API itself: it is missed when there is none.
    Api,
    /// One of which one instance leads: it is missed when there is an API and nobody leads.
    Leader,
}

/// What the node holds of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No generation that can be used.
    Empty,
    /// A generation.
    Kept,
    /// A generation, and its manifest is given to the kubelet.
    Active,
}

/// The node's own instance, which is not the checkpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// The runtime could not be asked.
    Unknown,
    /// None runs, and none is known to come.
    Missing,
    /// One runs and does not serve, or the API says that one is to run here.
    Coming,
    /// One serves; `kept` if a generation was made of it as it was started last.
    Serving {
        /// Whether a generation was made of it.
        kept: bool,
    },
}

/// Whether anybody else does what the component is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// That could not be found out.
    Unknown,
    /// Nobody does.
    Nobody,
    /// Somebody on another node does.
    Somebody,
}

/// What is seen now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The node's own instance.
    pub own: Own,
    /// Whether the checkpoint's instance serves.
    pub copy_serves: bool,
    /// What there is elsewhere.
    pub elsewhere: Elsewhere,
    /// Whether what it cannot do without is there: a majority of etcd for an API server.
    pub able: bool,
    /// Whether there is a generation beside the one in use.
    pub spare: bool,
}

/// For how long it has been so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lasting {
    /// That nobody does what the component is for.
    pub missed: Duration,
    /// That the own instance serves.
    pub steady: Duration,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Wait,
    /// Make a generation of the own instance.
    Keep,
    /// Give the manifest to the kubelet.
    Place,
    /// Use another generation than the one that does not come to serve.
    Switch,
    /// Take the manifest back.
    Withdraw,
}

/// How long an instance has to serve before it is called healthy.
const STEADY: Duration = Duration::from_secs(3);
/// How long nobody may be there who is not even coming.
const MISSING: Duration = Duration::from_secs(3);
/// How long an API server may take that is coming: longer than one takes to start on a busy machine.
const COMING: Duration = Duration::from_secs(10);
/// The same for one that needs an API to come: its kubelet has to hear of it first.
const COMING_BY_API: Duration = Duration::from_secs(25);
/// How long what it needs may be away before it is started to wait for that.
const UNABLE: Duration = Duration::from_mins(1);
/// How long a checkpoint may take to serve before another generation is tried.
const BARREN: Duration = Duration::from_mins(1);

/// Decides what is to be done.
pub fn decide(need: Need, state: State, seen: &Seen, lasting: &Lasting) -> Action {
    match (state, seen.own) {
        (_, Own::Serving { kept: false }) if lasting.steady >= STEADY => Action::Keep,
        (State::Active, Own::Serving { kept: true }) if lasting.steady >= STEADY => Action::Withdraw,
        (State::Empty, _) | (_, Own::Unknown | Own::Serving { .. }) => Action::Wait,
        (State::Kept, Own::Missing | Own::Coming) => place(need, *seen, lasting),
        (State::Active, Own::Missing | Own::Coming) => go_on(need, *seen, lasting),
    }
}

fn place(need: Need, seen: Seen, lasting: &Lasting) -> Action {
    let coming = match need {
        Need::Api => COMING,
        Need::Leader => COMING_BY_API,
    };
    let patience = if seen.own == Own::Missing { MISSING } else { coming };
    let patience = if seen.able { patience } else { UNABLE };
    let is_missed = seen.elsewhere == Elsewhere::Nobody && !seen.copy_serves && lasting.missed >= patience;
    if is_missed { Action::Place } else { Action::Wait }
}

fn go_on(need: Need, seen: Seen, lasting: &Lasting) -> Action {
    match (need, seen.elsewhere) {
        // The one that leads is never the one that goes: it is not elsewhere.
        (Need::Leader, Elsewhere::Somebody) => Action::Withdraw,
        (_, Elsewhere::Nobody)
            if !seen.copy_serves && seen.able && seen.spare && lasting.missed >= BARREN =>
        {
            Action::Switch
        }
        // An API server elsewhere is no successor of this one: this node has to have one of its own.
        (Need::Api | Need::Leader, _) => Action::Wait,
    }
}

/// Whether the manifest is to be there when the node starts, before its kubelet does: nothing of the node runs
/// then, and a kubelet without an API removes no pod that it has begun with.
///
/// What needs an API is decided on when there is one: mostly the kubelet then starts the instance that ran before.
pub fn is_placed_at_boot(need: Need, state: State) -> bool {
    need == Need::Api && state != State::Empty
}

/// What has been seen so far.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    missed_since: Option<Duration>,
    steady_since: Option<Duration>,
}

impl Memory {
    /// Takes in what is seen `now`, by a clock that only goes forward.
    pub fn see(&mut self, seen: &Seen, now: Duration) -> Lasting {
        let serves = matches!(seen.own, Own::Serving { .. });
        if seen.own != Own::Unknown {
            self.steady_since = serves.then(|| self.steady_since.unwrap_or(now));
        }
        let is_missed = match (seen.own, seen.elsewhere) {
            _ if serves || seen.copy_serves => Some(false),
            (_, Elsewhere::Somebody) => Some(false),
            // What is not known neither begins anything nor ends it.
            (Own::Unknown, _) | (_, Elsewhere::Unknown) => None,
            (_, Elsewhere::Nobody) => Some(true),
        };
        match is_missed {
            Some(true) => self.missed_since = Some(self.missed_since.unwrap_or(now)),
            Some(false) => self.missed_since = None,
            None => {}
        }
        let since = |since: Option<Duration>| since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        Lasting { missed: since(self.missed_since), steady: since(self.steady_since) }
    }

    /// Begins to count anew: something else was started.
    pub fn begin_anew(&mut self) {
        self.missed_since = None;
    }
}

/// A lease as it was seen: whoever holds it lives while it renews it under our eyes. Its own times are another
/// machine's, and what was written before we looked may be of a machine that is gone.
#[derive(Debug, Clone, Default)]
pub struct LeaseMemory {
    /// What it said last, and when that was seen first.
    last: Option<(String, Duration)>,
    /// Whether that was seen to come.
    renewed: bool,
}

/// How long a holder may take to renew its lease: it tries every second, and gives up after ten.
const RENEWS: Duration = Duration::from_secs(12);
/// How soon one that lives is seen to renew it: controller managers and schedulers do so every second.
const FIRST_SIGN: Duration = Duration::from_secs(4);

impl LeaseMemory {
    /// Takes in who holds the lease, on which node, and when that was renewed, in any form: says whether somebody
    /// leads on another node than this.
    pub fn see(&mut self, node: &str, holder: Option<&str>, renewal: &str, now: Duration) -> Elsewhere {
        let Some(holder) = holder.filter(|holder| !holder.is_empty()) else {
            *self = Self::default();
            return Elsewhere::Nobody;
        };
        let said = format!("{holder} {renewal}");
        match &self.last {
            Some((last, _)) if *last == said => {}
            last => {
                self.renewed = last.is_some();
                self.last = Some((said, now));
            }
        }
        let since = self.last.as_ref().map_or(now, |(_, since)| *since);
        let silence = now.saturating_sub(since);
        // Instances call themselves by host name and a random id.
        let is_here = holder.split_once('_').is_some_and(|(host, _)| host == node);
        match (self.renewed, is_here) {
            (true, _) if silence >= RENEWS => Elsewhere::Nobody,
            (false, _) if silence >= FIRST_SIGN => Elsewhere::Nobody,
            (true, false) => Elsewhere::Somebody,
            // Who leads here is no successor; it is seen by the runtime whether it lives.
            (true, true) => Elsewhere::Nobody,
            (false, _) => Elsewhere::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
