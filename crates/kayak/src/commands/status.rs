use std::process::ExitCode;

use futures::StreamExt as _;
use kayak_core::cluster::Role;
use kayak_core::plan::ContainerState;
use kayak_engine::asset_dir;
use kayak_engine::cluster::ClusterHandle;
use kayak_engine::status::{self, Report};

use super::preflight::require_root;
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output, Screen};

mod text;

/// Show how the cluster is: nodes, etcd, components, certificates, and every condition that should hold
///
/// Nodes and their runtimes are asked themselves, each for so long and no longer, so that it works with
/// nodes or the API down too: what cannot be known is shown as `?`, and as null in JSON, with the reason.
/// Ends with 0 if all is well, with 1 if anything is not.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  kayak status --watch
  kayak status --output json | jq '.checks[] | select(.holds | not)'")]
pub struct StatusArgs {
    /// Show it again whenever something changes, until Ctrl-C: on a terminal in the same place, elsewhere
    /// the lines that differ, with `--output json` one document a line
    #[arg(long)]
    watch: bool,
}

pub fn run(cx: &Context, args: &StatusArgs) -> Result<ExitCode, CommandError> {
    require_root()?;
    let assets = asset_dir::read(&cx.dirs.assets(&cx.cluster_name()?))?;
    block_on(async {
        let cluster = ClusterHandle::new(assets, cx.driver()?).await?;
        if args.watch { watch(cx, &cluster).await } else { once(cx, &cluster).await }
    })
}

/// etcd's members of a cluster, as lines of the same report.
pub fn members(cx: &Context, cluster: &str) -> Result<Vec<String>, CommandError> {
    let assets = asset_dir::read(&cx.dirs.assets(cluster))?;
    block_on(async {
        let cluster = ClusterHandle::new(assets, cx.driver()?).await?;
        Ok(text::etcd(&status::report(&cluster).await?.etcd))
    })
}

async fn once(cx: &Context, cluster: &ClusterHandle) -> Result<ExitCode, CommandError> {
    let report = status::report(cluster).await?;
    match cx.output {
        Output::Json => report::json(&report)?,
        Output::Text => report::all(&text::lines(&report)),
    }
    Ok(exit_code(&report))
}

async fn watch(cx: &Context, cluster: &ClusterHandle) -> Result<ExitCode, CommandError> {
    let mut reports = std::pin::pin!(status::watch(cluster)?);
    let mut screen = Screen::default();
    let mut code = ExitCode::SUCCESS;
    while let Some(report) = reports.next().await {
        match cx.output {
            Output::Json => report::json(&report)?,
            Output::Text => screen.show(text::lines(&report), &text::lines(&report.settled())),
        }
        code = exit_code(&report);
    }
    Ok(code)
}

fn exit_code(report: &Report) -> ExitCode {
    if report.well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What there is of a node, in a word.
pub fn state_name(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Absent => "absent",
        ContainerState::Stopped => "stopped",
        ContainerState::Running => "running",
    }
}

/// What a node runs, in a word.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Controller => "controller",
        Role::Worker => "worker",
    }
}
