//! Whether a link of the node has the node's address: a VPN's comes with its tunnel, and goes with it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, socket_with};
use tokio::io::unix::AsyncFd;

use crate::descriptor;
use crate::status::Board;

/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const ADDRESSES: u32 = 0x10 | 0x100;
const SUBJECT: &str = "address";

/// Why it is not known whether the address is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("failed to listen to changes of addresses")]
    Listen(#[source] io::Error),
    #[error("failed to wait for a change of addresses")]
    Wait(#[source] io::Error),
    #[error("failed to find out whether {address} is an address of this machine")]
    Look {
        address: IpAddr,
        #[source]
        source: io::Error,
    },
}

/// States on the board while no link has the address. `link` is where it should come.
pub(crate) async fn follow(
    address: IpAddr,
    link: Option<&str>,
    board: &Board,
) -> Result<std::convert::Infallible, AddressError> {
    let link = link.map(|link| format!(" (interface `{link}`)")).unwrap_or_default();
    let changes = Changes::listen()?;
    let mut when = "yet";
    loop {
        if is_here(address)? {
            board.mended(SUBJECT);
            when = "any more";
        } else {
            board.trouble(SUBJECT, &format!("No link has the address {address} {when}{link}."));
        }
        changes.next().await?;
    }
}

/// Waits until a link has the address.
pub(crate) async fn appears(address: IpAddr) -> Result<(), AddressError> {
    let changes = Changes::listen()?;
    while !is_here(address)? {
        changes.next().await?;
    }
    Ok(())
}

/// The kernel lets a socket have addresses of the machine only.
pub(crate) fn is_here(address: IpAddr) -> Result<bool, AddressError> {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Ok(false),
        Err(source) => Err(AddressError::Look { address, source }),
    }
}

/// The kernel's news about addresses. What they say does not matter: whoever hears one looks again.
pub(crate) struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    pub(crate) fn listen() -> Result<Self, AddressError> {
        let listen = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, ADDRESSES))?;
            descriptor::watch(socket)
        };
        listen().map(Self).map_err(AddressError::Listen)
    }

    pub(crate) async fn next(&self) -> Result<(), AddressError> {
        let mut ready = self.0.readable().await.map_err(AddressError::Wait)?;
        loop {
            match rustix::io::read(&self.0, &mut [0; 4096]) {
                // Also when more came than the socket holds: news all the same.
                Ok(_) | Err(rustix::io::Errno::NOBUFS) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(AddressError::Wait(error.into())),
            }
        }
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_missing_is_named_with_its_link() {
        appears(IpAddr::from([127, 0, 0, 1])).await.unwrap();
        let board = Board::new();
        // Reserved for documentation: no machine has it.
        let missing = IpAddr::from([192, 0, 2, 1]);
        let following = board.clone();
        let follow = tokio::spawn(async move { follow(missing, Some("tun0"), &following).await });
        let status = board.wait(|status| !status.troubles.is_empty()).await;
        assert_eq!(status.troubles, ["No link has the address 192.0.2.1 yet (interface `tun0`)."]);
        follow.abort();
    }
}
