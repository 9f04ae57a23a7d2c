//! Starts nodes anew, one after another: the next one goes when all is as it was. What is left to do is written
//! down, so that a series that was cut off can be continued.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use kayak_core::cluster::Role;
use kayak_core::plan::{Check, Named, Note, Phase, PhaseId, Plan, Step, lint};
use kayak_engine::asset_dir;
use kayak_engine::cluster::ClusterHandle;

use crate::commands::plan::decide;
use crate::commands::up::{BringUpArgs, Doing, begin, converge};
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::lock::Lock;
use crate::report::{self, Output, Progress};
use crate::wish::Rendering;

#[derive(Args)]
#[command(after_help = "Examples:
  kayak node reboot worker-0
  kayak node reboot --all
  kayak node reboot            # go on with what a run that was cut off has left")]
pub struct RebootArgs {
    /// The nodes, in this order
    #[arg(value_name = "NODE", conflicts_with = "all")]
    nodes: Vec<String>,

    /// All nodes, workers first; goes on with what a run that was cut off has left
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    how: BringUpArgs,
}

#[derive(Debug, thiserror::Error)]
enum RebootError {
    #[error("failed to read `{path}`")]
    Read { path: Utf8PathBuf, source: std::io::Error },
    #[error("failed to write `{path}`")]
    Write { path: Utf8PathBuf, source: std::io::Error },
    #[error("`{path}` does not list nodes")]
    NoList { path: Utf8PathBuf, source: serde_json::Error },
}

pub fn run(cx: &Context, args: &RebootArgs) -> Result<ExitCode, CommandError> {
    let name = cx.cluster_name()?;
    let kept = cx.dirs.assets(&name);
    let assets = asset_dir::read(&kept)?;
    let lock = begin(cx, &assets.cluster, &args.how)?;
    let series = Series(cx.dirs.cluster(&name).join("reboot.json"));
    let there: Vec<_> = assets.cluster.nodes.iter().map(|node| (node.name.clone(), node.role)).collect();
    let mut left = which(args, series.left()?, &there)?;
    series.write(&left)?;
    let work = Work { cx, kept: &kept, how: &args.how, lock: &lock };
    work.converge()?;
    while let Some(node) = left.first().cloned() {
        report::note(&format!("node `{node}` is started anew"));
        work.stop(&node)?;
        work.converge()?;
        left.remove(0);
        series.write(&left)?;
    }
    if cx.output == Output::Text {
        report::note("done: all is as it was");
    }
    Ok(ExitCode::SUCCESS)
}

/// Decides which nodes are meant.
fn which(
    args: &RebootArgs,
    left: Option<Vec<String>>,
    there: &[(String, Role)],
) -> Result<Vec<String>, CommandError> {
    let is_there = |node: &String| there.iter().any(|(name, _)| name == node);
    if !args.nodes.is_empty() {
        return match args.nodes.iter().find(|node| !is_there(node)) {
            Some(unknown) => {
                Err(CommandError::usage(format!("there is no node `{unknown}`")).hint("nothing was changed"))
            }
            None => Ok(args.nodes.clone()),
        };
    }
    match left {
        // One that was removed meanwhile is done.
        Some(left) => Ok(left.into_iter().filter(is_there).collect()),
        None if args.all => {
            let of = |role| there.iter().filter(move |(_, it)| *it == role).map(|(name, _)| name.clone());
            Ok(of(Role::Worker).chain(of(Role::Controller)).collect())
        }
        None => Err(CommandError::usage("which nodes? No run was cut off that could be continued")
            .hint("name some, or all of them by `--all`; nothing was changed")),
    }
}

/// The nodes of a series that are still to be started anew, on disk; no file where none is.
struct Series(Utf8PathBuf);

impl Series {
    fn left(&self) -> Result<Option<Vec<String>>, RebootError> {
        let path = || self.0.clone();
        match std::fs::read(&self.0) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| RebootError::NoList { path: path(), source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RebootError::Read { path: path(), source }),
        }
    }

    fn write(&self, left: &[String]) -> Result<(), RebootError> {
        let written = if left.is_empty() {
            match std::fs::remove_file(&self.0) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        } else {
            // Whole or not at all: what was cut off here is read by the next run.
            let next = self.0.with_extension("new");
            let text = serde_json::json!(left).to_string();
            std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, &self.0))
        };
        written.map_err(|source| RebootError::Write { path: self.0.clone(), source })
    }
}

struct Work<'a> {
    cx: &'a Context,
    kept: &'a Utf8Path,
    how: &'a BringUpArgs,
    lock: &'a Lock,
}

impl Work<'_> {
    /// Brings up whatever does not run, and waits until all of it is well: members connected, API servers ready.
    fn converge(&self) -> Result<(), CommandError> {
        let rendering = Rendering { assets: asset_dir::read(self.kept)?, issued: BTreeMap::new() };
        let doing = Doing { how: self.how, named: &Named::default(), planned: None };
        converge(self.cx, rendering, &doing, self.lock).map(drop)
    }

    /// Stops a node, unless that would leave etcd without a majority.
    fn stop(&self, node: &str) -> Result<(), CommandError> {
        let assets = asset_dir::read(self.kept)?;
        let progress = Progress::new(self.cx.output);
        block_on(async {
            let cluster = ClusterHandle::new(assets, self.cx.driver()?).await?;
            let seen = decide(&cluster, self.kept, &BTreeMap::new(), &Named::default()).await?.seen;
            let refused =
                lint(&anew(node), &seen).into_iter().find(|note| matches!(note, Note::LosesQuorum { .. }));
            if refused.is_some() {
                return Err(CommandError::failed(format!("without `{node}` etcd would have no majority"))
                    .hint(
                        "the node goes on; `kayak stop` and `kayak resume` start all of the cluster anew",
                    ));
            }
            Ok(cluster.driver.stop(&cluster.node_id(node)).await?)
        })?;
        progress.finish();
        Ok(())
    }
}

fn anew(node: &str) -> Plan {
    let steps = vec![Step::StopNode(node.into()), Step::StartNode(node.into())];
    let phase = Phase { id: PhaseId::Restart, steps, gate: vec![Check::Member(node.into())] };
    Plan { phases: vec![phase], ..Plan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there() -> Vec<(String, Role)> {
        [("controller-0", Role::Controller), ("worker-0", Role::Worker), ("worker-1", Role::Worker)]
            .map(|(name, role)| (name.to_owned(), role))
            .into()
    }

    fn chosen(line: &str, left: Option<&[&str]>) -> Result<Vec<String>, String> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: RebootArgs,
        }
        let words = std::iter::once("reboot").chain(line.split_whitespace());
        let args = <Line as clap::Parser>::try_parse_from(words).unwrap().args;
        let left = left.map(|left| left.iter().map(|&node| node.to_owned()).collect());
        which(&args, left, &there()).map_err(|error| error.line())
    }

    #[test]
    fn a_series_goes_on_where_it_was_cut_off() {
        assert_eq!(chosen("--all", None).unwrap(), ["worker-0", "worker-1", "controller-0"]);
        let left: &[&str] = &["worker-1", "worker-9", "controller-0"];
        assert_eq!(chosen("--all", Some(left)).unwrap(), ["worker-1", "controller-0"]);
        assert_eq!(chosen("", Some(left)).unwrap(), ["worker-1", "controller-0"]);
        assert_eq!(chosen("worker-0", Some(left)).unwrap(), ["worker-0"]);
        assert!(chosen("", None).unwrap_err().starts_with("which nodes?"));
        assert!(chosen("worker-7", None).unwrap_err().contains("`worker-7`"));
    }

    #[test]
    fn what_is_left_is_on_disk_until_nothing_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("reboot.json");
        let series = Series(path.clone());
        assert_eq!(series.left().unwrap(), None);
        series.write(&["worker-1".into()]).unwrap();
        assert_eq!(series.left().unwrap(), Some(vec!["worker-1".to_owned()]));
        for _ in 0..2 {
            series.write(&[]).unwrap();
            assert!(!path.exists());
        }
        std::fs::write(&path, "{").unwrap();
        assert!(series.left().is_err());
    }
}
