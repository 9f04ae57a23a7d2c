//! Where the local driver keeps what.

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};

use super::error::LocalError;
use crate::driver::NodeId;

/// The directories that everything of the local driver is below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What must survive: a directory a cluster.
    pub state: Utf8PathBuf,
    /// What a restart of the machine may take: a directory a cluster.
    pub run: Utf8PathBuf,
    /// What can be made again: bundle, unpacked node images, prepared stores.
    pub cache: Utf8PathBuf,
}

impl Paths {
    pub(crate) fn cluster(&self, cluster: &str) -> Utf8PathBuf {
        self.state.join(cluster)
    }

    /// The cluster's specification.
    pub(crate) fn cluster_record(&self, cluster: &str) -> Utf8PathBuf {
        self.cluster(cluster).join("local.json")
    }

    /// The node images unpacked for the cluster. They are links to those in the cache, so that
    /// whoever empties the cache takes nothing from under a running node.
    pub(crate) fn roots(&self, cluster: &str) -> Utf8PathBuf {
        self.cluster(cluster).join("rootfs")
    }

    pub(crate) fn nodes(&self, cluster: &str) -> Utf8PathBuf {
        self.cluster(cluster).join("nodes")
    }

    pub(crate) fn node(&self, node: &NodeId) -> Utf8PathBuf {
        self.nodes(&node.cluster).join(&node.name)
    }

    /// The node's specification.
    pub(crate) fn node_record(&self, node: &NodeId) -> Utf8PathBuf {
        self.node(node).join("local.json")
    }

    /// What the node's first process writes.
    pub(crate) fn console(&self, node: &NodeId) -> Utf8PathBuf {
        self.node(node).join("console.log")
    }

    /// Where this machine has one of the node's persistent directories.
    pub(crate) fn persistent(&self, node: &NodeId, directory: &Utf8Path) -> Utf8PathBuf {
        self.node(node).join(directory.as_str().trim_start_matches('/').replace('/', "-"))
    }

    pub(crate) fn cluster_run(&self, cluster: &str) -> Utf8PathBuf {
        self.run.join(cluster)
    }

    /// What runc knows of the cluster's containers.
    pub(crate) fn runc(&self, cluster: &str) -> Utf8PathBuf {
        self.cluster_run(cluster).join("runc")
    }

    pub(crate) fn nodes_run(&self, cluster: &str) -> Utf8PathBuf {
        self.cluster_run(cluster).join("nodes")
    }

    /// What runc is given for the node's container.
    pub(crate) fn node_run(&self, node: &NodeId) -> Utf8PathBuf {
        self.nodes_run(&node.cluster).join(&node.name)
    }
}

/// Tells whether a cluster or node may be called this: names become parts of paths and of control
/// groups, where `..` or nothing would mean what is not kayak's.
pub(crate) fn valid_name(name: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

/// Refuses what is no name.
pub(crate) fn check_name(name: &str) -> Result<(), LocalError> {
    if valid_name(name) { Ok(()) } else { Err(LocalError::Name(name.to_owned())) }
}

/// Refuses a node whose name or cluster's name is none.
pub(crate) fn check_node(node: &NodeId) -> Result<(), LocalError> {
    check_name(&node.cluster)?;
    check_name(&node.name)
}

/// Where a cache has images unpacked for the machine.
pub(crate) fn unpacked(cache: &Utf8Path) -> Utf8PathBuf {
    cache.join("rootfs")
}

/// The node's control group below every hierarchy's root, without a leading slash.
pub(crate) fn cgroup(node: &NodeId) -> String {
    format!("{}/{}", cluster_cgroup(&node.cluster), node.name)
}

/// The control group of a cluster's nodes.
pub(crate) fn cluster_cgroup(cluster: &str) -> String {
    format!("{CGROUP}/{cluster}")
}

/// The control group of everything that kayak runs.
pub(crate) const CGROUP: &str = "kayak";

/// The cluster's bridge. The kernel takes 15 bytes for a name: a long one is told by its hash.
pub(crate) fn bridge(cluster: &str) -> String {
    if cluster.len() <= 9 { format!("kayak-{cluster}") } else { format!("kayak-{}", tag(cluster)) }
}

/// The machine's end of the node's link.
pub(crate) fn link(node: &NodeId) -> String {
    format!("kayak{}", tag(&format!("{}/{}", node.cluster, node.name)))
}

/// A link-layer address that stays: a peer would talk to the old one of a restarted node, and all
/// nodes to the old one of the bridge, until their neighbour tables forget it.
pub(crate) fn link_address(of: &str) -> String {
    // Locally administered, unicast.
    let mut address = String::from("02");
    address.extend(hash(of)[..5].iter().map(|byte| format!(":{byte:02x}")));
    address
}

/// The metric of the cluster's routes: last choice, and what they are found by afterwards.
pub(crate) fn metric(cluster: &str) -> u32 {
    let [first, second, third, ..] = hash(cluster);
    u32::from_be_bytes([0xf0, first, second, third])
}

/// Returns eight characters that tell one text from others.
pub(crate) fn tag(text: &str) -> String {
    let [first, second, third, fourth, ..] = hash(text);
    format!("{:08x}", u32::from_be_bytes([first, second, third, fourth]))
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_the_kernel_and_stay() {
        assert_eq!(bridge("home"), "kayak-home");
        assert_eq!(bridge("a-rather-long-name"), "kayak-87d02c79");
        let node = NodeId::new("a-rather-long-name", "controller-1");
        assert!(link(&node).len() <= 15);
        assert_ne!(link(&node), link(&NodeId::new("home", "controller-1")));
        assert_eq!(link_address("x").len(), 17);
        assert!(metric("home") >= 0xf000_0000);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let long = "a".repeat(64);
        for name in ["", ".", "..", "a/b", "A", "-a", "a-", "a.b", "a\0", "ä", &long] {
            assert!(!valid_name(name), "{name}");
            assert!(check_node(&NodeId::new("c", name)).is_err());
            assert!(check_node(&NodeId::new(name, "n")).is_err());
        }
        for name in ["a", "7", "worker-1", &long[1..]] {
            assert!(valid_name(name), "{name}");
        }
    }

    #[test]
    fn a_persistent_directory_has_a_place_of_its_own() {
        let paths = Paths { state: "/s".into(), run: "/r".into(), cache: "/c".into() };
        let node = NodeId::new("c", "n");
        assert_eq!(paths.persistent(&node, "/var".into()), "/s/c/nodes/n/var");
        assert_eq!(paths.persistent(&node, "/etc/kubernetes".into()), "/s/c/nodes/n/etc-kubernetes");
    }
}
