//! TLS towards the node's own components: who is trusted, and by what one is known.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why a TLS connection cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// A file holds no PEM of the wanted kind.
    #[error("failed to parse `{}`", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        #[source]
        /// Why.
        source: pem::Error,
    },
    /// A certificate of the CA bundle cannot be trusted.
    #[error("failed to trust what is in `{}`", path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        #[source]
        /// Why.
        source: rustls::Error,
    },
    /// The provider cannot do it, or certificate and key do not belong together.
    #[error("failed to set up TLS")]
    Setup(#[source] rustls::Error),
}

/// The files of a client certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Reads the CA bundle, and the client certificate if there is one.
pub(crate) fn client_config(ca: &Path, identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|source| TlsError::Trust { path: ca.to_owned(), source })?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots);
    let Some(identity) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let parse = |source| TlsError::Parse { path: identity.key.clone(), source };
    let key = PrivateKeyDer::from_pem_slice(&read(&identity.key)?).map_err(parse)?;
    builder.with_client_auth_cert(certificates(&identity.cert)?, key).map_err(TlsError::Setup)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let parsed =
        found.and_then(|found| if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) });
    parsed.map_err(|source| TlsError::Parse { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
