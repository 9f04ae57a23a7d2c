//! How a cluster goes on to be: a report now, and another one whenever something has changed. Nodes tell
//! by themselves; whatever has no events is asked again every other second.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kayak_core::assets::AssetsError;
use kayak_core::look::Look;
use kayak_core::node::BINARY;
use kayak_core::object::Object;
use kayak_core::plan::{ContainerState, Fact};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::ask::{self, Answers, ApiAnswer, NodeAnswer};
use super::{Report, certificates};
use crate::agents::{Line, told_by};
use crate::api;
use crate::cluster::ClusterHandle;
use crate::driver::{Driver, NodeId};

/// How often those are asked again who tell nothing by themselves.
const REFRESH: Duration = Duration::from_secs(2);
/// How long a node may be silent that tells something every other second.
const SILENCE: Duration = Duration::from_secs(5);
/// News that come together are told together.
const TOGETHER: Duration = Duration::from_millis(100);
/// How often certificates are looked at.
const CERTIFICATES: Duration = Duration::from_mins(1);

enum News {
    Node(String, Box<NodeAnswer>),
    Api(ApiAnswer),
}

/// Reports now, and whenever something has changed, without end. Fails only if the cluster's own files
/// cannot be read.
pub fn watch(cluster: &ClusterHandle) -> Result<impl Stream<Item = Report>, AssetsError> {
    let objects = cluster.assets.objects()?;
    Ok(futures::stream::unfold(None, move |watched: Option<Watched<'_>>| {
        let objects = objects.clone();
        async move {
            let mut watched = match watched {
                Some(mut watched) => {
                    watched.next().await?;
                    watched
                }
                None => Watched::begin(cluster, objects).await,
            };
            watched.told = watched.report();
            Some((watched.told.clone(), Some(watched)))
        }
    }))
}

/// A cluster that is watched, until this is dropped.
struct Watched<'a> {
    cluster: &'a ClusterHandle,
    objects: Vec<Object>,
    answers: Answers,
    /// What was told last.
    told: Report,
    news: mpsc::Receiver<News>,
    /// Whether a node runs: else the API is not asked.
    runs: watch::Sender<bool>,
    certificates_due: Instant,
    _tasks: JoinSet<()>,
}

impl<'a> Watched<'a> {
    async fn begin(cluster: &'a ClusterHandle, objects: Vec<Object>) -> Self {
        let start = Instant::now();
        let mut answers = ask::all(cluster).await;
        answers.seconds = start.elapsed().as_secs_f64();
        let (tell, news) = mpsc::channel(16);
        let (runs, running) = watch::channel(answers.any_node_runs());
        let mut tasks = JoinSet::new();
        for node in &cluster.assets.cluster.nodes {
            tasks.spawn(follow(Arc::clone(&cluster.driver), cluster.node_id(&node.name), tell.clone()));
        }
        tasks.spawn(ask_api(
            cluster.client().clone(),
            cluster.assets.kubeconfig(),
            ask::nodes_path(&cluster.assets.cluster),
            running,
            tell,
        ));
        let told = Report::of(&cluster.assets.cluster, &objects, &answers, OffsetDateTime::now_utc());
        let certificates_due = start + CERTIFICATES;
        Self { cluster, objects, answers, told, news, runs, certificates_due, _tasks: tasks }
    }

    fn report(&self) -> Report {
        Report::of(&self.cluster.assets.cluster, &self.objects, &self.answers, OffsetDateTime::now_utc())
    }

    /// Waits until there is something new to report.
    async fn next(&mut self) -> Option<()> {
        loop {
            if let Ok(news) = timeout_at(self.certificates_due, self.news.recv()).await {
                self.take(news?);
            } else {
                self.answers.certificates = certificates::look(self.cluster).await;
                self.certificates_due = Instant::now() + CERTIFICATES;
            }
            let together = Instant::now() + TOGETHER;
            while let Ok(Some(news)) = timeout_at(together, self.news.recv()).await {
                self.take(news);
            }
            self.runs.send_replace(self.answers.any_node_runs());
            if self.report().settled() != self.told.settled() {
                return Some(());
            }
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Node(name, answer) => drop(self.answers.nodes.insert(name, *answer)),
            News::Api(answer) => self.answers.api = answer,
        }
    }
}

/// Follows one node for ever.
async fn follow(driver: Arc<dyn Driver>, node: NodeId, tell: mpsc::Sender<News>) {
    loop {
        let next = Instant::now() + REFRESH;
        let state = ask::state(&driver, node.clone()).await;
        let look = match &state {
            Fact::Known(ContainerState::Running) => listen(&driver, &node, &tell).await,
            Fact::Known(ContainerState::Absent | ContainerState::Stopped) => ask::not_running(),
            Fact::Unknown(because) => Fact::Unknown(because.clone()),
        };
        // What ended the listening may be the node's end: then its state is another one.
        let state = ask::state(&driver, node.clone()).await;
        if tell.send(News::Node(node.name.clone(), Box::new(NodeAnswer { state, look }))).await.is_err() {
            return;
        }
        sleep_until(next).await;
    }
}

/// Passes on what is told from inside a node until it ends or falls silent, and says so.
async fn listen(driver: &Arc<dyn Driver>, node: &NodeId, tell: &mpsc::Sender<News>) -> Fact<Look> {
    let mut lines = std::pin::pin!(told_by(driver, node, &[BINARY, "look", "--follow"]));
    loop {
        let line = timeout_at(Instant::now() + SILENCE, lines.next()).await;
        let told = match line {
            Ok(Some(Line::Told(Ok(look)))) => look,
            Ok(Some(Line::Told(Err(because)) | Line::Ended(because))) => return Fact::Unknown(because),
            Ok(None) => return ask::not_running(),
            Err(_) => {
                return Fact::Unknown(format!("the node said nothing within {} s", SILENCE.as_secs()));
            }
        };
        let state = Fact::Known(ContainerState::Running);
        let answer = NodeAnswer { state, look: Fact::Known(told) };
        if tell.send(News::Node(node.name.clone(), Box::new(answer))).await.is_err() {
            return ask::not_running();
        }
    }
}

/// Asks the API for ever, while a node runs.
async fn ask_api(
    mut client: kube::Client,
    kubeconfig: String,
    nodes: String,
    mut runs: watch::Receiver<bool>,
    tell: mpsc::Sender<News>,
) {
    while runs.wait_for(|runs| *runs).await.is_ok() {
        let next = Instant::now() + REFRESH;
        let answer = ask::api(&client, &nodes).await;
        // Another controller may be the way to it now.
        if answer.ready.known().is_err()
            && let Ok(other) = api::client(&kubeconfig).await
        {
            client = other;
        }
        if tell.send(News::Api(answer)).await.is_err() {
            return;
        }
        sleep_until(next).await;
    }
}
