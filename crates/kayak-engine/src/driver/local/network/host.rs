//! A node on the machine's own network: who may come to it, and what its pods leave there.
//!
//! To bind an address is not enough: Linux takes packets for any of its addresses on any interface.
//! So whatever comes by another interface than the named one is kept from what is the cluster's.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
use kayak_core::cluster::HostNetwork;
use kayak_core::node::{api_address_label, vip_label};
use serde::Deserialize;

use super::{REJECT, Tools, by_family, delete_table, table};
use crate::driver::ClusterSpec;
use crate::driver::local::command;
use crate::driver::local::error::LocalError;
use crate::driver::local::paths;

/// Tables that a node's network components make: kube-proxy, flannel, and the CNI plugin for ports
/// of the machine.
pub(crate) const TABLES: [(&str, &str); 6] = [
    ("ip", "kube-proxy"),
    ("ip6", "kube-proxy"),
    ("ip", "flannel-ipv4"),
    ("ip6", "flannel-ipv6"),
    ("ip", "cni_hostport"),
    ("ip6", "cni_hostport"),
];

/// The link that flannel makes where there are other nodes: named by the VXLAN's number.
pub(crate) const OVERLAY_LINK: &str = "flannel.1";

/// The machine's ends of pods' links, as the CNI plugin `ptp` names them.
pub(crate) const POD_LINKS: &str = "veth";

/// What `ip route show` says of a route.
#[derive(Debug, Deserialize)]
struct Route {
    dev: Option<String>,
}

impl Tools {
    /// Removes what the pods and network components of a cluster left, once none of them runs.
    pub(crate) async fn clear_host(&self, cluster: &str, pod_ranges: &[IpNet]) -> Result<(), LocalError> {
        for range in pod_ranges {
            for link in self.pod_links(range).await? {
                self.unlink(&link).await?;
            }
        }
        self.unlink(OVERLAY_LINK).await?;
        // The agent's, which is dead. To find none is no error.
        for label in [api_address_label(cluster), vip_label(cluster)] {
            self.ip(&format!("address flush label {label}\n")).await?;
        }
        let deletions: String =
            TABLES.into_iter().map(|(family, table)| delete_table(family, table)).collect();
        Ok(self.nft(&deletions).await?)
    }

    /// Finds the links of pods by the routes to them: others on this machine have links of such
    /// names too.
    async fn pod_links(&self, range: &IpNet) -> Result<Vec<String>, LocalError> {
        let family = if range.addr().is_ipv4() { "-4" } else { "-6" };
        let mut command = command::in_root(&self.root, "ip");
        command.args(["-json", family, "route", "show", "root", &range.to_string()]);
        let said = command::run(&mut command, "").await?;
        let routes: Vec<Route> = serde_json::from_slice(&said)
            .map_err(|source| LocalError::Parse { what: "ip route show".into(), source })?;
        let links = routes.into_iter().filter_map(|route| route.dev);
        Ok(links.filter(|link| link.starts_with(POD_LINKS)).collect())
    }
}

/// Says how the machine's routes are made, for `ip -batch`.
pub(super) fn routes(cluster: &ClusterSpec) -> String {
    let metric = paths::metric(&cluster.name);
    let mut batch = String::new();
    // A pod that is not here is nowhere, and not where the default route leads.
    for range in &cluster.pod_ranges {
        // Writing to a string does not fail.
        let _ = writeln!(batch, "route replace unreachable {range} metric {metric}");
    }
    // A packet of the machine's own to a service is routed before it is rewritten to go to a pod,
    // and without a route it would not even be sent.
    for range in &cluster.service_ranges {
        let _ = writeln!(batch, "route replace {range} dev lo metric {metric}");
    }
    batch
}

/// Says what may pass, for `nft`; it takes the place of what was said before at once.
pub(super) fn rules(cluster: &ClusterSpec, network: &HostNetwork) -> String {
    let table = table(&cluster.name);
    format!(
        "{replaced}table inet {table} {{\n{arriving}{forwarded}{delivered}{sent}}}\n",
        replaced = delete_table("inet", &table),
        arriving = arriving(cluster, network),
        forwarded = forwarded(cluster, network),
        delivered = delivered(cluster, network),
        sent = sent(cluster),
    )
}

/// What is refused before anything else, address translation included, has seen it. Dropped, since
/// an answer would say that something is there.
fn arriving(
    cluster: &ClusterSpec,
    HostNetwork { interface, address, vip, ports, wildcard_ports }: &HostNetwork,
) -> String {
    let mut text = chain("prerouting", "prerouting", "raw");
    let mut line = |rule: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "    {rule}");
    };
    line("iifname \"lo\" accept".into());
    // Settings of a link may make the kernel take such packets, and instances trust loopback.
    line("ip daddr 127.0.0.0/8 drop".into());
    // The API's address on the loopback is one of the pods' range, and guarded with it below.
    // A pod is known by its link: the way back to it is where the packet came from.
    for (family, pods) in by_family(&cluster.pod_ranges) {
        line(format!("{family} saddr {{ {} }} fib saddr . iif oif exists accept", pods.join(", ")));
    }
    let own = || by_family(cluster.pod_ranges.iter().chain(&cluster.service_ranges));
    for (family, ranges) in own() {
        line(format!("{family} saddr {{ {} }} drop", ranges.join(", ")));
    }
    line(format!("iifname \"{interface}\" accept"));
    for (family, ranges) in own() {
        line(format!("{family} daddr {{ {} }} drop", ranges.join(", ")));
    }
    // Protocols by number (TCP, UDP): the node image has no /etc/protocols.
    let addresses = match vip {
        Some(vip) => format!("{{ {address}, {vip} }}"),
        None => address.to_string(),
    };
    line(format!("ip daddr {addresses} meta l4proto {{ 6, 17 }} th dport {{ {} }} drop", spans(ports)));
    if !wildcard_ports.is_empty() {
        let ports: Vec<_> = wildcard_ports.iter().map(u16::to_string).collect();
        line(format!("udp dport {{ {} }} drop", ports.join(", ")));
    }
    text + "  }\n"
}

/// What is passed on: nothing that others than the named interface begin reaches a pod, whatever
/// address it was for at first, and nothing of pods leaves without egress.
fn forwarded(cluster: &ClusterSpec, HostNetwork { interface, .. }: &HostNetwork) -> String {
    let mut text = chain("forward", "forward", "filter");
    let mut line = |rule: String| {
        let _ = writeln!(text, "    {rule}");
    };
    line("ct state established,related accept".into());
    for (family, services) in by_family(&cluster.service_ranges) {
        // There is no such service.
        line(format!("{family} daddr {{ {} }} {REJECT}", services.join(", ")));
    }
    for (family, pods) in by_family(&cluster.pod_ranges) {
        let pods = pods.join(", ");
        line(format!(
            "iifname != \"{interface}\" {family} saddr != {{ {pods} }} {family} daddr {{ {pods} }} drop"
        ));
        if !cluster.egress {
            line(format!("{family} saddr {{ {pods} }} {family} daddr != {{ {pods} }} {REJECT}"));
        }
    }
    text + "  }\n"
}

/// What pods may have of the machine: all of it, as of any node, or without egress the node's
/// address alone, and the one that the API's service leads to.
fn delivered(cluster: &ClusterSpec, HostNetwork { address, vip, .. }: &HostNetwork) -> String {
    if cluster.egress {
        return String::new();
    }
    let mut text = chain("input", "input", "filter");
    text.push_str("    ct state established,related accept\n");
    let own: Vec<_> = cluster
        .api_address
        .into_iter()
        .chain([address].into_iter().chain(vip).map(|ip| IpAddr::V4(*ip)))
        .collect();
    let own: Vec<_> = own.iter().map(ToString::to_string).collect();
    for (family, pods) in by_family(&cluster.pod_ranges) {
        let elsewhere =
            if family == "ip" { format!("ip daddr != {{ {} }} ", own.join(", ")) } else { String::new() };
        let _ = writeln!(text, "    {family} saddr {{ {} }} {elsewhere}{REJECT}", pods.join(", "));
    }
    text + "  }\n"
}

/// What the machine sends itself: a service that does not exist is refused at once, instead of the
/// packet going round on the loopback.
fn sent(cluster: &ClusterSpec) -> String {
    let mut text = chain("output", "output", "filter");
    for (family, services) in by_family(&cluster.service_ranges) {
        let _ = writeln!(text, "    {family} daddr {{ {} }} {REJECT}", services.join(", "));
    }
    text + "  }\n"
}

fn chain(name: &str, hook: &str, priority: &str) -> String {
    format!("  chain {name} {{\n    type filter hook {hook} priority {priority}; policy accept;\n")
}

fn spans(ports: &[(u16, u16)]) -> String {
    let span = |&(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ports.iter().map(span).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::ClusterNetwork;

    fn network() -> HostNetwork {
        HostNetwork {
            interface: "tun0".into(),
            address: "10.8.0.1".parse().unwrap(),
            vip: None,
            ports: vec![(6443, 6443), (30000, 32767)],
            wildcard_ports: vec![8472],
        }
    }

    fn cluster(egress: bool) -> ClusterSpec {
        ClusterSpec {
            name: "home".into(),
            image: "kayak.local/node:v1".into(),
            network: ClusterNetwork::Host(network()),
            pod_ranges: vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/56".parse().unwrap()],
            service_ranges: vec!["10.96.0.0/16".parse().unwrap()],
            api_address: Some("10.244.255.255".parse().unwrap()),
            egress,
        }
    }

    #[test]
    fn only_the_named_interface_leads_to_the_cluster() {
        insta::assert_snapshot!(rules(&cluster(true), &network()));
    }

    #[test]
    fn the_virtual_address_is_guarded_as_the_nodes_own() {
        let network = HostNetwork { vip: Some("10.8.0.9".parse().unwrap()), ..network() };
        let rules = rules(&cluster(false), &network);
        assert!(rules.contains("ip daddr { 10.8.0.1, 10.8.0.9 } meta l4proto { 6, 17 } th dport"), "{rules}");
        assert!(rules.contains("ip daddr != { 10.244.255.255, 10.8.0.1, 10.8.0.9 } reject"), "{rules}");
    }

    #[test]
    fn without_egress_pods_reach_the_cluster_alone() {
        insta::assert_snapshot!(rules(&cluster(false), &network()));
    }

    #[test]
    fn pods_and_services_have_routes_of_their_own() {
        insta::assert_snapshot!(routes(&cluster(true)));
    }
}
