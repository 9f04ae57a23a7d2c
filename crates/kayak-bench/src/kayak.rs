//! kayak, driven as a user drives it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::Stdio;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::command;
use crate::dns::Prober;
use crate::error::BenchError;
use crate::scene::{NODES, PODS, SERVICES, Scene};
use crate::subject::{Subject, Up, appears, keep_logs, place_prober, remove_prober};

/// kayak with one of its profiles.
#[derive(Debug)]
pub struct Kayak {
    /// The cluster's name.
    pub name: &'static str,
    /// The profile of its configuration.
    pub profile: &'static str,
    /// The image that the prober runs in.
    pub image: String,
}

/// The events that times are taken from.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
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
        let profile = self.profile;
        let text = format!(
            "name: {}\nprofile: {profile}\nnetwork:\n  egress: false\n  nodes: {NODES}\n  pods: {PODS}\n  services: {SERVICES}\n",
            self.name
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
    pub async fn bring_up(
        &self,
        scene: &Scene,
        logs: &Utf8Path,
    ) -> Result<BTreeMap<String, f64>, BenchError> {
        let mut child = self.start_up(scene, logs)?;
        let events = logs.join("events.json");
        let mut text = String::new();
        let mut phases = BTreeMap::new();
        if let Some(output) = child.stdout.take() {
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await.map_err(BenchError::read(&events))? {
                let event = serde_json::from_str(&line);
                match event.map_err(|source| BenchError::Event { line: line.clone(), source })? {
                    Event::PhaseDone { phase, seconds } => drop(phases.insert(phase, seconds)),
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

    async fn up(&self, scene: &Scene, logs: &Utf8Path) -> Result<Up, BenchError> {
        let start = Instant::now();
        let answer = async {
            // kayak makes the node's directories itself, in the first tenth of a second.
            let etcd = scene.node_dir(self.name, "etc-kubernetes").join("manifests/etcd.yaml");
            appears(&etcd, "the node's files", logs).await?;
            let answered = place_prober(scene, self.name, &Prober { image: self.image.clone() })?;
            appears(&answered, "an answer of cluster DNS", logs).await
        };
        let tool = async { self.bring_up(scene, logs).await.map(|phases| (phases, Instant::now())) };
        let (dns, (phases, end)) = tokio::try_join!(answer, tool)?;
        remove_prober(scene, self.name)?;
        keep_logs(scene, self.name, logs).await?;
        Ok(Up::new(start, end, dns, phases))
    }

    fn kubeconfig(&self, scene: &Scene) -> Utf8PathBuf {
        scene.state.join(self.name).join("assets/auth/kubeconfig")
    }

    async fn down(&self, scene: &Scene) -> Result<(), BenchError> {
        command::run(&mut self.command(scene, &["down", "--yes"])).await.map(drop)
    }
}
