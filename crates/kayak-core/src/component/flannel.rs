//! flannel, which carries pods' packets between nodes. The agent writes the CNI configuration.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Component, Env, HostDir, Probe, Probes, Workload, flags};
use crate::access::{cluster_role, cluster_role_binding, user};
use crate::cluster::Cluster;
use crate::config::NetworkBackend;
use crate::kubeconfig;
use crate::object::Object;
use crate::pki::{KeyStore, MissingKey};

/// Its name.
pub const NAME: &str = "flannel";
/// Bytes of VXLAN's headers over IPv4, and over IPv6.
const VXLAN_OVERHEAD: (u32, u32) = (50, 70);
/// Where the kernel takes VXLAN's packets, on every address: its socket cannot be bound to one.
pub const VXLAN_PORT: u16 = 8472;
/// The port on loopback that tells whether it is well.
pub const HEALTH_PORT: u16 = 10254;

/// A node's link to the cluster's bridge.
const BRIDGE_LINK: &str = "eth0";

/// States flannel.
pub fn component(cluster: &Cluster, keys: &KeyStore) -> Result<Component, MissingKey> {
    let (secrets, config) = (Component::secret_dir(NAME), Component::config_dir(NAME));
    let command = flags(
        "flanneld",
        &[
            ("kube-subnet-mgr", ""),
            ("kubeconfig-file", &format!("{secrets}/kubeconfig")),
            ("net-config-path", &format!("{config}/net-conf.json")),
            ("iface", iface(cluster)),
            ("ip-masq", ""),
            ("healthz-ip", "127.0.0.1"),
            ("healthz-port", &HEALTH_PORT.to_string()),
        ],
    );
    let net_conf = net_conf(cluster);
    let health = Some(Probe::Http("/healthz", HEALTH_PORT, Some("127.0.0.1")));
    Ok(Component {
        secrets: BTreeMap::from([(
            "kubeconfig",
            kubeconfig::embedded(cluster.name(), &Cluster::local_api_url(), keys, NAME)?,
        )]),
        config: BTreeMap::from([("net-conf.json", net_conf.to_string())]),
        host_dirs: vec![HostDir { name: "run", path: "/run/flannel", writable: true }],
        env: vec![Env::Field("NODE_NAME", "spec.nodeName"), Env::Field("NODE_IP", "status.hostIP")],
        probes: Probes { startup: health.clone(), ready: None, live: health },
        capabilities: &["NET_ADMIN", "NET_RAW"],
        ..Component::new(NAME, &cluster.images.flannel, Workload::NodeDaemonSet, command)
    })
}

/// By which interface other nodes are reached: with two families flannel takes none by its address of IPv6.
fn iface(cluster: &Cluster) -> &'static str {
    if cluster.config.network.pods.second.is_some() { BRIDGE_LINK } else { "$(NODE_IP)" }
}

fn net_conf(cluster: &Cluster) -> Value {
    let pods = cluster.config.network.pods;
    let mut conf = json!({ "EnableNFTables": true, "Backend": backend(cluster) });
    match pods.four() {
        Some(four) => conf["Network"] = json!(four),
        None => conf["EnableIPv4"] = json!(false),
    }
    if let Some(six) = pods.six() {
        conf["EnableIPv6"] = json!(true);
        conf["IPv6Network"] = json!(six);
    }
    conf
}

/// How packets come to other nodes. Where there are none, no socket is opened for it.
fn backend(cluster: &Cluster) -> Value {
    if overlay_port(cluster).is_some() {
        json!({ "Type": "vxlan", "Port": VXLAN_PORT })
    } else if cluster.has_other_nodes() {
        json!({ "Type": "host-gw" })
    } else if cluster.config.network.pods.six().is_some() {
        // `alloc` knows IPv4 only; without other nodes this one sets up nothing either.
        json!({ "Type": "host-gw" })
    } else {
        json!({ "Type": "alloc" })
    }
}

/// Bytes that the way between nodes takes off the link's MTU. With one node too: pods keep theirs when
/// there are more.
pub fn overhead(cluster: &Cluster) -> u32 {
    if cluster.has_own_pod_network() {
        return 0;
    }
    match cluster.config.network.backend {
        NetworkBackend::Vxlan if cluster.config.network.pods.six().is_some() => VXLAN_OVERHEAD.1,
        NetworkBackend::Vxlan => VXLAN_OVERHEAD.0,
        NetworkBackend::HostGw => 0,
    }
}

/// The port on which nodes exchange pods' packets, if they are wrapped on the way.
pub fn overlay_port(cluster: &Cluster) -> Option<u16> {
    let overlay = cluster.config.network.backend == NetworkBackend::Vxlan && !cluster.has_own_pod_network();
    (overlay && cluster.has_other_nodes()).then_some(VXLAN_PORT)
}

/// What flannel may do: read nodes, and write its own facts into their annotations.
pub fn objects() -> Vec<Object> {
    [
        cluster_role(
            "kayak:flannel",
            &json!([
                { "apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"] },
                { "apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"] },
            ]),
        ),
        cluster_role_binding("kayak:flannel", "kayak:flannel", &user("kayak:flannel")),
    ]
    .into()
}
