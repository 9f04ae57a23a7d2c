mod count;
mod drain;
mod list;
mod reboot;

use std::process::ExitCode;

use kayak_core::node::{BINARY, LOG_DIR};
use kayak_engine::driver::{ExecIo, NodeId};
use tokio::io::AsyncRead;

use super::preflight::require_root;
use crate::context::{Context, block_on};
use crate::error::CommandError;

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
    /// List the nodes, those among them that are there and no longer wished
    List,
    /// Add nodes
    ///
    /// The same as `up` with a larger number: it is written into the configuration, and the names follow from it.
    Add(count::AddArgs),
    /// Remove nodes, dead or alive
    ///
    /// Pods are evicted first, as budgets for disruption allow; those of DaemonSets stay to the end. A controller
    /// leaves etcd, which is refused where the others would be no majority. Then the node goes with its files,
    /// keys among them, and its Node object.
    Remove(count::RemoveArgs),
    /// Keep new pods from a node, and evict those that run there
    ///
    /// Pods of DaemonSets stay. Budgets for disruption are respected: what they hold back longer than that is an
    /// error, and the node stays without new pods.
    Drain {
        /// The node
        node: String,
        /// How long pods may take
        #[arg(long, default_value_t = 180, value_name = "SECONDS")]
        patience: u64,
    },
    /// Start nodes anew, one after another
    ///
    /// The next one goes when all members of etcd are connected and all API servers ready. Pods stay on their
    /// nodes, and start again with them.
    Reboot(reboot::RebootArgs),
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
        NodeCommand::List => list::run(cx),
        NodeCommand::Add(args) => count::add(cx, args),
        NodeCommand::Remove(args) => count::remove(cx, args),
        NodeCommand::Drain { node, patience } => drain::run(cx, &node, patience),
        NodeCommand::Reboot(args) => reboot::run(cx, &args),
        NodeCommand::Ps { node } => {
            let format = format!("--output={}", cx.output_name());
            exec(cx, &node, &words(&[BINARY, "pods", &format]), Input::None)
        }
    }
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
