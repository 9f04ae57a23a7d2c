//! Keeps this node's control plane alive without an API: what was seen healthy is kept on the disk, and given to the
//! kubelet while it is missed. What is done when is `kayak_core::checkpoint::state`'s to say.

mod look;
mod make;
mod store;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kayak_core::chain::chain;
use kayak_core::checkpoint::culprit::Culprit;
use kayak_core::checkpoint::state::{
    Action, LeaseMemory, Memory, Need, Own, State, decide, is_placed_at_boot,
};
use kayak_core::checkpoint::{CHECKPOINT, COMPONENTS, DIRECTORY};
use kayak_core::component::apiserver;
use kayak_core::host::{KUBELET_KUBECONFIG, MANIFEST_DIR};
use kayak_core::node::{CRI_SOCKET, CheckpointStatus, NodeConfig};
use kayak_cri::ConnectError;
use kayak_cri::v1::StopContainerRequest;
use tokio::time::timeout;

use crate::status::Board;
use crate::write;
use look::{Held, View};
use make::MakeError;
use store::{Found, Generation, Origin, Store, StoreError};

/// Gone after a restart of the node, as is all that ran there.
const BOOTED: &str = "/run/kayak/checkpoints";
/// How soon to look again while something is missed, or about to be kept: waiting is counted in seconds.
const SOON: Duration = Duration::from_secs(1);
/// How soon to look again while all is well: probes tell what changes.
const LATER: Duration = Duration::from_secs(20);
/// How old an answer may be about what is wrong.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Seconds that a checkpoint has to end by itself before another generation takes its place.
const STOP_SECONDS: i64 = 5;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
enum CheckpointError {
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Make(MakeError),
    #[error("failed to write `{}`", path.display())]
    Manifest {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to note that the node has started")]
    Boot(#[source] io::Error),
    #[error(transparent)]
    Connect(ConnectError),
    #[error("failed to stop the container that runs another generation")]
    Stop(#[source] Box<tonic::Status>),
}

/// What a component is missed without.
fn need(component: &str) -> Need {
    if component == apiserver::NAME { Need::Api } else { Need::Leader }
}

fn subject(component: &str) -> String {
    format!("checkpoint of {component}")
}

/// One component's checkpoint.
struct Checkpoint {
    component: &'static str,
    store: Store,
    manifest: PathBuf,
    found: Found,
    memory: Memory,
    lease: LeaseMemory,
    /// Why it has to stand in, and when that was asked.
    culprit: Option<(Duration, Culprit)>,
}

impl Checkpoint {
    fn new(component: &'static str) -> Result<Self, CheckpointError> {
        let store = Store::new(Path::new(DIRECTORY).join(component));
        let manifest = Path::new(MANIFEST_DIR).join(format!("{CHECKPOINT}{component}.json"));
        let found = store.find().map_err(CheckpointError::Store)?;
        let (memory, lease) = (Memory::default(), LeaseMemory::default());
        Ok(Self { component, store, manifest, found, memory, lease, culprit: None })
    }

    fn state(&self) -> State {
        match (self.manifest.exists(), self.found.usable.is_empty()) {
            (true, _) => State::Active,
            (false, false) => State::Kept,
            (false, true) => State::Empty,
        }
    }

    /// The generation in use; the newest if none is.
    fn chosen(&self) -> Option<&Generation> {
        let chosen = self.store.chosen();
        let is_it = |one: &&Generation| Some(&one.name) == chosen.as_ref();
        self.found.usable.iter().find(is_it).or(self.found.usable.first())
    }

    fn tell(&self, board: &Board) {
        let generation = self.chosen();
        let status = CheckpointStatus {
            generation: generation.map(|one| one.name.clone()),
            of: generation.map(|one| one.of.pod.clone()),
            active: self.state() == State::Active,
            because: self.culprit.as_ref().map(|(_, culprit)| culprit.because.clone()),
            mend: self.culprit.as_ref().map(|(_, culprit)| culprit.mend.clone()),
        };
        board.checkpoint(self.component, &status);
    }

    /// Reads the disk again.
    fn refresh(&mut self) -> Result<(), CheckpointError> {
        self.found = self.store.find().map_err(CheckpointError::Store)?;
        for broken in &self.found.broken {
            tracing::warn!(component = self.component, "a generation cannot be used: {broken}");
        }
        Ok(())
    }

    /// Looks, decides and acts; says whether to look again soon.
    async fn step(&mut self, config: &NodeConfig, view: &View) -> Result<bool, CheckpointError> {
        let need = need(self.component);
        let held = Held {
            state: self.state(),
            newest: self.found.usable.first().map(|one| &one.of),
            generations: self.found.usable.len(),
        };
        let (seen, of) = look::look(config, view, self.component, need, &held, &mut self.lease).await;
        let lasting = self.memory.see(&seen, look::now());
        let state = held.state;
        match (decide(need, state, &seen, &lasting), of) {
            (Action::Wait, _) | (Action::Keep, None) => {}
            (Action::Keep, Some(of)) => self.keep(config, &of, state).await?,
            (Action::Place, _) => {
                tracing::warn!(
                    component = self.component,
                    ?seen,
                    ?lasting,
                    "it is missed: its checkpoint takes over"
                );
                self.refresh()?;
                let newest = self.found.usable.first().map(|one| one.name.clone());
                self.place(newest)?;
                self.memory.begin_anew();
            }
            (Action::Switch, _) => {
                self.switch(view).await?;
                self.memory.begin_anew();
            }
            (Action::Withdraw, _) => {
                tracing::info!(component = self.component, ?seen, "its checkpoint is not needed any more");
                self.withdraw()?;
            }
        }
        self.ask_why(config, view, seen.own).await;
        let waits = match (need, seen.own) {
            (_, Own::Serving { kept }) => !kept,
            (Need::Leader, _) => true,
            (Need::Api, _) => !lasting.missed.is_zero(),
        };
        Ok(waits || state != State::Kept)
    }

    /// Asks the API, which the checkpoint may be the one to serve, why it has to stand in.
    async fn ask_why(&mut self, config: &NodeConfig, view: &View, own: Own) {
        if self.state() != State::Active || matches!(own, Own::Serving { .. }) {
            self.culprit = None;
            return;
        }
        let now = look::now();
        let is_new = self.culprit.as_ref().is_some_and(|(asked, _)| now.saturating_sub(*asked) < ASK_AGAIN);
        if is_new || !view.api_serves() {
            return;
        }
        let asked = make::culprit(KUBELET_KUBECONFIG, self.component, &config.name);
        match timeout(look::ANSWER, asked).await {
            Ok(Ok(culprit)) => self.culprit = Some((now, culprit)),
            Ok(Err(error)) => tracing::debug!("why it stands in is not known: {}", chain(&error)),
            Err(_) => tracing::debug!("why it stands in was not answered"),
        }
    }

    async fn keep(&mut self, config: &NodeConfig, of: &Origin, state: State) -> Result<(), CheckpointError> {
        let directory = self.store.current().display().to_string();
        let made = make::make(KUBELET_KUBECONFIG, self.component, &config.name, of, &directory).await;
        let made = made.map_err(CheckpointError::Make)?;
        let used = self.store.chosen().filter(|_| state == State::Active);
        let name = self.store.keep(of, &made, used.as_deref()).map_err(CheckpointError::Store)?;
        tracing::info!(component = self.component, name, pod = of.pod, "it is healthy, and kept");
        if state != State::Active {
            self.store.choose(&name).map_err(CheckpointError::Store)?;
        }
        self.refresh()
    }

    /// The link first: a manifest without its files would be started in vain.
    fn place(&self, generation: Option<String>) -> Result<(), CheckpointError> {
        let Some(name) = generation else { return Ok(()) };
        let pod = self.store.pod(&name).map_err(CheckpointError::Store)?;
        self.store.choose(&name).map_err(CheckpointError::Store)?;
        let failed = |source| CheckpointError::Manifest { path: self.manifest.clone(), source };
        write::privately(&self.manifest, &pod).map_err(failed)
    }

    /// Has another generation run under the same pod: its container is made anew, with what the link leads to then.
    /// The manifest is never away: a kubelet without an API would neither end the old pod nor begin another.
    async fn switch(&mut self, view: &View) -> Result<(), CheckpointError> {
        self.refresh()?;
        let chosen = self.store.chosen();
        let at = self.found.usable.iter().position(|one| Some(&one.name) == chosen.as_ref());
        let count = self.found.usable.len();
        // The next older one; after the oldest the newest again.
        let next = at.map_or(0, |at| (at + 1) % count.max(1));
        let next = self.found.usable.get(next).map(|one| one.name.clone());
        tracing::warn!(component = self.component, from = ?chosen, to = ?next, "it does not come to serve");
        self.place(next)?;
        if let Some(container_id) = view.copy(self.component) {
            let mut runtime = kayak_cri::connect(CRI_SOCKET).await.map_err(CheckpointError::Connect)?;
            let stop = StopContainerRequest { container_id, timeout: STOP_SECONDS };
            let stopped = runtime.stop_container(stop).await;
            stopped.map_err(|status| CheckpointError::Stop(Box::new(status)))?;
        }
        Ok(())
    }

    fn withdraw(&self) -> Result<(), CheckpointError> {
        let failed = |source| CheckpointError::Manifest { path: self.manifest.clone(), source };
        match fs::remove_file(&self.manifest) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => store::sync_directory(Path::new(MANIFEST_DIR)).map_err(failed)?,
        }
        // Nobody uses the one that was: the next is the newest.
        match self.found.usable.first() {
            Some(newest) => self.store.choose(&newest.name).map_err(CheckpointError::Store),
            None => Ok(()),
        }
    }

    /// What holds before anything of the node runs.
    fn start(&self) -> Result<(), CheckpointError> {
        let state = if self.found.usable.is_empty() { State::Empty } else { State::Kept };
        if is_placed_at_boot(need(self.component), state) {
            self.place(self.found.usable.first().map(|one| one.name.clone()))
        } else {
            self.withdraw()
        }
    }
}

/// Gives the kubelet what it has to begin with, if the node has just started: then nothing of it runs.
pub(crate) fn at_boot(config: &NodeConfig, board: &Board) {
    if config.controller.is_none() || Path::new(BOOTED).exists() {
        return;
    }
    for component in COMPONENTS {
        let started = Checkpoint::new(component).and_then(|checkpoint| {
            checkpoint.start()?;
            checkpoint.tell(board);
            Ok(())
        });
        if let Err(error) = started {
            trouble(board, component, &error);
        }
    }
    if let Err(error) = fs::write(BOOTED, []).map_err(CheckpointError::Boot) {
        trouble(board, apiserver::NAME, &error);
    }
}

fn trouble(board: &Board, component: &str, error: &CheckpointError) {
    let because = chain(error);
    let sentence = format!("What is kept of {component} is not as it should be: {because}.");
    match error {
        CheckpointError::Make(error) if error.is_passing() => {
            board.passing_trouble(&subject(component), &sentence);
        }
        _ => board.trouble(&subject(component), &sentence),
    }
}

/// Looks after all checkpoints for ever.
pub(crate) async fn run(config: NodeConfig, board: Board) {
    let mut checkpoints = BTreeMap::new();
    loop {
        let fronts = board.seen().fronts;
        let view = View::take(&board).await;
        let mut soon = false;
        for component in COMPONENTS {
            let stepped = match checkpoints.remove(component).map_or_else(|| Checkpoint::new(component), Ok) {
                Ok(mut checkpoint) => {
                    let stepped = checkpoint.step(&config, &view).await;
                    checkpoint.tell(&board);
                    checkpoints.insert(component, checkpoint);
                    stepped
                }
                Err(error) => Err(error),
            };
            match stepped {
                Ok(again) => {
                    board.mended(&subject(component));
                    soon |= again;
                }
                Err(error) => {
                    trouble(&board, component, &error);
                    soon = true;
                }
            }
        }
        // A change, or the time that something has lasted: whichever comes first.
        let changed = board.fronts(|now| *now != fronts);
        let _either = timeout(if soon { SOON } else { LATER }, changed).await;
    }
}
