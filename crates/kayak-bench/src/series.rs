//! Bringing subjects up and down, one at a time, and measuring them in between.

use std::fs;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::error::BenchError;
use crate::machine::{Machine, commit};
use crate::measure::{AtRest, load};
use crate::report;
use crate::results::Measured;
use crate::scene::{Scene, SceneArgs};
use crate::subject::Subject;

/// How a series is measured.
#[derive(Debug, clap::Args)]
pub struct SeriesArgs {
    #[command(flatten)]
    scene: SceneArgs,

    /// How often each is brought up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub runs: u32,

    /// kubeadm's Go module
    #[arg(long, default_value = "bench/kubeadm", value_name = "DIR")]
    pub kubeadm: Utf8PathBuf,

    /// Where results are kept
    #[arg(long, default_value = "bench/results", value_name = "DIR")]
    results: Utf8PathBuf,

    /// How long a cluster rests before its memory is measured
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    rest: u64,

    /// How long its idle CPU is measured
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    idle: u64,

    /// How long its API is loaded
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    load: u64,
}

/// What was measured, where and when.
#[derive(Debug, Serialize)]
struct Record<'a, R> {
    date: String,
    commit: &'a str,
    machine: &'a Machine,
    #[serde(flatten)]
    results: &'a R,
}

/// A series of measurements.
#[derive(Debug)]
pub struct Series<'a> {
    args: &'a SeriesArgs,
    /// Where it takes place.
    pub scene: Scene,
    /// The machine, before anything was measured.
    pub machine: Machine,
    /// What is measured.
    pub commit: String,
}

impl<'a> Series<'a> {
    /// Prepares for measuring.
    pub async fn begin(args: &'a SeriesArgs) -> Result<Self, BenchError> {
        Ok(Self { args, scene: Scene::set(&args.scene)?, machine: Machine::look()?, commit: commit().await? })
    }

    /// Removes what an earlier series that was cut off left.
    pub async fn clear(&self, subject: &impl Subject) -> Result<(), BenchError> {
        let _turn = self.scene.turn()?;
        subject.down(&self.scene).await
    }

    /// Brings a subject up and down. What it takes at rest hardly differs, and is measured in the last of its
    /// runs.
    pub async fn run(
        &self,
        subject: &impl Subject,
        run: u32,
        measured: &mut Measured,
    ) -> Result<(), BenchError> {
        let scene = &self.scene;
        let _turn = scene.turn()?;
        let name = subject.name();
        let up = subject.up(scene, &scene.run_logs(&format!("{name}-{run}"))?).await?;
        report::up(name, run, &up);
        measured.add(up);
        if run == self.args.runs {
            let seconds = Duration::from_secs;
            tokio::time::sleep(seconds(self.args.rest)).await;
            measured.at_rest = Some(AtRest::measure(name, seconds(self.args.idle)).await?);
            measured.latency = Some(load::run(&subject.kubeconfig(scene), seconds(self.args.load)).await?);
            measured.second_up_seconds =
                subject.again(scene, &scene.run_logs(&format!("{name}-again"))?).await?;
        }
        subject.down(scene).await
    }

    /// Writes the results of a kind of series to a file, and says where.
    pub fn write(&self, kind: &str, results: &impl Serialize) -> Result<(), BenchError> {
        let directory = &self.args.results;
        fs::create_dir_all(directory).map_err(BenchError::write(directory))?;
        let date = time::OffsetDateTime::now_utc().date().to_string();
        let path = directory.join(format!("{date}-{}-{kind}.json", self.commit));
        let record = Record { date, commit: &self.commit, machine: &self.machine, results };
        let text = serde_json::to_string_pretty(&record).map_err(BenchError::Results)?;
        fs::write(&path, text + "\n").map_err(BenchError::write(&path))?;
        report::line(&format!("\nresults: {path}\nlogs:    {}", self.scene.logs));
        Ok(())
    }
}
