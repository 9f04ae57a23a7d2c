use std::process::ExitCode;

use kayak_core::node::{BINARY, LOG_DIR};
use kayak_core::plan::ContainerState;
use kayak_engine::asset_dir;
use kayak_engine::cluster::ClusterHandle;
use kayak_engine::driver::{ExecIo, NodeId};
use serde_json::json;
use tokio::io::AsyncRead;

use super::preflight::require_root;
use super::status::{role_name, state_name};
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output};

#[derive(clap::Subcommand)]
pub enum NodeCommand {
    /// Show the log of a unit of a node
    Logs {
        /// The node
        node: String,
        /// `agent`, `containerd` or `kubelet`
        #[arg(default_value = "agent")]
        unit: String,
        /// Go on as lines are written
        #[arg(short, long)]
        follow: bool,
        /// Only the last so many lines
        #[arg(long, default_value_t = 200, value_name = "N")]
        tail: u32,
    },
    /// Open a shell in a node, or run a command there
    Shell {
        /// The node
        node: String,
        /// The command instead of a shell
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// List the nodes
    List,
    /// List pods and containers from the runtime itself, with the API up or down
    Ps {
        /// The node
        node: String,
    },
}

pub fn run(cx: &Context, command: NodeCommand) -> Result<ExitCode, CommandError> {
    require_root()?;
    let words = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
    match command {
        NodeCommand::Logs { node, unit, follow, tail } => {
            if !unit.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return Err(CommandError::usage(format!("`{unit}` is no name of a unit")));
            }
            let lines = format!("--lines={tail}");
            let mut command = words(&["tail", &lines, &format!("{LOG_DIR}/{unit}.log")]);
            if follow {
                command.push("--follow=name".into());
            }
            exec(cx, &node, &command, Input::None)
        }
        NodeCommand::Shell { node, command } if command.is_empty() => {
            exec(cx, &node, &words(&["bash"]), Input::Terminal)
        }
        NodeCommand::Shell { node, command } => exec(cx, &node, &command, Input::Caller),
        NodeCommand::List => list(cx),
        NodeCommand::Ps { node } => {
            let format = format!("--output={}", cx.output_name());
            exec(cx, &node, &words(&[BINARY, "pods", &format]), Input::None)
        }
    }
}

fn list(cx: &Context) -> Result<ExitCode, CommandError> {
    let assets = asset_dir::read(&cx.dirs.assets(&cx.cluster_name()?))?;
    let nodes = block_on(async {
        let cluster = ClusterHandle::new(assets, cx.driver()?).await?;
        let mut nodes = Vec::new();
        for node in &cluster.assets.cluster.nodes {
            let state = cluster.driver.state(&cluster.node_id(&node.name)).await?;
            nodes.push((node.clone(), state.into()));
        }
        Ok(nodes)
    })?;
    match cx.output {
        Output::Json => {
            let nodes = nodes.iter().map(|(node, state): &(_, ContainerState)| {
                json!({ "name": node.name, "role": node.role, "address": node.address, "state": state })
            });
            report::json(&nodes.collect::<Vec<_>>())?;
        }
        Output::Text => {
            let mut table = vec![["NODE", "STATE", "ROLE", "ADDRESS"].map(str::to_owned).to_vec()];
            table.extend(nodes.iter().map(|(node, state)| {
                let (state, role) = (state_name(*state).to_owned(), role_name(node.role).to_owned());
                vec![node.name.clone(), state, role, node.address.to_string()]
            }));
            report::table(&table);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a program in a node reads from.
#[derive(Clone, Copy)]
enum Input {
    /// Nowhere: a script that runs kayak in a loop over its own input keeps it.
    None,
    /// Whatever kayak itself was given.
    Caller,
    /// The terminal, which the program also writes to.
    Terminal,
}

fn exec(cx: &Context, node: &str, command: &[String], input: Input) -> Result<ExitCode, CommandError> {
    let id = NodeId::new(cx.cluster_name()?, node);
    let code = block_on(async {
        let driver = cx.driver()?;
        let (mut nothing, mut caller) = (tokio::io::empty(), tokio::io::stdin());
        let stdin: &mut (dyn AsyncRead + Send + Unpin) = match input {
            Input::Terminal => return Ok(driver.exec(&id, command, ExecIo::Terminal).await?),
            Input::None => &mut nothing,
            Input::Caller => &mut caller,
        };
        let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
        let io = ExecIo::Streams { stdin, stdout: &mut stdout, stderr: &mut stderr };
        Ok(driver.exec(&id, command, io).await?)
    })?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}
