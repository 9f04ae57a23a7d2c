use std::collections::BTreeMap;
use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::plan::Named;
use kayak_engine::asset_dir;

use super::preflight::require_root;
use super::up::{BringUpArgs, Doing, begin, bring_up};
use crate::context::Context;
use crate::error::CommandError;
use crate::wish::Rendering;

/// Bring a cluster up from an asset directory, hand edits included
#[derive(clap::Args)]
pub struct StartArgs {
    /// The directory that `kayak render` wrote
    #[arg(long, value_name = "DIR")]
    assets: Utf8PathBuf,

    #[command(flatten)]
    how: BringUpArgs,
}

pub fn run(cx: &Context, args: &StartArgs) -> Result<ExitCode, CommandError> {
    require_root()?;
    bring_up_from(cx, &args.assets, &args.how)
}

/// Brings a cluster up from assets as they are: what `start` and `resume` have in common.
pub fn bring_up_from(cx: &Context, assets: &Utf8Path, how: &BringUpArgs) -> Result<ExitCode, CommandError> {
    let read = || Ok::<_, CommandError>(asset_dir::read(assets)?);
    let lock = begin(cx, &read()?.cluster, how)?;
    // Once more: whoever held the lock may have changed them.
    let rendering = Rendering { assets: read()?, issued: BTreeMap::new() };
    bring_up(cx, rendering, &Doing { how, named: &Named::default(), planned: None }, &lock)
}
