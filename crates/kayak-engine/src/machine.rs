//! What a cluster's facts depend on: name servers and addresses of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use camino::{Utf8Path, Utf8PathBuf};
use ipnet::IpNet;
use kayak_core::cluster::MachineFacts;

use crate::preflight::interfaces;

/// Why this machine's addresses are unknown.
#[derive(Debug, thiserror::Error)]
#[error("failed to list this machine's network interfaces")]
pub struct MachineError(#[source] io::Error);

/// Looks at this machine.
pub fn look() -> Result<MachineFacts, MachineError> {
    Ok(MachineFacts {
        nameservers: used_nameservers(),
        interfaces: addressed().map_err(MachineError)?,
        ca_bundle: ca_bundle(),
    })
}

/// Where distributions keep the list of CAs: Debian's, Fedora's, SUSE's, Alpine's.
const CA_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The machine's own list of CAs, where it really lies: a link would lead elsewhere in a node.
fn ca_bundle() -> Option<Utf8PathBuf> {
    CA_BUNDLES.into_iter().find_map(|path| Utf8Path::new(path).canonicalize_utf8().ok())
}

/// The interfaces that have an IPv4 address: one without a carrier will do, a VPN may come later.
fn addressed() -> io::Result<BTreeMap<String, Vec<Ipv4Addr>>> {
    let own = |net: &IpNet| match net {
        IpNet::V4(net) => Some(net.addr()),
        IpNet::V6(_) => None,
    };
    let found = interfaces()?.into_iter().map(|interface| {
        let addresses: Vec<_> = interface.addresses.iter().filter_map(own).collect();
        (interface.name, addresses)
    });
    Ok(found.filter(|(_, addresses)| !addresses.is_empty()).collect())
}

/// The name servers that this machine uses itself. Behind a local resolver, which no pod can reach,
/// stand those that it uses in turn.
fn used_nameservers() -> Vec<IpAddr> {
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let usable = files.map(|path| nameservers(&fs::read_to_string(path).unwrap_or_default()));
    usable.into_iter().find(|servers| !servers.is_empty()).unwrap_or_default()
}

/// Reads the name servers that are not on the machine's loopback.
fn nameservers(resolv_conf: &str) -> Vec<IpAddr> {
    let server = |line: &str| line.strip_prefix("nameserver")?.split_whitespace().next()?.parse().ok();
    resolv_conf.lines().filter_map(server).filter(|ip: &IpAddr| !ip.is_loopback()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_resolvers_and_comments_are_left_out() {
        let text = "# one\nnameserver 127.0.0.53\nnameserver 192.0.2.1 # two\nsearch x\n";
        assert_eq!(nameservers(text), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn every_machine_has_a_loopback() {
        assert_eq!(look().unwrap().interfaces["lo"][0], Ipv4Addr::LOCALHOST);
    }
}
