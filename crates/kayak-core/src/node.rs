//! What the agent of one node must know to bring the node up from its disk alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where the agent reads its [`NodeConfig`].
pub const CONFIG_PATH: &str = "/etc/kubernetes/kayak/node.json";
/// Where the agent tells what it sees: a connection gets one JSON `Status` a line, now and at every change.
pub const STATUS_SOCKET: &str = "/run/kayak/agent.sock";
/// Where the agent keeps the binary that control-plane pods mount.
pub const BINARY_DIR: &str = "/opt/kayak/bin";
/// Where a node has its kayak: first process, agent and tools are this one program.
pub const BINARY: &str = "/usr/bin/kayak";
/// The directory of the units' logs; a unit's is `NAME.log`.
pub const LOG_DIR: &str = "/var/log/kayak";
/// The directory in which the agent notes the processes of its units.
pub const UNITS_DIR: &str = "/run/kayak/units";
/// Where the runtime looks for the pod network's configuration.
pub const CNI_CONFIG_DIR: &str = "/etc/kubernetes/cni/net.d";
/// Where others put it: networks of the owner's own do. It leads to [`CNI_CONFIG_DIR`], which outlives a restart.
pub const USUAL_CNI_CONFIG_DIR: &str = "/etc/cni/net.d";
/// The name servers that pods may inherit; the kubelet's `resolvConf`.
pub const RESOLV_CONF: &str = "/run/kayak/resolv.conf";
/// The runtime's socket.
pub const CRI_SOCKET: &str = "/run/containerd/containerd.sock";

/// Returns what [`NodeConfig::api_address`] is called on the loopback, so that whoever takes it from a
/// machine's takes that cluster's only. The kernel has room for 15 bytes.
pub fn api_address_label(cluster: &str) -> String {
    format!("lo:kayak-{}", short_digest(cluster))
}

/// Returns what [`Controller::vip`] is called on the node's link, whose name has no room in it.
pub fn vip_label(cluster: &str) -> String {
    format!("{VIP_LABEL}{}", short_digest(cluster))
}

/// How [`vip_label`] begins.
pub const VIP_LABEL: &str = "kayakvip-";

fn short_digest(cluster: &str) -> String {
    let digest = Sha256::digest(cluster.as_bytes());
    format!("{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2])
}

/// The agent's whole input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The cluster's name.
    pub cluster: String,
    /// The node's name, also its host name.
    pub name: String,
    /// The address the node is reached at by other nodes and clients.
    pub address: IpAddr,
    /// The link that has the address, where one was named: units wait until it does.
    pub interface: Option<String>,
    /// Lines of `/etc/hosts` beyond localhost: name to address, of the controllers and of this node.
    pub hosts: BTreeMap<String, IpAddr>,
    /// Name servers outside the cluster, already free of loopback addresses; empty without egress.
    pub nameservers: Vec<IpAddr>,
    /// Kernel settings, `net.ipv4.ip_forward` style names; one that cannot be set is an error
    /// unless it has the wished value already.
    pub sysctls: BTreeMap<String, String>,
    /// What the agent supervises, started in this order, each after the one before it is ready.
    pub units: Vec<Unit>,
    /// The ports the agent owns in front of control-plane instances.
    pub fronts: Vec<Front>,
    /// An address that each node has for itself, on its loopback: the API's service leads there.
    pub api_address: IpAddr,
    /// How pods of this node get their addresses, where that is not the owner's own affair.
    pub pod_network: Option<PodNetwork>,
    /// The kubeconfig of the agent itself.
    pub kubeconfig: String,
    /// What the agent does for the cluster, on controllers.
    pub controller: Option<Controller>,
}

/// What a controller's agent takes care of beside its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// How the node's etcd member is reached.
    pub etcd: EtcdClient,
    /// The address for clients outside that is a living controller's, if there is one.
    pub vip: Option<IpAddr>,
}

/// A client of one etcd member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdClient {
    /// Where the member listens.
    pub address: SocketAddr,
    /// The CA bundle to verify it with.
    pub ca_file: String,
    /// The client's certificate.
    pub certificate_file: String,
    /// Its private key.
    pub key_file: String,
}

/// A long-running process of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Short name, `containerd` or `kubelet`.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment beyond PATH.
    pub env: BTreeMap<String, String>,
    /// How it is asked whether it is well; who cannot be asked is well while it runs.
    pub health: Option<Health>,
    /// The files it reads at its start: it is started again when one of them holds something else.
    pub files: Vec<String>,
}

/// Who answers for a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Health {
    /// An HTTP server that says 200.
    Http {
        /// Where it listens.
        address: SocketAddr,
        /// What is asked for.
        path: String,
    },
    /// A container runtime that tells its version.
    Runtime {
        /// The unix socket on which it listens.
        socket: String,
    },
}

/// Addresses and ports behind which the ready instances of one component stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Front {
    /// The component: the `io.kubernetes.container.name` of its instances in `kube-system`.
    pub component: String,
    /// What the agent listens on for those who want this node's instances: other nodes, and clients outside.
    pub own: Vec<SocketAddr>,
    /// What the agent listens on for those who take any node's: whatever runs on this node.
    pub shared: Vec<SocketAddr>,
    /// Where other nodes' agents listen for those who want theirs, by node. Of the API server's the agent
    /// learns more from the API (ConfigMap `kayak-controllers`), and keeps them on disk.
    pub peers: BTreeMap<String, SocketAddr>,
    /// The port each instance has on its own address.
    pub port: u16,
    /// The HTTPS path that answers 200 when an instance may be given connections.
    pub ready_path: String,
    /// The name to verify an instance's serving certificate by.
    pub server_name: String,
    /// The CA bundle to verify it with.
    pub ca_file: String,
}

/// The pod network of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodNetwork {
    /// The range all pods' addresses are from, one or two families.
    pub pod_cidrs: Vec<IpNet>,
    /// Bytes the backend's headers take off the link's MTU (50 for VXLAN over IPv4).
    pub overhead: u32,
    /// The kubeconfig with which the agent reads its own Node's `spec.podCIDRs`.
    pub kubeconfig: String,
}

/// What the agent sees, as told on [`STATUS_SOCKET`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The supervised units by name.
    pub units: BTreeMap<String, UnitStatus>,
    /// Instances by component.
    pub fronts: BTreeMap<String, Vec<InstanceStatus>>,
    /// The pod ranges this node was given, once known.
    pub pod_cidrs: Vec<IpNet>,
    /// The node's etcd member, on a controller.
    #[serde(default)]
    pub etcd: Option<MemberStatus>,
    /// What is kept of the control plane on a controller, by component.
    #[serde(default)]
    pub checkpoints: BTreeMap<String, CheckpointStatus>,
    /// The virtual address, while this node has it.
    #[serde(default)]
    pub vip: Option<IpAddr>,
    /// What went wrong and has not mended, newest last, each a full sentence.
    pub troubles: Vec<String>,
}

/// One supervised unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Whether it runs, with what its files hold now, and is well.
    pub ready: bool,
    /// Why it is not ready.
    pub because: Option<String>,
    /// How often it ended since the agent started.
    pub restarts: u32,
    /// How it ended last, with the last lines of its log.
    pub last_end: Option<String>,
}

/// One control-plane instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// The pod's UID.
    pub uid: String,
    /// The pod's name.
    pub pod: String,
    /// Where it listens.
    pub address: IpAddr,
    /// The node whose agent stands before it, if that is another one.
    #[serde(default)]
    pub node: Option<String>,
    /// Whether it is given new connections.
    pub ready: bool,
    /// Why it is not.
    pub because: Option<String>,
}

/// What a node keeps of one component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointStatus {
    /// The generation in use, or that would be; nothing while none was seen healthy.
    pub generation: Option<String>,
    /// The pod of which it was made.
    pub of: Option<String>,
    /// Whether it is given to the kubelet, since nobody else does the component's work.
    pub active: bool,
    /// Why that is so, as far as the API tells.
    #[serde(default)]
    pub because: Option<String>,
    /// The command that mends it.
    #[serde(default)]
    pub mend: Option<String>,
}

/// One etcd member, as it tells itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Whether it serves reads that the majority agrees to.
    pub healthy: bool,
    /// Why not.
    pub because: Option<String>,
    /// Its id, in hexadecimal digits as etcd's own tools write it.
    pub id: String,
    /// Whether it only listens so far, and has no vote.
    pub learner: bool,
    /// The leader's id, if it knows one.
    pub leader: Option<String>,
    /// The last entry of the log that it has.
    pub raft_index: u64,
    /// The last entry of the log that it has applied.
    pub raft_applied_index: u64,
    /// Bytes of its database.
    pub db_size: u64,
    /// All members that it knows of; for a learner, those that one with a vote knows of. Empty while they
    /// cannot be asked for.
    pub members: Vec<Member>,
}

/// A member as another one knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id, in hexadecimal digits.
    pub id: String,
    /// Its name, the node's; empty until it has started.
    pub name: String,
    /// Whether it has no vote yet.
    pub learner: bool,
}
