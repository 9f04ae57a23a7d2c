//! What happens while a plan is executed, for whoever shows it.

use kayak_core::object::ObjectId;
use kayak_core::plan::{Check, Edit, PhaseId};
use serde::Serialize;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A phase began.
    PhaseStarted {
        /// Which one.
        phase: PhaseId,
    },
    /// A step began.
    StepStarted {
        /// What it does.
        step: String,
    },
    /// A step is done.
    StepDone {
        /// What it did.
        step: String,
        /// How long it took.
        seconds: f64,
    },
    /// A condition does not hold yet.
    Waiting {
        /// Which one.
        check: Check,
        /// Why not.
        because: String,
    },
    /// A condition holds.
    Holds {
        /// Which one.
        check: Check,
        /// How long it was waited for.
        seconds: f64,
    },
    /// Fields of an object that somebody else has set otherwise were left as they are.
    LeftAlone {
        /// Which object.
        object: ObjectId,
        /// Which fields.
        edits: Vec<Edit>,
    },
    /// A pod is going to be evicted.
    Evicts {
        /// From which node.
        node: String,
        /// Which one, with its namespace.
        pod: String,
        /// What is lost by that.
        loses: Option<String>,
    },
    /// A node is not empty yet.
    Draining {
        /// Which one.
        node: String,
        /// Why not.
        because: String,
    },
    /// A phase is done.
    PhaseDone {
        /// Which one.
        phase: PhaseId,
        /// How long it took.
        seconds: f64,
    },
}

/// Whoever is told.
pub type Listener<'a> = &'a (dyn Fn(Event) + Sync);
