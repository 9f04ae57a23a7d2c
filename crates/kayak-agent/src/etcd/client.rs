//! A client of one etcd member: its JSON gateway, over one connection that is kept.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::http::Method;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::api::{Member, Members, Status, refusal};
use crate::tls::{Identity, TlsError, client_config};

/// A node that is gone does not even refuse.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Without a majority etcd would take 7 s to say so.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Some hundred bytes a member, and some kilobytes of checks that fail.
const BODY_LIMIT: usize = 64 << 10;

/// By what a member is believed, and by what it believes its client.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) ca: PathBuf,
    pub(crate) identity: Identity,
}

/// A client of the member at one address.
pub(crate) struct Client {
    address: SocketAddr,
    name: ServerName<'static>,
    access: Access,
    kept: Option<Connection>,
}

type Connection = SendRequest<Full<Bytes>>;

/// Why a member did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("failed to connect to `{address}`")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("`{0}` does not answer within {ANSWER_WITHIN:?}")]
    Silent(SocketAddr),
    /// The certificates cannot be used.
    #[error("failed to prepare TLS")]
    Access(#[source] TlsError),
    /// One of the two does not believe the other.
    #[error("failed to agree on TLS with `{address}`")]
    Tls {
        /// With whom.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What listens is no HTTP server.
    #[error("failed to start HTTP")]
    Start(#[source] hyper::Error),
    /// The request cannot be written down.
    #[error("failed to write the request")]
    Request(#[source] hyper::http::Error),
    /// The connection broke.
    #[error("failed to ask")]
    Ask(#[source] hyper::Error),
    /// The answer broke off, or is too long.
    #[error("failed to read the answer")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// In etcd's own words.
    #[error("{0}")]
    Refused(String),
    /// The answer is none of etcd's.
    #[error("failed to understand the answer")]
    Parse(#[source] serde_json::Error),
}

impl Client {
    pub(crate) fn new(address: SocketAddr, name: ServerName<'static>, access: Access) -> Self {
        Self { address, name, access, kept: None }
    }

    /// Returns the members that a majority agrees to.
    pub(crate) async fn members(&mut self) -> Result<Vec<Member>, ClientError> {
        self.change("list", &json!({ "linearizable": true })).await
    }

    /// Returns the members that this one knows of, however long ago that was.
    pub(crate) async fn known_members(&mut self) -> Result<Vec<Member>, ClientError> {
        self.change("list", &json!({ "linearizable": false })).await
    }

    pub(crate) async fn add_learner(&mut self, peer_url: &str) -> Result<Vec<Member>, ClientError> {
        self.change("add", &json!({ "peerURLs": [peer_url], "isLearner": true })).await
    }

    pub(crate) async fn remove(&mut self, id: u64) -> Result<Vec<Member>, ClientError> {
        self.change("remove", &json!({ "ID": id.to_string() })).await
    }

    pub(crate) async fn promote(&mut self, id: u64) -> Result<Vec<Member>, ClientError> {
        self.change("promote", &json!({ "ID": id.to_string() })).await
    }

    pub(super) async fn status(&mut self) -> Result<Status, ClientError> {
        self.post("/v3/maintenance/status", &json!({})).await
    }

    /// Returns nothing if the member votes and serves reads that the majority agrees to, else why not.
    pub(super) async fn unready(&mut self) -> Result<Option<String>, ClientError> {
        let (status, body) = self.ask(Method::GET, "/readyz", "").await?;
        Ok((status != 200).then(|| failing(&body)))
    }

    async fn change(&mut self, what: &str, arguments: &Value) -> Result<Vec<Member>, ClientError> {
        let answer: Members = self.post(&format!("/v3/cluster/member/{what}"), arguments).await?;
        Ok(answer.members)
    }

    async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &Value) -> Result<T, ClientError> {
        let (status, answer) = self.ask(Method::POST, path, &body.to_string()).await?;
        if status != 200 {
            return Err(ClientError::Refused(refusal(&answer)));
        }
        serde_json::from_str(&answer).map_err(ClientError::Parse)
    }

    async fn ask(&mut self, method: Method, path: &str, body: &str) -> Result<(u16, String), ClientError> {
        let kept = self.kept.take();
        let request = || {
            Request::builder()
                .method(method.clone())
                .uri(path)
                .header("Host", self.name.to_str().as_ref())
                .body(Full::from(body.to_owned()))
                .map_err(ClientError::Request)
        };
        let ask = async {
            if let Some(kept) = kept
                && let Ok(answer) = over(kept, request()?).await
            {
                return Ok(answer);
            }
            // Also after a kept connection failed: the member may have been started anew since.
            over(self.connect().await?, request()?).await
        };
        let answer = tokio::time::timeout(ANSWER_WITHIN, ask).await;
        let (status, body, kept) = answer.unwrap_or(Err(ClientError::Silent(self.address)))?;
        self.kept = Some(kept);
        Ok((status, body))
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let address = self.address;
        let stream = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|source| ClientError::Connect { address, source })?;
        // Read each time: certificates are issued anew.
        let tls = client_config(&self.access.ca, Some(&self.access.identity)).map_err(ClientError::Access)?;
        let stream = TlsConnector::from(Arc::new(tls))
            .connect(self.name.clone(), stream)
            .await
            .map_err(|source| ClientError::Tls { address, source })?;
        let (connection, driver) = http1::Builder::new()
            .max_buf_size(16 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::Start)?;
        // How it ends is seen by whoever asks over it next.
        tokio::spawn(async move { drop(driver.await) });
        Ok(connection)
    }
}

#[cfg(test)]
impl Client {
    /// Stores something.
    pub(super) async fn put(&mut self, key: &str, value: &str) {
        let _answer: Value = self.post("/v3/kv/put", &json!({ "key": key, "value": value })).await.unwrap();
    }

    /// Whether something is stored under the key.
    pub(super) async fn has(&mut self, key: &str) -> bool {
        let answer: Value = self.post("/v3/kv/range", &json!({ "key": key })).await.unwrap();
        answer["count"] == "1"
    }
}

async fn over(
    mut connection: Connection,
    request: Request<Full<Bytes>>,
) -> Result<(u16, String, Connection), ClientError> {
    connection.ready().await.map_err(ClientError::Ask)?;
    let response = connection.send_request(request).await.map_err(ClientError::Ask)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await.map_err(ClientError::Read)?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned(), connection))
}

/// Returns what fails, out of the list of checks that etcd answers with.
fn failing(body: &str) -> String {
    let failing: Vec<_> = body.lines().filter_map(|line| line.strip_prefix("[-]")).collect();
    if failing.is_empty() { body.trim().to_owned() } else { failing.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failing_checks_are_told() {
        let body = "[+]serializable_read ok\n[-]linearizable_read failed: etcdserver: no leader\n[+]non_learner ok\n";
        assert_eq!(failing(body), "linearizable_read failed: etcdserver: no leader");
        assert_eq!(failing("unwell\n"), "unwell");
    }
}
