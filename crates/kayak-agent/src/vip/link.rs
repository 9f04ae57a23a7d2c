//! Putting the address on the node's link, telling the neighbours, and taking it away.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;

use kayak_core::chain::chain;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with};
use tokio::process::{Child, Command};

use crate::address::{AddressError, is_here};
use crate::netlink::{self, LinkAddress, SCOPE_GLOBAL};
use crate::pod_network::link::{self, LinkError as NoLink};

/// How often the neighbours are told, a second apart: one packet may be lost.
const TELL: &str = "5";

/// Why the address is not where it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    NoLink(#[from] NoLink),
    #[error(transparent)]
    Look(#[from] AddressError),
    #[error("{0} is no IPv4 address")]
    Family(IpAddr),
    #[error("failed to find the number of the link `{link}`")]
    Number {
        link: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to give {address} to the link `{link}`")]
    Put {
        address: Ipv4Addr,
        link: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to take {address} from the link `{link}`")]
    Take {
        address: Ipv4Addr,
        link: String,
        #[source]
        source: io::Error,
    },
}

/// Where the address comes.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) address: IpAddr,
    /// What it is called there, so that whoever takes it from a machine's link knows whose it is.
    pub(super) label: String,
    /// The node's own address, on the same link.
    pub(super) beside: IpAddr,
    /// The link, where it was named.
    pub(super) named: Option<String>,
}

impl Link {
    /// Puts the address there, until what is returned is dropped.
    pub(super) fn put(&self) -> Result<Held, LinkError> {
        let (address, link) = self.place()?;
        let wanted = LinkAddress { label: Some(&self.label), ..on_link(address, &link)? };
        netlink::add(&wanted).map_err(|source| LinkError::Put { address, link: link.clone(), source })?;
        let mut held = Held { address, link, telling: None };
        held.tell();
        Ok(held)
    }

    /// Takes away what an agent before left.
    pub(super) fn clear(&self) -> Result<(), LinkError> {
        if !is_here(self.address)? {
            return Ok(());
        }
        let (address, link) = self.place()?;
        take(address, &link)
    }

    fn place(&self) -> Result<(Ipv4Addr, String), LinkError> {
        let IpAddr::V4(address) = self.address else { return Err(LinkError::Family(self.address)) };
        let link = match &self.named {
            Some(name) => name.clone(),
            None => link::of(self.beside)?,
        };
        Ok((address, link))
    }
}

/// The address while this node has it.
#[derive(Debug)]
pub(super) struct Held {
    address: Ipv4Addr,
    link: String,
    telling: Option<Child>,
}

impl Held {
    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Tells the neighbours whose the address is now, those too that knew it as another's. The socket for
    /// that cannot be had without unsafe code here; the image has a program for it.
    fn tell(&mut self) {
        let mut command = Command::new("busybox");
        command.args(["arping", "-U", "-c", TELL, "-I", &self.link, &self.address.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        match command.spawn() {
            Ok(child) => self.telling = Some(child),
            // They learn it by themselves, some time later.
            Err(error) => tracing::warn!("the neighbours are not told of {}: {error}", self.address),
        }
    }
}

impl Drop for Held {
    /// However the holding ends, also by being given up: the address goes with it.
    fn drop(&mut self) {
        self.telling = None;
        if let Err(error) = take(self.address, &self.link) {
            tracing::warn!("{}", chain(&error));
        }
    }
}

fn take(address: Ipv4Addr, link: &str) -> Result<(), LinkError> {
    let deleted = netlink::delete(&on_link(address, link)?);
    deleted.map_err(|source| LinkError::Take { address, link: link.to_owned(), source })
}

fn on_link(address: Ipv4Addr, link: &str) -> Result<LinkAddress<'static>, LinkError> {
    let number = || {
        // Any socket knows the links of its network.
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(name_to_index(&socket, link)?)
    };
    let number = number().map_err(|source| LinkError::Number { link: link.to_owned(), source })?;
    Ok(LinkAddress { address: address.into(), link: number, scope: SCOPE_GLOBAL, label: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{has_network_of_its_own, ip};

    #[tokio::test]
    async fn the_address_is_there_while_it_is_held() {
        if !has_network_of_its_own("vip::link::tests::the_address_is_there_while_it_is_held") {
            return;
        }
        ip("link add name vip0 type bridge");
        ip("address add 10.253.43.2/24 dev vip0");
        ip("link set dev vip0 up");
        let [address, beside] = [[10, 253, 43, 250], [10, 253, 43, 2]].map(IpAddr::from);
        for named in [Some("vip0".to_owned()), None] {
            let link = Link { address, label: "kayakvip-123456".into(), beside, named };
            let held = link.put().unwrap();
            assert!(is_here(address).unwrap());
            // One that was killed leaves it, and the next one may find it there.
            std::mem::forget(held);
            let held = link.put().unwrap();
            drop(held);
            assert!(!is_here(address).unwrap());
            std::mem::forget(link.put().unwrap());
            link.clear().unwrap();
            link.clear().unwrap();
            assert!(!is_here(address).unwrap() && is_here(beside).unwrap());
            // This is how the driver takes it away from a machine.
            std::mem::forget(link.put().unwrap());
            ip("address flush label kayakvip-123456");
            assert!(!is_here(address).unwrap() && is_here(beside).unwrap());
        }
        let nowhere = Link { address, label: String::new(), beside, named: Some("tun9".into()) };
        let nowhere = nowhere.put().unwrap_err();
        assert_eq!(nowhere.to_string(), "failed to find the number of the link `tun9`");
    }
}
