//! Makes the container a node: what the runtime and the kubelet expect to find on a machine.
//!
//! Every step may run twice, since an agent that is started again prepares again.

mod cgroups;
mod files;
mod mounts;
mod sysctls;

use kayak_core::node::NodeConfig;

pub(crate) use cgroups::CgroupsError;
pub(crate) use files::FilesError;
pub(crate) use mounts::MountsError;
pub(crate) use sysctls::SysctlsError;

/// What a node lacks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error("failed to prepare the mounts")]
    Mounts(#[source] MountsError),
    #[error("failed to prepare the cgroups")]
    Cgroups(#[source] CgroupsError),
    #[error("failed to prepare the files")]
    Files(#[source] FilesError),
    #[error("failed to prepare the kernel settings")]
    Sysctls(#[source] SysctlsError),
}

/// Prepares the node.
pub(crate) fn run(config: &NodeConfig) -> Result<(), PrepareError> {
    mounts::prepare().map_err(PrepareError::Mounts)?;
    cgroups::prepare().map_err(PrepareError::Cgroups)?;
    files::prepare(config).map_err(PrepareError::Files)?;
    sysctls::prepare(&config.sysctls).map_err(PrepareError::Sysctls)
}
