//! The life of a cluster and its nodes on this machine.
//!
//! Every act first looks at what is there, or clears away what a run that was cut off may have
//! left, so that all of them may be repeated.

use std::fs::OpenOptions;
use std::net::IpAddr;
use std::time::Duration;

use camino::Utf8PathBuf;
use ipnet::IpNet;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::cgroup::{Hierarchies, Process};
use super::container::{Overlay, Runc};
use super::error::LocalError;
use super::network::{self, Tools};
use super::settings::Settings;
use super::{Local, Paths, disk, image, oci, paths};
use crate::driver::{ClusterNetwork, ClusterSpec, NodeId, NodeNetwork, NodeSpec, NodeState, PERSISTENT};

/// How long a node may take to stop by itself: a little more than its init gives its own processes.
const STOP: Duration = Duration::from_secs(15);

/// What is remembered of a cluster.
#[derive(Debug, Serialize, Deserialize)]
struct ClusterRecord {
    spec: ClusterSpec,
    /// The unpacked image whose programs the driver uses.
    root: String,
}

/// What is remembered of a node.
#[derive(Debug, Serialize, Deserialize)]
struct NodeRecord {
    spec: NodeSpec,
    /// The unpacked image that it runs on.
    root: String,
}

impl Local {
    pub(super) async fn prepare_cluster(&self, spec: &ClusterSpec) -> Result<(), LocalError> {
        paths::check_name(&spec.name)?;
        let _shared = self.shared.lock().await;
        disk::create_directory(&self.paths.cluster(&spec.name), 0o700)?;
        let before: Option<ClusterRecord> = image::recorded(&self.paths.cluster_record(&spec.name))?;
        let before = before.filter(|before| before.spec.image == spec.image).map(|before| before.root);
        let root = self.provide(&spec.name, &spec.image, before).await?;
        let record = ClusterRecord { spec: spec.clone(), root };
        image::record(&self.paths.cluster_record(&spec.name), &record)?;
        self.connect(&record).await
    }

    async fn connect(&self, cluster: &ClusterRecord) -> Result<(), LocalError> {
        let tools = Tools { root: self.paths.roots(&cluster.spec.name).join(&cluster.root) };
        tools.connect_cluster(&cluster.spec).await?;
        Settings::of_kubelet(&self.paths.run).need(&cluster.spec.name)?;
        Settings::watches(&self.paths.run).need(&cluster.spec.name)?;
        // On the machine's own network it is the machine that passes packets on to pods.
        let forwards = cluster.spec.egress || matches!(cluster.spec.network, ClusterNetwork::Host(_));
        let has = |family: fn(&IpAddr) -> bool| {
            forwards && cluster.spec.pod_ranges.iter().any(|range| family(&range.addr()))
        };
        let four = (Settings::forwarding(&self.paths.run), has(IpAddr::is_ipv4));
        let six = (Settings::forwarding_six(&self.paths.run)?, has(IpAddr::is_ipv6));
        [four, six].into_iter().try_for_each(|(forwarding, needed)| {
            let name = &cluster.spec.name;
            if needed { forwarding.need(name) } else { forwarding.release(name) }
        })
    }

    /// Whether the rules are there, and made for this specification.
    pub(super) fn is_cluster_guarded(&self, cluster: &ClusterSpec) -> Result<bool, LocalError> {
        paths::check_name(&cluster.name)?;
        let record: Option<ClusterRecord> = image::readable(&self.paths.cluster_record(&cluster.name))?;
        // Else it was never made, or made for another form of the cluster.
        Ok(record.is_some_and(|record| record.spec == *cluster) && network::has_rules(&cluster.name)?)
    }

    pub(super) async fn release_cluster(&self, cluster: &str) -> Result<(), LocalError> {
        paths::check_name(cluster)?;
        let groups = Hierarchies::find()?;
        let on_host = pods_on_host(&self.paths, cluster)?;
        groups.kill(&paths::cluster_cgroup(cluster)).await?;
        // Only now: while anything listens, others are kept from it.
        match self.tools(cluster)? {
            Some(tools) => {
                // Also where no node is left that would have cleared it.
                if let Some(pod_ranges) = on_host {
                    tools.clear_host(cluster, &pod_ranges).await?;
                }
                tools.disconnect_cluster(cluster).await?;
            }
            None if on_host.is_some() || network::is_link(&paths::bridge(cluster))? => {
                return Err(self.no_tools());
            }
            None => {}
        }
        groups.remove(&paths::cluster_cgroup(cluster)).await?;
        groups.remove_if_empty(paths::CGROUP)?;
        Settings::forwarding(&self.paths.run).release(cluster)?;
        Settings::forwarding_six(&self.paths.run)?.release(cluster)?;
        Settings::of_kubelet(&self.paths.run).release(cluster)?;
        Settings::watches(&self.paths.run).release(cluster)?;
        let directory = self.paths.cluster_run(cluster);
        disk::unmount_below(&directory)?;
        disk::remove(&directory)?;
        disk::remove_if_empty(&self.paths.run)
    }

    pub(super) async fn teardown_cluster(&self, cluster: &str) -> Result<(), LocalError> {
        self.release_cluster(cluster).await?;
        let directory = self.paths.cluster(cluster);
        disk::unmount_below(&directory)?;
        disk::remove(&directory)?;
        disk::remove_if_empty(&self.paths.state)
    }

    /// Lists a cluster's nodes by their directories, containers and control groups.
    pub(super) fn traces(&self, cluster: &str) -> Result<Vec<String>, LocalError> {
        paths::check_name(cluster)?;
        let mut names = disk::names(&self.paths.nodes(cluster))?;
        names.extend(disk::names(&self.paths.runc(cluster))?);
        names.extend(disk::names(&self.paths.nodes_run(cluster))?);
        names.extend(Hierarchies::find()?.children(&paths::cluster_cgroup(cluster))?);
        names.retain(|name| paths::valid_name(name));
        names.sort();
        names.dedup();
        Ok(names)
    }

    pub(super) async fn create_node(&self, spec: &NodeSpec) -> Result<(), LocalError> {
        paths::check_node(&spec.id)?;
        let _shared = self.shared.lock().await;
        let before: Option<NodeRecord> = image::recorded(&self.paths.node_record(&spec.id))?;
        let before = before.filter(|before| before.spec.image == spec.image).map(|before| before.root);
        let root = self.provide(&spec.id.cluster, &spec.image, before).await?;
        for directory in PERSISTENT {
            disk::create_directory(&self.paths.persistent(&spec.id, directory.as_ref()), 0o755)?;
        }
        image::record(&self.paths.node_record(&spec.id), &NodeRecord { spec: spec.clone(), root })
    }

    /// Makes sure that a cluster has an image unpacked.
    async fn provide(
        &self,
        cluster: &str,
        image: &str,
        before: Option<String>,
    ) -> Result<String, LocalError> {
        let (paths, cluster, image) = (self.paths.clone(), cluster.to_owned(), image.to_owned());
        let provided = tokio::task::spawn_blocking(move || image::provide(&paths, &cluster, &image, before));
        provided.await.map_err(LocalError::Task)?
    }

    pub(super) async fn start_node(&self, node: &NodeId) -> Result<(), LocalError> {
        paths::check_node(node)?;
        if matches!(self.node_state(node).await?, NodeState::Running { .. }) {
            return Ok(());
        }
        self.clear(node).await?;
        let cluster: ClusterRecord = image::recorded(&self.paths.cluster_record(&node.cluster))?
            .ok_or_else(|| LocalError::NotPrepared(node.cluster.clone()))?;
        let record: NodeRecord = image::recorded(&self.paths.node_record(node))?
            .ok_or_else(|| LocalError::NotCreated(node.name.clone()))?;
        {
            // After a restart of the machine nothing is left of the network.
            let _shared = self.shared.lock().await;
            self.connect(&cluster).await?;
        }
        let launched = self.launch(&record).await;
        if launched.is_err() {
            self.clear(node).await?;
        }
        launched
    }

    async fn launch(&self, record: &NodeRecord) -> Result<(), LocalError> {
        let spec = &record.spec;
        let node = &spec.id;
        let image = self.paths.roots(&node.cluster).join(&record.root);
        let overlay = Overlay::new(image, self.paths.node(node).join("root"));
        overlay.reset()?;
        let programs = overlay.upper().join("usr/bin");
        disk::create_directory(&programs, 0o755)?;
        let program = programs.join("kayak");
        // No link: root in the node could write to what root runs on the machine.
        std::fs::copy(&self.kayak, &program).map_err(LocalError::write(&program))?;

        let path = self.paths.console(node);
        let console = OpenOptions::new().create(true).append(true).open(&path);
        let runc = self.runc(&node.cluster)?;
        let config = self.config(spec, &overlay)?;
        let bundle = self.paths.node_run(node);
        let pid = runc
            .create(&node.name, &bundle, &overlay, &config, console.map_err(LocalError::write(&path))?)
            .await?;
        let tools = self.tools(&node.cluster)?.ok_or_else(|| self.no_tools())?;
        tools.connect_node(spec, pid).await?;
        Ok(runc.start(&node.name).await?)
    }

    fn config(&self, spec: &NodeSpec, overlay: &Overlay) -> Result<serde_json::Value, LocalError> {
        let persistent = PERSISTENT.map(|path| {
            (self.paths.persistent(&spec.id, path.as_ref()).into_string(), path.to_owned(), true)
        });
        let extra = spec.mounts.iter();
        let extra = extra.map(|mount| (mount.host.to_string(), mount.node.to_string(), mount.writable));
        let container = oci::Container {
            root: &overlay.root(),
            host_name: &spec.id.name,
            command: &spec.command,
            cgroup: &paths::cgroup(&spec.id),
            own_network: matches!(spec.network, NodeNetwork::Bridge { .. }),
            memory_limit: spec.memory_limit,
            binds: persistent.into_iter().chain(extra).collect(),
        };
        Ok(oci::config(&container, &oci::Host::look()?))
    }

    pub(super) fn node_spec(&self, node: &NodeId) -> Result<Option<NodeSpec>, LocalError> {
        paths::check_node(node)?;
        let record: Option<NodeRecord> = image::recorded(&self.paths.node_record(node))?;
        Ok(record.map(|record| record.spec))
    }

    pub(super) async fn node_state(&self, node: &NodeId) -> Result<NodeState, LocalError> {
        paths::check_node(node)?;
        let runc = self.runc(&node.cluster)?;
        if let Some(pid) = runc.running(&node.name).await? {
            return Ok(NodeState::Running { pid: Some(pid) });
        }
        let is_there = self.traces(&node.cluster)?.contains(&node.name);
        Ok(if is_there { NodeState::Stopped } else { NodeState::Absent })
    }

    pub(super) async fn stop_node(&self, node: &NodeId) -> Result<(), LocalError> {
        paths::check_node(node)?;
        // runc may be the very thing that is broken, and what follows does not need it.
        let running = self.runc(&node.cluster)?.running(&node.name).await;
        let running = running.unwrap_or_else(|error| {
            tracing::warn!(node = node.name, %error, "its first process is not known; it is killed");
            None
        });
        if let Some(pid) = running
            && let Some(process) = Process::open(pid)?
        {
            process.signal(Signal::TERM)?;
            if !process.gone_by(Instant::now() + STOP).await? {
                tracing::warn!(node = node.name, "it did not stop in time and is killed");
            }
        }
        self.clear(node).await
    }

    pub(super) async fn remove_node(&self, node: &NodeId) -> Result<(), LocalError> {
        self.stop_node(node).await?;
        let directory = self.paths.node(node);
        disk::unmount_below(&directory)?;
        disk::remove(&directory)
    }

    /// Ends whatever runs of a node and removes everything that is not persistent.
    async fn clear(&self, node: &NodeId) -> Result<(), LocalError> {
        let groups = Hierarchies::find()?;
        let group = paths::cgroup(node);
        let on_host = pods_on_host(&self.paths, &node.cluster)?;
        groups.kill(&group).await?;
        groups.remove(&group).await?;
        let link = paths::link(node);
        if on_host.is_some() || network::is_link(&link)? {
            let tools = self.tools(&node.cluster)?.ok_or_else(|| self.no_tools())?;
            tools.unlink(&link).await?;
            if let Some(pod_ranges) = on_host {
                tools.clear_host(&node.cluster, &pod_ranges).await?;
            }
        }
        self.runc(&node.cluster)?.forget(&node.name)?;
        disk::remove(&self.paths.node_run(node))
    }

    /// Returns the runc of the cluster, or a name that will not start if nothing is unpacked.
    pub(super) fn runc(&self, cluster: &str) -> Result<Runc, LocalError> {
        let root = self.tools(cluster)?.map_or_else(|| self.paths.roots(cluster), |tools| tools.root);
        Ok(Runc::of_image(&root, self.paths.runc(cluster)))
    }

    /// Finds an unpacked node image: the cluster's, or any other if what is left of the cluster
    /// lacks it.
    fn tools(&self, cluster: &str) -> Result<Option<Tools>, LocalError> {
        let record: Option<ClusterRecord> = image::readable(&self.paths.cluster_record(cluster))?;
        let own = record.map(|record| self.paths.roots(cluster).join(record.root));
        let unpacked = paths::unpacked(&self.paths.cache);
        let cached = disk::names(&unpacked)?.into_iter().map(|name| unpacked.join(name));
        let candidates: Vec<Utf8PathBuf> = own.into_iter().chain(cached).collect();
        let whole =
            |root: &Utf8PathBuf| root.extension().is_none() && root.join("usr/local/bin/runc").exists();
        Ok(candidates.into_iter().find(whole).map(|root| Tools { root }))
    }

    fn no_tools(&self) -> LocalError {
        LocalError::NoTools(paths::unpacked(&self.paths.cache))
    }
}

/// Returns the ranges of a cluster's pods while it is on the machine's own network. Tables and links there
/// have the same names whoever made them: where this cluster has neither rules nor a node that runs, it is
/// not connected, and what is there is somebody else's. If what was written down is lost, so are the ranges;
/// pods' links go with the pods then.
pub(crate) fn pods_on_host(paths: &Paths, cluster: &str) -> Result<Option<Vec<IpNet>>, LocalError> {
    let has_rules = network::has_rules(cluster)?;
    let record: Option<ClusterRecord> = image::readable(&paths.cluster_record(cluster))?;
    let Some(ClusterRecord { spec, .. }) = record else {
        let on_host = has_rules && !network::is_link(&paths::bridge(cluster))?;
        return Ok(on_host.then(Vec::new));
    };
    let on_host = matches!(spec.network, ClusterNetwork::Host(_));
    let connected = has_rules || !Hierarchies::find()?.children(&paths::cluster_cgroup(cluster))?.is_empty();
    Ok((on_host && connected).then_some(spec.pod_ranges))
}
