use std::process::ExitCode;

use super::preflight::require_root;
use crate::boot::remove_units;
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Progress};

/// Remove the cluster and everything it made on this machine
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
    remove_units(&cx.dirs, &name)?;
    block_on(async { Ok(cx.driver()?.teardown(&name).await?) })?;
    progress.finish();
    report::note(&format!("cluster `{name}` is gone"));
    Ok(ExitCode::SUCCESS)
}
