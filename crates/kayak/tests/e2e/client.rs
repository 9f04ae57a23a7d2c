//! A client of the API that opens a new connection for every request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::space::Network;

/// The administrator.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

/// What the API says.
pub struct Answer {
    /// 200 and the like.
    pub status: u16,
    reader: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Client {
    /// With the administrator's certificate among the assets.
    pub fn new(assets: &Path) -> Self {
        Self(Arc::new(client_config(assets)))
    }

    /// Sends a request, `GET /livez` say, on a connection of its own, in which nothing may take longer than
    /// `patience`.
    pub fn send(
        &self,
        address: &str,
        request: &str,
        body: &str,
        patience: Duration,
    ) -> Result<Answer, String> {
        let resolved = address.to_socket_addrs().map_err(|e| e.to_string())?.next();
        let resolved = resolved.ok_or("no address")?;
        let socket = TcpStream::connect_timeout(&resolved, patience).map_err(|e| format!("connect: {e}"))?;
        socket.set_read_timeout(Some(patience)).map_err(|e| e.to_string())?;
        let name = ServerName::try_from("kubernetes").map_err(|e| e.to_string())?;
        let tls = ClientConnection::new(Arc::clone(&self.0), name).map_err(|e| e.to_string())?;
        let mut stream = StreamOwned::new(tls, socket);
        // The older version of HTTP: the answer is as it is, and ends with the connection.
        let head = format!(
            "{request} HTTP/1.0\r\nHost: kubernetes\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).map_err(|e| format!("write: {e}"))?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        let mut status = None;
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).map_err(|e| format!("read: {e}"))? == 0 {
                return Err("the connection ended in the answer's head".into());
            }
            status = status.or_else(|| line.split(' ').nth(1)?.parse().ok());
        }
        Ok(Answer { status: status.ok_or("no status")?, reader })
    }
}

impl Answer {
    /// The rest of it.
    pub fn body(mut self) -> Result<String, String> {
        let mut body = String::new();
        self.reader.read_to_string(&mut body).map_err(|e| format!("read: {e}"))?;
        Ok(body)
    }

    /// The next line of it, `None` at its end.
    pub fn line(&mut self) -> Result<Option<String>, String> {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).map_err(|e| format!("read: {e}"))?;
        Ok((length > 0).then_some(line))
    }
}

/// What a watch over the API saw.
pub struct Seen {
    /// How many requests were made.
    pub requests: usize,
    /// What went wrong, and when after the start.
    pub failures: Vec<(Duration, String)>,
    /// The longest that one request took.
    pub slowest: Duration,
    /// The longest time without a good answer.
    pub gap: Duration,
}

/// Asks every 50 ms on a new connection until it is told to stop.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    /// Starts asking `address` with the administrator's certificate among the assets.
    pub fn start(address: &str, assets: &Path) -> Self {
        Self::begin(None, address, assets)
    }

    /// The same on another network.
    pub fn start_on(network: Network, address: &str, assets: &Path) -> Self {
        Self::begin(Some(network), address, assets)
    }

    fn begin(network: Option<Network>, address: &str, assets: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (Arc::clone(&stop), address.to_owned());
        let client = Client::new(assets);
        let thread = std::thread::spawn(move || {
            if let Some(network) = network {
                network.enter();
            }
            watch(&address, &client, &stopped)
        });
        Self { stop, thread }
    }

    /// Stops asking and returns what was seen.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn watch(address: &str, client: &Client, stop: &AtomicBool) -> Seen {
    let start = Instant::now();
    let mut good = start;
    let mut seen = Seen { requests: 0, failures: Vec::new(), slowest: Duration::ZERO, gap: Duration::ZERO };
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answer = ask(address, client);
        seen.gap = seen.gap.max(good.elapsed());
        match answer {
            Ok(()) => good = Instant::now(),
            Err(why) => seen.failures.push((start.elapsed(), why)),
        }
        seen.requests += 1;
        seen.slowest = seen.slowest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    seen
}

/// One request that needs rights and etcd, on a connection of its own.
fn ask(address: &str, client: &Client) -> Result<(), String> {
    let request = "GET /api/v1/namespaces/kube-system";
    let answer = client.send(address, request, "", Duration::from_secs(20))?;
    if answer.status == 200 { Ok(()) } else { Err(answer.status.to_string()) }
}

fn client_config(assets: &Path) -> ClientConfig {
    let file = |name: &str| assets.join("tls").join(name);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.crt")).unwrap()).unwrap();
    let certificate = CertificateDer::from_pem_file(file("admin.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("admin.key")).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap()
}
