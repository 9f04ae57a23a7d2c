//! Which address everybody has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{MAX_CONTROLLERS, MachineFacts, Node, ResolveError, Role};
use crate::config::{Config, NetworkMode, Ranges};

/// Where on the nodes' range the first controller is; before it come the network and the machine.
const FIRST_CONTROLLER: u32 = 2;
/// Where on the nodes' range the first worker is, so that neither more controllers nor more workers change
/// an address.
const FIRST_WORKER: u32 = FIRST_CONTROLLER + MAX_CONTROLLERS;

/// Where on the nodes' range the `index`-th node of a role is.
fn place(role: Role, index: u32) -> u32 {
    match role {
        Role::Controller => FIRST_CONTROLLER + index,
        Role::Worker => FIRST_WORKER + index,
    }
}

/// All nodes, controllers first.
pub(super) fn nodes(config: &Config, machine: &MachineFacts) -> Result<Vec<Node>, ResolveError> {
    let counts = [(Role::Controller, config.controllers), (Role::Worker, config.workers)];
    let each = counts.into_iter().flat_map(|(role, count)| (0..count).map(move |index| (role, index)));
    each.map(|(role, index)| {
        let at = |range| host(range, place(role, index));
        let (address, second_address) = match config.network.mode {
            NetworkMode::Bridge => (at(config.network.nodes.first), config.network.nodes.second.map(at)),
            NetworkMode::Host => (interface_address(config, machine)?.into(), None),
        };
        Ok(Node { name: role.node_name(index), role, address, second_address })
    })
    .collect()
}

/// How many workers fit on the nodes' ranges: the last address is no node's.
pub(crate) fn most_workers(ranges: Ranges) -> u32 {
    let size = |range: IpNet| {
        let bits = u32::from(range.max_prefix_len() - range.prefix_len());
        1u32.checked_shl(bits).unwrap_or(u32::MAX)
    };
    let least = ranges.all().map(size).min().unwrap_or(0);
    least.saturating_sub(1).saturating_sub(FIRST_WORKER)
}

/// Says who has an address of the nodes' ranges, if it is nobody's to take.
pub(crate) fn taken(config: &Config, address: IpAddr) -> Option<String> {
    let range = config.network.nodes.all().find(|range| range.contains(&address))?;
    let counts = [(Role::Controller, config.controllers), (Role::Worker, config.workers)];
    let mut nodes = counts.into_iter().flat_map(|(role, count)| (0..count).map(move |index| (role, index)));
    if address == host(range, 1) {
        return Some("the machine's".into());
    }
    if address == range.network() || address == range.broadcast() {
        return Some("no node's, but the range's own".into());
    }
    let node = nodes.find(|(role, index)| host(range, place(*role, *index)) == address);
    node.map(|(role, index)| format!("`{}`'s", role.node_name(index)))
}

fn interface_address(config: &Config, machine: &MachineFacts) -> Result<Ipv4Addr, ResolveError> {
    let network = &config.network;
    let name = network.interface.clone().unwrap_or_default();
    // The virtual address comes to the interface as well.
    let addresses = machine.interfaces.get(&name).map(Vec::as_slice).unwrap_or_default();
    let own = addresses.iter().find(|address| Some(**address) != config.api.vip);
    if let ([vip], None) = (addresses, own) {
        return Err(ResolveError::OwnVip { vip: *vip, name });
    }
    let Some(&address) = own else {
        let there = machine.interfaces.keys().filter(|name| *name != "lo").map(|name| format!("`{name}`"));
        return Err(ResolveError::NoInterface { name, there: there.collect() });
    };
    for (range, net) in [("pods", network.pods), ("services", network.services)] {
        if net.contains(address.into()) {
            return Err(ResolveError::Covered { range, net, address, name });
        }
    }
    Ok(address)
}

/// Returns the `index`-th address of a range.
pub(super) fn host(range: IpNet, index: u32) -> IpAddr {
    match range {
        IpNet::V4(range) => Ipv4Addr::from(u32::from(range.network()) + index).into(),
        IpNet::V6(range) => Ipv6Addr::from(u128::from(range.network()) + u128::from(index)).into(),
    }
}
