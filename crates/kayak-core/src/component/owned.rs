//! What may not be overridden: flags, fields and variables on which the cluster's working depends.

use super::{apiserver, controller_manager, coredns, etcd, flannel, proxy, scheduler};

/// Names that kayak keeps for itself, for one reason.
pub struct Owned {
    /// Why, as half a sentence that has the names for its subject.
    pub because: &'static str,
    /// Flags without dashes, or fields with dots.
    pub names: &'static [&'static str],
}

/// Environment variables by which kayak tells a component about its pod.
pub const VARIABLES: Owned =
    Owned { because: "tells the component which pod it is", names: &["POD_UID", "NODE_NAME", "NODE_IP"] };

/// The flags of kube-proxy that hold beside a configuration file: it copies those about logging and
/// the node's name, and drops the others (`Options.Complete`, cmd/kube-proxy/app/options.go).
pub const PROXY_FLAGS: [&str; 5] =
    ["v", "vmodule", "logging-format", "log-flush-frequency", "log-text-split-stream"];

const fn owned(because: &'static str, names: &'static [&'static str]) -> Owned {
    Owned { because, names }
}

const FRONT: &str = "is where the node's agent looks for each instance";
const FILES: &str = "names a file that kayak writes, and issues anew in time";
const NETWORK: &str = "follows from the ranges below `network`";
const NODE_SETTINGS: &str = "is a setting of the node: write it below `nodes`";
const CONFIG_FILE: &str = "would replace all that kayak says by flags";

const APISERVER: &[Owned] = &[
    owned(FRONT, &["bind-address", "secure-port"]),
    owned(
        "belongs to the address at which the node's agent stands in front of all instances",
        &["advertise-address", "endpoint-reconciler-type"],
    ),
    owned("is where etcd is", &["etcd-servers"]),
    owned(NETWORK, &["service-cluster-ip-range"]),
    owned(
        FILES,
        &[
            "audit-policy-file",
            "authentication-config",
            "client-ca-file",
            "encryption-provider-config",
            "etcd-cafile",
            "etcd-certfile",
            "etcd-keyfile",
            "kubelet-certificate-authority",
            "kubelet-client-certificate",
            "kubelet-client-key",
            "proxy-client-cert-file",
            "proxy-client-key-file",
            "requestheader-client-ca-file",
            "service-account-key-file",
            "service-account-signing-key-file",
            "tls-cert-file",
            "tls-private-key-file",
        ],
    ),
    // The API server does not start with both.
    owned(
        "is refused by the API server beside the file of authentication that kayak gives it",
        &[
            "anonymous-auth",
            "oidc-ca-file",
            "oidc-client-id",
            "oidc-groups-claim",
            "oidc-groups-prefix",
            "oidc-issuer-url",
            "oidc-required-claim",
            "oidc-signing-algs",
            "oidc-username-claim",
            "oidc-username-prefix",
        ],
    ),
];

const ELECTED: Owned =
    owned("keeps an old instance and its successor from working at once", &["leader-elect"]);
const ELECTED_FILES: Owned = owned(
    FILES,
    &[
        "authentication-kubeconfig",
        "authorization-kubeconfig",
        "client-ca-file",
        "cluster-signing-cert-file",
        "cluster-signing-key-file",
        "kubeconfig",
        "requestheader-client-ca-file",
        "root-ca-file",
        "service-account-private-key-file",
        "tls-cert-file",
        "tls-private-key-file",
    ],
);

const CONTROLLER_MANAGER: &[Owned] = &[
    owned(FRONT, &["bind-address", "secure-port"]),
    owned(NETWORK, &["allocate-node-cidrs", "cluster-cidr", "service-cluster-ip-range"]),
    owned("is the setting `name`", &["cluster-name"]),
    ELECTED,
    ELECTED_FILES,
];

const SCHEDULER: &[Owned] = &[
    owned(FRONT, &["bind-address", "secure-port"]),
    owned(CONFIG_FILE, &["config"]),
    ELECTED,
    ELECTED_FILES,
];

const ETCD: &[Owned] = &[
    owned(
        "is how the API server and other members find this one",
        &[
            "advertise-client-urls",
            "initial-advertise-peer-urls",
            "initial-cluster",
            "initial-cluster-state",
            "initial-cluster-token",
            "listen-client-urls",
            "listen-peer-urls",
            "name",
        ],
    ),
    owned("is where the node keeps the cluster's state", &["data-dir", "wal-dir"]),
    owned("would make a cluster of its own of one member", &["force-new-cluster"]),
    owned(CONFIG_FILE, &["config-file"]),
    owned(
        FILES,
        &[
            "cert-file",
            "client-cert-auth",
            "key-file",
            "peer-cert-file",
            "peer-client-cert-auth",
            "peer-key-file",
            "peer-trusted-ca-file",
            "trusted-ca-file",
        ],
    ),
];

const FLANNEL: &[Owned] = &[
    owned(FILES, &["kubeconfig-file", "net-config-path"]),
    owned("follows from the node's address", &["iface", "iface-regex", "public-ip"]),
    owned("is how flannel learns of nodes and their ranges", &["kube-subnet-mgr"]),
    owned("is where the kubelet asks how it is", &["healthz-ip", "healthz-port"]),
];

const COREDNS: &[Owned] = &[
    owned("is the setting `components.coredns.corefile`", &["conf"]),
    owned("is the port of the DNS service", &["dns.port", "p"]),
];

const KUBELET_FLAGS: &[Owned] = &[
    owned(FILES, &["bootstrap-kubeconfig", "cert-dir", "kubeconfig"]),
    owned("is the setting `kubelet.config`", &["config", "config-dir"]),
    owned("follows from the node's name and address", &["hostname-override", "node-ip"]),
    owned("is where the node has its runtime", &["container-runtime-endpoint"]),
    owned(NODE_SETTINGS, &["node-labels", "register-with-taints"]),
];

const KUBELET_FIELDS: &[Owned] = &[
    owned("says what file it is", &["apiVersion", "kind"]),
    owned("is where the API server reaches the kubelet", &["address", "port"]),
    owned(FILES, &["authentication.x509.clientCAFile", "tlsCertFile", "tlsPrivateKeyFile"]),
    owned("keeps the kubelet's certificates from running out", &["rotateCertificates", "serverTLSBootstrap"]),
    owned("is where the node has its runtime", &["containerRuntimeEndpoint"]),
    owned("is what the node's runtime has too", &["cgroupDriver"]),
    owned("is the setting `network.domain`", &["clusterDomain"]),
    owned("needs programs that a node does not have", &["makeIPTablesUtilChains"]),
    owned("is where etcd's manifest is", &["staticPodPath"]),
    owned(NODE_SETTINGS, &["registerWithTaints"]),
];

const PROXY_FIELDS: &[Owned] = &[
    owned("says what file it is", &["apiVersion", "kind"]),
    owned(FILES, &["clientConnection.kubeconfig"]),
    owned(NETWORK, &["clusterCIDR"]),
    // A value that is not zero makes kube-proxy write to the kernel, and end because it may not.
    owned("belongs to the machine, whose kernel kube-proxy may not set", &["conntrack"]),
    owned("is where the kubelet asks how it is", &["healthzBindAddress"]),
    owned("follows from the node's name", &["hostnameOverride"]),
    owned("needs what a node has: nftables, and no iptables", &["mode"]),
];

/// The flags of a component that are kayak's.
pub fn flags(component: &str) -> &'static [Owned] {
    match component {
        apiserver::NAME => APISERVER,
        controller_manager::NAME => CONTROLLER_MANAGER,
        scheduler::NAME => SCHEDULER,
        etcd::NAME => ETCD,
        flannel::NAME => FLANNEL,
        coredns::NAME => COREDNS,
        crate::host::KUBELET => KUBELET_FLAGS,
        _ => &[],
    }
}

/// The fields of a component's configuration file that are kayak's.
pub fn fields(component: &str) -> &'static [Owned] {
    match component {
        crate::host::KUBELET => KUBELET_FIELDS,
        proxy::NAME => PROXY_FIELDS,
        _ => &[],
    }
}

/// Says why a name may not be overridden, if so.
pub fn refusal(owned: &[Owned], name: &str) -> Option<&'static str> {
    owned.iter().find(|owned| owned.names.contains(&name)).map(|owned| owned.because)
}
