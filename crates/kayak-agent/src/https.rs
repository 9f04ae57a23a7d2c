//! One HTTPS request from a process that does nothing else: a probe, or waiting for etcd.
//!
//! Blocking and without a runtime, because the kubelet starts a probe every second or so.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

/// No answer of a health path is longer.
const LIMIT: u64 = 256 << 10;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// Nobody listens there.
    #[error("failed to connect to `{address}`")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS cannot be started.
    #[error("failed to start TLS with `{address}`")]
    Tls {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The request cannot be sent; also if the server's certificate is refused.
    #[error("failed to ask `{address}`")]
    Ask {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer does not come, or not in time.
    #[error("failed to read the answer of `{address}`")]
    Read {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer is not HTTP.
    #[error("failed to understand the answer of `{0}`")]
    Parse(SocketAddr),
}

/// What is asked of whom.
pub(crate) struct Request<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) path: &'a str,
    pub(crate) timeout: Duration,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends a GET request and waits for the answer.
pub(crate) fn get(tls: Arc<ClientConfig>, request: &Request<'_>) -> Result<Answer, HttpsError> {
    let address = request.address;
    let deadline = Instant::now() + request.timeout;
    let stream = TcpStream::connect_timeout(&address, request.timeout)
        .map_err(|source| HttpsError::Connect { address, source })?;
    let session = ClientConnection::new(tls, request.server_name.clone())
        .map_err(|source| HttpsError::Tls { address, source })?;
    let socket = Deadlined { stream, deadline };
    let mut stream = StreamOwned::new(session, socket);
    // Version 1.0: the answer ends with the connection and comes in one piece.
    let host = request.server_name.to_str();
    let head = format!("GET {} HTTP/1.0\r\nHost: {host}\r\n\r\n", request.path);
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.flush())
        .map_err(|source| HttpsError::Ask { address, source })?;
    let mut answer = Vec::new();
    match stream.take(LIMIT).read_to_end(&mut answer) {
        // Closed without saying so in TLS: what was cut off, if anything, is part of the body.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        Err(source) => return Err(HttpsError::Read { address, source }),
        Ok(_) => {}
    }
    parse(&String::from_utf8_lossy(&answer)).ok_or(HttpsError::Parse(address))
}

/// A socket on which everything together may take until the deadline.
struct Deadlined {
    stream: TcpStream,
    deadline: Instant,
}

impl Deadlined {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }
}

impl Read for Deadlined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Deadlined {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    if !words.next()?.starts_with("HTTP/1.") {
        return None;
    }
    Some(Answer { status: words.next()?.parse().ok()?, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = parse("HTTP/1.0 500 Internal Server Error\r\nA: b\r\n\r\n[-]etcd\n").unwrap();
        assert_eq!(answer.status, 500);
        assert_eq!(answer.body, "[-]etcd\n");
        assert_eq!(parse("SSH-2.0\r\n\r\n"), None);
        assert_eq!(parse("HTTP/1.1 200"), None);
    }
}
