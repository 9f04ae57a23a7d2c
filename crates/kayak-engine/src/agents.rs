//! What nodes' agents tell, followed once a node however many conditions are judged by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kayak_core::chain::chain;
use kayak_core::node::{BINARY, Status};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, BufReader, empty};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::driver::{Driver, ExecIo, NodeId};

/// How long to wait before an agent is followed anew: its stream ends when it is replaced.
const AGAIN: Duration = Duration::from_millis(50);

/// What an agent told last, or why it could not be heard.
pub(crate) type Told = Result<Arc<Status>, String>;

/// The agents that are followed, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Agents(Mutex<Followed>);

#[derive(Debug, Default)]
struct Followed {
    told: BTreeMap<NodeId, watch::Receiver<Option<Told>>>,
    tasks: JoinSet<()>,
}

impl Agents {
    /// What a node's agent tells, now and at every change, without end.
    pub(crate) fn of(&self, driver: &Arc<dyn Driver>, node: NodeId) -> impl Stream<Item = Told> + use<> {
        let told = {
            let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(told) = followed.told.get(&node) {
                told.clone()
            } else {
                let (tell, told) = watch::channel(None);
                followed.tasks.spawn(follow(Arc::clone(driver), node.clone(), tell));
                followed.told.insert(node, told.clone());
                told
            }
        };
        let news = futures::stream::unfold((told, true), |(mut told, first)| async move {
            // What was told before this one asked is news to it.
            if !first {
                told.changed().await.ok()?;
            }
            let now = told.borrow_and_update().clone();
            Some((now, (told, false)))
        });
        news.filter_map(std::future::ready)
    }
}

/// Follows one agent for ever.
async fn follow(driver: Arc<dyn Driver>, node: NodeId, tell: watch::Sender<Option<Told>>) {
    loop {
        let because = match driver.state(&node).await {
            Ok(_) => listen(&driver, &node, &tell).await,
            Err(error) => error.to_string(),
        };
        let because = Some(Err(because));
        tell.send_if_modified(|told| {
            let news = *told != because;
            *told = because;
            news
        });
        tokio::time::sleep(AGAIN).await;
    }
}

/// Passes on what one agent tells until it ends, and says why it did.
async fn listen(driver: &Arc<dyn Driver>, node: &NodeId, tell: &watch::Sender<Option<Told>>) -> String {
    let mut told = std::pin::pin!(told_by(driver, node, &[BINARY, "agent-status", "--follow"]));
    while let Some(line) = told.next().await {
        match line {
            Line::Told(status) => drop(tell.send_replace(Some(status.map(Arc::new)))),
            Line::Ended(because) => return because,
        }
    }
    "the agent's status ended".into()
}

/// What a program in a node does.
#[derive(Debug)]
pub(crate) enum Line<T> {
    /// It has told something, or what cannot be understood.
    Told(Result<T, String>),
    /// It has ended, and why.
    Ended(String),
}

/// What a program in a node tells, a JSON document a line. It is ended when this is dropped.
pub(crate) fn told_by<T: DeserializeOwned>(
    driver: &Arc<dyn Driver>,
    node: &NodeId,
    command: &[&str],
) -> impl Stream<Item = Line<T>> + use<T> {
    let command: Vec<_> = command.iter().map(|&word| word.to_owned()).collect();
    let (driver, node) = (Arc::clone(driver), node.clone());
    let (reader, mut writer) = tokio::io::duplex(64 * 1024);
    let mut program = JoinSet::new();
    program.spawn(async move {
        let mut complaints = Vec::new();
        let io = ExecIo::Streams { stdin: &mut empty(), stdout: &mut writer, stderr: &mut complaints };
        match driver.exec(&node, &command, io).await {
            Err(error) => chain(&error),
            Ok(code) => {
                let complaints = String::from_utf8_lossy(&complaints);
                format!("`{}` ended with {code}: {}", command.join(" "), complaints.trim())
            }
        }
    });
    let lines = BufReader::new(reader).lines();
    futures::stream::unfold(Some((lines, program)), |state| async move {
        let (mut lines, mut program) = state?;
        if let Ok(Some(line)) = lines.next_line().await {
            let told = serde_json::from_str(&line).map_err(|e| format!("what it tells cannot be read: {e}"));
            return Some((Line::Told(told), Some((lines, program))));
        }
        let because = program.join_next().await.and_then(Result::ok);
        Some((Line::Ended(because.unwrap_or_else(|| "it was given up".into())), None))
    })
}
