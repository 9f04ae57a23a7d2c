//! A real OpenVPN tunnel between two networks.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use crate::cluster::{Running, eventually, scratch, show};
use crate::space::Space;

/// The tunnel's interface on both sides.
pub const INTERFACE: &str = "e2e-tun";
/// The range of its addresses, of which the server has the first.
const RANGE: [&str; 2] = ["10.253.9.128", "255.255.255.192"];
/// The server's port.
pub const PORT: &str = "1194";

/// What one side shows to the other.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    fingerprint: String,
}

impl Identity {
    fn new(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let put = |kind: &str, text: String| {
            let path = scratch().join(format!("vpn-{name}.{kind}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let digest = Sha256::digest(made.cert.der());
        let fingerprint = digest.iter().fold(String::new(), |mut text, byte| {
            let colon = if text.is_empty() { "" } else { ":" };
            write!(text, "{colon}{byte:02X}").unwrap();
            text
        });
        Self {
            certificate: put("crt", made.cert.pem()),
            key: put("key", made.signing_key.serialize_pem()),
            fingerprint,
        }
    }
}

/// Both sides of a tunnel, neither of which runs yet.
pub struct Vpn {
    server: Identity,
    client: Identity,
}

impl Vpn {
    pub fn new() -> Self {
        Self { server: Identity::new("server"), client: Identity::new("client") }
    }

    /// Runs the server until it is dropped, and waits until its interface is there.
    pub fn serve(&self, machine: &Space, address: &str) -> Running {
        let mut server = openvpn(machine, &self.server, &self.client);
        server.args(["--topology", "subnet", "--server"]).args(RANGE).args(["--keepalive", "1", "4"]);
        server.args(["--local", address, "--port", PORT, "--dh", "none"]);
        start(machine, server)
    }

    /// Runs the client until it is dropped, and waits until it is connected.
    pub fn connect(&self, desktop: &Space, address: &str) -> Running {
        let mut client = openvpn(desktop, &self.client, &self.server);
        client.args(["--client", "--nobind", "--connect-retry", "1", "1", "--remote", address, PORT]);
        start(desktop, client)
    }
}

fn openvpn(space: &Space, own: &Identity, other: &Identity) -> Command {
    let mut command = space.command("setpriv");
    // A test that is killed leaves no tunnel.
    command.args(["--pdeathsig", "KILL", "openvpn", "--verb", "1", "--proto", "udp4", "--disable-dco"]);
    command.args(["--dev", INTERFACE, "--dev-type", "tun"]);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    command.args(["--cert", &path(&own.certificate), "--key", &path(&own.key)]);
    command.args(["--peer-fingerprint", &other.fingerprint]).stdout(Stdio::null());
    command
}

fn start(space: &Space, mut command: Command) -> Running {
    let running = Running(command.spawn().unwrap());
    eventually("the tunnel", || {
        let shown = space.command("ip").args(["-4", "address", "show", "dev", INTERFACE]).output().unwrap();
        if String::from_utf8_lossy(&shown.stdout).contains("inet ") { Ok(()) } else { Err(show(&shown)) }
    });
    running
}
