//! The pods of a node as its runtime knows them: what `kayak pods` tells.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A pod of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Whether its sandbox runs.
    pub running: bool,
    /// How many seconds ago its sandbox was made.
    pub age_seconds: u64,
    /// Its containers, each at its newest attempt.
    pub containers: Vec<ContainerRow>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRow {
    /// Its name in the pod.
    pub name: String,
    /// Its id at the runtime.
    pub id: String,
    /// What it does.
    pub state: State,
    /// How often it was started again.
    pub restarts: u32,
    /// How many seconds ago this attempt was made.
    pub age_seconds: u64,
    /// The image it was made of.
    pub image: String,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
    /// The last lines of its log, as many as were asked for.
    pub log: Vec<String>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was made, but not started.
    Created,
    /// It runs.
    Running,
    /// It has ended.
    Exited,
    /// The runtime does not know.
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Unknown => "unknown",
        })
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled` or what else the runtime says.
    pub reason: String,
    /// What the runtime says beyond that.
    pub message: String,
}

impl ContainerRow {
    /// Whether something is wrong with it: it was started again, or ended otherwise than well.
    pub fn is_unwell(&self) -> bool {
        let well = self.state == State::Running || self.exit.as_ref().is_some_and(|exit| exit.code == 0);
        !well || self.restarts > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_well_that_runs_or_has_done_its_work() {
        let unwell = |state, code: Option<i32>, restarts| {
            let exit = code.map(|code| Exit { code, reason: String::new(), message: String::new() });
            let (name, id, image) = ("web".into(), "1".into(), "web".into());
            ContainerRow { name, id, state, restarts, age_seconds: 0, image, exit, log: vec![] }.is_unwell()
        };
        assert!(!unwell(State::Running, None, 0));
        assert!(!unwell(State::Exited, Some(0), 0));
        assert!(unwell(State::Exited, Some(1), 0));
        assert!(unwell(State::Created, None, 0));
        assert!(unwell(State::Running, None, 1));
    }
}
