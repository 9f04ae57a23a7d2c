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
mod tests {
    use super::*;

    fn marks() -> Marks {
        let scratch = tempfile::tempdir().unwrap();
        let run = Utf8Path::from_path(scratch.path()).unwrap();
        let paths = Paths { state: "/s".into(), run: run.to_owned(), cache: "/c".into() };
        let unit = "/etc/systemd/system/kayak-home.service".into();
        let mut marks = Marks::of(&paths, "home", &["one".into()], vec![unit]).unwrap();
        marks.directories[1] = "/run/kayak/home".into();
        marks.lent.insert("kernel/panic".into(), "0".into());
        marks
    }

    fn inventory(things: &[(Kind, &str)]) -> Inventory {
        let mut all = Inventory::default();
        for (kind, name) in things {
            all.0.entry(*kind).or_default().insert((*name).to_owned());
        }
        all
    }

    fn names(things: &[Thing]) -> Vec<&str> {
        things.iter().map(|thing| thing.name.as_str()).collect()
    }

    #[test]
    fn what_a_cluster_made_is_told_by_its_names() {
        let link = paths::link(&NodeId::new("home", "one"));
        let route = format!("10.244.0.0/16 dev * metric {}", paths::metric("home"));
        let address = format!("10.244.255.255/32 dev {}", api_address_label("home"));
        let made = [
            (Kind::Process, "/kayak/home/one: 7 kubelet"),
            (Kind::Address, &address),
            (Kind::Mount, "/s/home/nodes/one/root"),
            (Kind::Link, "kayak-home"),
            (Kind::Link, &link),
            (Kind::Table, "inet kayak-home"),
            (Kind::Group, "/sys/fs/cgroup/memory/kayak/home"),
            (Kind::Group, "/sys/fs/cgroup/memory/kayak/home/one"),
            (Kind::Route, &route),
            (Kind::Setting, "kernel/panic 10"),
            (Kind::File, "/s/home"),
            (Kind::File, "/run/kayak/home"),
            (Kind::File, "/etc/systemd/system/kayak-home.service"),
        ];
        let others = inventory(&[
            (Kind::Process, "/kayak/homer/one: 8 kubelet"),
            (Kind::Mount, "/s/homer"),
            (Kind::Link, "kayak-homer"),
            (Kind::Table, "inet kayak-homer"),
            (Kind::Address, "127.0.0.1/8 dev lo"),
            (Kind::Group, "/sys/fs/cgroup/memory/kayak/homer"),
            (Kind::Route, "0.0.0.0/0 dev eth0 metric 0"),
            (Kind::Setting, "vm/overcommit_memory 1"),
            (Kind::File, "/etc/systemd/system/kayak-homer.service"),
        ]);
        let nothing = Inventory::default();
        assert_eq!(inventory(&made).compare(None, &marks()).left.len(), made.len());
        assert_eq!(others.compare(None, &marks()), Comparison::default());
        let found = others.compare(Some(&nothing), &marks());
        assert!(found.left.is_empty() && found.appeared.len() == 9, "{found:?}");
    }

    #[test]
    fn what_a_cluster_on_the_machines_network_has_there_is_told_by_names_and_routes() {
        let pod = "10.244.0.7/32 dev vethabc metric 0";
        let routes = [pod, "172.17.0.5/32 dev vethdocker metric 0", "10.244.0.0/16 dev * metric 7"];
        let marks = Marks {
            on_host: on_host(&["10.244.0.0/16".parse().unwrap()], &routes.map(str::to_owned).into()),
            ..marks()
        };
        let made = [
            (Kind::Table, "ip kube-proxy"),
            (Kind::Table, "ip6 flannel-ipv6"),
            (Kind::Link, "flannel.1"),
            (Kind::Link, "vethabc"),
            (Kind::Route, pod),
        ];
        let now = inventory(&[&made[..], &[(Kind::Link, "vethdocker"), (Kind::Table, "ip nat")]].concat());
        assert_eq!(now.compare(Some(&Inventory::default()), &marks).left.len(), made.len());
        assert_eq!(now.compare(Some(&Inventory::default()), &self::marks()).left, [], "on a bridge");
        // Another Kubernetes was here before: what is left of the same name is its.
        let before = inventory(&[(Kind::Table, "ip kube-proxy"), (Kind::Link, "flannel.1")]);
        assert_eq!(now.compare(Some(&before), &marks).left.len(), made.len() - 2);
        let gone = Inventory::default().compare(Some(&before), &marks);
        assert_eq!(names(&gone.vanished), ["flannel.1", "ip kube-proxy"]);
    }

    #[test]
    fn what_the_owner_changed_meanwhile_is_told_apart() {
        let own = (Kind::File, "/run/kayak/home");
        let before = inventory(&[(Kind::Link, "eth0"), (Kind::File, "/opt/old"), own]);
        let after =
            inventory(&[(Kind::Link, "eth0"), (Kind::File, "/opt/new"), (Kind::Setting, "kernel/panic 0")]);
        let found = after.compare(Some(&before), &marks());
        assert!(found.left.is_empty());
        assert_eq!(names(&found.appeared), ["kernel/panic 0", "/opt/new"]);
        assert_eq!(names(&found.vanished), ["/opt/old"]);
    }

    #[test]
    fn what_was_left_can_be_removed_by_hand() {
        let remedy = |kind, name: &str| marks().remedy(&Thing { kind, name: name.into() });
        assert_eq!(remedy(Kind::Process, "/kayak/home/one: 7 kubelet"), "kill -KILL 7");
        let address = "10.244.255.255/32 dev lo:kayak-123456";
        assert_eq!(remedy(Kind::Address, address), "ip address delete 10.244.255.255/32 dev lo");
        let address = "10.8.0.9/32 dev kayakvip-123456";
        assert_eq!(remedy(Kind::Address, address), "ip address flush label kayakvip-123456");
        assert_eq!(remedy(Kind::Setting, "kernel/panic 10"), "sysctl -w kernel.panic=0");
    }

    #[test]
    fn an_inventory_is_kept_once_and_read_again() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let paths = Paths { state: root.join("state"), run: root.join("run"), cache: root.join("cache") };
        let file = paths.cluster("home").join("before.json");
        assert_eq!(Inventory::kept(&file).unwrap(), None);
        Inventory::keep(&file, &paths).unwrap();
        let kept = Inventory::kept(&file).unwrap().unwrap();
        for (kind, name) in [
            (Kind::Link, "lo"),
            (Kind::Address, "127.0.0.1/8 dev lo"),
            (Kind::File, "/etc/passwd"),
            (Kind::Mount, "/proc"),
        ] {
            assert!(kept.has(&Thing { kind, name: name.into() }), "{name}");
        }
        disk::write(&file, b"{}").unwrap();
        Inventory::keep(&file, &paths).unwrap();
        assert_eq!(Inventory::kept(&file).unwrap(), Some(Inventory::default()));
    }
}
