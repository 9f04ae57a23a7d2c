//! The kernel's lists of sockets, `/proc/net/tcp` and its like (proc_pid_net(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Protocol;

/// A socket that waits for anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Where it waits.
    pub address: SocketAddr,
    /// The kernel's number of it, by which those who hold it are found.
    pub inode: u64,
}

/// One list.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Where the kernel tells it; without IPv6, two are not there.
    pub path: &'static str,
    protocol: Protocol,
    /// The state of a socket that waits: `TCP_LISTEN`, and `TCP_CLOSE`, which a UDP socket is in that is
    /// not connected (`include/net/tcp_states.h`).
    state: &'static str,
}

/// All of them.
pub const TABLES: [Table; 4] = [
    Table { path: "/proc/net/tcp", protocol: Protocol::Tcp, state: "0A" },
    Table { path: "/proc/net/tcp6", protocol: Protocol::Tcp, state: "0A" },
    Table { path: "/proc/net/udp", protocol: Protocol::Udp, state: "07" },
    Table { path: "/proc/net/udp6", protocol: Protocol::Udp, state: "07" },
];

impl Table {
    /// Returns the sockets of a list that wait, or the line that is none.
    pub fn waiting(self, text: &str) -> Result<Vec<Waiting>, &str> {
        let Self { protocol, state, .. } = self;
        let parse = |line| {
            let fields: Vec<&str> = str::split_whitespace(line).collect();
            let parsed = || Some((*fields.get(3)?, address(fields.get(1)?)?, fields.get(9)?.parse().ok()?));
            match parsed() {
                Some((now, address, inode)) => {
                    Ok((now == state).then_some(Waiting { protocol, address, inode }))
                }
                None => Err(line),
            }
        };
        text.lines().skip(1).map(parse).filter_map(Result::transpose).collect()
    }
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
        let found = TABLES[0].waiting(&table).unwrap();
        let address = "127.0.0.1:10248".parse().unwrap();
        assert_eq!(found, [Waiting { protocol: Protocol::Tcp, address, inode: 42 }]);

        let udp6 = "\
 9: 00000000000000000000000001000000:2118 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 7 2 0 0
 9: 0000000000000000FFFF00000248FC0A:2118 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 8 2 0 0
";
        let table = HEAD.to_owned() + udp6;
        let found = TABLES[3].waiting(&table).unwrap();
        let addresses: Vec<_> = found.iter().map(|socket| socket.address.to_string()).collect();
        assert_eq!(addresses, ["[::1]:8472", "10.252.72.2:8472"]);
    }

    #[test]
    fn a_line_that_is_none_is_told() {
        let table = HEAD.to_owned() + "0: nonsense";
        assert_eq!(TABLES[0].waiting(&table), Err("0: nonsense"));
    }
}
