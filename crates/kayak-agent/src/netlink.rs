//! Asking the kernel to give an address to a link, or to take it away.

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

// linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h, linux/socket.h.
const HEADER: usize = 16;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const INET: u8 = 2;
const INET6: u8 = 10;
/// `IFA_F_NODAD`: nobody else has the address, and to make sure would take a second.
const SURE: u8 = 0x02;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const LABEL: u16 = 3;
/// Everywhere.
pub(crate) const SCOPE_GLOBAL: u8 = 0;
/// Within the machine: the kernel chooses no such address as the source of a packet that leaves, and what
/// the machine sends to a service is routed by the loopback first.
pub(crate) const SCOPE_HOST: u8 = 254;

/// An address of a link. Its prefix has its full length: no route comes and goes with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkAddress<'a> {
    pub(crate) address: IpAddr,
    /// The link's number.
    pub(crate) link: u32,
    pub(crate) scope: u8,
    /// IPv6 has none.
    pub(crate) label: Option<&'a str>,
}

/// Gives a link an address, unless it has it.
pub(crate) fn add(address: &LinkAddress<'_>) -> io::Result<()> {
    unless(Errno::EXIST, ask(NEW_ADDRESS, CREATE | EXCLUSIVE, address)?)
}

/// Takes an address from a link, if it has it.
pub(crate) fn delete(address: &LinkAddress<'_>) -> io::Result<()> {
    unless(Errno::ADDRNOTAVAIL, ask(DELETE_ADDRESS, 0, address)?)
}

/// Takes the number of an error for one, unless it says that there is nothing to do.
fn unless(nothing_to_do: Errno, code: i32) -> io::Result<()> {
    if code == 0 || code == nothing_to_do.raw_os_error() {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(code))
}

fn ask(kind: u16, flags: u16, address: &LinkAddress<'_>) -> io::Result<i32> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &request(kind, flags, address), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 1024];
    let (_, length) = recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
    // The header, then the number of the error, negative.
    let code = answer[..length].get(HEADER..HEADER + 4).and_then(|code| code.try_into().ok());
    let code = code.map(i32::from_ne_bytes);
    code.map(|code| -code).ok_or_else(|| io::Error::other("the kernel's answer is cut off"))
}

fn request(kind: u16, flags: u16, wanted: &LinkAddress<'_>) -> Vec<u8> {
    let (mut body, octets) = match wanted.address {
        IpAddr::V4(address) => (vec![INET, 32, 0, wanted.scope], address.octets().to_vec()),
        // The kernel tells the scope by the address.
        IpAddr::V6(address) => (vec![INET6, 128, SURE, SCOPE_GLOBAL], address.octets().to_vec()),
    };
    body.extend(wanted.link.to_ne_bytes());
    body.extend(attribute(LOCAL, &octets));
    body.extend(attribute(ADDRESS, &octets));
    if let Some(label) = wanted.label.filter(|_| wanted.address.is_ipv4()) {
        body.extend(attribute(LABEL, format!("{label}\0").as_bytes()));
    }
    let mut request = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend((REQUEST | ACKNOWLEDGE | flags).to_ne_bytes());
    // Sequence number and sender: there is one question, and the kernel fills in the other.
    request.extend([0; 8]);
    request.extend(body);
    request
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(4 + value.len()).unwrap_or(u16::MAX).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
