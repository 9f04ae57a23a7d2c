use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::report;

/// Print a completion script for a shell
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::Cli::command(), "kayak", &mut script);
    report::data(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
