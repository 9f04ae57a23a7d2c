//! What only a cluster on the machine's own network minds: others that are there already.

use std::net::{IpAddr, Ipv4Addr};

use super::{Findings, Network};
use crate::cluster::{Cluster, HostNetwork};
use crate::ports::{AT_ADDRESS, ON_LOOPBACK};
use crate::sockets::{Protocol, SocketRow};

pub(super) fn judge(cluster: &Cluster, network: &Network, found: &mut Findings) {
    let Some(host) = cluster.host_network() else { return };
    for socket in found.known("who listens on this machine", &network.listeners).into_iter().flatten() {
        judge_listener(&host, socket, found);
    }
    if let Some(foreign) = found.known("what others have made on the machine's network", &network.foreign)
        && !foreign.is_empty()
    {
        let names: Vec<_> = foreign.keys().map(String::as_str).collect();
        let commands: Vec<_> = foreign.values().map(String::as_str).collect();
        found.error(
            "foreign-network",
            format!("another Kubernetes has made, or left, on this machine's network: {}", names.join(", ")),
            "those of the cluster have the same names: each would overwrite the other's, and go with it",
            format!(
                "remove the other one; what only was left of it, by `{}`; \
                 with `network.mode: bridge` nodes have a network of their own",
                commands.join("; ")
            ),
        );
    }
}

fn judge_listener(host: &HostNetwork, socket: &SocketRow, found: &mut Findings) {
    let whose = wanted_by(host, socket);
    if whose.is_empty() {
        return;
    }
    let holder = socket.processes.first();
    let holder = holder.map_or_else(
        || "somebody".into(),
        |process| format!("`{}` (process {})", process.program, process.pid),
    );
    found.error(
        "port-taken",
        format!("{holder} listens on {}", socket.address),
        &format!(
            "{} would listen there too, on the machine's own network, and could not",
            whose.join(" and ")
        ),
        "end it, or let it listen elsewhere: the cluster's own ports are fixed; \
         with `network.mode: bridge` nodes have a network of their own",
    );
}

/// Says which parts of the cluster a listener is in the way of. One at every address of IPv6 takes those
/// of IPv4 too, unless it was told otherwise, which the kernel's lists do not say.
fn wanted_by(host: &HostNetwork, socket: &SocketRow) -> Vec<&'static str> {
    if socket.protocol != Protocol::Tcp {
        return Vec::new();
    }
    let there = socket.address.ip().to_canonical();
    let ours = [
        (IpAddr::from(host.address), AT_ADDRESS.as_slice()),
        (Ipv4Addr::LOCALHOST.into(), ON_LOOPBACK.as_slice()),
    ];
    let met = ours.into_iter().filter(|(address, _)| there == *address || there.is_unspecified());
    let met = met.flat_map(|(_, ports)| ports).filter(|(port, _)| *port == socket.address.port());
    let mut whose: Vec<_> = met.map(|&(_, name)| name).collect();
    whose.dedup();
    whose
}
