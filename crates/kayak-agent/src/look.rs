//! Asks everybody inside the node at once, each with a time limit of its own: what is stopped, and still
//! has its socket open, takes a question and never answers.

use std::future::Future;
use std::time::Duration;

use kayak_core::chain::chain;
use kayak_core::look::Look;
use kayak_core::node::{CRI_SOCKET, Status};
use kayak_core::plan::Fact;
use kayak_cri::v1::VersionRequest;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::pods;
use crate::status::{self, Follower, StatusError};

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often those are asked again who tell nothing by themselves.
const REFRESH: Duration = Duration::from_secs(2);
/// Where much happens at once, it is looked at together.
const TOGETHER: Duration = Duration::from_millis(200);

/// Asks once.
pub async fn once() -> Look {
    let (look, kubelet) = tokio::join!(without_kubelet(), kubelet());
    Look { kubelet, ..look }
}

/// Writes a line now, whenever the agent tells something new, and every other second; until the reader
/// leaves.
pub async fn follow(mut writer: impl AsyncWrite + Unpin) -> Result<(), StatusError> {
    let mut agent = None;
    let mut look = once().await;
    loop {
        let next = Instant::now() + REFRESH;
        // Plain structs and maps with text keys cannot fail to serialise.
        let mut line = serde_json::to_vec(&look).unwrap_or_default();
        line.push(b'\n');
        writer.write_all(&line).await.map_err(StatusError::Write)?;
        writer.flush().await.map_err(StatusError::Write)?;
        // Either way it is looked again.
        let _news = timeout_at(next, news(&mut agent, &look.agent)).await;
        sleep(TOGETHER).await;
        // A program does not change while the node runs.
        let kubelet = match look.kubelet {
            Fact::Known(version) => Fact::Known(version),
            Fact::Unknown(_) => kubelet().await,
        };
        look = Look { kubelet, ..without_kubelet().await };
    }
}

async fn without_kubelet() -> Look {
    let (agent, pods, containerd) = tokio::join!(
        asked("the agent", status::read()),
        asked("the runtime", pods::list(0)),
        asked("containerd", containerd()),
    );
    Look { agent, pods, containerd, kubelet: Fact::Unknown("the kubelet was not asked".into()) }
}

/// Waits until the agent tells something else than is known; for ever if it cannot be followed.
async fn news(agent: &mut Option<Follower>, known: &Fact<Status>) {
    if agent.is_none() {
        *agent = Follower::connect().await.ok();
    }
    if let Some(follower) = agent {
        while let Ok(Some(status)) = follower.next().await {
            if !matches!(known, Fact::Known(known) if *known == status) {
                return;
            }
        }
    }
    *agent = None;
    std::future::pending::<()>().await;
}

async fn containerd() -> Result<String, LookError> {
    let mut runtime = kayak_cri::connect(CRI_SOCKET).await?;
    let answer = runtime.version(VersionRequest::default()).await.map_err(Box::new)?;
    Ok(answer.into_inner().runtime_version)
}

async fn kubelet() -> Fact<String> {
    asked("the kubelet's program", version("kubelet")).await
}

/// Why something has no version.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Connect(#[from] kayak_cri::ConnectError),
    #[error("failed to get the runtime's version")]
    Runtime(#[from] Box<tonic::Status>),
    #[error("failed to run `{program} --version`")]
    Run {
        program: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("`{0}` is no version")]
    Parse(String),
}

async fn version(program: &'static str) -> Result<String, LookError> {
    let output = Command::new(program).arg("--version").kill_on_drop(true).output().await;
    let output = output.map_err(|source| LookError::Run { program, source })?;
    let told = String::from_utf8_lossy(&output.stdout);
    let version = told.split_whitespace().find(|word| is_version(word));
    version.map(str::to_owned).ok_or_else(|| LookError::Parse(told.trim().to_owned()))
}

/// `v1.36.3` or `2.2.1`.
fn is_version(word: &str) -> bool {
    let word = word.strip_prefix('v').unwrap_or(word);
    word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.')
}

async fn asked<T, E: std::error::Error>(who: &str, question: impl Future<Output = Result<T, E>>) -> Fact<T> {
    match timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => Fact::Known(answer),
        Ok(Err(error)) => Fact::Unknown(format!("{who} could not be asked: {}", chain(&error))),
        Err(_) => Fact::Unknown(format!("{who} said nothing within {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_from_other_words() {
        let found = |text: &str| text.split_whitespace().find(|word| is_version(word)).map(str::to_owned);
        assert_eq!(found("Kubernetes v1.36.3"), Some("v1.36.3".into()));
        assert_eq!(found("unknown"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_unknown_and_named() {
        let silent = asked("the agent", std::future::pending::<Result<(), std::fmt::Error>>()).await;
        assert_eq!(silent, Fact::Unknown("the agent said nothing within 2 s".into()));
        let error = asked("the agent", async { Err::<(), _>(std::fmt::Error) }).await;
        assert!(
            matches!(error, Fact::Unknown(because) if because.starts_with("the agent could not be asked: "))
        );
    }
}
