//! Fronts at work on loopback, before instances whose health a test decides.

mod here;
mod measure;
mod peers;
mod weigh;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::{Authority, acceptor, authority};

const COMPONENT: &str = "kube-apiserver";
const NAME: &str = "api.test";
/// The answer of an instance that gives none.
const SILENT: u16 = 0;
/// The answer of an instance that only finishes what it has begun: none, and it hangs up.
const FINISHING: u16 = 1;
/// The answer of an instance that is leaving, though an API server says 500 to that too.
const LEAVING: u16 = 503;

/// An instance: answers probes over TLS as told; to anyone else it says its name, then echoes.
struct Process {
    uid: String,
    address: SocketAddr,
    answer: Arc<AtomicU16>,
    deaf: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Process {
    async fn start(uid: &str, port: u16, authority: &Authority, answer: u16) -> Self {
        let tls = acceptor(authority, NAME);
        let address = SocketAddr::from((kayak_core::instance::address(uid), port));
        let listener = TcpListener::bind(address).await.unwrap();
        let answer = Arc::new(AtomicU16::new(answer));
        let (name, told) = (uid.to_owned(), Arc::clone(&answer));
        let deaf = Arc::new(Notify::new());
        let listens_no_more = Arc::clone(&deaf);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = listens_no_more.notified() => break,
                };
                let Ok((stream, _)) = accepted else { break };
                let (tls, name, told) = (tls.clone(), name.clone(), Arc::clone(&told));
                connections.spawn(async move {
                    let mut first = [0];
                    stream.peek(&mut first).await.unwrap_or(0);
                    if first[0] == 0x16 {
                        answer_probes(stream, tls, told).await;
                    } else {
                        talk(stream, name).await;
                    }
                });
            }
            drop(listener);
            while connections.join_next().await.is_some() {}
        });
        let uid = uid.to_owned();
        Self { uid, address, answer, deaf, task }
    }

    /// Closes the connections of those who ask, listens no more, and goes on for all others.
    fn finishes(&self) {
        self.answers(FINISHING);
        self.deaf.notify_one();
    }

    fn answers(&self, status: u16) {
        self.answer.store(status, Ordering::SeqCst);
    }

    fn found(&self) -> Found {
        let uid = self.uid.clone();
        let pod = format!("pod-{uid}");
        // As if it had just started, whenever that is.
        Found { uid, pod, created_at: i64::MAX }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_probes(stream: TcpStream, tls: TlsAcceptor, told: Arc<AtomicU16>) {
    let Ok(mut stream) = tls.accept(stream).await else {
        return;
    };
    let mut request = [0; 1024];
    while stream.read(&mut request).await.is_ok_and(|count| count > 0) {
        let status = told.load(Ordering::SeqCst);
        if status == SILENT {
            std::future::pending::<()>().await;
        }
        if status == FINISHING {
            return;
        }
        // As an API server does that leaves, and one that has lost its etcd.
        let check = if status == LEAVING { "[-]shutdown" } else { "[-]etcd bad" };
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 11\r\n\r\n{check}");
        let _gone = stream.write_all(answer.as_bytes()).await.is_err();
    }
}

/// Who says this first is sent bytes without end.
const FLOOD: u8 = b'f';

async fn talk(mut stream: TcpStream, name: String) {
    let (mut read, mut write) = stream.split();
    let mut hello = [0];
    if read.read_exact(&mut hello).await.is_ok() {
        let _gone = write.write_all(format!("{name}\n").as_bytes()).await.is_err();
        if hello[0] == FLOOD {
            let bytes = vec![0; 256 << 10];
            while write.write_all(&bytes).await.is_ok() {}
        }
        // Not `tokio::io::copy`, whose buffers would outweigh what the memory test weighs.
        let mut buffer = [0; 512];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            if write.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }
}

/// A front with its probers, fed by the test in place of the runtime and the API.
struct World {
    authority: Arc<Authority>,
    /// Where the front hands out this node's instances, and where any node's.
    own: SocketAddr,
    address: SocketAddr,
    port: u16,
    pool: Pool,
    found: watch::Sender<BTreeMap<String, Vec<Found>>>,
    peers: watch::Sender<Peers>,
    ca: PathBuf,
    tasks: JoinSet<()>,
    _files: tempfile::TempDir,
}

impl World {
    /// Each test has a port of its own, since all share the loopback addresses.
    async fn new(port: u16) -> Self {
        Self::with(Arc::new(authority()), [127, 0, 0, 1], port).await
    }

    async fn with(authority: Arc<Authority>, address: [u8; 4], port: u16) -> Self {
        let files = tempfile::tempdir().unwrap();
        let ca = files.path().join("ca.crt");
        std::fs::write(&ca, authority.pem()).unwrap();
        let mut world = Self {
            authority,
            own: SocketAddr::from((address, port)),
            address: SocketAddr::from((address, port + 1000)),
            port,
            pool: Pool::new(),
            found: watch::channel(BTreeMap::new()).0,
            peers: watch::channel(Peers::new()).0,
            ca,
            tasks: JoinSet::new(),
            _files: files,
        };
        world.start_front();
        world.listens(true).await;
        world
    }

    fn start_front(&mut self) {
        let front = Front {
            component: COMPONENT.into(),
            own: vec![self.own],
            shared: vec![self.address],
            peers: BTreeMap::new(),
            port: self.port,
            ready_path: "/readyz".into(),
            server_name: NAME.into(),
            ca_file: self.ca.to_str().unwrap().into(),
        };
        let (found, peers) = (self.found.subscribe(), self.peers.subscribe());
        serve(&front, self.pool.clone(), found, peers, &Board::new(), &mut self.tasks).unwrap();
    }

    async fn start(&self, uid: &str, answer: u16) -> Process {
        Process::start(uid, self.port, &self.authority, answer).await
    }

    fn running(&self, instances: &[&Process]) {
        let found = instances.iter().map(|instance| instance.found()).collect();
        self.found.send_replace([(COMPONENT.to_owned(), found)].into());
    }

    /// Has these fronts for the fronts of other nodes.
    fn others(&self, addresses: &[SocketAddr]) {
        let peers = addresses.iter().map(|address| (*address, format!("node-{address}")));
        self.peers.send_replace(peers.collect());
    }

    /// Waits until the instances given new connections are exactly these.
    async fn ready(&self, uids: &[&str]) {
        let mut changes = self.pool.subscribe();
        let settled = changes.wait_for(|known| {
            let status = known.seen().unwrap_or_default().iter().map(Instance::status);
            let ready: Vec<_> = status.filter(|s| s.ready).map(|s| s.uid).collect();
            ready == uids
        });
        let settled = timeout(Duration::from_secs(5), settled).await;
        drop(settled.expect("the ready instances change in time").unwrap());
    }

    fn status(&self, uid: &str) -> InstanceStatus {
        let known = self.pool.subscribe();
        let known = known.borrow();
        let mut all = known.seen().unwrap().iter().map(Instance::status);
        all.find(|status| status.uid == uid).unwrap()
    }

    /// Waits until connections are accepted, or refused.
    async fn listens(&self, wanted: bool) {
        for address in [self.own, self.address] {
            listens(address, wanted).await;
        }
    }

    /// Opens a connection and returns whom it reached, or an empty name.
    async fn connect(&self) -> (String, Lines<BufReader<TcpStream>>) {
        connect(self.address).await
    }
}

async fn listens(address: SocketAddr, wanted: bool) {
    let settled = async {
        while TcpStream::connect(address).await.is_ok() != wanted {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), settled).await.expect("the port opens or closes in time");
}

async fn connect(address: SocketAddr) -> (String, Lines<BufReader<TcpStream>>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let name = lines.next_line().await.ok().flatten().unwrap_or_default();
    (name, lines)
}

async fn echoes(lines: &mut Lines<BufReader<TcpStream>>) -> bool {
    if lines.get_mut().get_mut().write_all(b"hello\n").await.is_err() {
        return false;
    }
    matches!(lines.next_line().await, Ok(Some(line)) if line == "hello")
}

/// Waits until a connection ends, and returns how long that took.
async fn ends(lines: &mut Lines<BufReader<TcpStream>>) -> Duration {
    let begin = Instant::now();
    let ended = timeout(Duration::from_secs(5), lines.next_line()).await;
    assert!(!matches!(ended.expect("it ends"), Ok(Some(_))));
    begin.elapsed()
}
