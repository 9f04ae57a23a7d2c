use std::process::ExitCode;

use clap_complete::Shell;

use crate::{help, report};

/// Print a completion script for a shell
#[derive(clap::Args)]
#[command(after_help = "Example: kayak completions bash > /etc/bash_completion.d/kayak")]
pub struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut help::command(), "kayak", &mut script);
    report::data(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
