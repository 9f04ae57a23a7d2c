//! `cluster.yaml`: what the owner wishes, with its defaults.

use std::net::{IpAddr, Ipv4Addr};

use camino::Utf8PathBuf;
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod annotated;
mod check;
mod components;
mod counts;
mod document;
mod explain;
mod finding;
mod label;
mod nodes;
mod path;
mod quantity;
mod ranges;
mod read;
mod reference;
mod registries;
mod schema;
mod vip;

pub use annotated::annotated;
pub use components::{
    Amounts, Components, DnsSettings, Environment, ExtraArgs, FlagValue, Kubelet, Overrides, ProxySettings,
    Resources, Scalar,
};
pub use counts::Counts;
pub use finding::{ConfigError, Finding, Place};
pub use label::label;
pub use nodes::{MountSettings, NodeSettings, Taint, TaintEffect};
pub use quantity::{NoQuantity, Quantity};
pub use ranges::Ranges;
pub use reference::reference;
pub use registries::{ProxyServer, RegistrySettings};
pub use schema::schema;

/// The whole file. Every field has a default: an empty file is a valid cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The cluster's name: 1 to 20 lower-case letters, digits and dashes; names what it makes on the machine.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$"))]
    pub name: String,
    /// How much of the machine the cluster may take for itself.
    pub profile: Profile,
    /// How many nodes run the control plane, 1 to 7; an odd number, since most of them must live.
    pub controllers: u32,
    /// How many nodes run workloads only. With any, controllers run none of those.
    pub workers: u32,
    /// Whether other machines may join, each with a token of `kayak token create`; needs `network.mode: host`.
    pub join: bool,
    /// Addresses and ranges. Each range is one of IPv4 or of IPv6, or a list with one of each; nodes, pods
    /// and services are of the same families, the primary one first.
    pub network: Network,
    /// How clients reach the API.
    pub api: Api,
    /// Certificates.
    pub pki: Pki,
    /// Flags, environment and resources of single components.
    #[serde(skip_serializing_if = "is_default")]
    pub components: Components,
    /// The kubelet of every node.
    #[serde(skip_serializing_if = "is_default")]
    pub kubelet: Kubelet,
    /// Registries of images that need a CA, a password or another address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<RegistrySettings>,
    /// Labels, taints, mounts, devices and memory of single nodes: `controller-0`, `worker-0` and so on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeSettings>,
}

/// How much of the machine the cluster may take for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// A machine of its own, or one with memory to spare.
    #[default]
    Default,
    /// A home server of 2 cores and 4 GiB with other things to do: smaller caches and quotas, for some
    /// more work of the processors.
    Home,
}

/// Addresses and ranges. They must not overlap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Where the nodes' addresses come from.
    pub mode: NetworkMode,
    /// The machine's interface, a VPN's say, by whose address alone the cluster may be reached; for `mode: host`.
    pub interface: Option<String>,
    /// Whether pods and nodes reach the outside, masqueraded by the machine.
    pub egress: bool,
    /// The nodes' addresses; the first one is the machine's own on the bridge. Unused with `mode: host`.
    pub nodes: Ranges,
    /// The pods' addresses; each node gets a /24 of it, a /64 of IPv6.
    pub pods: Ranges,
    /// The services' virtual addresses.
    pub services: Ranges,
    /// Who gives pods their network.
    pub provider: NetworkProvider,
    /// How flannel carries pods' packets between nodes.
    pub backend: NetworkBackend,
    /// The DNS domain of services.
    pub domain: String,
    /// Name servers for names outside the cluster; the machine's own if absent.
    #[schemars(example = serde_json::json!(["192.0.2.53"]))]
    pub nameservers: Option<Vec<IpAddr>>,
    /// The proxy by which nodes pull images.
    #[serde(skip_serializing_if = "is_default")]
    pub proxy: ProxyServer,
}

/// Where the nodes' addresses come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Each node has a network of its own, on a bridge that only this machine reaches.
    #[default]
    Bridge,
    /// The node is on the machine's own network, and is reached by one interface's address.
    Host,
}

/// Who gives pods their network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkProvider {
    /// flannel, with the CNI plugins of the node image.
    #[default]
    Flannel,
    /// The owner's own: nodes are Ready once it has put its CNI configuration into /etc/cni/net.d, and kayak
    /// waits neither for that nor for pods on that network.
    None,
}

/// How flannel carries pods' packets between nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkBackend {
    /// Wrapped in UDP: works wherever nodes reach each other.
    #[default]
    Vxlan,
    /// As they are, by a route for each node: faster, for nodes on one link.
    HostGw,
}

/// How clients reach the API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Api {
    /// The DNS name that clients use, where a load balancer or DNS leads to the controllers.
    #[schemars(example = "api.example.com")]
    pub name: Option<String>,
    /// An address on the nodes' network that is always a living controller's; with `mode: host`, one on the
    /// interface's.
    #[schemars(with = "Option<String>", example = "10.254.0.250")]
    pub vip: Option<Ipv4Addr>,
    /// DNS names in the API server's certificate beyond the usual ones.
    pub extra_names: Vec<String>,
    /// Addresses in the API server's certificate beyond the usual ones.
    pub extra_addresses: Vec<IpAddr>,
}

/// Certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pki {
    /// The owner's own CA for Kubernetes' certificates; made if absent.
    pub kubernetes_ca: Option<CaFiles>,
    /// The owner's own CA for etcd's certificates; made if absent.
    pub etcd_ca: Option<CaFiles>,
    /// The owner's own CA for the front proxy's certificate; made if absent.
    pub front_proxy_ca: Option<CaFiles>,
    /// Whether nodes trust the CAs that this machine trusts, a company's own say, instead of Debian's list.
    pub trust_machine: bool,
}

/// A CA's certificate and key in PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaFiles {
    /// The certificate's path.
    #[schemars(with = "String", example = "ca.crt")]
    pub certificate: Utf8PathBuf,
    /// The private key's path.
    #[schemars(with = "String", example = "ca.key")]
    pub key: Utf8PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "kayak".into(),
            profile: Profile::default(),
            controllers: 1,
            workers: 0,
            join: false,
            network: Network::default(),
            api: Api::default(),
            pki: Pki::default(),
            components: Components::default(),
            kubelet: Kubelet::default(),
            registries: Vec::new(),
            nodes: Vec::new(),
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            mode: NetworkMode::Bridge,
            interface: None,
            egress: true,
            nodes: net([10, 254, 0, 0], 24),
            pods: net([10, 244, 0, 0], 16),
            services: net([10, 96, 0, 0], 16),
            provider: NetworkProvider::default(),
            backend: NetworkBackend::default(),
            domain: "cluster.local".into(),
            nameservers: None,
            proxy: ProxyServer::default(),
        }
    }
}

/// Whether a setting says nothing, and so is left out where a configuration is written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn net(octets: [u8; 4], prefix: u8) -> Ranges {
    let address = Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]);
    Ranges::one(Ipv4Net::new_assert(address, prefix))
}

impl Config {
    /// The paths of the machine that nodes see, each with the field that names it.
    pub fn machine_paths(&self) -> impl Iterator<Item = (&Utf8PathBuf, String)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.flat_map(|(at, node)| {
            node.machine_paths().map(move |(path, field)| (path, format!("nodes[{at}].{field}")))
        })
    }

    /// Reads the text of a `cluster.yaml` and validates it. All that is wrong is told at once.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let refused = |findings| ConfigError { file: None, findings };
        let mut document = document::parse(text).map_err(|finding| refused(vec![finding]))?;
        let (mut findings, mut removed) = (Vec::new(), Vec::new());
        // What does not fit is taken out, and the rest is read again.
        let config = loop {
            match Self::deserialize(&document) {
                Ok(config) => break config,
                Err(misfit) => {
                    // What lacks only what was taken out was told of.
                    if !removed.iter().any(|path| Some(path) == misfit.missing().as_ref()) {
                        findings.push(explain::misfit(&misfit, &document, text));
                    }
                    document.remove(&misfit.path.0);
                    removed.push(misfit.path);
                }
            }
        };
        // What was taken out is not there to be judged, and what stands in for it is not the owner's.
        let all_read = findings.is_empty();
        let problems = check::problems(&config).into_iter();
        let problems = problems
            .filter(|problem| all_read || problem.paths.iter().all(|path| document.find(&path.0).is_some()));
        findings.extend(problems.map(|problem| explain::problem(problem, Some((&document, text)))));
        findings.sort_by_key(|finding| finding.place.as_ref().map(|place| (place.line, place.column)));
        if findings.is_empty() { Ok(config) } else { Err(refused(findings)) }
    }

    /// Returns the configuration if a cluster can be made of it.
    pub fn validated(self) -> Result<Self, ConfigError> {
        let problems = check::problems(&self).into_iter();
        let findings: Vec<_> = problems.map(|problem| explain::problem(problem, None)).collect();
        if findings.is_empty() { Ok(self) } else { Err(ConfigError { file: None, findings }) }
    }
}

/// Takes a cluster's name if it is one: paths, links and control groups are named after it.
pub fn cluster_name(name: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=20).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    let rule = "a cluster's name is 1 to 20 lower-case letters, digits and inner dashes";
    if fits { Ok(name.to_owned()) } else { Err(format!("`{name}` is no name: {rule}")) }
}

impl Network {
    /// Whether pods have addresses of the family that this one is of.
    pub fn has_family_of(&self, address: IpAddr) -> bool {
        self.pods.all().any(|range| range.addr().is_ipv4() == address.is_ipv4())
    }
}

#[cfg(test)]
mod tests;
