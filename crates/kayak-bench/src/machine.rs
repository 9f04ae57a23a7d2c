//! The machine that was measured on, and what was measured.

use std::fs;

use serde::Serialize;
use tokio::process::Command;

use crate::command;
use crate::error::BenchError;

/// What results depend on beside the programs.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// How many processors it has.
    pub cores: usize,
    /// What they call themselves.
    pub processor: String,
    /// Its memory.
    pub memory_mib: u64,
    /// Its kernel's release.
    pub kernel: String,
    /// The version of control groups that has the controllers.
    pub cgroup: u8,
    /// How many processes wanted to run in the last minute, before anything was measured.
    pub load: String,
}

impl Machine {
    /// Looks at it.
    pub fn look() -> Result<Self, BenchError> {
        let read = |path: &str| fs::read_to_string(path).map_err(BenchError::read(path));
        let (cpu, memory, load) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?, read("/proc/loadavg")?);
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, v)| v.trim().to_owned())
        };
        let kib = value(&memory, "MemTotal").split(' ').next().and_then(|kib| kib.parse::<u64>().ok());
        Ok(Self {
            cores: cpu.lines().filter(|line| line.starts_with("processor")).count(),
            processor: value(&cpu, "model name"),
            memory_mib: kib.unwrap_or_default() / 1024,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cgroup: if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) { 2 } else { 1 },
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

/// Which commit is checked out, with a mark if files differ from it.
pub async fn commit() -> Result<String, BenchError> {
    let said =
        command::run(Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"])).await?;
    Ok(said.trim().to_owned())
}
