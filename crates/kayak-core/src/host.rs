//! The files of one node: what its agent, runtime and kubelet read.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::json;

use crate::assets::Content;
use crate::cluster::{API_PORT, Cluster, LOCAL_API_PORT, Node, Role};
use crate::component::{self, apiserver, controller_manager, etcd, flannel, scheduler, set_flags};
use crate::config::NetworkMode;
use crate::form::{STATIC_SECRETS, static_pod};
use crate::join::Joined;
use crate::kubeconfig;
use crate::node::{
    CNI_CONFIG_DIR, CONFIG_PATH, CRI_SOCKET, Controller, EtcdClient, Front, Health, NodeConfig, PodNetwork,
    RESOLV_CONF, Unit,
};
use crate::object::{merge, to_yaml};
use crate::pki::{API_SERVER_NAME, Authority, KeyStore, MissingKey};
use crate::profile::GARBAGE;
use crate::registry;

/// The kubelet's name, as a unit and among the owner's settings.
pub const KUBELET: &str = "kubelet";
const KUBELET_CONFIG: &str = "/etc/kubernetes/kubelet/config.yaml";
/// How the kubelet reaches the API, as its node.
pub const KUBELET_KUBECONFIG: &str = "/etc/kubernetes/kubelet/kubeconfig";
const AGENT_KUBECONFIG: &str = "/etc/kubernetes/kayak/kubeconfig";
const CONTAINERD_CONFIG: &str = "/etc/kubernetes/containerd/config.toml";
const CA_FILE: &str = "/etc/kubernetes/pki/ca.crt";
/// Where a controller keeps the cluster's configuration as it was last applied.
pub const CLUSTER_CONFIG: &str = "/etc/kubernetes/kayak/cluster.yaml";
/// Upstream's default of `healthzPort`.
pub(crate) const KUBELET_HEALTH_PORT: u16 = 10248;
/// Where the kubelet keeps the certificates that it renews itself.
pub const KUBELET_PKI: &str = "/var/lib/kubelet/pki";
/// Where the kubelet finds static pods.
pub const MANIFEST_DIR: &str = "/etc/kubernetes/manifests";

/// Renders every file of a node, by its absolute path there.
pub fn files(
    cluster: &Cluster,
    node: &Node,
    keys: &KeyStore,
) -> Result<BTreeMap<String, Content>, MissingKey> {
    let text = |text: String| Content::File(text.into_bytes());
    let mut files = BTreeMap::from([
        (CONFIG_PATH.to_owned(), text(to_json(&config(cluster, node)))),
        (CA_FILE.to_owned(), text(keys.ca(Authority::Kubernetes)?.to_owned())),
        (CONTAINERD_CONFIG.to_owned(), text(containerd(cluster))),
        (KUBELET_CONFIG.to_owned(), text(kubelet(cluster, node))),
        (
            KUBELET_KUBECONFIG.to_owned(),
            text(kubeconfig::with_files(
                cluster.name(),
                &Cluster::local_api_url(),
                keys,
                &format!("{}-kubelet", node.name),
                &format!("{KUBELET_PKI}/kubelet-client-current.pem"),
            )?),
        ),
    ]);
    // The first pair is issued directly, so that the node does not wait for a signer that it is
    // itself about to run; a machine that joins has no CA, and its kubelet asks for the second.
    // Rotation wants the current one to be a link.
    let first = [("client", "kubelet"), ("server", "kubelet-serving")];
    for (kind, id) in first.into_iter().take(if cluster.joined.is_some() { 1 } else { 2 }) {
        let pair = keys.pair(&format!("{}-{id}", node.name))?;
        let first = format!("kubelet-{kind}-first.pem");
        files.insert(format!("{KUBELET_PKI}/kubelet-{kind}-current.pem"), Content::Link(first.clone()));
        files.insert(
            format!("{KUBELET_PKI}/{first}"),
            text(format!("{}{}", pair.certificate, pair.key.expose())),
        );
    }
    files.extend(registry::files(cluster, keys)?.into_iter().map(|(path, content)| (path, text(content))));
    if cluster.joined.is_none() {
        let agent = format!("{}-agent", node.name);
        let agent = kubeconfig::embedded(cluster.name(), &Cluster::local_api_url(), keys, &agent)?;
        files.insert(AGENT_KUBECONFIG.into(), text(agent.expose().to_owned()));
    }
    if node.role == Role::Controller {
        files.insert(CLUSTER_CONFIG.into(), text(cluster.source.clone()));
        files.insert(etcd::MEMBERS_FILE.into(), text(etcd::members_file(cluster)));
        let etcd = component::member(cluster, node, keys)?;
        files.insert(format!("{MANIFEST_DIR}/{}.yaml", etcd.name), text(to_yaml(&static_pod(&etcd))));
        for (name, content) in &etcd.secrets {
            files.insert(format!("{STATIC_SECRETS}/{}/{name}", etcd.name), text(content.expose().to_owned()));
        }
    }
    Ok(files)
}

fn to_json(config: &NodeConfig) -> String {
    // Serialising a struct of texts and numbers cannot fail.
    serde_json::to_string_pretty(config).unwrap_or_default()
}

fn config(cluster: &Cluster, node: &Node) -> NodeConfig {
    NodeConfig {
        cluster: cluster.name().into(),
        name: node.name.clone(),
        address: node.address,
        interface: cluster.config.network.interface.clone(),
        hosts: hosts(cluster, node),
        nameservers: cluster.nameservers.clone(),
        sysctls: sysctls(cluster),
        units: vec![containerd_unit(cluster), kubelet_unit(cluster, node)],
        fronts: fronts(cluster, node),
        api_address: cluster.api_node_ip(),
        pod_network: (!cluster.has_own_pod_network()).then(|| PodNetwork {
            pod_cidrs: cluster.config.network.pods.all().collect(),
            overhead: flannel::overhead(cluster),
            kubeconfig: KUBELET_KUBECONFIG.into(),
        }),
        // Where the machine has joined, its node has one identity, the kubelet's.
        kubeconfig: if cluster.joined.is_some() { KUBELET_KUBECONFIG } else { AGENT_KUBECONFIG }.into(),
        controller: (node.role == Role::Controller)
            .then(|| Controller { etcd: etcd_client(), vip: cluster.config.api.vip.map(IpAddr::V4) }),
    }
}

/// etcd's members know each other by name; nobody else needs one.
fn hosts(cluster: &Cluster, node: &Node) -> BTreeMap<String, IpAddr> {
    let named = cluster.all_controllers().chain([node]);
    named.map(|n| (n.name.clone(), n.address)).collect()
}

fn etcd_client() -> EtcdClient {
    let file = |name: &str| format!("{STATIC_SECRETS}/{}/{name}", etcd::NAME);
    EtcdClient {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), etcd::CLIENT_PORT),
        ca_file: file("ca.crt"),
        certificate_file: file("health-client.crt"),
        key_file: file("health-client.key"),
    }
}

/// The ports the agent owns: for the API on every node, for the other two on controllers.
fn fronts(cluster: &Cluster, node: &Node) -> Vec<Front> {
    let local = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let front = |component: &str, port, path: &str, server_name: &str| Front {
        component: component.into(),
        own: Vec::new(),
        shared: Vec::new(),
        peers: BTreeMap::new(),
        port,
        ready_path: path.into(),
        server_name: server_name.into(),
        ca_file: CA_FILE.into(),
    };
    let others = cluster.all_controllers().filter(|other| other.name != node.name);
    let mut api = Front {
        shared: vec![local(LOCAL_API_PORT), SocketAddr::new(cluster.api_node_ip(), API_PORT)],
        peers: others.map(|other| (other.name.clone(), other.at(API_PORT))).collect(),
        ..front(apiserver::NAME, API_PORT, "/readyz", API_SERVER_NAME)
    };
    if node.role == Role::Worker {
        return vec![api];
    }
    api.own = node.addresses().map(|address| SocketAddr::new(address, API_PORT)).collect();
    // `kubectl port-forward` to a pod on the node's network dials localhost.
    api.own.push(local(API_PORT));
    // Every controller listens there, and whoever has the address is reached.
    api.own.extend(cluster.config.api.vip.map(|vip| SocketAddr::new(vip.into(), API_PORT)));
    // The API server's componentstatuses look for these two on localhost.
    let elected = [(controller_manager::NAME, controller_manager::PORT), (scheduler::NAME, scheduler::PORT)];
    let elected =
        elected.map(|(name, port)| Front { own: vec![local(port)], ..front(name, port, "/healthz", name) });
    [api].into_iter().chain(elected).collect()
}

/// The kernel's settings for the node's own network; those of the machine's are its owner's, and
/// what it takes there the driver has on loan.
fn sysctls(cluster: &Cluster) -> BTreeMap<String, String> {
    if cluster.config.network.mode == NetworkMode::Host {
        return BTreeMap::new();
    }
    let mut sysctls = vec![
        ("net.ipv4.ip_forward", "1"),
        // Pods' packets leave by another way than they came when a service address is between.
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
    ];
    if cluster.config.network.pods.six().is_some() {
        sysctls.extend([
            ("net.ipv6.conf.all.forwarding", "1"),
            // The node's ends of pods' links all have the same address, each for itself: a pod would wait
            // for a second until it is known that nobody else has it.
            ("net.ipv6.conf.default.accept_dad", "0"),
        ]);
    }
    sysctls.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// What the profile gives to every unit, and the way to registries.
fn environment(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut env = registry::proxy(cluster);
    env.insert(GARBAGE.to_owned(), cluster.config.profile.garbage().to_owned());
    env
}

fn containerd_unit(cluster: &Cluster) -> Unit {
    Unit {
        name: "containerd".into(),
        command: ["/usr/local/bin/containerd", "--config", CONTAINERD_CONFIG].map(str::to_owned).into(),
        // The shims have it from here, one for each pod.
        env: environment(cluster),
        health: Some(Health::Runtime { socket: CRI_SOCKET.into() }),
        files: vec![CONTAINERD_CONFIG.into()],
    }
}

fn kubelet_unit(cluster: &Cluster, node: &Node) -> Unit {
    let wished = &cluster.config.kubelet;
    let node_ips: Vec<_> = node.addresses().map(|address| address.to_string()).collect();
    let mut command = vec![
        "/usr/local/bin/kubelet".into(),
        format!("--config={KUBELET_CONFIG}"),
        format!("--kubeconfig={KUBELET_KUBECONFIG}"),
        format!("--cert-dir={KUBELET_PKI}"),
        format!("--hostname-override={}", node.name),
        format!("--node-ip={}", node_ips.join(",")),
    ];
    if let Some(Joined { labels, .. }) = &cluster.joined
        && !labels.is_empty()
    {
        command.push(format!("--node-labels={}", labels.join(",")));
    }
    set_flags(&mut command, &wished.extra_args);
    // It would go on with what it has read for minutes.
    let logins = registry::has_logins(cluster).then_some(registry::LOGINS);
    let mut env = environment(cluster);
    env.extend(wished.env.iter().map(|(name, value)| (name.clone(), value.to_string())));
    Unit {
        name: KUBELET.into(),
        command,
        env,
        health: Some(Health::Http {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), KUBELET_HEALTH_PORT),
            path: "/healthz".into(),
        }),
        files: [KUBELET_CONFIG, KUBELET_KUBECONFIG, CA_FILE]
            .into_iter()
            .chain(logins)
            .map(str::to_owned)
            .collect(),
    }
}

/// The kubelet's configuration file.
fn kubelet(cluster: &Cluster, node: &Node) -> String {
    let mut settings = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": CA_FILE },
        },
        "authorization": { "mode": "Webhook" },
        "containerRuntimeEndpoint": format!("unix://{CRI_SOCKET}"),
        "cgroupDriver": "cgroupfs",
        // Hosts with the first version of cgroups, and with swap, are the owner's choice.
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": cluster.dns_service_ips(),
        "clusterDomain": cluster.config.network.domain,
        "resolvConf": RESOLV_CONF,
        // A component that had to wait for another is back within seconds, not minutes.
        "crashLoopBackOff": { "maxContainerRestartPeriod": "5s" },
        // The bundle's images are pinned, and nothing could pull them again: leave disks fuller.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "3%",
            "nodefs.inodesFree": "2%",
            "imagefs.available": "3%",
        },
        "healthzBindAddress": "127.0.0.1",
        // There is no iptables in a node, and nothing that needs its chains.
        "makeIPTablesUtilChains": false,
        "rotateCertificates": true,
        "serverTLSBootstrap": true,
        "staticPodPath": MANIFEST_DIR,
        "tlsMinVersion": "VersionTLS12",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    });
    if let Some(Joined { taints, .. }) = &cluster.joined {
        settings["registerWithTaints"] = json!(taints);
    }
    merge(&mut settings, &cluster.config.kubelet.config);
    to_yaml(&settings)
}

/// containerd's configuration file.
fn containerd(cluster: &Cluster) -> String {
    let pause = &cluster.images.pause;
    let registries = registry::settings(cluster);
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = [
    "io.containerd.differ.v1.erofs",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.monitor.container.v1.restart",
    "io.containerd.monitor.task.v1.cgroups",
    "io.containerd.mount-handler.v1.erofs",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.ttrpc.v1.otelttrpc",
]

[grpc]
address = "{CRI_SOCKET}"

[plugins."io.containerd.cri.v1.runtime"]
# A node container may not raise these on many hosts; what cannot be had is done without.
restrict_oom_score_adj = true
disable_apparmor = true
tolerate_missing_hugetlb_controller = true

[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/opt/cni/bin"]
conf_dir = "{CNI_CONFIG_DIR}"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"
{registries}"#
    )
}
