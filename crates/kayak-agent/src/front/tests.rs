//! Fronts at work on loopback, before instances whose health a test decides.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream as StdStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::{Authority, acceptor, authority};

const COMPONENT: &str = "kube-apiserver";
const NAME: &str = "api.test";
/// The answer of an instance that gives none.
const SILENT: u16 = 0;

/// An instance: answers probes over TLS as told; to anyone else it says its name, then echoes.
struct Instance {
    uid: String,
    answer: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Instance {
    async fn start(uid: &str, port: u16, authority: &Authority, answer: u16) -> Self {
        let tls = acceptor(authority, NAME);
        let address = kayak_core::instance::address(uid);
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let answer = Arc::new(AtomicU16::new(answer));
        let (name, told) = (uid.to_owned(), Arc::clone(&answer));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
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
        });
        let uid = uid.to_owned();
        Self { uid, answer, task }
    }

    fn answers(&self, status: u16) {
        self.answer.store(status, Ordering::SeqCst);
    }

    fn found(&self) -> Found {
        let uid = self.uid.clone();
        let pod = format!("pod-{uid}");
        Found { uid, pod }
    }
}

impl Drop for Instance {
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
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 11\r\n\r\n[-]etcd bad");
        let _gone = stream.write_all(answer.as_bytes()).await.is_err();
    }
}

async fn talk(mut stream: TcpStream, name: String) {
    let (mut read, mut write) = stream.split();
    let mut hello = [0];
    if read.read_exact(&mut hello).await.is_ok() {
        let _gone = write.write_all(format!("{name}\n").as_bytes()).await.is_err();
        // Not `tokio::io::copy`, whose buffers would outweigh what the memory test weighs.
        let mut buffer = [0; 512];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            if write.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }
}

/// A front with its prober, fed by the test in place of the runtime.
struct World {
    authority: Authority,
    address: SocketAddr,
    port: u16,
    pool: Pool,
    found: watch::Sender<BTreeMap<String, Vec<Found>>>,
    ca: PathBuf,
    _files: tempfile::TempDir,
}

impl World {
    /// Each test has a port of its own, since all share the loopback addresses.
    async fn new(port: u16) -> Self {
        let authority = authority();
        let files = tempfile::tempdir().unwrap();
        let ca = files.path().join("ca.crt");
        std::fs::write(&ca, authority.pem()).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let world = Self {
            authority,
            address,
            port,
            pool: Pool::new(),
            found: watch::channel(BTreeMap::new()).0,
            ca,
            _files: files,
        };
        world.start_front();
        while TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        world
    }

    fn start_front(&self) {
        let front = Front {
            component: COMPONENT.into(),
            own: vec![self.address],
            shared: Vec::new(),
            peers: BTreeMap::new(),
            port: self.port,
            ready_path: "/readyz".into(),
            server_name: NAME.into(),
            ca_file: self.ca.to_str().unwrap().into(),
        };
        let prober = Prober {
            server_name: NAME.try_into().unwrap(),
            path: front.ready_path.clone(),
            trust: Trust::new(self.ca.clone()),
        };
        tokio::spawn(listener::run(self.address, self.pool.clone(), Board::new()));
        let known = Known::new(front, prober, self.pool.clone());
        tokio::spawn(known.follow(self.found.subscribe()));
    }

    async fn start(&self, uid: &str, answer: u16) -> Instance {
        Instance::start(uid, self.port, &self.authority, answer).await
    }

    fn running(&self, instances: &[&Instance]) {
        let found = instances.iter().map(|instance| instance.found()).collect();
        self.found.send_replace([(COMPONENT.to_owned(), found)].into());
    }

    /// Waits until the instances given new connections are exactly these.
    async fn ready(&self, uids: &[&str]) {
        let mut changes = self.pool.subscribe();
        let settled = changes.wait_for(|instances| {
            let status = instances.running().iter().map(pool::Instance::status);
            let ready: Vec<_> = status.filter(|s| s.ready).map(|s| s.uid).collect();
            ready == uids
        });
        let settled = timeout(Duration::from_secs(5), settled).await;
        drop(settled.expect("the ready instances change in time").unwrap());
    }

    /// Waits until connections are accepted, or refused.
    async fn listens(&self, wanted: bool) {
        let settled = async {
            while TcpStream::connect(self.address).await.is_ok() != wanted {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), settled).await.expect("the port opens or closes in time");
    }

    /// Opens a connection and returns whom it reached, or an empty name.
    async fn connect(&self) -> (String, Lines<BufReader<TcpStream>>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let name = lines.next_line().await.ok().flatten().unwrap_or_default();
        (name, lines)
    }
}

async fn echoes(lines: &mut Lines<BufReader<TcpStream>>) -> bool {
    if lines.get_mut().get_mut().write_all(b"hello\n").await.is_err() {
        return false;
    }
    matches!(lines.next_line().await, Ok(Some(line)) if line == "hello")
}

#[tokio::test]
async fn a_connection_is_held_until_an_instance_is_ready() {
    let world = World::new(17001).await;
    let instance = world.start("late", 500).await;
    world.running(&[&instance]);
    let connect = world.connect();
    tokio::pin!(connect);
    assert!(timeout(Duration::from_millis(500), &mut connect).await.is_err());
    let status = world.pool.subscribe().borrow().running()[0].status();
    let because = "it answers 500 Internal Server Error to `/readyz`: etcd";
    assert_eq!(status.because.as_deref(), Some(because));
    instance.answers(200);
    let asked = Instant::now();
    assert_eq!(connect.await.0, "late");
    assert!(asked.elapsed() < Duration::from_millis(300));
}

#[tokio::test]
async fn nobody_listens_where_no_instance_may_come() {
    let world = World::new(17020).await;
    world.running(&[]);
    world.listens(false).await;
    let instance = world.start("first", 200).await;
    world.running(&[&instance]);
    world.listens(true).await;
    assert_eq!(world.connect().await.0, "first");
}

#[tokio::test]
async fn a_connection_is_not_held_for_ever() {
    let world = World::new(17002).await;
    let started = Instant::now();
    assert_eq!(world.connect().await.0, "");
    let held = started.elapsed().as_secs_f32();
    assert!((7.5..9.0).contains(&held), "held for {held} s");
}

#[tokio::test]
async fn a_new_instance_is_ready_only_by_its_own_answer() {
    let world = World::new(17003).await;
    let old = world.start("old", 200).await;
    let new = world.start("new", 500).await;
    world.running(&[&old, &new]);
    world.ready(&["old"]).await;
    for _ in 0..20 {
        assert_eq!(world.connect().await.0, "old");
    }
    new.answers(200);
    world.ready(&["old", "new"]).await;
    let (_first, held) = world.connect().await;
    assert_eq!(world.connect().await.0, "new", "the one with fewer connections");
    drop(held);
}

#[tokio::test]
async fn an_instance_with_a_certificate_of_others_is_never_ready() {
    let world = World::new(17004).await;
    let stranger = Instance::start("stranger", world.port, &authority(), 200).await;
    world.running(&[&stranger]);
    sleep(Duration::from_millis(500)).await;
    let status = world.pool.subscribe().borrow().running()[0].status();
    assert!(!status.ready);
    assert!(status.because.unwrap().contains("invalid peer certificate"));
}

#[tokio::test]
async fn whom_to_trust_may_be_written_later_and_anew() {
    let world = World::new(17010).await;
    std::fs::remove_file(&world.ca).unwrap();
    let instance = world.start("one", 200).await;
    world.running(&[&instance]);
    sleep(Duration::from_millis(300)).await;
    let status = world.pool.subscribe().borrow().running()[0].status();
    assert!(status.because.unwrap().contains("failed to read `"));
    std::fs::write(&world.ca, authority().pem()).unwrap();
    sleep(Duration::from_millis(300)).await;
    assert!(world.pool.pick().is_none());
    std::fs::write(&world.ca, world.authority.pem()).unwrap();
    world.ready(&["one"]).await;
}

#[tokio::test]
async fn a_refused_connection_goes_to_the_next_instance() {
    let world = World::new(17005).await;
    let (one, two) = (world.start("one", 200).await, world.start("two", 200).await);
    world.running(&[&one, &two]);
    world.ready(&["one", "two"]).await;
    drop(one); // between two probes
    tokio::task::yield_now().await;
    for _ in 0..20 {
        assert_eq!(world.connect().await.0, "two");
    }
}

#[tokio::test]
async fn one_that_leaves_keeps_its_connections_and_gets_no_new_ones() {
    let world = World::new(17006).await;
    let (old, new) = (world.start("old", 200).await, world.start("new", 500).await);
    world.running(&[&old, &new]);
    world.ready(&["old"]).await;
    let (name, mut established) = world.connect().await;
    assert_eq!(name, "old");
    new.answers(200);
    old.answers(500);
    world.ready(&["new"]).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.connect().await.0, "new");
    assert!(echoes(&mut established).await);
    world.running(&[&new]);
    drop(old);
    let ended = timeout(Duration::from_secs(4), established.next_line()).await;
    assert!(!matches!(ended.expect("it ends"), Ok(Some(_))));
}

#[tokio::test]
async fn one_that_falls_silent_loses_its_connections_within_three_seconds() {
    let world = World::new(17007).await;
    let hung = world.start("hung", 200).await;
    world.running(&[&hung]);
    world.ready(&["hung"]).await;
    let (_, mut established) = world.connect().await;
    assert!(echoes(&mut established).await);
    hung.answers(SILENT);
    let since = Instant::now();
    let ended = timeout(Duration::from_secs(5), established.next_line()).await;
    assert!(!matches!(ended.expect("it ends"), Ok(Some(_))));
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    hung.answers(200);
    world.ready(&["hung"]).await;
    assert_eq!(world.connect().await.0, "hung");
}

#[tokio::test]
async fn both_directions_end_by_themselves_and_large_transfers_arrive_whole() {
    let world = World::new(17008).await;
    let instance = world.start("echo", 200).await;
    world.running(&[&instance]);
    world.ready(&["echo"]).await;
    let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let write = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    sleep(Duration::from_millis(200)).await; // the way back is full by now
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.unwrap();
    write.await.unwrap();
    let start = "echo\n".len();
    assert!(received[start..] == expected[..], "{} bytes came", received.len());
}

/// In a process of its own, as memory is a process's and other tests use some meanwhile.
#[test]
fn a_thousand_idle_connections_are_cheap() {
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "front::tests::weigh_a_thousand_idle_connections", "--ignored"])
        .output()
        .unwrap();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stdout));
}

#[tokio::test]
#[ignore = "run by the test above, alone"]
async fn weigh_a_thousand_idle_connections() {
    let world = World::new(17009).await;
    let instance = world.start("idle", 200).await;
    world.running(&[&instance]);
    world.ready(&["idle"]).await;
    // Our side is bare sockets; what the instance spends on its side is weighed too.
    let before = resident();
    let address = world.address;
    let connect = move || {
        let mut client = StdStream::connect(address).unwrap();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        client
    };
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(tokio::task::spawn_blocking(connect).await.unwrap());
    }
    let grown = (resident() - before) / 1024;
    assert!(grown < 8, "1,000 connections take {grown} MiB");
}

/// Returns the memory this process uses, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}
