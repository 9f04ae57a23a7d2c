//! Networks of the tests' own. Each lives as long as a process that holds it, which ends with the test
//! however that ends: nothing leaves them, and nothing is left of them.

use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cluster::{Running, succeed};

/// A network.
pub struct Space(Running);

impl Space {
    pub fn new() -> Self {
        let mut holder = Command::new("unshare");
        // Its input ends with this process.
        holder.args(["--net", "sh", "-c", "ip link set dev lo up && echo ready && exec cat"]);
        let mut holder = Running(holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let mut said = [0; 6];
        holder.0.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        Self(holder)
    }

    /// The file by which it is entered.
    pub fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.0.id())
    }

    /// A command in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs `ip`, which must succeed, and returns what it prints.
    pub fn ip(&self, words: &str) -> String {
        succeed(self.command("ip").args(words.split(' ')))
    }

    /// Links it to another, with an address on either side.
    pub fn link(&self, name: &str, address: &str, other: &Self, others: &str) {
        let pid = other.0.0.id();
        self.ip(&format!("link add name {name} type veth peer name {name} netns {pid}"));
        for (space, address) in [(self, address), (other, others)] {
            space.ip(&format!("address add {address} dev {name}"));
            space.ip(&format!("link set dev {name} up"));
        }
    }

    /// Does something in it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.network().run(work)
    }

    /// It, for threads that stay there.
    pub fn network(&self) -> Network {
        Network::of(self.0.0.id())
    }
}

/// A network that others live in. It lives as long as this does, also when all of them are dead.
#[derive(Clone)]
pub struct Network(Arc<File>);

impl Network {
    /// That of a process.
    pub fn of(pid: impl Display) -> Self {
        Self(Arc::new(File::open(format!("/proc/{pid}/ns/net")).unwrap()))
    }

    /// Takes this thread there, and no other.
    pub fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// Does something in it. Sockets that are made there stay there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                self.enter();
                work()
            });
            worker.join().unwrap()
        })
    }
}

/// A service of the machine's owner, on every address: it takes connections, and sends packets back.
pub struct Service {
    _listener: TcpListener,
    socket: UdpSocket,
    echo: Option<JoinHandle<()>>,
}

impl Service {
    pub fn new(machine: &Space, port: u16) -> Self {
        let bind =
            || (TcpListener::bind(("0.0.0.0", port)).unwrap(), UdpSocket::bind(("0.0.0.0", port)).unwrap());
        let (listener, socket) = machine.run(bind);
        let echoing = socket.try_clone().unwrap();
        let echo = std::thread::spawn(move || {
            let mut packet = [0; 64];
            while let Ok((length @ 1.., from)) = echoing.recv_from(&mut packet) {
                echoing.send_to(&packet[..length], from).unwrap();
            }
        });
        Self { _listener: listener, socket, echo: Some(echo) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let port = self.socket.local_addr().unwrap().port();
        // An empty packet ends the echo.
        self.socket.send_to(&[], ("127.0.0.1", port)).unwrap();
        if let Some(echo) = self.echo.take() {
            echo.join().unwrap();
        }
    }
}
