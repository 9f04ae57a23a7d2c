//! A driver whose machine is simulated.

use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::node::BINARY;
use kayak_engine::driver::{
    ClusterSpec, Driver, DriverError, ExecIo, NodeFile, NodeId, NodeSpec, NodeState, PERSISTENT,
};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::sim::Sim;
use crate::world::{Node, Running, World};

/// Makes the node of a simulated machine.
#[derive(Debug)]
pub(crate) struct SimDriver(pub(crate) Arc<Sim>);

/// What a program says whose node was stopped below it: 128 and SIGKILL.
const KILLED: i32 = 137;

#[async_trait]
impl Driver for SimDriver {
    async fn prepare(&self, _: &ClusterSpec) -> Result<(), DriverError> {
        self.0.effect("prepare the network").await;
        self.0.change(|world| world.network = true);
        Ok(())
    }

    async fn release(&self, _: &str) -> Result<(), DriverError> {
        self.0.effect("release").await;
        self.0.change(World::lose_power);
        Ok(())
    }

    async fn teardown(&self, _: &str) -> Result<(), DriverError> {
        self.0.effect("tear down").await;
        self.0.change(|world| *world = World::default());
        Ok(())
    }

    async fn is_guarded(&self, _: &ClusterSpec) -> Result<bool, DriverError> {
        Ok(self.0.world().network)
    }

    async fn nodes(&self, _: &str) -> Result<Vec<String>, DriverError> {
        Ok(self.0.world().node.iter().map(|node| node.spec.id.name.clone()).collect())
    }

    async fn create(&self, spec: &NodeSpec) -> Result<(), DriverError> {
        self.0.effect("create the node").await;
        self.0.change(|world| match &mut world.node {
            Some(node) => node.spec = spec.clone(),
            None => world.node = Some(Node::new(spec.clone())),
        });
        Ok(())
    }

    async fn start(&self, id: &NodeId) -> Result<(), DriverError> {
        self.0.effect("start the node").await;
        let fail = |why: &str| DriverError::Start { node: id.name.clone(), source: why.into() };
        self.0.change(|world| {
            let network = world.network;
            let node = world.node.as_mut().ok_or_else(|| fail("it was never created"))?;
            if !network {
                return Err(fail("there is no bridge"));
            }
            let running =
                Running { spec: node.spec.clone(), age: 0, units_ready: false, processes: [].into() };
            node.running.get_or_insert(running);
            Ok(())
        })
    }

    async fn stop(&self, _: &NodeId) -> Result<(), DriverError> {
        self.0.effect("stop the node").await;
        self.0.change(World::stop);
        Ok(())
    }

    async fn remove(&self, _: &NodeId) -> Result<(), DriverError> {
        self.0.effect("remove the node").await;
        self.0.change(|world| world.node = None);
        Ok(())
    }

    async fn spec(&self, _: &NodeId) -> Result<Option<NodeSpec>, DriverError> {
        Ok(self.0.world().node.as_ref().map(|node| node.spec.clone()))
    }

    async fn state(&self, _: &NodeId) -> Result<NodeState, DriverError> {
        Ok(match &self.0.world().node {
            None => NodeState::Absent,
            Some(Node { running: None, .. }) => NodeState::Stopped,
            Some(_) => NodeState::Running { pid: None },
        })
    }

    async fn exec(&self, id: &NodeId, command: &[String], io: ExecIo<'_>) -> Result<i32, DriverError> {
        let fail = |source| DriverError::Exec { node: id.name.clone(), command: command.join(" "), source };
        if !self.runs() {
            return Err(fail("it does not run".into()));
        }
        let ExecIo::Streams { stdout, .. } = io else { return Err(fail("there is no terminal".into())) };
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            [BINARY, "agent-status", "--follow"] => {
                self.follow_status(stdout).await.map_err(|e| fail(e.into()))
            }
            ["rm", "-f" | "-rf", paths @ ..] => Ok(self.remove_files(paths).await),
            // All that is left is asked for evidence of what went wrong, of which there is none.
            _ => Ok(1),
        }
    }

    async fn put(&self, id: &NodeId, files: &[NodeFile]) -> Result<(), DriverError> {
        for NodeFile { path, content } in files {
            self.0.effect(&format!("put {path}")).await;
            assert!(PERSISTENT.iter().any(|dir| path.starts_with(dir)), "`{path}` would not last");
            let written = self.0.change(|world| {
                let node = world.node.as_mut()?;
                node.files.insert(path.clone(), content.clone());
                Some(())
            });
            written.ok_or_else(|| DriverError::Put {
                node: id.name.clone(),
                path: path.clone(),
                source: "the node was never created".into(),
            })?;
        }
        Ok(())
    }

    async fn get(&self, _: &NodeId, path: &Utf8Path) -> Result<Option<Vec<u8>>, DriverError> {
        Ok(self.0.world().node.as_ref().and_then(|node| node.read(path).map(<[u8]>::to_vec)))
    }

    async fn console(&self, _: &NodeId) -> Result<String, DriverError> {
        Ok(String::new())
    }

    fn directory(&self, _: &NodeId, _: &Utf8Path) -> Option<Utf8PathBuf> {
        None
    }
}

impl SimDriver {
    fn runs(&self) -> bool {
        self.0.world().node.as_ref().is_some_and(|node| node.running.is_some())
    }

    /// Tells the agent's status, now and at every change, until the node stops.
    async fn follow_status(
        &self,
        stdout: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<i32, std::io::Error> {
        let mut changes = self.0.changes();
        let mut told = None;
        loop {
            changes.borrow_and_update();
            let Some(status) = self.0.world().status() else { return Ok(KILLED) };
            if told.as_ref() != Some(&status) {
                let line = format!("{}\n", serde_json::to_string(&status)?);
                stdout.write_all(line.as_bytes()).await?;
                told = Some(status);
            }
            if changes.changed().await.is_err() {
                return Ok(KILLED);
            }
        }
    }

    /// Removes files and what lies below them, each at a point of its own.
    async fn remove_files(&self, paths: &[&str]) -> i32 {
        let below = |file: &Utf8Path| paths.iter().any(|path| file.starts_with(path));
        let files: Vec<_> = match &self.0.world().node {
            Some(node) => node.files.keys().filter(|file| below(file)).cloned().collect(),
            None => Vec::new(),
        };
        for file in files {
            self.0.effect(&format!("rm {file}")).await;
            if !self.runs() {
                return KILLED;
            }
            self.0.change(|world| world.node.as_mut().map(|node| node.files.remove(&file)));
        }
        0
    }
}
