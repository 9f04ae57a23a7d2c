//! A client of the API that opens a new connection for every request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// What a watch over the API saw.
pub struct Seen {
    /// How many requests were made.
    pub requests: usize,
    /// What went wrong, and when after the start.
    pub failures: Vec<(Duration, String)>,
    /// The longest that one request took.
    pub slowest: Duration,
}

/// Asks every 50 ms on a new connection until it is told to stop.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    /// Starts asking `address` with the administrator's certificate among the assets.
    pub fn start(address: &str, assets: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (Arc::clone(&stop), address.to_owned());
        let config = Arc::new(client_config(assets));
        let thread = std::thread::spawn(move || watch(&address, &config, &stopped));
        Self { stop, thread }
    }

    /// Stops asking and returns what was seen.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn watch(address: &str, config: &Arc<ClientConfig>, stop: &AtomicBool) -> Seen {
    let start = Instant::now();
    let mut seen = Seen { requests: 0, failures: Vec::new(), slowest: Duration::ZERO };
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        if let Err(why) = ask(address, config) {
            seen.failures.push((start.elapsed(), why));
        }
        seen.requests += 1;
        seen.slowest = seen.slowest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    seen
}

/// One request that needs rights and etcd, on a connection of its own.
fn ask(address: &str, config: &Arc<ClientConfig>) -> Result<(), String> {
    let socket = TcpStream::connect(address).map_err(|e| format!("connect: {e}"))?;
    socket.set_read_timeout(Some(Duration::from_secs(20))).map_err(|e| e.to_string())?;
    let name = ServerName::try_from("kubernetes").map_err(|e| e.to_string())?;
    let tls = ClientConnection::new(Arc::clone(config), name).map_err(|e| e.to_string())?;
    let mut stream = StreamOwned::new(tls, socket);
    let request =
        b"GET /api/v1/namespaces/kube-system HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\n\r\n";
    stream.write_all(request).map_err(|e| format!("write: {e}"))?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).map_err(|e| format!("read: {e}"))?;
    if &answer == b"HTTP/1.1 200" { Ok(()) } else { Err(String::from_utf8_lossy(&answer).into_owned()) }
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
