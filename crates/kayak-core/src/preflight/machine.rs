//! What is known of a machine before a cluster is brought up on it.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use ipnet::IpNet;

use crate::config::Ranges;
use crate::plan::Fact;
use crate::sockets::SocketRow;

/// A machine as it was found, apart from what belongs to the very cluster that is judged.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What this process may do.
    pub rights: Rights,
    /// Programs that the driver runs and that are not to be found.
    pub missing_programs: Vec<String>,
    /// What the kernel can do.
    pub kernel: Kernel,
    /// Its control groups.
    pub cgroups: Fact<Cgroups>,
    /// Its memory.
    pub memory: Fact<Memory>,
    /// Limits on what processes may open.
    pub limits: Limits,
    /// Where clusters are kept.
    pub state: Fact<Directory>,
    /// Where images are kept.
    pub cache: Fact<Directory>,
    /// Whether the paths are there that the configuration names, see [`crate::config::Config::machine_paths`].
    pub named: BTreeMap<Utf8PathBuf, Fact<bool>>,
    /// Its network.
    pub network: Network,
    /// Its clock.
    pub clock: Clock,
    /// Traces of other Kubernetes: files, directories and processes.
    pub kubernetes: Vec<String>,
}

/// What this process may do.
#[derive(Debug, Clone)]
pub struct Rights {
    /// Whether it runs as root.
    pub root: bool,
    /// Whether root is the machine's, not that of a user namespace.
    pub initial_user_namespace: Fact<bool>,
    /// Its effective capabilities, by the kernel's names.
    pub capabilities: Fact<BTreeSet<String>>,
    /// What watches over its calls: a seccomp filter, a profile of AppArmor.
    pub confined_by: Vec<String>,
}

/// What the kernel can do.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its version.
    pub version: Fact<(u32, u32)>,
    /// Whether it has the features that [`super::FEATURES`] names.
    pub features: BTreeMap<String, Fact<bool>>,
    /// Whether settings below `/proc/sys` can be written.
    pub settings_writable: bool,
}

/// Control groups, as this process sees them.
#[derive(Debug, Clone)]
pub struct Cgroups {
    /// Whether the first version has the controllers.
    pub first_version: bool,
    /// The controllers that are mounted.
    pub controllers: BTreeSet<String>,
    /// Mount points that cannot be written.
    pub read_only: Vec<Utf8PathBuf>,
    /// Whether processes in the topmost group keep its children from getting controllers. In the
    /// machine's own root group they do not; in a container's they do.
    pub occupied: bool,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All of it, or what control groups allow.
    pub total: u64,
    /// What can be had without swapping.
    pub available: u64,
    /// Swap space.
    pub swap: u64,
}

/// Limits on what processes may open.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many inotify instances a user may have.
    pub inotify_instances: Fact<u64>,
    /// How many files and directories a user may watch.
    pub inotify_watches: Fact<u64>,
    /// How many files a process of a node may open.
    pub open_files: u64,
}

/// A directory, or where it will be made.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Its path.
    pub path: Utf8PathBuf,
    /// The device of its file system.
    pub device: u64,
    /// The type of its file system.
    pub kind: String,
    /// The mount's options, such as `noexec`.
    pub options: BTreeSet<String>,
    /// Bytes in all, and free.
    pub bytes: Share,
    /// Inodes in all, and free; file systems that make them as needed have none in all.
    pub inodes: Share,
    /// Whether an overlay can be written there, tried; if not, why the kernel refuses.
    pub overlay: Fact<Result<(), String>>,
}

/// How much of something is left.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// What there is.
    pub total: u64,
    /// What is free.
    pub free: u64,
}

impl Share {
    /// Tells whether less than so many hundredths are free.
    pub fn is_below(self, percent: u64) -> bool {
        self.free.saturating_mul(100) < self.total.saturating_mul(percent)
    }
}

/// The network.
#[derive(Debug, Clone)]
pub struct Network {
    /// Its interfaces.
    pub interfaces: Fact<Vec<Interface>>,
    /// Its routes from all tables, those of the kernel to its own addresses left out.
    pub routes: Fact<Vec<Route>>,
    /// The other clusters.
    pub clusters: Vec<Neighbour>,
    /// Whether it forwards IPv4 packets.
    pub forwards: Fact<bool>,
    /// Whether it forwards IPv6 packets.
    pub forwards_six: Fact<bool>,
    /// Whether bridged packets pass the filters of routed ones (`br_netfilter`).
    pub filters_bridged: bool,
    /// Chains of nftables that drop forwarded IPv4 packets which no rule accepts.
    pub dropping: Fact<Vec<String>>,
    /// Whether there are rules of iptables' old kind, which cannot be listed.
    pub legacy_filter: bool,
    /// Who listens at a port that a cluster would have; on a bridge it has them for itself.
    pub listeners: Fact<Vec<SocketRow>>,
    /// What has the names of what a cluster's network components make on the machine's own network,
    /// while the cluster has nothing there; each with the command that removes it.
    pub foreign: Fact<BTreeMap<String, String>>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it is switched on.
    pub up: bool,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Its addresses, each with the length of its network.
    pub addresses: Vec<IpNet>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads to.
    pub range: IpNet,
    /// The interface, unless packets go nowhere.
    pub interface: Option<String>,
    /// Whether what is there is reached without a gateway.
    pub direct: bool,
    /// Last choice of several.
    pub metric: u32,
}

/// Another cluster of the machine.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// Its name.
    pub name: String,
    /// The addresses of its nodes.
    pub nodes: Ranges,
    /// Those of its pods.
    pub pods: Ranges,
    /// Those of its services.
    pub services: Ranges,
}

/// The clock, in seconds since 1970.
#[derive(Debug, Clone)]
pub struct Clock {
    /// What it shows.
    pub now: i64,
    /// Whether whatever keeps it has found the right time.
    pub synchronised: Fact<bool>,
    /// The newest of what the cluster has on disk that tells a time, and which.
    pub newest: Fact<Option<(String, i64)>>,
}
