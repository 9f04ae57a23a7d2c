//! The certificates of a cluster as one table, and the store that holds them once issued.
//!
//! Issuing needs a clock and randomness and lives in `kayak-engine`; what is issued is decided here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::access::{AGENTS, CONTROLLER_AGENTS};
use crate::cluster::{Cluster, Node, Role};
use crate::registry::RegistryKeys;

/// Days a leaf certificate lasts.
pub const LEAF_DAYS: u32 = 365;
/// Days a CA lasts.
pub const CA_DAYS: u32 = 3650;
/// The name by which an API server's certificate is verified on its instance address.
pub const API_SERVER_NAME: &str = "kubernetes";

/// Bytes that may not be shown: no `Debug`, no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Gives the text out, to be written to a 0600 file or a Secret object and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// Everything that speaks the Kubernetes API.
    Kubernetes,
    /// etcd's servers, peers and clients.
    Etcd,
    /// The API server towards aggregated API servers.
    FrontProxy,
}

impl Authority {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kubernetes, Self::Etcd, Self::FrontProxy];

    /// The file stem of the CA's certificate and key.
    pub fn id(self) -> &'static str {
        match self {
            Self::Kubernetes => "ca",
            Self::Etcd => "etcd-ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }

    /// The CA's common name.
    pub fn common_name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Etcd => "etcd",
            Self::FrontProxy => "kubernetes-front-proxy",
        }
    }
}

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Prove a client.
    Client,
    /// Prove a server.
    Server,
    /// Both, as etcd's peers need it.
    Both,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSpec {
    /// File stem under `tls/`.
    pub id: String,
    /// Who signs it.
    pub authority: Authority,
    /// Subject: the user's name for Kubernetes.
    pub common_name: String,
    /// Subject: the user's groups for Kubernetes.
    pub organizations: Vec<String>,
    /// What it is for.
    pub usage: Usage,
    /// DNS names it is valid for.
    pub names: Vec<String>,
    /// Addresses it is valid for.
    pub addresses: Vec<IpAddr>,
    /// Days it lasts.
    pub days: u32,
}

/// Returns every leaf certificate of the cluster.
pub fn certificates(cluster: &Cluster) -> Vec<CertificateSpec> {
    use Authority::{Etcd, FrontProxy, Kubernetes};
    let mut table = vec![
        api_server(cluster),
        client(Kubernetes, "kube-apiserver-kubelet-client", "kube-apiserver-kubelet-client", &[]),
        // etcd checks names and addresses of a client's certificate against the connection, so
        // its clients' certificates carry none.
        client(Etcd, "kube-apiserver-etcd-client", "kube-apiserver-etcd-client", &[]),
        client(Etcd, "etcd-health-client", "etcd-health-client", &[]),
        client(FrontProxy, "front-proxy-client", "front-proxy-client", &[]),
        client(Kubernetes, "admin", "kubernetes-admin", &["system:masters"]),
        client(Kubernetes, "kube-controller-manager", "system:kube-controller-manager", &[]),
        client(Kubernetes, "kube-scheduler", "system:kube-scheduler", &[]),
        client(Kubernetes, "kube-proxy", "system:kube-proxy", &[]),
        serving("kube-controller-manager-serving", "kube-controller-manager"),
        serving("kube-scheduler-serving", "kube-scheduler"),
    ];
    if !cluster.has_own_pod_network() {
        table.push(client(Kubernetes, "flannel", "kayak:flannel", &[]));
    }
    for node in &cluster.nodes {
        let name = node.name.as_str();
        let user = format!("system:node:{name}");
        let kubelet = client(Kubernetes, &format!("{name}-kubelet"), &user, &["system:nodes"]);
        table.push(CertificateSpec {
            id: format!("{name}-kubelet-serving"),
            usage: Usage::Server,
            names: vec![name.into()],
            addresses: node.addresses().collect(),
            ..kubelet.clone()
        });
        table.push(kubelet);
        let groups: &[&str] = match node.role {
            Role::Controller => &[AGENTS, CONTROLLER_AGENTS],
            Role::Worker => &[AGENTS],
        };
        table.push(client(Kubernetes, &format!("{name}-agent"), &format!("kayak:agent:{name}"), groups));
        if node.role == Role::Controller {
            table.push(etcd_member(&format!("{name}-etcd-server"), node));
            table.push(etcd_member(&format!("{name}-etcd-peer"), node));
        }
    }
    table
}

fn api_server(cluster: &Cluster) -> CertificateSpec {
    let domain = &cluster.config.network.domain;
    let mut names = vec![
        API_SERVER_NAME.to_owned(),
        "kubernetes.default".into(),
        "kubernetes.default.svc".into(),
        format!("kubernetes.default.svc.{domain}"),
        "localhost".into(),
    ];
    let mut addresses = vec![Ipv4Addr::LOCALHOST.into(), cluster.api_service_ip(), cluster.api_node_ip()];
    for node in cluster.controllers() {
        names.push(node.name.clone());
        addresses.extend(node.addresses());
    }
    names.extend(cluster.config.api.name.iter().chain(&cluster.config.api.extra_names).cloned());
    addresses.extend(cluster.config.api.vip.map(IpAddr::V4));
    addresses.extend(cluster.config.api.extra_addresses.iter().copied());
    CertificateSpec { names, addresses, ..serving("kube-apiserver", "kube-apiserver") }
}

fn client(authority: Authority, id: &str, user: &str, groups: &[&str]) -> CertificateSpec {
    CertificateSpec {
        id: id.into(),
        authority,
        common_name: user.into(),
        organizations: groups.iter().map(|&g| g.into()).collect(),
        usage: Usage::Client,
        names: Vec::new(),
        addresses: Vec::new(),
        days: LEAF_DAYS,
    }
}

fn serving(id: &str, name: &str) -> CertificateSpec {
    CertificateSpec {
        usage: Usage::Server,
        names: vec![name.into()],
        ..client(Authority::Kubernetes, id, name, &[])
    }
}

fn etcd_member(id: &str, node: &Node) -> CertificateSpec {
    CertificateSpec {
        // etcd's gateway dials its own client port with the server certificate: it must be both.
        usage: Usage::Both,
        names: vec![node.name.clone(), "localhost".into()],
        addresses: [Ipv4Addr::LOCALHOST.into()].into_iter().chain(node.addresses()).collect(),
        ..client(Authority::Etcd, id, &node.name, &[])
    }
}

/// A certificate and its private key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: Secret,
}

/// Everything secret of a cluster, and the certificates that go with it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyStore {
    /// CAs by [`Authority::id`] and leaves by [`CertificateSpec::id`].
    pub pairs: BTreeMap<String, Pair>,
    /// The key pair that signs service-account tokens; the certificate field holds the *public key*,
    /// because the API server refuses a PKCS#8 EC private key as `--service-account-key-file`.
    pub service_account: Option<Pair>,
    /// The base64 of 32 random bytes that encrypts Secrets in etcd.
    pub encryption_key: Option<Secret>,
    /// What is known of the owner's registries, by name.
    pub registries: BTreeMap<String, RegistryKeys>,
}

/// A key or certificate that the store lacks.
#[derive(Debug, thiserror::Error)]
#[error("the key store holds no `{0}`")]
pub struct MissingKey(pub String);

impl KeyStore {
    /// Returns the pair of this id.
    pub fn pair(&self, id: &str) -> Result<&Pair, MissingKey> {
        self.pairs.get(id).ok_or_else(|| MissingKey(id.into()))
    }

    /// Returns a CA's certificate.
    pub fn ca(&self, authority: Authority) -> Result<&str, MissingKey> {
        Ok(&self.pair(authority.id())?.certificate)
    }

    /// Returns the service-account key pair.
    pub fn service_account(&self) -> Result<&Pair, MissingKey> {
        self.service_account.as_ref().ok_or_else(|| MissingKey("service-account".into()))
    }

    /// Returns the key that encrypts Secrets in etcd.
    pub fn encryption_key(&self) -> Result<&Secret, MissingKey> {
        self.encryption_key.as_ref().ok_or_else(|| MissingKey("encryption-key".into()))
    }
}
