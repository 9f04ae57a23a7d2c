//! Whether the kubelet can still show who it is: it renews its certificate, but not after a year in a
//! drawer.

use std::io;
use std::time::Duration;

use kayak_core::chain::chain;
use kayak_core::host::KUBELET_PKI;
use time::OffsetDateTime;
use x509_parser::error::{PEMError, X509Error};
use x509_parser::pem::Pem;

use crate::content;
use crate::status::Board;

const SUBJECT: &str = "kubelet certificate";
/// The clock may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_hours(1);

/// Why the certificate is of no use.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("failed to read `{path}`")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to find a certificate in `{path}`")]
    Pem {
        path: String,
        #[source]
        source: PEMError,
    },
    #[error("there is no certificate in `{0}`")]
    None(String),
    #[error("failed to understand the certificate in `{path}`")]
    Parse {
        path: String,
        #[source]
        source: x509_parser::nom::Err<X509Error>,
    },
    #[error("the certificate in `{path}` expired on {day}")]
    Expired { path: String, day: time::Date },
}

/// Keeps the board up to date about it, for ever.
pub(crate) async fn run(board: Board) {
    let path = format!("{KUBELET_PKI}/kubelet-client-current.pem");
    loop {
        let watch = match content::Watch::new([&path]) {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!("failed to watch `{path}`: {error}");
                return;
            }
        };
        let now = OffsetDateTime::now_utc();
        let left = match look(&path, now) {
            Ok(end) => {
                board.mended(SUBJECT);
                (end - now).try_into().unwrap_or_default()
            }
            Err(error) => {
                let because = chain(&error);
                let sentence = format!("The kubelet cannot use its client certificate: {because}.");
                board.trouble(SUBJECT, &sentence);
                LOOK_AGAIN
            }
        };
        // The kubelet replaces it, or time passes: both lead to another look.
        let _either = tokio::time::timeout(LOOK_AGAIN.min(left), watch.event()).await;
    }
}

/// Returns when the certificate expires.
fn look(path: &str, now: OffsetDateTime) -> Result<OffsetDateTime, CertificateError> {
    let text =
        std::fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })?;
    for pem in Pem::iter_from_buffer(&text) {
        let pem = pem.map_err(|source| CertificateError::Pem { path: path.to_owned(), source })?;
        if pem.label != "CERTIFICATE" {
            continue;
        }
        let certificate = pem.parse_x509();
        let certificate =
            certificate.map_err(|source| CertificateError::Parse { path: path.to_owned(), source })?;
        let end = certificate.validity().not_after.to_datetime();
        if end <= now {
            return Err(CertificateError::Expired { path: path.to_owned(), day: end.date() });
        }
        return Ok(end);
    }
    Err(CertificateError::None(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn an_expired_certificate_and_one_that_is_none_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("current.pem").display().to_string();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(2030, 3, 1);
        let certificate = params.self_signed(&key).unwrap();
        // The kubelet keeps both in one file.
        std::fs::write(&path, format!("{}{}", key.serialize_pem(), certificate.pem())).unwrap();

        assert_eq!(look(&path, date_time_ymd(2030, 2, 28)).unwrap(), date_time_ymd(2030, 3, 1));
        let expired = look(&path, date_time_ymd(2031, 1, 1)).unwrap_err();
        assert_eq!(expired.to_string(), format!("the certificate in `{path}` expired on 2030-03-01"));

        std::fs::write(&path, key.serialize_pem()).unwrap();
        let none = look(&path, date_time_ymd(2030, 2, 28)).unwrap_err();
        assert_eq!(none.to_string(), format!("there is no certificate in `{path}`"));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(look(&path, date_time_ymd(2030, 2, 28)), Err(CertificateError::Parse { .. })));
    }
}
