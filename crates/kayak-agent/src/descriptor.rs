//! Waiting on file descriptors that tokio has no type for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Lets the event loop wait for the descriptor to become readable.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for the sake of types that change or close their descriptor; \
              an `OwnedFd` does neither"
)]
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}
