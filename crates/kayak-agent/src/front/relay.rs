//! Passes bytes between a client and an instance.
//!
//! A node has hundreds of watches that are silent nearly always: a connection owns no buffer, only
//! the thread does, and what the other side does not take at once is kept until it does.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown, sockopt};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pool::Picked;

const BUFFER: usize = 64 << 10;
/// How long what an instance said before its end may take to reach the client.
const DRAIN: Duration = Duration::from_secs(2);
/// A client whose machine vanished is noticed after this and nine more tries.
const KEEPALIVE: Duration = Duration::from_secs(30);

thread_local! {
    /// Used between a read and a write without a pause in between, so one is enough.
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

/// Sets up one of the two sockets.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Others have put their bytes together already; holding them back only costs time.
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    Ok(())
}

/// Relays until both sides have said all, one fails, or the instance is not to be used any more.
pub(super) async fn run(client: &TcpStream, server: &TcpStream, picked: Picked) -> io::Result<()> {
    let both = async { tokio::try_join!(pump(client, server), pump(server, client)).map(drop) };
    tokio::pin!(both);
    let mut close = picked.close.clone();
    tokio::select! {
        result = &mut both => result,
        change = close.changed() => match change {
            Ok(()) => Err(io::Error::new(ErrorKind::ConnectionAborted, "the instance is dead")),
            // The instance ended: the kernel has closed its sockets, but what it said last may
            // still be on its way through here.
            Err(_) => timeout(DRAIN, both).await?,
        },
    }
}

/// Passes on what `from` says until it has said all, then tells `to`.
async fn pump(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    loop {
        from.readable().await?;
        match pass(from, to) {
            // Who talks without a pause must let the others have a turn.
            Ok(Passed::All) => tokio::task::consume_budget().await,
            Ok(Passed::Rest(rest)) => write_all(to, &rest).await?,
            Ok(Passed::End) => return Ok(shutdown(to, Shutdown::Write)?),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// What became of what was read.
enum Passed {
    All,
    /// The other side did not take this part of it yet.
    Rest(Vec<u8>),
    /// Nothing was read, and nothing will be.
    End,
}

fn pass(from: &TcpStream, to: &TcpStream) -> io::Result<Passed> {
    SHARED.with_borrow_mut(|buffer| {
        let count = from.try_read(buffer)?;
        if count == 0 {
            return Ok(Passed::End);
        }
        let written = match to.try_write(&buffer[..count]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            result => result?,
        };
        Ok(match &buffer[written..count] {
            [] => Passed::All,
            rest => Passed::Rest(rest.to_vec()),
        })
    })
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.ready(Interest::WRITABLE).await?;
        match to.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
