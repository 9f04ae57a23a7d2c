//! The controllers of the cluster, as kayak has written them down on each: whose members may be asked.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use kayak_core::component::etcd::CLIENT_PORT;
use rustls_pki_types::ServerName;

use super::{Access, Client};

/// All controllers, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Controllers(BTreeMap<String, IpAddr>);

/// Why they are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControllersError {
    #[error("failed to read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to parse `{}`", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl Controllers {
    /// Reads them; none are known while there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Self, ControllersError> {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            text => text.map_err(|source| ControllersError::Read { path: path.to_owned(), source })?,
        };
        let controllers = serde_json::from_slice(&text);
        let controllers =
            controllers.map_err(|source| ControllersError::Parse { path: path.to_owned(), source })?;
        Ok(Self(controllers))
    }

    /// Their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Clients of all members but the one of `me`, by name. A member is verified by its node's name.
    pub(crate) fn others(&self, me: &str, access: &Access) -> Vec<(String, Client)> {
        let others = self.0.iter().filter(|(name, _)| *name != me);
        others
            .filter_map(|(name, &address)| {
                let server_name = ServerName::try_from(name.clone()).ok()?;
                let address = SocketAddr::new(address, CLIENT_PORT);
                Some((name.clone(), Client::new(address, server_name, access.clone())))
            })
            .collect()
    }
}

#[cfg(test)]
impl<const N: usize> From<[&str; N]> for Controllers {
    fn from(names: [&str; N]) -> Self {
        Self(names.map(|name| (name.to_owned(), IpAddr::from([192, 0, 2, 1]))).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_names_nobody_and_a_broken_one_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("members.json");
        assert_eq!(Controllers::read(&path).unwrap(), Controllers::default());
        std::fs::write(&path, r#"{ "controller-0": "10.254.0.2", "controller-1": "10.254.0.3" }"#).unwrap();
        assert_eq!(Controllers::read(&path).unwrap().names().count(), 2);
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Controllers::read(&path), Err(ControllersError::Parse { .. })));
    }
}
