//! The probe of a control-plane container: asks the instance it runs beside whether it is well.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{InvalidDnsNameError, ServerName};

use crate::https::{self, HttpsError};
use crate::instance::{self, AddressError};
pub use crate::tls::{Identity, TlsError};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the component listens; the instance's own address if absent.
    pub address: Option<IpAddr>,
    /// The port it listens on.
    pub port: u16,
    /// The path that answers 200 if all is well.
    pub path: String,
    /// The CA bundle its certificate is verified with.
    pub ca: PathBuf,
    /// The name its certificate is verified by.
    pub server_name: String,
    /// The client certificate to show.
    pub identity: Option<Identity>,
    /// How long it may take to answer.
    pub timeout: Duration,
}

/// Why the component is not called well.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It is unknown where it listens.
    #[error("failed to find the instance's address")]
    Address(#[source] AddressError),
    /// The name cannot be in a certificate.
    #[error("failed to use `{name}` as a server's name")]
    ServerName {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: InvalidDnsNameError,
    },
    /// Certificates cannot be had.
    #[error("failed to prepare the connection")]
    Tls(#[source] TlsError),
    /// There was no answer.
    #[error("failed to get `{path}`")]
    Request {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: HttpsError,
    },
    /// It says itself that it is not well.
    #[error("it answers {status} to `{path}`: {body}")]
    Unwell {
        /// The path.
        path: String,
        /// The answer's status.
        status: u16,
        /// The answer's body.
        body: String,
    },
}

/// Returns without an error if and only if the answer is 200.
pub fn run(options: &Options) -> Result<(), ProbeError> {
    let address = match options.address {
        Some(address) => address,
        None => IpAddr::V4(instance::own_address().map_err(ProbeError::Address)?),
    };
    let name = options.server_name.clone();
    let server_name =
        ServerName::try_from(name.clone()).map_err(|source| ProbeError::ServerName { name, source })?;
    let tls = crate::tls::client_config(&options.ca, options.identity.as_ref()).map_err(ProbeError::Tls)?;
    let request = https::Request {
        address: SocketAddr::new(address, options.port),
        server_name,
        path: &options.path,
        timeout: options.timeout,
    };
    let path = options.path.clone();
    match https::get(Arc::new(tls), &request) {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(https::Answer { status, body }) => Err(ProbeError::Unwell { path, status, body }),
        Err(source) => Err(ProbeError::Request { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::testing::{acceptor, authority};

    /// Probes a server that answers as given and is asked for by `name`.
    async fn probe(answer: &'static str, name: &str) -> Result<(), ProbeError> {
        let authority = authority();
        let files = tempfile::tempdir().unwrap();
        let ca = files.path().join("ca.crt");
        std::fs::write(&ca, authority.pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options {
            address: Some([127, 0, 0, 1].into()),
            port: listener.local_addr().unwrap().port(),
            path: "/livez".into(),
            ca,
            server_name: name.into(),
            identity: None,
            timeout: Duration::from_millis(500),
        };
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // The probe refuses some of these.
            let Ok(mut stream) = acceptor(&authority, "api.test").accept(stream).await else {
                return;
            };
            let mut request = [0; 1024];
            let count = stream.read(&mut request).await.unwrap();
            assert!(request[..count].starts_with(b"GET /livez HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
        });
        tokio::task::spawn_blocking(move || run(&options)).await.unwrap()
    }

    #[tokio::test]
    async fn only_200_from_the_right_server_is_well() {
        probe("HTTP/1.0 200 OK\r\n\r\nok", "api.test").await.unwrap();
        let unwell = probe("HTTP/1.0 500 Bad\r\n\r\n[-]etcd", "api.test").await.unwrap_err();
        assert_eq!(unwell.to_string(), "it answers 500 to `/livez`: [-]etcd");
        let stranger = probe("HTTP/1.0 200 OK\r\n\r\nok", "other.test").await.unwrap_err();
        assert!(matches!(stranger, ProbeError::Request { source: HttpsError::Ask { .. }, .. }));
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_in_time_is_not_well() {
        let silent = probe("", "api.test").await.unwrap_err();
        assert!(matches!(silent, ProbeError::Request { source: HttpsError::Read { .. }, .. }));
    }
}
