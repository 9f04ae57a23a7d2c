//! The kernel's lists of sockets, `/proc/net/tcp` and its like (proc_pid_net(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use kayak_core::sockets::Protocol;

use super::SocketsError;

/// A socket that waits for anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    pub(super) inode: u64,
}

/// The lists, and the state of a socket that waits: `TCP_LISTEN`, and `TCP_CLOSE`, which a UDP socket
/// is in that is not connected (`include/net/tcp_states.h`).
const TABLES: [(&str, Protocol, &str); 4] = [
    ("/proc/net/tcp", Protocol::Tcp, "0A"),
    ("/proc/net/tcp6", Protocol::Tcp, "0A"),
    ("/proc/net/udp", Protocol::Udp, "07"),
    ("/proc/net/udp6", Protocol::Udp, "07"),
];

/// Reads them all.
pub(super) fn read() -> Result<Vec<Waiting>, SocketsError> {
    let mut sockets = Vec::new();
    for (path, protocol, state) in TABLES {
        let path = Path::new(path);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            // A kernel without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(SocketsError::Table { path: path.into(), source }),
        };
        let waiting = waiting(&text, protocol, state);
        sockets
            .extend(waiting.map_err(|line| SocketsError::Line { path: path.into(), line: line.to_owned() })?);
    }
    Ok(sockets)
}

/// Returns the sockets of a list that are in this state, or the line that is none.
fn waiting<'a>(table: &'a str, protocol: Protocol, state: &str) -> Result<Vec<Waiting>, &'a str> {
    let parse = |line: &'a str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let parsed = || Some((*fields.get(3)?, address(fields.get(1)?)?, fields.get(9)?.parse().ok()?));
        match parsed() {
            Some((now, address, inode)) => Ok((now == state).then_some(Waiting { protocol, address, inode })),
            None => Err(line),
        }
    };
    table.lines().skip(1).map(parse).filter_map(Result::transpose).collect()
}

/// Each 32 bits are written as the number that they are in memory.
fn address(field: &str) -> Option<SocketAddr> {
    let (host, port) = field.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(host.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let host = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let mut bytes = [0; 16];
            bytes.copy_from_slice(words.as_flattened());
            // An IPv4 address that an IPv6 socket was bound to.
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(host, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    #[test]
    fn those_that_wait_are_found_with_their_addresses() {
        let tcp = "\
   0: 0100007F:2808 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 42 1 0 100 0 0 10 0
   1: 0248FC0A:192B 0248FC0A:8E2C 01 00000000:00000000 00:00000000 00000000     0        0 43 1 0 20 4 30 10 -1
";
        let table = HEAD.to_owned() + tcp;
        let found = waiting(&table, Protocol::Tcp, "0A").unwrap();
        let address = "127.0.0.1:10248".parse().unwrap();
        assert_eq!(found, [Waiting { protocol: Protocol::Tcp, address, inode: 42 }]);

        let udp6 = "\
 9: 00000000000000000000000001000000:2118 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 7 2 0 0
 9: 0000000000000000FFFF00000248FC0A:2118 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 8 2 0 0
";
        let table = HEAD.to_owned() + udp6;
        let found = waiting(&table, Protocol::Udp, "07").unwrap();
        let addresses: Vec<_> = found.iter().map(|socket| socket.address.to_string()).collect();
        assert_eq!(addresses, ["[::1]:8472", "10.252.72.2:8472"]);
    }

    #[test]
    fn a_line_that_is_none_is_told() {
        let table = HEAD.to_owned() + "0: nonsense";
        assert_eq!(waiting(&table, Protocol::Tcp, "0A"), Err("0: nonsense"));
    }
}
