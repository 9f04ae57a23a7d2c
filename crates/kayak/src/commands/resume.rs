use std::process::ExitCode;

use super::preflight::require_root;
use super::start::bring_up_from;
use super::up::BringUpArgs;
use crate::context::Context;
use crate::error::CommandError;

/// Start a stopped cluster again, with what it was brought up with; one that runs is left alone
#[derive(clap::Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    how: BringUpArgs,
}

pub fn run(cx: &Context, args: &ResumeArgs) -> Result<ExitCode, CommandError> {
    require_root()?;
    let assets = cx.dirs.assets(&cx.cluster_name()?);
    bring_up_from(cx, &assets, &args.how)
}
