use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use kayak_core::assets::KUBECONFIG;
use kayak_engine::api;

use super::preflight::require_root;
use crate::context::{Context, block_on};
use crate::error::CommandError;

/// Run the bundle's kubectl as the cluster's administrator
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct KubectlArgs {
    /// What kubectl is told
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

pub fn run(cx: &Context, args: &KubectlArgs) -> Result<ExitCode, CommandError> {
    require_root()?;
    let name = cx.cluster_name()?;
    cx.require_running(&name)?;
    let source = prepare(cx, &name, &args.arguments)?.exec();
    Err(KubectlError::Run(source).into())
}

/// Runs kubectl and returns what it prints.
pub fn output(cx: &Context, cluster: &str, arguments: &[&str]) -> Result<String, CommandError> {
    let arguments: Vec<_> = arguments.iter().map(|&a| a.to_owned()).collect();
    let output = prepare(cx, cluster, &arguments)?.output().map_err(KubectlError::Run)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(KubectlError::Failed { arguments: arguments.join(" "), stderr }.into())
}

#[derive(Debug, thiserror::Error)]
enum KubectlError {
    #[error("failed to run kubectl")]
    Run(#[source] std::io::Error),
    #[error("`kubectl {arguments}` failed: {stderr}")]
    Failed { arguments: String, stderr: String },
}

fn prepare(cx: &Context, cluster: &str, arguments: &[String]) -> Result<Command, CommandError> {
    let mut command = Command::new(cx.kubectl(cluster)?);
    let kubeconfig = cx.dirs.assets(cluster).join(KUBECONFIG);
    // kubectl says itself what is wrong with a file that cannot be read.
    if let Ok(text) = std::fs::read_to_string(&kubeconfig)
        && let Some(context) = block_on(async { Ok(api::detour(&text).await) })?
    {
        command.arg(format!("--context={context}"));
    }
    command.args(arguments).env("KUBECONFIG", kubeconfig);
    Ok(command)
}
