//! Preflight: what on a machine keeps a cluster from running there, or should be known before.
//!
//! Looking at the machine is the engine's; here is only the judgement.

mod clock;
mod host;
mod kernel;
mod machine;
mod network;
mod paths;
mod rights;
mod room;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::kernel::FEATURES;
pub use self::machine::{
    Cgroups, Clock, Directory, Interface, Kernel, Limits, Machine, Memory, Neighbour, Network, Rights, Route,
    Share,
};
pub use self::paths::PATH_MISSING;
use crate::cluster::Cluster;
use crate::plan::Fact;

/// How bad it is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The cluster would not come up, or not work.
    Error,
    /// It works, but not as well as it could, or changes something that the owner should know of.
    Warning,
    /// It could not be looked at.
    Unknown,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is called, also to be ignored by.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub matters: String,
    /// What to do.
    pub remedy: String,
}

/// Judges a machine for a cluster; lists everything at once, the worst first.
pub fn findings(cluster: &Cluster, machine: &Machine) -> Vec<Finding> {
    let mut found = Findings::default();
    rights::judge(machine, &mut found);
    kernel::judge(machine, &mut found);
    room::judge(cluster, machine, &mut found);
    paths::judge(cluster, machine, &mut found);
    network::judge(cluster, &machine.network, &mut found);
    host::judge(cluster, &machine.network, &mut found);
    clock::judge(&machine.clock, &mut found);
    other_kubernetes(machine, &mut found);
    found.0.sort_by_key(|finding| finding.severity);
    found.0
}

fn other_kubernetes(machine: &Machine, found: &mut Findings) {
    if !machine.kubernetes.is_empty() {
        found.warning(
            "other-kubernetes",
            format!("there is another Kubernetes on this machine: {}", machine.kubernetes.join(", ")),
            "it is left alone, but both want memory and CPU time, and their packet filters both apply",
            "nothing, if both are meant to run; otherwise remove the other one",
        );
    }
}

/// The list while it is made.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, name: &'static str, found: String, matters: &str, remedy: impl Into<String>) {
        self.add(Severity::Error, name, found, matters, remedy.into());
    }

    fn warning(&mut self, name: &'static str, found: String, matters: &str, remedy: impl Into<String>) {
        self.add(Severity::Warning, name, found, matters, remedy.into());
    }

    fn add(
        &mut self,
        severity: Severity,
        name: &'static str,
        found: String,
        matters: &str,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding { severity, name, found, matters: matters.into(), remedy: remedy.into() });
    }

    /// Returns what is known; what is not is told.
    fn known<'a, T>(&mut self, what: &str, fact: &'a Fact<T>) -> Option<&'a T> {
        match fact {
            Fact::Known(value) => Some(value),
            Fact::Unknown(why) => {
                let found = format!("{what} could not be looked at: {why}");
                let (matters, remedy) = ("it may be as it should be, or not", "look yourself, if in doubt");
                self.add(Severity::Unknown, "not-seen", found, matters, remedy);
                None
            }
        }
    }
}
