//! The nftables tables, asked of the kernel itself: the machine need not have `nft`.

use std::io;

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;

use crate::netlink::{Netlink, attributes, text};

// linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.
const GET_TABLE: u16 = 10 << 8 | 1;
const ALL_FAMILIES: [u8; 4] = [0; 4];
const FAMILY: usize = 4;
const TABLE_NAME: u16 = 1;

/// Lists all tables as family and name; none, where the kernel has no nftables.
pub(crate) fn list() -> io::Result<Vec<String>> {
    let listed = Netlink::open(Some(NETFILTER)).and_then(|kernel| kernel.list(GET_TABLE, &ALL_FAMILIES));
    match listed {
        Ok(messages) => Ok(messages.iter().filter_map(|(_, body)| table(body)).collect()),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::PROTONOSUPPORT | Errno::INVAL) => Ok(Vec::new()),
            _ => Err(error),
        },
    }
}

fn table(body: &[u8]) -> Option<String> {
    // linux/netfilter.h.
    let family = match body.first()? {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "unknown",
    };
    let (_, name) = attributes(body.get(FAMILY..)?).find(|(kind, _)| *kind == TABLE_NAME)?;
    Some(format!("{family} {}", text(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute;

    #[test]
    fn a_table_is_told_by_family_and_name() {
        let head = [1, 0, 0, 5];
        let body = [head.as_slice(), &attribute(2, &[0; 4]), &attribute(TABLE_NAME, b"abc\0")].concat();
        assert_eq!(table(&body).as_deref(), Some("inet abc"));
        assert_eq!(table(&head), None);
    }

    #[test]
    fn the_kernel_answers() {
        assert!(list().is_ok_and(|tables| tables.iter().all(|table| table.contains(' '))));
    }
}
