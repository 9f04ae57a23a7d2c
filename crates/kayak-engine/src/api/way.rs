//! Which of the ways in a kubeconfig leads to an API: any controller may be down.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::config::Kubeconfig;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a controller may take to accept a connection.
const PATIENCE: Duration = Duration::from_millis(500);

/// Returns the context to take instead of the current one, if the text is a kubeconfig and that has one.
pub async fn detour(kubeconfig: &str) -> Option<String> {
    let parsed = Kubeconfig::from_yaml(kubeconfig).ok()?;
    let chosen = context(&parsed).await;
    chosen.filter(|chosen| Some(chosen) != parsed.current_context.as_ref())
}

/// Returns the context to take: the current one if its server accepts connections, or if none does, else
/// the first whose server does. An agent's port is closed while it knows no API server that is ready.
pub(super) async fn context(kubeconfig: &Kubeconfig) -> Option<String> {
    let current = kubeconfig.current_context.clone();
    let others = kubeconfig.contexts.iter().map(|context| context.name.clone());
    let others = others.filter(|name| Some(name) != current.as_ref());
    let all: Vec<_> = current.iter().cloned().chain(others).collect();
    if all.len() < 2 {
        return current;
    }
    let count = all.len();
    let ways = all.into_iter().map(|name| (address(kubeconfig, &name), name));
    let accepts = stream::iter(ways.collect::<Vec<_>>()).map(|(address, name)| async move {
        timeout(PATIENCE, TcpStream::connect(address?)).await.ok()?.ok().map(|_| name)
    });
    let mut accepts = std::pin::pin!(accepts.buffered(count).filter_map(std::future::ready));
    accepts.next().await.or(current)
}

/// The host and port of a context's server.
fn address(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let context = kubeconfig.contexts.iter().find(|one| one.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|one| one.name == context.cluster)?.cluster.as_ref()?;
    Some(cluster.server.as_ref()?.strip_prefix("https://")?.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn kubeconfig(servers: &[(&str, u16)]) -> Kubeconfig {
        let items =
            |item: &dyn Fn(&(&str, u16)) -> String| servers.iter().map(item).collect::<Vec<_>>().concat();
        let clusters = items(&|(name, port)| {
            format!("- {{ name: {name}, cluster: {{ server: \"https://127.0.0.1:{port}\" }} }}\n")
        });
        let contexts =
            items(&|(name, _)| format!("- {{ name: {name}, context: {{ cluster: {name}, user: u }} }}\n"));
        let text = format!("current-context: a\nusers: []\nclusters:\n{clusters}contexts:\n{contexts}");
        Kubeconfig::from_yaml(&text).unwrap()
    }

    #[tokio::test]
    async fn a_server_that_accepts_is_preferred_to_one_that_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().port();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let chosen = async |servers: &[_]| context(&kubeconfig(servers)).await.unwrap();
        assert_eq!(chosen(&[("a", closed), ("b", open)]).await, "b");
        assert_eq!(chosen(&[("a", open), ("b", open)]).await, "a");
        assert_eq!(chosen(&[("a", closed), ("b", closed)]).await, "a");
    }
}
