use std::collections::BTreeMap;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use kayak_core::plan::Named;
use kayak_engine::asset_dir;

use super::up::{BringUpArgs, Doing, bring_up};
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
    let assets = asset_dir::read(&args.assets)?;
    let doing = Doing { how: &args.how, named: &Named::default(), planned: None };
    bring_up(cx, Rendering { assets, issued: BTreeMap::new() }, &doing)
}
