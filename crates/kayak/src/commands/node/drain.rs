//! Empties a node.

use std::process::ExitCode;
use std::time::Duration;

use kayak_engine::asset_dir;
use kayak_engine::cluster::ClusterHandle;
use kayak_engine::drain::drain;

use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output, Progress};

pub fn run(cx: &Context, node: &str, patience: u64) -> Result<ExitCode, CommandError> {
    let name = cx.cluster_name()?;
    let _lock = cx.lock(&name)?;
    cx.require_running(&name)?;
    let assets = asset_dir::read(&cx.dirs.assets(&name))?;
    let progress = Progress::new(cx.output);
    block_on(async {
        let cluster = ClusterHandle::new(assets, cx.driver()?).await?;
        if !cluster.driver.nodes(&name).await?.iter().any(|there| there == node) {
            return Err(CommandError::usage(format!("there is no node `{node}`")).hint("nothing was changed"));
        }
        let tell = |event| progress.event(&event);
        Ok(drain(&cluster, node, Duration::from_secs(patience), &tell).await?)
    })?;
    progress.finish();
    if cx.output == Output::Text {
        report::note(&format!("node `{node}` is empty, but for what belongs to every node"));
        report::hint(&format!("`kayak kubectl uncordon {node}` lets pods come again"));
    }
    Ok(ExitCode::SUCCESS)
}
