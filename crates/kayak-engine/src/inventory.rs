//! What there is on this machine, before a cluster and after it: to prove that nothing of it stays.
//!
//! The lists are the kernel's own; no program is run for them. Files are told by their names, in
//! the [`PLACES`] where a program could leave something; kayak's cache does not count.

mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::{fmt, io};

use camino::{Utf8Path, Utf8PathBuf};
use ipnet::IpNet;
use kayak_core::node::{VIP_LABEL, api_address_label, vip_label};
use serde::{Deserialize, Serialize};

pub use self::look::PLACES;
use crate::driver::local::lifecycle::pods_on_host;
use crate::driver::local::{LocalError, Paths, disk, network, paths, settings};
use crate::driver::{NodeId, local};

/// Why the machine could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// A list of the kernel or a directory could not be read.
    #[error("failed to read `{path}`")]
    Read {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel did not list its nftables tables.
    #[error("failed to list the nftables tables")]
    Tables(#[source] io::Error),
    /// The kernel did not list its addresses.
    #[error("failed to list the addresses")]
    Addresses(#[source] io::Error),
    /// The control groups could not be listed.
    #[error("failed to list the control groups")]
    Groups(#[source] LocalError),
    /// The settings on loan could not be read.
    #[error("failed to read which settings are on loan")]
    Settings(#[source] LocalError),
    /// Whether the cluster is on the machine's own network could not be found out.
    #[error("failed to find out whether the cluster is on the machine's own network")]
    OnHost(#[source] LocalError),
    /// An inventory could not be kept.
    #[error("failed to keep the inventory")]
    Keep(#[source] LocalError),
    /// What was kept is not understood.
    #[error("failed to understand `{path}`")]
    Parse {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// What kinds of things there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A process in a control group of kayak's: the group, the number and the name.
    Process,
    /// A mount: where.
    Mount,
    /// A network interface: its name.
    Link,
    /// An IPv4 address, and what it is called on its link.
    Address,
    /// A network namespace that a process is in: the kernel's number of it.
    Namespace,
    /// An nftables table: family and name.
    Table,
    /// A control group: its directory.
    Group,
    /// A route: where to, by which interface, at which metric.
    Route,
    /// A kernel setting that clusters change: name and value.
    Setting,
    /// A file or directory: its path.
    File,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Thing {
    /// What kind of thing.
    pub kind: Kind,
    /// Which one.
    pub name: String,
}

/// All that there was at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory(BTreeMap<Kind, BTreeSet<String>>);

/// What is of one cluster's making, told by names alone: whatever was lost, these stay.
#[derive(Debug, Clone)]
pub struct Marks {
    group: String,
    links: Vec<String>,
    addresses: [String; 2],
    table: String,
    metric: String,
    /// What a cluster on the machine's own network has there, by names that others give such things too.
    on_host: BTreeSet<Thing>,
    directories: Vec<Utf8PathBuf>,
    files: Vec<Utf8PathBuf>,
    /// Settings that have to be what they were before.
    lent: BTreeMap<String, String>,
}

/// How the machine differs from what it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// What the cluster made and is still there.
    pub left: Vec<Thing>,
    /// What else is there that was not: somebody else's.
    pub appeared: Vec<Thing>,
    /// What was there and is not.
    pub vanished: Vec<Thing>,
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Process => "process",
            Kind::Mount => "mount",
            Kind::Link => "interface",
            Kind::Address => "address",
            Kind::Namespace => "network namespace",
            Kind::Table => "nftables table",
            Kind::Group => "control group",
            Kind::Route => "route",
            Kind::Setting => "kernel setting",
            Kind::File => "file",
        };
        write!(f, "{kind} {}", self.name)
    }
}

impl Inventory {
    /// Looks around, as far as a cluster with these directories could leave anything.
    pub fn take(paths: &Paths) -> Result<Self, InventoryError> {
        look::around(paths).map(Self)
    }

    /// Takes an inventory and keeps it in a file, unless there is one from the first time.
    pub fn keep(path: &Utf8Path, paths: &Paths) -> Result<(), InventoryError> {
        if path.exists() {
            return Ok(());
        }
        let taken = Self::take(paths)?;
        let directory = path.parent().unwrap_or(path);
        disk::create_directory(directory, 0o700).map_err(InventoryError::Keep)?;
        local::image::record(path, &taken).map_err(InventoryError::Keep)
    }

    /// Reads what was kept.
    pub fn kept(path: &Utf8Path) -> Result<Option<Self>, InventoryError> {
        let Some(json) = disk::read(path).map_err(InventoryError::Keep)? else { return Ok(None) };
        let parsed = serde_json::from_slice(&json);
        parsed.map(Some).map_err(|source| InventoryError::Parse { path: path.to_owned(), source })
    }

    fn things(&self) -> impl Iterator<Item = Thing> {
        self.0
            .iter()
            .flat_map(|(&kind, names)| names.iter().map(move |name| Thing { kind, name: name.clone() }))
    }

    fn has(&self, thing: &Thing) -> bool {
        self.0.get(&thing.kind).is_some_and(|names| names.contains(&thing.name))
    }

    /// Compares the machine with what it was, if that is known.
    pub fn compare(&self, before: Option<&Self>, marks: &Marks) -> Comparison {
        // What others call the same and was there before is theirs.
        let was_there = |thing: &Thing| before.is_some_and(|before| before.has(thing));
        let made = |thing: &Thing| marks.made(thing) || (marks.on_host.contains(thing) && !was_there(thing));
        let (left, others): (Vec<_>, Vec<_>) = self.things().partition(made);
        let Some(before) = before else { return Comparison { left, ..Comparison::default() } };
        Comparison {
            left,
            appeared: others.into_iter().filter(|thing| !before.has(thing)).collect(),
            // The first `up` looks when it already has its lock, which lies where the cluster's run is.
            vanished: before.things().filter(|thing| !self.has(thing) && !made(thing)).collect(),
        }
    }
}

impl Marks {
    /// Says what a cluster with these nodes makes; to be asked while the cluster is there. `files`
    /// are those that lie outside of its directories.
    pub fn of(
        paths: &Paths,
        cluster: &str,
        nodes: &[String],
        files: Vec<Utf8PathBuf>,
    ) -> Result<Self, InventoryError> {
        let links = nodes.iter().map(|node| paths::link(&NodeId::new(cluster, node)));
        Ok(Self {
            group: format!("/{}", paths::cluster_cgroup(cluster)),
            links: links.chain([paths::bridge(cluster)]).collect(),
            addresses: [api_address_label(cluster), vip_label(cluster)].map(|label| format!(" dev {label}")),
            table: format!("inet {}", network::table(cluster)),
            metric: format!(" metric {}", paths::metric(cluster)),
            on_host: match pods_on_host(paths, cluster).map_err(InventoryError::OnHost)? {
                Some(pod_ranges) => on_host(&pod_ranges, &look::routes()?),
                None => BTreeSet::new(),
            },
            directories: vec![paths.cluster(cluster), paths.cluster_run(cluster)],
            files,
            lent: settings::lent(&paths.run, cluster).map_err(InventoryError::Settings)?,
        })
    }

    fn made(&self, thing: &Thing) -> bool {
        let name = thing.name.as_str();
        let within = |directory: &Utf8PathBuf| Utf8Path::new(name).starts_with(directory);
        match thing.kind {
            Kind::Process => {
                let below = name.strip_prefix(self.group.as_str());
                below.is_some_and(|rest| rest.starts_with(['/', ':']))
            }
            Kind::Mount => self.directories.iter().any(within),
            Kind::Link => self.links.iter().any(|link| link == name),
            Kind::Address => self.addresses.iter().any(|label| name.ends_with(label)),
            Kind::Namespace => false,
            Kind::Table => name == self.table,
            Kind::Group => name.ends_with(&self.group) || name.contains(&format!("{}/", self.group)),
            Kind::Route => name.ends_with(&self.metric),
            Kind::Setting => {
                let (setting, value) = name.split_once(' ').unwrap_or_default();
                self.lent.get(setting).is_some_and(|before| before != value)
            }
            Kind::File => self.directories.iter().any(within) || self.files.iter().any(|file| file == name),
        }
    }

    /// Says how a thing that was left is removed by hand.
    pub fn remedy(&self, thing: &Thing) -> String {
        let name = &thing.name;
        match thing.kind {
            Kind::Process => format!("kill -KILL {}", name.split(' ').nth(1).unwrap_or(name)),
            Kind::Mount => format!("umount {name}"),
            Kind::Link => format!("ip link delete dev {name}"),
            Kind::Address => {
                let (address, link) = name.split_once(" dev ").unwrap_or_default();
                if link.starts_with(VIP_LABEL) {
                    return format!("ip address flush label {link}");
                }
                format!("ip address delete {address} dev {}", link.split(':').next().unwrap_or(link))
            }
            Kind::Namespace => format!("ip netns delete {name}"),
            Kind::Table => format!("nft delete table {name}"),
            Kind::Group => format!("rmdir {name}"),
            // What leads nowhere has no interface.
            Kind::Route => format!("ip route delete {}", name.replace(" dev *", "")),
            Kind::Setting => {
                let (setting, _) = name.split_once(' ').unwrap_or_default();
                let before = self.lent.get(setting).map(String::as_str).unwrap_or_default();
                format!("sysctl -w {}={before}", setting.replace('/', "."))
            }
            Kind::File => format!("rm -r {name}"),
        }
    }
}

/// What the network components of a cluster on the machine's own network make there, and the links of its
/// pods, which are known by the routes that lead to them.
fn on_host(pod_ranges: &[IpNet], routes: &BTreeSet<String>) -> BTreeSet<Thing> {
    let thing = |kind, name: &str| Thing { kind, name: name.to_owned() };
    let tables = network::TABLES.map(|(family, table)| thing(Kind::Table, &format!("{family} {table}")));
    let pods = routes.iter().filter_map(|route| {
        let (to, rest) = route.split_once(" dev ")?;
        let (link, _) = rest.split_once(' ')?;
        let to: IpNet = to.parse().ok()?;
        let is_pods =
            link.starts_with(network::POD_LINKS) && pod_ranges.iter().any(|range| range.contains(&to));
        is_pods.then(|| [thing(Kind::Link, link), thing(Kind::Route, route)])
    });
    let overlay = thing(Kind::Link, network::OVERLAY_LINK);
    tables.into_iter().chain([overlay]).chain(pods.flatten()).collect()
}

#[cfg(test)]
mod tests;
