//! Which of the ways in a kubeconfig leads to an API: any controller may be down, or stand still.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Refused, connect};

/// How long a controller may take to accept a connection.
const ACCEPTS: Duration = Duration::from_millis(500);
/// How long an API server may take to say that it is ready, beside others that may be faster.
const READY: Duration = Duration::from_secs(1);

/// How far one way leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Leads {
    /// Nobody accepts connections there.
    Nowhere,
    /// Somebody does, and may hold them until an API server is ready.
    ToAnAgent,
    /// An API server there is ready.
    ToAnApi,
}

/// Returns the context to take instead of the current one, if the text is a kubeconfig and that has one.
pub async fn detour(kubeconfig: &str) -> Option<String> {
    let parsed = Kubeconfig::from_yaml(kubeconfig).ok()?;
    let chosen = context(&parsed).await;
    chosen.filter(|chosen| Some(chosen) != parsed.current_context.as_ref())
}

/// Returns the context to take: the first whose API server says that it is ready. If none does, the current
/// one if its server accepts connections, or if none does, else the first whose server does.
pub(super) async fn context(kubeconfig: &Kubeconfig) -> Option<String> {
    let current = kubeconfig.current_context.clone();
    let others = kubeconfig.contexts.iter().map(|context| context.name.clone());
    let others = others.filter(|name| Some(name) != current.as_ref());
    let all: Vec<_> = current.iter().cloned().chain(others).collect();
    if all.len() < 2 {
        return current;
    }
    let ask = |(at, name): (usize, String)| async move { (leads(kubeconfig, &name).await, at, name) };
    let mut told = stream::iter(all.into_iter().enumerate()).map(ask).buffer_unordered(usize::MAX);
    let mut best = None;
    while let Some((leads, at, name)) = told.next().await {
        match leads {
            Leads::ToAnApi => return Some(name),
            Leads::ToAnAgent if best.as_ref().is_none_or(|(first, _)| at < *first) => best = Some((at, name)),
            Leads::ToAnAgent | Leads::Nowhere => {}
        }
    }
    best.map(|(_, name)| name).or(current)
}

async fn leads(kubeconfig: &Kubeconfig, context: &str) -> Leads {
    let Some(address) = address(kubeconfig, context) else { return Leads::Nowhere };
    match timeout(ACCEPTS, TcpStream::connect(address)).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Leads::Nowhere,
    }
    match timeout(READY, is_ready(kubeconfig, context)).await {
        Ok(Some(())) => Leads::ToAnApi,
        Ok(None) | Err(_) => Leads::ToAnAgent,
    }
}

async fn is_ready(kubeconfig: &Kubeconfig, context: &str) -> Option<()> {
    let options = KubeConfigOptions { context: Some(context.into()), ..KubeConfigOptions::default() };
    let client = connect(kubeconfig.clone(), &options, Refused::Told).await.ok()?;
    let request = http::Request::get("/readyz").body(Vec::new()).ok()?;
    client.request_text(request).await.ok().map(drop)
}

/// The host and port of a context's server.
fn address(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let context = kubeconfig.contexts.iter().find(|one| one.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|one| one.name == context.cluster)?.cluster.as_ref()?;
    Some(cluster.server.as_ref()?.split_once("://")?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn kubeconfig(servers: &[(&str, u16)]) -> Kubeconfig {
        let items =
            |item: &dyn Fn(&(&str, u16)) -> String| servers.iter().map(item).collect::<Vec<_>>().concat();
        let clusters = items(&|(name, port)| {
            format!("- {{ name: {name}, cluster: {{ server: \"http://127.0.0.1:{port}\" }} }}\n")
        });
        let contexts =
            items(&|(name, _)| format!("- {{ name: {name}, context: {{ cluster: {name}, user: u }} }}\n"));
        let text = format!(
            "current-context: a\nusers: [{{ name: u, user: {{}} }}]\nclusters:\n{clusters}contexts:\n{contexts}"
        );
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

    /// A server that says this to whoever asks.
    async fn answering(status: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while client.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
                        client.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn a_server_that_is_ready_is_preferred_to_one_that_stands_still() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let still = listener.local_addr().unwrap().port();
        let (ready, failing) = (answering("200 OK").await, answering("500 Failing").await);
        let chosen = async |servers: &[_]| context(&kubeconfig(servers)).await.unwrap();
        assert_eq!(chosen(&[("a", still), ("b", failing), ("c", ready)]).await, "c");
        assert_eq!(chosen(&[("a", failing), ("b", ready)]).await, "b");
        assert_eq!(chosen(&[("a", failing), ("b", failing)]).await, "a");
    }
}
