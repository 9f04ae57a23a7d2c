//! Asks one instance, or the front of another node, again and again whether it is ready.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use kayak_core::chain::chain;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant as Deadline, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::health::{Answer, Established, Health, Manner};
use super::pool::Pool;
use crate::tls::{TlsError, client_config};

/// How long clients are given to one that leaves, while a new connection may lead to the next.
const NEXT: Duration = Duration::from_millis(400);
/// The check that fails when an API server was told to end (`pkg/server/healthz/healthz.go`).
const LEAVES: &str = "shutdown";
/// The verbose answer of an API server that is not ready has some kilobytes.
const BODY_LIMIT: usize = 64 << 10;

/// What one component's instances are asked, and whom to believe.
pub(super) struct Prober {
    pub(super) server_name: ServerName<'static>,
    pub(super) path: String,
    pub(super) trust: Trust,
}

type Connection = SendRequest<Empty<Bytes>>;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("failed to connect")]
    Connect(#[source] std::io::Error),
    #[error("failed to prepare TLS")]
    Trust(#[source] TlsError),
    #[error("failed to agree on TLS")]
    Tls(#[source] std::io::Error),
    #[error("failed to start HTTP")]
    Start(#[source] hyper::Error),
    #[error("failed to write the request")]
    Request(#[source] hyper::http::Error),
    #[error("failed to ask")]
    Ask(#[source] hyper::Error),
    #[error("failed to read the answer")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Who is probed.
pub(super) struct Target {
    pub(super) uid: String,
    pub(super) address: SocketAddr,
    pub(super) manner: Manner,
}

/// Probes the target for as long as it is in the pool.
pub(super) async fn run(prober: Arc<Prober>, pool: Pool, target: Target) {
    let Target { uid, address, manner } = target;
    let mut health = Health::new(manner);
    let mut kept = None;
    let (mut ready, mut patience) = (false, manner.patience);
    loop {
        let asked = Instant::now();
        let answer = {
            let question = Question { address, is_front: manner.is_front, ready, patience };
            let ask = prober.ask(&question, &mut kept);
            tokio::pin!(ask);
            let in_time = timeout(manner.doubt, &mut ask).await.ok();
            if in_time.is_none() && ready {
                pool.set_ready(&uid, Some(&silence(manner.doubt)));
            }
            match in_time {
                Some(answer) => answer,
                None => ask.await,
            }
        };
        let verdict = health.judge(answer, asked, Instant::now());
        pool.set_ready(&uid, verdict.because.as_deref());
        match verdict.established {
            Established::Kept => {}
            Established::Moved => pool.move_away(&uid),
            Established::Closed => pool.close(&uid),
        }
        (ready, patience) = (verdict.because.is_none(), verdict.patience);
        tokio::time::sleep(verdict.pause).await;
    }
}

fn silence(patience: Duration) -> String {
    format!("it does not answer within {patience:?}")
}

/// One probe.
struct Question {
    address: SocketAddr,
    is_front: bool,
    /// Whether it was ready when it was asked last.
    ready: bool,
    patience: Duration,
}

impl Prober {
    /// Asks over the kept connection if there is one, and keeps one to ask over again.
    async fn ask(&self, question: &Question, kept: &mut Option<Connection>) -> Answer {
        let Question { address, is_front, ready, patience } = *question;
        let mut deadline = Deadline::now() + patience;
        let mut leaving = None;
        if let Some(connection) = kept.take() {
            match timeout_at(deadline, self.ask_over(connection)).await {
                Ok(Ok((answer, connection))) if answer == Answer::Ready || !is_front => {
                    *kept = Some(connection);
                    return answer;
                }
                // This connection leads to an instance that leaves; a new one may lead to the next.
                Ok(Ok(unready)) => leaving = Some(unready),
                // A server may close a connection that is idle.
                Ok(Err(_)) => {}
                Err(_) => return Answer::None(silence(patience)),
            }
        }
        if ready && leaving.is_some() {
            deadline = deadline.min(Deadline::now() + NEXT);
        }
        let afresh = async { self.ask_over(self.connect(address).await?).await };
        let (answer, connection) = match (timeout_at(deadline, afresh).await, leaving) {
            (Ok(Ok((Answer::Ready, connection))), _) => (Answer::Ready, connection),
            // There is no next one yet; but this one lives, and so do its connections.
            (_, Some(leaving)) => leaving,
            (Ok(Ok(asked)), None) => asked,
            (Ok(Err(error)), None) => return no_answer(&error),
            (Err(_), None) => return Answer::None(silence(patience)),
        };
        *kept = Some(connection);
        answer
    }

    async fn connect(&self, address: SocketAddr) -> Result<Connection, ProbeError> {
        let stream = TcpStream::connect(address).await.map_err(ProbeError::Connect)?;
        // Read only now: while nobody listens there may be no file yet.
        let tls = TlsConnector::from(self.trust.current().map_err(ProbeError::Trust)?);
        let stream = tls.connect(self.server_name.clone(), stream).await.map_err(ProbeError::Tls)?;
        let (connection, driver) = http1::Builder::new()
            .max_buf_size(16 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ProbeError::Start)?;
        // How it ends is seen by whoever asks over it next.
        tokio::spawn(async move { drop(driver.await) });
        Ok(connection)
    }

    async fn ask_over(&self, mut kept: Connection) -> Result<(Answer, Connection), ProbeError> {
        let request = Request::get(&self.path)
            .header("Host", self.server_name.to_str().as_ref())
            .body(Empty::new())
            .map_err(ProbeError::Request)?;
        kept.ready().await.map_err(ProbeError::Ask)?;
        let response = kept.send_request(request).await.map_err(ProbeError::Ask)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_LIMIT)
            .collect()
            .await
            .map_err(ProbeError::Read)?
            .to_bytes();
        let answer = if status == 200 {
            Answer::Ready
        } else {
            not_ready(&format!("it answers {status} to `{}`", self.path), &String::from_utf8_lossy(&body))
        };
        Ok((answer, kept))
    }
}

/// An API server that leaves listens no more, and goes on for as long as a minute for those who are still reading
/// a log (`http.Server.Shutdown`): it is not silent.
fn no_answer(error: &ProbeError) -> Answer {
    match error {
        ProbeError::Connect(refused) if refused.kind() == std::io::ErrorKind::ConnectionRefused => {
            Answer::Refused(chain(error))
        }
        error => Answer::None(chain(error)),
    }
}

/// Judges by the checks that fail, out of the list an API server answers with.
fn not_ready(said: &str, body: &str) -> Answer {
    let failing: Vec<_> = body
        .lines()
        .filter_map(|line| line.strip_prefix("[-]"))
        .filter_map(|check| check.split_whitespace().next())
        .collect();
    if failing.is_empty() {
        return Answer::NotReady(said.to_owned());
    }
    let because = format!("{said}: {}", failing.join(", "));
    if failing.contains(&LEAVES) { Answer::NotReady(because) } else { Answer::Failing(because) }
}

/// A CA bundle on disk, read when it is there and again when it was replaced.
pub(super) struct Trust {
    file: PathBuf,
    read: Mutex<Option<(SystemTime, Arc<ClientConfig>)>>,
}

impl Trust {
    pub(super) fn new(file: PathBuf) -> Self {
        let read = Mutex::new(None);
        Self { file, read }
    }

    fn current(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let modified = std::fs::metadata(&self.file).and_then(|file| file.modified());
        let modified = modified.map_err(|source| TlsError::Read { path: self.file.clone(), source })?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((when, config)) if *when == modified => Ok(Arc::clone(config)),
            _ => {
                let config = Arc::new(client_config(&self.file, None)?);
                *read = Some((modified, Arc::clone(&config)));
                Ok(config)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_leaves_is_told_from_one_that_fails() {
        let body = "[+]ping ok\n[-]etcd failed: reason withheld\n[-]informer-sync failed\nx";
        assert_eq!(not_ready("500", body), Answer::Failing("500: etcd, informer-sync".into()));
        let body = "[-]etcd failed: reason withheld\n[-]shutdown failed: reason withheld\n";
        assert_eq!(not_ready("500", body), Answer::NotReady("500: etcd, shutdown".into()));
        assert_eq!(not_ready("503", "starting"), Answer::NotReady("503".into()));
    }
}
