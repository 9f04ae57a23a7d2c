//! Measures kayak: side by side with kubeadm, and over and over again. It is not shipped.
//!
//! `compare` and `fleets` are what `make bench` runs, `soak` is what `make soak` runs; `ask-dns` is what runs in the pod
//! for which cluster DNS has to answer.

#![expect(unreachable_pub, reason = "a binary: `pub` here means what other modules use")]

mod command;
mod compare;
mod dns;
mod error;
mod fleets;
mod kayak;
mod kubeadm;
mod machine;
mod measure;
mod report;
mod results;
mod scene;
mod series;
mod soak;
mod subject;
mod tools;
mod traces;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures kayak
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Compare(compare::CompareArgs),
    Fleets(fleets::FleetsArgs),
    Soak(soak::SoakArgs),
    AskDns(dns::AskArgs),
}

fn main() -> ExitCode {
    let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(provider.is_ok(), "nothing else installs a provider");
    let result = match Cli::parse().command {
        Command::Compare(args) => block_on(compare::run(&args)),
        Command::Fleets(args) => block_on(fleets::run(&args)),
        Command::Soak(args) => block_on(soak::run(&args)),
        Command::AskDns(args) => dns::ask(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            report::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, error::BenchError>>) -> Result<T, error::BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(error::BenchError::Runtime)?.block_on(work)
}
