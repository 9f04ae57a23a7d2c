use std::process::ExitCode;

use kayak_core::cluster::Role;
use kayak_core::plan::ContainerState;
use kayak_engine::asset_dir;
use kayak_engine::cluster::ClusterHandle;
use kayak_engine::status::{self, Report};

use super::preflight::require_root;
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output};

/// Show how the cluster is: nodes, components, and every condition that should hold
///
/// Nodes and their runtimes are asked themselves, so that it works with the API down too. Ends with 0
/// if all is well, with 1 if anything is not.
#[derive(clap::Args)]
#[command(after_help = "Example: kayak status --output json | jq '.checks[] | select(.holds | not)'")]
pub struct StatusArgs {}

pub fn run(cx: &Context, _: &StatusArgs) -> Result<ExitCode, CommandError> {
    require_root()?;
    let assets = asset_dir::read(&cx.dirs.assets(&cx.cluster_name()?))?;
    let report = block_on(async {
        let cluster = ClusterHandle::new(assets, cx.driver()?).await?;
        Ok(status::report(&cluster).await?)
    })?;
    match cx.output {
        Output::Json => report::json(&report)?,
        Output::Text => print(&report),
    }
    Ok(if report.well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Report) {
    let verdict = if report.well { "is well" } else { "is not well" };
    report::data(&format!("cluster `{}` {verdict} (asked for {:.1} s)", report.cluster, report.seconds));
    report::data("");
    let mut table = vec![row(&["NODE", "STATE", "ROLE", "ADDRESS", "KUBELET", "CONTAINERD"])];
    table.extend(report.nodes.iter().map(|node| {
        let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "?".into());
        let (kubelet, containerd) = (version(&node.kubelet), version(&node.containerd));
        row(&[&node.name, state_name(node.state), role_name(node.role), &node.address, &kubelet, &containerd])
    }));
    report::table(&table);
    if !report.components.is_empty() {
        report::data("");
        let mut table = vec![row(&["COMPONENT", "NODE", "POD", "STATE", "RESTARTS", "VERSION"])];
        table.extend(
            report.components.iter().map(|it| {
                row(&[&it.name, &it.node, &it.pod, &it.state, &it.restarts.to_string(), &it.version])
            }),
        );
        report::table(&table);
    }
    report::data("");
    for check in &report.checks {
        report::verdict(&check.text, check.because.as_deref());
    }
    for node in &report.nodes {
        for trouble in &node.troubles {
            report::verdict(&format!("node `{}`", node.name), Some(trouble));
        }
    }
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|&cell| cell.to_owned()).collect()
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
