//! What the same binary is inside nodes and containers; hidden from people.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use kayak_agent::{agent, etcd, init, instance, look, member, pods, probe, sockets, status};
use kayak_core::node::CONFIG_PATH;
use kayak_core::pods::PodRow;
use kayak_core::sockets::SocketRow;

use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output};

/// Less than the kubelet waits for the probe, so that the reason is told.
const PROBE_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Subcommand)]
pub enum InsideCommand {
    /// The first process of a node
    #[command(hide = true)]
    Init,
    /// The node's agent
    #[command(hide = true)]
    Agent,
    /// Start a component on its instance address
    #[command(hide = true)]
    Instance(InstanceArgs),
    /// Start etcd as a member of the cluster
    #[command(hide = true)]
    Member(MemberArgs),
    /// Take another node's member out of etcd
    #[command(hide = true)]
    EtcdRemove {
        /// Which node's
        node: String,
    },
    /// Ask a component how it is
    #[command(hide = true)]
    Probe(ProbeArgs),
    /// List pods and containers of this node
    #[command(hide = true)]
    Pods {
        /// With so many last lines of each log
        #[arg(long, default_value_t = 0, value_name = "N")]
        tail: usize,
    },
    /// List the sockets of this node that wait for anybody
    #[command(hide = true)]
    Sockets,
    /// Tell all that can be asked inside this node, as JSON
    #[command(hide = true)]
    Look {
        /// Now and again and again
        #[arg(long)]
        follow: bool,
    },
    /// Tell what the agent sees
    #[command(hide = true)]
    AgentStatus {
        /// Now and at every change
        #[arg(long)]
        follow: bool,
    },
}

#[derive(clap::Args)]
pub struct InstanceArgs {
    /// Wait until this answers 200
    #[arg(long, value_name = "URL", requires = "wait_ca")]
    wait: Option<String>,
    /// The CA that signed its certificate
    #[arg(long, value_name = "FILE")]
    wait_ca: Option<PathBuf>,
    /// The client certificate to show to it
    #[arg(long, value_name = "FILE", requires = "wait_key")]
    wait_cert: Option<PathBuf>,
    /// The client certificate's key
    #[arg(long, value_name = "FILE", requires = "wait_cert")]
    wait_key: Option<PathBuf>,
    /// The component and its flags
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(clap::Args)]
pub struct MemberArgs {
    /// The node's name, also the member's
    #[arg(long)]
    name: String,
    /// The CA that signed other members' certificates
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The client certificate to show to them
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// The client certificate's key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// etcd and its flags
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(clap::Args)]
pub struct ProbeArgs {
    /// The address, if not the instance's own
    #[arg(long)]
    address: Option<IpAddr>,
    /// The port
    #[arg(long)]
    port: u16,
    /// The path that answers 200
    #[arg(long)]
    path: String,
    /// The CA that signed the certificate
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The name in the certificate
    #[arg(long)]
    server_name: String,
    /// The client certificate to show
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The client certificate's key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

pub fn run(cx: &Context, command: InsideCommand) -> Result<ExitCode, CommandError> {
    match command {
        InsideCommand::Init => init::run(&["agent".into()])?,
        InsideCommand::Agent => agent::run(CONFIG_PATH.as_ref())?,
        InsideCommand::Instance(args) => match instance::run(&args.into())? {},
        InsideCommand::Member(args) => member::run(&args.into())?,
        InsideCommand::EtcdRemove { node } => {
            block_on(async { Ok(etcd::remove(CONFIG_PATH.as_ref(), &node).await?) })?;
        }
        InsideCommand::Probe(args) => probe::run(&args.into())?,
        InsideCommand::Pods { tail } => {
            let rows = block_on(async { Ok(pods::list(tail).await?) })?;
            print(cx, &rows)?;
        }
        InsideCommand::Sockets => {
            let rows = block_on(async { Ok(sockets::list().await?) })?;
            print_sockets(cx, &rows)?;
        }
        InsideCommand::Look { follow: true } => {
            block_on(async { Ok(look::follow(tokio::io::stdout()).await?) })?;
        }
        InsideCommand::Look { follow: false } => {
            report::json(&block_on(async { Ok(look::once().await) })?)?;
        }
        InsideCommand::AgentStatus { follow: true } => {
            block_on(async { Ok(status::follow(tokio::io::stdout()).await?) })?;
        }
        InsideCommand::AgentStatus { follow: false } => {
            report::json(&block_on(async { Ok(status::read().await?) })?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(cx: &Context, pods: &[PodRow]) -> Result<(), CommandError> {
    if cx.output == Output::Json {
        return Ok(report::json(&pods)?);
    }
    let header = ["NAMESPACE", "POD", "CONTAINER", "STATE", "RESTARTS", "AGE", "IMAGE"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    for pod in pods {
        for container in &pod.containers {
            let exit = container.exit.as_ref().map(|exit| format!(" ({}, {})", exit.code, exit.reason));
            table.push(vec![
                pod.namespace.clone(),
                pod.name.clone(),
                container.name.clone(),
                format!("{}{}", container.state, exit.unwrap_or_default()),
                container.restarts.to_string(),
                age(container.age_seconds),
                container.image.clone(),
            ]);
        }
    }
    report::table(&table);
    Ok(())
}

fn print_sockets(cx: &Context, sockets: &[SocketRow]) -> Result<(), CommandError> {
    if cx.output == Output::Json {
        return Ok(report::json(&sockets)?);
    }
    let header = ["PROTOCOL", "ADDRESS", "PID", "PROGRAM", "OWNER"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    for socket in sockets {
        let (protocol, address) = (socket.protocol.to_string(), socket.address.to_string());
        let mut row = |[pid, program, owner]: [String; 3]| {
            table.push(vec![protocol.clone(), address.clone(), pid, program, owner]);
        };
        if socket.processes.is_empty() {
            row(["-", "-", "none of this node"].map(str::to_owned));
        }
        for process in &socket.processes {
            row([process.pid.to_string(), process.program.clone(), process.owner.to_string()]);
        }
    }
    report::table(&table);
    Ok(())
}

/// Seconds as kubectl writes ages.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

impl From<InstanceArgs> for instance::Options {
    fn from(args: InstanceArgs) -> Self {
        let identity = args.wait_cert.zip(args.wait_key).map(|(cert, key)| probe::Identity { cert, key });
        let wait = args.wait.zip(args.wait_ca).map(|(url, ca)| instance::Awaited { url, ca, identity });
        Self { wait, command: args.command }
    }
}

impl From<MemberArgs> for member::Options {
    fn from(args: MemberArgs) -> Self {
        Self {
            name: args.name,
            place: member::Place::of_node(),
            ca: args.ca,
            identity: member::Identity { cert: args.cert, key: args.key },
            command: args.command,
        }
    }
}

impl From<ProbeArgs> for probe::Options {
    fn from(args: ProbeArgs) -> Self {
        Self {
            address: args.address,
            port: args.port,
            path: args.path,
            ca: args.ca,
            server_name: args.server_name,
            identity: args.cert.zip(args.key).map(|(cert, key)| probe::Identity { cert, key }),
            timeout: PROBE_TIMEOUT,
        }
    }
}
