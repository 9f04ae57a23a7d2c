//! Where a cluster may listen: at its nodes' addresses and on loopback, and nowhere else.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Node};
use crate::component::flannel;
use crate::config::NetworkMode;
use crate::sockets::{Protocol, SocketRow};

/// What the rule says of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Only the node itself reaches it.
    Loopback,
    /// It is where the cluster may be reached: the node's address, or the one that the API's service leads
    /// to.
    NodeAddress,
    /// It listens on every address since it cannot do otherwise, but the packet filter lets nobody
    /// else come to it.
    Filtered,
    /// It may be reached elsewhere.
    Outside,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::NodeAddress => "the node's address",
            Self::Filtered => "filtered",
            Self::Outside => "OUTSIDE",
        })
    }
}

/// A listener of the cluster, and what the rule says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The node.
    pub node: String,
    /// The listener.
    #[serde(flatten)]
    pub socket: SocketRow,
    /// What the rule says.
    pub verdict: Verdict,
}

impl Finding {
    /// Whose it is.
    pub fn owner(&self) -> String {
        let holder = self.socket.processes.first();
        holder.map_or_else(|| "the kernel".into(), |holder| holder.owner.to_string())
    }
}

/// Judges what listens on a node's network. On the machine's own network those listeners that are no
/// process's of the node are the machine's, and left out.
pub fn audit(cluster: &Cluster, node: &Node, sockets: &[SocketRow]) -> Vec<Finding> {
    let overlay = flannel::overlay_port(cluster);
    let is_nobodys = |socket: &SocketRow| socket.processes.is_empty();
    let is_filtered = |socket: &SocketRow| {
        is_nobodys(socket) && socket.protocol == Protocol::Udp && Some(socket.address.port()) == overlay
    };
    let alone = cluster.config.network.mode == NetworkMode::Bridge;
    let is_ours = |socket: &&SocketRow| alone || !is_nobodys(socket) || is_filtered(socket);
    let judge = |socket: &SocketRow| match socket.address.ip().to_canonical() {
        address if address.is_loopback() => Verdict::Loopback,
        address if node.addresses().any(|own| own == address) => Verdict::NodeAddress,
        // Each node has it for itself; on the machine's own network the named interface leads there too,
        // as it does to the API at the node's own address.
        address if address == cluster.api_node_ip() => Verdict::NodeAddress,
        // Whichever controller has it: it is on the same interface as the node's own.
        IpAddr::V4(address) if Some(address) == cluster.config.api.vip => Verdict::NodeAddress,
        _ if is_filtered(socket) => Verdict::Filtered,
        _ => Verdict::Outside,
    };
    let finding = |socket: &SocketRow| Finding {
        node: node.name.clone(),
        socket: socket.clone(),
        verdict: judge(socket),
    };
    sockets.iter().filter(is_ours).map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Role;
    use std::net::SocketAddr;

    use crate::cluster::tests::resolve;
    use crate::sockets::{Owner, SocketProcess};

    const ON_TUN0: &str = "network: { mode: host, interface: tun0 }";

    fn cluster(yaml: &str) -> Cluster {
        resolve(yaml).unwrap()
    }

    fn socket(protocol: Protocol, address: &str, port: u16, processes: &[SocketProcess]) -> SocketRow {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        SocketRow { protocol, address, processes: processes.to_vec() }
    }

    fn verdicts(cluster: &Cluster, sockets: &[SocketRow]) -> Vec<Verdict> {
        audit(cluster, &cluster.nodes[0], sockets).iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn loopback_and_the_nodes_address_are_within_the_rule() {
        use Verdict::{Loopback, NodeAddress, Outside};
        let etcd = [SocketProcess { pid: 7, program: "etcd".into(), owner: Owner::Unit("etcd".into()) }];
        for (yaml, own, other) in [(ON_TUN0, "10.8.0.1", "192.0.2.2"), ("", "10.254.0.2", "10.8.0.1")] {
            let mapped = format!("::ffff:{own}");
            let addresses = ["127.64.3.9", "::1", own, &mapped, "10.244.255.255", other, "0.0.0.0", "::"];
            let sockets = addresses.map(|address| socket(Protocol::Tcp, address, 2379, &etcd));
            let expected =
                [Loopback, Loopback, NodeAddress, NodeAddress, NodeAddress, Outside, Outside, Outside];
            assert_eq!(verdicts(&cluster(yaml), &sockets), expected);
        }
    }

    #[test]
    fn the_machines_own_listeners_are_not_the_clusters() {
        let sshd = [socket(Protocol::Tcp, "0.0.0.0", 22, &[])];
        assert_eq!(verdicts(&cluster(ON_TUN0), &sshd), []);
        // A network of the node's own has nobody else's.
        assert_eq!(verdicts(&cluster(""), &sshd), [Verdict::Outside]);
    }

    #[test]
    fn the_kernels_socket_for_the_overlay_cannot_be_bound_and_is_filtered() {
        let sockets = [8472, 8473].map(|port| socket(Protocol::Udp, "0.0.0.0", port, &[]));
        assert_eq!(verdicts(&cluster(""), &sockets), [Verdict::Outside; 2]);
        let mut cluster = cluster(ON_TUN0);
        let address = "10.8.0.2".parse().unwrap();
        cluster.nodes.push(Node {
            name: "worker-0".into(),
            role: Role::Worker,
            address,
            second_address: None,
        });
        assert_eq!(verdicts(&cluster, &sockets), [Verdict::Filtered]);
    }
}
