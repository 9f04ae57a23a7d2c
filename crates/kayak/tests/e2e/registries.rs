//! Images from a registry of the owner's own: over TLS by its own CA, with a password, and by a proxy.
//!
//! The registry is distribution itself, built from its Go module. It is on the other side of the machine's
//! only link (see `both_families`), where the proxy is too.

use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use crate::both_families::World;
use crate::cluster::{Cluster, Running, eventually, scratch, succeed};
use crate::image;
use crate::inventory::Inventory;

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/registry");
const USER: &str = "puller";
const PASSWORD: &str = "open-sesame-65-and-more";
/// The password as htpasswd keeps it (bcrypt, cost 5).
const HASH: &str = "$2a$05$vAt11xpZr/MR9S/jnhRh8OUq.w6g1Ic8a5PeP5qQIabY2ozIv.Am.";
const PROXY: &str = "192.0.2.2:3128";

pub fn images_come_from_a_registry_with_a_password() {
    let before = Inventory::take();
    let world = World::new();
    let registry = Registry::new(&world);
    let cluster = Cluster::written("e2e-registry", &registry.configuration("")).on(&world.machine);
    cluster.keeping_evidence(|| {
        cluster.up(&[]);
        cluster.wait_for(&["get", "serviceaccount", "default", "-o", "name"], |name| !name.is_empty());
        // The list that the runtime verifies all other registries by.
        let bundle = "/etc/ssl/certs/ca-certificates.crt";
        assert_eq!(
            cluster.inside("controller-0", &["cat", bundle]),
            std::fs::read_to_string(bundle).unwrap()
        );
        pulls(&cluster, "known", "registry.e2e.invalid:5000/hello:1");
        does_not_pull(&cluster, "nameless", "stranger.e2e.invalid:5000/hello:1", "no basic auth credentials");
        does_not_pull(
            &cluster,
            "strange",
            "192.0.2.2:5000/hello:1",
            "certificate signed by unknown authority",
        );
        the_password_stays_where_it_belongs(&cluster);

        // The same by a proxy, which takes effect without a new node.
        let proxy = Proxy::new(&world);
        std::fs::write(
            cluster.config(),
            registry.configuration(&format!("  proxy: {{ https: 'http://{PROXY}' }}\n")),
        )
        .unwrap();
        cluster.up(&[]);
        assert_eq!(proxy.asked(), 0, "the cluster's own is reached without it");
        pulls(&cluster, "proxied", "registry.e2e.invalid:5000/hello:2");
        assert!(proxy.asked() > 0, "the registry is reached by it");
    });
    cluster.kayak(&["down", "--yes"]);
    drop((registry, world));
    before.assert_unchanged();
}

/// Runs a pod of an image that no node has.
fn pulls(cluster: &Cluster, name: &str, image: &str) {
    run(cluster, name, image);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", name, "--timeout=60s"]);
    let page = cluster.kubectl(&["exec", name, "--", "cat", "/www/index.html"]);
    assert!(page.contains("hello"), "{page}");
}

fn does_not_pull(cluster: &Cluster, name: &str, image: &str, why: &str) {
    run(cluster, name, image);
    let field = format!("--field-selector=involvedObject.name={name}");
    cluster.wait_for(&["get", "events", &field, "-o", "jsonpath={.items[*].message}"], |said| {
        said.contains(why)
    });
    cluster.kubectl(&["delete", "pod", name, "--now"]);
}

fn run(cluster: &Cluster, name: &str, image: &str) {
    cluster.apply(&format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: default }}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{ name: box, image: '{image}', imagePullPolicy: Always }}
"
    ));
}

/// On the node only its root can read it; nothing that is shown, logged or kept in the cluster holds it.
fn the_password_stays_where_it_belongs(cluster: &Cluster) {
    const LOGINS: &str = "/var/lib/kubelet/config.json";
    let mode = cluster.inside("controller-0", &["stat", "-c", "%a %U", LOGINS]);
    assert_eq!(mode.trim(), "600 root");
    let login = base64(&format!("{USER}:{PASSWORD}"));
    assert!(cluster.inside("controller-0", &["cat", LOGINS]).contains(&login));
    let words = [PASSWORD, &login];
    let archive = scratch().join("e2e-registry-support.tar.zst");
    cluster.kayak(&["support", "-o", archive.to_str().unwrap()]);
    let mut archived = Vec::new();
    zstd::Decoder::new(std::fs::File::open(&archive).unwrap()).unwrap().read_to_end(&mut archived).unwrap();
    // A plan that has to bring it in again says no more than that.
    cluster.inside("controller-0", &["rm", LOGINS]);
    let plan = cluster.kayak(&["plan", "--config", cluster.config(), "--diff"]);
    assert!(plan.contains(LOGINS), "{plan}");
    let said = cluster.up(&[]);
    let objects = cluster.kubectl(&["get", "configmaps,secrets,nodes,pods", "-A", "-o", "yaml"]);
    let logs = cluster.inside("controller-0", &["sh", "-c", "cat /var/log/kayak/*.log"]);
    for word in words {
        for (what, text) in [("plan", &plan), ("up", &said), ("objects", &objects), ("logs", &logs)] {
            assert!(!text.contains(word), "the password is in {what}");
        }
        let found = archived.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(!found, "the password is in the archive for support");
    }
}

fn base64(text: &str) -> String {
    let output =
        Command::new("sh").args(["-c", "printf %s \"$1\" | base64 -w0", "sh", text]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The registry, with an image in it.
struct Registry {
    directory: PathBuf,
    _server: Running,
}

impl Registry {
    fn new(world: &World) -> Self {
        let directory = scratch().join("registry");
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let made = rcgen::generate_simple_self_signed(["192.0.2.2".to_owned()]).unwrap();
        for (name, text) in [
            ("tls.crt", made.cert.pem()),
            ("tls.key", made.signing_key.serialize_pem()),
            ("htpasswd", format!("{USER}:{HASH}\n")),
            ("password", format!("{PASSWORD}\n")),
        ] {
            std::fs::write(at(name), text).unwrap();
        }
        let program = build();
        let open = serve(world, &program, &directory, "127.0.0.1:5001", "");
        push(world, &["1", "2"]);
        drop(open);
        let guarded = format!(
            "  tls: {{ certificate: '{}', key: '{}' }}\nauth:\n  htpasswd: {{ realm: e2e, path: '{}' }}\n",
            at("tls.crt"),
            at("tls.key"),
            at("htpasswd")
        );
        let server = serve(world, &program, &directory, "192.0.2.2:5000", &guarded);
        Self { directory, _server: server }
    }

    fn configuration(&self, network: &str) -> String {
        let at = |name: &str| self.directory.join(name).to_str().unwrap().to_owned();
        let (ca, password) = (at("tls.crt"), at("password"));
        format!(
            "name: e2e-registry
network:
  egress: true
  nameservers: []
  nodes: 10.253.65.0/24
  pods: 10.165.0.0/16
  services: 10.166.0.0/16
{network}pki: {{ trustMachine: true }}
registries:
  - name: registry.e2e.invalid:5000
    endpoint: https://192.0.2.2:5000
    ca: {ca}
    username: {USER}
    passwordFile: {password}
  - name: stranger.e2e.invalid:5000
    endpoint: https://192.0.2.2:5000
    ca: {ca}
"
        )
    }
}

/// Builds it; Go itself sees whether that was done before.
fn build() -> PathBuf {
    let program = scratch().join("distribution");
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(&program).arg(".");
    succeed(
        go.current_dir(MODULE).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly").env("GOWORK", "off"),
    );
    program
}

fn serve(world: &World, program: &Path, directory: &Path, at: &str, more: &str) -> Running {
    let config = directory.join("config.yaml");
    let images = directory.join("images");
    let text = format!(
        "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: '{}' }} }}\nhttp:\n  addr: {at}\n  secret: e2e\n{more}",
        images.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = world.internet.command(program.to_str().unwrap());
    command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
    let server =
        Running(command.stderr(std::fs::File::create(directory.join("log")).unwrap()).spawn().unwrap());
    eventually("the registry", || world.internet.run(|| TcpStream::connect(at)).map_err(|e| e.to_string()));
    server
}

/// Puts the image there, as the API of registries has it.
fn push(world: &World, tags: &[&str]) {
    let (config, layer) = image::blobs();
    for blob in [&config, &layer] {
        let begun = ask(world, "POST", "/v2/hello/blobs/uploads/", "application/octet-stream", &[]);
        let location = begun.lines().find_map(|line| line.strip_prefix("Location: ")).expect(&begun);
        let path = location.trim().strip_prefix("http://127.0.0.1:5001").unwrap_or(location.trim());
        let path = format!("{path}&digest={}", digest(blob));
        let put = ask(world, "PUT", &path, "application/octet-stream", blob);
        assert!(put.starts_with("HTTP/1.1 201"), "{put}");
    }
    let kind = |kind: &str| format!("application/vnd.oci.image.{kind}");
    let part = |name: &str, blob: &[u8]| {
        format!(r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#, kind(name), digest(blob), blob.len())
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        kind("manifest.v1+json"),
        part("config.v1+json", &config),
        part("layer.v1.tar", &layer)
    );
    for tag in tags {
        let path = format!("/v2/hello/manifests/{tag}");
        let put = ask(world, "PUT", &path, &kind("manifest.v1+json"), manifest.as_bytes());
        assert!(put.starts_with("HTTP/1.1 201"), "{put}");
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::from("sha256:"), |text, byte| format!("{text}{byte:02x}"))
}

/// Asks the registry that is open, and returns its whole answer.
fn ask(world: &World, method: &str, path: &str, kind: &str, body: &[u8]) -> String {
    let mut stream = world.internet.run(|| TcpStream::connect("127.0.0.1:5001")).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:5001\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A proxy that leads to whatever it is asked for, on its own network.
struct Proxy(std::sync::Arc<AtomicUsize>);

impl Proxy {
    fn new(world: &World) -> Self {
        let listener = world.internet.run(|| TcpListener::bind(PROXY)).unwrap();
        let asked = std::sync::Arc::new(AtomicUsize::new(0));
        let (count, inside) = (std::sync::Arc::clone(&asked), world.internet.network());
        // It ends with the test's process, and so does its network.
        std::thread::spawn(move || {
            inside.enter();
            for client in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || lead(client));
            }
        });
        Self(asked)
    }

    fn asked(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// `CONNECT host:port`, and then bytes in both directions.
fn lead(mut client: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let to = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let mut server = TcpStream::connect(to)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let sending = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(Shutdown::Write)
    });
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Write)?;
    drop(sending.join());
    Ok(())
}
