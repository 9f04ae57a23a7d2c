use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap_mangen::Man;

use crate::error::CommandError;
use crate::{help, report};

/// Print the manual page, or write those of all commands into a directory
#[derive(clap::Args)]
#[command(after_help = "Example: kayak man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// A directory that is there
    #[arg(value_name = "DIR")]
    directory: Option<Utf8PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum ManError {
    #[error("failed to render the manual page")]
    Render(#[source] std::io::Error),
    #[error("failed to write manual pages to `{directory}`")]
    Write { directory: Utf8PathBuf, source: std::io::Error },
}

pub fn run(args: &ManArgs) -> Result<ExitCode, CommandError> {
    if let Some(directory) = &args.directory {
        clap_mangen::generate_to(help::command(), directory)
            .map_err(|source| ManError::Write { directory: directory.clone(), source })?;
    } else {
        let mut page = Vec::new();
        Man::new(help::command()).render(&mut page).map_err(ManError::Render)?;
        report::data(&String::from_utf8_lossy(&page));
    }
    Ok(ExitCode::SUCCESS)
}
