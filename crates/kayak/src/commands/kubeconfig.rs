use std::fs;
use std::process::ExitCode;

use kayak_core::assets::KUBECONFIG;

use crate::context::Context;
use crate::error::CommandError;
use crate::report;

/// Print the administrator's kubeconfig, or where it is
#[derive(clap::Args)]
pub struct KubeconfigArgs {
    /// Print the file's path instead
    #[arg(long)]
    path: bool,
}

pub fn run(cx: &Context, args: &KubeconfigArgs) -> Result<ExitCode, CommandError> {
    let path = cx.dirs.assets(&cx.cluster_name()?).join(KUBECONFIG);
    if args.path {
        report::data(path.as_str());
    } else {
        report::data(&fs::read_to_string(&path).map_err(|source| ReadError { path, source })?);
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, thiserror::Error)]
#[error("failed to read `{path}`")]
struct ReadError {
    path: camino::Utf8PathBuf,
    source: std::io::Error,
}
