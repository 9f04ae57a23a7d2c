//! The facts of one cluster: its configuration with everything resolved that rendering needs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use camino::Utf8PathBuf;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::component::flannel;
use crate::config::{Config, NetworkMode, NetworkProvider, NodeSettings, Ranges};
use crate::join::Joined;
use crate::ports;

mod addresses;

use addresses::{host, nodes};
pub(crate) use addresses::{most_workers, taken};

/// The API's port, on every controller's address and on each node's loopback.
pub const API_PORT: u16 = 6443;
/// The port of the node's own way to the API.
pub const LOCAL_API_PORT: u16 = 7443;

/// Where a node's programs look for the CAs that they trust.
pub const NODE_CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The kubelet's port.
pub const KUBELET_PORT: u16 = 10250;
/// The ports of services that are reached by a node's address, first and last: the API server's default.
pub const NODE_PORTS: (u16, u16) = (30000, 32767);
/// Controllers a cluster may have: each write waits for a majority of them.
pub const MAX_CONTROLLERS: u32 = 7;
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

impl Images {
    /// Asks for the reference of each image by its name.
    pub fn of<E>(
        kubernetes_version: &str,
        image: impl Fn(&'static str) -> Result<String, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            kubernetes_version: kubernetes_version.into(),
            node: image("node")?,
            kubernetes: image("kubernetes")?,
            etcd: image("etcd")?,
            coredns: image("coredns")?,
            flannel: image("flannel")?,
            pause: image("pause")?,
        })
    }
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

impl Role {
    /// The name of the `index`-th node with this role.
    pub fn node_name(self, index: u32) -> String {
        match self {
            Self::Controller => format!("controller-{index}"),
            Self::Worker => format!("worker-{index}"),
        }
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name, also its host name.
    pub name: String,
    /// What it runs.
    pub role: Role,
    /// Where it is reached: its address of the primary family.
    pub address: IpAddr,
    /// Its address of the other family, with two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_address: Option<IpAddr>,
}

impl Node {
    /// All its addresses, the primary family's first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [self.address].into_iter().chain(self.second_address)
    }

    /// Where one of its ports is reached.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }
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
    /// Its nodes that are this machine's, controllers first.
    pub nodes: Vec<Node>,
    /// Where the cluster is another machine's, which this one has joined: what is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Joined>,
    /// Name servers for names outside the cluster; empty means that nothing outside resolves.
    pub nameservers: Vec<IpAddr>,
    /// The machine's file of CAs, if nodes trust those instead of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<Utf8PathBuf>,
}

/// What a cluster has of the machine's own network, and by which way others come to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostNetwork {
    /// The interface by which the node is reached.
    pub interface: String,
    /// The interface's address, the node's.
    pub address: Ipv4Addr,
    /// The address for clients outside that the interface has while the node is the one to serve them.
    #[serde(default)]
    pub vip: Option<Ipv4Addr>,
    /// Ports of that address that are the cluster's, TCP and UDP, first and last.
    pub ports: Vec<(u16, u16)>,
    /// UDP ports on which the kernel takes packets at every address.
    pub wildcard_ports: Vec<u16>,
}

/// What a cluster's facts depend on beside its configuration: the machine it is made on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineFacts {
    /// The name servers that the machine uses itself.
    pub nameservers: Vec<IpAddr>,
    /// Its network interfaces that have an IPv4 address, by name, with their addresses in order.
    pub interfaces: BTreeMap<String, Vec<Ipv4Addr>>,
    /// Its file of CAs that its programs trust.
    pub ca_bundle: Option<Utf8PathBuf>,
}

/// Why a configuration cannot be a cluster on this machine.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The interface that the cluster is to be reached by has no address.
    #[error("`network.interface: {name}` is not here, or has no IPv4 address; {}", those_there(.there))]
    NoInterface {
        /// Which one was named.
        name: String,
        /// Those that would do.
        there: Vec<String>,
    },
    /// The interface's address is one that pods or services would have.
    #[error("`network.{range}: {net}` covers {address}, the address of `{name}`")]
    Covered {
        /// Which range.
        range: &'static str,
        /// The range.
        net: Ranges,
        /// The interface's address.
        address: Ipv4Addr,
        /// The interface.
        name: String,
    },
    /// The machine trusts nobody that nodes could trust too.
    #[error("`pki.trustMachine: true`, but this machine has no list of CAs (such as {NODE_CA_BUNDLE})")]
    NoCaBundle,
    /// The virtual address is the interface's own, which cannot go to another controller.
    #[error("`api.vip: {vip}` is the address of `{name}` itself; take a free one of the same network")]
    OwnVip {
        /// The address.
        vip: Ipv4Addr,
        /// The interface.
        name: String,
    },
}

fn those_there(interfaces: &[String]) -> String {
    if interfaces.is_empty() { "no other is".into() } else { format!("there are {}", interfaces.join(", ")) }
}

impl Cluster {
    /// Resolves a configuration that was read from `source` on a machine.
    pub fn resolve(
        config: Config,
        source: &str,
        images: Images,
        machine: &MachineFacts,
    ) -> Result<Self, ResolveError> {
        let nameservers = if config.network.egress {
            config.network.nameservers.clone().unwrap_or_else(|| machine.nameservers.clone())
        } else {
            Vec::new()
        };
        let nodes = nodes(&config, machine)?;
        let ca_bundle = match (config.pki.trust_machine, &machine.ca_bundle) {
            (true, None) => return Err(ResolveError::NoCaBundle),
            (true, Some(bundle)) => Some(bundle.clone()),
            (false, _) => None,
        };
        Ok(Self {
            // A name server on the machine's loopback is another one inside a pod, and CoreDNS
            // takes it for a forwarding loop and dies. One of a family that nodes do not have would only
            // cost time.
            nameservers: nameservers
                .into_iter()
                .filter(|ip| !ip.is_loopback() && config.network.has_family_of(*ip))
                .collect(),
            config,
            source: source.into(),
            images,
            nodes,
            ca_bundle,
            joined: None,
        })
    }

    /// What the cluster has of the machine's own network, if it is on that.
    pub fn host_network(&self) -> Option<HostNetwork> {
        let interface = match self.config.network.mode {
            NetworkMode::Bridge => return None,
            NetworkMode::Host => self.config.network.interface.clone()?,
        };
        let ports = ports::AT_ADDRESS.map(|(port, _)| (port, port));
        Some(HostNetwork {
            interface,
            address: match self.nodes.first()?.address {
                IpAddr::V4(address) => address,
                IpAddr::V6(_) => return None,
            },
            vip: self.config.api.vip,
            ports: ports.into_iter().chain([NODE_PORTS]).collect(),
            wildcard_ports: flannel::overlay_port(self).into_iter().collect(),
        })
    }

    /// Whether pods' network is the owner's own affair, and may come at any time or never.
    pub fn has_own_pod_network(&self) -> bool {
        self.config.network.provider == NetworkProvider::None
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The nodes of this machine that run the control plane.
    pub fn controllers(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|n| n.role == Role::Controller)
    }

    /// The controller that a new cluster begins with.
    pub fn first_controller(&self) -> Option<&Node> {
        self.controllers().next()
    }

    /// Whether controllers are kept free of ordinary pods: when there are workers to run them.
    pub fn keeps_controllers_free(&self) -> bool {
        self.nodes.iter().any(|node| node.role == Role::Worker)
    }

    /// What the owner wishes of a node, if anything.
    pub fn settings(&self, node: &Node) -> Option<&NodeSettings> {
        self.config.nodes.iter().find(|settings| settings.name == node.name)
    }

    /// The networks of nodes, the primary family's and the other's, each with the address on the bridge that
    /// is the machine's own.
    pub fn gateways(&self) -> ((IpNet, IpAddr), Option<(IpNet, IpAddr)>) {
        let with_gateway = |range| (range, host(range, 1));
        let nodes = self.config.network.nodes;
        (with_gateway(nodes.first), nodes.second.map(with_gateway))
    }

    /// The service address of the API, the first of the range, as the API server itself chooses.
    pub fn api_service_ip(&self) -> IpAddr {
        host(self.config.network.services.first, 1)
    }

    /// The address behind the API's service address: every node has it for itself, and its agent, which
    /// knows the API servers that are ready, listens there. It is one that no pod gets (the last of the
    /// range, a broadcast address; of IPv6, one that comes after 2^64 others), and the API takes no loopback
    /// address for an endpoint.
    pub fn api_node_ip(&self) -> IpAddr {
        self.config.network.pods.first.broadcast()
    }

    /// The service addresses of the cluster's DNS, the primary family's first.
    pub fn dns_service_ips(&self) -> Vec<IpAddr> {
        self.config.network.services.all().map(|range| host(range, 10)).collect()
    }

    /// The URL that clients outside the nodes use.
    pub fn api_url(&self) -> String {
        let api = &self.config.api;
        let first = || self.all_controllers().next().map_or(Ipv4Addr::LOCALHOST.into(), |n| n.address);
        let address = || api.vip.map_or_else(first, IpAddr::V4);
        match &api.name {
            Some(name) => format!("https://{name}:{API_PORT}"),
            None => format!("https://{}", SocketAddr::new(address(), API_PORT)),
        }
    }

    /// The URL that whatever runs on a node's own network uses.
    pub fn local_api_url() -> String {
        format!("https://127.0.0.1:{LOCAL_API_PORT}")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A cluster on a machine with a network and a VPN.
    pub(crate) fn resolve(yaml: &str) -> Result<Cluster, ResolveError> {
        let images = Images::of("v1.36.3", |name| Ok::<_, ()>(name.into())).unwrap();
        let interfaces = [("lo", "127.0.0.1"), ("eth0", "192.0.2.2"), ("tun0", "10.8.0.1")];
        let interfaces = interfaces.map(|(name, address)| (name.into(), vec![address.parse().unwrap()]));
        let machine = MachineFacts { interfaces: interfaces.into(), ..MachineFacts::default() };
        Cluster::resolve(Config::parse(yaml).unwrap(), yaml, images, &machine)
    }

    #[test]
    fn the_node_has_the_named_interfaces_address() {
        let cluster = resolve("network: { mode: host, interface: tun0 }").unwrap();
        assert_eq!(cluster.nodes[0].address, Ipv4Addr::new(10, 8, 0, 1));
        let network = cluster.host_network().unwrap();
        assert_eq!((network.interface.as_str(), network.address), ("tun0", Ipv4Addr::new(10, 8, 0, 1)));
        assert_eq!(resolve("").unwrap().host_network(), None);
        assert_eq!(resolve("").unwrap().nodes[0].address, Ipv4Addr::new(10, 254, 0, 2));
    }

    #[test]
    fn a_machine_that_trusts_nobody_cannot_be_trusted() {
        let yaml = "pki: { trustMachine: true }";
        assert_eq!(resolve(yaml).unwrap_err(), ResolveError::NoCaBundle);
        let images = Images::of("v1.36.3", |name| Ok::<_, ()>(name.into())).unwrap();
        let bundle = Some(Utf8PathBuf::from("/etc/pki/tls/certs/ca-bundle.crt"));
        let machine = MachineFacts { ca_bundle: bundle.clone(), ..MachineFacts::default() };
        let of =
            |yaml| Cluster::resolve(Config::parse(yaml).unwrap(), yaml, images.clone(), &machine).unwrap();
        assert_eq!((of(yaml).ca_bundle, of("").ca_bundle), (bundle, None));
    }

    #[test]
    fn an_interface_without_an_address_of_its_own_is_refused() {
        let refused = |yaml| resolve(yaml).unwrap_err().to_string();
        assert_eq!(
            refused("network: { mode: host, interface: tun1 }"),
            "`network.interface: tun1` is not here, or has no IPv4 address; there are `eth0`, `tun0`"
        );
        assert_eq!(
            refused("network: { mode: host, interface: tun0, pods: 10.8.0.0/16 }"),
            "`network.pods: 10.8.0.0/16` covers 10.8.0.1, the address of `tun0`"
        );
        assert_eq!(
            refused("{ network: { mode: host, interface: tun0 }, api: { vip: 10.8.0.1 } }"),
            "`api.vip: 10.8.0.1` is the address of `tun0` itself; take a free one of the same network"
        );
    }
}
