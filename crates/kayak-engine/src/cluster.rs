//! One cluster with everything by which it is reached: its assets, its driver, its API.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use futures::Stream;
use ipnet::IpNet;
use kayak_core::assets::Assets;
use kayak_core::chain::chain;
use kayak_core::cluster::{Cluster, NODE_CA_BUNDLE, Node};
use kayak_core::component::etcd;
use kayak_core::config::{NetworkMode, NodeSettings};
use kayak_core::node::{BINARY, LOG_DIR};
use kayak_core::plan::Check;
use kayak_core::pods::PodRow;

use crate::agents::{Agents, Told};
use crate::api::{self, ApiError};
use crate::driver::{ClusterNetwork, ClusterSpec, Driver, Mount, NodeId, NodeNetwork, NodeSpec, NodeState};

/// How long the API may take to say that it is ready: longer than the agent holds a connection.
const READYZ_PATIENCE: Duration = Duration::from_secs(10);
/// How many of a container's last lines are evidence.
const EVIDENCE_LINES: usize = 8;
/// How many containers are shown: an error fits on a screen.
const EVIDENCE_CONTAINERS: usize = 3;

/// A cluster within reach.
pub struct ClusterHandle {
    /// What is wished of it.
    pub assets: Assets,
    /// How its nodes are made and reached.
    pub driver: Arc<dyn Driver>,
    client: kube::Client,
    agents: Agents,
}

impl ClusterHandle {
    /// Takes a cluster in hand; touches nothing yet.
    pub async fn new(assets: Assets, driver: Arc<dyn Driver>) -> Result<Self, ApiError> {
        let client = api::client(&assets.kubeconfig()).await?;
        Ok(Self::with_client(assets, driver, client))
    }

    /// As [`Self::new`], with a client that knows its own way to the API.
    pub fn with_client(assets: Assets, driver: Arc<dyn Driver>, client: kube::Client) -> Self {
        Self { assets, driver, client, agents: Agents::default() }
    }

    /// The API's client.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Names one of the cluster's nodes for the driver.
    pub fn node_id(&self, node: &str) -> NodeId {
        NodeId::new(self.assets.cluster.name(), node)
    }

    /// What all nodes share, for the driver.
    pub fn cluster_spec(&self) -> ClusterSpec {
        cluster_spec(&self.assets.cluster)
    }

    /// One node, for the driver.
    pub fn node_spec(&self, node: &Node) -> NodeSpec {
        let cluster = &self.assets.cluster;
        let settings = cluster.settings(node);
        let memory = settings.and_then(|settings| settings.memory.as_ref());
        let network = match cluster.config.network.mode {
            NetworkMode::Host => NodeNetwork::Host,
            NetworkMode::Bridge => bridged(cluster, node),
        };
        NodeSpec {
            id: self.node_id(&node.name),
            image: cluster.images.node.clone(),
            network,
            memory_limit: memory.and_then(|memory| u64::try_from(memory.units()).ok()),
            mounts: settings
                .map(mounts)
                .unwrap_or_default()
                .into_iter()
                .chain(cluster.ca_bundle.as_ref().map(trusted))
                .collect(),
            command: NodeSpec::init(),
        }
    }

    /// Whether a node runs, as far as the driver can say.
    pub async fn any_node_runs(&self) -> bool {
        for node in &self.assets.cluster.nodes {
            if let Ok(NodeState::Running { .. }) = self.driver.state(&self.node_id(&node.name)).await {
                return true;
            }
        }
        false
    }

    /// Asks the API, through the endpoint that clients use, whether it is ready.
    pub async fn readyz(&self) -> Result<(), String> {
        let ask = async {
            let request = http::Request::get("/readyz").body(Vec::new()).map_err(|e| chain(&e))?;
            self.client.request_text(request).await.map_err(|e| chain(&e))
        };
        match tokio::time::timeout(READYZ_PATIENCE, ask).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => Err("no API server answers".into()),
        }
    }

    /// What a node's agent tells, now and at every change, without end.
    pub(crate) fn agent(&self, node: &str) -> impl Stream<Item = Told> + use<> {
        self.agents.of(&self.driver, self.node_id(node))
    }

    /// Returns what containers that are not well have logged last, from the runtime itself, since
    /// the API may be what is not well.
    pub(crate) async fn evidence(&self, check: &Check) -> Vec<String> {
        let etcd = etcd::NAME.to_owned();
        let first = || self.assets.cluster.nodes.first().map(|n| n.name.clone());
        let (node, component) = match check {
            Check::UnitsReady(node)
            | Check::TemporaryGone(node)
            | Check::CheckpointsIdle(node)
            | Check::Registered(node)
            | Check::NodeReady(node) => (Some(node.clone()), None),
            Check::Member(node) => (Some(node.clone()), Some(&etcd)),
            Check::SelfHostedInstance { node, component } => (Some(node.clone()), Some(component)),
            Check::RolledOut(id) => (first(), Some(&id.name)),
            Check::Answers(component) => (first(), Some(component)),
            Check::ApiServes | Check::Absent(_) => (first(), None),
        };
        let Some(node) = node else { return Vec::new() };
        match self.unwell(&node, component).await {
            Ok(lines) if lines.is_empty() => self.console(&node).await,
            Ok(lines) => lines,
            Err(error) => {
                let mut lines = vec![format!("the runtime of `{node}` could not be asked: {error}")];
                lines.extend(self.console(&node).await);
                lines
            }
        }
    }

    /// Asks a node's runtime for pods and containers, with so many last lines of each log.
    pub(crate) async fn pods(&self, node: &str, tail: usize) -> Result<Vec<PodRow>, String> {
        let tail = format!("--tail={tail}");
        let command = [BINARY, "pods", "--output=json", &tail].map(str::to_owned);
        let output = self.driver.output(&self.node_id(node), &command).await.map_err(|e| chain(&e))?;
        if output.code != 0 {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())
    }

    async fn unwell(&self, node: &str, component: Option<&String>) -> Result<Vec<String>, String> {
        let pods = self.pods(node, EVIDENCE_LINES).await?;
        let all = pods.iter().flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)));
        let concerned = all.filter(|(_, container)| match component {
            Some(component) => container.name == *component,
            None => container.is_unwell(),
        });
        let mut lines = Vec::new();
        for (pod, container) in concerned.take(EVIDENCE_CONTAINERS) {
            lines.push(format!("{}/{} ({}) logged last:", pod.name, container.name, container.state));
            lines.extend(container.log.iter().map(|line| format!("  {line}")));
        }
        Ok(lines)
    }

    /// The last lines of the agent and of init: where neither pods nor runtime are there to be asked.
    async fn console(&self, node: &str) -> Vec<String> {
        let id = self.node_id(node);
        let tail = ["tail".to_owned(), format!("--lines={EVIDENCE_LINES}"), format!("{LOG_DIR}/agent.log")];
        let agent = self.driver.output(&id, &tail).await.map(|output| output.stdout);
        let agent = agent.map_or_else(|e| chain(&e), |stdout| String::from_utf8_lossy(&stdout).into_owned());
        let init = self.driver.console(&id).await.unwrap_or_else(|e| chain(&e));
        agent.lines().chain(init.lines()).map(str::to_owned).collect()
    }
}

/// What all nodes of a cluster share, for the driver.
pub fn cluster_spec(cluster: &Cluster) -> ClusterSpec {
    let network = &cluster.config.network;
    ClusterSpec {
        name: cluster.name().into(),
        image: cluster.images.node.clone(),
        network: cluster.host_network().map_or_else(
            || {
                let ((range, gateway), second) = cluster.gateways();
                ClusterNetwork::Bridge { range, gateway, second }
            },
            ClusterNetwork::Host,
        ),
        pod_ranges: network.pods.all().collect(),
        service_ranges: network.services.all().collect(),
        api_address: Some(cluster.api_node_ip()),
        egress: network.egress,
    }
}

/// A node's place on the bridge.
fn bridged(cluster: &Cluster, node: &Node) -> NodeNetwork {
    let with_length = |(address, (range, gateway)): (IpAddr, (IpNet, IpAddr))| {
        (IpNet::new_assert(address, range.prefix_len()), gateway)
    };
    let (first, second) = cluster.gateways();
    let (address, gateway) = with_length((node.address, first));
    let second = node.second_address.zip(second).map(with_length);
    NodeNetwork::Bridge { address, gateway, second }
}

/// The machine's CAs in the place of the node's.
fn trusted(bundle: &Utf8PathBuf) -> Mount {
    Mount { host: bundle.clone(), node: NODE_CA_BUNDLE.into(), writable: false }
}

/// What a node is to see of the machine. Its devices are mounts too: a node may use every device that
/// it sees.
fn mounts(settings: &NodeSettings) -> Vec<Mount> {
    let mount = |host: &Utf8PathBuf, node: &Utf8PathBuf, writable| Mount {
        host: host.clone(),
        node: node.clone(),
        writable,
    };
    let devices = settings.devices.iter().map(|path| mount(path, path, true));
    settings.mounts.iter().map(|m| mount(&m.host, m.node(), m.writable)).chain(devices).collect()
}
