//! A place to make nodes in, and everything that could be left of them.

use camino::{Utf8Path, Utf8PathBuf};
use kayak_bundle::Bundle;
use kayak_engine::dirs::Dirs;
use kayak_engine::driver::local::{Local, Paths};
use kayak_engine::driver::{
    ClusterNetwork, ClusterSpec, Driver as _, NodeId, NodeNetwork, NodeSpec, NodeState,
};

/// A first process that ends when it is told to.
const INIT: &str = "trap 'exit 0' TERM; echo up; sleep infinity & wait";

/// A machine's worth of directories, apart from those of real clusters.
pub(crate) struct Machine {
    _scratch: tempfile::TempDir,
    pub(crate) paths: Paths,
    pub(crate) driver: Local,
    pub(crate) cluster: String,
    /// The third byte of the nodes' range.
    subnet: u8,
    image: String,
}

impl Machine {
    pub(crate) async fn new(cluster: &str, subnet: u8) -> Self {
        let cache = Dirs::from_env().cache;
        let bundle = Bundle::open(&cache.join("bundle")).expect("needs a built bundle");
        let mut images = bundle.images().iter().map(|image| image.reference().to_owned());
        let image = images.rfind(|image| image.contains("/node:")).unwrap();
        // Hard links need the cache's file system.
        let scratch = tempfile::tempdir_in(&cache).unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let paths = Paths { state: root.join("state"), run: root.join("run"), cache };
        let driver = Local::new(paths.clone(), "/bin/true".into());
        // What a failed test left.
        driver.teardown(cluster).await.unwrap();
        Self { _scratch: scratch, paths, driver, cluster: cluster.into(), subnet, image }
    }

    pub(crate) fn id(&self, name: &str) -> NodeId {
        NodeId::new(&self.cluster, name)
    }

    pub(crate) fn cluster(&self, egress: bool) -> ClusterSpec {
        let subnet = self.subnet;
        ClusterSpec {
            name: self.cluster.clone(),
            image: self.image.clone(),
            network: ClusterNetwork::Bridge {
                range: format!("10.253.{subnet}.0/24").parse().unwrap(),
                gateway: format!("10.253.{subnet}.1").parse().unwrap(),
                second: None,
            },
            pod_ranges: vec![format!("10.254.{subnet}.0/25").parse().unwrap()],
            service_ranges: vec![format!("10.254.{subnet}.128/25").parse().unwrap()],
            api_address: None,
            egress,
        }
    }

    pub(crate) fn node(&self, name: &str, last: u8) -> NodeSpec {
        NodeSpec {
            id: self.id(name),
            image: self.image.clone(),
            network: NodeNetwork::Bridge {
                address: format!("10.253.{}.{last}/24", self.subnet).parse().unwrap(),
                gateway: format!("10.253.{}.1", self.subnet).parse().unwrap(),
                second: None,
            },
            memory_limit: Some(512 << 20),
            mounts: Vec::new(),
            command: ["bash", "-c", INIT].map(str::to_owned).into(),
        }
    }

    pub(crate) async fn up(&self, name: &str, last: u8) {
        self.driver.create(&self.node(name, last)).await.unwrap();
        self.driver.start(&self.id(name)).await.unwrap();
    }

    pub(crate) async fn sh(&self, name: &str, script: &str) -> (i32, String) {
        let command = ["bash", "-c", script].map(str::to_owned);
        let output = self.driver.output(&self.id(name), &command).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.code, text.trim().to_owned())
    }

    pub(crate) async fn pid(&self, name: &str) -> u32 {
        match self.driver.state(&self.id(name)).await.unwrap() {
            NodeState::Running { pid } => pid.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Everything that could be left of the cluster, wherever the machine shows it.
    pub(crate) fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        traces.extend(mounts.lines().filter(|line| line.contains(&self.cluster)).map(str::to_owned));
        for link in std::fs::read_dir("/sys/class/net").unwrap() {
            let link = link.unwrap().path();
            let is_ours = |path: &std::path::Path| path.to_string_lossy().contains(&self.cluster);
            if is_ours(&link) || std::fs::read_link(link.join("master")).is_ok_and(|master| is_ours(&master))
            {
                traces.push(format!("link {}", link.display()));
            }
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
            let group = hierarchy.unwrap().path().join("kayak").join(&self.cluster);
            traces.extend(group.exists().then(|| group.display().to_string()));
        }
        let routes = std::fs::read_to_string("/proc/net/route").unwrap();
        let range = format!("{:02X}FE0A", self.subnet);
        traces.extend(routes.lines().filter(|line| line.contains(&range)).map(str::to_owned));
        traces.extend(
            self.tables()
                .lines()
                .filter(|line| line.ends_with(&format!("kayak-{}", self.cluster)))
                .map(str::to_owned),
        );
        let directories = [self.paths.state.join(&self.cluster), self.paths.run.join(&self.cluster)];
        traces.extend(directories.iter().filter(|path| path.exists()).map(ToString::to_string));
        traces
    }

    pub(crate) fn tables(&self) -> String {
        let root = self.root();
        let output =
            std::process::Command::new("chroot").args([root.as_str(), "nft", "list", "tables"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// The unpacked node image.
    pub(crate) fn root(&self) -> Utf8PathBuf {
        let bundle = Bundle::open(&self.paths.cache.join("bundle")).unwrap();
        self.paths.cache.join("rootfs").join(bundle.image(&self.image).unwrap().digest().hex())
    }

    pub(crate) async fn end(self) {
        self.driver.teardown(&self.cluster).await.unwrap();
        assert_eq!(self.traces(), Vec::<String>::new());
        self.driver.teardown(&self.cluster).await.unwrap();
    }
}

/// A network beyond the machine.
pub(crate) struct Outside {
    root: Utf8PathBuf,
    process: std::process::Child,
}

impl Outside {
    pub(crate) fn new(root: &Utf8Path) -> Self {
        let mut process = std::process::Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep 600"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read(process.stdout.as_mut().unwrap(), &mut [0; 8]).unwrap();
        let this = Self { root: root.to_owned(), process };
        let pid = this.process.id().to_string();
        let here = |words: &str| {
            let status =
                std::process::Command::new("chroot").arg(root).arg("ip").args(words.split(' ')).status();
            assert!(status.unwrap().success(), "{words}");
        };
        here(&format!("link add name drv-outside type veth peer name eth0 netns {pid}"));
        here("address add 10.253.84.1/24 dev drv-outside");
        here("link set dev drv-outside up");
        this.run("ip", &["address", "add", "10.253.84.2/24", "dev", "eth0"]);
        this.run("ip", &["link", "set", "dev", "eth0", "up"]);
        this
    }

    pub(crate) fn run(&self, program: &str, words: &[&str]) -> i32 {
        let mut command = std::process::Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.process.id()));
        command.arg("chroot").arg(&self.root).arg(program).args(words);
        command.status().unwrap().code().unwrap()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
