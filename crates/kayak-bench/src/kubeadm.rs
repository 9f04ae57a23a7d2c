//! kubeadm, the peer: in the same node image, made by the same driver, with the same programs.
//!
//! Where the two cannot be given the same, kubeadm is given the easier part: its clock starts when
//! its node runs, with containerd in it, and it need not check the machine first.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use ipnet::Ipv4Net;
use kayak_bundle::{Bundle, Image};
use kayak_engine::driver::local::{Local, Paths};
use kayak_engine::driver::{ClusterNetwork, ClusterSpec, Driver as _, NodeId, NodeNetwork, NodeSpec};
use kayak_engine::store;
use tokio::process::Command;

use crate::command;
use crate::dns::Prober;
use crate::error::BenchError;
use crate::scene::{ADDRESS, GATEWAY, NODE, NODE_DIR, NODES, PODS, SERVICES, Scene};
use crate::subject::{Subject, Up, appears, keep_logs, place_prober, remove_prober};

/// What runs in the node beside kubeadm: what systemd would do on a machine.
const INIT: &str = include_str!("kubeadm/init.sh");
const CONFIG: &str = include_str!("kubeadm/kubeadm.yaml");
const CONFLIST: &str = include_str!("kubeadm/10-ptp.conflist");
/// One CoreDNS, as kayak has on one node.
const ONE_COREDNS: &str = r#"{ "spec": { "replicas": 1 } }"#;
/// What kubeadm calls its images.
const REPOSITORY: &str = "kayak.local/kubeadm";

/// kubeadm, built from the same version of Kubernetes.
#[derive(Debug)]
pub struct Kubeadm {
    /// The program.
    pub program: Utf8PathBuf,
    /// The images that both run.
    pub bundle: Bundle,
    /// The runtime's configuration, as kayak writes it.
    pub containerd: String,
}

/// The cluster's name.
const NAME: &str = "bn-kubeadm";

impl Kubeadm {
    fn driver(scene: &Scene) -> Local {
        let paths =
            Paths { state: scene.state.clone(), run: "/run/kayak".into(), cache: scene.cache.clone() };
        Local::new(paths, scene.kayak.clone())
    }

    /// Returns the reference of one of the bundle's images.
    fn image(&self, name: &str) -> Result<&str, BenchError> {
        let prefix = format!("kayak.local/{name}:");
        let found = self.bundle.images().iter().map(Image::reference).rfind(|r| r.starts_with(&prefix));
        found.ok_or_else(|| BenchError::NoImage(name.to_owned()))
    }

    fn version(&self) -> Result<&str, BenchError> {
        Ok(self.image("kubernetes")?.rsplit(':').next().unwrap_or_default())
    }

    /// Makes the node, with everything in place that a prepared machine would have.
    async fn prepare(&self, scene: &Scene, driver: &Local, node: &NodeId) -> Result<(), BenchError> {
        let image = self.image("node")?.to_owned();
        driver
            .prepare(&ClusterSpec {
                name: NAME.into(),
                image: image.clone(),
                network: ClusterNetwork::Bridge { range: NODES.into(), gateway: GATEWAY.into() },
                pod_ranges: vec![PODS.into()],
                service_ranges: vec![SERVICES.into()],
                api_address: None,
                egress: false,
            })
            .await?;
        driver
            .create(&NodeSpec {
                id: node.clone(),
                image,
                network: NodeNetwork::Bridge {
                    address: Ipv4Net::new_assert(ADDRESS, NODES.prefix_len()).into(),
                    gateway: GATEWAY.into(),
                },
                memory_limit: None,
                mounts: Vec::new(),
                command: ["bash", "-c", INIT, "init", &ADDRESS.to_string(), NODE].map(str::to_owned).into(),
            })
            .await?;
        let store = store::prepare(&self.bundle, &scene.cache).await.map_err(BenchError::Store)?;
        let _same =
            store::clone_into(&store, &scene.node_dir(NAME, "var")).await.map_err(BenchError::Store)?;
        self.write_files(scene)?;
        driver.start(node).await?;
        Ok(())
    }

    fn write_files(&self, scene: &Scene) -> Result<(), BenchError> {
        let version = self.version()?;
        let fill = |text: &str| {
            let values = [
                ("$ADDRESS", ADDRESS.to_string()),
                ("$NODE", NODE.to_owned()),
                ("$PODS", PODS.to_string()),
                ("$SERVICES", SERVICES.to_string()),
                ("$REPOSITORY", REPOSITORY.to_owned()),
                ("$VERSION", version.to_owned()),
                // The node's own, as the controller manager would give it.
                ("$SUBNET", Ipv4Net::new_assert(PODS.network(), 24).to_string()),
            ];
            values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        let etc = scene.node_dir(NAME, "etc-kubernetes");
        let own = scene.node_dir(NAME, "var").join(NODE_DIR.trim_start_matches("/var/"));
        for (path, text) in [
            (etc.join("containerd/config.toml"), self.containerd.clone()),
            (etc.join("cni/net.d/10-ptp.conflist"), fill(CONFLIST)),
            (etc.join("patches/corednsdeployment.json"), ONE_COREDNS.to_owned()),
            (own.join("kubeadm.yaml"), fill(CONFIG)),
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

impl Subject for Kubeadm {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn up(&self, scene: &Scene, logs: &Utf8Path) -> Result<Up, BenchError> {
        let driver = Self::driver(scene);
        let node = NodeId::new(NAME, NODE);
        self.prepare(scene, &driver, &node).await?;
        in_node(&driver, &node, "until ctr version; do sleep 0.1; done").await?;
        self.name_images(&driver, &node).await?;
        let answered = place_prober(scene, NAME, &Prober { image: self.image("pause")?.to_owned() })?;

        let start = Instant::now();
        let tool = async {
            let init = format!(
                "{NODE_DIR}/kubeadm init --config={NODE_DIR}/kubeadm.yaml --skip-phases=preflight \
                 --skip-token-print --skip-certificate-key-print > /var/log/kubeadm.log 2>&1"
            );
            in_node(&driver, &node, &init).await.map(|_| Instant::now())
        };
        let ends = tokio::try_join!(tool, appears(&answered, "an answer of cluster DNS", logs));
        keep_logs(scene, NAME, logs).await?;
        let (end, dns) = ends?;
        remove_prober(scene, NAME)?;
        let phases = BTreeMap::from([
            ("init".to_owned(), end.duration_since(start).as_secs_f64()),
            ("until DNS answers".to_owned(), dns.saturating_duration_since(end).as_secs_f64()),
        ]);
        Ok(Up::new(start, end, dns, phases))
    }

    fn kubeconfig(&self, scene: &Scene) -> Utf8PathBuf {
        scene.node_dir(NAME, "etc-kubernetes").join("admin.conf")
    }

    async fn down(&self, scene: &Scene) -> Result<(), BenchError> {
        Ok(Self::driver(scene).teardown(NAME).await?)
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
