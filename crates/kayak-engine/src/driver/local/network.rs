//! The nodes' network on this machine: a bridge, and rules that keep what is the cluster's inside.
//! What is different for a node on the machine's own network is in [`host`].
//!
//! Nodes exchange packets over the bridge. The machine takes none of them for itself beyond what
//! its own connections to nodes need, and passes on only what egress is allowed, always from a
//! node's address: what leaves a pod is rewritten to its node's by the pod network.

mod host;
mod tables;

pub(crate) use host::{OVERLAY_LINK, POD_LINKS, TABLES};
pub(crate) use tables::list as tables;

use std::fmt::Write as _;
use std::net::IpAddr;

use camino::Utf8PathBuf;
use ipnet::IpNet;

use super::command::{self, CommandError};
use super::disk;
use super::error::LocalError;
use super::paths;
use crate::driver::{ClusterNetwork, ClusterSpec, NodeNetwork, NodeSpec};

/// Where the kernel lists the links of the network that this process is on. /sys would show those of
/// the network that it was mounted on.
const LINKS: &str = "/proc/self/net/dev";

/// The programs of an unpacked node image, run on this machine's network: the machine itself needs
/// neither `ip` nor `nft`.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// The unpacked image.
    pub(crate) root: Utf8PathBuf,
}

impl Tools {
    async fn ip(&self, batch: &str) -> Result<(), CommandError> {
        let mut command = command::in_root(&self.root, "ip");
        command::run(command.args(["-batch", "-"]), batch).await.map(drop)
    }

    async fn ip_in_node(&self, pid: u32, batch: &str) -> Result<(), CommandError> {
        let mut command = tokio::process::Command::new("nsenter");
        command.arg(format!("--net=/proc/{pid}/ns/net"));
        command.arg("chroot").arg(&self.root).args(["ip", "-batch", "-"]);
        command::run(&mut command, batch).await.map(drop)
    }

    async fn nft(&self, rules: &str) -> Result<(), CommandError> {
        let mut command = command::in_root(&self.root, "nft");
        command::run(command.args(["--file", "-"]), rules).await.map(drop)
    }

    /// Makes the cluster's network, or what is missing of it.
    pub(crate) async fn connect_cluster(&self, cluster: &ClusterSpec) -> Result<(), LocalError> {
        // The rules first: at no moment may a packet pass without them.
        match &cluster.network {
            ClusterNetwork::Bridge { range, gateway, second } => {
                let networks = both((*range, *gateway), *second);
                self.nft(&rules(cluster, &networks)).await?;
                let exists = is_link(&paths::bridge(&cluster.name))?;
                self.ip(&bridge(cluster, &networks, exists)).await?;
            }
            ClusterNetwork::Host(network) => {
                self.nft(&host::rules(cluster, network)).await?;
                self.ip(&host::routes(cluster)).await?;
            }
        }
        Ok(())
    }

    /// Removes the cluster's network, or what is left of it.
    pub(crate) async fn disconnect_cluster(&self, cluster: &str) -> Result<(), LocalError> {
        self.unlink(&paths::bridge(cluster)).await?;
        let metric = paths::metric(cluster).to_string();
        // Of the kinds that are made, and no other that somebody has at the same metric.
        for kind in [["type", "unreachable"], ["dev", "lo"]] {
            for family in ["-4", "-6"] {
                let mut command = command::in_root(&self.root, "ip");
                command
                    .args([family, "route", "flush", "table", "main"])
                    .args(kind)
                    .args(["metric", &metric]);
                command::run(&mut command, "").await?;
            }
        }
        Ok(self.nft(&delete_table("inet", &table(cluster))).await?)
    }

    /// Gives a node its network, given a process in it.
    pub(crate) async fn connect_node(&self, node: &NodeSpec, pid: u32) -> Result<(), LocalError> {
        let NodeNetwork::Bridge { address, gateway, second } = node.network else { return Ok(()) };
        let link = paths::link(&node.id);
        let link_address = paths::link_address(&format!("{}/{}", node.id.cluster, node.id.name));
        let bridge = paths::bridge(&node.id.cluster);
        self.ip(&format!(
            "link add name {link} type veth peer name eth0 address {link_address} netns {pid}\n\
             link set dev {link} master {bridge} up\n"
        ))
        .await?;
        Ok(self.ip_in_node(pid, &uplink(&both((address, gateway), second))).await?)
    }

    /// Removes a network interface of this machine, if it is there. A node's would go with its
    /// network namespace, but some time later.
    pub(crate) async fn unlink(&self, name: &str) -> Result<(), LocalError> {
        if !is_link(name)? {
            return Ok(());
        }
        match self.ip(&format!("link delete dev {name}\n")).await {
            // It may have gone with its namespace meanwhile.
            Err(_) if !is_link(name)? => Ok(()),
            deleted => Ok(deleted?),
        }
    }
}

/// Tells whether this machine has a network interface.
pub(crate) fn is_link(name: &str) -> Result<bool, LocalError> {
    let links = disk::read(LINKS.as_ref())?.unwrap_or_default();
    let links = String::from_utf8_lossy(&links);
    Ok(links.lines().filter_map(|line| line.split_once(':')).any(|(link, _)| link.trim() == name))
}

/// Tells whether the cluster's rules are there: who sets up rules of his own may have emptied all.
pub(crate) fn has_rules(cluster: &str) -> Result<bool, LocalError> {
    let wanted = format!("inet {}", table(cluster));
    Ok(tables().map_err(LocalError::Tables)?.contains(&wanted))
}

/// Only a table that is there can be deleted, so that it is made first.
fn delete_table(family: &str, table: &str) -> String {
    format!("table {family} {table}\ndelete table {family} {table}\n")
}

/// What the cluster's table of rules is called.
pub(crate) fn table(cluster: &str) -> String {
    format!("kayak-{cluster}")
}

/// The networks of one family or of both, each with an address in it.
fn both(first: (IpNet, IpAddr), second: Option<(IpNet, IpAddr)>) -> Vec<(IpNet, IpAddr)> {
    [first].into_iter().chain(second).collect()
}

/// What an address of IPv6 is given with: nobody else has it, and to make sure would take a second, in which
/// nothing can listen there.
fn without_doubt(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}

/// Says how the bridge and the machine's routes are made, for `ip -batch`.
fn bridge(cluster: &ClusterSpec, networks: &[(IpNet, IpAddr)], exists: bool) -> String {
    let bridge = paths::bridge(&cluster.name);
    let mut batch = String::new();
    let mut line = |text: String| batch.extend([text.as_str(), "\n"]);
    if !exists {
        let address = paths::link_address(&cluster.name);
        line(format!("link add name {bridge} address {address} type bridge"));
    }
    line(format!("link set dev {bridge} up"));
    for (range, gateway) in networks {
        let nodad = without_doubt(*gateway);
        line(format!("address replace {gateway}/{} dev {bridge}{nodad}", range.prefix_len()));
    }
    // Whoever asks this machine for a pod or a service is told that there is none here, instead of
    // the packet being sent to wherever the default route leads.
    let metric = paths::metric(&cluster.name);
    for range in cluster.pod_ranges.iter().chain(&cluster.service_ranges) {
        line(format!("route replace unreachable {range} metric {metric}"));
    }
    batch
}

/// Says how a node's own side of the network is made, for `ip -batch`.
fn uplink(networks: &[(IpNet, IpAddr)]) -> String {
    let mut batch = String::from("link set dev lo up\n");
    // Writing to a string does not fail.
    for (address, gateway) in networks {
        let _ = writeln!(batch, "address replace {address} dev eth0{}", without_doubt(*gateway));
    }
    batch.push_str("link set dev eth0 up\n");
    // The default route is there without egress too: a packet to a service is routed before it is
    // rewritten to go to a pod, and without a route it would not even be sent.
    for (_, gateway) in networks {
        let everywhere = if gateway.is_ipv4() { "default" } else { "::/0" };
        let _ = writeln!(batch, "route replace {everywhere} via {gateway}");
    }
    batch
}

/// What a sender is told at once.
const REJECT: &str = "reject with icmpx type admin-prohibited";

/// Says what may pass, for `nft`; it takes the place of what was said before at once.
fn rules(cluster: &ClusterSpec, networks: &[(IpNet, IpAddr)]) -> String {
    let nodes: Vec<_> = networks.iter().map(|(range, _)| *range).collect();
    let table = table(&cluster.name);
    let bridge = paths::bridge(&cluster.name);
    let outside = if cluster.egress { pass_on(cluster, &nodes) } else { keep_inside(cluster, &nodes) };
    let resolver = if cluster.egress {
        // The machine may be the name server that the nodes were given.
        format!("    iifname \"{bridge}\" meta l4proto {{ 6, 17 }} th dport 53 accept\n")
    } else {
        String::new()
    };
    // Nodes are no routers of the machine's, which would take their word for its own way out.
    let routers = if nodes.iter().any(|range| range.addr().is_ipv6()) {
        format!("    iifname \"{bridge}\" icmpv6 type {{ nd-router-advert, nd-redirect }} drop\n")
    } else {
        String::new()
    };
    // Protocols by number (ICMP, ICMPv6, TCP, UDP): the node image has no /etc/protocols.
    format!(
        "{replaced}\
         table inet {table} {{\n\
         {outside}\
         \x20 chain input {{\n\
         \x20   type filter hook input priority filter; policy accept;\n\
         \x20   iifname \"{bridge}\" ct state established,related accept\n\
         {routers}\
         \x20   iifname \"{bridge}\" meta l4proto {{ 1, 58 }} accept\n\
         {resolver}\
         \x20   iifname \"{bridge}\" {REJECT}\n\
         \x20 }}\n\
         }}\n",
        replaced = delete_table("inet", &table),
    )
}

/// The rules of a cluster without egress: nothing leaves the bridge. Rejecting before routing tells
/// the sender at once, even where the machine forwards nothing and would silently drop.
fn keep_inside(cluster: &ClusterSpec, nodes: &[IpNet]) -> String {
    let bridge = paths::bridge(&cluster.name);
    let mut text =
        String::from("  chain prerouting {\n    type filter hook prerouting priority raw; policy accept;\n");
    // Pods' addresses are seen on the bridge if the pod network does not wrap their packets;
    // bridged packets come along here where br_netfilter is loaded.
    let inside = cluster.pod_ranges.iter().chain(nodes);
    for (family, mut ranges) in by_family(inside) {
        let multicast =
            if family == "ip" { ["224.0.0.0/4", "255.255.255.255"] } else { ["fe80::/10", "ff00::/8"] };
        ranges.extend(multicast.map(str::to_owned));
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "    iifname \"{bridge}\" {family} daddr != {{ {} }} {REJECT}", ranges.join(", "));
    }
    let _ = write!(
        text,
        "  }}\n\
         \x20 chain forward {{\n\
         \x20   type filter hook forward priority filter; policy accept;\n\
         \x20   iifname \"{bridge}\" oifname \"{bridge}\" accept\n\
         \x20   iifname \"{bridge}\" drop\n\
         \x20   oifname \"{bridge}\" drop\n\
         \x20 }}\n"
    );
    text
}

/// The rules of a cluster with egress: whatever is not the cluster's leaves from the node's
/// address, rewritten to the machine's; nobody outside reaches in.
fn pass_on(cluster: &ClusterSpec, nodes: &[IpNet]) -> String {
    let bridge = paths::bridge(&cluster.name);
    let mut text = format!(
        "  chain forward {{\n\
         \x20   type filter hook forward priority filter; policy accept;\n\
         \x20   iifname \"{bridge}\" oifname \"{bridge}\" accept\n"
    );
    let own = cluster.pod_ranges.iter().chain(&cluster.service_ranges).chain(nodes);
    for (family, ranges) in by_family(own) {
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "    iifname \"{bridge}\" {family} daddr {{ {} }} {REJECT}", ranges.join(", "));
    }
    // Writing to a string does not fail.
    for (family, ranges) in by_family(nodes) {
        let _ = writeln!(text, "    iifname \"{bridge}\" {family} saddr {{ {} }} accept", ranges.join(", "));
    }
    let _ = write!(
        text,
        "    iifname \"{bridge}\" drop\n\
         \x20   oifname \"{bridge}\" ct state established,related accept\n\
         \x20   oifname \"{bridge}\" drop\n\
         \x20 }}\n\
         \x20 chain postrouting {{\n\
         \x20   type nat hook postrouting priority srcnat; policy accept;\n"
    );
    for (family, ranges) in by_family(nodes) {
        let ranges = ranges.join(", ");
        let _ = writeln!(text, "    oifname != \"{bridge}\" {family} saddr {{ {ranges} }} masquerade");
    }
    text.push_str("  }\n");
    text
}

/// Sorts ranges by what nft calls their families.
fn by_family<'a>(ranges: impl IntoIterator<Item = &'a IpNet>) -> Vec<(&'static str, Vec<String>)> {
    let (four, six): (Vec<_>, Vec<_>) = ranges.into_iter().partition(|range| range.addr().is_ipv4());
    let text = |ranges: Vec<&IpNet>| ranges.iter().map(ToString::to_string).collect::<Vec<_>>();
    [("ip", text(four)), ("ip6", text(six))].into_iter().filter(|(_, ranges)| !ranges.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<(IpNet, IpAddr)> {
        vec![("10.100.0.0/24".parse().unwrap(), "10.100.0.1".parse().unwrap())]
    }

    fn nodes_of_both() -> Vec<(IpNet, IpAddr)> {
        both(nodes()[0], Some(("fd00:100::/64".parse().unwrap(), "fd00:100::1".parse().unwrap())))
    }

    fn cluster(egress: bool) -> ClusterSpec {
        ClusterSpec {
            name: "home".into(),
            image: "kayak.local/node:v1".into(),
            network: ClusterNetwork::Bridge { range: nodes()[0].0, gateway: nodes()[0].1, second: None },
            pod_ranges: vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/56".parse().unwrap()],
            service_ranges: vec!["10.96.0.0/16".parse().unwrap()],
            api_address: Some("10.244.255.255".parse().unwrap()),
            egress,
        }
    }

    #[test]
    fn nothing_leaves_without_egress() {
        insta::assert_snapshot!(rules(&cluster(false), &nodes()));
    }

    #[test]
    fn only_what_is_not_the_clusters_leaves_with_egress() {
        insta::assert_snapshot!(rules(&cluster(true), &nodes()));
    }

    #[test]
    fn rules_of_both_families_are_the_same() {
        insta::assert_snapshot!(rules(&cluster(true), &nodes_of_both()));
        let inside = rules(&cluster(false), &nodes_of_both());
        assert!(
            inside.contains("ip6 daddr != { fd00:244::/56, fd00:100::/64, fe80::/10, ff00::/8 } reject"),
            "{inside}"
        );
    }

    #[test]
    fn addresses_of_both_families_are_given_at_once() {
        insta::assert_snapshot!(bridge(&cluster(false), &nodes_of_both(), false));
        insta::assert_snapshot!(uplink(&nodes_of_both()));
    }

    #[test]
    fn a_bridge_is_made_once() {
        insta::assert_snapshot!(bridge(&cluster(false), &nodes(), false));
        assert!(!bridge(&cluster(false), &nodes(), true).contains("link add"));
    }

    #[test]
    fn a_node_gets_its_address_and_a_way_out() {
        insta::assert_snapshot!(uplink(&[("10.100.0.11/24".parse().unwrap(), nodes()[0].1)]));
    }
}
