//! The facts of one cluster: its configuration with everything resolved that rendering needs.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::config::{Config, NodeSettings};

/// The API's port, on every controller's address and on each node's loopback.
pub const API_PORT: u16 = 6443;
/// The port of the node's own way to the API.
pub const LOCAL_API_PORT: u16 = 7443;

/// The name of the only node that there is so far.
pub const ONLY_NODE: &str = "controller-0";

/// References of the images a cluster runs, and the version of Kubernetes in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// Kubernetes' version, `v1.36.3`.
    pub kubernetes_version: String,
    /// A node container's root file system.
    pub node: String,
    /// API server, controller manager, scheduler, kube-proxy.
    pub kubernetes: String,
    /// etcd and its tools.
    pub etcd: String,
    /// Cluster DNS.
    pub coredns: String,
    /// The pod network between nodes.
    pub flannel: String,
    /// The sandbox of every pod.
    pub pause: String,
}

/// Whether a node runs the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs etcd and the API server.
    Controller,
    /// Runs workloads only.
    Worker,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name, also its host name.
    pub name: String,
    /// What it runs.
    pub role: Role,
    /// Where it is reached.
    pub address: Ipv4Addr,
}

/// A cluster with nothing left open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// What the owner wished.
    pub config: Config,
    /// The same in the owner's words, comments included: the text of `cluster.yaml`.
    pub source: String,
    /// What it runs.
    pub images: Images,
    /// Its nodes, controllers first.
    pub nodes: Vec<Node>,
    /// Name servers for names outside the cluster; empty means that nothing outside resolves.
    pub nameservers: Vec<IpAddr>,
}

impl Cluster {
    /// Resolves a configuration that was read from `source`; `machine_nameservers` are those the machine
    /// uses itself.
    pub fn resolve(config: Config, source: &str, images: Images, machine_nameservers: &[IpAddr]) -> Self {
        let nameservers = if config.network.egress {
            config.network.nameservers.clone().unwrap_or_else(|| machine_nameservers.to_vec())
        } else {
            Vec::new()
        };
        let nodes = vec![Node {
            name: ONLY_NODE.into(),
            role: Role::Controller,
            address: host(config.network.nodes, 2),
        }];
        Self {
            // A name server on the machine's loopback is another one inside a pod, and CoreDNS
            // takes it for a forwarding loop and dies.
            // Nodes have no IPv6 yet, so a name server with such an address would only cost time.
            nameservers: nameservers.into_iter().filter(|ip| !ip.is_loopback() && ip.is_ipv4()).collect(),
            config,
            source: source.into(),
            images,
            nodes,
        }
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The nodes that run the control plane.
    pub fn controllers(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|n| n.role == Role::Controller)
    }

    /// What the owner wishes of a node, if anything.
    pub fn settings(&self, node: &Node) -> Option<&NodeSettings> {
        self.config.nodes.iter().find(|settings| settings.name == node.name)
    }

    /// The address on the bridge that is the machine's own.
    pub fn gateway(&self) -> Ipv4Addr {
        host(self.config.network.nodes, 1)
    }

    /// The service address of the API, the first of the range, as the API server itself chooses.
    pub fn api_service_ip(&self) -> Ipv4Addr {
        host(self.config.network.services, 1)
    }

    /// The service address of the cluster's DNS.
    pub fn dns_service_ip(&self) -> Ipv4Addr {
        host(self.config.network.services, 10)
    }

    /// The URL that clients outside the nodes use.
    pub fn api_url(&self) -> String {
        let address = self.nodes.first().map_or(Ipv4Addr::LOCALHOST, |n| n.address);
        format!("https://{address}:{API_PORT}")
    }

    /// The URL that whatever runs on a node's own network uses.
    pub fn local_api_url() -> String {
        format!("https://127.0.0.1:{LOCAL_API_PORT}")
    }
}

/// Returns the `index`-th address of a range.
fn host(range: Ipv4Net, index: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()) + index)
}
