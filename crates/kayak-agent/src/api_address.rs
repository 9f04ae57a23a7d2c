//! The address behind the API's service address: each node has it for itself, on its loopback.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use kayak_core::chain::chain;
use kayak_core::node::{NodeConfig, api_address_label};
use tokio::task::JoinSet;

use crate::address::{AddressError, Changes};
use crate::netlink::{self, LinkAddress, SCOPE_HOST};
use crate::status::Board;

const SUBJECT: &str = "API address";
const RETRY: Duration = Duration::from_secs(1);

/// The kernel's number of the loopback in every network.
const LOOPBACK: u32 = 1;

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
    let label = Some(wanted.label.as_str());
    netlink::add(&LinkAddress { address: wanted.address, link: LOOPBACK, scope: SCOPE_HOST, label })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::testing::{has_network_of_its_own, ip, node_config};

    #[tokio::test]
    async fn the_loopback_gets_the_address_and_gets_it_back() {
        if !has_network_of_its_own("api_address::tests::the_loopback_gets_the_address_and_gets_it_back") {
            return;
        }
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
    async fn an_address_of_ipv6_is_there_at_once() {
        if !has_network_of_its_own("api_address::tests::an_address_of_ipv6_is_there_at_once") {
            return;
        }
        ip("link set dev lo up");
        let address: IpAddr = "fd00:244::ffff".parse().unwrap();
        let wanted = ApiAddress { address, ..ApiAddress::of(&node_config()) };
        put(&wanted).unwrap();
        put(&wanted).unwrap();
        UdpSocket::bind((address, 0)).unwrap();
        let listed = ip("address show dev lo");
        assert!(listed.contains("inet6 fd00:244::ffff/128 scope global"), "{listed}");
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
