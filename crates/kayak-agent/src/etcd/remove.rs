//! Takes another node's member out of the cluster.

use std::path::Path;

use rustls_pki_types::ServerName;

use super::{Client, ClientError, Watch};
use crate::agent::{self, AgentError};

/// Why a member is still there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The node does not know what it is.
    #[error(transparent)]
    Config(#[from] AgentError),
    /// Only members can be asked.
    #[error("this node is no controller: it has no etcd to ask")]
    NoController,
    /// etcd could not say who its members are.
    #[error("failed to ask etcd for its members")]
    List(#[source] ClientError),
    /// etcd would not let it go.
    #[error("etcd refused to let `{node}` go")]
    Refused {
        /// Whose member.
        node: String,
        /// Why.
        #[source]
        source: ClientError,
    },
}

/// Has this node's member take out the one of `node`; done if there is none. etcd refuses where a majority of
/// the rest is not there.
pub async fn remove(config: &Path, node: &str) -> Result<(), RemoveError> {
    let config = agent::read(config)?;
    let controller = config.controller.ok_or(RemoveError::NoController)?;
    let own = Watch::new(&config.name, &controller.etcd);
    let mut own = Client::new(own.address, ServerName::from(own.address.ip()), own.access);
    let members = own.members().await.map_err(RemoveError::List)?;
    let Some(member) = members.iter().find(|member| member.is_of(node)) else { return Ok(()) };
    let removed = own.remove(member.id).await;
    removed.map(drop).map_err(|source| RemoveError::Refused { node: node.into(), source })
}
