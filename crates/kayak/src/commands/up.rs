use std::process::ExitCode;
use std::time::{Duration, Instant};

use kayak_core::assets::Assets;
use kayak_core::object::ObjectId;
use kayak_core::plan::{Fact, ObjectSeen, Observed, PhaseId, Plan, lint, plan};
use kayak_engine::asset_dir;
use kayak_engine::cluster::ClusterHandle;
use kayak_engine::event::Event;
use kayak_engine::execute::Executor;
use kayak_engine::observe::observe;
use kayak_engine::store::Store;

use super::kubectl;
use crate::context::{ConfigArgs, Context, block_on, render};
use crate::error::CommandError;
use crate::report::{self, Output, Progress};

/// Bring the cluster up; running it again changes nothing
#[derive(clap::Args)]
pub struct UpArgs {
    #[command(flatten)]
    config: ConfigArgs,

    #[command(flatten)]
    how: BringUpArgs,
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
}

fn phase(name: &str) -> Result<PhaseId, String> {
    let names = PhaseId::ALL.map(PhaseId::name).join(", ");
    PhaseId::ALL.into_iter().find(|p| p.name() == name).ok_or_else(|| format!("one of {names}"))
}

pub fn run(cx: &Context, args: &UpArgs) -> Result<ExitCode, CommandError> {
    let config = args.config.load(cx)?;
    let assets = render(&config, &cx.dirs.assets(&config.name))?;
    bring_up(cx, assets, &args.how)
}

/// Brings a rendered cluster up: what `up` and `start` have in common.
pub fn bring_up(cx: &Context, assets: Assets, how: &BringUpArgs) -> Result<ExitCode, CommandError> {
    let start = Instant::now();
    let progress = Progress::new(cx.output);
    let name = assets.cluster.name().to_owned();
    let _lock = cx.lock(&name)?;
    let bundle = cx.bundle(&progress)?;
    asset_dir::write(&cx.dirs.assets(&name), &assets)?;
    let finished = block_on(async {
        let store = cx.store(&bundle, &progress).await?;
        let cluster = ClusterHandle::new(assets, cx.driver()?).await?;
        execute(&cluster, &store, how, &progress).await
    })?;
    progress.finish();
    if finished && cx.output == Output::Text {
        summary(cx, &name, start)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Plans and executes; says whether everything was done.
async fn execute(
    cluster: &ClusterHandle,
    store: &Store,
    how: &BringUpArgs,
    progress: &Progress,
) -> Result<bool, CommandError> {
    let plan = decide(cluster, progress).await?;
    let tell = |event| progress.event(&event);
    let patience = Duration::from_secs(how.patience);
    let executor = Executor { cluster, store, tell: &tell, patience };
    for phase in &plan.phases {
        if how.until.is_some_and(|last| phase.id > last) {
            report::note(&format!(
                "stopped after `{}`; the same command without `--until` goes on from here",
                how.until.unwrap_or(phase.id)
            ));
            return Ok(false);
        }
        if how.step {
            progress.explain(phase.id);
        }
        executor.phase(phase).await?;
        if how.step {
            progress.wait_for_key();
        }
    }
    Ok(true)
}

async fn decide(cluster: &ClusterHandle, progress: &Progress) -> Result<Plan, CommandError> {
    let seen = observe(cluster).await?;
    let ids: Vec<_> = cluster.assets.objects()?.iter().map(kayak_core::object::Object::id).collect();
    let plan = plan(&cluster.assets.cluster, &ids, &seen);
    let notes = lint(&plan, &seen);
    if let Some(note) = notes.first() {
        return Err(CommandError::usage(format!("refused to execute a plan that {note}"))
            .hint("this is a bug in kayak; nothing was changed"));
    }
    let edited = edited_by_owner(&seen);
    if !edited.is_empty() {
        progress.event(&Event::LeftAlone { objects: edited });
    }
    tracing::info!("plan:\n{plan}");
    Ok(plan)
}

/// Objects whose fields somebody else set otherwise: they are listed at every run.
fn edited_by_owner(seen: &Observed) -> Vec<ObjectId> {
    let Fact::Known(api) = &seen.api else { return Vec::new() };
    let edited = api.objects.iter().filter(|(_, object)| **object == ObjectSeen::EditedByOwner);
    edited.map(|(id, _)| id.clone()).collect()
}

/// What there is now, and what to try next.
fn summary(cx: &Context, name: &str, start: Instant) -> Result<(), CommandError> {
    report::note("");
    for arguments in [
        vec!["get", "nodes", "-o", "wide"],
        vec!["-n", "kube-system", "get", "daemonsets,deployments"],
        vec!["get", "componentstatuses"],
    ] {
        let output = kubectl::output(cx, name, &arguments)?;
        report::data(&output);
        report::data("");
    }
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
