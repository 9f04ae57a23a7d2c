//! Takes connections and finds each an instance.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt::{set_ip_freebind, set_ipv6_freebind};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::pool::{Among, Picked, Pool};
use super::relay;
use crate::status::{Board, FRONT};

/// How long a client waits for a ready instance before it is turned away. Clients that are refused
/// pause for longer than an instance needs to become ready; those that hear nothing give up after
/// 10 s or more.
const HOLD: Duration = Duration::from_secs(8);
/// An instance on this machine that takes longer to accept does not work, and another node that does is
/// not worth waiting for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How many clients may wait to be accepted; the standard library's number.
const BACKLOG: u32 = 1024;
/// Whatever is in the way may be gone a moment later.
const BIND_RETRY: Duration = Duration::from_millis(100);

/// Listens on `address` for ever, except while no instance may become ready: then the port is closed,
/// as it would be without an agent, which clients take for what it is.
pub(super) async fn run(address: SocketAddr, among: Among, pool: Pool, board: Board) {
    loop {
        pool.until(among, true).await;
        let listener = bind(address, &board).await;
        tokio::select! {
            never = accept(&listener, address, among, &pool) => match never {},
            () = pool.until(among, false) => {}
        }
    }
}

async fn accept(listener: &TcpListener, address: SocketAddr, among: Among, pool: &Pool) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(serve(client, among, pool.clone()))),
            Err(error) => {
                tracing::warn!("failed to accept on {address}: {error}");
                // Out of file descriptors, most likely: it would fail again at once.
                sleep(BIND_RETRY).await;
            }
        }
    }
}

async fn bind(address: SocketAddr, board: &Board) -> TcpListener {
    let subject = format!("{FRONT} {address}");
    loop {
        match listen(address) {
            Ok(listener) => {
                board.mended(&subject);
                return listener;
            }
            Err(error) => {
                board.trouble(&subject, &format!("Listening on {address} fails: {error}."));
                sleep(BIND_RETRY).await;
            }
        }
    }
}

/// Listens also where no link has the address yet: a VPN's may come late, and the virtual one comes and goes.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        let socket = TcpSocket::new_v4()?;
        set_ip_freebind(&socket, true)?;
        socket
    } else {
        let socket = TcpSocket::new_v6()?;
        set_ipv6_freebind(&socket, true)?;
        socket
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves one client from its coming to its end.
async fn serve(client: TcpStream, among: Among, pool: Pool) {
    let Some((server, picked)) = find(&pool, among).await else {
        tracing::debug!("a client was turned away: no instance became ready");
        return;
    };
    let relayed = async {
        relay::prepare(&client)?;
        relay::prepare(&server)?;
        relay::run(&client, &server, picked).await
    };
    if let Err(error) = relayed.await {
        // Clients and servers that reset their connections are everyday life.
        tracing::debug!("a connection ended: {error}");
    }
}

/// Connects to a ready instance, the next one if that fails, and waits while one may become ready.
async fn find(pool: &Pool, among: Among) -> Option<(TcpStream, Picked)> {
    let deadline = Instant::now() + HOLD;
    let mut changes = pool.subscribe();
    loop {
        // Before the look at the pool: a change in between must wake us.
        changes.mark_unchanged();
        while let Some(picked) = pool.pick(among) {
            match connect(picked.address).await {
                Ok(server) => return Some((server, picked)),
                // Not ready until its next probe says so.
                Err(error) => {
                    pool.set_ready(&picked.uid, Some(&format!("failed to connect: {error}")));
                }
            }
        }
        let until = deadline.min(pool.hope(among));
        if until <= Instant::now() {
            return None;
        }
        // Hope may have been renewed when it would have ended.
        let _either = timeout_at(until, changes.changed()).await;
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await?
}
