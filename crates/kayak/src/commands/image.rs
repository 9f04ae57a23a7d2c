use std::process::ExitCode;

use camino::Utf8PathBuf;
use kayak_engine::images;

use super::preflight::require_root;
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output, Progress};

#[derive(clap::Subcommand)]
pub enum ImageCommand {
    /// Put an image on every node, from an OCI layout or a `docker save` archive
    Load {
        /// The archive, or the directory of an OCI layout
        archive: Utf8PathBuf,

        /// The reference for an image that bears none
        #[arg(long, value_name = "REFERENCE")]
        name: Option<String>,
    },
}

pub fn run(cx: &Context, command: ImageCommand) -> Result<ExitCode, CommandError> {
    require_root()?;
    let ImageCommand::Load { archive, name } = command;
    let progress = Progress::new(cx.output);
    let cluster = cx.cluster_name()?;
    let loaded = block_on(async {
        let driver = cx.driver()?;
        let mut loaded = Vec::new();
        for node in driver.nodes(&cluster).await? {
            let id = kayak_engine::driver::NodeId::new(cluster.as_str(), node);
            loaded = images::load(driver.as_ref(), &id, &archive, name.as_deref()).await?;
        }
        Ok(loaded)
    })?;
    progress.finish();
    match cx.output {
        Output::Json => report::json(&loaded)?,
        Output::Text => loaded.iter().for_each(|reference| report::data(reference)),
    }
    Ok(ExitCode::SUCCESS)
}
