//! Other machines join: by which token, what they must know, and what is recorded of them.

mod record;
mod skew;
mod token;

pub use record::{NotAName, Record, node_name, records};
pub use skew::{CLOCK_SKEW, Skew, clocks_differ, skew};
pub use token::{NotAToken, Pin, Token, TokenTerms, join_line, secret_id};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::access::{cluster_role_binding, group, object, system_role};
use crate::cluster::{Cluster, Node, Role};
use crate::config::{Config, Kubelet, NetworkMode};
use crate::object::Object;

/// The group of all who hold a token of this cluster.
pub const JOINING: &str = "system:bootstrappers:kayak:worker";
/// The group of those whose machine may become a controller.
pub const JOINING_CONTROLLER: &str = "system:bootstrappers:kayak:controller";
/// The ConfigMap in `kube-system` that tells a machine which joins what it must know.
pub const INVITATION_CONFIG_MAP: &str = "kayak-join";
/// The key in [`INVITATION_CONFIG_MAP`].
pub const INVITATION_KEY: &str = "invitation.json";
/// The ConfigMap in `kube-system` in which controllers' agents record who has joined: node name to [`Record`].
pub const JOINED_CONFIG_MAP: &str = "kayak-joined";
/// The annotation of a certificate request by which a machine that joins tells its address.
pub const ADDRESS_ANNOTATION: &str = "kayak/address";
/// A node is taken to live so long after its kubelet last renewed its lease: the lease's own time.
pub const LEASE_SECONDS: i64 = 40;

/// What a machine must know of a cluster to join it. Nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Invitation {
    /// What of the configuration concerns every node.
    pub config: Config,
    /// Where the API is.
    pub controllers: Vec<Node>,
}

/// What is known of the cluster where it is another machine's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    /// Where the API is.
    pub controllers: Vec<Node>,
    /// Labels with which the node's kubelet registers it.
    pub labels: Vec<String>,
    /// Taints with which the node's kubelet registers it.
    pub taints: Vec<crate::config::Taint>,
}

impl Cluster {
    /// The nodes that run the control plane, wherever they are.
    pub fn all_controllers(&self) -> impl Iterator<Item = &Node> {
        self.controllers().chain(self.joined.iter().flat_map(|joined| &joined.controllers))
    }

    /// Whether packets have to find their way to pods of other nodes.
    pub fn has_other_nodes(&self) -> bool {
        self.nodes.len() > 1 || self.config.join
    }
}

/// How a machine wishes to be a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// What the cluster is called on this machine.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// By which of the machine's interfaces it is reached.
    pub interface: String,
    /// Labels, as `key=value`.
    pub labels: Vec<String>,
    /// Taints.
    pub taints: Vec<crate::config::Taint>,
}

impl Invitation {
    /// What a cluster tells. A kubelet's environment is its machine's affair, and may hold a proxy's password.
    pub fn of(cluster: &Cluster) -> Self {
        let wished = &cluster.config;
        let mut network = wished.network.clone();
        (network.interface, network.nameservers) = (None, None);
        let kubelet = Kubelet {
            extra_args: wished.kubelet.extra_args.clone(),
            config: wished.kubelet.config.clone(),
            ..Kubelet::default()
        };
        let config = Config {
            name: wished.name.clone(),
            profile: wished.profile,
            join: true,
            network,
            kubelet,
            ..Config::default()
        };
        Self { config, controllers: cluster.controllers().cloned().collect() }
    }

    /// The configuration of the machine that joins.
    pub fn configure(&self, guest: &Guest) -> Config {
        let mut config = self.config.clone();
        config.name.clone_from(&guest.cluster);
        config.network.mode = NetworkMode::Host;
        config.network.interface = Some(guest.interface.clone());
        config
    }

    /// Makes of a cluster that was resolved on this machine the one that its node joins.
    pub fn join(&self, cluster: Cluster, guest: &Guest) -> Cluster {
        let own = cluster.nodes.into_iter().next();
        let nodes = own.map(|node| Node { name: guest.node.clone(), role: Role::Worker, ..node });
        let joined = Joined {
            controllers: self.controllers.clone(),
            labels: guest.labels.clone(),
            taints: guest.taints.clone(),
        };
        Cluster { nodes: nodes.into_iter().collect(), joined: Some(joined), ..cluster }
    }
}

/// The rights of those who join, and what they are told; nothing where nobody may.
pub(crate) fn objects(cluster: &Cluster) -> Vec<Object> {
    if !cluster.config.join {
        return Vec::new();
    }
    let invitation = serde_json::to_string(&Invitation::of(cluster)).unwrap_or_default();
    let holders = group(JOINING);
    let metadata = |name: &str| json!({ "name": name, "namespace": "kube-system" });
    let told = object(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(INVITATION_CONFIG_MAP),
        "data": { INVITATION_KEY: invitation },
    }));
    // The agents write into it, and kayak says no more than that it is there.
    let recorded = object(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(JOINED_CONFIG_MAP),
    }));
    let asks = cluster_role_binding("kayak:joining", "system:node-bootstrapper", &holders);
    let reads = system_role(
        "kube-system",
        "kayak:joining",
        &holders,
        &json!([
            { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [INVITATION_CONFIG_MAP], "verbs": ["get"] },
        ]),
    );
    // Whether one name lives; there is no list of them.
    let lives = system_role(
        "kube-node-lease",
        "kayak:joining",
        &holders,
        &json!([{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"] }]),
    );
    [told, recorded, asks].into_iter().chain(reads).chain(lives).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::resolve;

    const HOME: &str = "join: true\nnetwork: { mode: host, interface: tun0, egress: false, pods: 10.9.0.0/16 }\n\
                        kubelet: { env: { HTTPS_PROXY: 'http://me:secret@proxy' }, config: { maxPods: 50 } }";

    fn guest() -> Guest {
        Guest {
            cluster: "there".into(),
            node: "attic".into(),
            interface: "eth0".into(),
            labels: vec!["disk=big".into()],
            taints: Vec::new(),
        }
    }

    #[test]
    fn an_invitation_tells_what_every_node_must_know_and_no_secret() {
        let invitation = Invitation::of(&resolve(HOME).unwrap());
        let text = serde_json::to_string(&invitation).unwrap();
        assert!(
            text.contains("10.9.0.0/16") && text.contains("maxPods") && text.contains("10.8.0.1"),
            "{text}"
        );
        assert!(!text.contains("secret") && !text.contains("tun0"), "{text}");
        assert_eq!(serde_json::from_str::<Invitation>(&text).unwrap(), invitation);
    }

    #[test]
    fn a_machine_that_joins_has_one_node_at_its_own_address() {
        let invitation = Invitation::of(&resolve(HOME).unwrap());
        let config = invitation.configure(&guest()).validated().unwrap();
        let there = invitation.join(resolve(&serde_json::to_string(&config).unwrap()).unwrap(), &guest());
        let [node] = there.nodes.as_slice() else { panic!("{:?}", there.nodes) };
        assert_eq!((node.name.as_str(), node.role), ("attic", Role::Worker));
        assert_eq!(node.address.to_string(), "192.0.2.2");
        assert_eq!(there.host_network().unwrap().address, node.address);
        assert_eq!(there.api_url(), "https://10.8.0.1:6443");
        assert_eq!(there.controllers().count(), 0, "it drives no controller");
    }

    #[test]
    fn nobody_joins_a_cluster_that_does_not_say_so() {
        assert!(objects(&resolve("").unwrap()).is_empty());
        assert!(!objects(&resolve(HOME).unwrap()).is_empty());
    }
}
