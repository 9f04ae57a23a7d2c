//! Asking a unit whether it is well.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use kayak_core::chain::chain;
use kayak_core::node::Health;
use kayak_cri::v1::VersionRequest;
use kayak_cri::{ConnectError, RuntimeClient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// With a pause of 1 s between questions, silence is seen within 3 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Of an answer, the status and the reason are of use.
const ANSWER_LIMIT: u64 = 1024;

/// Why there was no good answer.
#[derive(Debug, thiserror::Error)]
enum QuestionError {
    #[error("failed to ask {address}")]
    Ask {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{address} answers `{answer}`")]
    Unwell { address: SocketAddr, answer: String },
    #[error(transparent)]
    Connect(ConnectError),
    #[error("failed to ask the runtime for its version")]
    Version(#[source] Box<tonic::Status>),
}

/// Who is asked, and the connection that is kept.
pub(super) struct Question {
    health: Health,
    runtime: Option<RuntimeClient>,
}

impl Question {
    pub(super) fn new(health: Health) -> Self {
        Self { health, runtime: None }
    }

    /// Asks once; says why there was no good answer.
    pub(super) async fn ask(&mut self) -> Result<(), String> {
        match timeout(ANSWER_WITHIN, self.ask_patiently()).await {
            Ok(answer) => answer.map_err(|error| chain(&error)),
            Err(_) => Err(format!("it does not answer within {ANSWER_WITHIN:?}")),
        }
    }

    async fn ask_patiently(&mut self) -> Result<(), QuestionError> {
        match &self.health {
            Health::Http { address, path } => {
                let (address, answer) = (*address, get(*address, path).await);
                let answer = answer.map_err(|source| QuestionError::Ask { address, source })?;
                if answer.split_whitespace().nth(1) == Some("200") {
                    return Ok(());
                }
                let answer = answer.lines().next().unwrap_or_default().to_owned();
                Err(QuestionError::Unwell { address, answer })
            }
            Health::Runtime { socket } => {
                // Kept only if it answers: after a restart the runtime is another one.
                let mut runtime = match self.runtime.take() {
                    Some(runtime) => runtime,
                    None => kayak_cri::connect(socket).await.map_err(QuestionError::Connect)?,
                };
                let answer = runtime.version(VersionRequest::default()).await;
                answer.map_err(|status| QuestionError::Version(Box::new(status)))?;
                self.runtime = Some(runtime);
                Ok(())
            }
        }
    }
}

async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // Version 1.0: the answer ends with the connection.
    let head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_an_answer_of_200_is_good() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut question = Question::new(Health::Http { address, path: "/healthz".into() });
        tokio::spawn(async move {
            for answer in ["200 OK", "500 Internal Server Error"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"GET /healthz HTTP/1.0\r\n"));
                stream.write_all(format!("HTTP/1.0 {answer}\r\n\r\nok").as_bytes()).await.unwrap();
            }
        });
        assert_eq!(question.ask().await, Ok(()));
        let unwell = question.ask().await.unwrap_err();
        assert_eq!(unwell, format!("{address} answers `HTTP/1.0 500 Internal Server Error`"));
        let gone = question.ask().await.unwrap_err();
        assert!(gone.starts_with(&format!("failed to ask {address}: ")), "{gone}");
    }
}
