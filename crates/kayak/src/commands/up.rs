use std::process::ExitCode;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use kayak_core::assets::CLUSTER_FILE;
use kayak_core::cluster::Cluster;
use kayak_core::config::Counts;
use kayak_core::plan::{ContainerState, Fact, Named, NodeSeen, Observed, PhaseId, Step};
use kayak_engine::asset_dir;
use kayak_engine::cluster::ClusterHandle;
use kayak_engine::event::Event;
use kayak_engine::execute::Executor;
use kayak_engine::inventory::Inventory;

use super::plan::{Decision, PlanFile, decide};
use super::{kubectl, preflight, status};
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::lock::Lock;
use crate::report::{self, Output, Progress};
use crate::wish::{ConfigArgs, NamedArgs, Rendering};

/// Bring the cluster up; running it again changes nothing
///
/// What somebody edited with kubectl stays as it is, and is listed.
#[derive(clap::Args)]
pub struct UpArgs {
    #[command(flatten)]
    config: ConfigArgs,

    #[command(flatten)]
    named: NamedArgs,

    /// Do what `plan -o FILE` planned; refused if anything has changed since
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "controllers", "workers", "revert", "remove"])]
    plan: Option<Utf8PathBuf>,

    /// Do not ask before removing what `--remove` names
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    how: BringUpArgs,
}

impl UpArgs {
    /// With other numbers of nodes, and what of them is to be removed.
    pub fn counted(counts: Counts, named: NamedArgs, yes: bool, how: BringUpArgs) -> Self {
        Self { config: ConfigArgs::counted(counts), named, plan: None, yes, how }
    }
}

/// How far to go, and how slowly.
#[derive(clap::Args)]
pub struct BringUpArgs {
    /// Stop after this phase (see `kayak phases`)
    #[arg(long, value_name = "PHASE", value_parser = phase)]
    until: Option<PhaseId>,

    /// Explain each phase, and wait for the return key after it
    #[arg(long)]
    step: bool,

    /// How long to wait for something that must happen before the next phase
    #[arg(long, default_value_t = 180, value_name = "SECONDS")]
    patience: u64,

    /// Go on in spite of these errors of `kayak preflight`
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    ignore_preflight: Vec<String>,
}

/// As good as forever: no clock counts to the largest number of seconds.
const LONGEST_PATIENCE: Duration = Duration::from_hours(24 * 365);

impl BringUpArgs {
    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience).min(LONGEST_PATIENCE)
    }
}

fn phase(name: &str) -> Result<PhaseId, String> {
    let names = PhaseId::ALL.map(PhaseId::name).join(", ");
    PhaseId::ALL.into_iter().find(|p| p.name() == name).ok_or_else(|| format!("one of {names}"))
}

pub fn run(cx: &Context, args: &UpArgs) -> Result<ExitCode, CommandError> {
    preflight::require_root()?;
    let planned = args.plan.as_deref().map(PlanFile::read).transpose()?;
    let mut named = planned.as_ref().map_or_else(|| args.named.named(), |plan| plan.named.clone());
    let wish = match &planned {
        Some(plan) => plan.wish(cx)?,
        None => block_on(args.config.load(cx))?,
    };
    if !named.remove.is_empty() && !args.yes {
        let list = named.remove.iter().cloned().collect::<Vec<_>>().join(", ");
        if !report::confirm(&format!("Delete {list}?")) {
            return Err(CommandError::usage("nothing was changed").hint("in scripts, use `--yes`"));
        }
    }
    own(cx, &wish.config.name)?;
    let lock = begin(cx, &wish.resolve()?, &args.how)?;
    let rendering = wish.render_kept(cx, &mut named)?;
    bring_up(cx, rendering, &Doing { how: &args.how, named: &named, planned: planned.as_ref() }, &lock)
}

/// Refuses where the cluster is another machine's: what it is to be is said there.
pub fn own(cx: &Context, name: &str) -> Result<(), CommandError> {
    let kept = cx.dirs.assets(name);
    if !kept.join(CLUSTER_FILE).exists() || asset_dir::read(&kept)?.cluster.joined.is_none() {
        return Ok(());
    }
    Err(CommandError::usage(format!("cluster `{name}` is another machine's, which this one has joined"))
        .hint("`kayak resume` starts this machine's node; what the cluster is to be is said there; nothing was changed"))
}

/// Takes the lock of a cluster that can run on this machine: one that is refused leaves nothing, not even
/// what the lock writes down.
pub fn begin(cx: &Context, cluster: &Cluster, how: &BringUpArgs) -> Result<Lock, CommandError> {
    preflight::check(cx, cluster, &how.ignore_preflight)?;
    cx.lock(cluster.name())
}

/// How a rendered cluster is brought up.
pub struct Doing<'a> {
    /// How far, and how slowly.
    pub how: &'a BringUpArgs,
    /// What the owner named.
    pub named: &'a Named,
    /// What was planned before.
    pub planned: Option<&'a PlanFile>,
}

/// Brings a rendered cluster up: what `up` and `start` have in common. The lock was taken before its keys
/// were read: two that make keys for one cluster would each destroy the other's.
pub fn bring_up(
    cx: &Context,
    rendering: Rendering,
    doing: &Doing<'_>,
    lock: &Lock,
) -> Result<ExitCode, CommandError> {
    let start = Instant::now();
    let name = rendering.assets.cluster.name().to_owned();
    let joined = rendering.assets.cluster.joined.is_some();
    let finished = converge(cx, rendering, doing, lock)?;
    match (finished && cx.output == Output::Text, joined) {
        (true, true) => joined_summary(&name, start),
        (true, false) => summary(cx, &name, start)?,
        (false, _) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The same without a word about what there is then; says whether everything was done.
pub fn converge(
    cx: &Context,
    rendering: Rendering,
    doing: &Doing<'_>,
    _lock: &Lock,
) -> Result<bool, CommandError> {
    let progress = Progress::new(cx.output);
    let finished = block_on(execute(cx, rendering, doing, &progress))?;
    progress.finish();
    Ok(finished)
}

/// Plans and executes; says whether everything was done.
async fn execute(
    cx: &Context,
    rendering: Rendering,
    doing: &Doing<'_>,
    progress: &Progress,
) -> Result<bool, CommandError> {
    let kept = cx.dirs.assets(rendering.assets.cluster.name());
    let cluster = ClusterHandle::new(rendering.assets, cx.driver()?).await?;
    let decision = decide(&cluster, &kept, &rendering.issued, doing.named).await?;
    if let Some(planned) = doing.planned {
        planned.check(&decision)?;
    }
    list_edits(&decision.seen, doing.named, progress);
    list_surplus(&decision.seen, doing.named);
    for aside in &decision.plan.aside {
        report::note(&format!("  this {aside}"));
    }
    if let (Fact::Unknown(_), false) = (&decision.seen.api, doing.named.remove.is_empty()) {
        report::note("nothing is removed by this run: no API tells what there is; run it again afterwards");
    }
    let store = match images_needed(&decision) {
        Needed::Whatever => Some(cx.store(progress).await?),
        Needed::IfThere => cx.store_of_bundle(progress).await?,
        Needed::Not => None,
    };
    if !decision.plan.is_empty() {
        Inventory::keep(&cx.dirs.before(cluster.assets.cluster.name()), &cx.paths())?;
    }
    let tell = |event| progress.event(&event);
    let patience = doing.how.patience();
    let executor =
        Executor { cluster: &cluster, store: store.as_ref(), assets: &kept, tell: &tell, patience };
    for phase in &decision.plan.phases {
        if doing.how.until.is_some_and(|last| phase.id > last) {
            report::note(&format!(
                "stopped after `{}`; the same command without `--until` goes on from here",
                doing.how.until.unwrap_or(phase.id)
            ));
            return Ok(false);
        }
        if doing.how.step {
            progress.explain(phase.id);
        }
        executor.phase(phase).await?;
        if doing.how.step {
            progress.wait_for_key();
        }
    }
    Ok(true)
}

/// How much the images of the bundle are needed.
enum Needed {
    /// A node is made of them.
    Whatever,
    /// A node is started that has been made of them before: it can do without.
    IfThere,
    /// No node is started.
    Not,
}

fn images_needed(decision: &Decision) -> Needed {
    let steps = decision.plan.phases.iter().flat_map(|phase| &phase.steps);
    let started: Vec<_> = steps
        .filter_map(|step| match step {
            Step::CreateNode(node) => decision.seen.nodes.get(node),
            _ => None,
        })
        .collect();
    let is_new = |node: &&NodeSeen| node.container == ContainerState::Absent || !node.outdated.is_empty();
    match (started.is_empty(), started.iter().any(is_new)) {
        (true, _) => Needed::Not,
        (false, true) => Needed::Whatever,
        (false, false) => Needed::IfThere,
    }
}

/// Lists, at every run, what somebody else has changed and is left alone.
fn list_edits(seen: &Observed, named: &Named, progress: &Progress) {
    let Fact::Known(api) = &seen.api else { return };
    for (id, edits) in api.edits() {
        if !named.revert.iter().any(|name| id.is_called(name)) {
            progress.event(&Event::LeftAlone { object: id.clone(), edits: edits.to_vec() });
        }
    }
}

/// Lists, at every run, what is no longer wished and stays until it is named.
fn list_surplus(seen: &Observed, named: &Named) {
    for id in seen.surplus().iter().filter(|id| !named.remove.iter().any(|name| id.is_called(name))) {
        report::note(&format!("  no longer wished, and left alone: {id} (`--remove {id}` deletes it)"));
    }
}

/// The same where the cluster is another machine's, and only its node is here.
fn joined_summary(name: &str, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    report::note(&format!("this machine's node of cluster `{name}` is up and ready ({seconds:.1} s)"));
    report::hint(
        "`kayak stop`, `resume`, `enable` and `down` are about this node; the rest is done where the cluster is",
    );
}

/// What there is now, and what to try next.
fn summary(cx: &Context, name: &str, start: Instant) -> Result<(), CommandError> {
    report::note("");
    let show = |arguments: &[&str]| -> Result<(), CommandError> {
        report::data(&kubectl::output(cx, name, arguments)?);
        report::data("");
        Ok(())
    };
    show(&["-n", "kube-system", "get", "daemonsets,deployments"])?;
    show(&["get", "componentstatuses"])?;
    report::data(&status::members(cx, name)?.join("\n"));
    report::data("");
    show(&["get", "nodes", "-o", "wide"])?;
    let kayak = std::env::args().next().unwrap_or_else(|| "kayak".into());
    report::note(&format!("cluster `{name}` is up ({:.1} s). Try:", start.elapsed().as_secs_f64()));
    for command in [
        "kubectl -n kube-system get pods",
        "kubectl -n kube-system logs daemonset/kube-apiserver",
        "image load app.tar",
    ] {
        report::note(&format!("  {kayak} {command}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_patience_is_too_long_for_a_clock() {
        let how = |patience| BringUpArgs { until: None, step: false, patience, ignore_preflight: Vec::new() };
        assert_eq!(how(180).patience(), Duration::from_mins(3));
        assert!(Instant::now().checked_add(how(u64::MAX).patience()).is_some());
    }
}
