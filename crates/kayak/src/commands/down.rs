use std::process::ExitCode;

use kayak_core::chain::chain;
use kayak_engine::inventory::{Comparison, Inventory, Marks, Thing};
use serde_json::json;

use super::preflight::require_root;
use crate::boot::remove_units;
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output, Progress};

/// Remove the cluster and everything it made on this machine
///
/// Afterwards the machine is compared with what it was before the first `kayak up`: processes,
/// mounts, interfaces, addresses, network namespaces, nftables, control groups, routes, kernel settings, and
/// the names of files in /etc, /usr, /opt, /var and /run. What the cluster made and is left is an
/// error. What else has changed since is listed by `-v`. The cache does not count.
#[derive(clap::Args)]
pub struct DownArgs {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub fn run(cx: &Context, args: &DownArgs) -> Result<ExitCode, CommandError> {
    require_root()?;
    let name = cx.cluster_name_or("kayak")?;
    let question = format!("Remove cluster `{name}` with all its data, keys included?");
    if !args.yes && !report::confirm(&question) {
        return Err(CommandError::usage("nothing was removed").hint("in scripts, use `--yes`"));
    }
    let _lock = cx.lock(&name)?;
    let progress = Progress::new(cx.output);
    // What was lost must not keep the rest from being removed.
    let before = Inventory::kept(&cx.dirs.before(&name)).unwrap_or_else(|error| {
        tracing::warn!("how the machine was before is not known: {}", chain(&error));
        None
    });
    let marks = block_on(tear_down(cx, &name))?;
    let found = Inventory::take(&cx.paths())?.compare(before.as_ref(), &marks);
    progress.finish();
    if cx.output == Output::Json {
        report::json(&json!({ "removed": name, "differences": found }))?;
    }
    tell_others(&found);
    if !found.left.is_empty() {
        return Err(left_over(&name, &found.left, &marks));
    }
    if cx.output == Output::Text {
        report::note(&format!("cluster `{name}` is gone"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns what the cluster's things are told by.
async fn tear_down(cx: &Context, cluster: &str) -> Result<Marks, CommandError> {
    let driver = cx.driver()?;
    let nodes = driver.nodes(cluster).await?;
    let units = remove_units(&cx.dirs, cluster)?;
    let marks = Marks::of(&cx.paths(), cluster, &nodes, units)?;
    driver.teardown(cluster).await?;
    Ok(marks)
}

fn tell_others(found: &Comparison) {
    for (what, things) in [("new", &found.appeared), ("gone", &found.vanished)] {
        for thing in things {
            tracing::info!("{what} since the cluster was made, and none of its: {thing}");
        }
    }
}

fn left_over(cluster: &str, left: &[Thing], marks: &Marks) -> CommandError {
    let list: Vec<_> = left.iter().map(|thing| format!("\n  {thing}: `{}`", marks.remedy(thing))).collect();
    CommandError::failed(format!("cluster `{cluster}` was removed, but this is left of it:{}", list.concat()))
        .hint("run `kayak down` again, or remove it by the commands above")
}
