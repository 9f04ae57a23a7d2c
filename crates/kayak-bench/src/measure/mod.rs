//! What is measured of a cluster that runs.

pub mod group;
pub mod load;

use std::time::Duration;

use serde::Serialize;

use crate::error::BenchError;
use group::{Group, ProcessMemory};

/// What a cluster takes when nobody wants anything of it.
#[derive(Debug, Clone, Serialize)]
pub struct AtRest {
    /// Memory of all processes; what several share is counted once.
    pub pss_mib: f64,
    /// By name of the program, the largest first.
    pub processes: Vec<ProcessMemory>,
    /// Thousandths of one core, over [`Self::cpu_seconds`].
    pub cpu_millicores: f64,
    /// How long CPU was measured.
    pub cpu_seconds: u64,
}

impl AtRest {
    /// Measures a cluster.
    pub async fn measure(cluster: &str, time: Duration) -> Result<Self, BenchError> {
        let group = Group::of_cluster(cluster);
        let processes = group.memory()?;
        let before = group.cpu()?;
        let start = tokio::time::Instant::now();
        tokio::time::sleep(time).await;
        let used = group.cpu()?.saturating_sub(before);
        Ok(Self {
            pss_mib: processes.iter().map(|process| process.pss_mib).sum(),
            processes,
            cpu_millicores: used.as_secs_f64() / start.elapsed().as_secs_f64() * 1000.0,
            cpu_seconds: time.as_secs(),
        })
    }

    /// The resident memory of one program, with what it shares.
    pub fn rss_mib(&self, program: &str) -> f64 {
        self.processes.iter().filter(|p| p.program == program).map(|p| p.rss_mib).sum()
    }
}
