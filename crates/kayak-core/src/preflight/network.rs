//! Whether the cluster's addresses are free, and whether its packets get through.

use ipnet::IpNet;

use super::{Findings, Interface, Neighbour, Network, Route, Severity};
use crate::cluster::Cluster;
use crate::component::flannel;
use crate::config::NetworkMode;

/// The smallest MTU that IPv6 knows, and what most programs take for granted.
const LEAST_MTU: u32 = 1280;
/// The machine's ends of pods' links, as the CNI plugin `ptp` names them.
const POD_LINKS: &str = "veth";
/// Routes of clusters to what is not reached from the machine are told by so high a metric.
const LAST_CHOICE: u32 = 0xf000_0000;

pub(super) fn judge(cluster: &Cluster, network: &Network, found: &mut Findings) {
    let wished = &cluster.config.network;
    let on_host = wished.mode == NetworkMode::Host;
    let nodes = (!on_host).then_some(("nodes", wished.nodes));
    let ranges = nodes.into_iter().chain([("pods", wished.pods), ("services", wished.services)]);
    let ranges = ranges.flat_map(|(field, ranges)| ranges.all().map(move |range| (field, range)));
    let routes = found.known("the routes", &network.routes);
    for (field, range) in ranges {
        // What is known of another cluster says more than its route.
        let is_neighbours = |route: &&Route| {
            network.clusters.iter().any(|other| other.nodes.all().any(|nodes| nodes == route.range))
        };
        // On the machine's own network the pods of a cluster that runs have their routes.
        let is_pods = |route: &&Route| {
            let of_pod = route.interface.as_deref().is_some_and(|name| name.starts_with(POD_LINKS));
            on_host && of_pod && wished.pods.all().any(|pods| pods.contains(&route.range))
        };
        let foreign = |route: &&Route| !is_neighbours(route) && !is_pods(route);
        for route in routes.into_iter().flatten().filter(foreign) {
            judge_route(field, range, route, found);
        }
        for other in &network.clusters {
            judge_neighbour(field, range, other, found);
        }
        for server in cluster.nameservers.iter().filter(|ip| range.contains(*ip)) {
            found.error(
                "name-server-in-range",
                format!("the name server {server} lies in `network.{field}: {range}`"),
                "pods look for it in the cluster, and resolve no name outside",
                format!("set `network.{field}` to another range, or `network.nameservers`"),
            );
        }
    }
    if wished.egress || on_host {
        judge_forwarding(cluster, network, found);
    }
    if wished.egress
        && let Some(interfaces) = found.known("the network interfaces", &network.interfaces)
    {
        judge_mtu(cluster, interfaces, routes.map_or(&[], Vec::as_slice), found);
    }
    judge_firewall(cluster, network, found);
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

fn judge_route(field: &str, range: IpNet, route: &Route, found: &mut Findings) {
    // Half of all addresses: how VPNs write a default route that beats the default route.
    if route.range.prefix_len() <= 1 || !overlap(range, route.range) {
        return;
    }
    let name = route.interface.as_deref().unwrap_or("nowhere");
    let of = if name.starts_with("kayak-") { ", of another cluster" } else { "" };
    let what = format!("`network.{field}: {range}` overlaps the route to {} (dev {name}{of})", route.range);
    let remedy = format!("set `network.{field}` to a range that is free");
    if route.interface.is_none() {
        if route.metric < LAST_CHOICE {
            let matters = "the machine's owner has closed that range";
            found.warning("ranges-overlap", what, matters, remedy);
        }
    } else if route.direct || range.contains(&route.range) {
        let matters =
            "one hides the other: what has addresses there is reached no more, or the cluster is not";
        found.error("ranges-overlap", what, matters, remedy);
    } else {
        let matters = "what lies behind that route with addresses of this range is not reached any more";
        found.warning("ranges-overlap", what, matters, remedy);
    }
}

fn judge_neighbour(field: &str, range: IpNet, other: &Neighbour, found: &mut Findings) {
    let taken = [("nodes", other.nodes), ("pods", other.pods), ("services", other.services)];
    for (theirs, taken) in
        taken.into_iter().flat_map(|(theirs, ranges)| ranges.all().map(move |range| (theirs, range)))
    {
        if !overlap(range, taken) {
            continue;
        }
        let what =
            format!("`network.{field}: {range}` overlaps the {theirs} of cluster `{}`, {taken}", other.name);
        let remedy = format!("set `network.{field}` to a range that no other cluster has");
        if field == "nodes" || theirs == "nodes" {
            let matters = "nodes of both are on this machine's network, and could not be told apart";
            found.error("ranges-overlap", what, matters, remedy);
        } else {
            let matters = "both work, but can never be routed to each other";
            found.warning("ranges-overlap", what, matters, remedy);
        }
    }
}

/// Packets of pods leave by the default route.
fn judge_mtu(cluster: &Cluster, interfaces: &[Interface], routes: &[Route], found: &mut Findings) {
    let first = cluster.config.network.nodes.first.addr();
    let out = routes.iter().filter(|route| route.range.prefix_len() == 0);
    let out = out.filter(|route| route.range.addr().is_ipv4() == first.is_ipv4());
    let out = out.min_by_key(|route| route.metric).and_then(|route| route.interface.as_deref());
    let least = LEAST_MTU + flannel::overhead(cluster);
    if let Some(interface) = interfaces.iter().find(|interface| Some(interface.name.as_str()) == out)
        && interface.mtu < least
    {
        found.warning(
            "mtu-small",
            format!("packets on {} are at most {} bytes", interface.name, interface.mtu),
            "larger ones from pods are parted or sent again, and lost where ICMP is filtered",
            format!("give the link an MTU of {least} or more, if what it leads to allows"),
        );
    }
}

fn judge_forwarding(cluster: &Cluster, network: &Network, found: &mut Findings) {
    let (setting, otherwise) = match cluster.config.network.mode {
        NetworkMode::Bridge => ("egress", "egress: false"),
        NetworkMode::Host => ("mode: host", "mode: bridge"),
    };
    let nodes = cluster.config.network.nodes;
    let four = nodes.four().map(|_| ("net.ipv4.ip_forward", &network.forwards, "packets"));
    let six = nodes.six().map(|_| ("net.ipv6.conf.all.forwarding", &network.forwards_six, "packets of IPv6"));
    for (name, forwards, packets) in four.into_iter().chain(six) {
        if found.known(name, forwards) != Some(&false) {
            continue;
        }
        found.warning(
            "forwarding-switched-on",
            format!("this machine forwards no {packets} yet; `network.{setting}` switches that on, until the cluster is gone"),
            "it then forwards for others on its links too, if they send it theirs, unless its firewall says no",
            format!("nothing, or a rule; or `network.{otherwise}` in the configuration of `{}`", cluster.name()),
        );
    }
}

/// Every chain has its say about a packet: that kayak's own accepts it does not help.
fn judge_firewall(cluster: &Cluster, network: &Network, found: &mut Findings) {
    let bridged = network.filters_bridged && cluster.nodes.len() > 1;
    if !cluster.config.network.egress && !bridged {
        return;
    }
    let (severity, matters) = if bridged {
        (Severity::Error, "what nodes send each other over the bridge passes it too (br_netfilter)")
    } else {
        (Severity::Warning, "what pods send to the outside passes it too")
    };
    let range = cluster.config.network.nodes.first;
    for chain in found.known("the packet filter", &network.dropping).into_iter().flatten() {
        found.add(
            severity,
            "firewall-drops",
            format!("the packet filter drops what it forwards unless a rule accepts it: {chain}"),
            matters,
            format!(
                "let it accept {range} as source and destination: `iptables -I FORWARD -s {range} -j ACCEPT` \
                 and the same with `-d`, in DOCKER-USER with Docker, by `ufw route allow` with ufw"
            ),
        );
    }
    if network.legacy_filter {
        let fact = crate::plan::Fact::<()>::Unknown("its rules are of iptables' old kind".into());
        found.known("the packet filter of iptables-legacy", &fact);
    }
}
