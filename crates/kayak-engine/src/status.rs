//! How a cluster is, for people: what its nodes, their agents and runtimes and the API tell, each
//! asked by itself, so that what is down hides nothing of the rest.

use std::future::Future;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use kayak_core::assets::AssetsError;
use kayak_core::chain::chain;
use kayak_core::cluster::{Node, Role};
use kayak_core::node::{BINARY, Status};
use kayak_core::object::Object;
use kayak_core::plan::{Check, ContainerState};
use serde::Serialize;

use crate::check;
use crate::cluster::ClusterHandle;
use crate::rollout::Verdict;

/// How long a part of the cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many conditions are looked at at a time.
const PARALLEL: usize = 16;

/// How a cluster is.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub cluster: String,
    /// Whether everything is as it should be.
    pub well: bool,
    /// Its nodes.
    pub nodes: Vec<NodeReport>,
    /// What runs of its own parts, as the runtimes tell.
    pub components: Vec<ComponentReport>,
    /// Every named condition.
    pub checks: Vec<CheckReport>,
    /// How long looking took.
    pub seconds: f64,
}

/// How a node is.
#[derive(Debug, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub role: Role,
    /// Where it is reached.
    pub address: String,
    /// What there is of it.
    pub state: ContainerState,
    /// The kubelet's version.
    pub kubelet: Option<String>,
    /// containerd's version.
    pub containerd: Option<String>,
    /// What is wrong, by its agent or because nobody could be asked, each a sentence.
    pub troubles: Vec<String>,
}

/// One container of the cluster's own.
#[derive(Debug, Serialize)]
pub struct ComponentReport {
    /// Which component.
    pub name: String,
    /// Where it runs.
    pub node: String,
    /// In which pod.
    pub pod: String,
    /// What the runtime says of it.
    pub state: String,
    /// How often it was started again.
    pub restarts: u32,
    /// Its version, as its image says.
    pub version: String,
}

/// One condition.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// Which one.
    pub check: Check,
    /// It in words.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// Why it does not.
    pub because: Option<String>,
}

/// Asks everybody. Fails only if the cluster's own files cannot be read.
pub async fn report(cluster: &ClusterHandle) -> Result<Report, AssetsError> {
    let start = Instant::now();
    let objects = cluster.assets.objects()?;
    let (nodes, checks) = tokio::join!(nodes(cluster), checks(cluster, &objects));
    let (nodes, components): (Vec<_>, Vec<_>) = nodes.into_iter().unzip();
    let well = checks.iter().all(|check| check.holds)
        && nodes.iter().all(|node| node.state == ContainerState::Running && node.troubles.is_empty());
    Ok(Report {
        cluster: cluster.assets.cluster.name().into(),
        well,
        nodes,
        components: components.into_iter().flatten().collect(),
        checks,
        seconds: start.elapsed().as_secs_f64(),
    })
}

async fn nodes(cluster: &ClusterHandle) -> Vec<(NodeReport, Vec<ComponentReport>)> {
    let nodes = &cluster.assets.cluster.nodes;
    stream::iter(nodes).map(|node| of_node(cluster, node)).buffered(PARALLEL).collect().await
}

async fn of_node(cluster: &ClusterHandle, node: &Node) -> (NodeReport, Vec<ComponentReport>) {
    let mut report = NodeReport {
        name: node.name.clone(),
        role: node.role,
        address: node.address.to_string(),
        state: ContainerState::Absent,
        kubelet: None,
        containerd: None,
        troubles: Vec::new(),
    };
    let state = cluster.driver.state(&cluster.node_id(&node.name)).await;
    report.state = match state {
        Ok(state) => state.into(),
        Err(error) => {
            report.troubles.push(chain(&error));
            return (report, Vec::new());
        }
    };
    if report.state != ContainerState::Running {
        return (report, Vec::new());
    }
    let (agent, pods, kubelet, containerd) = tokio::join!(
        within("the agent", agent(cluster, &node.name)),
        within("the runtime", cluster.pods(&node.name, 0)),
        within("the kubelet's program", version(cluster, &node.name, "kubelet")),
        within("containerd's program", version(cluster, &node.name, "containerd")),
    );
    match agent {
        Ok(status) => report.troubles.extend(status.troubles),
        Err(because) => report.troubles.push(because),
    }
    for (program, field) in [(kubelet, &mut report.kubelet), (containerd, &mut report.containerd)] {
        match program {
            Ok(version) => *field = Some(version),
            Err(because) => report.troubles.push(because),
        }
    }
    let components = pods.unwrap_or_else(|because| {
        report.troubles.push(because);
        Vec::new()
    });
    let components = components.into_iter().filter(|pod| pod.namespace == "kube-system").flat_map(|pod| {
        pod.containers.into_iter().map(move |container| ComponentReport {
            name: container.name,
            node: node.name.clone(),
            pod: pod.name.clone(),
            state: container.state.to_string(),
            restarts: container.restarts,
            version: version_of_image(&container.image),
        })
    });
    (report, components.collect())
}

async fn within<T>(who: &str, ask: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, ask).await {
        Ok(answer) => answer.map_err(|because| format!("{who} could not be asked: {because}")),
        Err(_) => Err(format!("{who} said nothing within {} s", PATIENCE.as_secs())),
    }
}

async fn agent(cluster: &ClusterHandle, node: &str) -> Result<Status, String> {
    let told = output(cluster, node, &[BINARY, "agent-status"]).await?;
    serde_json::from_str(&told).map_err(|e| e.to_string())
}

async fn version(cluster: &ClusterHandle, node: &str, program: &str) -> Result<String, String> {
    let told = output(cluster, node, &[program, "--version"]).await?;
    told.split_whitespace()
        .find(|word| is_version(word))
        .map(str::to_owned)
        .ok_or_else(|| format!("`{}` is no version", told.trim()))
}

async fn output(cluster: &ClusterHandle, node: &str, command: &[&str]) -> Result<String, String> {
    let command: Vec<_> = command.iter().map(|&word| word.to_owned()).collect();
    let output = cluster.driver.output(&cluster.node_id(node), &command).await.map_err(|e| chain(&e))?;
    if output.code == 0 {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// `v1.36.3` or `2.2.1`.
fn is_version(word: &str) -> bool {
    let word = word.strip_prefix('v').unwrap_or(word);
    word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.')
}

/// What stands behind a reference's name, or all of it.
fn version_of_image(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    name.split_once(':').map_or(reference, |(_, tag)| tag).to_owned()
}

async fn checks(cluster: &ClusterHandle, objects: &[Object]) -> Vec<CheckReport> {
    // Where no node runs, the address of the API leads to wherever the machine sends what it does not know.
    let api = if cluster.any_node_runs().await {
        check::look(cluster, &Check::ApiServes).await
    } else {
        Verdict::NotYet("no node runs".into())
    };
    let serves = api == Verdict::Holds;
    let of_agents = check::of_agents(&cluster.assets.cluster, objects).into_iter().map(|check| (check, true));
    // Each question to an API that does not answer would take its time to say so.
    let of_api = check::of_api(&cluster.assets.cluster, objects).into_iter().map(|check| (check, serves));
    let checks: Vec<_> = of_agents.chain(of_api).collect();
    let api = &api;
    let look = |(check, worth): (Check, bool)| async move {
        let verdict = match (&check, worth) {
            (Check::ApiServes, _) => api.clone(),
            (_, true) => check::look(cluster, &check).await,
            (_, false) => Verdict::NotYet("not known: the API does not answer".into()),
        };
        let because = match verdict {
            Verdict::Holds => None,
            Verdict::NotYet(because) => Some(because),
        };
        CheckReport { text: check.to_string(), check, holds: because.is_none(), because }
    };
    stream::iter(checks).map(look).buffered(PARALLEL).collect().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_from_other_words() {
        let found = |text: &str| text.split_whitespace().find(|word| is_version(word)).map(str::to_owned);
        assert_eq!(found("Kubernetes v1.36.3"), Some("v1.36.3".into()));
        assert_eq!(found("containerd github.com/containerd/containerd/v2 2.2.1 abc"), Some("2.2.1".into()));
        assert_eq!(found("unknown"), None);
        assert_eq!(version_of_image("kayak.local/etcd:v3.6.5"), "v3.6.5");
        assert_eq!(version_of_image("localhost:5000/a/b"), "localhost:5000/a/b");
    }
}
