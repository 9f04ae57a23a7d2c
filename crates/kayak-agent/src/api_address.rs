//! The address behind the API's service address: each node has it for itself, on its loopback.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use kayak_core::chain::chain;
use kayak_core::node::{NodeConfig, api_address_label};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use tokio::task::JoinSet;

use crate::address::{AddressError, Changes};
use crate::status::Board;

const SUBJECT: &str = "API address";
const RETRY: Duration = Duration::from_secs(1);

// linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h, linux/socket.h.
const HEADER: usize = 16;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const NEW_ADDRESS: u16 = 20;
const INET: u8 = 2;
const WHOLE: u8 = 32;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const LABEL: u16 = 3;
/// The kernel's number of the loopback in every network.
const LOOPBACK: u32 = 1;
/// Within the machine: the kernel chooses no such address as the source of a packet that leaves, and what
/// the machine sends to a service is routed by the loopback first.
const SCOPE_HOST: u8 = 254;

/// Why the node is without the address.
#[derive(Debug, thiserror::Error)]
enum ApiAddressError {
    #[error("failed to give {address} to the loopback")]
    Put {
        address: IpAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Changes(AddressError),
}

/// What a node has on its loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiAddress {
    address: IpAddr,
    label: String,
}

impl ApiAddress {
    pub(crate) fn of(config: &NodeConfig) -> Self {
        Self { address: config.api_address, label: api_address_label(&config.cluster) }
    }
}

/// Gives the node the address at once, and again whenever somebody takes it away.
pub(crate) fn start(wanted: &ApiAddress, board: &Board, tasks: &mut JoinSet<()>) {
    // Before anybody listens there. If it fails it fails again, and is told then.
    let _put = put(wanted);
    tasks.spawn(keep(wanted.clone(), board.clone()));
}

async fn keep(wanted: ApiAddress, board: Board) {
    loop {
        let Err(error) = follow(&wanted, &board).await;
        board.trouble(SUBJECT, &format!("Pods may not reach the API: {}.", chain(&error)));
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow(wanted: &ApiAddress, board: &Board) -> Result<Infallible, ApiAddressError> {
    let changes = Changes::listen().map_err(ApiAddressError::Changes)?;
    loop {
        put(wanted).map_err(|source| ApiAddressError::Put { address: wanted.address, source })?;
        board.mended(SUBJECT);
        changes.next().await.map_err(ApiAddressError::Changes)?;
    }
}

/// Gives the loopback an address, unless it has it.
fn put(wanted: &ApiAddress) -> io::Result<()> {
    let IpAddr::V4(address) = wanted.address else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it is no IPv4 address"));
    };
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &request(address, &wanted.label), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 1024];
    let (_, length) = recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
    // The header, then the number of the error, negative.
    let code = answer[..length].get(HEADER..HEADER + 4).and_then(|code| code.try_into().ok());
    let code =
        code.map(i32::from_ne_bytes).ok_or_else(|| io::Error::other("the kernel's answer is cut off"))?;
    if code == 0 || -code == Errno::EXIST.raw_os_error() {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(-code))
}

fn request(address: Ipv4Addr, label: &str) -> Vec<u8> {
    let mut body = vec![INET, WHOLE, 0, SCOPE_HOST];
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend(attribute(LOCAL, &address.octets()));
    body.extend(attribute(ADDRESS, &address.octets()));
    body.extend(attribute(LABEL, format!("{label}\0").as_bytes()));
    let mut request = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    request.extend(NEW_ADDRESS.to_ne_bytes());
    request.extend((REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE).to_ne_bytes());
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Command;

    use super::*;
    use crate::testing::node_config;

    /// In a network of its own, as this one is the machine's.
    #[test]
    fn the_loopback_gets_the_address_and_gets_it_back() {
        let alone = Command::new("unshare")
            .args(["--net", "--map-root-user"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "api_address::tests::keep_an_address", "--ignored"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && said.contains("1 passed"), "{said}");
    }

    #[tokio::test]
    #[ignore = "run by the test above, in a network of its own"]
    async fn keep_an_address() {
        let ip = |arguments: &str| {
            let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        ip("link set dev lo up");
        let board = Board::new();
        let mut tasks = JoinSet::new();
        let wanted = ApiAddress::of(&node_config());
        let (address, label) = (wanted.address, &wanted.label);
        start(&wanted, &board, &mut tasks);
        UdpSocket::bind((address, 0)).unwrap();
        put(&wanted).unwrap();
        let listed = ip("address show dev lo");
        assert!(listed.contains(&format!("inet {address}/32 scope host {label}\n")), "{listed}");
        let comes_back = async {
            ip(&format!("address delete {address}/32 dev lo"));
            while UdpSocket::bind((address, 0)).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), comes_back).await.unwrap();
        // This is how the driver takes it away from a machine.
        tasks.shutdown().await;
        for _ in 0..2 {
            ip(&format!("address flush dev lo label {label}"));
            let listed = ip("address show dev lo");
            assert!(!listed.contains(label) && listed.contains("127.0.0.1"), "{listed}");
        }
    }

    #[tokio::test]
    async fn why_there_is_no_address_is_told() {
        let board = Board::new();
        let address = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 0]);
        let impossible = ApiAddress { address, ..ApiAddress::of(&node_config()) };
        let keeping = tokio::spawn(keep(impossible, board.clone()));
        let status = board.wait(|status| !status.troubles.is_empty()).await;
        assert!(status.troubles[0].contains("failed to give :: to the loopback"), "{:?}", status.troubles);
        keeping.abort();
    }
}
