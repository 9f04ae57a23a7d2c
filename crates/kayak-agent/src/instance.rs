//! The entry point of a control-plane container: fills in the instance's own address, waits for
//! what the component cannot start without, and becomes the component.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kayak_core::chain::chain;
use kayak_core::instance::{PLACEHOLDER, address};
use rustls_pki_types::ServerName;

pub use crate::exec::ExecError;
use crate::exec::exec;
use crate::https;
use crate::tls::{Identity, TlsError, client_config};

/// The variable with the UID of the pod this runs in.
const POD_UID: &str = "POD_UID";
/// A question that is refused costs next to nothing, and everything else waits for the answer.
const PAUSE: Duration = Duration::from_millis(100);
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Longer than the agent holds a connection while no API server is ready.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What to become, and what to wait for.
#[derive(Debug, Clone)]
pub struct Options {
    /// What must answer first.
    pub wait: Option<Awaited>,
    /// Program and arguments; the placeholder in an argument becomes the instance's address.
    pub command: Vec<String>,
}

/// What a component cannot start without: its etcd member, or an API server.
#[derive(Debug, Clone)]
pub struct Awaited {
    /// What answers 200 when it is there, `https://127.0.0.1:2379/health`.
    pub url: String,
    /// The CA bundle its certificate is verified with.
    pub ca: PathBuf,
    /// The client certificate to show.
    pub identity: Option<Identity>,
}

/// Why an instance has no address.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the environment variable `{POD_UID}`")]
pub struct AddressError(#[source] std::env::VarError);

/// Why the component does not run.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// It is unknown where it should listen.
    #[error("failed to find the instance's address")]
    Address(#[source] AddressError),
    /// The URL to wait for is none.
    #[error("`{0}` is no URL like `https://127.0.0.1:2379/health`")]
    Url(String),
    /// Certificates cannot be had.
    #[error("failed to prepare the connection to what must answer first")]
    Tls(#[source] TlsError),
    /// The component cannot be run.
    #[error(transparent)]
    Exec(ExecError),
}

/// Becomes the component; returns only if that fails.
pub fn run(options: &Options) -> Result<std::convert::Infallible, InstanceError> {
    let own = own_address().map_err(InstanceError::Address)?;
    let command = fill_in(&options.command, own);
    if let Some(awaited) = &options.wait {
        wait_for(awaited)?;
    }
    Err(InstanceError::Exec(exec(&command)))
}

/// Returns the address of the instance this process belongs to.
pub(crate) fn own_address() -> Result<Ipv4Addr, AddressError> {
    let uid = std::env::var(POD_UID).map_err(AddressError)?;
    Ok(address(&uid))
}

fn fill_in(command: &[String], address: Ipv4Addr) -> Vec<String> {
    let address = address.to_string();
    let fill = |argument: &String| argument.replace(PLACEHOLDER, &address);
    command.iter().map(fill).collect()
}

/// Waits until it answers that it is well; for etcd that includes that it has a leader.
///
/// For as long as it takes: a component that starts without what it needs ends after some seconds,
/// and after some rounds of that the kubelet pauses longer than the other needs to come back.
fn wait_for(awaited: &Awaited) -> Result<(), InstanceError> {
    let url = &awaited.url;
    let (server_name, address, path) = endpoint(url).ok_or_else(|| InstanceError::Url(url.clone()))?;
    let tls = Arc::new(client_config(&awaited.ca, awaited.identity.as_ref()).map_err(InstanceError::Tls)?);
    let request = https::Request { address, server_name, path, timeout: ANSWER_WITHIN };
    let mut reported = Instant::now();
    loop {
        let because = match https::get(Arc::clone(&tls), &request) {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) => format!("it answers {}: {}", answer.status, answer.body.trim()),
            Err(error) => chain(&error),
        };
        if reported.elapsed() >= REPORT_EVERY {
            tracing::warn!("waiting for {url}: {because}");
            reported = Instant::now();
        }
        std::thread::sleep(PAUSE);
    }
}

fn endpoint(url: &str) -> Option<(ServerName<'static>, SocketAddr, &str)> {
    let rest = url.strip_prefix("https://")?;
    let (authority, path) = rest.split_at(rest.find('/')?);
    let (host, _) = authority.rsplit_once(':')?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).ok()?;
    let address = authority.to_socket_addrs().ok()?.next()?;
    Some((name, address, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_placeholder_is_filled_in_wherever_it_is() {
        let command = ["prog", "--bind=$(INSTANCE_IP)", "--url=https://$(INSTANCE_IP):1/x"];
        let command = command.map(str::to_owned);
        assert_eq!(
            fill_in(&command, Ipv4Addr::new(127, 64, 0, 9)),
            ["prog", "--bind=127.64.0.9", "--url=https://127.64.0.9:1/x"]
        );
    }

    #[test]
    fn what_is_awaited_is_named_by_an_https_url_with_port_and_path() {
        let (name, address, path) = endpoint("https://127.0.0.1:2379/health").unwrap();
        assert_eq!(name.to_str(), "127.0.0.1");
        assert_eq!((address, path), ("127.0.0.1:2379".parse().unwrap(), "/health"));
        assert!(endpoint("https://[::1]:2379/health").is_some());
        assert!(endpoint("http://127.0.0.1:2379/health").is_none());
        assert!(endpoint("https://127.0.0.1:2379").is_none());
        assert!(endpoint("https://127.0.0.1/health").is_none());
    }
}
