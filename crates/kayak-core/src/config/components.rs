//! Settings by which the owner's edits of components are made permanent.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, json};

use super::is_default;
use super::quantity::Quantity;
use crate::component::{apiserver, controller_manager, coredns, etcd, flannel, proxy, scheduler};

/// Flags of one program: a flag's name without dashes, and its value.
pub type ExtraArgs = BTreeMap<String, FlagValue>;
/// Environment of one program: a variable's name, and its value.
pub type Environment = BTreeMap<String, Scalar>;

/// Changes to single components, by the names that `kubectl -n kube-system get pods` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Components {
    /// The API server.
    #[serde(skip_serializing_if = "is_default")]
    pub kube_apiserver: Overrides,
    /// The controller manager.
    #[serde(skip_serializing_if = "is_default")]
    pub kube_controller_manager: Overrides,
    /// The scheduler.
    #[serde(skip_serializing_if = "is_default")]
    pub kube_scheduler: Overrides,
    /// etcd.
    #[serde(skip_serializing_if = "is_default")]
    pub etcd: Overrides,
    /// kube-proxy.
    #[serde(skip_serializing_if = "is_default")]
    pub kube_proxy: ProxySettings,
    /// flannel.
    #[serde(skip_serializing_if = "is_default")]
    pub flannel: Overrides,
    /// CoreDNS.
    #[serde(skip_serializing_if = "is_default")]
    pub coredns: DnsSettings,
}

/// What may be changed about any component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Overrides {
    /// Flags, by their names without dashes. A flag that kayak sets too is replaced; a list gives it
    /// once for each item.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = json!({ "flag": "value" }))]
    pub extra_args: ExtraArgs,
    /// Environment variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = json!({ "GOGC": 50 }))]
    pub env: Environment,
    /// CPU and memory that are set apart for it, and that it may use at most.
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
}

/// What may be changed about kube-proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProxySettings {
    /// Flags, by their names without dashes; only those about logging: kube-proxy ignores others beside
    /// its configuration file, which `config` changes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = json!({ "v": 2 }))]
    pub extra_args: ExtraArgs,
    /// Environment variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = json!({ "GOGC": 50 }))]
    pub env: Environment,
    /// CPU and memory that are set apart for it, and that it may use at most.
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Fields of KubeProxyConfiguration, merged over kayak's; `null` takes one of kayak's away.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schemars(example = json!({ "nodePortAddresses": ["192.0.2.0/24"] }))]
    pub config: Map<String, Value>,
}

/// What may be changed about CoreDNS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DnsSettings {
    /// Flags, by their names without dashes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = json!({ "quiet": true }))]
    pub extra_args: ExtraArgs,
    /// Environment variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = json!({ "GOGC": 50 }))]
    pub env: Environment,
    /// CPU and memory that are set apart for it, and that it may use at most.
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// The whole Corefile, instead of kayak's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = ".:53 { whoami }")]
    pub corefile: Option<String>,
}

/// What may be changed about the kubelet of every node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kubelet {
    /// Fields of KubeletConfiguration, merged over kayak's; `null` takes one of kayak's away.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schemars(example = json!({ "maxPods": 50 }))]
    pub config: Map<String, Value>,
    /// Flags, by their names without dashes. Most settings are fields of `config` instead.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = json!({ "v": 2 }))]
    pub extra_args: ExtraArgs,
    /// Environment variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = json!({ "GOGC": 50 }))]
    pub env: Environment,
}

/// CPU and memory of a component's pods. The temporary control plane has neither requests nor limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// What is set apart for it; kayak's own number where absent.
    #[serde(skip_serializing_if = "is_default")]
    pub requests: Amounts,
    /// What it may use at most; no limit where absent. Beyond its memory it is killed.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Amounts,
}

/// Amounts of CPU and memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Amounts {
    /// CPUs: `2`, `500m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "500m")]
    pub cpu: Option<Quantity>,
    /// Memory: `256Mi`, `1Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "512Mi")]
    pub memory: Option<Quantity>,
}

/// A flag's value, or its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text, a number, true, false, or a list of such")]
pub enum FlagValue {
    /// The flag is given once.
    One(Scalar),
    /// The flag is given once for each.
    Many(Vec<Scalar>),
}

/// A text, or what YAML takes for something else where it is not quoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text, a number, true or false")]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl FlagValue {
    /// The values, each of which is one flag.
    pub fn values(&self) -> &[Scalar] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl Components {
    /// Every component's name and what is changed about it.
    pub fn all(&self) -> [(&'static str, Overrides); 7] {
        let proxy = self.kube_proxy.clone();
        let dns = self.coredns.clone();
        [
            (apiserver::NAME, self.kube_apiserver.clone()),
            (controller_manager::NAME, self.kube_controller_manager.clone()),
            (scheduler::NAME, self.kube_scheduler.clone()),
            (etcd::NAME, self.etcd.clone()),
            (
                proxy::NAME,
                Overrides { extra_args: proxy.extra_args, env: proxy.env, resources: proxy.resources },
            ),
            (flannel::NAME, self.flannel.clone()),
            (coredns::NAME, Overrides { extra_args: dns.extra_args, env: dns.env, resources: dns.resources }),
        ]
    }

    /// What is changed about one component.
    pub fn of(&self, name: &str) -> Overrides {
        self.all()
            .into_iter()
            .find(|(own, _)| *own == name)
            .map(|(_, overrides)| overrides)
            .unwrap_or_default()
    }
}
