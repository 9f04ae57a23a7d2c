use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::assets::{Content, is_secret};
use kayak_core::fields::{Change, changes};
use kayak_core::object::ObjectId;
use kayak_core::pki::Authority;
use kayak_core::plan::{
    ContainerState, Edit, Fact, Misnamed, Named, Note, ObjectSeen, Observed, Plan, Step, Wish as Wished,
    lint, plan,
};
use kayak_engine::cluster::ClusterHandle;
use kayak_engine::keystore::{ENCRYPTION, SERVICE_ACCOUNT};
use kayak_engine::observe::observe;
use serde::{Deserialize, Serialize};
use similar::TextDiff;
use time::OffsetDateTime;

use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output};
use crate::wish::{ConfigArgs, NamedArgs, Wish, read};

/// How many differences an error shows.
const SHOWN: usize = 8;

/// Show what `up` would do, and change nothing
///
/// Everything is looked at, nothing remembered: a cluster that is as wished plans nothing.
#[derive(clap::Args)]
pub struct PlanArgs {
    #[command(flatten)]
    config: ConfigArgs,

    #[command(flatten)]
    named: NamedArgs,

    /// Show how objects and files would change
    #[arg(short, long)]
    diff: bool,

    /// Write the plan to a file for `up --plan FILE`
    #[arg(short = 'o', long, value_name = "FILE")]
    out: Option<Utf8PathBuf>,
}

/// A decision, with all that it was made from.
pub struct Decision {
    /// What is to be done.
    pub plan: Plan,
    /// What was found.
    pub seen: Observed,
}

/// A plan in a file: executed only where the same is found again.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// The version of kayak that planned.
    kayak: String,
    /// The cluster's name.
    pub cluster: String,
    /// The configuration's text.
    source: String,
    /// Whether it was given when this was planned.
    given: bool,
    /// What the owner named.
    pub named: Named,
    observed: Observed,
    plan: Plan,
}

#[derive(Debug, thiserror::Error)]
enum PlanError {
    #[error("failed to write `{path}`")]
    Write { path: Utf8PathBuf, source: std::io::Error },
    #[error("`{path}` is no plan of this kayak")]
    NoPlan { path: Utf8PathBuf, source: serde_json::Error },
}

/// What `kayak plan` without options says.
pub async fn described(cx: &Context) -> Result<String, CommandError> {
    let (_, cluster, decision) = made(cx, &ConfigArgs::default(), Named::default()).await?;
    Ok(text(&view(&cluster, &decision, false).await?, false))
}

async fn made(
    cx: &Context,
    config: &ConfigArgs,
    mut named: Named,
) -> Result<(Wish, ClusterHandle, Decision), CommandError> {
    let wish = config.load(cx).await?;
    let rendering = wish.render_kept(cx, &mut named)?;
    let kept = cx.dirs.assets(&wish.config.name);
    let cluster = ClusterHandle::new(rendering.assets, cx.driver()?).await?;
    let decision = decide(&cluster, &kept, &rendering.issued, &named).await?;
    Ok((wish, cluster, decision))
}

pub fn run(cx: &Context, args: &PlanArgs) -> Result<ExitCode, CommandError> {
    let named = args.named.named();
    block_on(async {
        let wish = args.config.load(cx).await?;
        let Decision { plan, seen } = show(cx, &wish, &named, args.diff).await?;
        if let Some(path) = &args.out {
            let file = PlanFile {
                kayak: env!("CARGO_PKG_VERSION").into(),
                cluster: wish.config.name,
                source: wish.source,
                given: wish.given,
                named,
                observed: seen,
                plan,
            };
            let text = serde_json::to_string_pretty(&file)?;
            std::fs::write(path, text).map_err(|source| PlanError::Write { path: path.clone(), source })?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Plans for a wish, and prints what would be done.
pub async fn show(cx: &Context, wish: &Wish, named: &Named, diff: bool) -> Result<Decision, CommandError> {
    let mut named = named.clone();
    let rendering = wish.render_kept(cx, &mut named)?;
    let kept = cx.dirs.assets(&wish.config.name);
    let cluster = ClusterHandle::new(rendering.assets, cx.driver()?).await?;
    let decision = decide(&cluster, &kept, &rendering.issued, &named).await?;
    let view = view(&cluster, &decision, diff).await?;
    match cx.output {
        Output::Json => report::json(&view)?,
        Output::Text => report::data(&text(&view, diff)),
    }
    Ok(decision)
}

/// Looks, plans, and checks the plan.
pub async fn decide(
    cluster: &ClusterHandle,
    kept: &Utf8Path,
    issued: &BTreeMap<String, String>,
    named: &Named,
) -> Result<Decision, CommandError> {
    let seen = observe(cluster, kept, issued, OffsetDateTime::now_utc()).await?;
    let ids: Vec<_> = cluster.assets.objects()?.iter().map(kayak_core::object::Object::id).collect();
    if let Some(id) = lost_root(&seen) {
        return Err(CommandError::failed(format!("`{id}` is not in {kept}/tls, and the cluster was made with it"))
            .hint("bring it back from a backup: a new one could not read what the cluster holds; nothing was changed"));
    }
    if let Some(misnamed) = named.misnamed(&ids, &seen) {
        let hint = match misnamed {
            Misnamed::Nothing { .. } => "`kayak plan` lists what was edited and what is no longer wished",
            Misnamed::Several { .. } => "name one of them as it is written there",
        };
        return Err(CommandError::usage(misnamed.to_string()).hint(format!("{hint}; nothing was changed")));
    }
    let plan = plan(&Wished { cluster: &cluster.assets.cluster, objects: &ids, named }, &seen);
    if let Some(note) = lint(&plan, &seen).first() {
        let hint = match note {
            Note::LosesQuorum { .. } => {
                "bring the other controllers back first: `kayak resume`; nothing was changed"
            }
            Note::TemporaryRemovedTooEarly { .. }
            | Note::ActsOnUnknown { .. }
            | Note::TemporaryStays { .. }
            | Note::BeginsAnother { .. }
            | Note::RemovesWished { .. }
            | Note::AppliesWithoutApi
            | Note::NodeStaysStopped { .. }
            | Note::DeletesWished { .. } => "this is a bug in kayak; nothing was changed",
        };
        return Err(CommandError::failed(format!("refused to execute a plan that {note}")).hint(hint));
    }
    tracing::info!("plan:\n{plan}");
    Ok(Decision { plan, seen })
}

/// A key that all of a cluster rests on and that is not there, although a node is.
fn lost_root(seen: &Observed) -> Option<&str> {
    let is_root = |id: &&String| {
        [SERVICE_ACCOUNT, ENCRYPTION].contains(&id.as_str()) || Authority::ALL.iter().any(|ca| ca.id() == *id)
    };
    let made = seen.nodes.values().any(|node| node.container != ContainerState::Absent);
    seen.assets.issue.keys().find(is_root).map(String::as_str).filter(|_| made)
}

impl PlanFile {
    /// Reads a plan that `kayak plan -o` wrote.
    pub fn read(path: &Utf8Path) -> Result<Self, CommandError> {
        let text = read(path).map_err(CommandError::of_usage)?;
        let file: Self = serde_json::from_str(&text).map_err(|source| {
            CommandError::from(PlanError::NoPlan { path: path.to_owned(), source }).of_usage()
        })?;
        if file.kayak != env!("CARGO_PKG_VERSION") {
            return Err(CommandError::usage(format!("`{path}` was planned by kayak {}", file.kayak))
                .hint("plan again; nothing was changed"));
        }
        Ok(file)
    }

    /// The wish that was planned for.
    pub fn wish(&self, cx: &Context) -> Result<Wish, CommandError> {
        if cx.cluster.as_ref().is_some_and(|name| *name != self.cluster) {
            return Err(CommandError::usage(format!("the plan is for cluster `{}`", self.cluster)));
        }
        let cx = Context::new(cx.output, Some(self.cluster.clone()));
        Ok(Wish { given: self.given, ..Wish::parse(&cx, self.source.clone(), "the plan")? })
    }

    /// Refuses where something else is found than what was planned for.
    pub fn check(&self, now: &Decision) -> Result<(), CommandError> {
        if self.observed.shows_the_same(&now.seen) && self.plan == now.plan {
            return Ok(());
        }
        let (then, now) = (serde_json::to_value(&self.observed)?, serde_json::to_value(&now.seen)?);
        let mut message = String::from("the cluster is no longer as it was when this was planned:");
        for change in changes(&then, &now, false).iter().take(SHOWN) {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
            let _ = write!(message, "\n  {}: {} → {}", change.field, value(&change.from), value(&change.to));
        }
        Err(CommandError::usage(message).hint("plan again; nothing was changed"))
    }
}

/// All that is shown of a decision.
#[derive(Serialize)]
struct View<'a> {
    plan: &'a Plan,
    /// Why keys and certificates are issued, by their ids.
    issue: &'a BTreeMap<String, String>,
    /// What changes in objects.
    objects: Vec<(&'a ObjectId, &'a [Change])>,
    /// What changes in nodes' files.
    files: Vec<FileDiff>,
    /// What somebody else has set otherwise, and is left alone.
    left_alone: Vec<(&'a ObjectId, &'a [Edit])>,
    /// Assets that were edited by hand, and are kept.
    edited_assets: &'a [String],
    /// What is no longer wished, and stays until it is named.
    no_longer_wished: BTreeSet<ObjectId>,
}

#[derive(Serialize)]
struct FileDiff {
    node: String,
    path: String,
    diff: String,
}

async fn view<'a>(
    cluster: &ClusterHandle,
    decision: &'a Decision,
    diff: bool,
) -> Result<View<'a>, CommandError> {
    let seen = &decision.seen;
    let (mut objects, mut left_alone) = (Vec::new(), Vec::new());
    if let Fact::Known(api) = &seen.api {
        left_alone.extend(api.edits());
        objects.extend(api.objects.iter().filter_map(|(id, object)| match object {
            ObjectSeen::Present { changes, .. } if !changes.is_empty() => Some((id, changes.as_slice())),
            ObjectSeen::Present { .. } | ObjectSeen::Missing => None,
        }));
    }
    Ok(View {
        plan: &decision.plan,
        issue: &seen.assets.issue,
        objects,
        files: if diff { file_diffs(cluster, &decision.plan).await? } else { Vec::new() },
        left_alone,
        edited_assets: &seen.assets.edited,
        no_longer_wished: seen.surplus(),
    })
}

async fn file_diffs(cluster: &ClusterHandle, plan: &Plan) -> Result<Vec<FileDiff>, CommandError> {
    let mut diffs = Vec::new();
    for step in plan.phases.iter().flat_map(|phase| &phase.steps) {
        let Step::WriteFiles { node, paths } = step else { continue };
        let wished = cluster.assets.node_files(node);
        for path in paths {
            let Some(Content::File(new)) = wished.get(path) else { continue };
            let old =
                cluster.driver.get(&cluster.node_id(node), Utf8Path::new(path)).await?.unwrap_or_default();
            let diff = if is_secret(path) {
                "(secret)\n".to_owned()
            } else {
                let (old, new) = (String::from_utf8_lossy(&old), String::from_utf8_lossy(new));
                TextDiff::from_lines(&old, &new).unified_diff().context_radius(2).to_string()
            };
            diffs.push(FileDiff { node: node.clone(), path: path.clone(), diff });
        }
    }
    Ok(diffs)
}

fn text(view: &View<'_>, diff: bool) -> String {
    let mut text = view.plan.to_string();
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = write!(text, "\n{title}\n");
            for line in lines {
                let _ = writeln!(text, "  {line}");
            }
        }
    };
    section("to be issued:", view.issue.iter().map(|(id, why)| format!("{id}: {why}")).collect());
    if diff {
        section(
            "changes of objects:",
            view.objects
                .iter()
                .flat_map(|(id, changes)| changes.iter().map(move |c| describe(id, c)))
                .collect(),
        );
        let lines = |file: &FileDiff| {
            let head = format!("{}:{}", file.node, file.path);
            std::iter::once(head).chain(file.diff.lines().map(|line| format!("  {line}"))).collect::<Vec<_>>()
        };
        section("changes of files:", view.files.iter().flat_map(lines).collect());
    }
    section(
        "edited by somebody else and left alone (`--revert NAME` takes an edit back):",
        view.left_alone.iter().flat_map(|(id, edits)| edits.iter().map(move |e| edited(id, e))).collect(),
    );
    section("assets edited by hand and kept (`--revert FILE` renders it anew):", view.edited_assets.to_vec());
    section(
        "no longer wished (`--remove NAME` deletes it):",
        view.no_longer_wished.iter().map(ToString::to_string).collect(),
    );
    text
}

fn describe(id: &ObjectId, change: &Change) -> String {
    let Change { field, from, to } = change;
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
    format!("{id} {field}: {} → {}", value(from), value(to))
}

/// Says what somebody has changed in an object.
pub fn edited(id: &ObjectId, edit: &Edit) -> String {
    let Change { field, from, to } = &edit.change;
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
    let by = edit.by.as_ref().map(|by| format!(", by `{by}`")).unwrap_or_default();
    format!("{id} {field} is {} instead of {}{by}", value(from), value(to))
}
