//! Whether what the configuration names of the machine is there.

use super::{Findings, Machine};
use crate::cluster::Cluster;

/// What the finding is called; the node would not even be made.
pub const PATH_MISSING: &str = "path-missing";

pub(super) fn judge(cluster: &Cluster, machine: &Machine, found: &mut Findings) {
    for (path, field) in cluster.config.machine_paths() {
        let Some(fact) = machine.named.get(path) else { continue };
        if found.known(&format!("whether `{path}` is there"), fact) == Some(&false) {
            found.error(
                PATH_MISSING,
                format!("`{field}: {path}` is not on this machine"),
                "the node would see it, and is not started without it",
                "make it, mount or attach what it is on, or take it out of the configuration",
            );
        }
    }
}
