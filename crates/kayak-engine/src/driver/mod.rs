//! How a node container is made, and reached.
//!
//! A driver does no more than this; whatever can be done by running a program in the node, or by
//! a file in one of its persistent directories, stays out of the trait.

use std::net::IpAddr;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use ipnet::IpNet;
use kayak_core::cluster::HostNetwork;
use kayak_core::node::BINARY;
use kayak_core::plan::ContainerState;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

mod error;
pub mod local;

pub use self::error::{Cause, DriverError};

/// The directories of a node that outlive its container.
pub const PERSISTENT: [&str; 2] = ["/var", "/etc/kubernetes"];

/// Which node of which cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId {
    /// The cluster's name.
    pub cluster: String,
    /// The node's name, also its host name.
    pub name: String,
}

impl NodeId {
    /// Names a node.
    pub fn new(cluster: impl Into<String>, name: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), name: name.into() }
    }
}

/// What all nodes of a cluster share on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// The cluster's name; what the driver makes is named after it, so that clusters coexist.
    pub name: String,
    /// The reference of the node image, which brings the driver's own tools too.
    pub image: String,
    /// Which network its nodes are on.
    pub network: ClusterNetwork,
    /// The ranges of pods.
    pub pod_ranges: Vec<IpNet>,
    /// The ranges of services.
    pub service_ranges: Vec<IpNet>,
    /// An address of the pods' range that each node has for itself: the API's service leads there.
    pub api_address: Option<IpAddr>,
    /// Whether nodes and pods reach anything beyond the cluster.
    pub egress: bool,
}

/// Which network a cluster's nodes are on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterNetwork {
    /// One of their own, on a bridge.
    Bridge {
        /// The range that they have their addresses from.
        range: IpNet,
        /// The machine's address in it, the nodes' way out.
        gateway: IpAddr,
        /// Range and address of the other family, with two.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        second: Option<(IpNet, IpAddr)>,
    },
    /// The machine's.
    Host(HostNetwork),
}

/// A node container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Which node it is.
    pub id: NodeId,
    /// The reference of the node image.
    pub image: String,
    /// Which network it is on.
    pub network: NodeNetwork,
    /// How many bytes of memory all of it may use.
    pub memory_limit: Option<u64>,
    /// Directories and files of the machine that it sees.
    pub mounts: Vec<Mount>,
    /// Its first process.
    pub command: Vec<String>,
}

/// Which network a node is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeNetwork {
    /// One of its own, linked to the cluster's bridge.
    Bridge {
        /// Its address, with the length of the nodes' range.
        address: IpNet,
        /// Its way out.
        gateway: IpAddr,
        /// Address and way out of the other family, with two.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        second: Option<(IpNet, IpAddr)>,
    },
    /// The machine's.
    Host,
}

impl NodeSpec {
    /// Says in what a node that was made differs from one that is wished.
    pub fn differs_from(&self, wished: &Self) -> Vec<String> {
        let parts = [
            (self.image != wished.image, "its image"),
            (self.network != wished.network, "its network"),
            (self.memory_limit != wished.memory_limit, "its memory limit"),
            (self.mounts != wished.mounts, "its mounts"),
            (self.command != wished.command, "its first process"),
        ];
        parts.into_iter().filter(|(differs, _)| *differs).map(|(_, part)| part.to_owned()).collect()
    }

    /// Returns the command line of a node's first process.
    pub fn init() -> Vec<String> {
        [BINARY, "init"].map(str::to_owned).into()
    }
}

/// A directory or file of the machine that a node sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is on the machine.
    pub host: Utf8PathBuf,
    /// Where the node sees it.
    pub node: Utf8PathBuf,
    /// Whether the node may write to it.
    pub writable: bool,
}

/// What is there of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Nothing.
    Absent,
    /// Its files, or what a killed run left; nothing that runs as it should.
    Stopped,
    /// A container.
    Running {
        /// Its first process as the machine counts, if the driver is on the same one.
        pid: Option<u32>,
    },
}

impl From<NodeState> for ContainerState {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Absent => Self::Absent,
            NodeState::Stopped => Self::Stopped,
            NodeState::Running { .. } => Self::Running,
        }
    }
}

/// A file for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFile {
    /// Its absolute path in the node, below one of [`PERSISTENT`].
    pub path: Utf8PathBuf,
    /// What is to be there.
    pub content: FileContent,
}

/// What a file for a node is.
#[derive(Clone, PartialEq, Eq)]
pub enum FileContent {
    /// A regular file.
    Regular {
        /// Its bytes.
        bytes: Vec<u8>,
        /// Its permissions.
        mode: u32,
    },
    /// A symbolic link to this.
    Link(Utf8PathBuf),
}

// Keys pass through here (invariant 2): bytes are only counted.
impl std::fmt::Debug for FileContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Regular { bytes, mode } => write!(f, "{} bytes, mode {mode:o}", bytes.len()),
            Self::Link(target) => write!(f, "link to {target}"),
        }
    }
}

/// What a program run in a node talks to.
pub enum ExecIo<'a> {
    /// Streams; the program's input ends when `stdin` does.
    Streams {
        /// What it reads.
        stdin: &'a mut (dyn AsyncRead + Send + Unpin),
        /// Where its output goes.
        stdout: &'a mut (dyn AsyncWrite + Send + Unpin),
        /// Where its complaints go.
        stderr: &'a mut (dyn AsyncWrite + Send + Unpin),
    },
    /// The terminal that kayak itself was started on.
    Terminal,
}

/// What a program run in a node said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code, 128 and the signal's number if it was killed.
    pub code: i32,
    /// Its output.
    pub stdout: Vec<u8>,
    /// Its complaints.
    pub stderr: Vec<u8>,
}

/// A way to make node containers. Every act may be repeated, and finishes one that was cut off.
#[async_trait]
pub trait Driver: std::fmt::Debug + Send + Sync {
    /// Makes what a cluster's nodes share: the network.
    async fn prepare(&self, cluster: &ClusterSpec) -> Result<(), DriverError>;

    /// Gives back what a cluster's nodes share, and ends what is left of them; what is on the disk
    /// stays. Starting a node makes all of it again.
    async fn release(&self, cluster: &str) -> Result<(), DriverError>;

    /// Removes every node of a cluster and what they share, whatever state they are in.
    async fn teardown(&self, cluster: &str) -> Result<(), DriverError>;

    /// Tells whether the rules are in force that keep others from a cluster's network.
    async fn is_guarded(&self, cluster: &ClusterSpec) -> Result<bool, DriverError>;

    /// Lists a cluster's nodes by whatever is left of them, sorted.
    async fn nodes(&self, cluster: &str) -> Result<Vec<String>, DriverError>;

    /// Makes a node's persistent directories; a node that is there gets the new specification at
    /// its next start.
    async fn create(&self, node: &NodeSpec) -> Result<(), DriverError>;

    /// Starts a node that was created, from the disk alone; one that runs is left alone.
    async fn start(&self, node: &NodeId) -> Result<(), DriverError>;

    /// Stops a node; its persistent directories stay.
    async fn stop(&self, node: &NodeId) -> Result<(), DriverError>;

    /// Stops a node and removes everything that is left of it.
    async fn remove(&self, node: &NodeId) -> Result<(), DriverError>;

    /// Returns the specification that a node was created with, if it was.
    async fn spec(&self, node: &NodeId) -> Result<Option<NodeSpec>, DriverError>;

    /// Tells what is there of a node.
    async fn state(&self, node: &NodeId) -> Result<NodeState, DriverError>;

    /// Runs a program in a running node and returns its exit code.
    async fn exec(&self, node: &NodeId, command: &[String], io: ExecIo<'_>) -> Result<i32, DriverError>;

    /// Writes files, each at once or not at all, whether the node runs or not.
    async fn put(&self, node: &NodeId, files: &[NodeFile]) -> Result<(), DriverError>;

    /// Reads a file below one of [`PERSISTENT`], `None` if it is not there.
    async fn get(&self, node: &NodeId, path: &Utf8Path) -> Result<Option<Vec<u8>>, DriverError>;

    /// Returns the last lines that the node's first process wrote.
    async fn console(&self, node: &NodeId) -> Result<String, DriverError>;

    /// Returns where this machine has a node's persistent directory, if it does: a prepared store
    /// is linked into it there.
    fn directory(&self, node: &NodeId, persistent: &Utf8Path) -> Option<Utf8PathBuf>;

    /// Runs a program in a running node to its end, without input.
    async fn output(&self, node: &NodeId, command: &[String]) -> Result<ExecOutput, DriverError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let io = ExecIo::Streams { stdin: &mut tokio::io::empty(), stdout: &mut stdout, stderr: &mut stderr };
        let code = self.exec(node, command, io).await?;
        Ok(ExecOutput { code, stdout, stderr })
    }
}
