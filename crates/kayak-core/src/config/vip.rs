//! Whether the virtual address can be one.

use super::check::Problem;
use super::path::Path;
use super::{Config, NetworkMode};
use crate::cluster::taken;

/// Finds what is wrong with `api.vip`.
pub(super) fn problems(config: &Config, problems: &mut Vec<Problem>) {
    let Some(vip) = config.api.vip else { return };
    let network = &config.network;
    let mut refuse = |message: String, hint: &str| {
        problems.push(Problem::new(Path::to("api").field("vip"), message, hint));
    };
    match network.mode {
        NetworkMode::Bridge if !network.nodes.contains(vip.into()) => {
            refuse(
                format!("`api.vip: {vip}` is not on the nodes' network, `network.nodes: {}`", network.nodes),
                "take one of that range that no node has, near its end",
            );
        }
        NetworkMode::Bridge => {
            if let Some(owner) = taken(config, vip.into()) {
                refuse(
                    format!("`api.vip: {vip}` is {owner}"),
                    "take one of `network.nodes` that nobody has, near its end",
                );
            }
        }
        NetworkMode::Host => {
            let impossible =
                vip.is_unspecified() || vip.is_loopback() || vip.is_multicast() || vip.is_broadcast();
            let ranges = [("pods", network.pods), ("services", network.services)];
            let range = ranges.into_iter().find(|(_, range)| range.contains(vip.into()));
            if impossible || range.is_some() {
                let because = range.map_or_else(
                    || "is no address of a machine".to_owned(),
                    |(name, range)| format!("is one of `network.{name}: {range}`"),
                );
                refuse(
                    format!("`api.vip: {vip}` {because}"),
                    "take a free one of the interface's own network",
                );
            }
        }
    }
}
