//! Who listens in a node's network, and for whom: what `kayak sockets` tells.

mod table;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use self::table::{TABLES, Table, Waiting};

/// A socket that waits for anybody: a listening one of TCP, or one of UDP that is not connected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SocketRow {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Where it waits; `[::]` may stand for every IPv4 address, too.
    pub address: SocketAddr,
    /// Those of the node's processes that hold it. None: it is the kernel's (VXLAN), or, where the node
    /// shares the machine's network, belongs to a process of the machine.
    pub processes: Vec<SocketProcess>,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SocketProcess {
    /// Its id in the node.
    pub pid: u32,
    /// The program's name.
    pub program: String,
    /// What it belongs to.
    pub owner: Owner,
}

/// What a process of a node belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The agent or one of the units it supervises.
    Unit(String),
    /// A container of a pod.
    Container {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
        /// The container's name in the pod.
        container: String,
    },
    /// Neither, or the runtime does not say: the path of its control group.
    Cgroup(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(name) => f.write_str(name),
            Self::Container { namespace, pod, container } => write!(f, "{namespace}/{pod}/{container}"),
            Self::Cgroup(path) => write!(f, "control group {path}"),
        }
    }
}
