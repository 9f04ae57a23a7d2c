//! Looks for whatever answers at an address, on every port.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustix::process::{Resource, getrlimit, setrlimit};

/// How many connections are tried at once.
const BATCH: usize = 4096;
/// How long an answer may take between networks on one busy machine.
const PATIENCE: Duration = Duration::from_millis(800);

/// A port that answers: `tcp` if it takes connections, `udp` if it sends a packet back.
pub type Port = (&'static str, u16);

/// Finds the ports that answer at an address.
pub fn answering(target: Ipv4Addr) -> BTreeSet<Port> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.map(|maximum| maximum.min(2 * BATCH as u64)).or(Some(2 * BATCH as u64));
    setrlimit(Resource::Nofile, limit).unwrap();
    let ports: Vec<u16> = (1..=u16::MAX).collect();
    let tcp = ports.chunks(BATCH).flat_map(|ports| connecting(target, ports)).map(|port| ("tcp", port));
    let mut found: BTreeSet<_> = tcp.collect();
    found.extend(echoing(target, &ports).into_iter().map(|port| ("udp", port)));
    found
}

/// Says whether a connection comes about.
pub fn connects(target: SocketAddrV4) -> bool {
    !connecting(*target.ip(), &[target.port()]).is_empty()
}

fn connecting(target: Ipv4Addr, ports: &[u16]) -> Vec<u16> {
    let mut found = Vec::new();
    let mut waiting = BTreeMap::new();
    for &port in ports {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        match connect(&socket, &SocketAddrV4::new(target, port)) {
            Ok(()) => found.push(port),
            Err(Errno::INPROGRESS) => drop(waiting.insert(port, socket)),
            // Refused, or no way there.
            Err(_) => {}
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while !waiting.is_empty() && Instant::now() < deadline {
        for port in decided(&waiting, deadline) {
            let socket = waiting.remove(&port).unwrap();
            if sockopt::socket_error(&socket).unwrap().is_ok() {
                found.push(port);
            }
        }
    }
    found
}

/// Waits until connections came about or failed.
fn decided(waiting: &BTreeMap<u16, OwnedFd>, deadline: Instant) -> Vec<u16> {
    let mut polled: Vec<_> = waiting.values().map(|socket| PollFd::new(socket, PollFlags::OUT)).collect();
    let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).unwrap();
    poll(&mut polled, Some(&left)).unwrap();
    let ports = waiting.keys().zip(&polled);
    ports.filter(|(_, socket)| !socket.revents().is_empty()).map(|(port, _)| *port).collect()
}

fn echoing(target: Ipv4Addr, ports: &[u16]) -> BTreeSet<u16> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut found = BTreeSet::new();
    let mut listen = |patience: Duration| {
        socket.set_read_timeout(Some(patience)).unwrap();
        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
            found.insert(from.port());
        }
    };
    for ports in ports.chunks(256) {
        for &port in ports {
            match socket.send_to(b"?", (target, port)) {
                Ok(_) => {}
                // No way there.
                Err(error) if error.kind() != ErrorKind::PermissionDenied => {}
                Err(error) => panic!("{target}:{port}: {error}"),
            }
        }
        // No more at once than queues hold.
        listen(Duration::from_millis(1));
    }
    listen(PATIENCE);
    found
}
