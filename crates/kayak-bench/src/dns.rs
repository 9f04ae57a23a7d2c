//! The question whose answer ends the clock: does cluster DNS answer a pod?

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde_json::json;

use crate::error::BenchError;
use crate::scene::{DNS, NODE_DIR};

/// What is asked for: it is in every cluster.
const NAME: &str = "kubernetes.default.svc.cluster.local";
/// How long an answer is waited for before it is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// Ask a name server until it answers, then write a file
#[derive(Debug, clap::Args)]
pub struct AskArgs {
    /// The name server
    #[arg(long)]
    server: IpAddr,
    /// The name asked for
    #[arg(long)]
    name: String,
    /// The file to write
    #[arg(long)]
    answered: Utf8PathBuf,
}

/// Asks until there is an answer.
pub fn ask(args: &AskArgs) -> Result<ExitCode, BenchError> {
    let failed = |source| BenchError::Ask { server: args.server, source };
    let server = SocketAddr::new(args.server, 53);
    let mut id = 0;
    loop {
        id += 1;
        match ask_once(server, &args.name, id) {
            Ok(true) => {
                fs::write(&args.answered, "").map_err(BenchError::write(&args.answered))?;
                return Ok(ExitCode::SUCCESS);
            }
            Ok(false) => {}
            // No route yet, nobody there yet: what is waited for.
            Err(error) if is_transient(&error) => std::thread::sleep(AGAIN),
            Err(error) => return Err(failed(error)),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | TimedOut | WouldBlock)
}

/// Asks once, on a socket of its own, so that nothing remembers where an earlier question went.
fn ask_once(server: SocketAddr, name: &str, id: u16) -> io::Result<bool> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(AGAIN))?;
    socket.connect(server)?;
    socket.send(&question(name, id))?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    Ok(has_address(&answer[..length], id))
}

/// A question for an IPv4 address (RFC 1035, section 4).
fn question(name: &str, id: u16) -> Vec<u8> {
    const RECURSION_DESIRED: u8 = 1;
    let [high, low] = id.to_be_bytes();
    let mut message = vec![high, low, RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.extend(u8::try_from(label.len()));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Whether a message answers the question without an error and with a record at least.
fn has_address(message: &[u8], id: u16) -> bool {
    let [high, low] = id.to_be_bytes();
    match message {
        [a, b, flags, code, _, _, answers_high, answers_low, ..] => {
            *a == high
                && *b == low
                && flags & 0x80 != 0
                && code % 16 == 0
                && (*answers_high, *answers_low) != (0, 0)
        }
        _ => false,
    }
}

/// The pod that asks. It is a static one, so that it is in place before there is an API, with either
/// tool; it is on the pod network, and reaches DNS by its service address.
#[derive(Debug)]
pub struct Prober {
    /// Any image: its program is mounted.
    pub image: String,
}

impl Prober {
    /// Renders it for the kubelet, which reads JSON as well.
    pub fn manifest(&self) -> String {
        let command = [
            format!("{NODE_DIR}/kayak-bench"),
            "ask-dns".into(),
            format!("--server={DNS}"),
            format!("--name={NAME}"),
            format!("--answered={NODE_DIR}/answered"),
        ];
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": "prober", "namespace": "kube-system" },
            "spec": {
                "restartPolicy": "OnFailure",
                "terminationGracePeriodSeconds": 1,
                "tolerations": [{ "operator": "Exists" }],
                "containers": [{
                    "name": "prober",
                    "image": self.image,
                    "imagePullPolicy": "Never",
                    "command": command,
                    "volumeMounts": [{ "name": "bench", "mountPath": NODE_DIR }],
                }],
                "volumes": [{ "name": "bench", "hostPath": { "path": NODE_DIR } }],
            },
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_as_the_standard_has_it() {
        let message = question("a.bc", 0x0102);
        assert_eq!(
            message,
            b"\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x01\x00\x01"
        );
    }

    #[test]
    fn only_an_answer_with_an_address_counts() {
        let answer = |flags: u8, code: u8, count: u8| [1, 2, flags, code, 0, 1, 0, count, 0, 0, 0, 0];
        assert!(has_address(&answer(0x81, 0x80, 1), 0x0102));
        assert!(!has_address(&answer(0x81, 0x80, 1), 0x0103), "another question's");
        assert!(!has_address(&answer(0x81, 0x83, 1), 0x0102), "no such name");
        assert!(!has_address(&answer(0x81, 0x80, 0), 0x0102), "no address");
        assert!(!has_address(&answer(0x01, 0x00, 1), 0x0102), "a question");
        assert!(!has_address(&[1, 2], 0x0102));
    }
}
