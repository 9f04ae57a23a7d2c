//! Nodes in a table.

use std::process::ExitCode;

use kayak_core::cluster::Role;
use kayak_core::plan::ContainerState;
use kayak_engine::asset_dir;
use kayak_engine::cluster::ClusterHandle;
use kayak_engine::status::{self, NodeReport};
use serde::Serialize;

use crate::commands::status::{role_name, state_name};
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output};

/// A node that is wished, or there, or both.
#[derive(Serialize)]
struct Row {
    name: String,
    wished: bool,
    state: Option<ContainerState>,
    ready: Option<bool>,
    role: Option<Role>,
    address: Option<String>,
    kubelet: Option<String>,
    /// Why it is not ready, or why that is not known.
    because: Option<String>,
}

pub fn run(cx: &Context) -> Result<ExitCode, CommandError> {
    let assets = asset_dir::read(&cx.dirs.assets(&cx.cluster_name()?))?;
    let rows = block_on(async {
        let cluster = ClusterHandle::new(assets, cx.driver()?).await?;
        let mut rows: Vec<_> = status::report(&cluster).await?.nodes.into_iter().map(wished).collect();
        for name in cluster.driver.nodes(cluster.assets.cluster.name()).await? {
            if !rows.iter().any(|row: &Row| row.name == name) {
                let state = cluster.driver.state(&cluster.node_id(&name)).await?.into();
                rows.push(surplus(name, state));
            }
        }
        Ok(rows)
    })?;
    match cx.output {
        Output::Json => report::json(&rows)?,
        Output::Text => report::table(&table(&rows)),
    }
    Ok(ExitCode::SUCCESS)
}

fn wished(node: NodeReport) -> Row {
    let NodeReport { name, role, address, state, ready, because, kubelet, .. } = node;
    Row { name, wished: true, state, ready, role: Some(role), address: Some(address), kubelet, because }
}

fn surplus(name: String, state: ContainerState) -> Row {
    let because = Some(format!("it is no longer wished; `kayak node remove {name}` removes it"));
    let (ready, role, address, kubelet) = (None, None, None, None);
    Row { name, wished: false, state: Some(state), ready, role, address, kubelet, because }
}

fn table(rows: &[Row]) -> Vec<Vec<String>> {
    let text = |cells: [&str; 7]| cells.map(str::to_owned).to_vec();
    let mut table = vec![text(["NODE", "STATE", "READY", "ROLE", "ADDRESS", "KUBELET", ""])];
    table.extend(rows.iter().map(|row| {
        let ready = match row.ready {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        text([
            &row.name,
            row.state.map_or("?", state_name),
            ready,
            row.role.map_or("?", role_name),
            row.address.as_deref().unwrap_or("?"),
            row.kubelet.as_deref().unwrap_or("?"),
            row.because.as_deref().unwrap_or_default(),
        ])
    }));
    table
}
