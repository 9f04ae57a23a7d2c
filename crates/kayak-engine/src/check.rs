//! Named conditions: looked at once to plan, waited for at gates. Waiting is on events: the API's
//! watches and the agent's status stream.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use kayak_core::chain::chain;
use kayak_core::checkpoint::is_checkpoint;
use kayak_core::cluster::Cluster;
use kayak_core::form::TEMPORARY;
use kayak_core::node::{CheckpointStatus, InstanceStatus, Status};
use kayak_core::object::{Object, ObjectId};
use kayak_core::plan::{Check, is_control_plane, node_id, temporary_mirrors};
use kube::api::{DynamicObject, ListParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::api::handle;
use crate::cluster::ClusterHandle;
use crate::event::{Event, Listener};
use crate::rollout::{Verdict, left_aside, node_ready, registered, rolled_out};

/// How long a condition is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// A gate that did not open.
#[derive(Debug, thiserror::Error)]
#[error("gave up after {seconds} s waiting until {check}: {because}{}", evidence_text(.evidence))]
pub struct GateError {
    /// What was waited for.
    pub check: Check,
    /// How long.
    pub seconds: u64,
    /// Why it did not hold, as last seen.
    pub because: String,
    /// The last lines that containers which are not well have logged.
    pub evidence: Vec<String>,
}

fn evidence_text(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + "\n    " + line)
}

/// Waits until a condition holds, and tells while it does not.
pub async fn wait(
    cluster: &ClusterHandle,
    check: &Check,
    patience: Duration,
    tell: Listener<'_>,
) -> Result<(), Box<GateError>> {
    let start = Instant::now();
    let mut verdicts = Box::pin(verdicts(cluster, check));
    let mut last = String::from("nothing was seen yet");
    loop {
        match timeout_at(start + patience, verdicts.next()).await {
            Ok(Some(Verdict::Holds)) => {
                tell(Event::Holds { check: check.clone(), seconds: start.elapsed().as_secs_f64() });
                return Ok(());
            }
            Ok(Some(Verdict::NotYet(because))) => {
                if because != last {
                    tell(Event::Waiting { check: check.clone(), because: because.clone() });
                    last = because;
                }
            }
            Ok(None) | Err(_) => {
                return Err(Box::new(GateError {
                    check: check.clone(),
                    seconds: start.elapsed().as_secs(),
                    because: last,
                    evidence: cluster.evidence(check).await,
                }));
            }
        }
    }
}

/// Looks at a condition once, for so long as a living cluster needs to answer.
pub async fn look(cluster: &ClusterHandle, check: &Check) -> Verdict {
    let mut verdicts = Box::pin(verdicts(cluster, check));
    match tokio::time::timeout(LOOK, verdicts.next()).await {
        Ok(Some(verdict)) => verdict,
        Ok(None) | Err(_) => Verdict::NotYet(format!("nothing was said within {} s", LOOK.as_secs())),
    }
}

/// Everything that holds while a cluster is well, and that its nodes' agents tell.
pub fn of_agents(cluster: &Cluster, objects: &[Object]) -> Vec<Check> {
    let mut checks: Vec<_> = cluster.nodes.iter().map(|n| Check::UnitsReady(n.name.clone())).collect();
    checks.extend(cluster.controllers().map(|n| Check::Member(n.name.clone())));
    checks.extend(cluster.controllers().map(|n| Check::TemporaryGone(n.name.clone())));
    checks.extend(cluster.controllers().map(|n| Check::CheckpointsIdle(n.name.clone())));
    checks.extend(cluster.controllers().map(|n| Check::SelfHostedInstance {
        node: n.name.clone(),
        component: kayak_core::component::apiserver::NAME.into(),
    }));
    let control_plane = objects.iter().map(Object::id).filter(is_control_plane);
    checks.extend(control_plane.map(|id| Check::Answers(id.name)));
    checks
}

/// The same for what the API tells, which is only worth asking if it answers.
pub fn of_api(cluster: &Cluster, objects: &[Object]) -> Vec<Check> {
    let mut checks = vec![Check::ApiServes];
    checks.extend(cluster.controllers().flat_map(|n| temporary_mirrors(&n.name)).map(Check::Absent));
    checks.extend(cluster.nodes.iter().map(|n| Check::NodeReady(n.name.clone())));
    checks.extend(
        objects.iter().map(Object::id).filter(|id| id.api_version == "apps/v1").map(Check::RolledOut),
    );
    checks
}

/// What a condition looks like, now and at every change.
fn verdicts<'a>(cluster: &'a ClusterHandle, check: &'a Check) -> BoxStream<'a, Verdict> {
    match check {
        Check::UnitsReady(node) => status(cluster, node, units_ready).boxed(),
        Check::SelfHostedInstance { node, component } => {
            status(cluster, node, move |status| self_hosted(status, component)).boxed()
        }
        Check::Member(node) => status(cluster, node, member).boxed(),
        Check::Answers(component) => anywhere(cluster, component).boxed(),
        Check::TemporaryGone(node) => status(cluster, node, temporary_gone).boxed(),
        Check::CheckpointsIdle(node) => status(cluster, node, checkpoints_idle).boxed(),
        Check::ApiServes => api_serves(cluster).boxed(),
        Check::RolledOut(id) => workload(cluster, id),
        Check::Absent(id) => absent(cluster, id),
        Check::Registered(name) => object(cluster, &node_id(name), registered),
        Check::NodeReady(name) => {
            object(cluster, &node_id(name), |seen| node_ready(&cluster.assets.cluster, seen))
        }
    }
}

/// Judges each status that a node's agent tells.
fn status<'a>(
    cluster: &'a ClusterHandle,
    node: &'a str,
    judge: impl Fn(&Status) -> Verdict + Copy + Send + 'a,
) -> impl Stream<Item = Verdict> + Send + 'a {
    cluster.agent(node).map(move |told| told.map_or_else(Verdict::NotYet, |status| judge(&status)))
}

/// Judges whether an instance answers on any controller: the newest word of each counts, and it does not
/// before all of them were heard.
fn anywhere<'a>(cluster: &'a ClusterHandle, component: &'a str) -> impl Stream<Item = Verdict> + Send + 'a {
    let controllers = cluster.assets.cluster.controllers().enumerate();
    let judge = move |status: &Status| self_hosted(status, component);
    let streams =
        controllers.map(|(i, node)| status(cluster, &node.name, judge).map(move |v| (i, v)).boxed());
    let (mut newest, all) = (BTreeMap::new(), cluster.assets.cluster.controllers().count());
    let heard = futures::stream::select_all(streams).map(move |(controller, verdict)| {
        newest.insert(controller, verdict.clone());
        let answers = newest.values().any(|verdict| *verdict == Verdict::Holds);
        if answers { Some(Verdict::Holds) } else { (newest.len() == all).then_some(verdict) }
    });
    heard.filter_map(std::future::ready)
}

pub(crate) fn units_ready(status: &Status) -> Verdict {
    let down = status.units.iter().find(|(_, unit)| !unit.ready);
    match down {
        Some((name, unit)) => {
            let because = [&unit.because, &unit.last_end];
            let because: Vec<_> = because.into_iter().flatten().map(|text| format!(": {text}")).collect();
            Verdict::NotYet(format!("{name} is not ready{}", because.concat()))
        }
        None if status.units.is_empty() => {
            let troubles = status.troubles.join(" ");
            let because = if troubles.is_empty() { "the agent prepares the node" } else { &troubles };
            Verdict::NotYet(because.into())
        }
        None => Verdict::Holds,
    }
}

pub(crate) fn self_hosted(status: &Status, component: &str) -> Verdict {
    let instances = status.fronts.get(component).map(Vec::as_slice).unwrap_or_default();
    let is_own = |instance: &&InstanceStatus| {
        instance.node.is_none() && !instance.pod.starts_with(TEMPORARY) && !is_checkpoint(&instance.pod)
    };
    // One that is being replaced may still be there beside the one that answers.
    let own: Vec<_> = instances.iter().filter(is_own).collect();
    match own.iter().find(|instance| instance.ready).or(own.first()) {
        Some(instance) if instance.ready => Verdict::Holds,
        Some(instance) => Verdict::NotYet(format!("{} runs but does not answer yet", instance.pod)),
        None => Verdict::NotYet("none runs yet".into()),
    }
}

pub(crate) fn member(status: &Status) -> Verdict {
    match &status.etcd {
        Some(member) if member.learner => Verdict::NotYet("it is still a learner".into()),
        Some(member) if member.healthy => Verdict::Holds,
        Some(member) => {
            Verdict::NotYet(member.because.clone().unwrap_or_else(|| "it does not answer".into()))
        }
        None => Verdict::NotYet("the agent has not asked it yet".into()),
    }
}

pub(crate) fn temporary_gone(status: &Status) -> Verdict {
    if status.fronts.is_empty() {
        return Verdict::NotYet("the agent has not asked the runtime yet".into());
    }
    let left: Vec<_> = status
        .fronts
        .values()
        .flatten()
        .filter(|instance| instance.node.is_none() && instance.pod.starts_with(TEMPORARY))
        .map(|instance| instance.pod.as_str())
        .collect();
    if left.is_empty() { Verdict::Holds } else { Verdict::NotYet(format!("{} still runs", left.join(", "))) }
}

pub(crate) fn checkpoints_idle(status: &Status) -> Verdict {
    if status.fronts.is_empty() {
        return Verdict::NotYet("the agent has not asked the runtime yet".into());
    }
    let active =
        status.checkpoints.iter().filter(|(_, one)| one.active).map(|(name, one)| stands_in(name, one));
    let active: Vec<_> = active.collect();
    let runs = |instance: &&InstanceStatus| instance.node.is_none() && is_checkpoint(&instance.pod);
    match (active.is_empty(), status.fronts.values().flatten().find(runs)) {
        (false, _) => Verdict::NotYet(active.join("; ")),
        (true, Some(instance)) => Verdict::NotYet(format!("{} still runs", instance.pod)),
        (true, None) => Verdict::Holds,
    }
}

fn stands_in(component: &str, checkpoint: &CheckpointStatus) -> String {
    let because = checkpoint.because.iter().map(|because| format!(", as {because}"));
    let mend = checkpoint.mend.iter().map(|mend| format!(" (`{mend}` mends it)"));
    let rest: String = because.chain(mend).collect();
    format!("a checkpoint stands in for {component}{rest}")
}

/// Asks the API for its readiness, again and again: each question is held by the agent until an API
/// server can answer it, so that there is nothing to be gained by asking less often.
fn api_serves(cluster: &ClusterHandle) -> impl Stream<Item = Verdict> + Send + '_ {
    futures::stream::unfold(false, move |again| async move {
        if again {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some((cluster.readyz().await.map_or_else(Verdict::NotYet, |()| Verdict::Holds), true))
    })
}

/// Judges a workload, now and at every change of it: nodes that go change it, too.
fn workload<'a>(cluster: &'a ClusterHandle, id: &'a ObjectId) -> BoxStream<'a, Verdict> {
    let judged = object(cluster, id, |seen| rolled_out(id, seen, 0));
    let judged = judged.then(move |verdict| async move {
        match verdict {
            Verdict::Holds => Verdict::Holds,
            Verdict::NotYet(because) => match without_the_dead(cluster, id).await {
                Ok(verdict) => verdict.unwrap_or(Verdict::NotYet(because)),
                Err(error) => {
                    Verdict::NotYet(format!("{because}; of nodes nothing is known: {}", chain(&error)))
                }
            },
        }
    });
    judged.boxed()
}

/// Judges a workload without the nodes that are dead and no longer wished, if there are any.
async fn without_the_dead(cluster: &ClusterHandle, id: &ObjectId) -> Result<Option<Verdict>, kube::Error> {
    let nodes = handle(cluster.client(), &node_id("")).list(&ListParams::default()).await?;
    let nodes: Vec<_> = nodes.into_iter().map(value).collect();
    if left_aside(&cluster.assets.cluster, None, &nodes) == 0 {
        return Ok(None);
    }
    let workload = handle(cluster.client(), id).get_opt(&id.name).await?.map(value);
    let aside = left_aside(&cluster.assets.cluster, workload.as_ref(), &nodes);
    Ok(Some(rolled_out(id, workload.as_ref(), aside)))
}

fn value(object: DynamicObject) -> Value {
    let mut value = object.data;
    value["metadata"] = serde_json::to_value(object.metadata).unwrap_or_default();
    value
}

/// Judges an object, now and at every change.
fn object<'a>(
    cluster: &ClusterHandle,
    id: &ObjectId,
    judge: impl Fn(Option<&Value>) -> Verdict + Send + 'a,
) -> BoxStream<'a, Verdict> {
    let look = move |object: DynamicObject| judge(Some(&value(object)));
    changes(cluster, id, move |event| match event {
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => Some(look(object)),
        watcher::Event::Delete(_) => Some(Verdict::NotYet("it was deleted".into())),
        watcher::Event::Init | watcher::Event::InitDone => None,
    })
}

/// Tells whether an object is there, now and when it goes.
fn absent<'a>(cluster: &ClusterHandle, id: &ObjectId) -> BoxStream<'a, Verdict> {
    let listed = || Verdict::NotYet("the API still lists it".into());
    let mut there = false;
    changes(cluster, id, move |event| match event {
        watcher::Event::Init => {
            there = false;
            None
        }
        watcher::Event::InitApply(_) | watcher::Event::Apply(_) => {
            there = true;
            Some(listed())
        }
        watcher::Event::InitDone => Some(if there { listed() } else { Verdict::Holds }),
        watcher::Event::Delete(_) => Some(Verdict::Holds),
    })
}

/// Follows one object; what the API does not tell is not known, and is followed anew.
fn changes<'a>(
    cluster: &ClusterHandle,
    id: &ObjectId,
    mut judge: impl FnMut(watcher::Event<DynamicObject>) -> Option<Verdict> + Send + 'a,
) -> BoxStream<'a, Verdict> {
    let only = watcher::Config::default().fields(&format!("metadata.name={}", id.name));
    let events = watcher(handle(cluster.client(), id), only).default_backoff();
    let verdicts = events.map(move |event| match event {
        Ok(event) => judge(event),
        Err(error) => Some(Verdict::NotYet(format!("the API does not tell: {error}"))),
    });
    verdicts.filter_map(std::future::ready).boxed()
}

#[cfg(test)]
mod tests {
    use kayak_core::checkpoint::CHECKPOINT;

    use super::*;

    #[test]
    fn an_instance_behind_another_nodes_front_is_not_this_nodes() {
        let instance = |pod: &str, node: Option<&str>| InstanceStatus {
            uid: "uid".into(),
            pod: pod.into(),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            node: node.map(str::to_owned),
            ready: true,
            because: None,
        };
        let judge = |instances: Vec<InstanceStatus>| {
            let status = Status { fronts: [("api".to_owned(), instances)].into(), ..Status::default() };
            (self_hosted(&status, "api") == Verdict::Holds, temporary_gone(&status) == Verdict::Holds)
        };
        let temporary = format!("{TEMPORARY}api");
        assert_eq!(judge(vec![instance("", Some("other"))]), (false, true));
        assert_eq!(judge(vec![instance(&temporary, Some("other")), instance("api", None)]), (true, true));
        assert_eq!(judge(vec![instance(&temporary, None), instance("", Some("other"))]), (false, false));
        assert_eq!(judge(vec![instance(&format!("{CHECKPOINT}api"), None)]), (false, true));
    }

    #[test]
    fn a_checkpoint_stands_in_until_it_runs_no_more() {
        let verdict = |pod: &str, active| {
            let instance = InstanceStatus {
                uid: "uid".into(),
                pod: pod.into(),
                address: std::net::Ipv4Addr::LOCALHOST.into(),
                node: None,
                ready: true,
                because: None,
            };
            let kept = CheckpointStatus { active, ..CheckpointStatus::default() };
            checkpoints_idle(&Status {
                fronts: [("api".to_owned(), vec![instance])].into(),
                checkpoints: [("api".to_owned(), kept)].into(),
                ..Status::default()
            })
        };
        let copy = format!("{CHECKPOINT}api");
        assert_eq!(verdict("api", false), Verdict::Holds);
        assert_eq!(verdict("api", true), Verdict::NotYet("a checkpoint stands in for api".into()));
        assert_eq!(verdict(&copy, false), Verdict::NotYet(format!("{copy} still runs")));
        assert_ne!(checkpoints_idle(&Status::default()), Verdict::Holds, "nothing was seen yet");
    }
}
