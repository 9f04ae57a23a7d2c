//! Reaching the cluster's API from the node.

use std::path::{Path, PathBuf};

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Status;
use kube::runtime::watcher;

use crate::appearance;

/// Why the cluster cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("failed to wait for `{}`", path.display())]
    Wait {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: Box<KubeconfigError>,
    },
    #[error("failed to use `{}`", path.display())]
    Use {
        path: PathBuf,
        #[source]
        source: Box<KubeconfigError>,
    },
    #[error("failed to set up a client from `{}`", path.display())]
    Client {
        path: PathBuf,
        #[source]
        source: Box<kube::Error>,
    },
}

/// Why the API did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// It said so. kube's own message has the whole answer in it.
    #[error("{message}")]
    Refused { code: u16, message: String },
    #[error(transparent)]
    Request(Box<kube::Error>),
    #[error(transparent)]
    Watch(Box<watcher::Error>),
}

impl ApiError {
    /// Whether the API has forgotten what a watch saw last. The watch begins anew by itself.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, Self::Refused { code: 410, .. })
    }

    /// Whether that happens whenever a control plane comes or goes: nobody answers, or what gives the
    /// right is not there yet.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(code, 403 | 410 | 429 | 500..),
            Self::Request(_) => true,
            Self::Watch(_) => false,
        }
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        Self::Refused { code: status.code, message: status.message }
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => (*status).into(),
            other => Self::Request(Box::new(other)),
        }
    }
}

impl From<watcher::Error> for ApiError {
    fn from(error: watcher::Error) -> Self {
        use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
        match error {
            InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => error.into(),
            WatchError(status) => (*status).into(),
            other @ watcher::Error::NoResourceVersion => Self::Watch(Box::new(other)),
        }
    }
}

/// Makes a client from a kubeconfig, once there is one.
///
/// It knows the certificate as it is now: whoever sees it fail makes another one, since the
/// kubelet replaces its certificate from time to time.
pub(crate) async fn client(kubeconfig: &str) -> Result<Client, ClusterError> {
    let path = PathBuf::from(kubeconfig);
    appearance::of_path(Path::new(kubeconfig))
        .await
        .map_err(|source| ClusterError::Wait { path: path.clone(), source })?;
    let parsed = Kubeconfig::read_from(&path)
        .map_err(|source| ClusterError::Read { path: path.clone(), source: Box::new(source) })?;
    let config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .map_err(|source| ClusterError::Use { path: path.clone(), source: Box::new(source) })?;
    Client::try_from(config).map_err(|source| ClusterError::Client { path, source: Box::new(source) })
}
