//! What is measured: a tool that makes a cluster of one node, and takes it away again.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::command;
use crate::dns::Prober;
use crate::error::BenchError;
use crate::scene::{NODE_DIR, Scene};

/// How long a cluster may take to come up.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// One bringing up.
#[derive(Debug, Clone, Serialize)]
pub struct Up {
    /// From the start to whichever came last: the tool's own end, or DNS's first answer to the pod.
    pub seconds: f64,
    /// From the start to the tool's own end.
    pub tool_seconds: f64,
    /// From the start to DNS's first answer to the pod.
    pub dns_seconds: f64,
    /// What the time was spent on, as far as the tool tells.
    pub phases: BTreeMap<String, f64>,
}

impl Up {
    /// Puts the two ends together.
    pub fn new(start: Instant, tool: Instant, dns: Instant, phases: BTreeMap<String, f64>) -> Self {
        let since = |end: Instant| end.duration_since(start).as_secs_f64();
        Self { seconds: since(tool.max(dns)), tool_seconds: since(tool), dns_seconds: since(dns), phases }
    }
}

/// A tool under measurement. Clusters of two subjects do not run at the same time.
pub trait Subject {
    /// Its name, also that of its cluster.
    fn name(&self) -> &'static str;

    /// Makes a cluster, with images, programs and prober in place before the clock starts.
    async fn up(&self, scene: &Scene, logs: &Utf8Path) -> Result<Up, BenchError>;

    /// Returns the administrator's kubeconfig, with the address that clients use.
    fn kubeconfig(&self, scene: &Scene) -> Utf8PathBuf;

    /// Removes the cluster and everything of it.
    async fn down(&self, scene: &Scene) -> Result<(), BenchError>;
}

/// Puts the prober into a node's directories, which are there.
pub fn place_prober(scene: &Scene, cluster: &str, prober: &Prober) -> Result<Utf8PathBuf, BenchError> {
    let own = scene.node_dir(cluster, "var").join(NODE_DIR.trim_start_matches("/var/"));
    fs::create_dir_all(&own).map_err(BenchError::write(&own))?;
    let program = own.join("kayak-bench");
    fs::copy(&scene.own, &program).map_err(BenchError::write(&program))?;
    let manifest = scene.node_dir(cluster, "etc-kubernetes").join("manifests/prober.yaml");
    fs::write(&manifest, prober.manifest()).map_err(BenchError::write(&manifest))?;
    Ok(own.join("answered"))
}

/// Takes the prober away again: it is no part of what is measured afterwards.
pub fn remove_prober(scene: &Scene, cluster: &str) -> Result<(), BenchError> {
    let manifest = scene.node_dir(cluster, "etc-kubernetes").join("manifests/prober.yaml");
    fs::remove_file(&manifest).map_err(BenchError::write(&manifest))
}

/// Waits for a file that the node writes; the node's disk gives no events to this machine's programs
/// before its directory is there.
pub async fn appears(path: &Utf8Path, what: &'static str, logs: &Utf8Path) -> Result<Instant, BenchError> {
    let start = Instant::now();
    while !path.exists() {
        if start.elapsed() > PATIENCE {
            return Err(BenchError::Never { what, seconds: PATIENCE.as_secs(), logs: logs.to_owned() });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(Instant::now())
}

/// Keeps what the node logged.
pub async fn keep_logs(scene: &Scene, cluster: &str, logs: &Utf8Path) -> Result<(), BenchError> {
    let from = scene.node_dir(cluster, "var").join("log");
    command::run(tokio::process::Command::new("cp").args(["-a", from.as_str(), logs.as_str()])).await?;
    Ok(())
}
