use std::process::ExitCode;

use kayak_engine::driver::{NodeId, NodeState};
use serde_json::json;

use super::preflight::require_root;
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output, Progress};

pub fn run(cx: &Context) -> Result<ExitCode, CommandError> {
    require_root()?;
    let name = cx.cluster_name()?;
    let _lock = cx.lock(&name)?;
    let progress = Progress::new(cx.output);
    let stopped = block_on(stop(cx, &name))?;
    progress.finish();
    match cx.output {
        Output::Json => report::json(&json!({ "cluster": name, "stopped": stopped }))?,
        Output::Text if stopped.is_empty() => report::note(&format!("cluster `{name}` was stopped already")),
        Output::Text => {
            report::note(&format!("cluster `{name}` is stopped"));
            report::hint("bring it back with `kayak resume`");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the nodes that ran.
async fn stop(cx: &Context, cluster: &str) -> Result<Vec<String>, CommandError> {
    let driver = cx.driver()?;
    let mut stopped = Vec::new();
    for name in driver.nodes(cluster).await? {
        let node = NodeId::new(cluster, name);
        let ran = matches!(driver.state(&node).await?, NodeState::Running { .. });
        // Also one that does not run: a start that was cut off leaves something.
        driver.stop(&node).await?;
        stopped.extend(ran.then_some(node.name));
    }
    driver.release(cluster).await?;
    Ok(stopped)
}
