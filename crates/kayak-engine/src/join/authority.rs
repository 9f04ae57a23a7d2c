//! The CA of a cluster of which only the hash is known: the API server shows it in the handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kayak_core::join::Pin;
use kayak_core::pki::API_SERVER_NAME;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long a machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no API at an address that can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Nobody is there.
    #[error("nothing answers at {address}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else is there.
    #[error("what answers at {address} is not the cluster of this hash")]
    WrongHash {
        /// Where.
        address: SocketAddr,
    },
    /// The CA is the right one, and the server's certificate is not good.
    #[error("the API server at {address} has the right CA, and cannot prove that it is one")]
    Untrusted {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The machine cannot do TLS.
    #[error("failed to set up TLS")]
    Setup(#[source] rustls::Error),
}

/// What was learnt in the handshake.
pub(super) struct Found {
    /// The CA's certificate, PEM.
    pub(super) ca: String,
    /// The address by which this machine reached the API.
    pub(super) own_address: IpAddr,
}

/// Finds the CA with this hash at an address; whatever else is there is not spoken to.
pub(super) async fn find(address: SocketAddr, pin: &Pin) -> Result<Found, AuthorityError> {
    let unreachable = |source| AuthorityError::Unreachable { address, source };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {} s", PATIENCE.as_secs()));
    let connected = timeout(PATIENCE, TcpStream::connect(address)).await;
    let stream = connected.unwrap_or_else(|_| Err(late())).map_err(unreachable)?;
    let own_address = stream.local_addr().map_err(unreachable)?.ip();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pinned =
        Arc::new(Pinned { pin: pin.clone(), provider: Arc::clone(&provider), seen: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(AuthorityError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&pinned) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let name = ServerName::try_from(API_SERVER_NAME)
        .map_err(|error| AuthorityError::Setup(rustls::Error::General(error.to_string())))?;
    let shaken = timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    let seen = std::mem::take(&mut *pinned.seen.lock().unwrap_or_else(PoisonError::into_inner));
    match (shaken.unwrap_or_else(|_| Err(late())), seen) {
        (Ok(_), Seen::Pinned(ca)) => Ok(Found { ca: pem(&ca), own_address }),
        (Err(source), Seen::Pinned(_)) => Err(AuthorityError::Untrusted { address, source }),
        (_, Seen::Others) | (Ok(_), Seen::Nothing) => Err(AuthorityError::WrongHash { address }),
        (Err(source), Seen::Nothing) => Err(unreachable(source)),
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = BASE64.encode(certificate);
    // Base64 is ASCII: any chunk of it is text.
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// What the server has shown.
#[derive(Debug, Default)]
enum Seen {
    #[default]
    Nothing,
    /// Certificates, and none of them the pin's.
    Others,
    Pinned(CertificateDer<'static>),
}

/// Trusts whoever has a certificate by the one CA that has the hash.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Seen>,
}

impl Pinned {
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        X509Certificate::from_der(certificate)
            .is_ok_and(|(_, parsed)| Pin::of(parsed.tbs_certificate.subject_pki.raw) == self.pin)
    }

    fn saw(&self, what: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(ca) = intermediates.iter().find(|certificate| self.is_pinned(certificate)) else {
            self.saw(Seen::Others);
            return Err(CertificateError::UnknownIssuer.into());
        };
        let ca = ca.clone().into_owned();
        self.saw(Seen::Pinned(ca.clone()));
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The pin of a CA's certificate, PEM.
pub fn pin(certificate: &str) -> Option<Pin> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&pem.contents).ok()?;
    Some(Pin::of(parsed.tbs_certificate.subject_pki.raw))
}
