//! Executes a plan, phase by phase. Decides nothing: every step says exactly what is done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use futures::stream::{self, FuturesUnordered};
use futures::{StreamExt as _, TryStreamExt as _};
use kayak_core::assets::{AssetsError, Content, is_secret};
use kayak_core::chain::chain;
use kayak_core::cluster::Node;
use kayak_core::component::apiserver;
use kayak_core::component::etcd::BOOTSTRAP_FILE;
use kayak_core::form::{TEMPORARY, TEMPORARY_SECRETS};
use kayak_core::host::MANIFEST_DIR;
use kayak_core::node::BINARY;
use kayak_core::object::ObjectId;
use kayak_core::plan::{Check, Phase, PhaseId, Step, temporary_mirrors};

use crate::api::{self, ApiError, Manner};
use crate::asset_dir::{self, AssetDirError};
use crate::check::{self, GateError};
use crate::cluster::ClusterHandle;
use crate::drain::{self, DrainError};
use crate::driver::{DriverError, FileContent, NodeFile};
use crate::event::{Event, Listener};
use crate::store::{self, Cloned, StoreError};

/// How many nodes are made or started together: each takes the disk and a processor for a moment.
const NODES_AT_ONCE: usize = 4;

/// Why a plan could not be executed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// A node would not.
    #[error(transparent)]
    Node(#[from] DriverError),
    /// The API would not.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A node's pods would not go.
    #[error(transparent)]
    Drain(#[from] DrainError),
    /// A gate did not open.
    #[error(transparent)]
    Gate(#[from] Box<GateError>),
    /// The asset directory would not.
    #[error(transparent)]
    AssetDir(#[from] AssetDirError),
    /// Images could not be given to a node.
    #[error("failed to give node `{node}` its images")]
    Images {
        /// Which node.
        node: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The manifests cannot be read.
    #[error("the manifests could not be read")]
    Assets(#[source] AssetsError),
    /// A command in a node failed.
    #[error("`{command}` failed on node `{node}`: {stderr}")]
    Command {
        /// Which node.
        node: String,
        /// What was run.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// Nobody is left to be asked.
    #[error("etcd's member on `{0}` cannot be taken out: no controller stays that could be asked to")]
    NobodyStays(String),
    /// The plan names something that the assets do not have.
    #[error("the plan names `{0}`, which is not among the assets")]
    NotAnAsset(String),
}

/// Executes plans on one cluster.
pub struct Executor<'a> {
    /// The cluster.
    pub cluster: &'a ClusterHandle,
    /// The prepared images that new nodes are given, if they do not bring their own.
    pub store: Option<&'a store::Store>,
    /// Where the cluster's assets are kept on this machine.
    pub assets: &'a Utf8Path,
    /// Who is told.
    pub tell: Listener<'a>,
    /// How long a gate is waited for.
    pub patience: Duration,
}

impl Executor<'_> {
    /// Executes one phase: its steps in order, then its gate, all of whose conditions are waited
    /// for at once.
    pub async fn phase(&self, phase: &Phase) -> Result<(), ExecuteError> {
        let start = Instant::now();
        (self.tell)(Event::PhaseStarted { phase: phase.id });
        for steps in phase.steps.chunk_by(|one, next| one.node().is_some() && next.node().is_some()) {
            self.together(steps).await?;
        }
        let waits: FuturesUnordered<_> = phase
            .gate
            .iter()
            .map(|check| check::wait(self.cluster, check, self.patience, self.tell))
            .collect();
        waits.try_collect::<()>().await?;
        self.done(phase.id, start);
        Ok(())
    }

    /// Executes steps: those of one node in their order, and the nodes beside each other.
    async fn together(&self, steps: &[Step]) -> Result<(), ExecuteError> {
        let mut lanes: BTreeMap<Option<&str>, Vec<&Step>> = BTreeMap::new();
        for step in steps {
            lanes.entry(step.node()).or_default().push(step);
        }
        let lanes = lanes.into_values().map(|steps| async move {
            for step in steps {
                let (start, step_text) = (Instant::now(), step.to_string());
                (self.tell)(Event::StepStarted { step: step_text.clone() });
                self.step(step).await?;
                (self.tell)(Event::StepDone { step: step_text, seconds: start.elapsed().as_secs_f64() });
            }
            Ok(())
        });
        stream::iter(lanes).buffer_unordered(NODES_AT_ONCE).try_collect().await
    }

    fn done(&self, phase: PhaseId, start: Instant) {
        (self.tell)(Event::PhaseDone { phase, seconds: start.elapsed().as_secs_f64() });
    }

    async fn step(&self, step: &Step) -> Result<(), ExecuteError> {
        let driver = &self.cluster.driver;
        match step {
            Step::WriteAssets { .. } => asset_dir::write(self.assets, &self.cluster.assets)?,
            Step::PrepareNetwork => driver.prepare(&self.cluster.cluster_spec()).await?,
            Step::CreateNode(name) => self.create(self.node(name)?).await?,
            Step::Bootstrap(name) => {
                let content = FileContent::Regular { bytes: Vec::new(), mode: 0o644 };
                let file = NodeFile { path: BOOTSTRAP_FILE.into(), content };
                driver.put(&self.cluster.node_id(name), &[file]).await?;
            }
            Step::WriteFiles { node, paths } => self.write_files(node, paths).await?,
            Step::StopNode(name) => driver.stop(&self.cluster.node_id(name)).await?,
            Step::StartNode(name) => driver.start(&self.cluster.node_id(name)).await?,
            Step::PlaceTemporary(node) => self.place_temporary(node).await?,
            Step::Apply(ids) => self.apply(ids, Manner::GiveWay).await?,
            Step::Revert(ids) => self.apply(ids, Manner::Insist).await?,
            Step::Delete(ids) => api::delete(self.cluster.client(), ids).await?,
            Step::HandOver(node) => self.hand_over(node).await?,
            Step::RemoveTemporary(node) => self.remove_temporary(node).await?,
            Step::Drain(node) => {
                drain::drain(self.cluster, node, self.patience, self.tell).await?;
            }
            Step::RemoveMember(node) => self.remove_member(node).await?,
            Step::RemoveNode(node) => driver.remove(&self.cluster.node_id(node)).await?,
        }
        Ok(())
    }

    fn node(&self, name: &str) -> Result<&Node, ExecuteError> {
        let mut nodes = self.cluster.assets.cluster.nodes.iter();
        nodes.find(|node| node.name == name).ok_or_else(|| ExecuteError::NotAnAsset(name.into()))
    }

    async fn create(&self, node: &Node) -> Result<(), ExecuteError> {
        let spec = self.cluster.node_spec(node);
        self.cluster.driver.create(&spec).await?;
        let var = self.cluster.driver.directory(&spec.id, "/var".into());
        if let Some((store, var)) = self.store.zip(var) {
            let fail = |source| ExecuteError::Images { node: node.name.clone(), source };
            match store::clone_into(store, &var).await.map_err(fail)? {
                Cloned::Made | Cloned::Same => {}
                Cloned::Different => tracing::warn!("`{}` keeps the images of an earlier bundle", node.name),
            }
        }
        Ok(())
    }

    async fn write_files(&self, node: &str, paths: &[String]) -> Result<(), ExecuteError> {
        let assets = self.cluster.assets.node_files(node);
        let files: Result<Vec<_>, _> = paths
            .iter()
            .map(|path| match assets.get(path) {
                Some(content) => Ok(node_file(path, content)),
                None => Err(ExecuteError::NotAnAsset(path.clone())),
            })
            .collect();
        Ok(self.cluster.driver.put(&self.cluster.node_id(node), &files?).await?)
    }

    async fn place_temporary(&self, node: &str) -> Result<(), ExecuteError> {
        let files: Vec<_> = self
            .cluster
            .assets
            .temporary_files()
            .iter()
            .map(|(path, content)| node_file(path, content))
            .collect();
        Ok(self.cluster.driver.put(&self.cluster.node_id(node), &files).await?)
    }

    async fn apply(&self, ids: &[ObjectId], manner: Manner) -> Result<(), ExecuteError> {
        let objects = self.cluster.assets.objects().map_err(ExecuteError::Assets)?;
        let wanted: Vec<_> = objects.iter().filter(|object| ids.contains(&object.id())).collect();
        for (object, edits) in api::apply(self.cluster.client(), &wanted, manner).await? {
            (self.tell)(Event::LeftAlone { object, edits });
        }
        Ok(())
    }

    async fn hand_over(&self, node: &str) -> Result<(), ExecuteError> {
        let api_server = format!("{MANIFEST_DIR}/{TEMPORARY}{}.yaml", apiserver::NAME);
        self.remove_manifests(node, |path| path != api_server).await
    }

    /// Takes manifests of the temporary control plane away.
    async fn remove_manifests(&self, node: &str, which: impl Fn(&str) -> bool) -> Result<(), ExecuteError> {
        let assets = self.cluster.assets.temporary_files();
        let paths = assets.into_iter().map(|(path, _)| path);
        let manifests = paths.filter(|path| path.starts_with(MANIFEST_DIR) && which(path));
        let remove: Vec<_> = ["rm".to_owned(), "-f".into()].into_iter().chain(manifests).collect();
        self.run(node, &remove).await
    }

    /// Manifests first, and secrets only once nothing runs that might read them again.
    async fn remove_temporary(&self, node: &str) -> Result<(), ExecuteError> {
        self.remove_manifests(node, |_| true).await?;
        check::wait(self.cluster, &Check::TemporaryGone(node.into()), self.patience, self.tell).await?;
        // What the API shows of them: the kubelet would take it back some seconds later.
        let mirrors: Vec<_> = temporary_mirrors(node).collect();
        api::delete(self.cluster.client(), &mirrors).await?;
        self.run(node, &["rm".to_owned(), "-rf".into(), TEMPORARY_SECRETS.into()]).await
    }

    /// Asks the controllers that stay, until one of them has taken another one's member out: any may be down,
    /// and etcd refuses if a majority would be lost by it.
    async fn remove_member(&self, node: &str) -> Result<(), ExecuteError> {
        let mut refused = ExecuteError::NobodyStays(node.into());
        for stays in self.cluster.assets.cluster.controllers() {
            match self.run(&stays.name, &[BINARY, "etcd-remove", node].map(str::to_owned)).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::info!(
                        "`{}` did not take out etcd's member on `{node}`: {}",
                        stays.name,
                        chain(&error)
                    );
                    refused = error;
                }
            }
        }
        Err(refused)
    }

    async fn run(&self, node: &str, command: &[String]) -> Result<(), ExecuteError> {
        let output = self.cluster.driver.output(&self.cluster.node_id(node), command).await?;
        if output.code == 0 {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(ExecuteError::Command { node: node.into(), command: command.join(" "), stderr })
    }
}

fn node_file(path: &str, content: &Content) -> NodeFile {
    let content = match content {
        Content::File(bytes) => {
            FileContent::Regular { bytes: bytes.clone(), mode: if is_secret(path) { 0o600 } else { 0o644 } }
        }
        Content::Link(target) => FileContent::Link(Utf8PathBuf::from(target)),
    };
    NodeFile { path: Utf8PathBuf::from(path), content }
}
