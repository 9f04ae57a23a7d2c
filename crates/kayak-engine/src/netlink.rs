//! Asking the kernel by netlink: links, addresses, routes and packet filter chains, of the network
//! that this process is in, without a program of the machine's.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, sendto, socket_with};

// linux/netlink.h
const HEADER: usize = 16;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const INTERRUPTED: u16 = 0x10;
const DUMP: u16 = 0x300;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 0x8000;

/// A message: its kind, and what follows the header.
pub(crate) type Message = (u16, Vec<u8>);

/// A line to one part of the kernel.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    /// Opens it; `None` is routing.
    pub(crate) fn open(part: Option<Protocol>) -> io::Result<Self> {
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, part)?))
    }

    /// Asks for everything of a kind.
    pub(crate) fn list(&self, kind: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        self.ask(kind, REQUEST | DUMP, body)
    }

    /// Asks for something to be made, or, with no such thing given, for an answer.
    pub(crate) fn create(&self, kind: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        self.ask(kind, REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE, body)
    }

    /// Asks for one thing.
    pub(crate) fn get(&self, kind: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        self.ask(kind, REQUEST | ACKNOWLEDGE, body)
    }

    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        let mut request = Vec::new();
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        // Sequence number and sender: there is one question at a time, and the kernel fills in the other.
        request.extend([0; 8]);
        request.extend(body);
        sendto(&self.0, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut messages = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (_, length) = recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty())?;
            if take(&buffer[..length], &mut messages)? {
                return Ok(messages);
            }
        }
    }
}

/// Takes the messages out of a datagram; tells whether it was the last.
fn take(mut datagram: &[u8], messages: &mut Vec<Message>) -> io::Result<bool> {
    while let Some(length) = number(datagram, 0).and_then(|length| usize::try_from(length).ok()) {
        let message = datagram.get(..length).filter(|message| message.len() >= HEADER);
        let message = message.ok_or_else(|| io::Error::other("the kernel's answer is cut off"))?;
        let (kind, flags) = (short(message, 4).unwrap_or(0), short(message, 6).unwrap_or(0));
        if flags & INTERRUPTED != 0 {
            return Err(io::Error::other("it changed while it was looked at"));
        }
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let code = number(message, HEADER).map_or(0, u32::cast_signed);
                return if code == 0 { Ok(true) } else { Err(Errno::from_raw_os_error(-code).into()) };
            }
            _ => messages.push((kind, message[HEADER..].to_vec())),
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Parts attributes: kind and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(short(bytes, 0)?);
        let (kind, value) = (short(bytes, 2)? & 0x3fff, bytes.get(4..length)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Writes an attribute.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Writes an attribute that holds others.
pub(crate) fn nested(kind: u16, within: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, within)
}

/// Reads a text that ends with a zero byte.
pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

/// Reads a number of this machine's byte order.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn messages_are_taken_until_the_last() {
        let mut messages = Vec::new();
        let first = [message(16, b"one"), message(16, b"two")].concat();
        assert!(!take(&first, &mut messages).unwrap());
        assert!(take(&message(DONE, &[0; 4]), &mut messages).unwrap());
        assert_eq!(messages, [(16, b"one".to_vec()), (16, b"two".to_vec())]);
    }

    #[test]
    fn a_refusal_and_a_cut_off_answer_are_errors() {
        let refusal = message(ERROR, &(-1_i32).to_ne_bytes());
        let error = take(&refusal, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(take(&message(16, b"eight by")[..20], &mut Vec::new()).is_err());
        assert!(take(&message(ERROR, &[0; 4]), &mut Vec::new()).unwrap());
    }

    #[test]
    fn attributes_are_read_as_written() {
        let bytes = [attribute(3, b"eth0\0"), nested(18, &attribute(1, b"veth"))].concat();
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read[0], (3, b"eth0\0".as_slice()));
        assert_eq!(attributes(read[1].1).next(), Some((1, b"veth".as_slice())));
        assert_eq!(read.len(), 2);
    }
}
