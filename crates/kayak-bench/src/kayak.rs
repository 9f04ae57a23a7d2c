//! kayak, driven as a user drives it.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use futures::future::try_join_all;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::command;
use crate::dns::Prober;
use crate::error::BenchError;
use crate::scene::{NODES, PODS, SERVICES, Scene};
use crate::subject::{Phase, Shape, Subject, Up, appears, keep_logs, place_prober, remove_probers};

/// A file that every node has, below `/etc/kubernetes`: when it is there, so are the node's directories.
const NODE_FILE: &str = "kubelet/config.yaml";

/// kayak with one of its profiles.
#[derive(Debug)]
pub struct Kayak {
    /// The cluster's name.
    pub name: &'static str,
    /// The profile of its configuration.
    pub profile: &'static str,
    /// How many nodes it makes.
    pub shape: Shape,
    /// The image that the prober runs in.
    pub image: String,
}

/// The events that times are taken from.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
    StepDone {
        step: String,
    },
    Holds {
        check: serde_json::Value,
    },
    PhaseDone {
        phase: String,
        seconds: f64,
    },
    #[serde(other)]
    Other,
}

impl Kayak {
    /// A command about this cluster, with directories of the measurement's own.
    pub fn command(&self, scene: &Scene, arguments: &[&str]) -> Command {
        let mut command = Command::new(&scene.kayak);
        command.args(["--output", "json", "--cluster", self.name]).args(arguments);
        command.env("KAYAK_STATE_DIR", &scene.state).stdin(Stdio::null());
        command
    }

    /// Writes the configuration.
    pub fn configure(&self, scene: &Scene) -> Result<Utf8PathBuf, BenchError> {
        let path = scene.logs.join(format!("{}.yaml", self.name));
        let Self { name, profile, shape, .. } = self;
        let text = format!(
            "name: {name}\nprofile: {profile}\ncontrollers: {}\nworkers: {}\nnetwork:\n  egress: false\n  \
             nodes: {NODES}\n  pods: {PODS}\n  services: {SERVICES}\n",
            shape.controllers, shape.workers
        );
        fs::write(&path, text).map_err(BenchError::write(&path))?;
        Ok(path)
    }

    /// Starts `kayak up`, with what it prints into files.
    pub fn start_up(&self, scene: &Scene, logs: &Utf8Path) -> Result<Child, BenchError> {
        let config = self.configure(scene)?;
        let errors = logs.join("up.err");
        let errors = File::create(&errors).map_err(BenchError::write(errors))?;
        let mut command = self.command(scene, &["up", "--config", config.as_str()]);
        command.stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        command.spawn().map_err(|source| BenchError::Start { line: command::line(&command), source })
    }

    /// Brings it up and returns how long each phase took.
    pub async fn bring_up(&self, scene: &Scene, logs: &Utf8Path) -> Result<Vec<Phase>, BenchError> {
        let mut child = self.start_up(scene, logs)?;
        let events = logs.join("events.json");
        let mut text = String::new();
        let (mut phases, mut last) = (Vec::new(), None);
        if let Some(output) = child.stdout.take() {
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await.map_err(BenchError::read(&events))? {
                let event = serde_json::from_str(&line);
                match event.map_err(|source| BenchError::Event { line: line.clone(), source })? {
                    Event::StepDone { step } => last = Some(step),
                    Event::Holds { check } => last = Some(check.to_string()),
                    Event::PhaseDone { phase, seconds } => {
                        phases.push(Phase { name: phase, seconds, last: last.take() });
                    }
                    Event::Other => {}
                }
                text += &line;
                text.push('\n');
            }
        }
        let status = child.wait().await.map_err(BenchError::read(&events))?;
        fs::write(&events, &text).map_err(BenchError::write(&events))?;
        if !status.success() {
            let said = logs.join("up.err");
            let said = fs::read_to_string(&said).map_err(BenchError::read(said))?;
            let code = status.code().unwrap_or(-1);
            return Err(BenchError::Failed { line: "kayak up".into(), code, said });
        }
        Ok(phases)
    }
}

impl Subject for Kayak {
    fn name(&self) -> &'static str {
        self.name
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    async fn up(&self, scene: &Scene, logs: &Utf8Path) -> Result<Up, BenchError> {
        let start = Instant::now();
        let nodes = self.shape.nodes();
        let answers = try_join_all(nodes.iter().map(async |node| {
            let file = scene.node_dir(self.name, node, "etc-kubernetes").join(NODE_FILE);
            appears(&file, "the node's files", logs).await?;
            let answered = place_prober(scene, self.name, node, &Prober { image: self.image.clone() })?;
            appears(&answered, "an answer of cluster DNS", logs).await
        }));
        let tool = async { self.bring_up(scene, logs).await.map(|phases| (phases, Instant::now())) };
        let (answers, (phases, end)) = tokio::try_join!(answers, tool)?;
        remove_probers(scene, self)?;
        keep_logs(scene, self, logs).await?;
        Ok(Up::new(start, end, answers.into_iter().max().unwrap_or(end), phases))
    }

    async fn again(&self, scene: &Scene, logs: &Utf8Path) -> Result<Option<f64>, BenchError> {
        let start = Instant::now();
        self.bring_up(scene, logs).await?;
        Ok(Some(start.elapsed().as_secs_f64()))
    }

    fn kubeconfig(&self, scene: &Scene) -> Utf8PathBuf {
        scene.state.join(self.name).join("assets/auth/kubeconfig")
    }

    async fn down(&self, scene: &Scene) -> Result<(), BenchError> {
        command::run(&mut self.command(scene, &["down", "--yes"])).await.map(drop)
    }
}
