use std::process::ExitCode;

use camino::Utf8PathBuf;
use kayak_engine::asset_dir;
use serde_json::json;

use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output};
use crate::wish::ConfigArgs;

/// Write every asset of a cluster into a directory, and touch nothing else
///
/// Keys and certificates that the directory holds already are kept: rendering again gives the same
/// bytes. Edit what you like, then `kayak start --assets DIR`.
#[derive(clap::Args)]
pub struct RenderArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The directory; made if absent
    #[arg(short = 'o', long = "assets", value_name = "DIR")]
    assets: Utf8PathBuf,
}

pub fn run(cx: &Context, args: &RenderArgs) -> Result<ExitCode, CommandError> {
    let wish = block_on(args.config.load(cx))?;
    if !asset_dir::is_free(&args.assets)? {
        return Err(CommandError::usage(format!("`{}` holds other things than a rendering", args.assets))
            .hint("name an empty directory, or one that `kayak render` wrote; nothing was written"));
    }
    let assets = wish.render(&args.assets)?.assets;
    asset_dir::write(&args.assets, &assets)?;
    match cx.output {
        Output::Json => report::json(&json!({ "assets": args.assets, "files": assets.files.len() }))?,
        Output::Text => {
            report::note(&format!("wrote {} files to {}", assets.files.len(), args.assets));
            report::hint(&format!("edit what you like, then `kayak start --assets {}`", args.assets));
        }
    }
    Ok(ExitCode::SUCCESS)
}
