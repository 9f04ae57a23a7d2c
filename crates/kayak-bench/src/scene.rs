//! Where measurements take place: directories, addresses, and whose turn it is.

use std::fs::{self, File};
use std::net::Ipv4Addr;

use camino::{Utf8Path, Utf8PathBuf};
use ipnet::Ipv4Net;
use kayak_engine::dirs::Dirs;
use rustix::fs::FlockOperation;

use crate::error::BenchError;

/// The node's own directory for what measuring needs, below `/var` on its disk.
pub const NODE_DIR: &str = "/var/lib/kayak-bench";
/// The machine's end of the nodes' network.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 252, 71, 1);
/// The first node's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 252, 71, 2);
/// The nodes' range.
pub const NODES: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 252, 71, 0), 24);
/// The pods' range.
pub const PODS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 211, 0, 0), 16);
/// The services' range.
pub const SERVICES: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 151, 0, 0), 16);
/// Where both tools put cluster DNS.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 151, 0, 10);

/// Where things are, and what is measured.
#[derive(Debug, clap::Args)]
pub struct SceneArgs {
    /// The kayak that is measured
    #[arg(long, value_name = "FILE")]
    kayak: Utf8PathBuf,

    /// Where logs are kept
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    logs: Utf8PathBuf,

    /// A file to lock while a cluster runs, where others measure on the same machine
    #[arg(long, value_name = "FILE")]
    lock: Option<Utf8PathBuf>,
}

/// The same, made sure of.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The kayak that is measured.
    pub kayak: Utf8PathBuf,
    /// The program that this process runs.
    pub own: Utf8PathBuf,
    /// Where logs are kept.
    pub logs: Utf8PathBuf,
    /// Where clusters are kept.
    pub state: Utf8PathBuf,
    /// Bundle, builds and prepared images.
    pub cache: Utf8PathBuf,
    lock: Option<Utf8PathBuf>,
}

impl Scene {
    /// Prepares the directories.
    pub fn set(args: &SceneArgs) -> Result<Self, BenchError> {
        let whole = |path: &Utf8Path| path.canonicalize_utf8().map_err(BenchError::read(path));
        fs::create_dir_all(&args.logs).map_err(BenchError::write(&args.logs))?;
        let logs = whole(&args.logs)?;
        let own = std::env::current_exe().map_err(BenchError::Own)?;
        Ok(Self {
            kayak: whole(&args.kayak)?,
            own: Utf8PathBuf::from_path_buf(own).map_err(BenchError::NotText)?,
            state: logs.join("state"),
            logs,
            cache: Dirs::from_env().cache,
            lock: args.lock.clone(),
        })
    }

    /// Makes an empty directory for the logs of one run.
    pub fn run_logs(&self, name: &str) -> Result<Utf8PathBuf, BenchError> {
        let directory = self.logs.join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory).map_err(BenchError::write(&directory))?;
        }
        fs::create_dir_all(&directory).map_err(BenchError::write(&directory))?;
        Ok(directory)
    }

    /// Waits for this machine's turn, which ends when the file is closed.
    pub fn turn(&self) -> Result<Option<File>, BenchError> {
        let Some(path) = &self.lock else { return Ok(None) };
        let failed = |source| BenchError::Lock { path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        Ok(Some(file))
    }

    /// Where this machine has one of a node's persistent directories (see the local driver's paths).
    pub fn node_dir(&self, cluster: &str, node: &str, directory: &str) -> Utf8PathBuf {
        self.state.join(cluster).join("nodes").join(node).join(directory)
    }
}
