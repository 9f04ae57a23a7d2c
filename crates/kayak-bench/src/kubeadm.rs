//! kubeadm, the peer: in the same node image, made by the same driver, with the same programs.
//!
//! Where the two cannot be given the same, kubeadm is given the easier part: its clock starts when
//! its node runs, with containerd in it, and it need not check the machine first.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use futures::future::try_join_all;
use ipnet::Ipv4Net;
use kayak_bundle::Bundle;
use kayak_engine::driver::local::{Local, Paths};
use kayak_engine::driver::{ClusterNetwork, ClusterSpec, Driver as _, NodeId, NodeNetwork, NodeSpec};
use kayak_engine::store;
use tokio::process::Command;

use crate::command;
use crate::dns::Prober;
use crate::error::BenchError;
use crate::scene::{ADDRESS, GATEWAY, NODE_DIR, NODES, PODS, SERVICES, Scene};
use crate::subject::{FIRST, Phase, Shape, Subject, Up, appears, keep_logs, place_prober, remove_probers};
use crate::tools::image;

/// What runs in the node beside kubeadm: what systemd would do on a machine.
const INIT: &str = include_str!("kubeadm/init.sh");
const CONFIG: &str = include_str!("kubeadm/kubeadm.yaml");
const JOIN: &str = include_str!("kubeadm/join.yaml");
const CONFLIST: &str = include_str!("kubeadm/10-ptp.conflist");
/// One CoreDNS, as kayak has on one node; on more, both have two.
const ONE_COREDNS: &str = r#"{ "spec": { "replicas": 1 } }"#;
/// What kubeadm calls its images.
const REPOSITORY: &str = "kayak.local/kubeadm";

/// kubeadm, built from the same version of Kubernetes.
#[derive(Debug)]
pub struct Kubeadm {
    /// The program.
    pub program: Utf8PathBuf,
    /// The images that both run.
    pub bundle: Arc<Bundle>,
    /// The runtime's configuration, as kayak writes it.
    pub containerd: String,
    /// The cluster's name.
    pub name: &'static str,
    /// How many nodes it makes, of which one is a controller.
    pub shape: Shape,
}

/// One of its nodes.
struct Node {
    id: NodeId,
    address: Ipv4Addr,
    /// The range of its pods, as the controller manager gives them to nodes in the order they come.
    pods: Ipv4Net,
}

impl Kubeadm {
    fn driver(scene: &Scene) -> Local {
        let paths =
            Paths { state: scene.state.clone(), run: "/run/kayak".into(), cache: scene.cache.clone() };
        Local::new(paths, scene.kayak.clone())
    }

    fn image(&self, name: &str) -> Result<&str, BenchError> {
        image(&self.bundle, name)
    }

    fn version(&self) -> Result<&str, BenchError> {
        Ok(self.image("kubernetes")?.rsplit(':').next().unwrap_or_default())
    }

    fn nodes(&self) -> Vec<Node> {
        let names = self.shape.nodes().into_iter();
        let numbered = names.zip((u32::from(ADDRESS)..).zip((u32::from(PODS.network())..).step_by(256)));
        numbered
            .map(|(name, (address, pods))| Node {
                id: NodeId::new(self.name, &name),
                address: address.into(),
                pods: Ipv4Net::new_assert(pods.into(), 24),
            })
            .collect()
    }

    /// Makes the network of the nodes.
    async fn prepare(&self, driver: &Local) -> Result<(), BenchError> {
        driver
            .prepare(&ClusterSpec {
                name: self.name.into(),
                image: self.image("node")?.to_owned(),
                network: ClusterNetwork::Bridge {
                    range: NODES.into(),
                    gateway: GATEWAY.into(),
                    second: None,
                },
                pod_ranges: vec![PODS.into()],
                service_ranges: vec![SERVICES.into()],
                api_address: None,
                egress: false,
            })
            .await?;
        Ok(())
    }

    /// Makes a node, with everything in place that a prepared machine would have.
    async fn start(&self, scene: &Scene, driver: &Local, node: &Node) -> Result<(), BenchError> {
        driver
            .create(&NodeSpec {
                id: node.id.clone(),
                image: self.image("node")?.to_owned(),
                network: NodeNetwork::Bridge {
                    address: Ipv4Net::new_assert(node.address, NODES.prefix_len()).into(),
                    gateway: GATEWAY.into(),
                    second: None,
                },
                memory_limit: None,
                mounts: Vec::new(),
                command: self.init(node),
            })
            .await?;
        let store = store::prepare(&self.bundle, &scene.cache).await.map_err(BenchError::Store)?;
        let var = scene.node_dir(self.name, &node.id.name, "var");
        let _same = store::clone_into(&store, &var).await.map_err(BenchError::Store)?;
        self.write_files(scene, node)?;
        driver.start(&node.id).await?;
        in_node(driver, &node.id, "until ctr version; do sleep 0.1; done").await?;
        self.name_images(driver, &node.id).await
    }

    /// The first process of a node: its address, its name, and the way to other nodes' pods, which is in place
    /// from the start as all of the pod network is.
    fn init(&self, node: &Node) -> Vec<String> {
        let mut command = ["bash", "-c", INIT, "init"].map(str::to_owned).to_vec();
        command.extend([node.address.to_string(), node.id.name.clone()]);
        for other in self.nodes().iter().filter(|other| other.address != node.address) {
            command.extend([other.pods.to_string(), other.address.to_string()]);
        }
        command
    }

    fn write_files(&self, scene: &Scene, node: &Node) -> Result<(), BenchError> {
        let version = self.version()?;
        let fill = |text: &str| {
            let values = [
                ("$ADDRESS", node.address.to_string()),
                ("$FIRST", ADDRESS.to_string()),
                ("$NODE", node.id.name.clone()),
                ("$CLUSTER", self.name.to_owned()),
                ("$PODS", PODS.to_string()),
                ("$SERVICES", SERVICES.to_string()),
                ("$REPOSITORY", REPOSITORY.to_owned()),
                ("$VERSION", version.to_owned()),
                ("$SUBNET", node.pods.to_string()),
            ];
            values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        let etc = scene.node_dir(self.name, &node.id.name, "etc-kubernetes");
        let own = scene.node_dir(self.name, &node.id.name, "var").join(NODE_DIR.trim_start_matches("/var/"));
        let coredns = if self.shape == Shape::ONE { ONE_COREDNS } else { "{}" };
        for (path, text) in [
            (etc.join("containerd/config.toml"), self.containerd.clone()),
            (etc.join("cni/net.d/10-ptp.conflist"), fill(CONFLIST)),
            (etc.join("patches/corednsdeployment.json"), coredns.to_owned()),
            (own.join("kubeadm.yaml"), fill(CONFIG)),
            (own.join("join.yaml"), fill(JOIN)),
        ] {
            let directory = path.parent().unwrap_or(&path);
            fs::create_dir_all(directory).map_err(BenchError::write(directory))?;
            fs::write(&path, text).map_err(BenchError::write(&path))?;
        }
        let manifests = etc.join("manifests");
        fs::create_dir_all(&manifests).map_err(BenchError::write(manifests))?;
        let program = own.join("kubeadm");
        fs::copy(&self.program, &program).map_err(BenchError::write(program))?;
        Ok(())
    }

    /// Gives the bundle's images the names that kubeadm looks for.
    async fn name_images(&self, driver: &Local, node: &NodeId) -> Result<(), BenchError> {
        let list = format!(
            "{NODE_DIR}/kubeadm config images list --image-repository={REPOSITORY} --kubernetes-version={}",
            self.version()?
        );
        let names = in_node(driver, node, &list).await?;
        let mut script = vec!["set -e".to_owned()];
        for name in names.lines() {
            let program = name.trim_start_matches(REPOSITORY).trim_start_matches('/');
            let program = program.split(':').next().unwrap_or_default();
            let ours = if program.starts_with("kube-") { "kubernetes" } else { program };
            script.push(format!("ctr -n k8s.io images tag {} {name}", self.image(ours)?));
        }
        in_node(driver, node, &script.join("\n")).await.map(drop)
    }
}

/// Runs a line of shell in the node, which must succeed.
async fn in_node(driver: &Local, node: &NodeId, line: &str) -> Result<String, BenchError> {
    let output = driver.output(node, &["bash", "-c", line].map(str::to_owned)).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.code == 0 {
        return Ok(text(&output.stdout));
    }
    let said = text(&output.stdout) + &text(&output.stderr);
    Err(BenchError::Failed { line: line.to_owned(), code: output.code, said })
}

/// `init` on the first node, then `join` on the others at once.
async fn bring_up(driver: &Local, nodes: &[Node]) -> Result<Vec<Phase>, BenchError> {
    const LOG: &str = "--skip-phases=preflight > /var/log/kubeadm.log 2>&1";
    let (first, others) = nodes.split_at(1);
    let mut phases = Vec::new();
    for (phase, nodes, line) in [
        ("init", first, "--config={}/kubeadm.yaml --skip-token-print --skip-certificate-key-print"),
        ("join", others, "--config={}/join.yaml"),
    ] {
        let start = Instant::now();
        let line = format!("{NODE_DIR}/kubeadm {phase} {} {LOG}", line.replace("{}", NODE_DIR));
        try_join_all(nodes.iter().map(|node| in_node(driver, &node.id, &line))).await?;
        phases.push(Phase { name: phase.into(), seconds: start.elapsed().as_secs_f64(), last: None });
    }
    Ok(phases)
}

impl Subject for Kubeadm {
    fn name(&self) -> &'static str {
        self.name
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    async fn up(&self, scene: &Scene, logs: &Utf8Path) -> Result<Up, BenchError> {
        let (driver, nodes) = (Self::driver(scene), self.nodes());
        self.prepare(&driver).await?;
        try_join_all(nodes.iter().map(|node| self.start(scene, &driver, node))).await?;
        let prober = Prober { image: self.image("pause")?.to_owned() };
        let place = |node: &Node| place_prober(scene, self.name, &node.id.name, &prober);
        let answered: Vec<_> = nodes.iter().map(place).collect::<Result<_, _>>()?;

        let start = Instant::now();
        let tool = async { bring_up(&driver, &nodes).await.map(|phases| (phases, Instant::now())) };
        let answers =
            try_join_all(answered.iter().map(|file| appears(file, "an answer of cluster DNS", logs)));
        let ends = tokio::try_join!(tool, answers);
        keep_logs(scene, self, logs).await?;
        let ((mut phases, end), answers) = ends?;
        remove_probers(scene, self)?;
        let dns = answers.into_iter().max().unwrap_or(end);
        let seconds = dns.saturating_duration_since(end).as_secs_f64();
        phases.push(Phase { name: "until DNS answers".into(), seconds, last: None });
        Ok(Up::new(start, end, dns, phases))
    }

    fn kubeconfig(&self, scene: &Scene) -> Utf8PathBuf {
        scene.node_dir(self.name, FIRST, "etc-kubernetes").join("admin.conf")
    }

    async fn down(&self, scene: &Scene) -> Result<(), BenchError> {
        Ok(Self::driver(scene).teardown(self.name).await?)
    }
}

/// Builds kubeadm from its module into the cache; Go itself sees whether that was done before.
pub async fn build(scene: &Scene, module: &Utf8Path, version: &str) -> Result<Utf8PathBuf, BenchError> {
    let output = scene.cache.join("bench");
    fs::create_dir_all(&output).map_err(BenchError::write(&output))?;
    let stamp = "-X k8s.io/component-base/version.gitVersion=";
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-buildvcs=false"]);
    go.arg(format!("-ldflags=-s -w {stamp}{version}")).arg("-o").arg(format!("{output}/")).arg("tool");
    go.current_dir(module).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly").env("GOWORK", "off");
    command::run(&mut go).await?;
    Ok(output.join("kubeadm"))
}
