use std::collections::BTreeSet;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use kayak_core::cluster::Cluster;
use kayak_core::preflight::{Finding, PATH_MISSING, Severity, findings};
use kayak_engine::driver::{NodeId, NodeState};
use kayak_engine::preflight::{is_root, look_at_machine};
use serde_json::json;

use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output};
use crate::wish::ConfigArgs;

/// Tell whether a cluster can run on this machine, and what its owner should know; changes nothing
///
/// Lists errors, with which `kayak up` would refuse, warnings, and what could not be looked at.
///
/// Exit codes: 0 without errors, 1 with errors, 2 if command line or configuration are wrong.
#[derive(clap::Args)]
pub struct PreflightArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn run(cx: &Context, args: &PreflightArgs) -> Result<ExitCode, CommandError> {
    let found = look(cx, &block_on(args.config.load(cx))?.resolve()?);
    match cx.output {
        Output::Json => report::json(&found)?,
        Output::Text if found.is_empty() => report::note("nothing was found"),
        Output::Text => {
            for finding in &found {
                report::data(&text(finding));
            }
        }
    }
    let bad = found.iter().any(|finding| finding.severity == Severity::Error);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Refuses to begin as somebody else than root, who would only be told of files that are not to be read.
pub fn require_root() -> Result<(), CommandError> {
    if is_root() {
        return Ok(());
    }
    Err(CommandError::usage("only root can do this: clusters and their keys are root's")
        .hint("run the same command by `sudo`; nothing was changed"))
}

/// Refuses a cluster that could not run on this machine, before anything is touched; tells what its
/// owner should know. A node that was made is started again whatever is found: it ran here before, and a
/// machine that boots must not stay without it because its clock is not set yet. What its configuration
/// names anew must be there all the same, also while it runs: it would be stopped, and not start again.
pub fn check(cx: &Context, cluster: &Cluster, ignored: &[String]) -> Result<(), CommandError> {
    let Nodes { states, mounted } = nodes(cx, cluster);
    let running = !states.is_empty() && states.iter().all(|state| matches!(state, NodeState::Running { .. }));
    let is_new = cluster.config.machine_paths().any(|(path, _)| !mounted.contains(path));
    if running && !is_new {
        return Ok(());
    }
    let makes_one = states.is_empty() || states.contains(&NodeState::Absent);
    let is_refused = |finding: &Finding| {
        let counts = makes_one || (is_new && finding.name == PATH_MISSING);
        counts && finding.severity == Severity::Error && !ignored.iter().any(|name| name == finding.name)
    };
    let mut found = look(cx, cluster);
    found.retain(|finding| !running || finding.name == PATH_MISSING);
    let (refused, told): (Vec<_>, Vec<_>) = found.into_iter().partition(is_refused);
    let told: Vec<_> = told.into_iter().filter(|finding| finding.severity != Severity::Unknown).collect();
    let all: Vec<_> = refused.iter().chain(&told).collect();
    if cx.output == Output::Json && !all.is_empty() {
        report::json(&json!({ "event": "preflight", "findings": all }))?;
    } else {
        for finding in &told {
            report::note(&text(finding));
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    let list = refused.iter().map(text).collect::<Vec<_>>().join("\n");
    let message = format!("cluster `{}` cannot run on this machine as it is:\n{list}", cluster.name());
    Err(CommandError::usage(message)
        .hint("nothing was changed; `--ignore-preflight NAME` goes on in spite of an error"))
}

fn look(cx: &Context, cluster: &Cluster) -> Vec<Finding> {
    findings(cluster, &look_at_machine(cluster, &cx.dirs))
}

/// The nodes as the driver sees them.
#[derive(Default)]
struct Nodes {
    states: Vec<NodeState>,
    /// What they were made to see of the machine.
    mounted: BTreeSet<Utf8PathBuf>,
}

/// Asks the driver; knows nothing if it cannot tell, which those who need it to run will.
fn nodes(cx: &Context, cluster: &Cluster) -> Nodes {
    let look = async {
        let driver = cx.driver()?;
        let mut nodes = Nodes::default();
        for node in &cluster.nodes {
            let id = NodeId::new(cluster.name(), &node.name);
            nodes.states.push(driver.state(&id).await?);
            let mounts = driver.spec(&id).await?.into_iter().flat_map(|spec| spec.mounts);
            nodes.mounted.extend(mounts.map(|mount| mount.host));
        }
        Ok(nodes)
    };
    block_on(look).unwrap_or_default()
}

/// One finding in three lines.
fn text(finding: &Finding) -> String {
    let Finding { severity, name, found, matters, remedy } = finding;
    let severity = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Unknown => "unknown",
    };
    format!("  {severity} {name}: {found}\n    why: {matters}\n    do:  {remedy}")
}
