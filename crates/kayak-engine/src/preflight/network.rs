//! The machine's network: interfaces, routes, other clusters' ranges, the packet filter.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kayak_core::cluster::Cluster;
use kayak_core::plan::Fact;
use kayak_core::preflight::{Interface, Neighbour, Network, Route};
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;

use super::{fact, listeners, setting};
use crate::dirs::Dirs;
use crate::driver::local::cgroup::Hierarchies;
use crate::driver::local::{network as names, paths};
use crate::netlink::{Message, Netlink, attribute, attributes, nested, number, text};

// linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h: messages begin with a structure of a fixed
// length, attributes follow.
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ROUTE: usize = 12;
const UP: u32 = 0x1;
const INET: u8 = 2;
const INET6: u8 = 10;
const LOCAL_TABLE: u32 = 255;
const CLONED: u32 = 0x200;
const UNICAST: u8 = 1;
const NOWHERE: [u8; 3] = [6, 7, 8];

// linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h: numbers are big-endian.
const GET_GENERATION: u16 = 10 << 8 | 16;
const GET_CHAIN: u16 = 10 << 8 | 4;
const FILTER: usize = 4;
const FORWARD: u32 = 2;
const DROP: u32 = 0;

/// Looks at the network, apart from what is the cluster's own.
pub(super) fn look(cluster: &str, dirs: &Dirs) -> Network {
    Network {
        interfaces: fact(interfaces()),
        routes: fact(routes(cluster)),
        clusters: neighbours(cluster, dirs),
        forwards: fact(setting("net/ipv4/ip_forward").map(|value| value != "0")),
        forwards_six: fact(setting("net/ipv6/conf/all/forwarding").map(|value| value != "0")),
        filters_bridged: setting("net/bridge/bridge-nf-call-iptables").is_ok_and(|value| value == "1"),
        dropping: fact(dropping()),
        // Only where the old modules are loaded is there such a file.
        legacy_filter: std::fs::read_to_string("/proc/net/ip_tables_names")
            .is_ok_and(|tables| tables.lines().any(|table| table == "filter")),
        listeners: fact(listeners::look(cluster)),
        foreign: fact(foreign(cluster)),
    }
}

/// Lists what has the names of a cluster's on the machine's own network, and how it is removed; nothing
/// while this one may have made it: its rules come first and go last, and nodes run in its groups.
fn foreign(cluster: &str) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let tables = names::tables()?;
    let groups = Hierarchies::find()?.children(&paths::cluster_cgroup(cluster))?;
    if !groups.is_empty() || tables.contains(&format!("inet {}", names::table(cluster))) {
        return Ok(BTreeMap::new());
    }
    let named = names::TABLES.map(|(family, table)| format!("{family} {table}")).into_iter();
    let mut found: BTreeMap<_, _> = named
        .filter(|table| tables.contains(table))
        .map(|table| (format!("nftables table {table}"), format!("nft delete table {table}")))
        .collect();
    if names::is_link(names::OVERLAY_LINK)? {
        let link = names::OVERLAY_LINK;
        found.insert(format!("interface {link}"), format!("ip link delete dev {link}"));
    }
    Ok(found)
}

/// Lists the network interfaces.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let kernel = Netlink::open(None)?;
    let links = kernel.list(GET_LINK, &[0; LINK])?;
    let mut links: BTreeMap<u32, Interface> = links.iter().filter_map(link).collect();
    for (index, address) in kernel.list(GET_ADDRESS, &[0; ADDRESS])?.iter().filter_map(address) {
        if let Some(link) = links.get_mut(&index) {
            link.addresses.push(address);
        }
    }
    Ok(links.into_values().collect())
}

fn link((_, body): &Message) -> Option<(u32, Interface)> {
    let (mut name, mut mtu) = (None, 0);
    for (kind, value) in attributes(body.get(LINK..)?) {
        match kind {
            3 => name = Some(text(value)),
            4 => mtu = number(value, 0)?,
            _ => {}
        }
    }
    let up = number(body, 8)? & UP != 0;
    Some((number(body, 4)?, Interface { name: name?, up, mtu, addresses: Vec::new() }))
}

fn address((_, body): &Message) -> Option<(u32, IpNet)> {
    let own = |wanted| attributes(body.get(ADDRESS..)?).find(|(kind, _)| *kind == wanted);
    // Of a tunnel, the first is the other end's.
    let (_, value) = own(2).or_else(|| own(1))?;
    Some((number(body, 4)?, IpNet::new(ip(value)?, *body.get(1)?).ok()?))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into())).ok()
}

/// Lists the routes of all tables, apart from the cluster's own.
fn routes(cluster: &str) -> io::Result<Vec<Route>> {
    let names: BTreeMap<u32, String> = {
        let links = Netlink::open(None)?.list(GET_LINK, &[0; LINK])?;
        links.iter().filter_map(link).map(|(index, link)| (index, link.name)).collect()
    };
    let mut routes = Vec::new();
    for family in [INET, INET6] {
        let mut wanted = [0; ROUTE];
        wanted[0] = family;
        let listed = Netlink::open(None)?.list(GET_ROUTE, &wanted)?;
        routes.extend(listed.iter().filter_map(|message| route(message, &names)));
    }
    routes.retain(|route| !is_of(cluster, route));
    Ok(routes)
}

fn route((_, body): &Message, links: &BTreeMap<u32, String>) -> Option<Route> {
    let nowhere =
        if *body.first()? == INET { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let (mut range, mut interface, mut metric) = (nowhere, None, 0);
    let (mut table, mut direct) = (u32::from(*body.get(4)?), true);
    for (kind, value) in attributes(body.get(ROUTE..)?) {
        match kind {
            1 => range = ip(value)?,
            4 => interface = links.get(&number(value, 0)?).cloned(),
            // A gateway, several of them, or one of the other family.
            5 | 9 | 18 => direct = false,
            6 => metric = number(value, 0)?,
            15 => table = number(value, 0)?,
            _ => {}
        }
    }
    let kind = *body.get(7)?;
    if table == LOCAL_TABLE || number(body, 8)? & CLONED != 0 {
        return None;
    }
    let interface = match kind {
        UNICAST => Some(interface.unwrap_or_else(|| "several".into())),
        _ if NOWHERE.contains(&kind) => None,
        _ => return None,
    };
    Some(Route { range: IpNet::new(range, *body.get(1)?).ok()?, interface, direct, metric })
}

fn is_of(cluster: &str, route: &Route) -> bool {
    let bridge = paths::bridge(cluster);
    route.metric == paths::metric(cluster) || route.interface.as_deref() == Some(bridge.as_str())
}

fn neighbours(cluster: &str, dirs: &Dirs) -> Vec<Neighbour> {
    let others = dirs.clusters().into_iter().filter(|name| name != cluster);
    let ranges = |name: String| {
        let file = dirs.assets(&name).join(kayak_core::assets::CLUSTER_FILE);
        // A cluster of which only a lock or a part is left has no range.
        let facts = std::fs::read(file).ok()?;
        let network = serde_json::from_slice::<Cluster>(&facts).ok()?.config.network;
        Some(Neighbour { name, nodes: network.nodes, pods: network.pods, services: network.services })
    };
    others.filter_map(ranges).collect()
}

/// Tells whether the kernel knows a kind of link, by asking for one that it can never make: the
/// name has a slash in it, and there are too many queues. What it does not know it refuses before.
pub(super) fn knows_link(kind: &str) -> Fact<bool> {
    let body = [
        vec![0; LINK],
        attribute(3, b"kayak/never\0"),
        attribute(31, &u32::MAX.to_ne_bytes()),
        nested(18, &attribute(1, kind.as_bytes())),
    ];
    let asked = Netlink::open(None).and_then(|kernel| kernel.create(NEW_LINK, &body.concat()));
    match asked.err().map(|error| (Errno::from_io_error(&error), error)) {
        Some((Some(Errno::INVAL), _)) => Fact::Known(true),
        Some((Some(Errno::OPNOTSUPP), _)) => Fact::Known(false),
        Some((_, error)) => Fact::Unknown(error.to_string()),
        None => Fact::Unknown("the kernel made a link that cannot be".into()),
    }
}

/// Tells whether the kernel has nftables, by asking how often its rules have changed.
pub(super) fn knows_nftables() -> Fact<bool> {
    let asked = Netlink::open(Some(NETFILTER)).and_then(|kernel| kernel.get(GET_GENERATION, &[0; FILTER]));
    match asked.map_err(|error| (Errno::from_io_error(&error), error)) {
        Ok(_) => Fact::Known(true),
        Err((Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT), _)) => Fact::Known(false),
        Err((_, error)) => Fact::Unknown(error.to_string()),
    }
}

/// Lists the chains that drop what is forwarded unless a rule accepts it. Rules of iptables' newer
/// kind, which Docker and ufw make, are among them.
fn dropping() -> io::Result<Vec<String>> {
    let chains = Netlink::open(Some(NETFILTER))?.list(GET_CHAIN, &[0; FILTER])?;
    Ok(chains.iter().filter_map(dropping_chain).collect())
}

fn dropping_chain((_, body): &Message) -> Option<String> {
    let family = match body.first()? {
        1 => "inet",
        2 => "ip",
        _ => return None,
    };
    let big_endian = |value: &[u8]| number(value, 0).map(u32::from_be);
    let (mut table, mut name, mut hook, mut policy) = (None, None, None, None);
    for (kind, value) in attributes(body.get(FILTER..)?) {
        match kind {
            1 => table = Some(text(value)),
            3 => name = Some(text(value)),
            4 => hook = attributes(value).find(|(kind, _)| *kind == 1).and_then(|(_, hook)| big_endian(hook)),
            5 => policy = big_endian(value),
            _ => {}
        }
    }
    let drops = hook == Some(FORWARD) && policy == Some(DROP);
    drops.then(|| format!("table {family} {}, chain {}", table.unwrap_or_default(), name.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_the_interfaces() {
        let found = interfaces().unwrap();
        let loopback = found.iter().find(|link| link.name == "lo").unwrap();
        assert!(loopback.up && loopback.mtu >= 1500, "{loopback:?}");
        assert!(loopback.addresses.contains(&"127.0.0.1/8".parse().unwrap()), "{loopback:?}");
    }

    #[test]
    fn what_the_kernel_cannot_make_is_told_apart_from_what_it_can() {
        let answers = ["bridge", "no-such-kind"].map(knows_link);
        if crate::preflight::is_root() {
            assert_eq!(answers, [Fact::Known(true), Fact::Known(false)]);
            assert_eq!(knows_nftables(), Fact::Known(true));
        } else {
            // Who may not ask knows nothing, not that there is nothing.
            assert!(answers.iter().all(|answer| matches!(answer, Fact::Unknown(_))), "{answers:?}");
        }
    }

    fn message(family_and_lengths: [u8; 12], attributes: &[Vec<u8>]) -> Message {
        (24, [family_and_lengths.to_vec(), attributes.concat()].concat())
    }

    #[test]
    fn routes_are_read_and_the_clusters_own_left_out() {
        let links = BTreeMap::from([(7, "eth0".to_owned()), (8, "kayak-home".to_owned())]);
        let oif = |index: u32| attribute(4, &index.to_ne_bytes());
        let to = |bytes: [u8; 4]| attribute(1, &bytes);
        let direct = message([2, 24, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0], &[to([10, 9, 0, 0]), oif(7)]);
        let direct = route(&direct, &links).unwrap();
        assert_eq!(direct.range, "10.9.0.0/24".parse().unwrap());
        assert_eq!((direct.interface.as_deref(), direct.direct), (Some("eth0"), true));
        let by_gateway =
            message([2, 0, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0], &[oif(7), attribute(5, &[10, 9, 0, 1])]);
        assert!(!route(&by_gateway, &links).unwrap().direct);
        let local = message([2, 32, 0, 0, 255, 2, 0, 2, 0, 0, 0, 0], &[to([10, 9, 0, 2]), oif(7)]);
        assert_eq!(route(&local, &links), None);
        let bridge = message([2, 24, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0], &[to([10, 8, 0, 0]), oif(8)]);
        let bridge = route(&bridge, &links).unwrap();
        assert!(is_of("home", &bridge) && !is_of("other", &bridge));
        let metric = attribute(6, &paths::metric("home").to_ne_bytes());
        let nowhere = message([2, 16, 0, 0, 254, 2, 0, 7, 0, 0, 0, 0], &[to([10, 244, 0, 0]), metric]);
        let nowhere = route(&nowhere, &links).unwrap();
        assert!(is_of("home", &nowhere) && !is_of("other", &nowhere));
    }

    #[test]
    fn a_chain_drops_by_its_hook_and_policy() {
        let chain = |family, hook: u32, policy: u32| {
            let hook = nested(4, &attribute(1, &hook.to_be_bytes()));
            let policy = attribute(5, &policy.to_be_bytes());
            let names = [attribute(1, b"filter\0"), attribute(3, b"FORWARD\0")].concat();
            dropping_chain(&(0, [vec![family, 0, 0, 0], names, hook, policy].concat()))
        };
        assert_eq!(chain(2, FORWARD, DROP).as_deref(), Some("table ip filter, chain FORWARD"));
        assert_eq!(chain(2, FORWARD, 1), None);
        assert_eq!(chain(2, 1, DROP), None);
        assert_eq!(chain(10, FORWARD, DROP), None);
    }
}
