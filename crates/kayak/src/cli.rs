//! The command line: the tree of commands and their dispatch, nothing else.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{FromArgMatches as _, Parser, Subcommand};

use crate::commands;
use crate::context::Context;
use crate::error::CommandError;
use crate::help;
use crate::report::Output;

/// Makes Linux machines into a self-hosted Kubernetes cluster with one command
#[derive(Parser)]
#[command(version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    /// Say more; twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Print data and events for people or for scripts
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "text|json",
        hide_possible_values = true
    )]
    pub output: Output,

    /// The cluster meant, where there is more than one
    #[arg(long, global = true, env = "KAYAK_CLUSTER", value_name = "NAME", value_parser = kayak_core::config::cluster_name)]
    pub cluster: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(commands::up::UpArgs),
    Plan(commands::plan::PlanArgs),
    /// Stop the cluster's nodes, and give back all they have of the machine but their data
    ///
    /// `kayak resume` brings them back.
    Stop,
    Resume(commands::resume::ResumeArgs),
    Enable(commands::enable::EnableArgs),
    /// Let the machine not start the cluster at boot any more; what runs goes on running
    Disable,
    Preflight(commands::preflight::PreflightArgs),
    Down(commands::down::DownArgs),
    Render(commands::render::RenderArgs),
    Start(commands::start::StartArgs),
    /// Make, list and revoke the tokens by which other machines join
    #[command(subcommand)]
    Token(commands::token::TokenCommand),
    Join(commands::join::JoinArgs),
    /// Show the phases of `up`, what each is for and how it is done by hand
    Phases,
    Status(commands::status::StatusArgs),
    Support(commands::support::SupportArgs),
    Kubectl(commands::kubectl::KubectlArgs),
    Kubeconfig(commands::kubeconfig::KubeconfigArgs),
    /// Add, remove, empty and restart nodes, and look into them
    #[command(subcommand)]
    Node(commands::node::NodeCommand),
    /// Give images to nodes
    #[command(subcommand)]
    Image(commands::image::ImageCommand),
    /// Build, check and move the images that clusters are made of
    #[command(subcommand)]
    Bundle(commands::bundle::BundleCommand),
    /// List what listens for the cluster; fail if it is reached elsewhere than it should be
    Audit,
    /// Write and check configurations
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    Completions(commands::completions::CompletionsArgs),
    Man(commands::man::ManArgs),
    #[command(flatten)]
    Inside(commands::inside::InsideCommand),
}

impl Cli {
    /// Reads the arguments of this process; ends it where they ask for help or make no sense.
    pub fn of_process() -> Self {
        Self::parse(std::env::args_os().collect()).unwrap_or_else(|error| error.exit())
    }

    fn parse(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut command = help::command();
        let matches = command.try_get_matches_from_mut(for_kubectl(arguments))?;
        let cli = Self::from_arg_matches(&matches)?;
        let (mut words, mut at) = (Vec::new(), matches.subcommand());
        while let Some((name, inner)) = at {
            words.push(name);
            at = inner.subcommand();
        }
        let words = words.join(" ");
        match without_json(&words).filter(|_| cli.output == Output::Json) {
            Some(why) => {
                let refused = format!("`kayak {words}` prints no JSON: {why}");
                Err(command.error(ErrorKind::ArgumentConflict, refused))
            }
            None => Ok(cli),
        }
    }

    /// How much is logged: where nobody reads along, what was done is told too.
    pub fn verbosity(&self) -> u8 {
        let unattended = matches!(self.command, Command::Inside(_));
        self.verbose.max(u8::from(unattended))
    }

    /// Runs the command.
    pub fn run(self) -> Result<ExitCode, CommandError> {
        let cx = Context::new(self.output, self.cluster);
        match self.command {
            Command::Up(args) => commands::up::run(&cx, &args),
            Command::Plan(args) => commands::plan::run(&cx, &args),
            Command::Stop => commands::stop::run(&cx),
            Command::Resume(args) => commands::resume::run(&cx, &args),
            Command::Enable(args) => commands::enable::run(&cx, &args),
            Command::Disable => commands::disable::run(&cx),
            Command::Preflight(args) => commands::preflight::run(&cx, &args),
            Command::Down(args) => commands::down::run(&cx, &args),
            Command::Render(args) => commands::render::run(&cx, &args),
            Command::Start(args) => commands::start::run(&cx, &args),
            Command::Token(command) => commands::token::run(&cx, &command),
            Command::Join(args) => commands::join::run(&cx, &args),
            Command::Phases => commands::phases::run(&cx),
            Command::Status(args) => commands::status::run(&cx, &args),
            Command::Support(args) => commands::support::run(&cx, &args),
            Command::Kubectl(args) => commands::kubectl::run(&cx, &args),
            Command::Kubeconfig(args) => commands::kubeconfig::run(&cx, &args),
            Command::Node(command) => commands::node::run(&cx, command),
            Command::Image(command) => commands::image::run(&cx, command),
            Command::Bundle(command) => commands::bundle::run(&cx, command),
            Command::Audit => commands::audit::run(&cx),
            Command::Config(command) => commands::config::run(&cx, command),
            Command::Completions(args) => Ok(commands::completions::run(&args)),
            Command::Man(args) => commands::man::run(&args),
            Command::Inside(command) => commands::inside::run(&cx, command),
        }
    }
}

/// Says of the commands that have no JSON why that is so.
pub fn without_json(words: &str) -> Option<&'static str> {
    Some(match words {
        "kubectl" => "what it prints is kubectl's affair, which takes `-o json` after its own command",
        "node logs" => "it passes on what a program has written",
        "node shell" => "it passes on what another program prints",
        "config init" => "it is a file for people",
        "completions" => "a script is for a shell",
        "man" => "a manual page is for `man`",
        _ => return None,
    })
}

/// Marks the end of kayak's own flags after `kubectl`: all that follows is kubectl's, also what
/// kayak would understand, as `-v 6`.
fn for_kubectl(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let command = help::command();
    let takes_value = |word: &str| {
        let mut own = command.get_arguments().filter(|own| own.get_action().takes_values());
        own.any(|own| own.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long)))
    };
    let mut at = 1;
    while let Some(word) = arguments.get(at).map(|word| word.to_string_lossy().into_owned()) {
        if word == "kubectl" && arguments.get(at + 1).is_none_or(|next| next != "--") {
            arguments.insert(at + 1, "--".into());
        }
        if !word.starts_with('-') {
            break;
        }
        at += if takes_value(&word) { 2 } else { 1 };
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_refused_where_there_is_none() {
        let parse = |line: &str| Cli::parse(line.split(' ').map(OsString::from).collect());
        let refused = parse("kayak node shell n --output json").err().unwrap().to_string();
        assert!(refused.contains("`kayak node shell` prints no JSON"), "{refused}");
        assert!(parse("kayak node ps n --output json").is_ok());
        assert!(parse("kayak kubectl get nodes --output json").is_ok(), "that is kubectl's");
    }

    #[test]
    fn what_follows_kubectl_is_kubectls() {
        let split = |line: &str| {
            let words = for_kubectl(line.split(' ').map(OsString::from).collect());
            words.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(split("kayak kubectl -v 6 get pods"), "kayak kubectl -- -v 6 get pods");
        assert_eq!(
            split("kayak -v --cluster kubectl --output=json kubectl exec p -- ls"),
            "kayak -v --cluster kubectl --output=json kubectl -- exec p -- ls"
        );
        assert_eq!(split("kayak kubectl -- get pods"), "kayak kubectl -- get pods");
        assert_eq!(split("kayak node shell n kubectl -v"), "kayak node shell n kubectl -v");
    }

    #[test]
    fn the_command_line_is_consistent() {
        help::command().debug_assert();
    }
}
