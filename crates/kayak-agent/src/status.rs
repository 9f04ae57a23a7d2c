//! What the agent sees, told to whoever connects to its socket.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kayak_core::node::{CheckpointStatus, InstanceStatus, MemberStatus, STATUS_SOCKET, Status, UnitStatus};
use tokio::io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::appearance;

/// A reader who only passes on what it reads notices at the next line that its own reader left.
const REPEAT: Duration = Duration::from_secs(10);

/// How subjects about fronts begin.
pub(crate) const FRONT: &str = "front";

/// Why the status cannot be told or read.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The socket cannot be made.
    #[error("failed to listen on `{STATUS_SOCKET}`")]
    Listen(#[source] io::Error),
    /// The socket cannot be waited for.
    #[error("failed to connect to the agent at `{STATUS_SOCKET}`")]
    Connect(#[source] io::Error),
    /// The agent stopped talking.
    #[error("failed to read from the agent at `{STATUS_SOCKET}`")]
    Read(#[source] io::Error),
    /// The reader went away.
    #[error("failed to pass on what the agent tells")]
    Write(#[source] io::Error),
    /// The line is no status.
    #[error("failed to understand what the agent tells")]
    Parse(#[source] serde_json::Error),
}

/// Where all parts of the agent write down what they see.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Default)]
struct State {
    status: Status,
    /// The subjects of `status.troubles`, in the same order.
    subjects: Vec<String>,
}

impl Board {
    pub(crate) fn new() -> Self {
        let (state, _) = watch::channel(State::default());
        Self { state: Arc::new(state) }
    }

    /// States what is wrong with `subject`, in place of what was said before.
    pub(crate) fn trouble(&self, subject: &str, sentence: &str) {
        if self.state_trouble(subject, sentence) {
            tracing::warn!(subject, "{sentence}");
        }
    }

    /// States what is wrong, but everyday life while a control plane comes and goes.
    pub(crate) fn passing_trouble(&self, subject: &str, sentence: &str) {
        if self.state_trouble(subject, sentence) {
            tracing::info!(subject, "{sentence}");
        }
    }

    /// Returns whether it was not known.
    fn state_trouble(&self, subject: &str, sentence: &str) -> bool {
        let mut news = false;
        self.change(|state| {
            let known = state.subjects.iter().position(|known| known == subject);
            if known.is_some_and(|at| state.status.troubles[at] == sentence) {
                return;
            }
            news = true;
            state.forget(known);
            state.subjects.push(subject.to_owned());
            state.status.troubles.push(sentence.to_owned());
        });
        news
    }

    /// Takes back what was said about `subject`.
    pub(crate) fn mended(&self, subject: &str) {
        self.change(|state| {
            let known = state.subjects.iter().position(|known| known == subject);
            state.forget(known);
        });
    }

    pub(crate) fn unit(&self, name: &str, unit: &UnitStatus) {
        self.change(|state| {
            let before = state.status.units.insert(name.to_owned(), unit.clone());
            let was_ready = before.is_some_and(|before| before.ready);
            if was_ready != unit.ready {
                let because = unit.because.as_deref().unwrap_or("it is well");
                tracing::info!(unit = name, ready = unit.ready, "{because}");
            }
        });
    }

    /// States why a unit is not ready, and leaves all else that is known of it.
    pub(crate) fn unit_not_ready(&self, name: &str, because: &str) {
        self.change(|state| {
            let unit = state.status.units.entry(name.to_owned()).or_default();
            unit.ready = false;
            unit.because = Some(because.to_owned());
        });
    }

    /// Forgets a unit.
    pub(crate) fn no_unit(&self, name: &str) {
        self.change(|state| drop(state.status.units.remove(name)));
    }

    pub(crate) fn front(&self, component: &str, instances: Vec<InstanceStatus>) {
        self.change(|state| {
            state.status.fronts.insert(component.to_owned(), instances);
        });
    }

    /// Forgets what was said about fronts.
    pub(crate) fn no_fronts(&self) {
        self.change(|state| {
            state.status.fronts.clear();
            while let Some(at) = state.subjects.iter().position(|subject| subject.starts_with(FRONT)) {
                state.forget(Some(at));
            }
        });
    }

    /// States how the node's etcd member is; nothing where there is none to be.
    pub(crate) fn etcd(&self, member: Option<MemberStatus>) {
        self.change(|state| {
            let before = state.status.etcd.as_ref().and_then(|member| member.because.as_deref());
            if let Some(member) = &member
                && (state.status.etcd.is_none() || before != member.because.as_deref())
            {
                let because = member.because.as_deref().unwrap_or("it is well");
                tracing::info!(healthy = member.healthy, "the node's etcd member: {because}");
            }
            state.status.etcd = member;
        });
    }

    pub(crate) fn vip(&self, address: Option<IpAddr>) {
        self.change(|state| state.status.vip = address);
    }

    pub(crate) fn pod_cidrs(&self, ranges: &[IpNet]) {
        self.change(|state| state.status.pod_cidrs = ranges.to_vec());
    }

    /// States what is kept of a component.
    pub(crate) fn checkpoint(&self, component: &str, checkpoint: &CheckpointStatus) {
        self.change(|state| {
            let before = state.status.checkpoints.insert(component.to_owned(), checkpoint.clone());
            if before.as_ref() != Some(checkpoint) {
                tracing::info!(component, ?checkpoint, "what is kept of it");
            }
        });
    }

    /// Waits until a component's checkpoint is active, or is not.
    pub(crate) async fn checkpoint_is(&self, component: &str, active: bool) {
        let mut receiver = self.state.subscribe();
        let is = |state: &State| {
            state.status.checkpoints.get(component).is_some_and(|checkpoint| checkpoint.active) == active
        };
        // It ends early only when the board is gone, which `self` rules out.
        let _state = receiver.wait_for(is).await;
    }

    /// Forgets what was said about checkpoints.
    pub(crate) fn no_checkpoints(&self) {
        self.change(|state| state.status.checkpoints.clear());
    }

    /// Whether something is known to be wrong with `subject`.
    pub(crate) fn is_troubled(&self, subject: &str) -> bool {
        self.state.borrow().subjects.iter().any(|known| known == subject)
    }

    /// Returns the status as it is now.
    pub(crate) fn seen(&self) -> Status {
        self.state.borrow().status.clone()
    }

    /// Waits until the status is as wished.
    #[cfg(test)]
    pub(crate) async fn wait(&self, wished: impl Fn(&Status) -> bool) -> Status {
        let mut receiver = self.state.subscribe();
        receiver.wait_for(|state| wished(&state.status)).await.unwrap().status.clone()
    }

    /// Waits until the instances are as wished, and returns them.
    pub(crate) async fn fronts(
        &self,
        wished: impl Fn(&BTreeMap<String, Vec<InstanceStatus>>) -> bool,
    ) -> BTreeMap<String, Vec<InstanceStatus>> {
        let mut receiver = self.state.subscribe();
        // It fails only when the board is gone, which `self` rules out.
        let state = receiver.wait_for(|state| wished(&state.status.fronts)).await;
        state.map(|state| state.status.fronts.clone()).unwrap_or_default()
    }

    /// Waits until the unit is ready.
    pub(crate) async fn unit_ready(&self, name: &str) {
        let mut receiver = self.state.subscribe();
        let ready = |state: &State| state.status.units.get(name).is_some_and(|unit| unit.ready);
        // It ends early only when the board is gone, which `self` rules out.
        let _unit = receiver.wait_for(ready).await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            let before = state.status.clone();
            change(state);
            state.status != before
        });
    }
}

impl State {
    fn forget(&mut self, known: Option<usize>) {
        if let Some(at) = known {
            self.subjects.remove(at);
            self.status.troubles.remove(at);
        }
    }
}

/// Starts to answer on the status socket.
pub(crate) fn serve(board: &Board) -> Result<(), StatusError> {
    let path = Path::new(STATUS_SOCKET);
    let listener = listen(path).map_err(StatusError::Listen)?;
    let board = board.clone();
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(tell(stream, board.state.subscribe()))),
                Err(error) => {
                    tracing::warn!("failed to accept on the status socket: {error}");
                    // Out of file descriptors, most likely: it would fail again at once.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn tell(mut stream: UnixStream, mut states: watch::Receiver<State>) {
    loop {
        let line = serde_json::to_vec(&states.borrow_and_update().status);
        let Ok(mut line) = line else {
            return; // maps with text keys and plain structs cannot fail to serialise
        };
        line.push(b'\n');
        if stream.write_all(&line).await.is_err() {
            return; // the reader left
        }
        let gone = async {
            while stream.readable().await.is_ok() {
                match stream.try_read(&mut [0; 16]) {
                    Ok(0) => return,
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        };
        tokio::select! {
            changed = timeout(REPEAT, states.changed()) => if changed.is_ok_and(|it| it.is_err()) { return },
            () = gone => return,
        }
    }
}

/// Copies what the agent tells to `writer`, a line per change and one now and then, until the agent or the writer ends;
/// waits for an agent that has not started yet.
pub async fn follow(mut writer: impl AsyncWrite + Unpin) -> Result<(), StatusError> {
    let mut agent = Follower::connect().await?;
    while let Some(mut line) = agent.0.next_line().await.map_err(StatusError::Read)? {
        line.push('\n');
        let written = writer.write_all(line.as_bytes()).await;
        written.map_err(StatusError::Write)?;
        writer.flush().await.map_err(StatusError::Write)?;
    }
    Ok(())
}

/// An agent that is listened to.
pub(crate) struct Follower(Lines<BufReader<UnixStream>>);

impl Follower {
    /// Waits for an agent that has not started yet.
    pub(crate) async fn connect() -> Result<Self, StatusError> {
        Ok(Self(BufReader::new(connect().await?).lines()))
    }

    /// What it tells next; nothing once it has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Status>, StatusError> {
        let line = self.0.next_line().await.map_err(StatusError::Read)?;
        line.map(|line| serde_json::from_str(&line).map_err(StatusError::Parse)).transpose()
    }
}

/// Returns what the agent sees now; waits for an agent that has not started yet.
pub async fn read() -> Result<Status, StatusError> {
    let mut line = String::new();
    let mut stream = BufReader::new(connect().await?);
    stream.read_line(&mut line).await.map_err(StatusError::Read)?;
    serde_json::from_str(&line).map_err(StatusError::Parse)
}

async fn connect() -> Result<UnixStream, StatusError> {
    appearance::of_listener(Path::new(STATUS_SOCKET)).await.map_err(StatusError::Connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_newest_last_until_mended() {
        let board = Board::new();
        let troubles = || board.state.borrow().status.troubles.clone();
        board.trouble("a", "A is bad.");
        board.trouble("b", "B is bad.");
        board.trouble("a", "A is worse.");
        assert_eq!(troubles(), ["B is bad.", "A is worse."]);
        board.mended("b");
        board.mended("b");
        assert_eq!(troubles(), ["A is worse."]);
    }

    #[tokio::test]
    async fn a_reader_gets_a_line_now_and_at_each_change() {
        let board = Board::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(tell(ours, board.state.subscribe()));
        let mut lines = BufReader::new(theirs).lines();
        let first: Status = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        assert_eq!(first, Status::default());
        board.trouble("a", "A is bad.");
        board.trouble("a", "A is bad.");
        board.mended("a");
        let mut last = first;
        while last.troubles.is_empty() {
            last = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
            if last == Status::default() {
                break; // both changes came as one
            }
        }
    }
}
