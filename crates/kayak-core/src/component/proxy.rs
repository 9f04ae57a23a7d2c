//! kube-proxy, which makes service addresses work on every node.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Component, Env, Probe, Probes, Workload, flags};
use crate::cluster::Cluster;
use crate::kubeconfig;
use crate::object::{merge, to_yaml};
use crate::pki::{KeyStore, MissingKey};

/// Its name.
pub const NAME: &str = "kube-proxy";
/// The port on loopback that tells whether it is well.
pub const HEALTH_PORT: u16 = 10256;
/// The port on loopback of its metrics.
pub const METRICS_PORT: u16 = 10249;

/// States kube-proxy.
pub fn component(cluster: &Cluster, keys: &KeyStore) -> Result<Component, MissingKey> {
    let (secrets, config) = (Component::secret_dir(NAME), Component::config_dir(NAME));
    let command =
        flags(NAME, &[("config", &format!("{config}/config.yaml")), ("hostname-override", "$(NODE_NAME)")]);
    let mut settings = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": { "kubeconfig": format!("{secrets}/kubeconfig") },
        "clusterCIDR": cluster.config.network.pods.joined(),
        "healthzBindAddress": format!("127.0.0.1:{HEALTH_PORT}"),
        "metricsBindAddress": format!("127.0.0.1:{METRICS_PORT}"),
        // NodePorts answer on the node's own address only, not on every address it happens to have.
        "nodePortAddresses": ["primary"],
        // Zero leaves the kernel's values: they belong to the machine.
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
    });
    merge(&mut settings, &cluster.config.components.kube_proxy.config);
    let health = Some(Probe::Http("/livez", HEALTH_PORT, Some("127.0.0.1")));
    Ok(Component {
        secrets: BTreeMap::from([(
            "kubeconfig",
            kubeconfig::embedded(cluster.name(), &Cluster::local_api_url(), keys, NAME)?,
        )]),
        config: BTreeMap::from([("config.yaml", to_yaml(&settings))]),
        env: vec![Env::Field("NODE_NAME", "spec.nodeName")],
        probes: Probes {
            startup: Some(Probe::Http("/healthz", HEALTH_PORT, Some("127.0.0.1"))),
            ready: None,
            live: health,
        },
        capabilities: &["NET_ADMIN"],
        ..Component::new(NAME, &cluster.images.kubernetes, Workload::NodeDaemonSet, command)
    })
}
