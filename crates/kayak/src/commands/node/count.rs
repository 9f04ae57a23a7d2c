//! More nodes, and fewer.

use std::process::ExitCode;

use clap::Args;
use kayak_core::config::Counts;

use crate::commands::up::{self, BringUpArgs, UpArgs};
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report;
use crate::wish::{ConfigArgs, NamedArgs, Wish};

#[derive(Args)]
pub struct AddArgs {
    /// Add controllers; without it, workers
    #[arg(long)]
    controller: bool,

    /// How many
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,

    #[command(flatten)]
    how: BringUpArgs,
}

#[derive(Args)]
#[command(after_help = "Example: kayak node remove worker-2 --yes")]
pub struct RemoveArgs {
    /// The nodes; of those with one role, the ones with the highest numbers
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    how: BringUpArgs,
}

pub fn add(cx: &Context, args: AddArgs) -> Result<ExitCode, CommandError> {
    let config = wish(cx)?.config;
    let more = |count: u32| Some(count.saturating_add(args.count));
    let counts = if args.controller {
        Counts { controllers: more(config.controllers), workers: None }
    } else {
        Counts { controllers: None, workers: more(config.workers) }
    };
    let code = up::run(cx, &UpArgs::counted(counts, NamedArgs::default(), false, args.how))?;
    tell_numbers(counts);
    Ok(code)
}

pub fn remove(cx: &Context, args: RemoveArgs) -> Result<ExitCode, CommandError> {
    let config = wish(cx)?.config;
    let counts = Counts::without(config.controllers, config.workers, &args.nodes)
        .map_err(|why| CommandError::usage(why).hint("nothing was changed"))?;
    let name = cx.cluster_name()?;
    let there = nodes(cx, &name)?;
    if let Some(unknown) = args.nodes.iter().find(|node| !there.contains(node)) {
        return Err(CommandError::usage(format!("there is no node `{unknown}`, but {}", there.join(", ")))
            .hint("nothing was changed"));
    }
    let named = NamedArgs::removing(args.nodes.iter().map(|node| format!("node/{node}")).collect());
    let code = up::run(cx, &UpArgs::counted(counts, named, args.yes, args.how))?;
    let left: Vec<_> = nodes(cx, &name)?.into_iter().filter(|node| args.nodes.contains(node)).collect();
    if !left.is_empty() {
        return Err(CommandError::failed(format!("{} is still there", left.join(", ")))
            .hint("the same command goes on from here"));
    }
    tell_numbers(counts);
    Ok(code)
}

/// What the cluster meant was brought up with.
fn wish(cx: &Context) -> Result<Wish, CommandError> {
    let cx = Context::new(cx.output, Some(cx.cluster_name()?));
    block_on(ConfigArgs::default().load(&cx))
}

fn nodes(cx: &Context, cluster: &str) -> Result<Vec<String>, CommandError> {
    let driver = cx.driver()?;
    block_on(async { Ok(driver.nodes(cluster).await?) })
}

/// Whoever keeps the configuration in a file has to know.
fn tell_numbers(counts: Counts) {
    let numbers = [("controllers", counts.controllers), ("workers", counts.workers)];
    for (field, count) in numbers {
        if let Some(count) = count {
            report::note(&format!(
                "the configuration says `{field}: {count}` now; a file of yours should, too"
            ));
        }
    }
}
