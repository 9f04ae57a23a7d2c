//! The entry point of etcd's container: goes on with the data that are here, begins a cluster where that is
//! allowed, or joins the one there is; then becomes etcd.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kayak_core::chain::chain;
use kayak_core::component::etcd::peer_url;
use tokio::signal::unix::{SignalKind, signal};

use crate::etcd::join::{Start, Step, start, step};
use crate::etcd::{Access, Client, ClientError, Controllers};
pub use crate::etcd::{Place, PlaceError};
pub use crate::exec::ExecError;
use crate::exec::exec;
pub use crate::tls::Identity;

/// A question that is refused costs little, and the API server of this node waits for the answer.
const PAUSE: Duration = Duration::from_millis(250);

/// Which member to become, and of whom it is learnt.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's name, also the member's.
    pub name: String,
    /// Where its files are.
    pub place: Place,
    /// The CA bundle by which other members are believed.
    pub ca: PathBuf,
    /// The client certificate to show them.
    pub identity: Identity,
    /// etcd and its flags, but those about the cluster that it begins or joins.
    pub command: Vec<String>,
}

/// Why etcd does not run.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Its files are not as they should be.
    #[error("failed to see to the member's files")]
    Place(#[source] PlaceError),
    /// There is no event loop.
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
    /// Signals cannot be received.
    #[error("failed to listen to signals")]
    Signals(#[source] io::Error),
    /// etcd cannot be run.
    #[error(transparent)]
    Exec(ExecError),
}

/// Becomes etcd; returns without an error only when it is told to end before that.
pub fn run(options: &Options) -> Result<(), MemberError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(MemberError::Runtime)?;
    let command = runtime.block_on(async {
        // The first process of a container ignores what it does not listen to.
        let mut terminate = signal(SignalKind::terminate()).map_err(MemberError::Signals)?;
        tokio::select! {
            command = command(options) => command.map(Some),
            _ = terminate.recv() => Ok(None),
        }
    })?;
    drop(runtime);
    command.map_or(Ok(()), |command| Err(MemberError::Exec(exec(&command))))
}

/// Waits until it is clear how etcd starts, for as long as it takes, and returns the command. That nobody
/// answers is no reason to begin another cluster.
pub(crate) async fn command(options: &Options) -> Result<Vec<String>, MemberError> {
    let place = &options.place;
    let mut told = None;
    let mut waits_since = None;
    loop {
        // Each time: the leave to begin may come, and so may other controllers.
        match start(place.look().map_err(MemberError::Place)?) {
            Start::Resume => {
                tracing::info!("going on with the data that are here");
                place.forbid_beginning().and_then(|()| place.note_joined()).map_err(MemberError::Place)?;
                return Ok(options.command.clone());
            }
            Start::Begin => {
                tracing::info!("beginning a new cluster");
                place.note_joined().map_err(MemberError::Place)?;
                let alone = format!("{}={}", options.name, peer_url(&options.name));
                return Ok(with_cluster(&options.command, &alone, "new"));
            }
            Start::Join => {}
        }
        match join(options, &mut waits_since).await {
            Ok(list) => {
                tracing::info!("joining the cluster {list}");
                place.clear().and_then(|()| place.note_joined()).map_err(MemberError::Place)?;
                return Ok(with_cluster(&options.command, &list, "existing"));
            }
            Err(because) if told.as_ref() == Some(&because) => {}
            Err(because) => {
                tracing::info!("waiting to join the cluster: {because}");
                told = Some(because);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn with_cluster(command: &[String], list: &str, state: &str) -> Vec<String> {
    let flags = [format!("--initial-cluster={list}"), format!("--initial-cluster-state={state}")];
    command.iter().cloned().chain(flags).collect()
}

/// Asks the other members in turn until one helps; returns the members that etcd is to find, or why it has
/// to wait.
async fn join(options: &Options, waits_since: &mut Option<Instant>) -> Result<String, String> {
    let me = &options.name;
    let controllers = Controllers::read(&options.place.controllers).map_err(|error| chain(&error))?;
    let access = Access { ca: options.ca.clone(), identity: options.identity.clone() };
    let mut reasons = Vec::new();
    for (name, mut client) in controllers.others(me, &access) {
        match enter(me, &mut client, &controllers, waits_since).await {
            Ok(Some(list)) => return Ok(list),
            Ok(None) => return Err("others are expected to join at the same time".into()),
            Err(error) => reasons.push(format!("{name}: {}", chain(&error))),
        }
    }
    if reasons.is_empty() {
        reasons.push("no other controller is known, and this one may not begin a cluster".into());
    }
    Err(reasons.join("; "))
}

/// Goes as far as one member lets it; returns the members there are once this is one of them.
async fn enter(
    me: &str,
    client: &mut Client,
    controllers: &Controllers,
    waits_since: &mut Option<Instant>,
) -> Result<Option<String>, ClientError> {
    let mut members = client.members().await?;
    loop {
        let waited = waits_since.map_or(Duration::ZERO, |since| since.elapsed());
        match step(me, &members, controllers, waited) {
            Step::Remove(id) => {
                tracing::info!("removing the member {id:x}: it was this one, whose data are gone");
                members = client.remove(id).await?;
            }
            Step::Add => members = client.add_learner(&peer_url(me)).await?,
            Step::Wait => {
                waits_since.get_or_insert_with(Instant::now);
                return Ok(None);
            }
            Step::Enter(list) => return Ok(Some(list)),
        }
    }
}
