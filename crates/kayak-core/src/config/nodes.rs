//! Settings of single nodes.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Quantity;

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSettings {
    /// Which node.
    #[schemars(example = "controller-0")]
    pub name: String,
    /// Labels of its Node object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = serde_json::json!({ "example.com/disk": "ssd" }))]
    pub labels: BTreeMap<String, String>,
    /// Taints of its Node object: pods that do not tolerate them stay away. Those that others have
    /// added stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// Directories and files of the machine that the node sees, and pods by `hostPath`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountSettings>,
    /// Devices of the machine that the node sees at the same path, and pods by `hostPath`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>", example = serde_json::json!(["/dev/dri"]))]
    pub devices: Vec<Utf8PathBuf>,
    /// The most memory that all of the node may use; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "4Gi")]
    pub memory: Option<Quantity>,
}

/// A taint, as `kubectl taint` sets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Taint {
    /// Its name.
    #[schemars(example = "example.com/quiet")]
    pub key: String,
    /// Its value.
    #[schemars(example = &"night")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What it does to pods that do not tolerate it.
    #[schemars(example = &"NoSchedule")]
    pub effect: TaintEffect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// New ones go elsewhere.
    NoSchedule,
    /// New ones go elsewhere if they can.
    PreferNoSchedule,
    /// New ones go elsewhere, and those that run are ended.
    NoExecute,
}

/// A directory or file of the machine that a node sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountSettings {
    /// Where it is on the machine.
    #[schemars(with = "String", regex(pattern = "^/"), example = "/srv/media")]
    pub host: Utf8PathBuf,
    /// Where the node sees it; the same path if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = "^/"), example = "/media")]
    pub node: Option<Utf8PathBuf>,
    /// Whether the node may write to it. A pod that must not write says `readOnly: true` itself: the
    /// runtime makes its own mount of it writable otherwise.
    #[serde(default)]
    pub writable: bool,
}

impl NodeSettings {
    /// The paths of the machine that the node sees, each with the field below the node that names it.
    pub(super) fn machine_paths(&self) -> impl Iterator<Item = (&Utf8PathBuf, String)> {
        let mounts = self.mounts.iter().enumerate();
        let mounts = mounts.map(|(at, mount)| (&mount.host, format!("mounts[{at}].host")));
        let devices = self.devices.iter().enumerate();
        mounts.chain(devices.map(|(at, device)| (device, format!("devices[{at}]"))))
    }
}

impl MountSettings {
    /// Where the node sees it.
    pub fn node(&self) -> &Utf8PathBuf {
        self.node.as_ref().unwrap_or(&self.host)
    }
}
