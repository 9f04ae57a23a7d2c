//! kayak: a self-hosted Kubernetes cluster with one command.

#![expect(unreachable_pub, reason = "a binary: `pub` here means what other modules use")]

mod boot;
mod caller;
mod cli;
mod commands;
mod context;
mod error;
mod help;
mod lock;
mod own_file;
mod report;
mod wish;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything can open a TLS connection: with a second provider in the tree, the choice
    // would otherwise be made at run time, by a panic.
    let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(provider.is_ok(), "nothing else installs a provider");
    let cli = cli::Cli::of_process();
    report::init_logging(cli.verbosity());
    match cli.run() {
        Ok(code) => code,
        Err(error) => error.print(),
    }
}
