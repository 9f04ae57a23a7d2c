//! A client for the runtime of a node: the Container Runtime Interface, version 1.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// What `build.rs` generates from `proto/api.proto`.
#[expect(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated from upstream's description, whose comments are not written for rustdoc"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// The client of the runtime's pods and containers.
pub type RuntimeClient = v1::runtime_service_client::RuntimeServiceClient<Channel>;

/// The label with the UID of the pod a container or sandbox belongs to.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// The label with the name of that pod.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// The label with the namespace of that pod.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The label with the name a container has in its pod.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// The annotation with how often the kubelet has restarted a container in its pod.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";

/// Why the runtime cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("failed to connect to the runtime at `{}`", socket.display())]
pub struct ConnectError {
    socket: PathBuf,
    #[source]
    source: tonic::transport::Error,
}

/// Connects to the pods and containers of the runtime that listens on `socket`.
pub async fn connect(socket: impl AsRef<Path>) -> Result<RuntimeClient, ConnectError> {
    // Answers grow with the number of containers; the default of 4 MiB is upstream's old limit,
    // which the kubelet raised to 16 MiB (cri-client's maxMsgSize) after lists broke it.
    Ok(RuntimeClient::new(channel(socket.as_ref()).await?).max_decoding_message_size(16 << 20))
}

async fn channel(socket: &Path) -> Result<Channel, ConnectError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The authority is never resolved, but containerd refuses requests whose `:authority` is no
    // host name, such as the socket's path.
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .map_err(|source| ConnectError { socket: socket.to_owned(), source })
}
