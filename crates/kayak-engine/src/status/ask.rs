//! Asking: all at the same time, each for so long and no longer. Whoever waits for the whole answer waits
//! for the state of the nodes, and then for the slowest of the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kayak_core::chain::chain;
use kayak_core::cluster::Cluster;
use kayak_core::look::Look;
use kayak_core::node::{BINARY, Status};
use kayak_core::plan::{ContainerState, Fact};
use kayak_core::pods::PodRow;
use serde_json::Value;

use super::certificates::{self, Certificate};
use crate::cluster::ClusterHandle;
use crate::driver::{Driver, NodeId};

/// How long the driver may take to say whether a node runs.
const STATE_PATIENCE: Duration = Duration::from_secs(1);
/// How long the API or a node may take, which itself asks its parts for a shorter time.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many nodes are asked at a time.
const PARALLEL: usize = 32;

/// What everybody told.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    pub(super) nodes: BTreeMap<String, NodeAnswer>,
    /// What the API said last; to be believed by [`Self::api`].
    pub(super) api: ApiAnswer,
    pub(super) certificates: Vec<Certificate>,
    /// How long asking took.
    pub(super) seconds: f64,
}

/// What a node told.
#[derive(Debug, Clone)]
pub(super) struct NodeAnswer {
    /// What there is of it, by the driver.
    pub(super) state: Fact<ContainerState>,
    /// What is told from inside of it.
    pub(super) look: Fact<Look>,
}

/// What the API told.
#[derive(Debug, Clone)]
pub(super) struct ApiAnswer {
    /// Whether it is ready.
    pub(super) ready: Fact<()>,
    /// Node objects by name.
    pub(super) nodes: Fact<BTreeMap<String, Value>>,
    /// DaemonSets and Deployments of `kube-system` by kind and name.
    pub(super) workloads: Fact<BTreeMap<(&'static str, String), Value>>,
    /// The names of the pods in `kube-system`.
    pub(super) pods: Fact<BTreeSet<String>>,
}

impl Answers {
    /// Whether a node runs, as far as anybody could say.
    pub(super) fn any_node_runs(&self) -> bool {
        self.nodes.values().any(|node| node.state == Fact::Known(ContainerState::Running))
    }

    /// What the API told. Where no node runs its address leads to wherever the machine sends what it does
    /// not know.
    pub(super) fn api(&self) -> Result<&ApiAnswer, String> {
        if self.any_node_runs() { Ok(&self.api) } else { Err("no node runs".into()) }
    }

    /// What is told from inside a node, or why it is not known.
    pub(super) fn look(&self, node: &str) -> Result<&Look, String> {
        self.nodes.get(node).ok_or("it was not asked")?.look.known()
    }

    /// What a node's agent tells, or why it is not known.
    pub(super) fn agent(&self, node: &str) -> Result<&Status, String> {
        self.look(node)?.agent.known()
    }

    /// The pods that a node's runtime tells, or why they are not known.
    pub(super) fn pods(&self, node: &str) -> Result<&Vec<PodRow>, String> {
        self.look(node)?.pods.known()
    }
}

impl ApiAnswer {
    fn unknown(because: &str) -> Self {
        Self {
            ready: Fact::Unknown(because.into()),
            nodes: Fact::Unknown(because.into()),
            workloads: Fact::Unknown(because.into()),
            pods: Fact::Unknown(because.into()),
        }
    }
}

/// Asks everybody.
pub(super) async fn all(cluster: &ClusterHandle) -> Answers {
    let nodes = &cluster.assets.cluster.nodes;
    let states: Vec<_> = stream::iter(nodes)
        .map(|node| state(&cluster.driver, cluster.node_id(&node.name)))
        .buffered(PARALLEL)
        .collect()
        .await;
    let runs = states.contains(&Fact::Known(ContainerState::Running));
    let looks = stream::iter(nodes.iter().zip(states)).map(|(node, state)| async move {
        let look = look(&cluster.driver, cluster.node_id(&node.name), &state).await;
        (node.name.clone(), NodeAnswer { state, look })
    });
    let api = async {
        if runs {
            api(cluster.client(), &nodes_path(&cluster.assets.cluster)).await
        } else {
            ApiAnswer::unknown("no node runs")
        }
    };
    let (nodes, api, certificates) =
        tokio::join!(looks.buffered(PARALLEL).collect(), api, certificates::look(cluster));
    Answers { nodes, api, certificates, seconds: 0.0 }
}

/// Asks the driver for a node.
pub(super) async fn state(driver: &Arc<dyn Driver>, node: NodeId) -> Fact<ContainerState> {
    let ask = async { driver.state(&node).await.map(ContainerState::from).map_err(|e| chain(&e)) };
    within("the driver", STATE_PATIENCE, ask).await
}

async fn look(driver: &Arc<dyn Driver>, node: NodeId, state: &Fact<ContainerState>) -> Fact<Look> {
    match state {
        Fact::Known(ContainerState::Running) => {}
        Fact::Known(ContainerState::Absent | ContainerState::Stopped) => return not_running(),
        Fact::Unknown(because) => return Fact::Unknown(because.clone()),
    }
    let command = [BINARY, "look"].map(str::to_owned);
    let ask = async {
        let output = driver.output(&node, &command).await.map_err(|e| chain(&e))?;
        if output.code != 0 {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())
    };
    within("the node", PATIENCE, ask).await
}

/// What is known from inside a node that does not run.
pub(super) fn not_running() -> Fact<Look> {
    Fact::Unknown("the node does not run".into())
}

/// Which nodes are asked for: a machine that joined is known as its node, and may see that alone.
pub(super) fn nodes_path(cluster: &Cluster) -> String {
    let own = cluster.nodes.first().filter(|_| cluster.joined.is_some());
    let only = own.map(|node| format!("?fieldSelector=metadata.name={}", node.name));
    format!("/api/v1/nodes{}", only.unwrap_or_default())
}

/// Asks the API.
pub(super) async fn api(client: &kube::Client, nodes: &str) -> ApiAnswer {
    let paths =
        ["daemonsets", "deployments"].map(|kind| format!("/apis/apps/v1/namespaces/kube-system/{kind}"));
    let pods = "/api/v1/namespaces/kube-system/pods";
    let whole = "application/json";
    let (ready, nodes, daemon_sets, deployments, pods) = tokio::join!(
        within("the API", PATIENCE, ready(client)),
        within("the API", PATIENCE, list(client, nodes, whole)),
        within("the API", PATIENCE, list(client, &paths[0], whole)),
        within("the API", PATIENCE, list(client, &paths[1], whole)),
        within("the API", PATIENCE, list(client, pods, NAMES)),
    );
    let workloads = match (daemon_sets, deployments) {
        (Fact::Known(daemon_sets), Fact::Known(deployments)) => {
            let kind = |kind, items: Vec<Value>| by_name(items).map(move |(name, it)| ((kind, name), it));
            Fact::Known(kind("DaemonSet", daemon_sets).chain(kind("Deployment", deployments)).collect())
        }
        (Fact::Unknown(because), _) | (_, Fact::Unknown(because)) => Fact::Unknown(because),
    };
    ApiAnswer {
        ready,
        nodes: map(nodes, |items| by_name(items).collect()),
        workloads,
        pods: map(pods, |items| by_name(items).map(|(name, _)| name).collect()),
    }
}

/// What the API calls objects without all that they are about.
const NAMES: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

async fn ready(client: &kube::Client) -> Result<(), String> {
    let request = http::Request::get("/readyz").body(Vec::new()).map_err(|e| chain(&e))?;
    client.request_text(request).await.map(drop).map_err(|e| chain(&e))
}

async fn list(client: &kube::Client, path: &str, form: &str) -> Result<Vec<Value>, String> {
    let request = http::Request::get(path).header(http::header::ACCEPT, form).body(Vec::new());
    let mut list: Value = client.request(request.map_err(|e| chain(&e))?).await.map_err(|e| chain(&e))?;
    match list["items"].take() {
        Value::Array(items) => Ok(items),
        _ => Err(format!("what it lists at {path} is no list")),
    }
}

fn by_name(items: Vec<Value>) -> impl Iterator<Item = (String, Value)> {
    items.into_iter().map(|item| (item["metadata"]["name"].as_str().unwrap_or_default().to_owned(), item))
}

fn map<T, U>(fact: Fact<T>, change: impl FnOnce(T) -> U) -> Fact<U> {
    match fact {
        Fact::Known(fact) => Fact::Known(change(fact)),
        Fact::Unknown(because) => Fact::Unknown(because),
    }
}

async fn within<T>(who: &str, patience: Duration, ask: impl Future<Output = Result<T, String>>) -> Fact<T> {
    match tokio::time::timeout(patience, ask).await {
        Ok(Ok(answer)) => Fact::Known(answer),
        Ok(Err(because)) => Fact::Unknown(format!("{who} could not be asked: {because}")),
        Err(_) => Fact::Unknown(format!("{who} said nothing within {} s", patience.as_secs())),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Answers of running nodes, to be made worse by a test.
    pub(in super::super) fn answers(nodes: &[(&str, Status)]) -> Answers {
        let answer = |status: &Status| NodeAnswer {
            state: Fact::Known(ContainerState::Running),
            look: Fact::Known(Look {
                agent: Fact::Known(status.clone()),
                pods: Fact::Known(Vec::new()),
                kubelet: Fact::Known("v1.36.3".into()),
                containerd: Fact::Known("2.2.1".into()),
            }),
        };
        Answers {
            nodes: nodes.iter().map(|(name, status)| ((*name).to_owned(), answer(status))).collect(),
            api: ApiAnswer {
                ready: Fact::Known(()),
                nodes: Fact::Known(BTreeMap::new()),
                workloads: Fact::Known(BTreeMap::new()),
                pods: Fact::Known(BTreeSet::new()),
            },
            certificates: Vec::new(),
            seconds: 0.0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_unknown_and_named() {
        let start = tokio::time::Instant::now();
        let answer = within("the API", PATIENCE, std::future::pending::<Result<(), String>>()).await;
        assert_eq!(answer, Fact::Unknown("the API said nothing within 3 s".into()));
        assert_eq!(start.elapsed(), PATIENCE);
    }

    #[test]
    fn an_api_is_not_asked_where_no_node_runs() {
        let mut answers = answers(&[("controller-0", Status::default())]);
        assert!(answers.api().is_ok());
        for state in [Fact::Known(ContainerState::Stopped), Fact::Unknown("?".into())] {
            answers.nodes.get_mut("controller-0").unwrap().state = state;
            assert_eq!(answers.api().unwrap_err(), "no node runs");
        }
    }
}
