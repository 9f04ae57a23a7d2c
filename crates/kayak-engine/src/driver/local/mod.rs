//! Nodes on this machine: runc containers, each with a network of its own, on a bridge.
//!
//! Everything of a cluster is below three directories ([`Paths`]), in control groups below `kayak`,
//! and in one bridge, one nftables table and a few routes, all named after the cluster. Nothing is
//! mounted in the machine's mount namespace. Programs come from the node image; of the machine's,
//! only `chroot`, `mount`, `nsenter`, `sh` and `unshare` are used.

pub(crate) mod cgroup;
pub(crate) mod command;
pub(crate) mod container;
pub(crate) mod disk;
mod error;
mod exec;
mod files;
pub(crate) mod image;
pub(crate) mod lifecycle;
pub(crate) mod network;
pub(crate) mod oci;
pub(crate) mod paths;
pub(crate) mod settings;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::Mutex;

use self::cgroup::Hierarchies;
pub use self::command::CommandError;
pub use self::error::LocalError;
pub use self::paths::Paths;
use super::{ClusterSpec, Driver, DriverError, ExecIo, NodeFile, NodeId, NodeSpec, NodeState, PERSISTENT};

/// The driver for this machine.
#[derive(Debug)]
pub struct Local {
    paths: Paths,
    kayak: Utf8PathBuf,
    /// Held while what the nodes of a cluster share is made.
    shared: Mutex<()>,
}

impl Local {
    /// Uses these directories, and this program as every node's `kayak`.
    pub fn new(paths: Paths, kayak: Utf8PathBuf) -> Self {
        Self { paths, kayak, shared: Mutex::new(()) }
    }

    /// Lists the clusters of which anything is left on this machine, sorted.
    pub fn clusters(&self) -> Result<Vec<String>, LocalError> {
        let mut clusters = Hierarchies::find()?.children(paths::CGROUP)?;
        clusters.extend(disk::names(&self.paths.state)?);
        clusters.extend(disk::names(&self.paths.run)?);
        clusters.retain(|name| paths::valid_name(name));
        clusters.sort();
        clusters.dedup();
        Ok(clusters)
    }

    /// Finds the persistent directory that a path of a node is in, where the node has that, and the path within.
    fn persistent<'a>(
        &self,
        node: &NodeId,
        path: &'a Utf8Path,
    ) -> Result<(Utf8PathBuf, &'static Utf8Path, &'a Utf8Path), LocalError> {
        paths::check_node(node)?;
        let found = PERSISTENT.iter().find_map(|root| {
            let rest = path.strip_prefix(root).ok()?;
            Some((self.paths.persistent(node, root.as_ref()), Utf8Path::new(root), rest))
        });
        found.ok_or_else(|| LocalError::NotPersistent(path.to_owned()))
    }

    fn put_file(&self, node: &NodeId, file: &NodeFile) -> Result<(), LocalError> {
        let (directory, within, path) = self.persistent(node, &file.path)?;
        let opened = files::Directory::open(&directory, within).map_err(LocalError::read(&directory))?;
        opened.write(path, &file.content).map_err(LocalError::write(&directory.join(path)))
    }

    fn get_file(&self, node: &NodeId, path: &Utf8Path) -> Result<Option<Vec<u8>>, LocalError> {
        let (directory, within, path) = self.persistent(node, path)?;
        let opened = disk::present(files::Directory::open(&directory, within));
        match opened.map_err(LocalError::read(&directory))? {
            Some(opened) => opened.read(path).map_err(LocalError::read(&directory.join(path))),
            None => Ok(None),
        }
    }
}

#[async_trait]
impl Driver for Local {
    async fn prepare(&self, cluster: &ClusterSpec) -> Result<(), DriverError> {
        self.prepare_cluster(cluster)
            .await
            .map_err(|source| DriverError::Prepare { cluster: cluster.name.clone(), source: source.into() })
    }

    async fn release(&self, cluster: &str) -> Result<(), DriverError> {
        self.release_cluster(cluster)
            .await
            .map_err(|source| DriverError::Release { cluster: cluster.to_owned(), source: source.into() })
    }

    async fn teardown(&self, cluster: &str) -> Result<(), DriverError> {
        for node in self.nodes(cluster).await? {
            self.remove(&NodeId::new(cluster, node)).await?;
        }
        self.teardown_cluster(cluster)
            .await
            .map_err(|source| DriverError::Teardown { cluster: cluster.to_owned(), source: source.into() })
    }

    async fn is_guarded(&self, cluster: &ClusterSpec) -> Result<bool, DriverError> {
        self.is_cluster_guarded(cluster)
            .map_err(|source| DriverError::Guard { cluster: cluster.name.clone(), source: source.into() })
    }

    async fn nodes(&self, cluster: &str) -> Result<Vec<String>, DriverError> {
        self.traces(cluster)
            .map_err(|source| DriverError::List { cluster: cluster.to_owned(), source: source.into() })
    }

    async fn create(&self, node: &NodeSpec) -> Result<(), DriverError> {
        self.create_node(node)
            .await
            .map_err(|source| DriverError::Create { node: node.id.name.clone(), source: source.into() })
    }

    async fn start(&self, node: &NodeId) -> Result<(), DriverError> {
        self.start_node(node)
            .await
            .map_err(|source| DriverError::Start { node: node.name.clone(), source: source.into() })
    }

    async fn stop(&self, node: &NodeId) -> Result<(), DriverError> {
        self.stop_node(node)
            .await
            .map_err(|source| DriverError::Stop { node: node.name.clone(), source: source.into() })
    }

    async fn remove(&self, node: &NodeId) -> Result<(), DriverError> {
        self.remove_node(node)
            .await
            .map_err(|source| DriverError::Remove { node: node.name.clone(), source: source.into() })
    }

    async fn spec(&self, node: &NodeId) -> Result<Option<NodeSpec>, DriverError> {
        self.node_spec(node)
            .map_err(|source| DriverError::State { node: node.name.clone(), source: source.into() })
    }

    async fn state(&self, node: &NodeId) -> Result<NodeState, DriverError> {
        self.node_state(node)
            .await
            .map_err(|source| DriverError::State { node: node.name.clone(), source: source.into() })
    }

    async fn exec(&self, node: &NodeId, command: &[String], io: ExecIo<'_>) -> Result<i32, DriverError> {
        self.exec_in_node(node, command, io).await.map_err(|source| DriverError::Exec {
            node: node.name.clone(),
            command: command.join(" "),
            source: source.into(),
        })
    }

    async fn put(&self, node: &NodeId, files: &[NodeFile]) -> Result<(), DriverError> {
        for file in files {
            self.put_file(node, file).map_err(|source| DriverError::Put {
                node: node.name.clone(),
                path: file.path.clone(),
                source: source.into(),
            })?;
        }
        Ok(())
    }

    async fn get(&self, node: &NodeId, path: &Utf8Path) -> Result<Option<Vec<u8>>, DriverError> {
        self.get_file(node, path).map_err(|source| DriverError::Get {
            node: node.name.clone(),
            path: path.to_owned(),
            source: source.into(),
        })
    }

    async fn console(&self, node: &NodeId) -> Result<String, DriverError> {
        match paths::check_node(node).and_then(|()| disk::read(&self.paths.console(node))) {
            Ok(text) => Ok(command::tail(&text.unwrap_or_default())),
            Err(source) => Err(DriverError::Console { node: node.name.clone(), source: source.into() }),
        }
    }

    fn directory(&self, node: &NodeId, persistent: &Utf8Path) -> Option<Utf8PathBuf> {
        PERSISTENT.iter().any(|known| *known == persistent).then(|| self.paths.persistent(node, persistent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_is_refused_before_anything_happens() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let paths = Paths { state: root.join("state"), run: root.join("run"), cache: root.join("cache") };
        std::fs::create_dir(&paths.state).unwrap();
        let driver = Local::new(paths.clone(), "/bin/true".into());
        for name in ["", ".", "..", "a/b", "A"] {
            assert!(driver.teardown(name).await.is_err(), "{name}");
            assert!(driver.nodes(name).await.is_err(), "{name}");
            for node in [NodeId::new(name, "n"), NodeId::new("c", name)] {
                assert!(driver.start(&node).await.is_err(), "{name}");
                assert!(driver.stop(&node).await.is_err(), "{name}");
                assert!(driver.remove(&node).await.is_err(), "{name}");
                assert!(driver.state(&node).await.is_err(), "{name}");
                assert!(driver.get(&node, "/var/x".into()).await.is_err(), "{name}");
            }
        }
        assert!(paths.state.is_dir());
    }
}
