//! What is measured: a tool that makes a cluster, and takes it away again.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::command;
use crate::dns::Prober;
use crate::error::BenchError;
use crate::scene::{NODE_DIR, Scene};

/// The first node's name, with either tool.
pub const FIRST: &str = "controller-0";

/// How many nodes a cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Those that run etcd and the API server.
    pub controllers: u8,
    /// The others.
    pub workers: u8,
}

impl Shape {
    /// A cluster of one node.
    pub const ONE: Self = Self::new(1, 0);

    /// So many of each.
    pub const fn new(controllers: u8, workers: u8) -> Self {
        Self { controllers, workers }
    }

    /// The names of its nodes.
    pub fn nodes(self) -> Vec<String> {
        let controllers = (0..self.controllers).map(|number| format!("controller-{number}"));
        controllers.chain((0..self.workers).map(|number| format!("worker-{number}"))).collect()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.controllers, self.workers)
    }
}

/// What a tool spent time on.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// What ended it: the last of all that went on in it at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// How long a cluster may take to come up.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// One bringing up.
#[derive(Debug, Clone, Serialize)]
pub struct Up {
    /// From the start to whichever came last: the tool's own end, or DNS's first answer to a pod of each node.
    pub seconds: f64,
    /// From the start to the tool's own end.
    pub tool_seconds: f64,
    /// From the start to DNS's first answer to the last of these pods.
    pub dns_seconds: f64,
    /// What the time was spent on, one after the other, as far as the tool tells.
    pub phases: Vec<Phase>,
}

impl Up {
    /// Puts the two ends together.
    pub fn new(start: Instant, tool: Instant, dns: Instant, phases: Vec<Phase>) -> Self {
        let since = |end: Instant| end.duration_since(start).as_secs_f64();
        Self { seconds: since(tool.max(dns)), tool_seconds: since(tool), dns_seconds: since(dns), phases }
    }
}

/// A tool under measurement. Clusters of two subjects do not run at the same time.
pub trait Subject {
    /// Its name, also that of its cluster.
    fn name(&self) -> &'static str;

    /// How many nodes its cluster has.
    fn shape(&self) -> Shape;

    /// Makes a cluster, with images, programs and prober in place before the clock starts.
    async fn up(&self, scene: &Scene, logs: &Utf8Path) -> Result<Up, BenchError>;

    /// Brings it up again while it runs, and returns how many seconds it takes to find that nothing is to be
    /// done, if the tool can tell.
    async fn again(&self, _scene: &Scene, _logs: &Utf8Path) -> Result<Option<f64>, BenchError> {
        Ok(None)
    }

    /// Returns the administrator's kubeconfig, with the address that clients use.
    fn kubeconfig(&self, scene: &Scene) -> Utf8PathBuf;

    /// Removes the cluster and everything of it.
    async fn down(&self, scene: &Scene) -> Result<(), BenchError>;
}

/// Puts the prober into a node's directories, which are there.
pub fn place_prober(
    scene: &Scene,
    cluster: &str,
    node: &str,
    prober: &Prober,
) -> Result<Utf8PathBuf, BenchError> {
    let own = scene.node_dir(cluster, node, "var").join(NODE_DIR.trim_start_matches("/var/"));
    fs::create_dir_all(&own).map_err(BenchError::write(&own))?;
    let program = own.join("kayak-bench");
    fs::copy(&scene.own, &program).map_err(BenchError::write(&program))?;
    let manifest = manifest(scene, cluster, node);
    let directory = manifest.parent().unwrap_or(&manifest);
    fs::create_dir_all(directory).map_err(BenchError::write(directory))?;
    fs::write(&manifest, prober.manifest()).map_err(BenchError::write(&manifest))?;
    Ok(own.join("answered"))
}

fn manifest(scene: &Scene, cluster: &str, node: &str) -> Utf8PathBuf {
    scene.node_dir(cluster, node, "etc-kubernetes").join("manifests/prober.yaml")
}

/// Takes the probers away again: they are no part of what is measured afterwards.
pub fn remove_probers(scene: &Scene, subject: &impl Subject) -> Result<(), BenchError> {
    for node in subject.shape().nodes() {
        let manifest = manifest(scene, subject.name(), &node);
        fs::remove_file(&manifest).map_err(BenchError::write(&manifest))?;
    }
    Ok(())
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

/// Keeps what the nodes logged.
pub async fn keep_logs(scene: &Scene, subject: &impl Subject, logs: &Utf8Path) -> Result<(), BenchError> {
    for node in subject.shape().nodes() {
        let (from, to) = (scene.node_dir(subject.name(), &node, "var").join("log"), logs.join(node));
        command::run(tokio::process::Command::new("cp").args(["-a", from.as_str(), to.as_str()])).await?;
    }
    Ok(())
}
