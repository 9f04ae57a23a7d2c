//! The node's link, and how large its packets may be.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::ParseIntError;
use std::path::PathBuf;

/// Why the link's MTU is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("failed to read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no link has the address {0}")]
    None(IpAddr),
    #[error("failed to understand the MTU of `{link}`")]
    Parse {
        link: String,
        #[source]
        source: ParseIntError,
    },
}

/// Returns the MTU of the link that has the address.
pub(super) fn mtu(address: IpAddr) -> Result<u32, LinkError> {
    mtu_of(&of(address)?)
}

/// Returns the link that has the address.
pub(crate) fn of(address: IpAddr) -> Result<String, LinkError> {
    let link = match address {
        IpAddr::V4(address) => v4_link(&read("/proc/net/route")?, address),
        IpAddr::V6(address) => v6_link(&read("/proc/net/if_inet6")?, address),
    };
    link.ok_or(LinkError::None(address))
}

/// Returns the MTU of a link.
pub(super) fn mtu_of(link: &str) -> Result<u32, LinkError> {
    let mtu = read(&format!("/sys/class/net/{link}/mtu"))?;
    mtu.trim().parse().map_err(|source| LinkError::Parse { link: link.to_owned(), source })
}

fn read(path: &str) -> Result<String, LinkError> {
    std::fs::read_to_string(path).map_err(|source| LinkError::Read { path: path.into(), source })
}

/// The kernel lists IPv4 addresses by link nowhere in /proc; but the narrowest route to an address
/// of one's own leads over its link.
fn v4_link(routes: &str, address: Ipv4Addr) -> Option<String> {
    let parse = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // Written as the bytes lie in memory.
        let number = |field: &str| u32::from_str_radix(field, 16).ok().map(u32::to_be);
        let (network, mask) = (number(fields.get(1)?)?, number(fields.get(7)?)?);
        let covers = u32::from(address) & mask == network;
        covers.then(|| (mask, fields[0].to_owned()))
    };
    let covering = routes.lines().skip(1).filter_map(parse);
    covering.max_by_key(|(mask, _)| *mask).map(|(_, link)| link)
}

fn v6_link(addresses: &str, address: Ipv6Addr) -> Option<String> {
    let wanted = format!("{:032x}", u128::from(address));
    let mut lines = addresses.lines().map(str::split_whitespace);
    lines.find_map(|mut fields| (fields.next()? == wanted).then(|| fields.last())?.map(Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
wg0\t0000080A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";

    #[test]
    fn the_narrowest_route_names_the_link() {
        let link = |text: &str| v4_link(ROUTES, text.parse().unwrap());
        assert_eq!(link("10.8.0.3").as_deref(), Some("wg0"));
        assert_eq!(link("10.0.0.3").as_deref(), Some("eth0"));
        assert_eq!(link("192.168.0.1").as_deref(), Some("eth0"));
        assert_eq!(v4_link("Iface\n", Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    fn an_ipv6_address_names_its_link() {
        let table = "\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000002 02 40 00 80     eth0
";
        let link = |text: &str| v6_link(table, text.parse().unwrap());
        assert_eq!(link("fd00::2").as_deref(), Some("eth0"));
        assert_eq!(link("fd00::3"), None);
    }
}
