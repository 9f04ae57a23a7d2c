//! Every socket of the node's network that waits for anybody, and whose it is.

mod process;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kayak_core::chain::chain;
use kayak_core::node::{CRI_SOCKET, UNITS_DIR};
use kayak_core::sockets::{Owner, SocketProcess, SocketRow, TABLES, Waiting};
use kayak_cri::v1::{Container, ListContainersRequest};
use kayak_cri::{CONTAINER_NAME, ConnectError, POD_NAME, POD_NAMESPACE};
use tokio::time::timeout;

use crate::supervise;
use process::Processes;

const RUNTIME_PATIENCE: Duration = Duration::from_secs(3);

/// Why sockets cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The kernel's list cannot be read.
    #[error("failed to read `{}`", path.display())]
    Table {
        /// The list.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The list is not what it should be.
    #[error("failed to understand the line `{line}` of `{}`", path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// The line.
        line: String,
    },
    /// The node's processes cannot be listed.
    #[error("failed to list the processes in /proc")]
    Processes(#[source] io::Error),
    /// A process cannot be looked at.
    #[error("failed to look at the process {pid}")]
    Process {
        /// Which.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not known which processes are the units'.
    #[error("failed to read the notes about units in `{UNITS_DIR}`")]
    Units(#[source] io::Error),
}

/// Why it is not known whose containers there are.
#[derive(Debug, thiserror::Error)]
enum RuntimeError {
    #[error(transparent)]
    Connect(ConnectError),
    #[error("failed to list the runtime's containers")]
    List(#[source] Box<tonic::Status>),
}

/// Lists the sockets in the network of whoever calls it, by address.
pub async fn list() -> Result<Vec<SocketRow>, SocketsError> {
    let waiting = waiting()?;
    let processes = Processes::look()?;
    let units = supervise::noted().map_err(SocketsError::Units)?;
    let containers = containers().await;
    let row = |Waiting { protocol, address, inode }| {
        let holders = processes.holders(inode);
        let processes = holders.map(|process| SocketProcess {
            pid: process.pid,
            program: process.program().to_owned(),
            owner: processes.owner(process, &units, &containers),
        });
        SocketRow { protocol, address, processes: processes.collect() }
    };
    let mut rows: Vec<_> = waiting.into_iter().map(row).collect();
    rows.sort();
    Ok(rows)
}

/// Reads all of the kernel's lists.
fn waiting() -> Result<Vec<Waiting>, SocketsError> {
    let mut sockets = Vec::new();
    for table in TABLES {
        let path = PathBuf::from(table.path);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(SocketsError::Table { path, source }),
        };
        let waiting = table.waiting(&text);
        sockets.extend(waiting.map_err(|line| SocketsError::Line { path, line: line.to_owned() })?);
    }
    Ok(sockets)
}

/// The owners by container id; without the runtime none is known, and the sockets still are.
async fn containers() -> BTreeMap<String, Owner> {
    let ask = async {
        let mut runtime = kayak_cri::connect(CRI_SOCKET).await.map_err(RuntimeError::Connect)?;
        let list = runtime.list_containers(ListContainersRequest::default()).await;
        Ok(list.map_err(|status| RuntimeError::List(Box::new(status)))?.into_inner().containers)
    };
    let containers = match timeout(RUNTIME_PATIENCE, ask).await {
        Ok(Ok(containers)) => containers,
        Ok(Err(error)) => {
            let error: RuntimeError = error;
            tracing::warn!("owners are told by control group: {}", chain(&error));
            Vec::new()
        }
        Err(_) => {
            tracing::warn!("owners are told by control group: the runtime does not answer");
            Vec::new()
        }
    };
    containers.into_iter().map(|container| (container.id.clone(), owner(&container))).collect()
}

fn owner(container: &Container) -> Owner {
    let label = |name| container.labels.get(name).cloned().unwrap_or_default();
    Owner::Container {
        namespace: label(POD_NAMESPACE),
        pod: label(POD_NAME),
        container: label(CONTAINER_NAME),
    }
}
